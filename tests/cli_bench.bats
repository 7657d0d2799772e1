# moebatch bench: what it prints is well formed, follows from its own figures, and wrong questions are refused.
load common.bash

# refused CODE TEXT COMMAND...: the exit code, and what the message says
refused() {
    local code=$1 text=$2 got=0
    shift 2
    "$@" >"$work/out" 2>"$work/err" || got=$?
    [ $got = "$code" ] || { echo "exit $got"; cat "$work/err"; return 1; }
    [ -z "$text" ] || grep -qF -- "$text" "$work/err" || { cat "$work/err"; return 1; }
}

@test "bench gemm: bounds follow from the limits and sizes of the same file" {
    "$MOEBATCH" bench gemm -m "$models/mixtral_a" --rows 1-3,40 --repeats 3 --buffer 4M --threads 2 --json -o "$work/g.json" >"$work/out.json"
    cmp "$work/g.json" "$work/out.json"
    "$PYTHON3" - "$work/g.json" <<'END'
import json, statistics, sys
d = json.load(open(sys.argv[1]))
assert d["schema"] == "moebatch-bench/1" and d["bench"] == "gemm" and d["threads"] == 2 and d["cpu"] and d["host"], d
r = {x["name"]: x for x in d["results"]}
assert len(r) == len(d["results"])
for x in r.values():
    s = x["samples"]
    assert x["min"] == min(s) and x["max"] == max(s) and abs(x["median"] - statistics.median(s)) <= 1e-8 * x["median"], x
read = r["limit/read"]["max"]
peaks = {x["name"][6:]: x["max"] for x in d["results"] if x["name"].startswith("limit/") and x["unit"] == "GFLOP/s"}
# mixtral_a: hidden 48, 6 query and 2 KV heads of 8, 8 experts of 28, 2 a token, 96 words; f32
sizes = {"attention.qkv": (48 + 32, 48), "attention.o": (48, 48), "router": (8, 48), "expert.gate_up": (56, 48), "expert.down": (48, 28),
         "experts.gate_up": (56, 48), "experts.down": (48, 28)}
seen = 0
for x in r.values():
    if not x["name"].startswith("gemm/"):
        continue
    seen += 1
    assert len(x["samples"]) == 3 and x["type"] == "f32"
    if x["gemm"] in sizes:
        assert (x["n"], x["k"]) == sizes[x["gemm"]], x
    groups = min(8, 2 * x["m"]) if x["gemm"].startswith("experts.") else 1
    rows = groups * -(-2 * x["m"] // groups) if x["gemm"].startswith("experts.") else x["m"]
    assert x["groups"] == groups and x["rows"] == rows, x
    flops, size = 2 * rows * x["n"] * x["k"], 4 * groups * x["n"] * x["k"]
    assert x["weight_bytes"] == size
    bound = read * flops / size
    if "f32 FMA" in peaks:
        bound = min(bound, peaks["f32 FMA"])
    assert abs(x["bound"] - bound) <= 1e-6 * bound and abs(x["fraction"] - x["median"] / bound) <= 1e-6 * x["fraction"], (x, bound)
    assert x["limit"] == ("read" if bound == read * flops / size else "f32 FMA")
    assert abs(x["median"] * x["seconds"] * 1e9 / flops - 1) < 0.5  # of samples that need not be the same
assert seen == 4 * 8, seen
assert [x["m"] for x in r.values() if x["name"].startswith("cliff/")] == [2] * 8
END
}

@test "bench gemm: CSV and text say the same, bf16 tiles count where the CPU has them" {
    "$MOEBATCH" bench gemm -m "$top/inputs/configs/qwen3-30b-a3b" --rows 2 --repeats 1 --buffer 1M --csv -o "$work/g.json" >"$work/g.csv"
    "$PYTHON3" - "$work" <<'END'
import csv, json, sys
d = json.load(open(sys.argv[1] + "/g.json"))["results"]
c = list(csv.DictReader(open(sys.argv[1] + "/g.csv", newline="")))
assert [x["name"] for x in c] == [x["name"] for x in d]
for a, b in zip(c, d):
    assert abs(float(a["median"]) - b["median"]) <= 1e-8 * b["median"] and a["unit"] == b["unit"] and int(a["samples"]) == len(b["samples"])
    assert a["formula"] == b.get("formula", "") and (a["bound"] == "") == ("bound" not in b)
g = [x for x in d if x["name"].startswith("gemm/") and x["gemm"] != "router"]
assert {x["type"] for x in g} == {"bf16"} and {(x["n"], x["k"]) for x in g if x["gemm"] == "expert.gate_up"} == {(1536, 2048)}
END
    "$MOEBATCH" bench gemm --buffer 1M --repeats 2 >"$work/text"
    grep -q '^limit/read .* GB/s' "$work/text"
    ! grep -q '^gemm/' "$work/text"
}

@test "bench: what is no question" {
    refused 1 "bench with 0 file names" "$MOEBATCH" bench
    refused 1 "bench 'frobnicate' is unknown" "$MOEBATCH" bench frobnicate
    refused 1 "--json and --csv contradict" "$MOEBATCH" bench gemm --json --csv
    for list in "" 0 1- 3-1 1,,2 1,2x 1-70000 99999999999999999999; do
        refused 1 "--rows '$list' is no list" "$MOEBATCH" bench gemm "--rows=$list"
    done
    refused 1 "--repeats" "$MOEBATCH" bench gemm --repeats 0
    refused 2 "config.json" "$MOEBATCH" bench gemm -m "$work"
    refused 1 "no option of run" "$MOEBATCH" run --buffer 1M
    refused 73 "none/g.json" "$MOEBATCH" bench gemm --buffer 1M --repeats 1 -o "$work/none/g.json"
}

# results FILE NAME BETTER SAMPLE...: a file with one measurement
results() {
    local file=$1 name=$2 better=$3
    shift 3
    "$PYTHON3" -c 'import json, sys
json.dump({"schema": "moebatch-bench/1", "bench": "x", "digest": "d", "results": [{"name": sys.argv[1], "unit": "u", "better": sys.argv[2], "samples": [float(x) for x in sys.argv[3:]]}]}, sys.stdout)' \
        "$name" "$better" "$@" >"$file"
}

@test "bench compare: ratios, intervals, exit codes" {
    results "$work/a" n more 10 11 12 10 11
    results "$work/b" n more 20 22 21 20 22
    "$MOEBATCH" bench compare "$work/a" "$work/b" >"$work/text"
    grep -q '^n .* better$' "$work/text"
    grep -q '^1 compared: 1 better, 0 worse' "$work/text"
    refused 3 "" "$MOEBATCH" bench compare "$work/b" "$work/a" --json -o "$work/c.json"
    cp "$work/out" "$work/out.json"
    "$PYTHON3" - "$work/out.json" "$work/c.json" <<'END'
import json, sys
d = json.load(open(sys.argv[1]))
assert d == json.load(open(sys.argv[2])) and d["worse"] == 1 and d["threshold"] == 0.05
x = d["results"][0]
assert (x["a"], x["b"], x["verdict"]) == (21, 11, "worse") and abs(x["ratio"] - 11 / 21) < 1e-8
assert 10 / 22 <= x["low"] <= x["ratio"] <= x["high"] <= 12 / 20
END
    # less is better: the same figures the other way round
    results "$work/a" n less 10 11 12 10 11
    results "$work/b" n less 20 22 21 20 22
    refused 3 "" "$MOEBATCH" bench compare "$work/a" "$work/b"
    "$MOEBATCH" bench compare "$work/a" "$work/b" --threshold 1.5 >/dev/null # up to 2.5 times is no difference
    "$MOEBATCH" bench compare "$work/b" "$work/a" >/dev/null
    # noise is no difference, one sample is no evidence
    results "$work/a" n more 10 30 20 12 25
    results "$work/b" n more 11 29 12 24 13
    "$MOEBATCH" bench compare "$work/a" "$work/b" --csv >"$work/csv"
    grep -q '^n,u,more,.*,same$' "$work/csv"
    results "$work/a" n more 10
    results "$work/b" n more 1
    "$MOEBATCH" bench compare "$work/a" "$work/b" | grep -q 'few samples'
    # the same requests must give the same answers
    sed 's/"digest": "d"/"digest": "e"/' "$work/a" >"$work/b"
    refused 3 "" "$MOEBATCH" bench compare "$work/a" "$work/b"
    grep -q 'the digests differ' "$work/out"
    sed 's/"digest": "d"/"digest": "e", "seed": 4/' "$work/a" >"$work/b"
    "$MOEBATCH" bench compare "$work/a" "$work/b" >/dev/null
}

@test "results as HDF5: the same as the JSON, and compared" {
    "$MOEBATCH" bench gemm -m "$models/mixtral_a" --rows 2,5 --buffer 1M --repeats 3 --json -o "$work/g.h5" >"$work/g.json"
    "$PYTHON3" - "$work" <<'PY'
import h5py, json, math, sys
f, d = h5py.File(sys.argv[1] + "/g.h5"), json.load(open(sys.argv[1] + "/g.json"))
assert json.loads(f["json"][()]) == d
rows = d["results"]
assert len(rows) > 3 and f.attrs["schema"] == d["schema"] and f.attrs["bench"] == "gemm"
text = lambda key: [x.decode() for x in f["results/" + key][:]]
for key in ("name", "unit", "better"):
    assert text(key) == [r[key] for r in rows]
assert text("formula") == [r.get("formula", "") for r in rows]
for key in ("median", "min", "max", "bound", "fraction"):
    for got, r in zip(f["results/" + key][:], rows):
        want = r.get(key)
        assert math.isnan(got) if want is None else abs(got - want) <= 1e-8 * abs(want), key
at, values = f["samples/offsets"][:], f["samples/values"][:]
for i, r in enumerate(rows):
    assert len(r["samples"]) == at[i + 1] - at[i] == 3
    assert all(abs(a - b) <= 1e-8 * abs(b) for a, b in zip(values[at[i] : at[i + 1]], r["samples"]))
PY
    "$MOEBATCH" bench compare "$work/g.h5" "$work/g.json" >"$work/text"
    grep -q ' 0 better, 0 worse, [1-9]' "$work/text"
    "$MOEBATCH" run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" --max-tokens 1 2>/dev/null
    refused 2 "/json" "$MOEBATCH" bench compare "$work/r.h5" "$work/g.json"
    refused 73 "none/g.h5" "$MOEBATCH" bench gemm --buffer 1M --repeats 1 -o "$work/none/g.h5"
}

@test "bench compare: its own results, and what is none" {
    "$MOEBATCH" bench gemm --buffer 1M --repeats 3 -o "$work/g.json" >/dev/null
    "$MOEBATCH" bench compare "$work/g.json" "$work/g.json" >"$work/text"
    grep -q ' 0 better, 0 worse, [1-9]' "$work/text"
    results "$work/a" n more 1 2 3
    refused 2 "no measurement of one name" "$MOEBATCH" bench compare "$work/a" "$work/g.json"
    refused 2 "No such file" "$MOEBATCH" bench compare "$work/a" "$work/none"
    refused 1 "takes two files" "$MOEBATCH" bench compare "$work/a"
    refused 1 "takes options only" "$MOEBATCH" bench gemm "$work/a"
    refused 1 "--repeats is no option of bench compare" "$MOEBATCH" bench compare "$work/a" "$work/a" --repeats 3
    echo '{"schema": "other/1"}' >"$work/b"
    refused 2 "no results of a benchmark" "$MOEBATCH" bench compare "$work/a" "$work/b"
    for r in '5' '[5]' '[{}]' '[{"name": "n"}]' '[{"name": "n", "samples": []}]' '[{"name": "n", "samples": ["1"]}]' '[{"name": 3, "samples": [1]}]'; do
        echo "{\"schema\": \"moebatch-bench/1\", \"results\": $r}" >"$work/b"
        refused 2 "$work/b: " "$MOEBATCH" bench compare "$work/a" "$work/b"
    done
    printf '[[[[' >"$work/b"
    refused 2 "not JSON" "$MOEBATCH" bench compare "$work/a" "$work/b"
}

@test "scripts/peers: a table of rounds in turns, engines that are not there are left out" {
    "$PYTHON3" "$top/scripts/peers/run.py" "$work/peers" --moebatch "$MOEBATCH" --model "$demo" --workload 4x8+4 --batches 1,4 --rounds 2 \
        --engines moebatch,llama,transformers --threads 1 >"$work/table" 2>"$work/err" || { cat "$work/err"; false; }
    grep -q '^4x8+4 (requests x prompt + output), 1 threads, .*, medians of 2 rounds in turns$' "$work/table"
    grep -q '^engine .*| prefill tok/s .*| decode/B=1 tok/s .*| decode/B=4 tok/s .*| job s .*| command to end s$' "$work/table"
    [ "$(grep -c '^moebatch .*\[' "$work/table")" = 1 ]
    grep -q '^(roofline)' "$work/table"
    ! grep -q '^llama\|^transformers' "$work/table"
    "$MOEBATCH" bench compare "$work/peers/results/moebatch.json" "$work/peers/results/moebatch.json" >"$work/text"
    grep -q ' 0 better, 0 worse' "$work/text"
    refused 1 "there is no engine x" "$PYTHON3" "$top/scripts/peers/run.py" "$work/peers" --moebatch "$MOEBATCH" --model "$demo" --engines x
    bash -n "$top/scripts/peers/install.sh"
    refused 1 "there is no x" bash "$top/scripts/peers/install.sh" "$work/peers" x
}
