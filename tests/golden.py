"""golden.py MOEBATCH MPIRUN_SH RANKS MODEL_DIR WORK_DIR [OPTION...]: runs a reference model through the program and holds
logits of every position, chosen experts, router weights, greedy ids, log-probabilities, continuation log-likelihoods and
the residual stream of the debug prompt against golden.h5 (fp32: logits 1e-4 + 1e-4 |ref|, router weights 2e-5,
log-probabilities 1e-4, sums 1e-3; experts and ids exactly).
GOLDEN_PROMPTS in the environment: numbers of some prompts instead of all."""
import json, os, subprocess, sys
import h5py, numpy as np

exe, mpirun, ranks, model, work = sys.argv[1:6]
options = sys.argv[6:]
os.makedirs(work, exist_ok=True)
g = h5py.File(os.path.join(model, "golden.h5"), "r")
P = int(g.attrs["num_prompts"])
chosen = [int(x) for x in os.environ.get("GOLDEN_PROMPTS", " ".join(map(str, range(P)))).split()]
lines = []
for i in chosen:
    p = g[f"prompt{i}"]
    ids = [int(x) for x in p["input_ids"][:]]
    lines.append({"id": f"g{i}", "prompt_ids": ids, "max_tokens": 24, "temperature": 0, "ignore_eos": True})
    lines.append({"id": f"e{i}", "prompt_ids": ids, "max_tokens": 24, "temperature": 0})
    lines.append({"id": f"c{i}", "context_ids": ids, "continuation_ids": [int(x) for x in p["cont_ids"][:]]})
inp, out = os.path.join(work, "in.jsonl"), os.path.join(work, "out.h5")
open(inp, "w").write("".join(json.dumps(x) + "\n" for x in lines))
cmd = (["sh", mpirun, ranks] if ranks != "0" else []) + [exe, "run", "-m", model, "-i", inp, "-o", out, "--overwrite", "--dtype", "f32",
       "--save-logits", "--save-routing", "--save-hidden"] + options
r = subprocess.run(cmd, stderr=subprocess.PIPE, text=True)
if r.returncode != 0:
    sys.exit(f"{' '.join(cmd)}\nexit {r.returncode}\n{r.stderr}")

f = h5py.File(out, "r")
ids = [x.decode() if isinstance(x, bytes) else x for x in f["requests/id"][:]]
rows, toks, poff = f["rows/offsets"][:], f["tokens/output_offsets"][:], f["tokens/prompt_offsets"][:]
worst = dict(logits=0.0, mtp=-1.0, weights=-1.0, logprob=0.0, sum=0.0, hidden=0.0)  # negative: the model has none
bad = []

def check(name, got, want, atol, rtol=0.0):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        bad.append(f"{name}: shape {got.shape}, expected {want.shape}")
        return 0.0
    d = np.abs(got - want)
    if not np.all(d <= atol + rtol * np.abs(want)):
        bad.append(f"{name}: worst {np.nanmax(d):.3g} (or NaN)")
    return float(d.max()) if d.size else 0.0

for i in chosen:
    p = g[f"prompt{i}"]
    T = len(p["input_ids"])
    a = ids.index(f"g{i}")
    r0 = rows[a]
    if rows[a + 1] - r0 != T + 23:
        bad.append(f"g{i}: {rows[a + 1] - r0} rows, expected {T + 23}")
    worst["logits"] = max(worst["logits"], check(f"logits of prompt {i}", f["logits"][r0:r0 + T], p["logits"][:], 1e-4, 1e-4))
    out_ids = f["tokens/output_ids"][toks[a]:toks[a + 1]]
    if list(out_ids) != list(p["greedy_ids"][:]):
        bad.append(f"greedy ids of prompt {i}: {list(out_ids)} expected {list(p['greedy_ids'][:])}")
    worst["logprob"] = max(worst["logprob"], check(f"greedy log-probabilities {i}", f["tokens/output_logprobs"][toks[a]:toks[a + 1]], p["greedy_logprobs"][:], 1e-4))
    if "experts" in p:
        ex, w = f["routing/experts"][:, r0:r0 + T], f["routing/weights"][:, r0:r0 + T]
        order = np.argsort(ex, axis=-1, kind="stable")
        ex, w = np.take_along_axis(ex, order, -1), np.take_along_axis(w, order, -1)
        if not np.array_equal(ex.astype(int), p["experts"][:].astype(int)):
            bad.append(f"experts of prompt {i}: {(ex.astype(int) != p['experts'][:]).sum()} differ")
        else:
            ref = p["router_weights"][:]
            d = np.abs(w - ref) / np.maximum(1, np.abs(ref))
            worst["weights"] = max(worst["weights"], float(d.max()))
            if d.max() > 2e-5:
                bad.append(f"router weights of prompt {i}: worst {d.max():.3g}")
        if not np.array_equal(f["routing/layers"][:], g.attrs["moe_layers"]):
            bad.append(f"routing/layers {f['routing/layers'][:]} expected {g.attrs['moe_layers']}")
    if f"mtp/prompt{i}" in g and T > 1:
        worst["mtp"] = max(worst["mtp"], check(f"MTP logits of prompt {i}", f["mtp/logits"][r0:r0 + T - 1], g[f"mtp/prompt{i}/logits"][:], 1e-4, 1e-4))
        if not np.isnan(f["mtp/logits"][rows[a + 1] - 1]).all():
            bad.append(f"MTP logits of prompt {i}: the last row is not NaN")
    if i == int(g.attrs["debug_prompt"]):
        worst["hidden"] = check("residual stream", f["hidden"][r0:r0 + T].transpose(1, 0, 2), g["debug/hidden"][:], 2e-4)
    b = ids.index(f"e{i}")
    stop = int(p.attrs["greedy_first_eos"])
    n = toks[b + 1] - toks[b]
    if n != (stop + 1 if stop >= 0 else 24):
        bad.append(f"prompt {i} with EOS: {n} tokens, first EOS at {stop}")
    if int(f["requests/finish_reason"][b]) != (1 if stop >= 0 else 2):
        bad.append(f"prompt {i} with EOS: finish reason {f['requests/finish_reason'][b]}")
    c = ids.index(f"c{i}")
    C = len(p["cont_ids"])
    lp = f["tokens/prompt_logprobs"][poff[c]:poff[c + 1]][-C:]
    worst["logprob"] = max(worst["logprob"], check(f"continuation {i}", lp, p["cont_logprobs"][:], 1e-4))
    worst["sum"] = max(worst["sum"], check(f"continuation sum {i}", f["requests/logprob_sum"][c], p.attrs["cont_sum_logprob"], 1e-3))
    if int(f["requests/is_greedy"][c]) != int(p.attrs["cont_is_greedy"]):
        bad.append(f"continuation {i}: is_greedy {f['requests/is_greedy'][c]}")
if any(f["requests/status"][:] != 0):
    bad.append(f"error rows: {[e for e in f['requests/error'][:]]}")
print(os.path.basename(model), "ranks", ranks, " ".join(f"{k} {v:.2g}" if v >= 0 else f"{k} -" for k, v in worst.items()))
if bad:
    sys.exit("\n".join(bad[:20]))
