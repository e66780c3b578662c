# SPDX-License-Identifier: Apache-2.0
#
# try.sh: what the shell tests share: a scratch folder, commands with an expected status and
# output, daemons. Sourced; wants $coordinator and $worker; all it started ends with it.
scratch=$(mktemp -d)
passed=0 failed=0
pids=()

# A moment, for what others do. Nothing is started for it: bash has hung in reaping the
# thousands of process substitutions that did this.
mkfifo "$scratch/never" && exec {never}<>"$scratch/never"
tick() { read -rt "${1:-0.02}" -u "$never" || true; } # SECONDS

# The number of one that has ended may be another program's by now.
is_ours() { # PID
    local stat
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
    set -- ${stat##*) }
    [ "$2" = "$$" ]
}

cleanup() {
    local pid
    for pid in "${pids[@]}"; do # who is stopped would never end
        is_ours "$pid" && kill "$pid" 2>/dev/null && kill -CONT "$pid" 2>/dev/null
    done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null; done
    rm -rf "$scratch"
}
trap cleanup EXIT

# try NAME WANTED-STATUS WANTED-OUTPUT COMMAND...: stdout must equal, '*' is any.
try() {
    local name=$1 status=$2 wanted=$3 got code
    shift 3
    got=$(timeout 60 "$@" 2>"$scratch/stderr" </dev/null)
    code=$?
    if [ "$code" -ne "$status" ] || { [ "$wanted" != '*' ] && [ "$got" != "$wanted" ]; }; then
        failed=$((failed + 1))
        printf 'FAILED %s: status %s (wanted %s)\n--- stdout\n%s\n--- wanted\n%s\n--- stderr\n%s\n' \
            "$name" "$code" "$status" "$got" "$wanted" "$(cat "$scratch/stderr")"
    else
        passed=$((passed + 1))
    fi
}

said() { # NAME PATTERN: the last command's standard error
    if grep -qE -- "$2" "$scratch/stderr"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s: stderr lacks %s:\n%s\n' "$1" "$2" "$(cat "$scratch/stderr")"
    fi
}

# Starts one, and sets FARPOOL_COORDINATOR to its address.
start_coordinator() {
    : >"$scratch/coordinator.log" # or the last one's address is found in it
    "$coordinator" --listen 'tcp://127.0.0.1:*' 2>"$scratch/coordinator.log" &
    pids+=($!)
    FARPOOL_COORDINATOR=$(wait_for "$scratch/coordinator.log" 'address=([^ ]+)') || exit 1
    export FARPOOL_COORDINATOR
}

start_worker() { # OPTIONS...
    "$worker" --scratch "$scratch/worker-scratch" "$@" 2>>"$scratch/worker.log" &
    pids+=($!)
}

# Ends the test with its result.
finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
}

# Waits until a file has a line that matches; prints the match's first group.
wait_for() { # FILE SED-PATTERN
    local found i
    for ((i = 0; i < 500; i++)); do
        found=$(sed -nE "s/.*$2.*/\\1/p" "$1" 2>/dev/null | head -n 1)
        [ -n "$found" ] && { printf '%s\n' "$found"; return 0; }
        tick
    done
    echo "no '$2' in $1" >&2
    return 1
}
