# Packed weights as they are published have the bits of a model that an independent script has dequantised.
load common.bash

# same NAME RANKS TYPE...: a packed model and its dequantised copy give one digest
same() {
    local name=$1 n=$2 type
    shift 2
    [ -d "$work/$name" ] || "$PYTHON3" "$top/tests/dequantise.py" "$models/$name" "$work/$name"
    for type; do
        ranks "$n" run -m "$models/$name" -i "$work/in" -o "$work/p.h5" --overwrite --dtype "$type" --save-logits --save-routing
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
