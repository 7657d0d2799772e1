"""long_index.py MOEBATCH MPIRUN_SH MODEL WORK_DIR: a model with as many tensors and files as DeepSeek-V3 in FP8 (46,000, and their
scales, with the multi-token module, in 163 shards; tiny matrices). Prints the time to read its headers, and the peak resident memory
of every rank of a job on 1 and 4 ranks beside that of MODEL, a small model: the difference is what the table of tensors
costs. On ranks other than 0 it must stay below 64 MiB: they get the table, not the JSON texts."""
import json, os, struct, subprocess, sys, time

exe, mpirun, small, work = sys.argv[1:5]
LAYERS, EXPERTS, SHARDS = 61, 256, 163
directory = os.path.join(work, "large")
os.makedirs(directory, exist_ok=True)

size = {"BF16": 2, "F32": 4, "F8_E4M3": 1}
headers, ends, where = [{} for _ in range(SHARDS)], [0] * SHARDS, {}


def add(name, dtype, *shape):
    s = len(where) % SHARDS
    n = size[dtype]
    for d in shape:
        n *= d
    headers[s][name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [ends[s], ends[s] + n]}
    ends[s] += n
    where[name] = "model-%05d-of-%05d.safetensors" % (s + 1, SHARDS)


def fp8(name, *shape):
    add(name + ".weight", "F8_E4M3", *shape)
    add(name + ".weight_scale_inv", "F32", 1, 1)


def ffn(prefix):
    fp8(prefix + "gate_proj", 2, 4)
    fp8(prefix + "up_proj", 2, 4)
    fp8(prefix + "down_proj", 4, 2)


def layer(p, dense):
    for name in ("input_layernorm", "post_attention_layernorm"):
        add(p + name + ".weight", "BF16", 4)
    for name, shape in (("q_a_proj", (2, 4)), ("q_b_proj", (4, 2)), ("kv_a_proj_with_mqa", (4, 4)), ("kv_b_proj", (4, 2)),
                        ("o_proj", (4, 2))):
        fp8(p + "self_attn." + name, *shape)
    for name in ("q_a_layernorm", "kv_a_layernorm"):
        add(p + "self_attn." + name + ".weight", "BF16", 2)
    if dense:
        return ffn(p + "mlp.")
    ffn(p + "mlp.shared_experts.")
    for e in range(EXPERTS):
        ffn(p + "mlp.experts.%d." % e)
    add(p + "mlp.gate.weight", "BF16", EXPERTS, 4)
    add(p + "mlp.gate.e_score_correction_bias", "F32", EXPERTS)


for name, shape in (("model.embed_tokens", (5, 4)), ("lm_head", (5, 4)), ("model.norm", (4,))):
    add(name + ".weight", "BF16", *shape)
for i in range(LAYERS + 1):
    layer("model.layers.%d." % i, i < 3)
for name, shape in (("enorm", (4,)), ("hnorm", (4,)), ("shared_head.norm", (4,)), ("eh_proj", (4, 8))):
    add("model.layers.%d.%s.weight" % (LAYERS, name), "BF16", *shape)
for s in range(SHARDS):
    text = json.dumps(headers[s]).encode()
    with open(os.path.join(directory, "model-%05d-of-%05d.safetensors" % (s + 1, SHARDS)), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + bytes(ends[s]))
json.dump({"weight_map": where}, open(os.path.join(directory, "model.safetensors.index.json"), "w"))
json.dump({"model_type": "deepseek_v3", "num_hidden_layers": LAYERS, "hidden_size": 4, "vocab_size": 5, "num_attention_heads": 1,
           "max_position_embeddings": 64, "q_lora_rank": 2, "kv_lora_rank": 2, "qk_nope_head_dim": 2, "qk_rope_head_dim": 2,
           "v_head_dim": 2, "n_routed_experts": EXPERTS, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4,
           "moe_intermediate_size": 2, "intermediate_size": 2, "n_shared_experts": 1, "first_k_dense_replace": 3,
           "num_nextn_predict_layers": 1, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
          open(os.path.join(directory, "config.json"), "w"))
files = [os.path.join(directory, f) for f in os.listdir(directory)]
print(len(where), "tensors,", SHARDS, "shards,", sum(map(os.path.getsize, files)), "bytes of files")

# the kernel's high-water mark of the program that it starts, one file a rank
wrapper = os.path.join(work, "peak.py")
with open(wrapper, "w") as f:
    f.write("""import os, sys
pid = os.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
open("%s/peak.%%s" %% os.environ.get("OMPI_COMM_WORLD_RANK", "0"), "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
""" % work)


def measured(cmd, ranks):
    start = os.times()
    t = time.time()
    launch = ["sh", mpirun, str(ranks)] if ranks else []
    r = subprocess.run(launch + [sys.executable, wrapper, exe] + cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit(f"{cmd}: exit {r.returncode}\n{r.stderr[-2000:]}")
    end = os.times()
    cpu = end.children_user + end.children_system - start.children_user - start.children_system
    return time.time() - t, cpu, [int(open(f"{work}/peak.{i}").read()) for i in range(max(ranks, 1))]


def both(label, cmd, ranks):
    kb = []
    for what, model in (("small model", small), ("large index", directory)):
        t, cpu, peak = measured([x.replace("MODEL", model) for x in cmd], ranks)
        kb.append(peak)
        print(f"{label}, {what}: {t:.2f} s, processor time {cpu:.2f} s, peak memory of each rank [kB]: {peak}", flush=True)
    return [b - a for a, b in zip(*kb)]


open(os.path.join(work, "in.jsonl"), "w").write('{"prompt_ids": [1, 2], "max_tokens": 1, "temperature": 0}\n')
run = ["run", "-m", "MODEL", "-i", f"{work}/in.jsonl", "-o", f"{work}/out.h5", "--overwrite", "--max-model-len", "64"]
both("inspect -m", ["inspect", "-m", "MODEL"], 0)
both("run on 1 rank", run, 1)
more = both("run on 4 ranks", run, 4)
print("more than the small model on 4 ranks [kB]:", more)
if max(more[1:]) > 65536:
    sys.exit("a rank other than 0 holds more than the table of tensors")
