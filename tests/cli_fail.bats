# An fsync that fails once, a limit on file sizes, failures that come again.
load common.bash

shim() {
    no_sanitizers
    ${CC:-cc} -O1 -shared -fPIC -o "$work/shim.so" "$top/tests/fail_calls.c" -ldl
}

@test "after one failed fsync of the journal nothing is acknowledged any more" {
    shim
    cd "$work"
    for i in $(seq 40); do echo "{\"id\":\"r$i\",\"prompt\":\"The package $i is\",\"max_tokens\":20}"; done >in.jsonl
    run env LD_PRELOAD="$work/shim.so" FAIL_CALL=fsync FAIL_DIR="$(realpath "$work")/r.h5.d/run-0001/journal" FAIL_AT=1 \
        FAIL_ERRNO=5 FAIL_LOG="$work/log" "$MOEBATCH" run -m "$demo" -i in.jsonl -o r.h5 --sync-interval 0.02 --max-num-seqs 2
    [ "$status" -eq 75 ]
    grep -q failed log
    [[ $output == *"journal-000000: fsync"*"Input/output error"*"--resume"* ]]
    python3 -c "import json; s = json.load(open('r.h5.d/status.json')); assert s['acknowledged'] == 0 and s['state'] == 'stopped', s"
    "$MOEBATCH" run -m "$demo" -i in.jsonl -o r.h5 --resume
}

@test "a limit on file sizes is an error with its remedy, not a signal" {
    cd "$work"
    for i in $(seq 40); do echo "{\"id\":\"r$i\",\"prompt\":\"The package $i is\",\"max_tokens\":20}"; done >in.jsonl
    # (Open MPI has files of its own of some MiB)
    run bash -c "ulimit -f 8192; exec '$MOEBATCH' run -m '$demo' -i in.jsonl -o r.h5 --save-logits=all 2>&1"
    [ "$status" -eq 73 ] || [ "$status" -eq 75 ]
    [[ $output == *"ulimit -f"* ]]
    "$MOEBATCH" run -m "$demo" -i in.jsonl -o r.h5 --save-logits=all --resume
}

@test "the same failure twice without progress is not 75; with progress between it is" {
    shim
    cd "$work"
    for i in $(seq 40); do echo "{\"id\":\"r$i\",\"prompt\":\"The package $i is\",\"max_tokens\":20}"; done >in.jsonl
    broken() { # RUN AT OPTION...: from the AT-th write on, the journal of that run cannot be written
        run env LD_PRELOAD="$work/shim.so" FAIL_CALL=write FAIL_DIR="$(realpath "$work")/r.h5.d/run-000$1/journal" FAIL_AT="$2" FAIL_ON=1 \
            FAIL_ERRNO=5 FAIL_LOG="$work/log" "$MOEBATCH" run -m "$demo" -i in.jsonl -o r.h5 --sync-interval 0.02 --max-num-seqs 2 "${@:3}"
        echo "$output"
    }
    is() { python3 -c "import json, sys; s = json.load(open('r.h5.d/status.json')); assert $1, s"; }
    broken 1 2
    [ "$status" -eq 75 ]
    is "s['failure'] == 'io' and s['from_rows'] == 0 and s['state'] == 'stopped'"
    broken 2 2 --resume
    [ "$status" -eq 74 ]
    [[ $output == *"the run before ended in the same way (io), and neither added anything"* ]]
    is "s['failure'] == 'io' and s['from_rows'] == 0 and s['state'] == 'failed'"
    broken 3 40 --resume # this one gets on before it fails in the same way
    [ "$status" -eq 75 ]
    broken 4 2 --resume # the first failure from where it got to
    [ "$status" -eq 75 ]
    is "s['from_rows'] > 0"
    broken 5 2 --resume
    [ "$status" -eq 74 ]
    "$MOEBATCH" run -m "$demo" -i in.jsonl -o r.h5 --resume
}
