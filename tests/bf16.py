"""bf16.py MOEBATCH MPIRUN_SH DATA_DIR WORK_DIR [MODEL...]: the bf16 path of every reference model against its fp32 golden by the
reference's rules: mean difference of logits <= 0.2, argmax agreement >= 0.85, rows with another expert <= 10 %; where no expert
differed up to a row, its logits within 0.4. PhiMoE's router masks experts by a threshold: one that crosses it moves a weight by
about 0.5 in one step without another choice (the reference's router_margin counts it as well), so there a jump of a weight by
more than 0.25 is a change, too."""
import json, os, subprocess, sys
import h5py, numpy as np

exe, mpirun, data, work = sys.argv[1:5]
models = sys.argv[5:] or sorted(os.listdir(f"{data}/models"))
bad = 0
for m in models:
    g = h5py.File(f"{data}/models/{m}/golden.h5", "r")
    n = int(g.attrs["num_prompts"])
    inp, out = f"{work}/bf16.jsonl", f"{work}/bf16.h5"
    open(inp, "w").write("".join(json.dumps({"id": i, "text_ids": [int(x) for x in g[f"prompt{i}/input_ids"][:]]}) + "\n" for i in range(n)))
    r = subprocess.run(["sh", mpirun, "2", exe, "run", "-m", f"{data}/models/{m}", "-i", inp, "-o", out, "--overwrite", "--dtype", "bf16",
                        "--save-logits", "--save-routing"], capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr[-2000:])
    f = h5py.File(out, "r")
    off = f["rows/offsets"][:]
    total = count = same = rows = changed = routed = 0
    near = 0.0
    for i in range(n):
        a, b = off[i], off[i + 1]
        z, ref = f["logits"][a:b], g[f"prompt{i}/logits"][:]
        d = np.abs(z - ref)
        total, count = total + d.sum(), count + d.size
        same, rows = same + (z.argmax(1) == ref.argmax(1)).sum(), rows + len(z)
        ok = np.ones(len(z), bool)
        if "experts" in g[f"prompt{i}"]:
            e = np.sort(f["routing/experts"][:, a:b].astype(int), -1) != g[f"prompt{i}/experts"][:].astype(int)
            other = e.any(-1)
            if g.attrs["model_type"] == "phimoe":
                order = np.argsort(f["routing/experts"][:, a:b], -1, kind="stable")
                w = np.take_along_axis(f["routing/weights"][:, a:b], order, -1)
                other = other | (np.abs(w - g[f"prompt{i}/router_weights"][:]) > 0.25).any(-1)
            changed, routed = changed + other.sum(), routed + other.size
            ok = np.cumsum(other.any(0)) == 0
        if ok.any():
            near = max(near, float(np.percentile(d[ok].max(1), 99)))
    good = total / count <= 0.2 and same / rows >= 0.85 and changed <= 0.1 * max(routed, 1) and near <= 0.4
    bad += not good
    print(f"{m:16} mean {total / count:.3f} argmax {same / rows:.3f} other experts {changed / max(routed, 1):.3f} p99 before a change {near:.3f} {'' if good else 'BAD'}")
sys.exit(bad > 0)
