# LoRA adapters where groups divide the weights that they add to: the goldens.
load common.bash

@test "goldens on 3 tensor ranks" {
    "$PYTHON3" "$top/tests/lora.py" "$MOEBATCH" "$top/tests/mpirun.sh" 3 "$top/tests/data" "$work" --tensor-parallel-size 3
}

@test "goldens on 2 tensor ranks with slices of experts" {
    "$PYTHON3" "$top/tests/lora.py" "$MOEBATCH" "$top/tests/mpirun.sh" 2 "$top/tests/data" "$work" --tensor-parallel-size 2 \
        --expert-tensor-parallel-size 2
}

@test "an adapter over all experts of a layer at once, on 2 ranks" {
    "$PYTHON3" "$top/tests/lora_fused.py" "$MOEBATCH" "$top/tests/mpirun.sh" 2 "$top/tests/data" "$work"
}
