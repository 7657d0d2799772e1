"""lora_merged.py MOEBATCH MPIRUN_SH RANKS DATA_DIR WORK_DIR: random LoRA adapters on latent attention, experts, shared experts and
dense layers: logits with the adapter against those of a model whose stored weights are W + scale * B A (f32)."""
import json, math, os, re, struct, subprocess, sys
import h5py, numpy as np

exe, mpirun, ranks, data, work = sys.argv[1:6]
rng = np.random.default_rng(5)
CASES = [  # model, rank, alpha, rslora, modules by the end of their names
    ("deepseekv3_a", 3, 6, False, ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]),
    ("deepseekv2_b", 2, 4, True, ["kv_b_proj", "gate_proj", "down_proj"]),
    ("qwen3moe_a", 4, 4, False, ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]),
]


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


def logits(model, *options):
    out = f"{work}/out.h5"
    r = subprocess.run(["sh", mpirun, ranks, exe, "run", "-m", model, "-i", f"{work}/in.jsonl", "-o", out, "--overwrite", "--dtype", "f32",
                        "--save-logits", *options], capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr[-2000:])
    f = h5py.File(out, "r")
    if f["requests/status"][:].any():
        sys.exit(f"error rows: {f['requests/error'][:]}")
    return f["logits"][:]


for model, rank, alpha, rslora, ends in CASES:
    base, directory = f"{data}/models/{model}", f"{work}/{model}"
    os.makedirs(f"{directory}/adapter", exist_ok=True)
    weights, adapter, changed = load(base), {}, 0
    scale = alpha / (math.sqrt(rank) if rslora else rank)
    last = json.load(open(f"{base}/config.json"))["num_hidden_layers"]
    for name in list(weights):
        layer = re.search(r"layers\.(\d+)\.", name)
        module = name.removesuffix(".weight")
        if layer is None or int(layer[1]) >= last or module.split(".")[-1] not in ends:
            continue
        n, k = weights[name].shape
        a, b = rng.normal(0, 0.1, (rank, k)).astype(np.float32), rng.normal(0, 0.1, (n, rank)).astype(np.float32)
        adapter[f"base_model.model.{module}.lora_A.weight"], adapter[f"base_model.model.{module}.lora_B.weight"] = a, b
        weights[name] = (weights[name] + scale * (b.astype(np.float64) @ a)).astype(np.float32)
        changed += 1
    save(f"{directory}/adapter/adapter_model.safetensors", adapter)
    json.dump({"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "use_rslora": rslora, "bias": "none", "target_modules": ends},
              open(f"{directory}/adapter/adapter_config.json", "w"))
    save(f"{directory}/model.safetensors", weights)
    open(f"{directory}/config.json", "w").write(open(f"{base}/config.json").read())
    g = h5py.File(f"{base}/golden.h5")
    with open(f"{work}/in.jsonl", "w") as f, open(f"{work}/plain.jsonl", "w") as p:
        for i in (2, 3, 4):
            line = {"id": i, "prompt_ids": [int(x) for x in g[f"prompt{i}/input_ids"][:]], "max_tokens": 1, "temperature": 0}
            p.write(json.dumps(line) + "\n")
            f.write(json.dumps(dict(line, adapter="x")) + "\n")
    got = logits(base, "--adapter", f"x={directory}/adapter")
    os.replace(f"{work}/plain.jsonl", f"{work}/in.jsonl")
    want, without = logits(directory), logits(base)
    d = np.abs(got - want)
    print(f"{model}: {changed} modules changed, logits moved by up to {np.abs(without - want).max():.2g}, worst difference {d.max():.2g}")
    if (d > 1e-4 + 1e-4 * np.abs(want)).any() or np.abs(without - want).max() < 0.1:
        sys.exit(1)
