# A rank that fails alone, while the others wait in the exchange, ends the job at once: not at the deadline of 600 s.
load common.bash

job() { # PROGRAM RANKS [OPTION...]
    local program=$1 n=$2
    shift 2
    timeout 50 sh "$top/tests/mpirun.sh" "$n" "$program" run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" \
        --dtype bf16 "$@"
}

apart() { # RANK
    MB_TEST_APART=$1 MB_TEST_STEP=40 run job "$top_builddir/tests/moebatch_apart" 3 --max-num-seqs 4 --deadline 600
    [ "$status" = 70 ]
    [[ $output == *"rank $1 can't go on with the others"* ]]
}

@test "rank 1 of 3: exit 70, the journals resume to the same results" {
    apart 1
    run job "$MOEBATCH" 2 --resume
    [ "$status" = 0 ]
    ranks 2 run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/ref.h5" --dtype bf16
    [ "$(digest "$work/r.h5")" = "$(digest "$work/ref.h5")" ]
}

@test "rank 0 of 3: the same, and its status file says so" {
    apart 0
    run "$MOEBATCH" status --json "$work/r.h5"
    [[ $output == *'"failed"'* ]]
}

# The first dispatch of rank $1 fails, before anything is there; the same again; then without failure
twice() {
    apart_io() { MB_TEST_IO=1 MB_TEST_APART=$1 MB_TEST_STEP=$2 run job "$top_builddir/tests/moebatch_apart" 3 --max-num-seqs 4 "${@:3}"; }
    apart_io "$1" 0
    [ "$status" = 75 ]
    grep -q '"failure": "io"' "$work/r.h5.d/status.json"
    grep -q '"from_rows": 0' "$work/r.h5.d/status.json"
    apart_io "$1" 0 --resume
    echo "$output"
    [ "$status" = 74 ]
    [[ $output == *"the run before ended in the same way (io), and neither added anything"* ]]
    grep -q '"state": "failed"' "$work/r.h5.d/status.json"
    run job "$MOEBATCH" 2 --resume
    [ "$status" = 0 ]
}

@test "the same failure twice without progress, of a rank that ends the job alone: not 75 the second time" {
    twice 1
}

@test "the same of rank 0" {
    twice 0
}
