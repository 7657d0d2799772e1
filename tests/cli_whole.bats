# A result says whether it is whole: checksums and digests in the file, and what they notice.
load common.bash

few() {
    head -n 6 "$top/inputs/prompts.jsonl" >"$work/in.jsonl"
    echo '{"id": "bad", "prompt": 5}' >>"$work/in.jsonl"
}

job() {
    local n=$1 out=$2
    shift 2
    ranks "$n" run -m "$demo" -i "$work/in.jsonl" -o "$work/$out" --dtype f32 "$@"
}

@test "both digests are in the file and independently right; that of tokens does not depend on what is saved" {
    few
    job 1 a.h5
    job 3 b.h5 --save-routing --save-logits=last --save-hidden
    for f in a b; do
        [ "$(digest "$work/$f.h5")" = "$("$PYTHON3" "$top/tests/digest.py" "$work/$f.h5")" ]
        run "$MOEBATCH" inspect --check "$work/$f.h5"
        [ "$status" = 0 ]
        [[ $output == *"is whole"*"digest_tokens : $("$PYTHON3" "$top/tests/digest.py" "$work/a.h5" --tokens)"* ]]
        "$MOEBATCH" inspect "$work/$f.h5" | grep -q "$(digest "$work/$f.h5")"
    done
    [ "$(digest "$work/a.h5")" = "$("$PYTHON3" "$top/tests/digest.py" "$work/b.h5" --tokens)" ]
    [ "$(digest "$work/a.h5")" != "$(digest "$work/b.h5")" ]
    "$PYTHON3" - "$work" <<'PY'
import h5py, sys
for name in "ab":
    f = h5py.File(f"{sys.argv[1]}/{name}.h5")
    assert f.attrs["digest"] and f.attrs["digest_tokens"] and f.attrs["contents"]
    none, n = [], []
    def look(path, d):
        if isinstance(d, h5py.Dataset):
            if not path.startswith("axes/"):
                assert len(d.attrs["xxh3"]) == 32, path
            n.append(path)
            if d.chunks is not None and not d.fletcher32:
                none.append(path)
    f.visititems(look)
    assert n and not none, none
    assert f["tokens/output_ids"].fletcher32 and (name == "a" or f["logits"].fletcher32)
PY
}

@test "one changed byte anywhere: noticed, or nothing that can be read has changed" {
    few
    job 1 a.h5 --save-hidden
    "$PYTHON3" - "$work/a.h5" "$MOEBATCH" <<'PY'
import h5py, random, subprocess, sys
path, prog = sys.argv[1:3]
good = open(path, "rb").read()

def values(p):
    out = {}
    with h5py.File(p) as f:
        f.visititems(lambda n, d: out.update({n: d[()].tobytes() if d.dtype != object else str(d[()])})
                     if isinstance(d, h5py.Dataset) else None)
    return out

want, draw, noticed, bad = values(path), random.Random(5), 0, path + ".bad.h5"
for at in sorted(draw.sample(range(len(good)), 60)):
    data = bytearray(good)
    data[at] ^= 1 << draw.randrange(8)
    open(bad, "wb").write(data)
    rc = subprocess.run([prog, "inspect", "--check", bad], capture_output=True, timeout=60).returncode
    assert rc in (0, 2), (at, rc)
    noticed += rc == 2
    if rc == 0:
        assert values(bad) == want, at
assert noticed > 10, noticed
PY
}

@test "a changed value is named: tokens, ids, texts, reasons of errors, provenance, a dataset more or less" {
    few
    job 1 a.h5 --save-hidden
    "$PYTHON3" - "$work/a.h5" "$MOEBATCH" <<'PY'
import h5py, shutil, subprocess, sys
path, prog = sys.argv[1:3]
bad = path + ".bad.h5"

def change(what, name, rc=2):
    shutil.copy(path, bad)
    with h5py.File(bad, "r+") as f:
        what(f)
    r = subprocess.run([prog, "inspect", "--check", bad], capture_output=True, text=True)
    assert r.returncode == rc and name in r.stderr, (name, r)

def put(name, at, value):
    def what(f):
        f[name][at] = value
    return what

change(lambda f: None, "", 0)
change(put("tokens/output_ids", 0, 1), "/tokens/output_ids")
change(put("requests/id", 2, "other"), "/requests/id")
change(put("requests/text", 1, "other"), "/requests/text")
change(put("requests/error", 6, "other"), "/requests/error")
change(put("requests/status", 0, 3), "/requests/status")
change(put("hidden", (0, 0, 0), 7.0), "/hidden")
change(put("timing/ttft", 0, 7.0), "/timing/ttft")
change(put("provenance/command", (), "other"), "/provenance/command")
change(lambda f: f["metrics"].pop("steps"), "contents")
change(lambda f: f.create_dataset("metrics/more", data=[1, 2]), "/metrics/more")
change(lambda f: f.attrs.modify("lines", 9), "contents")
change(lambda f: f.attrs.pop("digest"), "digest")
shutil.copy(path, bad)
with h5py.File(bad, "r+") as f:
    f["requests/text"][1] = "other"
r = subprocess.run([prog, "inspect", "--digest", bad], capture_output=True, text=True)
assert r.returncode == 2 and len(r.stdout.split()) == 1 and "--check" in r.stderr, r
PY
}

@test "merged and partial results are sealed too" {
    few
    job 1 p1.h5 --shard 1/2
    job 1 p2.h5 --shard 2/2
    job 1 whole.h5
    "$MOEBATCH" merge -o "$work/m.h5" "$work/p1.h5" "$work/p2.h5"
    "$MOEBATCH" inspect --check "$work/m.h5"
    [ "$(digest "$work/m.h5")" = "$(digest "$work/whole.h5")" ]
}

@test "every dataset has a long name, a unit, named axes with scales; merged parts too" {
    few
    job 1 a.h5 --save-routing --save-logits=last --save-hidden
    job 3 z.h5 --zero-inference 50
    job 1 p1.h5 --shard 1/2 --save-routing
    job 2 p2.h5 --shard 2/2 --save-routing
    "$MOEBATCH" merge -o "$work/m.h5" "$work/p1.h5" "$work/p2.h5"
    "$PYTHON3" - "$work" <<'PY'
import h5py, sys
bad, seen = [], set()
for name in "azm":
    f = h5py.File(f"{sys.argv[1]}/{name}.h5")

    def look(path, d):
        if not isinstance(d, h5py.Dataset):
            return
        seen.add(path)
        if not d.attrs.get("long_name") or d.attrs.get("units") is None:
            bad.append((name, path, "name or unit"))
        for i, dim in enumerate(d.dims):
            if h5py.h5ds.is_scale(d.id):
                continue
            good = dim.label and list(dim.keys()) == [dim.label] and dim[0].shape == (d.shape[i],)
            if not good:
                bad.append((name, path, i, dim.label, list(dim.keys())))

    f.visititems(look)
    assert f["tokens/output_logprobs"].attrs["units"] == "nat" and f["requests/text"].dims[0][0].name == "/requests/id"
assert not bad, bad
for path in ("hidden", "logits", "physical/experts_on_demand", "physical/part-0001/rows", "metrics/part-0002/expert_usage",
             "provenance/part-0002/host", "metrics/seconds", "metrics/expert_usage"):
    assert path in seen, path
PY
}
