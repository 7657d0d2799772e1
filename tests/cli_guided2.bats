# Sampled answers that are held to a grammar, on several layouts.
load common.bash

guided() { # N RESULTS OPTIONS...
    local n=$1 out=$2
    shift 2
    ranks "$n" run -m "$demo" -i "$work/in.jsonl" -o "$out" "$@"
}

@test "sampled answers are valid, the same on every layout, and leave other rows alone" {
    "$PYTHON3" "$top/tests/guided.py" make 1 6 2 150 > "$work/in.jsonl"
    guided 1 "$work/r.h5" --max-num-seqs 32
    run "$PYTHON3" "$top/tests/guided.py" check "$work/in.jsonl" "$work/r.h5"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *" 0 wrong"* ]]
    guided 2 "$work/tp.h5" --tensor-parallel-size 2 --max-num-seqs 5
    guided 4 "$work/all.h5" --pipeline-parallel-size 2 --data-parallel-size 2
    for r in tp all; do
        [ "$(digest "$work/$r.h5")" = "$(digest "$work/r.h5")" ]
    done
    # the row without a grammar is what it is alone
    grep '"plain"' "$work/in.jsonl" > "$work/plain.jsonl"
    ranks 1 run -m "$demo" -i "$work/plain.jsonl" -o "$work/plain.h5"
    "$MOEBATCH" inspect "$work/plain.h5" --digest --requests | grep plain > "$work/a"
    "$MOEBATCH" inspect "$work/r.h5" --digest --requests | grep plain > "$work/b"
    cmp "$work/a" "$work/b"
}
