# Packed weights as they are published have the bits of a model that an independent script has dequantised.
load common.bash

# same NAME RANKS TYPE...: a packed model and its dequantised copy give one digest
same() {
    local name=$1 n=$2 type
    shift 2
    [ -d "$work/$name" ] || "$PYTHON3" "$top/tests/dequantise.py" "$models/$name" "$work/$name"
    for type; do
        ranks "$n" run -m "$models/$name" -i "$work/in" -o "$work/p.h5" --overwrite --weights stored --dtype "$type" --save-logits --save-routing
        ranks 1 run -m "$work/$name" -i "$work/in" -o "$work/d.h5" --overwrite --dtype "$type" --save-logits --save-routing
        [ "$(digest "$work/p.h5")" = "$(digest "$work/d.h5")" ] || { echo "$name $type"; return 1; }
    done
}

requests() {
    printf '%s\n' '{"id":"a","prompt_ids":[1,5,9,20,33,7,2,40,11,3,8,21,30,5,6,9,17,29,33,12],"max_tokens":6,"temperature":0,"ignore_eos":true}' \
        '{"id":"b","prompt_ids":[4],"max_tokens":4,"temperature":1,"ignore_eos":true}' >"$work/in"
}

@test "MXFP4, NVFP4: the bits of the dequantised model" {
    requests
    same gptoss_mxfp4_a 2 bf16
    same qwen3moe_nvfp4_a 3 bf16
    same mixtral_nvfp4_a 1 f32
}

@test "compressed-tensors integers: the bits of the dequantised model" {
    requests
    same qwen3moe_w4_a 1 bf16
    same mixtral_w4_a 4 f32
    same mixtral_w4_gidx_a 2 bf16
    same qwen3moe_int8_a 3 f32
}

@test "AWQ, GPTQ: the bits of the dequantised model" {
    requests
    same qwen3moe_awq_a 2 bf16
    same mixtral_gptq_a 3 bf16
    same qwen3moe_gptq_a 1 f32
}

@test "weights are kept as stored, and the header says so; --weights wide gives the same bits" {
    requests
    for o in stored wide; do
        ranks 2 run -m "$models/gptoss_mxfp4_a" -i "$work/in" -o "$work/$o.h5" --dtype bf16 --weights $o 2>"$work/err.$o"
    done
    [ "$(digest "$work/stored.h5")" = "$(digest "$work/wide.h5")" ]
    grep -q '^weights   : experts mxfp4 as stored, others bf16$' "$work/err.stored"
    grep -q '^weights   : bf16$' "$work/err.wide"
    "$PYTHON3" - "$work/stored.h5" "$work/wide.h5" <<'PY'
import h5py, json, sys
a, b = (json.loads(h5py.File(f)["provenance/plan"][()])["expert_bytes"] for f in sys.argv[1:])
for x, y in zip(a, b):
    assert 0 < x <= 0.285 * y, (x, y)
PY
}

@test "--weights auto: as stored but for int8 and groups that are not runs of columns" {
    requests
    for m in mixtral_gptq_a mixtral_w4_a qwen3moe_awq_a; do
        ranks 1 run -m "$models/$m" -i "$work/in" -o "$work/r.h5" --overwrite --dtype bf16 2>"$work/err"
        grep -q '^weights   : .*as stored' "$work/err" || { cat "$work/err"; return 1; }
    done
    for m in qwen3moe_gptq_a mixtral_w4_gidx_a qwen3moe_int8_a; do
        ranks 1 run -m "$models/$m" -i "$work/in" -o "$work/r.h5" --overwrite --dtype bf16 2>"$work/err"
        grep -q '^weights   : bf16$' "$work/err" || { cat "$work/err"; return 1; }
    done
}

@test "experts travel between ranks as they are stored" {
    for m in gptoss_mxfp4_a qwen3moe_gptq_a; do
        "$PYTHON3" - "$models/$m" "$work" <<'PY'
import json, sys
c = json.load(open(sys.argv[1] + "/config.json"))
experts = c.get("num_experts") or c["num_local_experts"]
json.dump({"owner": [[0] * experts] * c["num_hidden_layers"]}, open(sys.argv[2] + "/owners.json", "w"))
with open(sys.argv[2] + "/in.jsonl", "w") as f:
    for i in range(4):
        ids = [(k * k + 7 * k + 13 * i) % 250 for k in range(400 + i)]
        f.write(json.dumps({"id": str(i), "prompt_ids": ids, "max_tokens": 2, "temperature": 0}) + "\n")
PY
        o="--max-model-len 1024 --kv-pages 48 --max-batch-rows 900 --overwrite --dtype bf16"
        # shellcheck disable=SC2086
        ranks 2 run -m "$models/$m" -i "$work/in.jsonl" -o "$work/z.h5" $o --placement "$work/owners.json" --zero-inference 200 --weights stored
        # shellcheck disable=SC2086
        ranks 1 run -m "$models/$m" -i "$work/in.jsonl" -o "$work/a.h5" $o --weights wide
        [ "$(digest "$work/z.h5")" = "$(digest "$work/a.h5")" ] || { echo "$m"; return 1; }
        "$PYTHON3" - "$work/z.h5" "$work/a.h5" <<'PY'
import h5py, sys
z = h5py.File(sys.argv[1])["physical"]
assert z["fetched_from_ranks"][1] > 0, "no expert travelled"
print("bytes an expert", z["fetched_bytes"][1] / (z["fetched_from_ranks"][1] + z["fetched_from_files"][1]))
PY
    done
}

@test "tensor-parallel ranks and experts on demand cut groups and words" {
    requests
    for o in "--tensor-parallel-size 2" "--expert-tensor-parallel-size 2" "--zero-inference 40"; do
        # shellcheck disable=SC2086
        ranks 2 run -m "$models/mixtral_w4_a" -i "$work/in" -o "$work/a.h5" --overwrite --dtype bf16 $o
        digest "$work/a.h5"
    done | sort -u >"$work/digests"
    ranks 1 run -m "$models/mixtral_w4_a" -i "$work/in" -o "$work/a.h5" --overwrite --dtype bf16
    [ "$(cat "$work/digests")" = "$(digest "$work/a.h5")" ]
}
