"""Writes what --random-weights draws as files: random_weights.py CONFIG OUT SEED, for Mixtral. Philox4x32-10 from its paper, written
anew: if both give the same bits, a model with these files and the one without them answer alike."""
import json, os, struct, sys
import numpy as np
import xxhash

ROLES = {}


def read_roles(header):
    """The numbers of roles, in the order of their names in the header."""
    text = open(header).read()
    body = text[text.index("enum mb_role {") + len("enum mb_role {"):]
    body = body[: body.index("};")]
    clean = "".join(part.split("*/")[-1] for part in body.split("/*"))
    for n, name in enumerate(x.strip() for x in clean.replace("\n", " ").split(",") if x.strip()):
        ROLES[name] = n


def philox(ctr, key):
    """[n, 4] counters as uint64 below 2^32 -> [n, 4] words."""
    c = [ctr[:, i].copy() for i in range(4)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    m32 = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & m32, (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & m32]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1)


def drawn(seed, role, layer, expert, n, k, sd):
    key = xxhash.xxh3_64_intdigest(struct.pack("<QQqq", seed, ROLES[role], layer, expert))
    quads = (k + 3) // 4
    rows, cols = np.meshgrid(np.arange(n, dtype=np.uint64), np.arange(quads, dtype=np.uint64), indexing="ij")
    ctr = np.stack([cols.ravel(), rows.ravel(), np.zeros(n * quads, np.uint64), np.zeros(n * quads, np.uint64)], axis=1)
    w = philox(ctr, key).reshape(n, quads * 4)[:, :k]
    total = sum((w >> np.uint64(8 * i)) & np.uint64(255) for i in range(4)).astype(np.int64) - 510
    return np.float32(sd / np.sqrt(21845)) * total.astype(np.float32)


def tensors(c, seed):
    H, I, V, L, E = c["hidden_size"], c["intermediate_size"], c["vocab_size"], c["num_hidden_layers"], c["num_local_experts"]
    d = c.get("head_dim") or H // c["num_attention_heads"]
    q, kv = c["num_attention_heads"] * d, c["num_key_value_heads"] * d
    yield "model.embed_tokens.weight", drawn(seed, "MB_T_EMBED", -1, -1, V, H, 1)
    yield "model.norm.weight", np.ones(H, np.float32)
    if not c.get("tie_word_embeddings"):
        yield "lm_head.weight", drawn(seed, "MB_T_HEAD", -1, -1, V, H, 0.02)
    for l in range(L):
        p = f"model.layers.{l}."
        for name, role, n, k in (("q", "Q", q, H), ("k", "K", kv, H), ("v", "V", kv, H), ("o", "O", H, q)):
            yield f"{p}self_attn.{name}_proj.weight", drawn(seed, "MB_T_" + role, l, -1, n, k, 0.02)
        yield p + "input_layernorm.weight", np.ones(H, np.float32)
        yield p + "post_attention_layernorm.weight", np.ones(H, np.float32)
        yield p + "block_sparse_moe.gate.weight", drawn(seed, "MB_T_ROUTER", l, -1, E, H, 0.02)
        for e in range(E):
            for name, role, n, k in (("w1", "E_GATE", I, H), ("w3", "E_UP", I, H), ("w2", "E_DOWN", H, I)):
                yield f"{p}block_sparse_moe.experts.{e}.{name}.weight", drawn(seed, "MB_T_" + role, l, e, n, k, 0.02)


def bf16(a):
    u = np.ascontiguousarray(a, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype("<u2")


def main(config, out, seed, header):
    read_roles(header)
    c = json.load(open(config))
    half = (c.get("torch_dtype") or c.get("dtype")) == "bfloat16"
    head, data, at = {}, [], 0
    for name, a in tensors(c, int(seed)):
        b = (bf16(a) if half else a.astype("<f4")).tobytes()
        head[name] = {"dtype": "BF16" if half else "F32", "shape": list(a.shape), "data_offsets": [at, at + len(b)]}
        at += len(b)
        data.append(b)
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(out, exist_ok=True)
    json.dump(c, open(os.path.join(out, "config.json"), "w"))
    with open(os.path.join(out, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for b in data:
            f.write(b)


if __name__ == "__main__":
    main(*sys.argv[1:5])
