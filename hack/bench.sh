#!/usr/bin/env bash
# Measures a running system: called by `make bench`.
#
# It needs an operator (metrics at OPERATOR_METRICS), a Focus Server (SERVER, whose
# jobs are in NAMESPACE), a cluster (KUBECONFIG) and a broker
# (FOCUS_BROKER_URL_FILE). FOCUS is the program.
#
#   1. 20 jobs one after the other through the Focus Server, with the floors
#   2. 200 jobs at 10 per second, fake kubelet and fake consumer
#   3. 1,000 jobs at once, likewise; then a minute in which the operator must be quiet
#
# The tables go to the terminal, the numbers with every sample to OUT. It exits 1
# when one of the three failed, after all have run.
set -euo pipefail
root=$(dirname "$(dirname "$(readlink -f "$0")")")

focus=${FOCUS:-$root/target/release/focus}
server=${SERVER:-http://127.0.0.1:8080}
metrics=${OPERATOR_METRICS:-http://127.0.0.1:8081/metrics}
namespace=${NAMESPACE:-focus-demo}
quiet=${QUIET:-60s}
out=${OUT:-$root/.cluster/bench}
export KUBECONFIG=${KUBECONFIG:-$root/.cluster/kubeconfig}
export FOCUS_BROKER_URL_FILE=${FOCUS_BROKER_URL_FILE:-$root/.cluster/broker-url}

fail() {
    printf 'bench: %s\n' "$*" >&2
    exit 1
}

[ -x "$focus" ] || fail "$focus is not there: build it with 'cargo build --release', or name it with FOCUS"
[ -r "$KUBECONFIG" ] || fail "$KUBECONFIG is not there: start a cluster, or name one with KUBECONFIG"
[ -n "${FOCUS_BROKER_URL:-}" ] || [ -r "$FOCUS_BROKER_URL_FILE" ] ||
    fail "$FOCUS_BROKER_URL_FILE is not there: name the broker's URL file with FOCUS_BROKER_URL_FILE"
mkdir -p "$out"

failed=()

# measure NAME ARGUMENT… runs the probe once; table and JSON are of the same run.
measure() {
    local name=$1 status=0
    shift
    printf '\n== %s\n' "$name"
    "$focus" probe --json-file "$out/$name.json" "$@" || status=$?
    [ "$status" -eq 0 ] || failed+=("$name")
    # A signal ends the whole series; the probe has then cleaned up after itself.
    if [ "$interrupted" -eq 1 ]; then exit 130; fi
}

interrupted=0
trap 'interrupted=1' INT TERM

measure server-20 --server "$server" --jobs 20 --wait --namespace "$namespace"
measure load-200-at-10 --load --jobs 200 --rate 10 --quiet 0s --operator-metrics "$metrics"
measure load-1000-at-once --load --jobs 1000 --quiet "$quiet" --operator-metrics "$metrics"

printf '\nnumbers with every sample: %s\n' "$out"
[ "${#failed[@]}" -eq 0 ] || fail "failed: ${failed[*]}"
