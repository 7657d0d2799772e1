# Shards, partial files, inputs and models that change under a job: nothing is lost and nothing is mixed.
load resume.bash

@test "shards joined have the digest of the whole" {
    reference
    for i in 1 2 3; do
        ranks 1 run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/s$i.h5" --dtype bf16 --shard $i/3
    done
    "$MOEBATCH" merge "$work/s3.h5" "$work/s1.h5" "$work/s2.h5" -o "$work/m.h5"
    [ "$(digest "$work/m.h5")" = "$ref" ]
    run "$MOEBATCH" merge "$work/s1.h5" "$work/s2.h5" -o "$work/n.h5"
    [ "$status" = 2 ]
}

@test "joined shards keep what each of them counted, and who served which row" {
    for i in 1 2; do
        ranks $i run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/s$i.h5" --dtype bf16 --save-routing --shard $i/2
    done
    "$MOEBATCH" merge "$work/s1.h5" "$work/s2.h5" -o "$work/m.h5"
    "$PYTHON3" - "$work" <<'END'
import sys, h5py, numpy as np
m, *parts = (h5py.File(f"{sys.argv[1]}/{n}.h5") for n in ("m", "s1", "s2"))
ranks = np.concatenate([p["physical/rank"][:] for p in parts], axis=1)
assert (m["physical/rank"][:] == ranks).all() and ranks.max() == 1
for i, p in enumerate(parts):
    kept = m[f"physical/part-{i + 1:04}"]
    assert set(kept) == set(p["physical"]) - {"rank"} and len(kept) >= 7, list(p["physical"])
    for name in kept:
        assert (kept[name][:] == p["physical"][name][:]).all(), name
        same = lambda d: {k: v for k, v in d.attrs.items() if not k.startswith("DIMENSION") and k not in ("REFERENCE_LIST", "xxh3")}
        assert same(kept[name]) == same(p["physical"][name]) and same(kept[name])["long_name"], name
    assert len(kept["rows"]) == i + 1 and kept["rows"][:].sum() > 0
END
}

@test "a partial file of a stopped job, error rows, --strict" {
    run job 2 --max-hours 0.0008 --max-num-seqs 3 --isa portable
    [ "$status" = 75 ]
    "$MOEBATCH" assemble "$work/r.h5" --partial
    "$PYTHON3" -c "import h5py, sys; f = h5py.File(sys.argv[1]); assert len(f['requests/status']) == 25 and (f['requests/status'][:] == 3).any()" "$work/r.h5"
    printf '%s\n' '{"id": "good", "prompt": "Hello", "max_tokens": 3}' '{"id": "bad", "prompt": 7}' 'no json' >"$work/in.jsonl"
    run ranks 2 run -m "$demo" -i "$work/in.jsonl" -o "$work/e.h5" --strict
    [ "$status" = 3 ]
    "$PYTHON3" -c "import h5py, sys; f = h5py.File(sys.argv[1]); assert list(f['requests/status'][:]) == [0, 1, 1], f['requests/status'][:]; assert b'prompt' in f['requests/error'][1]" "$work/e.h5"
}

@test "an input that is changed in place while the job runs ends it, by the line's number" {
    python3 -c '
for i in range(150):
    print("{\"id\": \"r%d\", %s \"prompt\": \"The package number %d is\", \"max_tokens\": 8}" % (i, " " * 60000, i))' >"$work/in.jsonl"
    tr P Q <"$work/in.jsonl" | sed 's/package/library/' >"$work/other.jsonl"
    # ends by itself: the time of the change does not matter, as long as lines are left to read
    (until [ -s "$work/r.h5.d/status.json" ]; do sleep 0.01; done; cat "$work/other.jsonl" 1<>"$work/in.jsonl" >&1) &
    run ranks 2 run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --isa portable --max-num-seqs 2
    wait
    echo "$output"
    [ "$status" = 2 ]
    [[ $output == *"in.jsonl: line "*" is not what it was when the job began"* ]]
    [ ! -e "$work/r.h5" ]
}

# One byte of one file; the file's size and the headers of weights stay.
spoil() {
    python3 -c '
import sys
f = open(sys.argv[1], "r+b")
f.seek(int(sys.argv[2]), 2)
b = f.read(1)
f.seek(-1, 1)
f.write(bytes([b[0] ^ 1]))' "$1" "$2"
}

@test "a resume with other weights, tokenizer or adapter contents is refused by the file's name" {
    cp -r "$demo" "$work/model"
    run ranks 2 run -m "$work/model" -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" --max-hours 0.0004 --max-num-seqs 2 --isa portable
    [ "$status" = 75 ]
    for file in model.safetensors tokenizer.json; do
        spoil "$work/model/$file" -3
        run ranks 1 run -m "$work/model" -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" --resume --zero-inference 4 --max-num-seqs 2
        echo "$output"
        [ "$status" = 2 ] || [ $file = tokenizer.json ] # which may be no JSON any more
        [[ $output == *"$file"* ]]
        [ ! -e "$work/r.h5" ]
        spoil "$work/model/$file" -3
    done
    ranks 3 run -m "$work/model" -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" --resume
    "$PYTHON3" - "$work/r.h5" "$work/model/model.safetensors" <<'P'
import struct, sys, h5py, xxhash
f, d = h5py.File(sys.argv[1]), open(sys.argv[2], "rb").read()
step = 1 << 20
want = xxhash.xxh3_128_hexdigest(b"".join(struct.pack("<Q", xxhash.xxh3_64_intdigest(d[i:i + step])) for i in range(0, len(d), step)))
got = {n.decode(): (b, h.decode()) for n, b, h in zip(f["provenance/files"], f["provenance/file_bytes"], f["provenance/file_hashes"])}
assert got["model.safetensors"] == (len(d), want), (got, want)
assert all(len(h) == 32 for _, h in got.values()) and {"tokenizer.json", "config.json"} <= set(got)
P
}
