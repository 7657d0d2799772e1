# Packed weights as they are published: goldens, and what is not read.
load common.bash

golden() {
    "$PYTHON3" "$top/tests/golden.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$2" "$models/$1" "$work"
}

@test "MXFP4 on 3 ranks" { golden gptoss_mxfp4_a 3; }
@test "GPTQ with act-order and zero points of 16 on 1 rank" { golden qwen3moe_gptq_a 1; }

# changed NAME PYTHON: a copy of a model whose config c was changed
changed() {
    rm -rf "$work/m"
    cp -r "$models/$1" "$work/m"
    "$PYTHON3" -c 'import json, sys
c = json.load(open(sys.argv[1])); q = c["quantization_config"]
exec(sys.argv[2])
json.dump(c, open(sys.argv[1], "w"))' "$work/m/config.json" "$2"
}

refused() { # TEXT
    local got=0
    "$MOEBATCH" inspect -m "$work/m" >"$work/out" 2>"$work/err" || got=$?
    [ $got = 2 ] && grep -qF -- "$1" "$work/err" || { echo "exit $got"; cat "$work/err"; return 1; }
}

@test "what is not read is refused by name; scales of activations are mentioned once" {
    changed qwen3moe_awq_a 'q["version"] = "gemv"'
    refused 'quantization_config.version: expected one of gemm|GEMM, found "gemv"'
    changed qwen3moe_gptq_a 'q["checkpoint_format"] = "marlin"'
    refused 'found "marlin"'
    changed qwen3moe_gptq_a 'q["bits"] = 3'
    refused 'quantization_config.bits'
    changed qwen3moe_gptq_a 'q["group_size"] = 64'
    refused 'groups of quantization_config'
    changed qwen3moe_awq_a 'q["quant_method"] = "bitsandbytes"'
    refused 'found "bitsandbytes"'
    changed mixtral_w4_a 'q["format"] = "marlin-24"'
    refused 'found "marlin-24"'
    changed qwen3moe_gptq_a 'del c["quantization_config"]'
    refused 'expected a quantization_config of AWQ or GPTQ'
    changed qwen3moe_nvfp4_a 'del c["quantization_config"]' # older files have nothing in config.json
    "$MOEBATCH" inspect -m "$work/m" >"$work/out" 2>"$work/err"
    grep -q "nvfp4 [0-9]" "$work/out"
    [ "$(grep -c "scales are for quantised activations" "$work/err")" = 1 ]
    "$MOEBATCH" check -m "$models/mixtral_w4_gidx_a" | grep -q "no error found"
}
