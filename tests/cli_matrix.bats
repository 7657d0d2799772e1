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

# adapted MODEL DTYPE RANKS STRIDE FIRST MODE: requests of no adapter, two attention adapters and one on experts, mixed
adapted() {
    "$PYTHON3" "$top/tests/adapters.py" "$models/$1" "$work/a"
    matrix "$@" "$work"/a/attn "$work"/a/more "$work"/a/experts
}

@test "adapters in layouts of mixtral_a, f32: every kind of layout is among them" {
    adapted mixtral_a f32 8 19 5 basic | tee "$work/log"
    for kind in dp pp tp sp adp ep etp edp; do
        grep -q " $kind [1-9]" "$work/log"
    done
}

@test "adapters in layouts of deepseekv3_a, bf16, with lane scope and ranks of their own for experts" {
    adapted deepseekv3_a bf16 6 31 5 wide | tee "$work/log"
    for kind in pp tp etp lane split; do
        grep -q " $kind [1-9]" "$work/log"
    done
}

@test "the MTP module in layouts of deepseekv3_a, f32" {
    matrix deepseekv3_a f32 6 19 4 basic+mtp | tee "$work/log"
    for kind in dp pp tp sp adp ep etp edp; do
        grep -q " $kind [1-9]" "$work/log"
    done
}

@test "the MTP module with lane scope and ranks of their own for experts, bf16" {
    matrix deepseekv3_a bf16 6 47 1 wide+mtp | tee "$work/log"
    for kind in pp lane split; do
        grep -q " $kind [1-9]" "$work/log"
    done
}

# sequences end by length, by EOS and by a stop string, which only the leader sees, and there are prompts that ask for nothing but their log-likelihood
@test "logits of the MTP module in the results of three layouts" {
    "$PYTHON3" - "$models/deepseekv3_a" >"$work/in.jsonl" <<'END'
import h5py, json, sys
g = h5py.File(sys.argv[1] + "/golden.h5")
for i in range(5):
    ids = [int(x) for x in g[f"prompt{i}/input_ids"][:]]
    for n, more in enumerate(({"ignore_eos": True}, {"temperature": 1}, {"stop": ["a", "e", "t", " "]})):
        print(json.dumps({"id": f"{i}/{n}", "prompt_ids": ids, "max_tokens": 24, "temperature": 0, **more}))
    print(json.dumps({"id": f"{i}/c", "context_ids": ids, "continuation_ids": ids[:2]}))
END
    n=0
    for l in "1" "4 --tensor-parallel-size 2 --pipeline-parallel-size 2 --expert-scope lane" "3 --sequence-parallel-size 2 --disaggregate 2:1"; do
        set -- $l
        ranks "$1" run -m "$models/deepseekv3_a" -i "$work/in.jsonl" -o "$work/$n.h5" --dtype f32 --save-logits --kv-segment 64 --max-model-len 256 "${@:2}"
        n=$((n + 1))
    done
    [ "$(digest "$work/0.h5")" = "$(digest "$work/1.h5")" ]
    [ "$(digest "$work/0.h5")" = "$(digest "$work/2.h5")" ]
    "$PYTHON3" - "$work" <<'END'
import sys, h5py
def rows(n):
    f = h5py.File(f"{sys.argv[1]}/{n}.h5")
    o, z = f["rows/offsets"][:], f["mtp/logits"][:]
    assert not f["requests/status"][:].any() and (o[1:] > o[:-1]).all()
    return {k: z[o[i]:o[i + 1]].tobytes() for i, k in enumerate(f["requests/id"][:])}, [z[b - 1] for b in o[1:]], set(f["requests/finish_reason"][:])
one, last, ends = rows(0)
assert len(one) == 20 and all((z != z).all() for z in last) and ends == {0, 1, 2, 3}, ends
assert one == rows(1)[0] and one == rows(2)[0]
END
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
