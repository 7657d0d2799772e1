# --kv-dtype int8: pages of signed bytes.
bats_require_minimum_version 1.5.0
load common.bash

# kv MODEL RANKS OPTION...: the digest
kv() {
    local model=$1 n=$2
    shift 2
    ranks "$n" run -m "$model" -i "$work/in" -o "$work/r.h5" --overwrite --dtype bf16 --kv-dtype int8 --kv-pages 200 --save-logits=all "$@" 2>"$work/err" ||
        { cat "$work/err"; return 1; }
    digest "$work/r.h5"
}

@test "--kv-dtype int8: one digest on every layout, near to bf16, half the pages' bytes" {
    "$PYTHON3" -c 'import json
for i, n in enumerate((3, 140)):
    print(json.dumps({"id": str(i), "prompt_ids": [(k * k + 7 * k + 13 * i) % 150 for k in range(n)], "max_tokens": 3, "temperature": 0, "ignore_eos": True}))' >"$work/in"
    kv "$demo" 1 --isa portable >"$work/out"
    kv "$demo" 2 --tensor-parallel-size 2 >>"$work/out"
    kv "$models/deepseekv3_a" 1 >>"$work/out"
    kv "$models/deepseekv3_a" 2 --tensor-parallel-size 2 >>"$work/out"
    kv "$demo" 1 --kv-segment 64 >>"$work/out"
    kv "$demo" 2 --sequence-parallel-size 2 --kv-segment 64 >>"$work/out"
    grep -q '^numbers   : bf16 kv=int8 segment=64 k=2$' "$work/err"
    [ "$(uniq -c "$work/out" | awk '{print $1}' | tr '\n' ' ')" = "2 2 2 " ]
    kv "$demo" 1 --dtype int8 >>"$work/out"
    grep -q '^numbers   : int8 kv=int8 ' "$work/err"
    [ "$(sort -u "$work/out" | wc -l)" = 4 ]
    grep -v '^ *$' "$top/README" | head -n 20 >"$work/text.txt"
    ranks 1 score -m "$demo" -i "$work/text.txt" -o "$work/a.h5" --dtype bf16 --kv-pages 100 --save-logits=all
    ranks 1 score -m "$demo" -i "$work/text.txt" -o "$work/b.h5" --dtype bf16 --kv-pages 100 --save-logits=all --kv-dtype int8
    "$PYTHON3" - "$work/a.h5" "$work/b.h5" <<'PY'
import h5py, json, sys
import numpy as np
f, g = (h5py.File(x) for x in sys.argv[1:])
la, lb = (x["logits"][:].astype(np.float64) for x in (f, g))
la, lb = (x - x.max(1, keepdims=True) for x in (la, lb))
la, lb = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (la, lb))
kl = (np.exp(la) * (la - lb)).sum(1)
print("tokens", len(kl), "mean KL", kl.mean())
assert len(kl) > 500 and 0 < kl.mean() <= 0.01
PY
    run -1 --separate-stderr "$MOEBATCH" run -m "$demo" -i "$work/in" -o "$work/x.h5" --dtype f32 --kv-dtype int8
    [[ $stderr == *"--dtype bf16 or int8"* ]]
    run -2 --separate-stderr "$MOEBATCH" run -m "$models/deepseekv2_b" -i "$work/in" -o "$work/x.h5" --kv-dtype int8
    [[ $stderr == *"and this is f32"* ]]
}
