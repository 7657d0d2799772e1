#!/usr/bin/python3
"""Independent reading of a model directory, for unit_model: python3 model_ref.py DIR

Prints, one a line:  T|role|layer|expert|n|k|XXH3-64 of the matrix as f32    every tensor a forward pass uses
                     F|which|i|value     inverse frequencies (f32 as hexadecimal float), which: 0 normal, 1 long
                     C|pos|i|cos|sin     entries of the rotary table
                     S|name|value        scalars
Written from the published formulas and tensor names only; shares nothing with src/model."""
import json, math, os, struct, sys
import numpy as np, xxhash

d = sys.argv[1]
cfg = json.load(open(os.path.join(d, "config.json")))
mt = cfg.get("model_type", "grok-1")
cfg = dict(cfg, **cfg.get("text_config", {}))


def fp8(b):
    b = b.astype(np.int32)
    e, m = b >> 3 & 15, b & 7
    v = np.where(e == 0, m * 2.0**-9, (8 + m) * 2.0 ** (e - 10.0))
    return np.where(b & 128, -v, v).astype(np.float32)


def load():
    w = {}
    for f in sorted(os.listdir(d)):
        if not f.endswith(".safetensors"):
            continue
        raw = open(os.path.join(d, f), "rb").read()
        n = struct.unpack("<Q", raw[:8])[0]
        for k, v in json.loads(raw[8 : 8 + n]).items():
            if k == "__metadata__":
                continue
            s, e = v["data_offsets"]
            part = raw[8 + n + s : 8 + n + e]
            if v["dtype"] == "F32":
                x = np.frombuffer(part, "<f4")
            elif v["dtype"] == "BF16":
                x = (np.frombuffer(part, "<u2").astype(np.uint32) << 16).view(np.float32)
            else:
                x = fp8(np.frombuffer(part, np.uint8))
            w[k] = x.reshape(v["shape"])
    for k in [k for k in w if k.endswith("_scale_inv")]:
        bn, bk = cfg["quantization_config"]["weight_block_size"]
        x = w[k[:-10]]
        w[k[:-10]] = x * w.pop(k).repeat(bn, 0)[: x.shape[0]].repeat(bk, 1)[:, : x.shape[1]]
    return w


W = {k.replace("model.language_model.", "model."): v for k, v in load().items()}


def show(role, layer, expert, x):
    x = np.ascontiguousarray(np.atleast_2d(x), np.float32)
    print("T|%s|%d|%d|%d|%d|%016x" % (role, layer, expert, x.shape[0], x.shape[1], xxhash.xxh3_64_intdigest(x.tobytes())))


def names(pairs, layer, prefix, expert=-1):
    for role, name in pairs:
        if prefix + name in W:
            show(role, layer, expert, W[prefix + name])


L = cfg.get("num_hidden_layers") or cfg["n_layers"]
H = cfg.get("hidden_size") or cfg["d_model"]
heads = cfg.get("num_attention_heads") or cfg["n_heads"]
kv = cfg.get("num_key_value_heads") or cfg.get("attn_config", {}).get("kv_n_heads")
hd = cfg.get("head_dim") or H // heads

# ---- frame
dbrx, grok = mt == "dbrx", mt == "grok-1"
show("embedding", -1, -1, W["transformer.wte.weight" if dbrx else "model.embed_tokens.weight"])
show("final norm", -1, -1, W["transformer.norm_f.weight" if dbrx else "model.norm.scale" if grok else "model.norm.weight"])
names([("final norm bias", "model.norm.bias"), ("LM head bias", "lm_head.bias")], -1, "")
if not cfg.get("tie_word_embeddings"):
    show("LM head", -1, -1, W["lm_head.weight"])

# ---- layers
LINEAR = [("q and gate" if "linear_num_key_heads" in cfg else "q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("o", "o_proj")]
for l in range(L + cfg.get("num_nextn_predict_layers", 0)):
    if dbrx:
        p = "transformer.blocks.%d." % l
        names([("attention norm", "norm_1.weight"), ("FFN norm", "norm_2.weight")], l, p + "norm_attn_norm.")
        qkv = W[p + "norm_attn_norm.attn.Wqkv.weight"]
        show("q", l, -1, qkv[: heads * hd])
        show("k", l, -1, qkv[heads * hd : (heads + kv) * hd])
        show("v", l, -1, qkv[(heads + kv) * hd :])
        show("o", l, -1, W[p + "norm_attn_norm.attn.out_proj.weight"])
        show("router", l, -1, W[p + "ffn.router.layer.weight"])
        for e in range(cfg["ffn_config"]["moe_num_experts"]):
            I = cfg["ffn_config"]["ffn_hidden_size"]
            w1, v1, w2 = (W[p + "ffn.experts.mlp." + n][e * I : (e + 1) * I] for n in ("w1", "v1", "w2"))
            show("expert gate", l, e, w1)
            show("expert up", l, e, v1)
            show("expert down", l, e, w2.T)
        continue
    p = "model.layers.%d." % l
    if grok:
        names([("attention norm", "pre_attn_norm.scale"), ("attention post-norm", "post_attn_norm.scale"),
               ("FFN norm", "pre_moe_norm.scale"), ("FFN post-norm", "post_moe_norm.scale"),
               ("router", "moe_block.gate.weight")], l, p)
        names([(r, n + ".weight") for r, n in LINEAR], l, p + "attn.")
        for e in range(cfg["num_experts"]):
            names([("expert gate", "linear.weight"), ("expert up", "linear_v.weight"), ("expert down", "linear_1.weight")],
                  l, p + "moe_block.experts.%d." % e, e)
        continue
    names([("attention norm", "input_layernorm.weight"), ("attention norm bias", "input_layernorm.bias"),
           ("FFN norm", "post_attention_layernorm.weight"), ("FFN norm bias", "post_attention_layernorm.bias")], l, p)
    names([(r, n + ".weight") for r, n in LINEAR] + [(r + " bias", n + ".bias") for r, n in LINEAR]
          + [("q norm", "q_norm.weight"), ("k norm", "k_norm.weight"), ("sinks", "sinks"), ("q_a", "q_a_proj.weight"),
             ("q_a norm", "q_a_layernorm.weight"), ("q_b", "q_b_proj.weight"), ("kv_a", "kv_a_proj_with_mqa.weight"),
             ("kv_a norm", "kv_a_layernorm.weight"), ("kv_b", "kv_b_proj.weight")], l, p + "self_attn.")
    names([("DeltaNet " + r, n) for r, n in (("q k v z", "in_proj_qkvz.weight"), ("b a", "in_proj_ba.weight"), ("q k v", "in_proj_qkv.weight"),
           ("z", "in_proj_z.weight"), ("b", "in_proj_b.weight"), ("a", "in_proj_a.weight"), ("A_log", "A_log"), ("dt bias", "dt_bias"),
           ("norm", "norm.weight"), ("output", "out_proj.weight"))], l, p + "linear_attn.")
    if p + "linear_attn.conv1d.weight" in W:
        show("DeltaNet convolution", l, -1, W[p + "linear_attn.conv1d.weight"][:, 0].T)
    if mt in ("mixtral", "phimoe"):
        names([("router", "block_sparse_moe.gate.weight")], l, p)
        for e in range(cfg["num_local_experts"]):
            names([("expert gate", "w1.weight"), ("expert up", "w3.weight"), ("expert down", "w2.weight")],
                  l, p + "block_sparse_moe.experts.%d." % e, e)
        continue
    if mt == "gpt_oss":
        names([("router", "router.weight"), ("router bias", "router.bias")], l, p + "mlp.")
        q = p + "mlp.experts."
        for e in range(cfg["num_local_experts"]):
            gu, b = W[q + "gate_up_proj"][e], W[q + "gate_up_proj_bias"][e]
            show("expert gate", l, e, gu[:, 0::2].T)
            show("expert up", l, e, gu[:, 1::2].T)
            show("expert down", l, e, W[q + "down_proj"][e].T)
            show("expert gate bias", l, e, b[0::2])
            show("expert up bias", l, e, b[1::2])
            show("expert down bias", l, e, W[q + "down_proj_bias"][e])
        continue
    FFN = [("gate", "gate_proj"), ("up", "up_proj"), ("down", "down_proj")]
    names([(r, n + ".weight") for r, n in FFN] + [(r + " bias", n + ".bias") for r, n in FFN]
          + [("router", "gate.weight"), ("router choice bias", "gate.e_score_correction_bias"),
             ("shared scalar gate", "shared_expert_gate.weight")], l, p + "mlp.")
    for s in ("shared_expert.", "shared_experts."):
        names([("shared " + r, n + ".weight") for r, n in FFN], l, p + "mlp." + s)
    if p + "mlp.experts.gate_up_proj" in W:
        I = cfg["moe_intermediate_size"]
        for e, (gu, d2) in enumerate(zip(W[p + "mlp.experts.gate_up_proj"], W[p + "mlp.experts.down_proj"])):
            show("expert gate", l, e, gu[:I])
            show("expert up", l, e, gu[I:])
            show("expert down", l, e, d2)
        continue
    for e in range(cfg.get("num_experts") or cfg.get("n_routed_experts") or 0):
        names([("expert " + r, n + ".weight") for r, n in FFN], l, p + "mlp.experts.%d." % e, e)
    names([("MTP embedding norm", "enorm.weight"), ("MTP hidden norm", "hnorm.weight"), ("MTP projection", "eh_proj.weight"),
           ("MTP final norm", "shared_head.norm.weight")], l, p)

# ---- rotary embedding, in f64
rp = dict(cfg.get("rope_parameters") or cfg.get("rope_scaling") or {})
theta = rp.get("rope_theta") or cfg.get("attn_config", {}).get("rope_theta") or cfg.get("rope_theta") or {
    "mixtral": 1e6, "phimoe": 1e6, "gpt_oss": 150000.0}.get(mt, 10000.0)
kind = rp.get("rope_type") or rp.get("type") or "default"
mla = mt.startswith("deepseek")
D = cfg["qk_rope_head_dim"] if mla else int(hd * (rp.get("partial_rotary_factor") or cfg.get("partial_rotary_factor") or 1))
inv = [theta ** (-2.0 * i / D) for i in range(D // 2)]
att, long_inv, long_att = 1.0, None, 1.0
f, orig = rp.get("factor"), rp.get("original_max_position_embeddings") or cfg.get("max_position_embeddings")


def g(s, m=1.0):
    return 1.0 if s <= 1 else 0.1 * m * math.log(s) + 1.0


if kind == "linear":
    inv = [x / f for x in inv]
elif kind == "llama3":
    lo, hi = rp["low_freq_factor"], rp["high_freq_factor"]
    out = []
    for x in inv:
        wave = 2 * math.pi / x
        s = (orig / wave - lo) / (hi - lo)
        out.append(x / f if wave > orig / lo else x if wave < orig / hi else (1 - s) * x / f + s * x)
    inv = out
elif kind == "yarn":
    m, ma = rp.get("mscale"), rp.get("mscale_all_dim")
    att = g(f, m) / g(f, ma) if m and ma else g(f)
    lo, hi = (D * math.log(orig / (r * 2 * math.pi)) / (2 * math.log(theta))
              for r in (rp.get("beta_fast") or 32, rp.get("beta_slow") or 1))
    if rp.get("truncate", True):
        lo, hi = math.floor(lo), math.ceil(hi)
    lo, hi = max(lo, 0), min(hi, D - 1)
    hi += 0.001 if lo == hi else 0
    ramp = [min(max((i - lo) / (hi - lo), 0), 1) for i in range(D // 2)]
    inv = [x / f * r + x * (1 - r) for x, r in zip(inv, ramp)]
elif kind == "longrope":
    long_inv = [x / y for x, y in zip(inv, rp["long_factor"])]
    inv = [x / y for x, y in zip(inv, rp["short_factor"])]
    att, long_att = rp["short_mscale"], rp["long_mscale"]
scale = cfg["attn_output_multiplier"] if grok else (cfg["qk_nope_head_dim"] + D if mla else hd) ** -0.5
if mla and kind != "default" and rp.get("mscale_all_dim"):
    scale *= g(f, rp["mscale_all_dim"]) ** 2
for which, fr in ((0, inv), (1, long_inv)):
    for i, x in enumerate(fr or []):
        print("F|%d|%d|%s" % (which, i, float(np.float32(x)).hex()))
for pos in (0, 1, 7, 1000):
    for i, x in enumerate(inv):
        a = float(np.float32(pos) * np.float32(x))
        print("C|%d|%d|%s|%s" % (pos, i, float(np.float32(math.cos(a) * att)).hex(), float(np.float32(math.sin(a) * att)).hex()))
print("S|attn_scale|%s" % float(np.float32(scale)).hex())
print("S|rope_att|%s" % float(np.float32(att)).hex())
print("S|rope_att_long|%s" % float(np.float32(long_att if long_inv else att)).hex())
