# Placements by measured loads: against DeepSeek's balancer, through plans and jobs, from one revision to the next.
load common.bash

job() {
    local out=$1 n=$2
    shift 2
    ranks "$n" run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/$out" --overwrite --dtype bf16 --save-routing --keep "$@"
}

plan() {
    "$MOEBATCH" plan -m "$demo" --cluster "2 nodes x 2 EPYC-9654 64GB 400Gb" --attention-data-parallel-size 4 --expert-parallel-size 4 \
        --workload "24x16+48" --placement usage --expert-usage "$work/u.h5" --num-redundant-experts 4 "$@"
}

@test "nowhere worse than the published balancer: drawn and recorded routes" {
    job u.h5 1
    "$PYTHON3" - >"$work/q.jsonl" <<'PY'
import json, random
r = random.Random(3)
for i in range(32):
    print(json.dumps({"id": i, "prompt_ids": [3 + int(292 * r.random() ** 2) for _ in range(20)], "max_tokens": 40, "ignore_eos": True, "seed": i}))
PY
    "$MOEBATCH" run -m "$models/qwen3moe_a" -i "$work/q.jsonl" -o "$work/q.h5" --save-routing --dtype f32
    "$PYTHON3" "$top/tests/balance.py" "$top_builddir/tests/place" "$work/u.h5" "$work/q.h5"
}

@test "a plan's placement runs with the same bits, its quotas are kept, its next revision moves little" {
    job u.h5 1
    run plan --placement-out "$work/p.json"
    [ "$status" -eq 0 ]
    [[ $output =~ "by usage, 60 copies of 40 experts in all layers; rows of the fullest shard "(1\.[0-9]*)" of the mean (equal ranges: "(1\.[0-9]*) ]]
    "$PYTHON3" -c "assert ${BASH_REMATCH[1]} <= 1.05 and ${BASH_REMATCH[2]} > ${BASH_REMATCH[1]}"
    job r.h5 4 --placement "$work/p.json"
    [ "$(digest "$work/r.h5")" = "$(digest "$work/u.h5")" ]
    "$PYTHON3" "$top/tests/check_split.py" "$work/r.h5" "$demo"
    "$PYTHON3" - "$work" <<'PY'
import h5py, json, sys
work = sys.argv[1]
f, p = h5py.File(work + "/r.h5"), json.load(open(work + "/p.json"))
plan = json.loads(f["provenance/plan"][()])
assert (plan["owner"], plan["quota"]) == (p["owner"], p["quota"]) and any(q for q in sum(p["quota"], []))
r = f["physical/rows"][:]
assert r.max() <= 1.06 * r.mean(), r
PY
    run plan --placement-before "$work/p.json" --placement-out "$work/p2.json"
    [ "$status" -eq 0 ]
    [[ $output == *"revision 2, 0 copies move"* ]]
    "$PYTHON3" -c "
import json
a, b = json.load(open('$work/p.json')), json.load(open('$work/p2.json'))
assert a['owner'] == b['owner'] and (a['placement_revision'], b['placement_revision']) == (1, 2)"
    job r.h5 4 --placement usage --expert-usage "$work/u.h5" --num-redundant-experts 4 --expert-tensor-parallel-size 2 --alltoall hier
    [ "$(digest "$work/r.h5")" = "$(digest "$work/u.h5")" ]
    job r.h5 4 --placement usage --expert-usage "$work/u.h5" --num-redundant-experts 2 --pipeline-parallel-size 2 --expert-scope lane
    [ "$(digest "$work/r.h5")" = "$(digest "$work/u.h5")" ]
    "$PYTHON3" "$top/tests/check_split.py" "$work/r.h5" "$demo"
    job r.h5 3 --placement usage --expert-usage "$work/u.h5" --num-redundant-experts 4 --zero-inference 150
    [ "$(digest "$work/r.h5")" = "$(digest "$work/u.h5")" ]

    # usage of several results, of a saved routing alone, and what is none
    plan --placement-out "$work/a.json" >/dev/null
    "$PYTHON3" - "$work" <<'PY'
import h5py, shutil, sys
work = sys.argv[1]
for name, set in (("trace", "metrics/expert_usage"), ("none", "routing/experts")):
    shutil.copy(work + ("/u.h5" if name == "trace" else "/trace.h5"), f"{work}/{name}.h5")
    with h5py.File(f"{work}/{name}.h5", "r+") as f:
        del f[set]
shutil.copy(work + "/trace.h5", work + "/bad.h5")
f = h5py.File(work + "/bad.h5", "r+")
f["routing/experts"][1, 3, 0] = 8
PY
    plan --expert-usage "$work/trace.h5" --placement-out "$work/b.json" >/dev/null
    cmp "$work/a.json" "$work/b.json"
    plan --expert-usage "$work/trace.h5,$work/u.h5" --placement-out "$work/b.json" >/dev/null
    cmp "$work/a.json" "$work/b.json" # twice the same is the same
    refuse() {
        run plan "${@:3}"
        [ "$status" -eq "$1" ]
        [[ $output == *"$2"* ]]
    }
    refuse 2 "names expert 8 of 8" --expert-usage "$work/bad.h5"
    refuse 2 "has neither /metrics/expert_usage nor /routing/experts" --expert-usage "$work/none.h5"
    refuse 2 "no-such.json" --placement-before "$work/no-such.json"
    refuse 73 "no-such-dir" --placement-out "$work/no-such-dir/p.json"
    refuse 1 "--placement-before belongs to --placement usage or capacity" --placement uniform --expert-usage "" --num-redundant-experts 0 --placement-before x
}
