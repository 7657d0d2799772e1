# bench calibrate: a profile of the job's speeds, and what plan and --layout auto make of it.
load common.bash

@test "a profile is measured, read, and decides" {
    ranks 2 bench calibrate --repeats 1 --profile-out "$work/p.json" --json >"$work/r.json"
    "$PYTHON3" - "$work" <<'PY'
import json, sys
p, r = (json.load(open(f"{sys.argv[1]}/{n}.json")) for n in "pr")
m = {x["name"]: x["median"] for x in r["results"]}
assert r["bench"] == "calibrate" and p["schema"] == "moebatch-profile/1" and r["profile"].keys() == p.keys()
assert all(abs(r["profile"][k] - p[k]) <= 1e-6 * p[k] for k in p if k != "schema"), (r["profile"], p)
gemm = [m[f"gemm/{n} rows"] for n in (1, 16, 64, 256, 1024)]
assert abs(p["flops"] / 1e9 / max(gemm) - 1) < 1e-6 and min(gemm) > 0
# a row's product reads a weight of two bytes for two operations
assert abs(m["weights read by one row"] / m["gemm/1 rows"] - 1) < 1e-6 and abs(p["bandwidth"] / 1e9 / m["weights read by one row"] - 1) < 1e-6
assert abs(p["link"] / 1e9 / m["bytes inside a node"] - 1) < 1e-6 and abs(p["link_wait"] * 1e6 / m["small message inside a node"] - 1) < 1e-6
assert p["net"] == 0 and p["op"] > 0
fast = dict(p, flops=4e14, bandwidth=2e12, link=4e11, net=1e11, op=3e-6, link_wait=5e-6, net_wait=1e-5)
json.dump(fast, open(sys.argv[1] + "/fast.json", "w"))
json.dump(dict(fast, net=1e8), open(sys.argv[1] + "/slow.json", "w"))
json.dump(dict(fast, net=-1), open(sys.argv[1] + "/bad.json", "w"))
json.dump({"flops": 1}, open(sys.argv[1] + "/none.json", "w"))
PY
    plan() {
        "$MOEBATCH" plan -m "$top/inputs/configs/qwen3-30b-a3b" --cluster "2 nodes x 8 H100-80GB nvlink 8x400Gb" --workload 10000x1024+256 "$@"
    }
    plan --json --profile "$work/fast.json" >"$work/a.json"
    plan --json --profile "$work/slow.json" >"$work/b.json"
    "$PYTHON3" - "$work" <<'PY'
import json, sys
a, b = (json.load(open(f"{sys.argv[1]}/{n}.json")) for n in "ab")
# what was measured is what is reached: the planner's shares of peaks are taken back
assert abs(a["cluster"]["flops"] * 0.6 / 4e14 - 1) < 1e-9 and abs(a["cluster"]["memory_bytes_per_second"] * 0.8 / 2e12 - 1) < 1e-9
assert abs(a["cluster"]["network_bytes_per_second"] * 0.8 / 1e11 - 1) < 1e-9
# over a slow network nothing is faster, and what was chosen for the fast one is looked at again
same = next(x for x in b["layouts"] if x["options"] == a["chosen"]["options"])
assert b["chosen"]["estimate"]["seconds"] <= same["estimate"]["seconds"]
assert b["chosen"]["estimate"]["seconds"] >= a["chosen"]["estimate"]["seconds"] * (1 - 1e-9)
PY
    run plan --profile "$work/fast.json"
    [[ $output == *"from speeds that were measured ($work/fast.json)"* ]]
    for x in bad none no-such; do
        run plan --profile "$work/$x.json"
        [ "$status" -eq 2 ]
        [[ $output == *"$x.json"* ]]
    done
    ranks 2 run -m "$demo" -i "$top/inputs/greedy.jsonl" -o "$work/r.h5" --layout auto --profile "$work/p.json"
    run ranks 2 run -m "$demo" -i "$top/inputs/greedy.jsonl" -o "$work/r2.h5" --profile "$work/bad.json"
    [ "$status" -eq 2 ]
    [[ $output == *"net must be a number from 0"* ]]
}
