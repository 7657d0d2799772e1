# --dtype int8: one digest on every layout, near to bf16, and refused where it cannot be.
bats_require_minimum_version 1.5.0
load common.bash

# int8 MODEL RANKS OPTION...: the digest
int8() {
    local model=$1 n=$2
    shift 2
    ranks "$n" run -m "$model" -i "$work/in" -o "$work/r.h5" --overwrite --dtype int8 --kv-pages 200 --save-logits=all --save-routing "$@" 2>"$work/err" ||
        { cat "$work/err"; return 1; }
    digest "$work/r.h5"
}

requests() {
    printf '%s\n' '{"id":"a","prompt_ids":[1,5,9,20,33,7,2,40,11,3,8,21,30,5,6,9,17,29,33,12],"max_tokens":4,"temperature":0,"ignore_eos":true}' \
        '{"id":"b","prompt_ids":[4],"max_tokens":3,"temperature":1,"ignore_eos":true}' >"$work/in"
}

@test "one digest on every layout and instruction set" {
    requests
    int8 "$demo" 1 >"$work/digests"
    grep -q '^numbers   : int8 kv=bf16 segment=512 k=2$' "$work/err"
    grep -q '^weights   : int8, a scale for each column and leaf$' "$work/err"
    for o in "1 --isa portable" "2 --tensor-parallel-size 2" "4 --tensor-parallel-size 2 --expert-tensor-parallel-size 2" \
        "2 --sequence-parallel-size 2" "2 --pipeline-parallel-size 2" "2 --zero-inference 40"; do
        # shellcheck disable=SC2086
        int8 "$demo" ${o%% *} ${o#* } >>"$work/digests"
    done
    sort -u "$work/digests" | wc -l | grep -qx 1
    "$MOEBATCH" verify "$work/r.h5" -m "$demo" --dtype int8 --fraction 1 | grep -q '^differ  *: 0 rows'
}

@test "latent attention, MTP module, sources in other forms" {
    requests
    for m in deepseekv3_a qwen3moe_nvfp4_a; do
        int8 "$models/$m" 1 >"$work/digests"
        int8 "$models/$m" 3 --tensor-parallel-size 3 --expert-tensor-parallel-size 3 >>"$work/digests"
        sort -u "$work/digests" | wc -l | grep -qx 1
    done
}

@test "near to bf16: the divergence of the next token, and the perplexity" {
    grep -v '^ *$' "$top/README" | head -n 40 >"$work/text.txt"
    for t in bf16 int8; do
        ranks 2 score -m "$demo" -i "$work/text.txt" -o "$work/$t.h5" --dtype $t --save-logits=all
    done
    "$PYTHON3" - "$work/bf16.h5" "$work/int8.h5" <<'PY'
import h5py, sys
import numpy as np
f, g = (h5py.File(x) for x in sys.argv[1:])
la, lb = (x["logits"][:].astype(np.float64) for x in (f, g))
la, lb = (x - x.max(1, keepdims=True) for x in (la, lb))
la, lb = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (la, lb))
kl = (np.exp(la) * (la - lb)).sum(1)
a, b = (x["requests/logprob_sum"][:].sum() for x in (f, g))
n = len(kl) - len(f["requests/id"])
print("tokens", len(kl), "mean KL", kl.mean(), "perplexity times", np.exp((a - b) / n))
assert len(kl) > 1000 and 0 < kl.mean() <= 0.01
assert np.exp((a - b) / n) <= 1.01
PY
}

@test "expert bytes are half of bf16's; what cannot be is refused" {
    requests
    for t in bf16 int8; do
        ranks 1 run -m "$demo" -i "$work/in" -o "$work/$t.h5" --dtype $t --kv-pages 50
    done
    "$PYTHON3" - "$work/int8.h5" "$work/bf16.h5" <<'PY'
import h5py, json, sys
a, b = (json.loads(h5py.File(f)["provenance/plan"][()])["expert_bytes"][0] for f in sys.argv[1:])
assert 0.5 < a / b < 0.53, a / b
PY
    run -2 "$MOEBATCH" verify "$work/int8.h5" -m "$demo" --dtype bf16
    run -1 --separate-stderr "$MOEBATCH" run -m "$demo" -i "$work/in" -o "$work/x.h5" --dtype int8 --weights stored
    [[ $stderr == *"contradict"* ]]
    run -1 --separate-stderr "$MOEBATCH" run -m "$demo" -i "$work/in" -o "$work/x.h5" --dtype int8 --adapter a=b
    [[ $stderr == *"no adapters"* ]]
    run -1 --separate-stderr "$MOEBATCH" bench gemm -m "$demo" --dtype int8
    [[ $stderr == *"throughput and latency"* ]]
    "$MOEBATCH" plan -m "$demo" --dtype int8 >/dev/null
}
