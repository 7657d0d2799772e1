# Placements made from an earlier job's usage of experts and from memory: same bits, rows and bytes where the plan says.
load common.bash

f32=5e8f8e6a2a8243f4cfe98f8810f017db
bf16=09d0bc6620c6eae81ab38a986bdbb238

job() {
    local out=$1 n=$2 dtype=$3
    shift 3
    ranks "$n" run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/$out" --overwrite --dtype "$dtype" --save-routing \
        --keep "$@"
}

# Largest over mean of the rows that ranks served
imbalance() {
    "$PYTHON3" -c 'import sys, h5py; r = h5py.File(sys.argv[1])["physical/rows"][:]; print(r.max() / r.mean())' "$1"
}

@test "by usage: no copies, and three of the experts used most" {
    job u.h5 3 bf16
    [ "$("$PYTHON3" "$top/tests/digest.py" "$work/u.h5")" = "$("$MOEBATCH" inspect --digest "$work/u.h5" | tail -1)" ]
    for n in 0 3; do
        job r.h5 3 bf16 --placement usage --expert-usage "$work/u.h5" --num-redundant-experts $n
        [ "$(digest "$work/r.h5")" = "$(digest "$work/u.h5")" ]
        "$PYTHON3" "$top/tests/check_split.py" "$work/r.h5" "$demo"
    done
    "$PYTHON3" - "$work/r.h5" <<'PY'
import json, sys
import h5py
f = h5py.File(sys.argv[1])
use = f["metrics/expert_usage"][:]
for owner, u in zip(json.loads(f["provenance/plan"][()])["owner"], use):
    copies = [len(o) if isinstance(o, list) else 1 for o in owner]
    assert sum(copies) == 8 + 3
    # of equally many rows a copy as can be: no copy more would have been better elsewhere
    assert max(x / c for x, c in zip(u, copies)) <= min(x / (c - 1) for x, c in zip(u, copies) if c > 1)
PY
    job f.h5 3 bf16 --placement usage --expert-usage "$work/u.h5"
    [ "$("$PYTHON3" -c "print($(imbalance "$work/f.h5") < $(imbalance "$work/u.h5"))")" = True ]
}

@test "by capacity, with copies, in stages and slices" {
    job r.h5 4 f32 --placement capacity --num-redundant-experts 4 --pipeline-parallel-size 2
    "$PYTHON3" "$top/tests/check_split.py" "$work/r.h5" "$demo"
    d=$(digest "$work/r.h5")
    job r.h5 4 f32 --placement capacity --num-redundant-experts 2 --expert-tensor-parallel-size 2 --alltoall hier
    [ "$(digest "$work/r.h5")" = "$d" ]
    ranks 2 run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/p.h5" --dtype f32 --placement capacity
    [ "$(digest "$work/p.h5")" = $f32 ]
}

@test "what a placement can't be made from is refused before weights are read" {
    job u.h5 1 bf16
    refuse() {
        run job r.h5 2 bf16 "${@:3}"
        [ "$status" -eq "$1" ]
        [[ $output == *"$2"* ]]
    }
    refuse 1 "needs --expert-usage" --placement usage
    refuse 1 "belongs to --placement usage or capacity" --num-redundant-experts 1
    refuse 1 "belongs to --placement usage or capacity" --expert-usage "$work/u.h5"
    refuse 2 "can have 8 copies more" --placement capacity --num-redundant-experts 9
    refuse 2 "no-such.h5" --placement usage --expert-usage "$work/no-such.h5"
    "$PYTHON3" - "$work/u.h5" <<'PY'
import sys, h5py
f = h5py.File(sys.argv[1], "r+")
v = f["metrics/expert_usage"][:]
del f["metrics/expert_usage"]
f["metrics/expert_usage"] = v[:, :4]
PY
    refuse 2 "has 5 layers of 4 experts, the model 5 of 8" --placement usage --expert-usage "$work/u.h5"
}
