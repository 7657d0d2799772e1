"""adapters.py MODEL_DIR OUT_DIR: three random LoRA adapters for a model, the same ones each time: OUT_DIR/attn and OUT_DIR/more on
every attention projection (ranks 4 and 3, the second with rslora), OUT_DIR/experts on every FFN projection (rank 2): dense layers,
shared and routed experts, where they are modules. Also what lora_merged.py needs to read and write safetensors."""
import json, os, re, struct, sys
import numpy as np

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "Wqkv", "out_proj"]
FFN = ["gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"]


def load(d):
    out = {}
    for name in sorted(f for f in os.listdir(d) if f.endswith(".safetensors")):
        raw = open(f"{d}/{name}", "rb").read()
        n = struct.unpack("<Q", raw[:8])[0]
        for key, t in json.loads(raw[8:8 + n]).items():
            if key != "__metadata__":
                a, b = (8 + n + x for x in t["data_offsets"])
                v = np.frombuffer(raw[a:b], "<f4") if t["dtype"] == "F32" else \
                    (np.frombuffer(raw[a:b], "<u2").astype(np.uint32) << 16).view(np.float32)
                out[key] = v.reshape(t["shape"])
    return out


def save(path, tensors):
    head, at = {}, 0
    for k, v in tensors.items():
        head[k] = {"dtype": "F32", "shape": list(v.shape), "data_offsets": [at, at + 4 * v.size]}
        at += 4 * v.size
    text = json.dumps(head).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(np.ascontiguousarray(v, "<f4").tobytes() for v in tensors.values()))


def modules(base, weights, ends):
    """Names (without .weight) of a model's matrices whose last word is in ends; those of an MTP module are none of them."""
    c = json.load(open(f"{base}/config.json"))
    last = c.get("num_hidden_layers", c.get("n_layers"))
    for name in weights:
        layer = re.search(r"(?:layers|blocks)\.(\d+)\.", name)
        module = name.removesuffix(".weight")
        if layer is not None and int(layer[1]) < last and name != module and module.split(".")[-1] in ends:
            yield module


def save_adapter(directory, pairs, rank, alpha, rslora, ends):
    os.makedirs(directory, exist_ok=True)
    save(f"{directory}/adapter_model.safetensors",
         {f"base_model.model.{m}.lora_{c}.weight": x for m, ab in pairs.items() for c, x in zip("AB", ab)})
    json.dump({"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "use_rslora": rslora, "bias": "none", "target_modules": ends},
              open(f"{directory}/adapter_config.json", "w"))


def random_pairs(rng, weights, names, rank):
    out = {}
    for m in names:
        n, k = weights[m + ".weight"].shape
        a = rng.normal(0, 0.1, (rank, k)).astype(np.float32)
        out[m] = (a, rng.normal(0, 0.1, (n, rank)).astype(np.float32))
    return out


if __name__ == "__main__":
    base, out = sys.argv[1:3]
    rng = np.random.default_rng(7)
    weights = load(base)
    for name, rank, alpha, rslora, ends in (("attn", 4, 6, False, ATTENTION), ("more", 3, 2, True, ATTENTION), ("experts", 2, 3, False, FFN)):
        names = list(modules(base, weights, ends))
        if names:  # DBRX's experts are stacked: no module of their own
            save_adapter(f"{out}/{name}", random_pairs(rng, weights, names, rank), rank, alpha, rslora,
                         sorted({m.split(".")[-1] for m in names}))
