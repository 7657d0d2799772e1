"""contract.py MOEBATCH MODEL_DIR WORK_DIR: the bf16 path against an independent numpy form of the numeric contract: dot rule, tree, R32
and rounding points in their exact order. Products of bf16 are exact in f64, so an FMA is one f64 addition rounded to f32.
Elementary functions differ (numpy's rounded f64 here, own functions of at most 2 ulp there), hence a tolerance: median row
difference <= 1e-5, at most 10 % of rows beyond 2e-3, none beyond 0.1, argmax equal where its gap is above 0.1."""
import json, math, os, struct, subprocess, sys
import h5py, numpy as np

F = np.float32
exe, model, work = sys.argv[1:4]
cfg = json.load(open(f"{model}/config.json"))
kind = cfg["model_type"]


def load():
    index = f"{model}/model.safetensors.index.json"
    files = sorted(set(json.load(open(index))["weight_map"].values())) if os.path.exists(index) else ["model.safetensors"]
    out = {}
    for name in files:
        raw = open(f"{model}/{name}", "rb").read()
        n = struct.unpack("<Q", raw[:8])[0]
        for key, t in json.loads(raw[8:8 + n]).items():
            if key == "__metadata__":
                continue
            a, b = (8 + n + x for x in t["data_offsets"])
            if t["dtype"] == "F32":
                v = np.frombuffer(raw[a:b], "<f4")
            else:
                v = (np.frombuffer(raw[a:b], "<u2").astype(np.uint32) << 16).view(F)
            out[key] = v.reshape(t["shape"]).astype(F)
    return out


W = load()


def bf(x):  # round to nearest even, as f32 values
    u = np.ascontiguousarray(x, F).view(np.uint32)
    return (((u + 0x7FFF + ((u >> 16) & 1)) >> 16) << 16).view(F)


def dot(x, w):  # [M, K] x [N, K]: rule 1
    c = np.zeros((len(x), len(w)), F)
    xd, wd = x.astype(np.float64), w.astype(np.float64)
    for k0 in range(0, x.shape[1], 32):
        chain = [np.zeros_like(c), np.zeros_like(c)]
        for k in range(k0, min(k0 + 32, x.shape[1])):
            j = (k - k0) % 2
            chain[j] = (chain[j].astype(np.float64) + xd[:, k, None] * wd[None, :, k]).astype(F)
        c = c + (chain[0] + chain[1])
    return c


def tree(values):  # by position; None: absent
    v = list(values)
    while len(v) > 1:
        if len(v) % 2:
            v.append(None)
        v = [b if a is None else a if b is None else a + b for a, b in zip(v[::2], v[1::2])]
    return v[0]


def leaves(K, unit):
    U = -(-K // unit)
    S = min(U, 8 if K <= 512 else 4 if K < 2048 else 8 if K < 8192 else 16)
    return [(i * U // S * unit, min(K, (i + 1) * U // S * unit)) for i in range(S)]


def row_parallel(x, w, unit):
    return tree([dot(x[:, a:b], w[:, a:b]) for a, b in leaves(x.shape[1], unit)])


def down(x, w):
    return row_parallel(x, bf(w), 64 if x.shape[1] > 512 else 1)


def r32(x):  # sum over the last axis
    n = -(-x.shape[-1] // 32) * 32
    y = np.zeros(x.shape[:-1] + (n,), F)
    y[..., :x.shape[-1]] = x
    p = np.zeros(x.shape[:-1] + (32,), F)
    for i in range(0, n, 32):
        p = p + y[..., i:i + 32]
    for h in (16, 8, 4, 2, 1):
        p = p[..., :h] + p[..., h:2 * h]
    return p[..., 0]


def r32_dot(x, w):
    p = np.zeros((len(x), len(w), 32), F)
    for k in range(x.shape[1]):
        p[:, :, k % 32] = (p[:, :, k % 32].astype(np.float64) + x[:, k, None].astype(np.float64) * w[None, :, k].astype(np.float64)).astype(F)
    for h in (16, 8, 4, 2, 1):
        p = p[..., :h] + p[..., h:2 * h]
    return p[..., 0]


def r32_sq(x):
    p = np.zeros(x.shape[:-1] + (32,), F)
    for k in range(x.shape[-1]):
        p[..., k % 32] = (p[..., k % 32].astype(np.float64) + x[..., k].astype(np.float64) ** 2).astype(F)
    for h in (16, 8, 4, 2, 1):
        p = p[..., :h] + p[..., h:2 * h]
    return p[..., 0]


def exp(x):
    return np.exp(x.astype(np.float64)).astype(F)


def rms(x, w, eps):
    return x * (F(1) / np.sqrt(r32_sq(x) / F(x.shape[-1]) + F(eps)))[..., None] * w


def layer_norm(x, w, eps):
    d = x - (r32(x) / F(x.shape[-1]))[..., None]
    return d * (F(1) / np.sqrt(r32_sq(d) / F(x.shape[-1]) + F(eps)))[..., None] * w


def silu(g):
    return g / (F(1) + exp(-g))


def frequencies(d):
    theta = (cfg.get("attn_config") or {}).get("rope_theta") or cfg.get("rope_theta", 10000.0)
    inv = np.array([float(theta) ** (-2.0 * i / d) for i in range(d // 2)])
    s = cfg.get("rope_scaling")
    if s:
        assert s.get("rope_type", s.get("type")) == "llama3"
        old, f, lo, hi = s["original_max_position_embeddings"], s["factor"], s["low_freq_factor"], s["high_freq_factor"]
        for i, v in enumerate(inv):
            wave = 2 * math.pi / v
            if wave > old / lo:
                inv[i] = v / f
            elif wave >= old / hi:
                t = (old / wave - lo) / (hi - lo)
                inv[i] = (1 - t) * v / f + t * v
    return inv.astype(F)


def rope(x, interleaved):  # [T, heads, d]
    T, _, d = x.shape
    angle = (np.arange(T, dtype=F)[:, None] * frequencies(d)).astype(np.float64)
    c, s = np.cos(angle).astype(F)[:, None], np.sin(angle).astype(F)[:, None]
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :d // 2], x[..., d // 2:])

    def fused(p, q, r, t, sign):  # whatever the program contracts is inside the tolerance
        return p * q + sign * (r * t)
    u, v = fused(a, c, b, s, F(-1)), fused(b, c, a, s, F(1))
    out = np.empty_like(x)
    if interleaved:
        out[..., 0::2], out[..., 1::2] = u, v
    else:
        out[..., :d // 2], out[..., d // 2:] = u, v
    return out


def attend(q, k, v, scale):  # one head: [T, d], [T, d], [T, dv], all rounded; one segment (T <= 512)
    T = len(q)
    s = dot(q, k) * F(scale)
    seen = np.arange(T)[None, :] <= np.arange(T)[:, None]
    m, l, o = np.full(T, -np.inf, F), np.zeros(T, F), np.zeros((T, v.shape[1]), F)
    for b in range(0, T, 64):
        sb, ok = s[:, b:b + 64], seen[:, b:b + 64]
        mb = np.where(ok, sb, -np.inf).max(1)
        some = ok.any(1)
        new = np.maximum(m, mb)
        p = np.where(ok, exp(np.where(ok, sb - np.where(some, new, 0)[:, None], 0)), F(0)).astype(F)
        pad = np.zeros((T, 64), F)
        pad[:, :p.shape[1]] = p
        vb = np.zeros((64, v.shape[1]), F)
        vb[:len(v[b:b + 64])] = v[b:b + 64]
        pv, ps = dot(bf(pad), vb.T.copy()), r32(pad)
        first = some & ~np.isfinite(m)
        al = np.where(np.isfinite(m), exp(np.where(np.isfinite(m), m - new, 0)), F(0))
        fma = lambda x, y, z: (x.astype(np.float64) * y.astype(np.float64) + z.astype(np.float64)).astype(F)
        l2 = np.where(first, ps, fma(l, al, ps))
        o2 = np.where(first[:, None], pv, fma(o, al[:, None], pv))
        m, l, o = np.where(some, new, m), np.where(some, l2, l), np.where(some[:, None], o2, o)
    return bf(o / l[:, None])


def heads_of(h, g, q, k, v, scale):
    return np.concatenate([attend(q[:, i], k[:, i * g // h], v[:, i * g // h], scale) for i in range(h)], 1)


def gated(u, gate, up, dn):
    return down(bf(silu(dot(u, bf(gate))) * dot(u, bf(up))), dn)


def moe(u, z_in, router, expert, choose, experts):
    z = r32_dot(z_in, router)
    ids, w = choose(z)
    y = np.zeros((len(u), z.shape[1], len(u[0])), F)
    used = np.zeros((len(u), z.shape[1]), bool)
    for e in range(z.shape[1]):
        rows = np.where((ids == e).any(1))[0]
        if len(rows):
            weight = w[rows][ids[rows] == e]
            y[rows, e] = weight[:, None] * bf(expert(u[rows], e))
            used[rows, e] = True
    return np.stack([tree([y[t, e] if used[t, e] else None for e in range(z.shape[1])]) for t in range(len(u))])


def top(values, k):
    return np.argsort(-values, axis=1, kind="stable")[:, :k]


def softmax(z):
    e = exp(z - z.max(1, keepdims=True))
    return e / r32(e)[:, None]


def choose_softmax(z):
    k = cfg.get("num_experts_per_tok") or cfg["ffn_config"]["moe_top_k"]
    p = softmax(z)
    ids = top(p, k)
    w = np.take_along_axis(p, ids, 1)
    return ids, w / r32(w)[:, None]


def choose_v3(bias):
    def choose(z):
        s = F(1) / (F(1) + exp(-z))
        c = s + bias
        G = cfg["n_group"]
        per = c.reshape(len(z), G, -1)
        srt = -np.sort(-per, axis=2)
        keep = top(srt[..., 0] + srt[..., 1], cfg["topk_group"])
        mask = np.zeros((len(z), G), bool)
        np.put_along_axis(mask, keep, True, 1)
        ids = top(np.where(np.repeat(mask, per.shape[2], 1), c, -np.inf), cfg["num_experts_per_tok"])
        w = np.take_along_axis(s, ids, 1)
        if cfg["norm_topk_prob"]:
            w = w / (r32(w) + F(1e-20))[:, None]
        return ids, w * F(cfg["routed_scaling_factor"])
    return choose


def gqa(u, x, q, k, v, o, clip=None):
    h = cfg.get("num_attention_heads") or cfg["n_heads"]
    g = cfg.get("num_key_value_heads") or cfg["attn_config"]["kv_n_heads"]
    d = len(q) // h
    Q, K, V = (dot(u, bf(w)) for w in (q, k, v))
    if clip:
        Q, K, V = (np.clip(t, -F(clip), F(clip)) for t in (Q, K, V))
    shape = lambda t, n: t.reshape(len(u), n, d)
    Q, K = bf(rope(shape(Q, h), False)), bf(rope(shape(K, g), False))
    return row_parallel(heads_of(h, g, Q, K, bf(shape(V, g)), np.float64(d) ** -0.5), bf(o), d)


def mla(u, p):
    h, dn, dr, dv, r = cfg["num_attention_heads"], cfg["qk_nope_head_dim"], cfg["qk_rope_head_dim"], cfg["v_head_dim"], cfg["kv_lora_rank"]
    q = dot(u, bf(W[p + "q_proj.weight"])).reshape(len(u), h, dn + dr)
    a = dot(u, bf(W[p + "kv_a_proj_with_mqa.weight"]))
    page = bf(np.concatenate([rms(a[:, :r], W[p + "kv_a_layernorm.weight"], 1e-6), rope(a[:, None, r:], True)[:, 0]], 1))
    qn, qp = bf(q[..., :dn]), bf(rope(q[..., dn:], True))
    B = bf(W[p + "kv_b_proj.weight"]).reshape(h, dn + dv, r)
    outs = []
    for i in range(h):
        ql = bf(dot(qn[:, i], B[i, :dn].T.copy()))
        ol = attend(np.concatenate([ql, qp[:, i]], 1), page, page[:, :r], np.float64(dn + dr) ** -0.5)
        outs.append(bf(dot(ol, B[i, dn:])))
    return row_parallel(np.concatenate(outs, 1), bf(W[p + "o_proj.weight"]), dv)


def dbrx_layer(x, l):
    p = f"transformer.blocks.{l}."
    n1, n2 = W[p + "norm_attn_norm.norm_1.weight"], W[p + "norm_attn_norm.norm_2.weight"]
    H, I, E = cfg["d_model"], cfg["ffn_config"]["ffn_hidden_size"], cfg["ffn_config"]["moe_num_experts"]
    qkv, kv = W[p + "norm_attn_norm.attn.Wqkv.weight"], H // cfg["n_heads"] * cfg["attn_config"]["kv_n_heads"]
    x = x + gqa(bf(layer_norm(x, n1, 1e-5)), x, qkv[:H], qkv[H:H + kv], qkv[H + kv:], W[p + "norm_attn_norm.attn.out_proj.weight"],
                cfg["attn_config"]["clip_qkv"])
    raw = layer_norm(x, n2, 1e-5)
    w1, v1, w2 = (W[p + f"ffn.experts.mlp.{n}"].reshape(E, I, H) for n in ("w1", "v1", "w2"))
    return x + moe(bf(raw), raw, W[p + "ffn.router.layer.weight"], lambda u, e: gated(u, w1[e], v1[e], w2[e].T.copy()), choose_softmax, E)


def layer(x, l):
    if kind == "dbrx":
        return dbrx_layer(x, l)
    p, eps = f"model.layers.{l}.", cfg["rms_norm_eps"]
    u = bf(rms(x, W[p + "input_layernorm.weight"], eps))
    a = p + "self_attn."
    x = x + (mla(u, a) if kind == "deepseek_v3" else gqa(u, x, *(W[a + n + "_proj.weight"] for n in "qkvo")))
    raw = rms(x, W[p + "post_attention_layernorm.weight"], eps)
    u = bf(raw)
    ffn = lambda q, r: lambda v, e="": gated(v, *(W[(q % e if "%" in q else q) + n + ".weight"] for n in r))
    names = ("gate_proj", "up_proj", "down_proj")
    if kind == "mixtral":
        b = p + "block_sparse_moe."
        return x + moe(u, raw, W[b + "gate.weight"], ffn(b + "experts.%d.", ("w1", "w3", "w2")), choose_softmax, None)
    if kind == "deepseek_v3" and l >= cfg["first_k_dense_replace"]:
        b = p + "mlp."
        routed = moe(u, raw, W[b + "gate.weight"], ffn(b + "experts.%d.", names), choose_v3(W[b + "gate.e_score_correction_bias"]), None)
        return x + (routed + ffn(b + "shared_experts.", names)(u))
    return x + ffn(p + "mlp.", names)(u)


def logits(ids):
    dbrx = kind == "dbrx"
    emb = W["transformer.wte.weight" if dbrx else "model.embed_tokens.weight"]
    x = emb[ids]
    for l in range(cfg.get("num_hidden_layers") or cfg["n_layers"]):
        x = layer(x, l)
    n = bf(layer_norm(x, W["transformer.norm_f.weight"], 1e-5) if dbrx else rms(x, W["model.norm.weight"], cfg["rms_norm_eps"]))
    head = W.get("lm_head.weight")
    return dot(n, bf(emb if head is None or cfg.get("tie_word_embeddings") else head))


g = h5py.File(f"{model}/golden.h5", "r")
prompts = [[int(t) for t in g[f"prompt{i}/input_ids"][:]] for i in range(int(g.attrs["num_prompts"]))]
inp, out = f"{work}/contract.jsonl", f"{work}/contract.h5"
open(inp, "w").write("".join(json.dumps({"id": i, "text_ids": p}) + "\n" for i, p in enumerate(prompts)))
r = subprocess.run([exe, "run", "-m", model, "-i", inp, "-o", out, "--overwrite", "--dtype", "bf16", "--save-logits"], capture_output=True, text=True)
if r.returncode:
    sys.exit(r.stderr[-2000:])
f = h5py.File(out, "r")
off, diff, flips = f["rows/offsets"][:], [], 0
for i, p in enumerate(prompts):
    want, got = logits(np.array(p)), f["logits"][off[i]:off[i + 1]]
    diff += list(np.abs(want - got).max(1))
    two = np.sort(want, 1)[:, -2:]
    flips += int(((two[:, 1] - two[:, 0] > 0.1) & (want.argmax(1) != got.argmax(1))).sum())
diff = np.array(diff)
print(f"{os.path.basename(model)}: {len(diff)} rows, median {np.median(diff):.2g}, beyond 2e-3 {np.mean(diff > 2e-3):.3f}, worst {diff.max():.2g}, argmax flips {flips}")
if not (np.median(diff) <= 1e-5 and np.mean(diff > 2e-3) <= 0.1 and diff.max() <= 0.1 and flips == 0):
    sys.exit(1)
