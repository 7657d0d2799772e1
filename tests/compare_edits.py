"""compare_edits.py MOEBATCH RESULTS.h5 WORK: one element of each dataset of the digest is changed in a copy; moebatch compare names
just that row, field and place, and ends with 3. What is not in the digest is no difference."""
import os, shutil, subprocess, sys
import h5py, numpy as np

moebatch, results, work = sys.argv[1:]


def compare(a, b):
    p = subprocess.run([moebatch, "compare", a, b], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return p.returncode, p.stdout.decode()


def other(v):
    if isinstance(v, bytes):
        return v + b"x"
    return v.dtype.type(1) - v if v.dtype == np.uint8 else v.dtype.type(v + 1) if v.dtype.kind in "iu" else v.dtype.type(np.nextafter(v, v.dtype.type(np.inf)))


def row_of(offsets, at):
    return int(np.searchsorted(offsets, at, side="right")) - 1


def place(f, name, at):
    """Row and place in it of element `at` of a dataset."""
    if name.startswith("/requests/"):
        return at[0], None
    if name.startswith("/tokens/"):
        o = f["/tokens/prompt_offsets" if "prompt" in name else "/tokens/output_offsets"][:]
        i = row_of(o, at[0])
        return i, at[0] - o[i]
    axis = 1 if f[name].ndim == 3 and name.startswith("/routing") else 0
    o = f["/rows/offsets"][:]
    i = row_of(o, at[axis])
    return i, at[axis] - o[i]


FIELDS = {"/requests/id": "id", "/requests/choice": "choice", "/requests/finish_reason": "finish_reason", "/requests/logprob_sum": "logprob_sum",
          "/requests/is_greedy": "is_greedy", "/requests/text": "text", "/tokens/prompt_ids": "prompt_ids",
          "/tokens/prompt_logprobs": "prompt_logprobs", "/tokens/output_ids": "output_ids", "/tokens/output_logprobs": "output_logprobs",
          "/tokens/top_ids": "top_ids", "/tokens/top_logprobs": "top_logprobs", "/routing/experts": "routing/experts",
          "/routing/weights": "routing/weights", "/logits": "logits", "/hidden": "hidden"}
rng = np.random.default_rng(3)
assert compare(results, results)[0] == 0
for name, field in FIELDS.items():
    copy = os.path.join(work, "copy.h5")
    shutil.copy(results, copy)
    with h5py.File(copy, "r+") as f:
        d = f[name]
        status = f["/requests/status"][:]
        while True:
            at = tuple(int(rng.integers(n)) for n in d.shape)
            v = d[at]
            row, where = place(f, name, at)
            if status[row] == 0 and not (isinstance(v, np.floating) and v != v) and not (name.endswith("top_ids") and v < 0):
                break
        d[at] = 0 if name.endswith("finish_reason") else other(v)
        rid = f["/requests/id"][row].decode()
    code, out = compare(results, copy)
    assert out.count("\n") >= 2, (name, at, code, out)
    line = out.splitlines()[-2]
    assert code == 3 and out.endswith(f"1 of {len(status)} rows differ\n"), (name, at, code, out)
    assert line.startswith(f"first difference: row {row}, id ") and f": {field}" in line, (name, at, row, out)
    if where is not None and name.startswith("/tokens/") and d is not None and len(at) == 1:
        assert f"{field} [{where}]" in line, (name, at, where, out)
    if name.startswith("/routing"):
        assert f"layer {at[0]} " in line, (name, at, out)
    if name in ("/logits", "/hidden"):
        assert f"of row {where} [" in line, (name, at, out)
copy = os.path.join(work, "copy.h5")
shutil.copy(results, copy)
with h5py.File(copy, "r+") as f:
    f["/timing/ttft"][0] = 12.5
    del f["/requests/id"].attrs["long_name"]
assert compare(results, copy)[0] == 0
