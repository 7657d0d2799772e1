"""lora_fused.py MOEBATCH MPIRUN_SH RANKS DATA_DIR WORK_DIR: adapters over the stacked matrices of all experts (target_parameters), made
with peft 0.21 and transformers 5.24 in f32: logits of two prompts against theirs."""
import json, os, subprocess, sys
import h5py, numpy as np

exe, mpirun, ranks, data, work = sys.argv[1:6]
inp, out = os.path.join(work, "in.jsonl"), os.path.join(work, "out.h5")
for base in sorted(os.listdir(f"{data}/lora_fused")):
    g = h5py.File(f"{data}/lora_fused/{base}/golden.h5", "r")
    names = sorted(g)
    lines = [{"id": n, "adapter": "a", "prompt_ids": [int(x) for x in g[n]["input_ids"]], "max_tokens": 1, "temperature": 0} for n in names]
    open(inp, "w").write("".join(json.dumps(x) + "\n" for x in lines))
    cmd = ["sh", mpirun, ranks, exe, "run", "-m", f"{data}/models/{base}", "-i", inp, "-o", out, "--overwrite", "--dtype", "f32",
           "--save-logits", "--adapter", f"a={data}/lora_fused/{base}"]
    r = subprocess.run(cmd, capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"{' '.join(cmd)}\nexit {r.returncode}\n{r.stderr[-2000:]}")
    f = h5py.File(out, "r")
    rows = f["rows/offsets"][:]
    for i, n in enumerate(names):
        want = g[n]["logits"][:]
        got = f["logits"][rows[i]:rows[i] + len(want)]
        worst = np.abs(got - want).max()
        print(base, n, f"{worst:.2g}")
        if not np.all(np.abs(got - want) <= 1e-4 + 1e-4 * np.abs(want)):
            sys.exit(f"{base} {n}: worst {worst:.3g}")
