"""schema.py MOEBATCH SCHEMA.tsv RESULTS.h5 SCRATCH.h5: the table of datasets against a results file that was saved with all there
is. Every dataset of the file is in the table, with its type, the names of its axes, its unit and its name; what is not optional
is in the file; and changing one value changes the digest if, and only if, the table says so."""
import subprocess, shutil, sys
import h5py, numpy as np

moebatch, schema, results, scratch = sys.argv[1:5]
rows = {}
for line in open(schema):
    path, kind, axes, unit, optional, digest, name = line.rstrip("\n").split("\t")
    assert path not in rows, path
    rows[path] = (kind, axes.split("/") if axes else [], unit, optional == "1", digest, name)
TYPES = {"u8": "uint8", "u16": "uint16", "u32": "uint32", "i32": "int32", "u64": "uint64", "i64": "int64", "f32": "float32", "f64": "float64"}
good = h5py.File(results)
found = {}
good.visititems(lambda path, d: found.update({"/" + path: d}) if isinstance(d, h5py.Dataset) and not path.startswith("axes/") else None)
assert len(found) > 60
for path, d in found.items():
    kind, axes, unit, _, _, name = rows[path]
    text, enum = h5py.check_string_dtype(d.dtype) is not None, h5py.check_enum_dtype(d.dtype) is not None
    assert (kind == "text") == text and (kind == "enum") == enum, (path, kind, d.dtype)
    assert text or enum or d.dtype == TYPES[kind], (path, kind, d.dtype)
    labels = [dim.label for dim in d.dims]
    assert [a for a in labels if a] == [a for a in axes if a] or h5py.h5ds.is_scale(d.id), (path, labels, axes)
    assert d.ndim == len(axes) and d.attrs["units"] == unit and d.attrs["long_name"] == name, path
rest = {"mtp", "physical", "metrics", "health", "provenance", "routing"}
missing = [p for p in rows if p not in found and not rows[p][3] and p.split("/")[1] not in rest]
assert not missing, missing


def digest(path):
    r = subprocess.run([moebatch, "inspect", "--digest", path], capture_output=True, text=True)
    return r.stdout.split()[0] if r.stdout else r.stderr


def changed(path):
    """The digest after one value was changed to another that may stand there."""
    shutil.copy(results, scratch)
    with h5py.File(scratch, "r+") as f:
        d, kind = f[path], rows[path][0]
        at = (0,) * d.ndim if d.ndim else ()
        if path == "/tokens/prompt_logprobs":  # the first token has none
            at = (1,)
        if "top_" in path:  # those of the last row, which alone asked
            at = (d.shape[0] - 1, 0)
        old = d[at]
        if kind == "text":
            d[at] = "other"
        elif path == "/requests/choice" or kind == "u8":
            d[at] = old ^ 1
        elif kind == "enum":
            d[at] = 1 - old if path != "/requests/finish_reason" else (old + 1) % 2
        elif kind in ("f32", "f64"):
            d[at] = 0.5 if np.isnan(old) else old + 1
        else:
            d[at] = old + 1
    return digest(scratch)


want = digest(results)
offsets = [p for p in found if p.endswith("offsets")]
checked = [p for p in found if p.split("/")[1] in ("requests", "tokens", "timing", "routing", "logits", "hidden") and p not in offsets
           and p != "/routing/layers"]
for path in checked + ["/metrics/steps", "/physical/rank", "/provenance/command"]:
    said = rows[path][4] != "none"
    assert (changed(path) != want) == said, (path, rows[path][4])
print(len(found), "datasets,", len(checked), "changed")
