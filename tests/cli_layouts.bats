# The promise: one digest for every layout, batch size, thread count, instruction set and order of the input. The digests are
# constants: they hold on every machine and compiler; a change of one bit anywhere in a row's arithmetic changes them.
load common.bash

f32=5e8f8e6a2a8243f4cfe98f8810f017db
bf16=09d0bc6620c6eae81ab38a986bdbb238

# job OUT DTYPE RANKS OPTION...
job() {
    local out=$1 dtype=$2 n=$3
    shift 3
    ranks "$n" run -m "$demo" -i "${input:-$top/inputs/prompts.jsonl}" -o "$work/$out" --overwrite --dtype "$dtype" "$@"
}

@test "bf16 on 1 rank" {
    job r.h5 bf16 1
    [ "$(digest "$work/r.h5")" = $bf16 ]
}

@test "bf16 on 3 ranks, flat, one sequence at a time" {
    job r.h5 bf16 3 --alltoall flat --max-num-seqs 1
    [ "$(digest "$work/r.h5")" = $bf16 ]
}

@test "bf16 on 4 ranks, hier, scattered experts, two threads, portable C" {
    job r.h5 bf16 4 --alltoall hier --placement scattered --threads 2 --isa portable
    [ "$(digest "$work/r.h5")" = $bf16 ]
}

@test "f32 on 2 ranks, hier" {
    job r.h5 f32 2 --alltoall hier
    [ "$(digest "$work/r.h5")" = $f32 ]
}

@test "f32 on 5 ranks, flat, small steps, shuffled input" {
    shuf --random-source="$top/inputs/prompts.jsonl" "$top/inputs/prompts.jsonl" >"$work/shuffled.jsonl"
    input=$work/shuffled.jsonl job r.h5 f32 5 --alltoall flat --max-batch-rows 7 --max-num-seqs 7
    [ "$(digest "$work/r.h5")" = $f32 ]
}

@test "memory that is closed outside operations gives the same bits" {
    MOEBATCH=$top_builddir/tests/moebatch_guard job r.h5 bf16 2
    [ "$(digest "$work/r.h5")" = $bf16 ]
}

@test "the independent digest agrees; one changed bit is seen" {
    job r.h5 bf16 2 --save-routing
    d=$(digest "$work/r.h5")
    [ "$("$PYTHON3" "$top/tests/digest.py" "$work/r.h5")" = "$d" ]
    for path in /tokens/output_ids /tokens/output_logprobs /routing/experts /routing/weights /requests/text; do
        cp "$work/r.h5" "$work/c.h5"
        "$PYTHON3" - "$work/c.h5" "$path" <<'PY'
import sys, h5py
f = h5py.File(sys.argv[1], "r+")
d = f[sys.argv[2]]
if d.dtype.kind == "O":
    v = d[0]
    d[0] = v[:-1] + bytes([v[-1] ^ 1])
else:
    a = d[...]
    b = a.view("u%d" % a.dtype.itemsize)
    b.reshape(-1)[0] ^= 1
    d[...] = a
PY
        [ "$(digest "$work/c.h5")" != "$d" ]
        [ "$("$PYTHON3" "$top/tests/digest.py" "$work/c.h5")" = "$(digest "$work/c.h5")" ]
    done
}

@test "experts are spread: bytes of a rank, rows served, bytes exchanged" {
    job r.h5 bf16 3 --save-routing
    "$PYTHON3" "$top/tests/check_spread.py" "$work/r.h5"
    job r.h5 f32 10 --alltoall hier --placement scattered # more ranks than experts
    "$PYTHON3" "$top/tests/check_spread.py" "$work/r.h5"
    [ "$(digest "$work/r.h5")" = $f32 ]
}
