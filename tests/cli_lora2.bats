# LoRA adapters under expert parallelism.
load common.bash

@test "latent attention, experts and shared experts: an adapter equals merged weights" {
    "$PYTHON3" "$top/tests/lora_merged.py" "$MOEBATCH" "$top/tests/mpirun.sh" 2 "$top/tests/data" "$work"
}
