"""lora_merged.py MOEBATCH MPIRUN_SH RANKS DATA_DIR WORK_DIR [OPTION...]: random LoRA adapters on latent attention, experts, shared experts and
dense layers: logits with the adapter against those of a model whose stored weights are W + scale * B A (f32)."""
import json, math, os, subprocess, sys
import h5py, numpy as np
import adapters

exe, mpirun, ranks, data, work = sys.argv[1:6]
layout = sys.argv[6:]
rng = np.random.default_rng(5)
CASES = [  # model, rank, alpha, rslora, modules by the end of their names
    ("deepseekv3_a", 3, 6, False, ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]),
    ("deepseekv2_b", 2, 4, True, ["kv_b_proj", "gate_proj", "down_proj"]),
    ("qwen3moe_a", 4, 4, False, ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]),
]


def logits(model, *options):
    out = f"{work}/out.h5"
    r = subprocess.run(["sh", mpirun, ranks, exe, "run", "-m", model, "-i", f"{work}/in.jsonl", "-o", out, "--overwrite", "--dtype", "f32",
                        "--save-logits", *layout, *options], capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr[-2000:])
    f = h5py.File(out, "r")
    if f["requests/status"][:].any():
        sys.exit(f"error rows: {f['requests/error'][:]}")
    return f["logits"][:]


for model, rank, alpha, rslora, ends in CASES:
    base, directory = f"{data}/models/{model}", f"{work}/{model}"
    weights = adapters.load(base)
    scale = alpha / (math.sqrt(rank) if rslora else rank)
    pairs = adapters.random_pairs(rng, weights, list(adapters.modules(base, weights, ends)), rank)
    for m, (a, b) in pairs.items():
        name = m + ".weight"
        weights[name] = (weights[name] + scale * (b.astype(np.float64) @ a)).astype(np.float32)
    adapters.save_adapter(f"{directory}/adapter", pairs, rank, alpha, rslora, ends)
    adapters.save(f"{directory}/model.safetensors", weights)
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
    print(f"{model}: {len(pairs)} modules changed, logits moved by up to {np.abs(without - want).max():.2g}, worst difference {d.max():.2g}")
    if (d > 1e-4 + 1e-4 * np.abs(want)).any() or np.abs(without - want).max() < 0.1:
        sys.exit(1)
