# shellcheck shell=bash
# A MongoDB-compatible server for tests (SecantusDB). It needs neither root nor
# the cluster, so that its process is recorded beside its data and not in RUN.

DATABASE=$STATE/database
DATABASE_PORT=${FOCUS_DATABASE_PORT:-27117}
DATABASE_URL="mongodb://127.0.0.1:$DATABASE_PORT/?directConnection=true"
# With a folder of tls.crt, tls.key and ca.crt it speaks TLS only.
DATABASE_TLS=${FOCUS_DATABASE_TLS:-}
if [ -n "$DATABASE_TLS" ]; then DATABASE_URL+="&tls=true&tlsCAFile=$DATABASE_TLS/ca.crt"; fi
# shellcheck disable=SC2034 # process.sh uses it
PIDS=$DATABASE/pids

start_database() {
    mkdir -p "$DATABASE/data"
    # Named, or it would read one that it finds elsewhere.
    : >"$DATABASE/secantusd.toml"
    local tls=()
    if [ -n "$DATABASE_TLS" ]; then tls=(--tls-cert-file "$DATABASE_TLS/tls.crt" --tls-key-file "$DATABASE_TLS/tls.key"); fi
    start_part database "$PYTHON_TOOLS/secantusd-py" --config "$DATABASE/secantusd.toml" --host 127.0.0.1 --port "$DATABASE_PORT" \
        --storage-path "$DATABASE/data" --log-level WARNING "${tls[@]}"
}

# database_healthy: a ping is answered.
database_healthy() {
    "$PYTHON_TOOLS/python" - "$DATABASE_URL" <<'PYTHON'
import sys, pymongo
pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=500).admin.command("ping")
PYTHON
}
