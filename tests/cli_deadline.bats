# What a job says and does when a rank does not come: comm_wait on 3 ranks.
setup() {
    prog="$top_builddir/tests/comm_wait"
}

wait_test() { # MODE DEADLINE
    run timeout 50 sh "$top_srcdir/tests/mpirun.sh" 3 "$prog" "$1" "$2"
    echo "$output"
}

lines_with() {
    grep -c -- "$1" <<<"$output" || true
}

@test "barrier: one line at half, one at the end, journals, exit 75" {
    wait_test barrier 2
    [ "$status" -eq 75 ]
    [ "$(lines_with 'in barrier (start of assembly) for ranks that have not arrived: 1 ([^)]*); the deadline is 2 s')" -eq 1 ]
    [ "$(lines_with 'error: waited 2.. s in barrier (start of assembly) for ranks that have not arrived: 1 ([^)]*); ')" -eq 1 ]
    [ "$(lines_with 'rank 0: journal written')" -eq 1 ]
    [ "$(lines_with 'rank 2: journal written')" -eq 1 ]
    [ "$(lines_with 'rank 1: journal written')" -eq 0 ]
}

@test "exchange over MPI: step, layer and rank are named" {
    wait_test exchange-flat 2
    [ "$status" -eq 75 ]
    [ "$(lines_with 'in step, step 12, layer 3 for ranks that have not arrived: 1 ([^)]*); the deadline is 2 s')" -eq 1 ]
}

@test "exchange through shared memory: the same" {
    wait_test exchange-hier 2
    [ "$status" -eq 75 ]
    [ "$(lines_with 'in step, step 12, layer 3 for ranks that have not arrived: 1 ([^)]*); the deadline is 2 s')" -eq 1 ]
}

@test "a call without a nonblocking form: the watchdog ends it" {
    wait_test call 2
    [ "$status" -eq 75 ]
    [ "$(lines_with 'closing the results file has taken 1 s, half of the deadline')" -eq 1 ]
    [ "$(lines_with 'error: closing the results file did not return within 2 s')" -eq 1 ]
    [ "$(lines_with 'rank 1: journal written')" -eq 1 ]
}

@test "a suspended job does not run out of time" {
    wait_test suspended 4
    [ "$status" -eq 0 ]
    [ "$(lines_with journal)" -eq 0 ]
}

@test "kill -9 leaves nothing in /dev/shm" {
    touch -d '-2 seconds' "$BATS_TEST_TMPDIR/before"
    wait_test kill 20
    [ "$status" -ne 0 ]
    for i in 1 2 3 4 5 6 7 8 9 10; do # other tests' names live for moments
        [ -n "$(find /dev/shm -name 'moebatch-*' -newer "$BATS_TEST_TMPDIR/before")" ] || return 0
        sleep 0.5
    done
    return 1
}

@test "what a kill has left in /dev/shm an hour ago is removed by the next job, and nothing else" {
    old=/dev/shm/moebatch-old$$ new=/dev/shm/moebatch-young$$ other=/dev/shm/other-test$$
    touch -d '-2 hours' "$old" "$other"
    touch -d '-50 minutes' "$new"
    wait_test exchange-hier 2
    [ ! -e "$old" ] && [ -e "$new" ] && [ -e "$other" ]
    rm -f "$new" "$other"
}
