# One reference model of each further kind on 2 ranks against its golden; tests/long_goldens.sh has all of them on 1 and 4.
load common.bash

golden() {
    "$PYTHON3" "$top/tests/golden.py" "$MOEBATCH" "$top/tests/mpirun.sh" 2 "$models/$1" "$work"
}

@test "GPT-OSS" { golden gptoss_a; }
@test "Llama (dense)" { golden llama_a; }
@test "Mistral (dense)" { golden mistral_a; }
@test "PhiMoE" { golden phimoe_a; }
@test "Qwen2-MoE" { golden qwen2moe_b; }
@test "Qwen3-MoE" { golden qwen3moe_a; }
