# shellcheck shell=bash
# An operator, a server and a database of a benchmark's own, and their end. For hack/bench.sh.

own_namespace=focus-bench-$$
work=$(mktemp -d "${TMPDIR:-/tmp}/focus-bench.XXXXXX")
# shellcheck disable=SC2034 # process.sh uses them
PIDS=$work/pids LOGS=$work
made_crds=no
made_namespace=no
trap leave EXIT

# leave takes away all that was made, in whatever state it is.
leave() {
    local status=$?
    trap '' INT TERM
    set +e
    stop_part server 10
    stop_part other 10
    if [ "$made_namespace" = yes ]; then
        take_jobs_away
        stop_part operator 10
        kubectl delete namespace "$own_namespace" --ignore-not-found --timeout=60s >/dev/null ||
            say "namespace $own_namespace is still there"
    fi
    if [ "$made_crds" = yes ]; then kubectl delete -f "$ROOT/crds" --ignore-not-found --timeout=60s >/dev/null; fi
    if [ -d "$work/database" ]; then database clean >/dev/null; fi
    if [ "$status" -ne 0 ]; then
        grep -h -E '"level":"(WARN|ERROR)"' "$work"/{server,other,operator}.log 2>/dev/null | tail -n 20 >&2
    fi
    rm -rf "$work"
    exit "$status"
}

# take_jobs_away waits for the operator to do it; without one, nobody else would.
take_jobs_away() {
    local job
    if { part_alive operator || other_operator; } && kubectl -n "$own_namespace" delete focusjobs --all --timeout=60s >/dev/null; then return; fi
    kubectl -n "$own_namespace" delete focusjobs --all --wait=false >/dev/null
    for job in $(kubectl -n "$own_namespace" get focusjobs -o name); do
        kubectl -n "$own_namespace" patch "$job" --type=merge -p '{"metadata":{"finalizers":null}}' >/dev/null
    done
}

# free_port prints a port on which nobody listens.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 10000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            printf '%s' "$port"
            return
        fi
    done
    fail "no free port was found from 20000 to 29999"
}

# start_own free|pinned ARGUMENT… starts a server, on one core when pinned, and what it needs; sets own_*.
start_own() {
    local where=$1 command=()
    shift
    prepare_namespace
    if [ "$where" = pinned ]; then command=(taskset -c "$server_cpu"); fi
    start_server server "${command[@]}" -- "$@"
}

# start_pair starts two replicas that know each other: the one that is measured, which sets own_*, and another.
start_pair() {
    prepare_namespace
    start_server other -- --replica other --peer-listen "127.0.0.1:$(free_port)" --peer-host 127.0.0.1
    start_server server -- --replica measured --peer-listen "127.0.0.1:$(free_port)" --peer-host 127.0.0.1
}

# start_server PART [COMMAND…] -- ARGUMENT… starts a server by COMMAND and waits until it is ready; sets own_*.
start_server() {
    local part=$1 http grpc command=()
    shift
    while [ "$1" != -- ]; do
        command+=("$1")
        shift
    done
    shift
    http=$(free_port)
    grpc=$(free_port)
    own_server=http://127.0.0.1:$http
    # shellcheck disable=SC2034 # bench.sh uses it
    own_grpc=http://127.0.0.1:$grpc
    # A thousand windows: the benchmark asks for more jobs than a server has by default.
    start_part "$part" "${command[@]}" "$focus" server --namespace "$own_namespace" --listen "127.0.0.1:$http" \
        --grpc-listen "127.0.0.1:$grpc" --stream-port "$grpc" --windows 1000 "$@"
    wait_part "$part" 30 curl -fsS -o /dev/null "$own_server/readyz"
}

prepare_namespace() {
    if [ "$made_namespace" = yes ]; then return; fi
    if ! kubectl get crd focusjobs.focus-operator.io >/dev/null 2>&1; then
        made_crds=yes
        kubectl apply -f "$ROOT/crds" >/dev/null
        kubectl wait --for=condition=Established --timeout=30s -f "$ROOT/crds" >/dev/null
    fi
    made_namespace=yes
    kubectl create namespace "$own_namespace" >/dev/null
}

# One operator is enough: that of the demo serves all namespaces, and two would meet at the same jobs.
start_operator() {
    if part_alive operator || other_operator; then return; fi
    local port
    prepare_namespace
    port=$(free_port)
    start_part operator "$focus" operator --namespace "$own_namespace" --admin-addr "127.0.0.1:$port"
    wait_part operator 30 curl -fsS -o /dev/null "http://127.0.0.1:$port/readyz"
}

other_operator() { curl -fsS -o /dev/null "$operator_metrics" 2>/dev/null; }

# stop_operator ends ours; another's work is in the numbers.
stop_operator() {
    stop_part operator 10
    if other_operator; then say "the operator at $operator_metrics works too: end the demo to measure the server alone"; fi
}

# database ARGUMENT is hack/database for one in a folder and on a port of its own.
database() { FOCUS_CLUSTER_DIR=$work FOCUS_DATABASE_PORT=$database_port "$HACK/database" "$1"; }

start_database_of_own() {
    if [ -n "${own_database:-}" ]; then return; fi
    database_port=$(free_port)
    database start
    own_database=$(database url)
}
