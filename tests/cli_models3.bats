# Mechanisms that one architecture brought, each on 2 ranks by two of its golden's prompts; tests/long_goldens.sh has all of all.
load common.bash

golden() {
    GOLDEN_PROMPTS="1 3" "$PYTHON3" "$top/tests/golden.py" "$MOEBATCH" "$top/tests/mpirun.sh" 2 "$models/$1" "$work"
}

@test "Llama-4: layers that do not rotate, chunks, weights on the experts' input" { golden llama4_a; }
@test "Mistral-4: queries that grow with the position" { golden mistral4_a; }
@test "MiniMax-M2: partial rotation behind a norm of all heads" { golden minimaxm2_a; }
@test "Hunyuan-A13B: norm behind the rotation" { golden hunyuanmoe_a; }
@test "Granite: multipliers" { golden granitemoe_a; }
@test "ERNIE-4.5: choice by probability and bias" { golden ernie45moe_a; }
@test "GLM-4.5 with its MTP module" { golden glm4moe_a; }
@test "Ling 2: one matrix for queries, keys and values" { golden bailingmoe2_a; }
@test "Qwen3-Next: gated DeltaNet, gated attention" { golden qwen3next_a; }
@test "Qwen3.5-MoE as published, fused experts" { golden qwen35moe_a; }
@test "FP8 with one scale, stored as BF16" { golden mixtral_fp8t_a; }
@test "FP8 with a scale for each row" { golden qwen3moe_fp8ch_a; }
