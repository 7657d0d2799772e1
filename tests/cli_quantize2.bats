# What `quantize` says of what it wrote, against independent scripts; and that a directory appears whole or not at all.
bats_require_minimum_version 1.5.0
load common.bash

quantize() {
    local name=$1 out=$2
    shift 2
    "$MOEBATCH" quantize -m "$name" -o "$out" "$@" >"$work/said" 2>"$work/err" || { cat "$work/said" "$work/err"; return 1; }
}

@test "the manifest: hashes of the source, errors as an independent script finds them; what other programs read" {
    quantize "$demo" "$work/q" --format int4 --calibration "$top/inputs/scoring.jsonl" --json
    cmp "$work/said" <(cat "$work/q/moebatch_quantize.json"; echo)
    "$PYTHON3" "$top/tests/dequantise.py" "$work/q" "$work/w"
    "$PYTHON3" - "$demo" "$work/q" "$work/w" <<'PY'
import json, os, struct, sys
import numpy as np
src, q, w = sys.argv[1:4]
def read(d):
    raw = open(os.path.join(d, "model.safetensors"), "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    assert n % 8 == 0
    out, end = {}, 0
    for name, h in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        a, b = h["data_offsets"]
        assert a == end, "holes"
        end = b
        x = np.frombuffer(raw[8 + n + a:8 + n + b], {"BF16": "<u2", "F32": "<f4", "I32": "<i4", "I64": "<i8"}[h["dtype"]]).reshape(h["shape"])
        out[name] = (x.astype(np.uint32) << 16).view(np.float32) if h["dtype"] == "BF16" else x
    assert 8 + n + end == len(raw)
    return out
a, b, m = read(src), read(w), json.load(open(os.path.join(q, "moebatch_quantize.json")))
assert m["source"]["files"][0]["bytes"] == os.path.getsize(os.path.join(src, "model.safetensors"))
assert len(m["source"]["files"][0]["hash"]) == 32 and len(m["source"]["identity"]) == 32
lost = {}
for t in m["tensors"]:
    x, y = a[t["name"] + ".weight"].astype(np.float64), b[t["name"] + ".weight"].astype(np.float64)
    e = np.sqrt(((x - y) ** 2).sum() / (x ** 2).sum())
    assert abs(e - t["error"]) < 1e-6 and abs(np.abs(x - y).max() - t["largest"]) < 1e-6, (t, e)
    assert 0.05 < e < 0.12, (t, e)
    if "expert" in t:
        s = lost.setdefault((t["layer"], t["expert"]), [0, 0])
        s[0] += ((x - y) ** 2).sum()
        s[1] += (x ** 2).sum()
assert len(m["experts"]) == len(lost) == 40
for e in m["experts"]:
    s = lost[e["layer"], e["expert"]]
    assert abs(np.sqrt(s[0] / s[1]) - e["error"]) < 1e-6
c = json.load(open(os.path.join(q, "config.json")))["quantization_config"]
assert c["quant_method"] == "compressed-tensors" and c["config_groups"]["group_0"]["weights"]["group_size"] == 128
assert "lm_head" in c["ignore"] and "model.layers.0.block_sparse_moe.gate" in c["ignore"]
assert c["ignore"] == m["not_quantised"]
for n in c["ignore"]:
    assert n == "lm_head" or np.array_equal(a[n + ".weight"], b[n + ".weight"])
k = m["calibration"]
assert 0.001 < k["kl_mean"] < 0.08 and k["tokens"] > 100 and 0.8 < k["same_token"] < 1
PY
}

@test "the divergence is that of the logits" {
    quantize "$demo" "$work/q" --format fp8 --calibration "$top/inputs/scoring.jsonl"
    [ ! -e "$work/q/calibration" ]
    for m in "$demo" "$work/q"; do
        ranks 1 score -m "$m" -i "$top/inputs/scoring.jsonl" -o "$work/${m##*/}.h5" --dtype bf16 --save-logits
    done
    "$PYTHON3" - "$work/demo.h5" "$work/q.h5" "$work/q/moebatch_quantize.json" <<'PY'
import h5py, json, sys
import numpy as np
a, b = (h5py.File(f)["logits"][:].astype(np.float64) for f in sys.argv[1:3])
la, lb = (x - x.max(1, keepdims=True) for x in (a, b))
la, lb = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (la, lb))
kl = (np.exp(la) * (la - lb)).sum(1)
c = json.load(open(sys.argv[3]))["calibration"]
assert c["tokens"] == len(kl), (c, len(kl))
assert abs(c["kl_mean"] - kl.mean()) < 1e-9 and abs(c["kl_largest"] - kl.max()) < 1e-9, (c, kl.mean(), kl.max())
assert kl.mean() < 0.02
PY
}

@test "whole or not at all: a name that is taken, bad options, a full disk, a signal, weights that are not finite" {
    mkdir "$work/there"
    run -2 --separate-stderr "$MOEBATCH" quantize -m "$demo" -o "$work/there" --format int8
    [[ $stderr == *"exists and stays as it is"* ]]
    run -1 "$MOEBATCH" quantize -m "$demo" -o "$work/x"
    run -1 "$MOEBATCH" quantize -m "$demo" -o "$work/x" --format csv
    run -1 "$MOEBATCH" export "$work/r.h5" --format int8
    run -1 "$MOEBATCH" quantize -m "$demo" -o "$work/x" --format int8 --group-size 32
    run -1 "$MOEBATCH" quantize -m "$demo" -o "$work/x" --format int4 --group-size 48
    run -2 "$MOEBATCH" quantize -m "$demo" -o "$work/x" --format int4 --calibration "$work/none"
    run -2 "$MOEBATCH" quantize -m "$demo/config.json" -o "$work/x" --format int4
    printf '{"id":1,"prompt":7}\n' >"$work/bad"
    run -2 "$MOEBATCH" quantize -m "$demo" -o "$work/x" --format int4 --calibration "$work/bad"
    (
        ulimit -f 4000
        run -73 --separate-stderr "$MOEBATCH" quantize -m "$demo" -o "$work/x" --format int8
        [[ $stderr == *"File too large"* ]]
    )
    "$PYTHON3" - "$MOEBATCH" "$demo" "$work/x" "$top/inputs/scoring.jsonl" <<'PY'
import os, signal, subprocess, sys, time
for sig in (signal.SIGTERM, signal.SIGINT):
    p = subprocess.Popen(sys.argv[1:2] + ["quantize", "-m", sys.argv[2], "-o", sys.argv[3], "--format", "mxfp4", "--calibration", sys.argv[4]],
                         stderr=subprocess.PIPE, text=True)
    while not any(x.startswith("x.tmp-") for x in os.listdir(os.path.dirname(sys.argv[3]))):
        time.sleep(0.002)
    p.send_signal(sig)
    err = p.communicate()[1]
    assert p.returncode == 75, (p.returncode, err)
    assert "half written is removed" in err, err
PY
    cp -r "$models/qwen3moe_a" "$work/m"
    "$PYTHON3" - "$work/m" <<'PY'
import glob, json, struct, sys
for path in glob.glob(sys.argv[1] + "/*.safetensors"):
    with open(path, "r+b") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        h = json.loads(f.read(n)).get("model.layers.0.mlp.experts.1.down_proj.weight")
        if h is None:
            continue
        f.seek(8 + n + h["data_offsets"][0])
        f.write(struct.pack("<f", float("nan")) if h["dtype"] == "F32" else b"\xc0\x7f")
PY
    run -2 --separate-stderr "$MOEBATCH" quantize -m "$work/m" -o "$work/x" --format int8
    [[ $stderr == *"experts.1.down_proj.weight"*"not finite"* ]]
    [ ! -e "$work/x" ]
    [ -z "$(find "$work" -name 'x.tmp-*')" ]
}

@test "what a killed process left goes with the next" {
    mkdir "$work/x.tmp-0123456789ab"
    echo >"$work/x.tmp-0123456789ab/model.safetensors"
    touch -d '1 hour ago' "$work/x.tmp-0123456789ab"
    mkdir "$work/x.tmp-mine"
    quantize "$models/mixtral_a" "$work/x" --format fp8
    [ ! -e "$work/x.tmp-0123456789ab" ] && [ -d "$work/x.tmp-mine" ] && [ -f "$work/x/config.json" ]
}
