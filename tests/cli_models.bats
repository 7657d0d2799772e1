# One reference model of each further kind on 2 ranks against its golden; tests/long_goldens.sh has all of them on 1 and 4.
load common.bash

golden() {
    "$PYTHON3" "$top/tests/golden.py" "$MOEBATCH" "$top/tests/mpirun.sh" 2 "$models/$1" "$work"
}

@test "DeepSeek-V3 with yarn, groups and the MTP module" { golden deepseekv3_a; }
@test "DeepSeek-V3 over tensor ranks and stages" {
    "$PYTHON3" "$top/tests/golden.py" "$MOEBATCH" "$top/tests/mpirun.sh" 4 "$models/deepseekv3_a" "$work" --tensor-parallel-size 2 \
        --pipeline-parallel-size 2
}
@test "DeepSeek-V3 stored as FP8" { golden deepseekv3_fp8; }
@test "DeepSeek-V2 with groups" { golden deepseekv2_b; }
@test "DBRX" { golden dbrx_a; }
@test "Grok-1" { golden grok1_b; }
@test "OLMoE" { golden olmoe_b; }
