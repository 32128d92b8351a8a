#!/usr/bin/env bash
# Measures the system: hack/bench.sh [WHAT…]; `make bench` runs all but configure-system and memory.
#
#   demo               the running demo (2 min): 20 jobs one after the other through the Focus Server, with the floors;
#                      200 jobs at 10 per second and 1,000 at once with a fake kubelet and a fake consumer, then a
#                      minute in which the operator must be quiet
#   configure          configure requests at 50/s, Kubernetes store: the server without an operator (1 min)
#   configure-replicas the same with two replicas that know each other, as the chart installs them (1 min)
#   configure-mongodb  the same as configure with MongoDB as the store (1 min)
#   configure-system   the same, Kubernetes store, with the operator: pods, queues and consumers too (1 min or more)
#   metadata           consumer.created -> metadata 200, 10 jobs/s (1 min)
#   streams            30 jobs x 50 channels x 100 lines/s through a server on one core (1 min)
#   readers            1,000 gRPC readers of one job, the server on one core (1 min)
#   memory             streams for 10 minutes: is the server's memory flat? (11 min)
#
# docs/benchmarks.md tells what each measures and how to read it. What is written after -- goes to the benchmark, such
# as: hack/bench.sh streams -- --duration 60s
#
# All need a cluster (KUBECONFIG) and a broker (FOCUS_BROKER_URL_FILE), of which this checkout's are the default; `make
# cluster` starts them. `demo` needs the demo as well: an operator (metrics at OPERATOR_METRICS) and a Focus Server
# (SERVER, whose jobs are in NAMESPACE). All others start a server of their own, in a namespace and on ports of their
# own, on core SERVER_CPU where one core is said; an operator too, unless one is at OPERATOR_METRICS. FOCUS is the
# program. Nothing stays behind, also after a failure or Ctrl-C.
#
# The tables go to the terminal, the numbers to OUT. It exits 1 when one failed, or a figure is above what is wanted of
# it (max_* below), after all have run.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")/lib
# shellcheck source=hack/lib/common.sh
. "$here/common.sh"
# shellcheck source=hack/lib/process.sh
. "$here/process.sh"
# shellcheck source=hack/lib/bench.sh
. "$here/bench.sh"

focus=${FOCUS:-$ROOT/target/release/focus}
server=${SERVER:-http://127.0.0.1:8080}
operator_metrics=${OPERATOR_METRICS:-http://127.0.0.1:8081/metrics}
namespace=${NAMESPACE:-focus-demo}
quiet=${QUIET:-60s}
out=${OUT:-$STATE/bench}
server_cpu=${SERVER_CPU:-0}
# What is wanted: the 99th percentiles of configure's answers, and from consumer.created to metadata 200.
max_configure=20ms
max_configure_mongodb=30ms
max_metadata=20ms
export KUBECONFIG=${KUBECONFIG:-$STATE/kubeconfig}
export FOCUS_BROKER_URL_FILE=${FOCUS_BROKER_URL_FILE:-$STATE/broker-url}

what=()
more=()
while [ $# -gt 0 ]; do
    case "$1" in
        --) shift; more=("$@"); break ;;
        demo | configure | configure-replicas | configure-mongodb | configure-system | metadata | streams | readers | memory) what+=("$1"); shift ;;
        *) fail "$1 is none of: demo, configure, configure-replicas, configure-mongodb, configure-system, metadata, streams, readers, memory" ;;
    esac
done
[ "${#what[@]}" -gt 0 ] || what=(demo configure configure-replicas configure-mongodb metadata streams readers)

[ -x "$focus" ] || fail "$focus is not there: build it with 'cargo build --release', or name it with FOCUS"
[ -r "$KUBECONFIG" ] || fail "$KUBECONFIG is not there: start a cluster with 'make cluster', or name one with KUBECONFIG"
[ -n "${FOCUS_BROKER_URL:-}" ] || [ -r "$FOCUS_BROKER_URL_FILE" ] ||
    fail "$FOCUS_BROKER_URL_FILE is not there: name the broker's URL file with FOCUS_BROKER_URL_FILE"
mkdir -p "$out"

failed=()
interrupted=0
trap 'interrupted=1' INT TERM

# measure NAME ROLE ARGUMENT… runs a measurement once; table and JSON are of the same run.
measure() {
    local name=$1 role=$2 status=0
    shift 2
    printf '\n== %s\n' "$name"
    "$focus" "$role" "$@" --json-file "$out/$name.json" || status=$?
    [ "$status" -eq 0 ] || failed+=("$name")
    # A signal ends the whole series; the measurement has then cleaned up after itself.
    if [ "$interrupted" -eq 1 ]; then exit 130; fi
}

demo() {
    measure server-20 probe --server "$server" --jobs 20 --wait --namespace "$namespace"
    measure load-200-at-10 probe --load --jobs 200 --rate 10 --quiet 0s --operator-metrics "$operator_metrics"
    measure load-1000-at-once probe --load --jobs 1000 --quiet "$quiet" --operator-metrics "$operator_metrics"
}

# of_own NAME COMMAND ARGUMENT… runs a benchmark of the server that start_own has started.
of_own() {
    local name=$1 command=$2
    shift 2
    measure "$name" bench "$command" --server "$own_server" --namespace "$own_namespace" "$@" "${more[@]}"
    stop_part server 10
    stop_part other 10
}

for one in "${what[@]}"; do
    if [ "$interrupted" -eq 1 ]; then exit 130; fi
    case "$one" in
        demo) demo ;;
        configure)
            stop_operator
            start_own free
            of_own configure configure --no-operator --max-p99 "$max_configure"
            ;;
        configure-replicas)
            stop_operator
            start_pair
            of_own configure-replicas configure --no-operator --max-p99 "$max_configure"
            ;;
        configure-mongodb)
            stop_operator
            start_database_of_own
            start_own free --mongodb-uri "$own_database"
            FOCUS_MONGODB_URI=$own_database of_own configure-mongodb configure --no-operator --max-p99 "$max_configure_mongodb"
            ;;
        configure-system)
            start_operator
            start_own free
            of_own configure-system configure
            ;;
        metadata)
            start_operator
            start_own free
            of_own metadata configure --metadata --rate 10 --duration 20s --max-metadata-p99 "$max_metadata"
            ;;
        streams)
            start_operator
            start_own pinned
            of_own streams streams --grpc "$own_grpc"
            ;;
        readers)
            start_operator
            start_own pinned
            of_own readers streams --grpc "$own_grpc" --jobs 1 --readers 1000 --lines-per-second 10
            ;;
        memory)
            start_operator
            start_own pinned
            of_own memory streams --grpc "$own_grpc" --duration 10m --sample 5s
            ;;
    esac
done

printf '\nnumbers of each run: %s\n' "$out"
[ "${#failed[@]}" -eq 0 ] || fail "failed: ${failed[*]}"
