# moebatch bench alltoall: what it counts is what the formulas and a computation of its own say.
load common.bash

small="--hidden 96 --experts 12 --topk 3 --repeats 2 --threads 1"

@test "bench alltoall: bytes and messages follow from the routes" {
    ranks 4 bench alltoall $small --tokens 1,7,20 --json >"$work/a.json"
    "$PYTHON3" "$top/tests/alltoall.py" "$work/a.json" >"$work/seen"
    [ "$(tr ' ' '\n' <"$work/seen" | wc -l)" = 27 ]
    ranks 3 bench alltoall $small --tokens 33 --routes zipf:1.1 --seed 5 --dtype f32 --alltoall flat -o "$work/z.json" --csv >"$work/z.csv"
    "$PYTHON3" "$top/tests/alltoall.py" "$work/z.json" >"$work/seen"
    [ "$(cat "$work/seen")" = "MPI_Alltoallv:33:both MPI_Alltoallv:33:combine MPI_Alltoallv:33:dispatch flat:33:both flat:33:combine flat:33:dispatch" ]
    [ "$(grep -c '^alltoall/' "$work/z.csv")" = 6 ]
    [ "$(grep -c '^limit/link' "$work/z.csv")" = 1 ]
}

@test "bench alltoall: sizes of a model, sweeps, one rank" {
    ranks 2 bench alltoall -m "$models/qwen3moe_a" --tokens 3 --repeats 1 --threads 1 --json >"$work/m.json"
    "$PYTHON3" - "$work/m.json" "$models/qwen3moe_a/config.json" <<'END'
import json, sys
d, c = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
x = [x for x in d["results"] if x["name"].startswith("alltoall/")]
assert x and all((y["hidden"], y["experts"], y["topk"]) == (c["hidden_size"], c["num_experts"], c["num_experts_per_tok"]) for y in x)
assert d["type"] == ("f32" if c["torch_dtype"] == "float32" else "bf16") and [y["auto"] for y in x if y["algorithm"] == "flat"] == [True] * 3
END
    "$MOEBATCH" bench alltoall --hidden 8,16 --experts 4,6 --topk 2,5 --tokens 1-2 --repeats 1 --threads 1 --alltoall flat --csv >"$work/s.csv"
    [ "$(grep -c '^alltoall/flat/.*/both' "$work/s.csv")" = 12 ] # 5 of 4 experts is left out
}

@test "bench alltoall: what is refused" {
    refused() {
        local code=$1 text=$2 got=0
        shift 2
        "$@" >"$work/out" 2>"$work/err" || got=$?
        [ $got = "$code" ] || { echo "exit $got"; cat "$work/err"; return 1; }
        grep -qF -- "$text" "$work/err" || { cat "$work/err"; return 1; }
    }
    for r in zipf zipf: zipf:0 zipf:-1 zipf:11 zipf:1x zipf:nan random; do
        refused 1 "--routes '$r' is neither" "$MOEBATCH" bench alltoall --routes "$r"
    done
    refused 1 "--topk '129' is no list" "$MOEBATCH" bench alltoall --topk 129
    refused 1 "--hidden and --model contradict" "$MOEBATCH" bench alltoall -m "$demo" --hidden 5
    refused 1 "--workload is no option of bench alltoall" "$MOEBATCH" bench alltoall --workload 1x1+1
    refused 1 "--tokens is no option of bench gemm" "$MOEBATCH" bench gemm --tokens 1
    refused 2 "has no experts" "$MOEBATCH" bench alltoall -m "$models/mistral_a"
}

@test "bench nodes: one node lags behind nobody" {
    ranks 2 bench nodes --repeats 2 --buffer 4M --threads 1 --json >"$work/n.json"
    "$PYTHON3" -c 'import json, sys
d = json.load(open(sys.argv[1]))
assert d["slow"] == "none" and d["nodes"] == 1 and d["ranks"] == 2
assert all(x["name"].startswith("node/") and x["median"] > 0 for x in d["results"]) and len(d["results"]) >= 2' "$work/n.json"
    got=0
    "$MOEBATCH" bench nodes -m "$top/inputs/configs/qwen3-30b-a3b" --repeats 1 --buffer 1M >/dev/null 2>"$work/err" || got=$?
    [ $got = 2 ]
    grep -q "has no weights to read" "$work/err"
}
