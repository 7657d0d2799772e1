#!/usr/bin/python3
"""check_results.py RESULTS.h5 DIGEST: everything in the file opens in h5py, shapes fit together, enums, units and scales
are there, and the independent digest equals DIGEST."""
import os
import subprocess
import sys

import h5py
import numpy as np

path, digest = sys.argv[1:3]
f = h5py.File(path, "r")
sizes = {}


def visit(name, obj):
    if isinstance(obj, h5py.Dataset):
        sizes[name] = obj[()] if obj.shape == () else obj[...]
        for v in obj.attrs.values():
            assert v is not None


f.visititems(visit)
assert f.attrs["schema"] == "moebatch-results/1"
n = len(f["requests/id"])
for k in f["requests"].values():
    assert len(k) == n, k
for k in f["timing"].values():
    assert len(k) == n and k.dtype == "f8" and k.attrs["units"] == "s", k
tok = f["tokens"]
for off, arrays in (("prompt_offsets", ("prompt_ids", "prompt_logprobs")), ("output_offsets", ("output_ids", "output_logprobs"))):
    o = tok[off][:]
    assert len(o) == n + 1 and o[0] == 0 and (np.diff(o) >= 0).all()
    for a in arrays:
        assert len(tok[a]) == o[-1], a
rows = f["rows/offsets"][:]
assert rows[0] == 0 and len(rows) == n + 1
assert h5py.check_enum_dtype(f["requests/kind"].dtype) == {"generate": 0, "loglikelihood": 1, "rolling": 2}
assert h5py.check_enum_dtype(f["requests/status"].dtype) == {"ok": 0, "error": 1, "degraded": 2, "pending": 3}
assert h5py.check_enum_dtype(f["requests/finish_reason"].dtype) == {"none": 0, "eos": 1, "length": 2, "stop": 3, "error": 4}
assert h5py.check_string_dtype(f["requests/id"].dtype).encoding == "utf-8"
assert f["requests/status"].dims[0].keys() == ["request"] and f["requests/status"].dims[0].label == "request"
if n > 0:
    assert f["requests/status"].chunks is not None and f["requests/status"].compression == "gzip" and f["requests/status"].shuffle
if "routing" in f:
    e = f["routing/experts"]
    assert e.dtype == "u2" and e.shape[1] == rows[-1] and e.dims[0].keys() == ["MoE layer"]
    assert f["routing/weights"].shape == e.shape and f["physical/rank"].shape == e.shape
    assert len(f["routing/layers"]) == e.shape[0]
if "logits" in f:
    assert len(f["logits"]) == (n if f["logits"].attrs["last"] else rows[-1])
error = f["requests/status"][:] == 1
assert (np.diff(tok["prompt_offsets"][:])[error] == 0).all() and (np.diff(rows)[error] == 0).all()
assert all(len(t) > 0 for t in f["requests/error"][:][error])
out = subprocess.run([sys.executable, os.path.join(os.path.dirname(sys.argv[0]), "digest.py"), path], check=True,
                     capture_output=True, text=True).stdout.split()[-1]
assert out == digest, (out, digest)
