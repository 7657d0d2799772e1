# LoRA adapters under expert parallelism.
load common.bash

@test "goldens, and mixed batches equal separate runs, on 3 ranks" {
    "$PYTHON3" "$top/tests/lora.py" "$MOEBATCH" "$top/tests/mpirun.sh" 3 "$top/tests/data" "$work"
}

@test "an adapter nobody loaded is an error row, a bad option is refused" {
    printf '%s\n' '{"prompt_ids": [5], "max_tokens": 1, "adapter": "x"}' >"$work/in.jsonl"
    run "$MOEBATCH" run -m "$models/mixtral_b" -i "$work/in.jsonl" -o "$work/r.h5"
    [ "$status" = 3 ] # nothing but error rows
    "$PYTHON3" -c "import h5py, sys; assert b'\"x\"' in h5py.File(sys.argv[1])['requests/error'][0]" "$work/r.h5"
    run "$MOEBATCH" run -m "$models/mixtral_b" -i "$work/in.jsonl" -o "$work/q.h5" --adapter nothing
    [ "$status" = 1 ]
    run "$MOEBATCH" run -m "$models/mixtral_b" -i "$work/in.jsonl" -o "$work/q.h5" --adapter a="$models/mixtral_b"
    [ "$status" = 2 ]
}

@test "OpenAI lines: the model of a line is an adapter or the base, and the answer names who served" {
    base=$models/mixtral_a name=mixtral_a__attn_r4
    for m in de "$base" org/mixtral_a gpt-4o; do
        echo '{"custom_id": "'"$m"'", "url": "/v1/completions", "body": {"model": "'"$m"'", "prompt": [5, 9, 7], "max_tokens": 3, "temperature": 0}}'
    done >"$work/in.jsonl"
    "$MOEBATCH" run -m "$base" -i "$work/in.jsonl" -o "$work/r.h5" --adapter "de=$top/tests/data/lora/$name" --openai-output "$work/out.jsonl"
    "$PYTHON3" -c 'import json, sys
rows = {r["custom_id"]: r["response"] for r in map(json.loads, open(sys.argv[1]))}
served = {k: r["body"].get("model") for k, r in rows.items()}
base = sys.argv[2]
assert served == {"de": "de", base: base, "org/mixtral_a": base, "gpt-4o": None}, served
assert rows["gpt-4o"]["status_code"] == 400 and "neither one of the adapters" in rows["gpt-4o"]["body"]["error"]["message"]' "$work/out.jsonl" "$base"
    # without adapters a line may name what it likes
    "$MOEBATCH" run -m "$base" -i "$work/in.jsonl" -o "$work/q.h5" --openai-output "$work/q.jsonl"
    [ "$(grep -c '"status_code": *200' "$work/q.jsonl")" = 4 ]
}
