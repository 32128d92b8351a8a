# shellcheck shell=bash
# Starting, finding and stopping the cluster's processes.
#
# A part is one program with a process id file, a log, and its own session, so
# that it survives the shell that started it. A process id alone proves nothing
# (ids are reused): the process's start time is recorded beside it.

PIDS=$RUN/pids

# start_time PID prints when the process started, in ticks since the boot.
start_time() {
    local line fields
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    read -ra fields <<<"${line##*) }"
    printf '%s' "${fields[19]}"
}

part_pid() { cat "$PIDS/$1.pid" 2>/dev/null; }

# part_alive NAME: the process that we started under this name still runs.
part_alive() {
    local pid
    pid=$(part_pid "$1") && [ -n "$pid" ] && is_part "$1" "$pid" &&
        ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null
}

# is_part NAME PID: the process, or the zombie that it has become, is the part's.
is_part() { [ "$(start_time "$2")" = "$(cat "$PIDS/$1.start" 2>/dev/null)" ]; }

# part_group NAME prints the part's process group while any of it is left, also
# when its leader died: while members live, the kernel gives the id to no other.
part_group() {
    local pid
    pid=$(part_pid "$1") && [ -n "$pid" ] || return 1
    if [ -e "/proc/$pid" ] && ! is_part "$1" "$pid"; then return 1; fi
    if group_gone "$pid"; then return 1; fi
    printf '%s' "$pid"
}

# group_gone PID: nothing of the process group runs. Zombies do not count: they
# hold nothing, and some machines' first process collects them late or never.
group_gone() { ! pgrep --pgroup "$1" --runstates R,S,D,T,t >/dev/null; }

# start_part NAME COMMAND… starts a part, detached from the caller.
start_part() {
    local name=$1 pid
    shift
    mkdir -p "$PIDS" "$LOGS"
    if [ -e "$LOGS/$name.log" ]; then mv "$LOGS/$name.log" "$LOGS/$name.log.1"; fi
    (
        close_inherited
        exec setsid nohup "$@" </dev/null >"$LOGS/$name.log" 2>&1
    ) &
    pid=$!
    disown
    start_time "$pid" >"$PIDS/$name.start" || true
    echo "$pid" >"$PIDS/$name.pid"
}

# close_inherited closes what the caller had open: a lock or a pipe held by a
# part would keep others waiting for as long as the cluster lives.
close_inherited() {
    local path number
    for path in /proc/"$BASHPID"/fd/*; do
        number=${path##*/}
        if [ "$number" -gt 2 ] 2>/dev/null; then eval "exec $number>&-" 2>/dev/null || true; fi
    done
}

# ensure_part NAME START starts the part by the function START unless it runs.
ensure_part() {
    if part_alive "$1"; then return; fi
    stop_part "$1" 2
    "$2"
    started+=("$1")
}

# stop_part NAME [SECONDS] ends the part: politely, then by force.
stop_part() {
    local group
    if group=$(part_group "$1"); then
        kill -TERM -- "-$group" 2>/dev/null || true
        if ! try_for "${2:-5}" group_gone "$group"; then
            kill -KILL -- "-$group" 2>/dev/null || true
            try_for 5 group_gone "$group" || say "$1 (process group $group) does not end"
        fi
    fi
    rm -f "$PIDS/$1.pid" "$PIDS/$1.start"
}

# wait_part NAME SECONDS CHECK… waits until the check of the part succeeds, and
# gives up at once when its process has ended.
wait_part() {
    local name=$1 seconds=$2 end
    shift 2
    end=$(($(now_ms) + seconds * 1000))
    until "$@" >/dev/null 2>&1; do
        if ! part_alive "$name"; then part_failed "$name" "$name has ended"; fi
        if [ "$(now_ms)" -ge "$end" ]; then part_failed "$name" "$name was not ready after $seconds s"; fi
        sleep 0.1
    done
}

part_failed() {
    printf -- '--- last lines of %s\n' "$LOGS/$1.log" >&2
    tail -n 20 "$LOGS/$1.log" >&2 || true
    fail "$2: the reason is most likely in the lines above; hack/cluster-down and a new start give a clean one"
}
