# The demo model: the same text and numbers as transformers, the same bits on every layout and every machine.
load common.bash

@test "greedy ids, text and log-likelihoods equal transformers in fp32" {
    cat "$top/inputs/greedy.jsonl" "$top/inputs/scoring.jsonl" >"$work/in.jsonl"
    ranks 2 run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --dtype f32
    "$PYTHON3" "$top/tests/demo.py" "$work/r.h5" "$top/tests/data/demo/expected.json"
}
