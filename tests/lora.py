"""lora.py MOEBATCH MPIRUN_SH RANKS DATA_DIR WORK_DIR [OPTION...]: LoRA goldens through the program (logits, greedy ids), and a batch that mixes
no adapter, attention adapters and an expert adapter against separate runs, bit for bit. With options (of a layout) the goldens alone:
mpi_matrix compares layouts."""
import json, os, subprocess, sys
import h5py, numpy as np

exe, mpirun, ranks, data, work = sys.argv[1:6]
layout = sys.argv[6:]
bad = []


def run(base, adapters, lines, name, *options):
    inp, out = os.path.join(work, name + ".jsonl"), os.path.join(work, name + ".h5")
    open(inp, "w").write("".join(json.dumps(x) + "\n" for x in lines))
    cmd = ["sh", mpirun, ranks, exe, "run", "-m", f"{data}/models/{base}", "-i", inp, "-o", out, "--overwrite", "--save-logits",
           "--adapter", ",".join(f"{a}={data}/lora/{a}" for a in adapters), *layout, *options]
    r = subprocess.run(cmd, capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"{' '.join(cmd)}\nexit {r.returncode}\n{r.stderr[-2000:]}")
    return h5py.File(out, "r")


def row(f, name):
    i = [x.decode() for x in f["requests/id"][:]].index(name)
    r, o = f["rows/offsets"][:], f["tokens/output_offsets"][:]
    return f["logits"][r[i]:r[i + 1]], list(f["tokens/output_ids"][o[i]:o[i + 1]])


def request(a, i, ids):
    return {"id": f"{a}/{i}", "prompt_ids": [int(x) for x in ids], "max_tokens": 12, "temperature": 0, "ignore_eos": True,
            **({"adapter": a} if a else {})}


worst = 0.0
for base, adapters in (("mixtral_a", ["mixtral_a__attn_r4", "mixtral_a__experts_r2"]), ("qwen3moe_b", ["qwen3moe_b__qv_r3_rslora"])):
    gold = {a: h5py.File(f"{data}/lora/{a}/golden.h5") for a in adapters}
    lines = {a: [request(a, i, gold[a][f"prompt{i}/input_ids"][:]) for i in (1, 2, 3)] for a in adapters}
    lines[""] = [request("", i, gold[adapters[0]][f"prompt{i}/input_ids"][:]) for i in (1, 2, 3)]
    for dtype in ("f32", "bf16") if base == "mixtral_a" and not layout else ("f32",):
        mixed = run(base, adapters, [x for group in zip(*lines.values()) for x in group], "mixed", "--dtype", dtype)
        for a in lines:
            alone = mixed if layout else run(base, adapters, lines[a], "alone", "--dtype", dtype, "--max-num-seqs", "1")
            for i in (1, 2, 3):
                (z, ids), (za, ida) = row(mixed, f"{a}/{i}"), row(alone, f"{a}/{i}")
                if z.tobytes() != za.tobytes() or ids != ida:
                    bad.append(f"{base} {dtype} {a or 'no adapter'} prompt {i}: the mixed batch differs from the separate run")
                if a and dtype == "f32":
                    p = gold[a][f"prompt{i}"]
                    d = np.abs(z[:len(p["input_ids"])] - p["logits"][:])
                    worst = max(worst, float(d.max()))
                    if (d > 1e-4 + 1e-4 * np.abs(p["logits"][:])).any() or ids != list(p["greedy_ids"][:12]):
                        bad.append(f"{a} prompt {i}: worst logit {d.max():.3g}, ids {ids}")
print(f"LoRA on {ranks} ranks: worst logit difference {worst:.2g}")
if bad:
    sys.exit("\n".join(bad))
