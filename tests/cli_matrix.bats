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

@test "layouts of models with a choice of keys and with states, f32, bf16" {
    matrix glmmoedsa_b f32 6 53 4 | tee "$work/log"
    matrix qwen3next_a bf16 8 61 5 | tee -a "$work/log"
    [ "$(grep -c " sp [1-9]" "$work/log")" = 2 ]
}

@test "lane scope and ranks of their own for experts" {
    matrix mixtral_a f32 6 61 2 wide
}

@test "experts on demand: caches from an eighth of a share to all" {
    matrix deepseekv3_a f32 8 67 4 zero
    matrix qwen3moe_b bf16 6 23 5 zerowide
}

@test "a job with two stages of two tensor ranks: the bits of one rank, and what its groups moved" {
    for l in "1" "4 --tensor-parallel-size 2 --pipeline-parallel-size 2"; do
        set -- $l
        n=$1
        shift
        ranks "$n" run -m "$demo" -i "$top/inputs/greedy.jsonl" -o "$work/$n.h5" --dtype bf16 --save-routing "$@"
    done
    [ "$(digest "$work/1.h5")" = "$(digest "$work/4.h5")" ]
    "$PYTHON3" - "$work" <<'END'
import sys, h5py
one, four = (h5py.File(f"{sys.argv[1]}/{n}.h5")["physical"] for n in (1, 4))
assert list(one["group_bytes"][:]) == [0] and list(one["group_messages"][:]) == [0]
assert (four["group_bytes"][:] > 0).all() and (four["group_messages"][:] > 0).all()
END
}

@test "random fills: few or no requests on up to 8 ranks" {
    sh "$top/tests/mpirun.sh" 8 "$top_builddir/tests/mpi_fill" mixtral_a f32 25 1 30
    sh "$top/tests/mpirun.sh" 8 "$top_builddir/tests/mpi_fill" deepseekv3_a bf16 15 2 30
}

@test "a fill that hangs is ended by its limit, with the stack of every rank" {
    run sh "$top/tests/mpirun.sh" 3 "$top_builddir/tests/mpi_fill" mixtral_a f32 3 1 1 hang
    [ "$status" -ne 0 ]
    for rank in 0 1 2; do
        [[ $output == *"rank $rank is still at fill 1: "*" its stack:"* ]]
    done
    [[ $output == *"(pause+"* ]]
    [[ $output == *"(mb_wait_until+"* ]]
}
