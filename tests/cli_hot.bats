# Routing much hotter than planned: every row is one token, so every row has the same experts. It goes through in rounds, with
# the results of one rank and no more memory than planned.
load common.bash

requests() {
    "$PYTHON3" - "$work/in.jsonl" <<'EOF'
import json, sys
with open(sys.argv[1], "w") as f:
    for i in range(6):
        print(json.dumps({"id": i, "prompt": " the" * (150 + i), "max_tokens": 3, "temperature": 0}), file=f)
EOF
}

job() {
    local n=$1 out=$2
    shift 2
    ranks "$n" run -m "$demo" -i "$work/in.jsonl" -o "$work/$out" --max-batch-rows 256 --max-num-seqs 4 "$@" 2>"$work/$out.log"
}

within_plan() {
    "$PYTHON3" - "$1" <<'EOF'
import h5py, json, sys
with h5py.File(sys.argv[1]) as f:
    names = [n.decode() if isinstance(n, bytes) else n for n in f["metrics/memory_categories"][()]]
    most = f["metrics/memory_peak"][()][:, names.index("exchange")].max()
    planned = json.loads(f["provenance/plan"][()])["budget"]["exchange"]
assert 0 < most <= planned + 4096, (most, planned)
EOF
}

@test "rows that all have the same experts: rounds, the same results, the planned memory" {
    requests
    job 1 one.h5
    job 8 flat.h5 --alltoall flat
    job 8 hier.h5 --alltoall hier
    [ "$(digest "$work/one.h5")" = "$(digest "$work/flat.h5")" ]
    [ "$(digest "$work/one.h5")" = "$(digest "$work/hier.h5")" ]
    within_plan "$work/flat.h5"
    within_plan "$work/hier.h5"
}

@test "the same with experts on demand, and a sequence in two parts" {
    requests
    job 1 one.h5 --kv-segment 64
    job 8 zero.h5 --zero-inference 50 --kv-segment 64
    job 8 parts.h5 --sequence-parallel-size 2 --kv-segment 64
    [ "$(digest "$work/one.h5")" = "$(digest "$work/zero.h5")" ]
    [ "$(digest "$work/one.h5")" = "$(digest "$work/parts.h5")" ]
    within_plan "$work/parts.h5"
}
