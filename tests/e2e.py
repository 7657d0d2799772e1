"""e2e.py MOEBATCH DATA_DIR WORK_DIR: text in, ids, greedy ids and text out, against transformers (e2e.json of three models). Text is what
follows the prompt; transformers decoded the new ids alone, where a leading
space is lost, and where bytes that continue a run of byte tokens of the prompt stand alone."""
import json, os, subprocess, sys
import h5py

exe, data, work = sys.argv[1:4]
bad = n = 0
for m in ("mixtral_a", "qwen2moe_a", "deepseekv3_a"):
    cases = json.load(open(f"{data}/models/{m}/e2e.json"))["cases"]
    inp, out = f"{work}/e2e.jsonl", f"{work}/e2e.h5"
    with open(inp, "w") as f:
        for i, c in enumerate(cases):
            f.write(json.dumps({"id": f"t{i}", "prompt": c["text"], "max_tokens": len(c["greedy_ids"]), "temperature": 0, "ignore_eos": True}) + "\n")
            f.write(json.dumps({"id": f"r{i}", "text_ids": c["ids"]}) + "\n")
    r = subprocess.run([exe, "run", "-m", f"{data}/models/{m}", "-i", inp, "-o", out, "--overwrite", "--dtype", "f32"], capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr[-2000:])
    f = h5py.File(out, "r")
    po, oo = f["tokens/prompt_offsets"][:], f["tokens/output_offsets"][:]
    for i, c in enumerate(cases):
        a, b = 2 * i, 2 * i + 1
        ids = [int(x) for x in f["tokens/prompt_ids"][po[a]:po[a + 1]]]
        new = [int(x) for x in f["tokens/output_ids"][oo[a]:oo[a + 1]]]
        text, want = f["requests/text"][a].decode(), c["greedy_text"].replace("\0", "\ufffd")
        total = float(f["requests/logprob_sum"][b])
        ok = ids == c["ids"] and new == c["greedy_ids"] and want.lstrip(" \ufffd") == text.lstrip(" \ufffd") and abs(total - c["prompt_logprob_sum"]) <= 1e-3
        n += 1
        if not ok:
            bad += 1
            print(m, i, repr(c["text"]), ids == c["ids"], new == c["greedy_ids"], repr(text), repr(want), total, c["prompt_logprob_sum"])
print(f"{n} texts, {bad} wrong")
sys.exit(bad > 0)
