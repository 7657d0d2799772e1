# plan --simulate and --price: routes drawn and recorded, placements, what is printed and its JSON.
load common.bash

plan() {
    "$MOEBATCH" plan -m "$top/inputs/configs/qwen3-30b-a3b" --cluster "4 nodes x 8 H100-80GB nvlink 8x400Gb" --tensor-parallel-size 1 \
        --pipeline-parallel-size 1 --data-parallel-size 1 --expert-parallel-size 32 --workload 10000x1024+256 "$@"
}

@test "balance, bytes and time of a step follow the routes; cost follows the price" {
    plan --json --price 12.5 --alltoall hier --simulate uniform --simulate-rows 16 >"$work/u.json"
    plan --json --alltoall hier --simulate zipf:1.5 --simulate-rows 16 >"$work/z.json"
    plan --json --alltoall flat --simulate uniform --simulate-rows 16 >"$work/f.json"
    plan --json --alltoall hier --simulate uniform --simulate-rows 16 --seed 2 >"$work/s.json"
    "$PYTHON3" - "$work" <<'PY'
import json, sys
u, z, f, s = (json.load(open(f"{sys.argv[1]}/{n}.json")) for n in "uzfs")
cost = u["cost"]
assert abs(cost["node_hours"] - 4 * u["chosen"]["estimate"]["seconds"] / 3600) < 1e-9
assert abs(cost["price"] - 12.5 * cost["node_hours"]) < 1e-9 and "price" not in z["cost"]
a, b, c, d = (x["simulation"] for x in (u, z, f, s))
assert a["layers"] == 48 and a["group_ranks"] == 32 and a["rows_of_a_rank"] == 16
rows = 48 * 32 * 16
row = 2 * 8 + 4 * 8 + 2 * 2048  # ids, weights, the row in bf16
# 32 ranks send a message to each of 3 other nodes in each layer, two where there is more than --a2a-eager
inter = a["dispatch"]["inter"]
assert 48 * 32 * 3 <= inter["messages"] <= 2 * 48 * 32 * 3
assert inter["bytes"] - 64 * 48 * 32 * 3 == row * round(a["reach"] * rows)
assert 2.5 < a["reach"] < 3 and list(a["dispatch"]) == ["inter"]
# each node is reached with 1 - C(96, 8) / C(128, 8) of the rows, as drawn evenly
p = 1.0
for i in range(8):
    p *= (96 - i) / (128 - i)
assert abs(a["reach"] / 3 - (1 - p)) < 0.005, a["reach"]
assert b["fullest_shard_mean"] > 3 * a["fullest_shard_mean"] and b["step_seconds"]["experts"] > a["step_seconds"]["experts"]
assert c["dispatch"]["inter"]["bytes"] > 1.5 * inter["bytes"] and c["dispatch"]["shm"]["messages"] >= 48 * 32 * 7
assert d["dispatch"] != a["dispatch"] and abs(d["reach"] / a["reach"] - 1) < 0.01
t = a["step_seconds"]
assert abs(t["all"] - t["experts"] - t["exchange"] - t["rest"]) < 1e-12 and 0.4 < t["all"] / t["estimate"] < 2.5
PY
    plan --json >"$work/all.json"
    plan --json --zero-inference 25 >"$work/quarter.json"
    "$PYTHON3" - "$work" <<'PY'
import json, sys
a, q = (json.load(open(f"{sys.argv[1]}/{n}.json"))["chosen"] for n in ("all", "quarter"))
assert q["bytes"]["experts"] < 0.3 * a["bytes"]["experts"], (a, q)
assert q["estimate"]["decode_tokens_per_second"] < 0.5 * a["estimate"]["decode_tokens_per_second"], (a, q)
PY
    run plan --price 12.5 --simulate zipf:1.5 --simulate-rows 16
    [ "$status" -eq 0 ]
    [[ $output == *"at 12.5 a node-hour"* && $output == *"of the mean in the mean over layers"* && $output == *"by the planner's means"* ]]
}

@test "recorded routes of the demo; a placement by their usage evens them out" {
    ranks 1 run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" --dtype bf16 --save-routing
    demo_plan() {
        "$MOEBATCH" plan -m "$demo" --cluster "2 nodes x 2 EPYC-9654 64GB 400Gb" --attention-data-parallel-size 4 --expert-parallel-size 4 \
            --workload 24x16+48 --simulate "$work/r.h5" --simulate-rows 300 --json "$@"
    }
    demo_plan >"$work/a.json"
    demo_plan --placement usage --expert-usage "$work/r.h5" --num-redundant-experts 4 >"$work/b.json"
    "$PYTHON3" - "$work" <<'PY'
import h5py, json, numpy as np, sys
a, b = (json.load(open(f"{sys.argv[1]}/{n}.json"))["simulation"] for n in "ab")
x = h5py.File(sys.argv[1] + "/r.h5")["routing/experts"][:, :]
rows = x[:, np.arange(1200) % x.shape[1]]
load = np.array([np.bincount(r.reshape(-1) // 2, minlength=4) for r in rows])
want = (load.max(1) / load.mean(1)).mean()
assert abs(a["fullest_shard_mean"] - want) < 1e-9, (a["fullest_shard_mean"], want)
assert b["fullest_shard_mean"] < 1 + (want - 1) / 2, (b["fullest_shard_mean"], want)
PY
    refuse() {
        run "$MOEBATCH" plan -m "$demo" --cluster "2 nodes x 2 EPYC-9654 64GB 400Gb" --workload 24x16+48 "${@:3}"
        [ "$status" -eq "$1" ]
        [[ $output == *"$2"* ]]
    }
    refuse 1 "neither uniform nor zipf:S" --simulate zipf:x
    refuse 2 "no-such.h5" --simulate "$work/no-such.h5"
    refuse 2 "stages share theirs" --simulate uniform --expert-scope lane --pipeline-parallel-size 2
    run "$MOEBATCH" plan -m "$top/inputs/configs/qwen3-30b-a3b" --cluster "4 nodes x 8 H100-80GB nvlink 8x400Gb" --simulate "$work/r.h5"
    [ "$status" -eq 2 ]
    [[ $output == *"the model routes to 8 in 48"* ]]
}
