# Goldens that must be missed: models changed in one setting or kind of tensor (tests/long_goldens.sh has all of all).
load common.bash

@test "wrong variants of Qwen3-Next and DeepSeek-V3.2 miss their goldens" {
    "$PYTHON3" "$top/tests/wrong_variants.py" "$MOEBATCH" "$models" "$work" qwen3next_a deepseekv32_a
}
