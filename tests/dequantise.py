"""dequantise.py MODEL_DIR OUT_DIR: writes a copy of a model with packed weights whose weights are plain f32, by the formulas that
the formats' publishers give (numpy only, nothing of the program): value = f32((q - z) * f32(scale))."""
import json, os, shutil, struct, sys
import numpy as np

src, out = sys.argv[1:3]
os.makedirs(out, exist_ok=True)
config = json.load(open(os.path.join(src, "config.json")))
quant = config.pop("quantization_config", {})
method = quant.get("quant_method", "")
f32 = np.float32
E4M3 = np.array([(-1.0) ** (b >> 7) * ((b & 7) * 2.0 ** -9 if (b >> 3 & 15) == 0 else (8 + (b & 7)) * 2.0 ** ((b >> 3 & 15) - 10))
                 if b & 127 != 127 else np.nan for b in range(256)], f32)
FP4 = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, -0., -.5, -1, -1.5, -2, -3, -4, -6], f32)

def read(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    types = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "I64": "<i8", "U8": "u1", "I8": "i1", "F8_E4M3": "u1"}
    got = {}
    for name, h in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        a = np.frombuffer(raw[8 + n + h["data_offsets"][0]:8 + n + h["data_offsets"][1]], types[h["dtype"]]).reshape(h["shape"])
        if h["dtype"] == "BF16":
            a = (a.astype(np.uint32) << 16).view(f32)
        got[name] = E4M3[a] if h["dtype"] == "F8_E4M3" else a
    return got

def bits(words, width, count, axis):
    """codes of `width` bits in 32-bit words along an axis, cut to count"""
    w = np.moveaxis(words.view(np.uint32), axis, -1)
    c = np.stack([w >> np.uint32(width * i) & np.uint32(2 ** width - 1) for i in range(32 // width)], -1)
    c = c.reshape(w.shape[:-1] + (-1,))[..., :count]
    return np.moveaxis(c, -1, axis).astype(np.int64)

def scaled(q, s):
    return (q.astype(f32) * s.astype(f32)).astype(f32)

def expand(s, k, group):
    return np.repeat(s, group, axis=-1)[..., :k] if s.shape[-1] > 1 else s

def group_size(t, k, groups):
    sizes = [g["weights"].get("group_size") for g in quant.get("config_groups", {}).values()] + [quant.get("group_size")]
    return next((g for g in sizes if g and g > 0 and -(-k // g) == groups), k)

def compressed(m, t):
    packed = t[m + ".weight_packed"]
    n, k = (int(x) for x in t[m + ".weight_shape"])
    width = 8 if packed.shape[1] == -(-k // 4) else 4
    q = bits(packed, width, k, 1) - 2 ** (width - 1)
    s = t[m + ".weight_scale"].astype(f32)
    idx = t.get(m + ".weight_g_idx", np.arange(k) // group_size(t, k, s.shape[1]) if s.shape[1] > 1 else np.zeros(k, int))
    if m + ".weight_zero_point" in t:
        q = q - (bits(t[m + ".weight_zero_point"], width, n, 0) - 2 ** (width - 1))[:, idx]
    return scaled(q, s[:, idx])

def fp4(codes):
    return FP4[np.stack([codes & 15, codes >> 4], -1).reshape(codes.shape[:-1] + (-1,))]

def nvfp4(codes, s):
    return scaled(fp4(codes), np.repeat(s, 16, axis=1))

def awq(m, t):
    order = [0, 4, 1, 5, 2, 6, 3, 7]
    def columns(w):
        c = w.view(np.uint32)[..., None] >> (np.uint32(4) * np.array(order, np.uint32)) & np.uint32(15)
        return c.reshape(w.shape[0], -1).astype(np.int64)
    q, z, s = columns(t[m + ".qweight"]), columns(t[m + ".qzeros"]), t[m + ".scales"].astype(f32)
    idx = np.arange(q.shape[0]) // group_size(t, q.shape[0], s.shape[0])
    return scaled(q - z[idx], s[idx]).T

def gptq(m, t):
    s, idx = t[m + ".scales"].astype(f32), t[m + ".g_idx"]
    k, n = len(idx), s.shape[1]
    q = bits(t[m + ".qweight"], 4, k, 0)
    z = bits(t[m + ".qzeros"], 4, n, 1) + (0 if quant.get("checkpoint_format") == "gptq_v2" else 1)
    return scaled(q - z[idx], s[idx]).T

def mxfp4(name, t):
    v = fp4(t[name + "_blocks"])
    e = t[name + "_scales"].astype(np.float64)[..., None]
    v = (v.astype(np.float64) * 2.0 ** (e - 127))
    v[np.abs(v) < 2.0 ** -126] = 0
    v = v.astype(f32).reshape(v.shape[0], v.shape[1], -1)
    return np.swapaxes(v, 1, 2)  # [E, in, out]

def modules_mx(m, t):
    v = fp4(t[m + ".weight_packed"]).astype(np.float64)
    v = v * np.repeat(2.0 ** (t[m + ".weight_scale"].astype(np.float64) - 127), 32, axis=1)
    v[np.abs(v) < 2.0 ** -126] = 0
    return v.astype(f32)

def blocks_fp8(w, s):
    b, c = quant["weight_block_size"]
    return scaled(w, np.repeat(np.repeat(s, b, axis=0), c, axis=1)[:w.shape[0], :w.shape[1]])

stored = {}
for name in sorted(os.listdir(src)):
    if name.endswith(".safetensors"):
        stored.update(read(os.path.join(src, name)))
plain = {}
for name, a in stored.items():
    m = name.rsplit(".", 1)[0]
    if name.endswith(".weight_packed") and a.dtype == np.uint8 and m + ".weight_global_scale" not in stored:
        plain[m + ".weight"] = modules_mx(m, stored)
    elif name + "_scale_inv" in stored:
        plain[name] = blocks_fp8(a, stored[name + "_scale_inv"])
    elif name.endswith(".weight_packed") and a.dtype == np.uint8:
        plain[m + ".weight"] = nvfp4(a, (stored[m + ".weight_scale"] / stored[m + ".weight_global_scale"].reshape(())).astype(f32))
    elif name.endswith(".weight_packed"):
        plain[m + ".weight"] = compressed(m, stored)
    elif name.endswith(".qweight"):
        plain[m + ".weight"] = awq(m, stored) if method == "awq" else gptq(m, stored)
    elif name.endswith(".weight") and a.dtype == np.uint8:
        plain[name] = nvfp4(a, (stored[m + ".weight_scale"] * stored[m + ".weight_scale_2"].reshape(())).astype(f32))
    elif name.endswith("_blocks"):
        plain[name[:-7]] = mxfp4(name[:-7], stored)
    elif a.dtype in (np.float32, np.float16) and not name.endswith(("_scale", "_scale_inv", "_scales", "_scale_2", ".scales")):
        plain[name] = a.astype(f32)
head, at, body = {}, 0, []
for name, a in plain.items():
    raw = np.ascontiguousarray(a, "<f4").tobytes()
    head[name] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [at, at + len(raw)]}
    at += len(raw)
    body.append(raw)
text = json.dumps(head).encode()
text += b" " * (-len(text) % 8)
with open(os.path.join(out, "model.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + b"".join(body))
json.dump(config, open(os.path.join(out, "config.json"), "w"))
shutil.copy(os.path.join(src, "generation_config.json"), out)
