# Scoring: windows of long texts.
load common.bash

windows() { # MODEL: one rank, groups, a pipeline
    "$PYTHON3" "$top/tests/windows.py" make "$work"
    local n=1 name
    for how in "" "--tensor-parallel-size 2" "--pipeline-parallel-size 2 --max-num-seqs 3"; do
        [ -n "$how" ] && n=2
        ranks $n run -m "$models/$1" -i "$work/text.jsonl" -o "$work/r${#how}.h5" --max-model-len 70 --save-routing \
            --save-hidden --save-logits=all $how
        [ "$(digest "$work/r${#how}.h5")" = "$(digest "$work/r0.h5")" ]
    done
    "$PYTHON3" "$top/tests/windows.py" check "$work" "$work"/r*.h5
}

@test "a rolling text longer than the model, row by row" { windows mixtral_a; }
@test "the same with a prediction module" { windows deepseekv3_a; }
