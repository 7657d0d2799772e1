# Results as they come from elsewhere: large, hostile, or with anything in their ids.
load common.bash

small() {
    cat >"$work/in.jsonl" <<'END'
{"id": "a\n\u001b[31mred", "prompt": "int main(", "max_tokens": 4, "temperature": 0}
{"id": "b", "text": "To be or not to be"}
END
    ranks 1 run -m "$demo" -i "$work/in.jsonl" -o "$work/small.h5" --dtype f32
}

@test "a row that claims more tokens than its file holds costs nothing" {
    small
    "$PYTHON3" - "$work" <<'END'
import h5py, resource, shutil, subprocess, sys, os
w, n = sys.argv[1], 2 ** 30
shutil.copy(f"{w}/small.h5", f"{w}/bomb.h5")
with h5py.File(f"{w}/bomb.h5", "r+") as g:
    for name, dt in (("tokens/prompt_ids", "i4"), ("tokens/prompt_logprobs", "f4")):
        del g[name]
        g.create_dataset(name, (n,), dtype=dt, chunks=(65536,), compression="gzip")
    o = g["tokens/prompt_offsets"][:]
    o[1:] = n
    g["tokens/prompt_offsets"][:] = o
for how in ([], ["--digest"], ["--text"]):
    r = subprocess.run([os.environ["MOEBATCH"], "inspect", f"{w}/bomb.h5", *how], capture_output=True, text=True)
    assert r.returncode == 2 and "than the file holds" in r.stderr, (how, r)
r = subprocess.run([os.environ["MOEBATCH"], "merge", f"{w}/bomb.h5", "-o", f"{w}/m.h5"], capture_output=True, text=True)
assert r.returncode == 2, r
assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 500000
END
}

@test "what inspect takes does not grow with the texts of a file" {
    small
    "$PYTHON3" - "$work" <<'END'
import h5py, numpy as np, sys
w, n, text = sys.argv[1], 30000, "x" * 5000
with h5py.File(f"{w}/small.h5") as f, h5py.File(f"{w}/large.h5", "w") as g:
    for k in ("schema", "complete", "input_lines", "first_line", "lines", "requests"): # not the digests of the other rows
        g.attrs.create(k, f.attrs[k], dtype=f.attrs.get_id(k).dtype)
    for name, v in (("id", None), ("error", ""), ("text", text)):
        d = g.create_dataset("requests/" + name, (n,), dtype=h5py.string_dtype("utf-8"))
        d[:] = [str(n - i) for i in range(n)] if v is None else [v] * n
    put = lambda name, dt, v, m=n: g.create_dataset(name, data=np.full((m,), v, dt))
    g["requests/line"] = np.arange(n, dtype="u8")
    put("requests/choice", "u4", 0)
    for name in ("kind", "status", "finish_reason", "is_greedy"):
        put("requests/" + name, "u1", 0)
    put("requests/logprob_sum", "f8", 0)
    for name in ("queue", "ttft", "tpot", "end_to_end"):
        put("timing/" + name, "f8", 0)
    for p in ("prompt", "output"):
        put(f"tokens/{p}_offsets", "i8", 0, n + 1), put(f"tokens/{p}_ids", "i4", 0, 0), put(f"tokens/{p}_logprobs", "f4", 0, 0)
    put("rows/offsets", "i8", 0, n + 1)
END
    "$PYTHON3" - "$work" <<'END'
import os, resource, subprocess, sys
w = sys.argv[1] # a new process: until it is replaced, a child is as large as its parent
for how in ([], ["--errors"], ["--digest"], ["--check"]):
    r = subprocess.run([os.environ["MOEBATCH"], "inspect", f"{w}/large.h5", *how], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert r.returncode == (2 if how == ["--check"] else 0), (how, r) # made by hand, it has no checksums
asan = "sanitize" in os.environ.get("MB_TEST_FLAGS", "") # its quarantine alone is more
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
assert asan or peak < 100000, f"{peak} KB for texts of 150 MB"
END
}

@test "ids and texts of inspect are safe on a terminal" {
    small
    "$MOEBATCH" inspect "$work/small.h5" --text | grep -q '^--- a\\x0a\\x1b\[31mred '
    "$MOEBATCH" inspect "$work/small.h5" --digest --requests >"$work/out"
    [ "$(wc -l <"$work/out")" = 3 ]
    grep -q ' a\\x0a\\x1b\[31mred 0$' "$work/out"
    ! grep -q "$(printf '\033')" "$work/out"
}

@test "inspect says what a file was made by" {
    small
    "$MOEBATCH" inspect "$work/small.h5" >"$work/out"
    grep -q "made by .*command .*moebatch run -m" "$work/out"
}

@test "inspect: layout, machines, time and speed as the file has them" {
    for i in $(seq 20); do echo "{\"prompt\":\"The package $i is\",\"max_tokens\":9}"; done >"$work/in.jsonl"
    ranks 3 run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --tensor-parallel-size 1 --pipeline-parallel-size 3
    "$MOEBATCH" inspect "$work/r.h5" >"$work/text"
    "$MOEBATCH" inspect "$work/r.h5" --json >"$work/json"
    "$PYTHON3" - "$work" <<'END'
import h5py, json, sys
w = sys.argv[1]
f, j, text = h5py.File(f"{w}/r.h5"), json.load(open(f"{w}/json")), open(f"{w}/text").read()
plan = json.loads(f["provenance/plan"][()])
assert j["layout"] == plan["sizes"] and j["layout"]["stages"] == 3 and "stages 3 x (tp 1 x" in text, j
host = f["provenance/host"][0].decode()
assert j["ranks"] == 3 and j["machines"] == [{"host": host, "ranks": 3, "threads": int(f["provenance/threads"][:].sum())}], j
t, names = f["metrics/seconds"][:], [x.decode() for x in f["metrics/seconds_columns"][:]]
busy = (t.sum(axis=1) - t[:, names.index("load")]).max()
n, out = len(f["tokens/prompt_ids"]) + len(f["tokens/output_ids"]), len(f["tokens/output_ids"])
assert abs(j["tokens_per_second"] / (n / busy) - 1) < 1e-9 and abs(j["output_tokens_per_second"] / (out / busy) - 1) < 1e-9
assert f"{n / busy:.1f} tokens/s, {out / busy:.1f} generated/s" in text and "3 ranks" in text, text
assert all(abs(j["mean_seconds"][k] - t[:, i].mean()) < 1e-9 for i, k in enumerate(names))
END
}

@test "merge takes no more memory for larger files" {
    "$PYTHON3" -c "
import json
for i in range(60):
    print(json.dumps({'prompt_ids': [(7 * i + k) % 4000 for k in range(120)], 'max_tokens': 1}))" >"$work/in.jsonl"
    for part in 1 2; do
        "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/p$part.h5" --shard $part/2 --save-logits=all
    done
    "$PYTHON3" - "$work" <<'END'
import os, resource, subprocess, sys
w = sys.argv[1]
asan = "sanitize" in os.environ.get("MB_TEST_FLAGS", "") # its quarantine alone is more
subprocess.run([os.environ["MOEBATCH"], "merge", f"{w}/p1.h5", f"{w}/p2.h5", "-o", f"{w}/m.h5"], check=True)
size, most = os.path.getsize(f"{w}/m.h5"), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(size, most)
assert size > 80e6 and (asan or most < 80e6), (size, most)
END
}
