# What a job counts is counted over all its runs, and merged results count what their parts did.
load common.bash

few() { # tokens
    head -n 8 "$top/inputs/prompts.jsonl" | "$PYTHON3" -c "
import json, sys
for l in sys.stdin: print(json.dumps({**json.loads(l), 'max_tokens': $1, 'ignore_eos': True}))" >"$work/in.jsonl"
}

job() {
    local n=$1 out=$2
    shift 2
    ranks "$n" run -m "$demo" -i "$work/in.jsonl" -o "$work/$out" --dtype f32 "$@"
}

counted() { # results: usage of every layer, rows attended, rows of experts and by layer all say the same, and no less than rows there are
    "$PYTHON3" - "$1" <<'PY'
import h5py, sys
f = h5py.File(sys.argv[1])
usage, k = f["metrics/expert_usage"][:].sum(1), 2
attended, rows = f["metrics/attended_rows"][:].sum(), f["rows/offsets"][-1]
print(usage, attended, rows, f["metrics/runs"][()])
assert (usage == attended * k).all(), (usage, attended)
assert attended >= rows, (attended, rows)
assert f["physical/layer_rows"][:].sum() == f["physical/rows"][:].sum() == usage.sum()
assert (f["metrics/peak_bytes"][:] >= f["metrics/memory_peak"][:].max(1)).all()
PY
}

@test "stopped and resumed on other numbers of ranks: counters of all runs" {
    few 60
    run job 2 a.h5 --max-hours 0.00001
    for n in 3 1 2; do
        [ "$status" = 75 ] || break
        run job "$n" a.h5 --resume --max-hours 0.0001
    done
    [ "$status" = 0 ] || job 1 a.h5 --resume
    counted "$work/a.h5"
    job 1 b.h5 --placement usage --expert-usage "$work/a.h5"
}

@test "assembled by the tool: counters of all runs; a damaged file of them costs only itself" {
    few 20
    job 2 a.h5 --keep
    rm "$work/a.h5"
    cp -r "$work/a.h5.d" "$work/b.h5.d"
    "$MOEBATCH" assemble "$work/a.h5"
    counted "$work/a.h5"
    echo x >>"$work/b.h5.d/run-0001/counts-000001"
    run "$MOEBATCH" assemble "$work/b.h5"
    [ "$status" = 0 ]
    [[ $output == *"counts-000001 is left out"* ]]
    [ "$(digest "$work/a.h5")" = "$(digest "$work/b.h5")" ]
}

@test "merged results serve as usage; results that counted nothing do not" {
    few 5
    job 1 p1.h5 --shard 1/2
    job 1 p2.h5 --shard 2/2
    "$MOEBATCH" merge -o "$work/m.h5" "$work/p1.h5" "$work/p2.h5"
    "$PYTHON3" - "$work" <<'PY'
import h5py, sys
m, a, b = (h5py.File(f"{sys.argv[1]}/{n}.h5")["metrics/expert_usage"][:] for n in ("m", "p1", "p2"))
assert (m == a + b).all() and a.sum() > 0 and b.sum() > 0
PY
    job 1 b.h5 --placement usage --expert-usage "$work/m.h5"
    echo '{"id": "bad", "prompt": 5}' >"$work/in.jsonl"
    run job 1 z.h5
    [ "$status" = 3 ]
    few 5
    run job 1 c.h5 --placement usage --expert-usage "$work/z.h5"
    [ "$status" = 2 ]
    [[ $output == *"has counted no row"* ]]
}
