# Calls that fail: a sample of tests/long_fail.sh, an fsync that fails once, a limit on file sizes.
load common.bash

@test "writes, syncs, renames and directories that fail: no wrong result, none lost, never 0" {
    TMPDIR=$work bash "$top/tests/long_fail.sh" 12
}

shim() { ${CC:-cc} -O1 -shared -fPIC -o "$work/shim.so" "$top/tests/fail_calls.c" -ldl; }

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
