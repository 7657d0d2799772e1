"""long_memory.py MOEBATCH MPIRUN_SH WORK_DIR: memory of real sizes. A Mixtral of random weights of more than
500 MB in bf16 on one to four ranks in six layouts: by how much the resident memory of each rank grew against
what the plan said it needs (10 %), and each category of the account against the plan of the fullest rank.
Then a prompt of 16,384 tokens through a small model at sp 1, 2 and 4: peak activations, and what travels."""
import json, os, subprocess, sys, time
import h5py, numpy as np

exe, mpirun, work = sys.argv[1:4]
os.makedirs(work, exist_ok=True)
rng = np.random.default_rng(1)


def make_model(name, layers, hidden, ffn, experts, heads, kv_heads, vocab, positions):
    """config.json and one safetensors file a layer, as bf16 of small random numbers. Returns the directory and
    bytes of weights."""
    d = os.path.join(work, name)
    os.makedirs(d, exist_ok=True)
    dim = hidden // heads
    json.dump({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": hidden,
               "intermediate_size": ffn, "num_hidden_layers": layers, "num_attention_heads": heads,
               "num_key_value_heads": kv_heads, "head_dim": dim, "num_local_experts": experts,
               "num_experts_per_tok": 2, "max_position_embeddings": positions, "rms_norm_eps": 1e-5,
               "rope_theta": 10000.0, "hidden_act": "silu", "vocab_size": vocab, "tie_word_embeddings": False,
               "sliding_window": None, "torch_dtype": "bfloat16", "bos_token_id": 0, "eos_token_id": 0},
              open(f"{d}/config.json", "w"))
    files = [{"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,),
              "lm_head.weight": (vocab, hidden)}]
    for l in range(layers):
        p = f"model.layers.{l}."
        t = {p + "input_layernorm.weight": (hidden,), p + "post_attention_layernorm.weight": (hidden,),
             p + "self_attn.q_proj.weight": (hidden, hidden), p + "self_attn.o_proj.weight": (hidden, hidden),
             p + "self_attn.k_proj.weight": (kv_heads * dim, hidden),
             p + "self_attn.v_proj.weight": (kv_heads * dim, hidden),
             p + "block_sparse_moe.gate.weight": (experts, hidden)}
        for e in range(experts):
            q = f"{p}block_sparse_moe.experts.{e}."
            t.update({q + "w1.weight": (ffn, hidden), q + "w2.weight": (hidden, ffn), q + "w3.weight": (ffn, hidden)})
        files.append(t)
    where, total = {}, 0
    for i, tensors in enumerate(files):
        name = f"model-{i + 1:05}-of-{len(files):05}.safetensors"
        head, at = {}, 0
        for key, shape in tensors.items():
            n = 2 * int(np.prod(shape))
            head[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + n]}
            where[key] = name
            at += n
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        with open(f"{d}/{name}", "wb") as f:
            f.write(len(text).to_bytes(8, "little") + text)
            for key, shape in tensors.items():
                v = np.ones(shape, np.float32) if len(shape) == 1 else rng.standard_normal(shape, np.float32) * 0.03
                f.write((v.view(np.uint32) >> 16).astype("<u2").tobytes())
        total += at
    json.dump({"weight_map": where}, open(f"{d}/model.safetensors.index.json", "w"))
    return d, total


def run(model, ranks, lines, options):
    inp, out = os.path.join(work, "in.jsonl"), os.path.join(work, "out.h5")
    with open(inp, "w") as f:
        for x in lines:
            f.write(json.dumps(x) + "\n")
    t = time.time()
    r = subprocess.run(["sh", mpirun, str(ranks), exe, "run", "-m", model, "-i", inp, "-o", out, "--overwrite",
                        "--threads", "1", *map(str, options)], stderr=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit(r.stderr[-3000:])
    f = h5py.File(out, "r")
    assert not f["requests/status"][:].any()
    return f, json.loads(f["provenance/plan"][()]), time.time() - t


MB = 1e6
d, total = make_model("large", 8, 1024, 1408, 8, 16, 4, 8192, 4096)
print(f"{total / MB:.0f} MB of weights", flush=True)
assert total >= 500e6
lines = [{"id": i, "prompt": [(7 * i + k * k) % 8192 for k in range(40 + 8 * i)], "max_tokens": 3,
          "ignore_eos": True, "temperature": 0} for i in range(12)]
D, T, P, S, X = ("--data-parallel-size", "--tensor-parallel-size", "--pipeline-parallel-size",
                 "--sequence-parallel-size", "--expert-tensor-parallel-size")
bad = 0
for ranks, layout in ((1, []), (2, []), (2, [T, 2]), (3, ["--disaggregate", "1:2"]), (4, [P, 2, T, 2]),
                      (4, [S, 2, X, 2])):
    f, plan, seconds = run(d, ranks, lines, ["--kv-pages", 64, "--max-num-seqs", 8, "--max-batch-rows", 64,
                                             "--max-model-len", 512, "--kv-segment", 64, *layout])
    grown, planned = f["metrics/resident_growth_bytes"][:], np.array(plan["total_bytes"])
    print(f"{ranks} ranks {' '.join(map(str, layout))}: resident memory grew by", (grown / MB).round(1).tolist(),
          "MB, planned", (planned / MB).round(1).tolist(), "ratio", (grown / planned).round(3).tolist(),
          f"{seconds:.0f} s", flush=True)
    bad += (abs(grown / planned - 1) > 0.1).sum()
    cats = [c.decode() for c in f["metrics/memory_categories"][:]]
    peak, full = f["metrics/memory_peak"][:], plan["budget"]
    r = int(np.argmax(planned))
    print("   fullest rank, accounted/planned:", {c: f"{peak[r, cats.index(c)] / MB:.2f}/{full[c] / MB:.2f}" for c in
          ("weights", "experts", "kv", "activations", "exchange", "staging")}, flush=True)
if bad:
    sys.exit(f"{bad} ranks are more than 10 % off")

small, _ = make_model("small", 2, 256, 256, 8, 8, 2, 512, 16640)
prompt = [(k * k + 3 * k) % 512 for k in range(16384)]
peaks = {}
for sp in (1, 2, 4):
    f, plan, seconds = run(small, sp, [{"id": 0, "prompt": prompt, "max_tokens": 1, "ignore_eos": True}],
                           ["--max-num-seqs", 1, "--max-batch-rows", 1024, S, sp])
    cats = [c.decode() for c in f["metrics/memory_categories"][:]]
    peaks[sp] = {c: f["metrics/memory_peak"][:, cats.index(c)].max() for c in ("activations", "exchange", "staging", "kv")}
    flops = f["physical/attention_flops"][:]
    assert flops.max() <= 1.15 / sp * flops.sum()
    print(f"16,384 tokens, sp {sp}: most on a rank:", {c: f"{v / MB:.1f} MB" for c, v in peaks[sp].items()},
          f"{seconds:.0f} s", flush=True)
assert peaks[4]["kv"] <= 1.15 * peaks[1]["kv"] / 4 and peaks[4]["activations"] <= 1.15 * peaks[1]["activations"]
