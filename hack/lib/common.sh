# shellcheck shell=bash disable=SC2034
# Paths, messages and waiting, for every script of this folder.

HACK=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
ROOT=$(dirname "$HACK")
# STATE holds one checkout's cluster: data, logs, credentials.
STATE=$(realpath -m "${FOCUS_CLUSTER_DIR:-$ROOT/.cluster}")
# RUN holds what must be found without knowing the checkout: which cluster is
# the machine's one, its process ids, its sockets (their paths must be short).
RUN=/run/focus-cluster
CACHE=${FOCUS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/focus-operator}
LOGS=$STATE/logs
BIN=$STATE/bin
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
me=$(basename "$0")

say() { printf '%s: %s\n' "$me" "$*"; }

fail() {
    printf '%s: %s\n' "$me" "$*" >&2
    exit 1
}

# No script ends without a word: a command that nobody expected to fail is named.
set -E
trap 'printf "%s: \"%s\" failed (%s:%s)\n" "$me" "$BASH_COMMAND" "${BASH_SOURCE[0]##*/}" "$LINENO" >&2' ERR

# need_root runs the calling script again as root when it is not.
need_root() {
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "a cluster needs root: run $me as root, or install sudo"
        exec sudo env "PATH=$PATH" "HOME=$HOME" "FOCUS_CLUSTER_DIR=$STATE" "FOCUS_CACHE=$CACHE" "$HACK/$me" "$@"
    fi
}

# give_to_caller hands a root-owned file to the user who called sudo.
give_to_caller() {
    if [ -n "${SUDO_UID:-}" ]; then chown "$SUDO_UID:${SUDO_GID:-0}" "$@"; fi
}

# take_lock lets only one script at a time change this machine's cluster. The
# lock is on the folder above RUN, which needs no file that would stay behind.
take_lock() {
    exec {lock}<"$(dirname "$RUN")"
    flock -w 180 "$lock" || fail "another start or stop of the cluster has been at work for 3 minutes: wait for it, or end it"
}

# now_ms prints the milliseconds since the epoch.
now_ms() { printf '%s' "$((${EPOCHREALTIME/./} / 1000))"; }

# try_for SECONDS COMMAND… repeats the command, silently, until it succeeds.
try_for() {
    local end=$(($(now_ms) + $1 * 1000))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(now_ms)" -lt "$end" ] || return 1
        sleep 0.1
    done
}

boot_id() { cat /proc/sys/kernel/random/boot_id; }
