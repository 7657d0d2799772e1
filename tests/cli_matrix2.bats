# The same sample with adapters, and with the logits of the MTP module.
load common.bash

matrix() {
    sh "$top/tests/mpirun.sh" 8 "$top_builddir/tests/mpi_matrix" "$@"
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
