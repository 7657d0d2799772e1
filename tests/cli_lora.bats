# LoRA adapters under expert parallelism.
load common.bash

@test "goldens, and mixed batches equal separate runs, on 3 ranks" {
    "$PYTHON3" "$top/tests/lora.py" "$MOEBATCH" "$top/tests/mpirun.sh" 3 "$top/tests/data" "$work"
}

@test "an adapter nobody loaded is an error row, a bad option is refused" {
    printf '%s\n' '{"prompt_ids": [5], "max_tokens": 1, "adapter": "x"}' >"$work/in.jsonl"
    "$MOEBATCH" run -m "$models/mixtral_b" -i "$work/in.jsonl" -o "$work/r.h5"
    "$PYTHON3" -c "import h5py, sys; assert b'\"x\"' in h5py.File(sys.argv[1])['requests/error'][0]" "$work/r.h5"
    run "$MOEBATCH" run -m "$models/mixtral_b" -i "$work/in.jsonl" -o "$work/q.h5" --adapter nothing
    [ "$status" = 1 ]
    run "$MOEBATCH" run -m "$models/mixtral_b" -i "$work/in.jsonl" -o "$work/q.h5" --adapter a="$models/mixtral_b"
    [ "$status" = 2 ]
}
