# The bf16 path against an independent numpy form of the numeric contract.
load common.bash

contract() {
    "$PYTHON3" "$top/tests/contract.py" "$MOEBATCH" "$models/$1" "$work"
}

@test "Mixtral" { contract mixtral_a; }
@test "DeepSeek-V3" { contract deepseekv3_b; }
@test "DBRX" { contract dbrx_a; }
@test "Llama" { contract llama_a; }
