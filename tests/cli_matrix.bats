# A sample of all layouts up to 8 ranks: communicators, plan and engine are made anew for each, and the records are the same bits.
load common.bash

matrix() {
    sh "$top/tests/mpirun.sh" 8 "$top_builddir/tests/mpi_matrix" "$@"
}

@test "layouts of mixtral_a, f32" {
    matrix mixtral_a f32 8 29 3
}

@test "layouts of qwen3moe_b, bf16" {
    matrix qwen3moe_b bf16 8 41 5
}

@test "layouts of deepseekv3_a, f32" {
    matrix deepseekv3_a f32 8 41 7
}

@test "layouts of dbrx_a, bf16" {
    matrix dbrx_a bf16 8 41 11
}

@test "lane scope and ranks of their own for experts" {
    matrix mixtral_a f32 6 61 2 wide
}
