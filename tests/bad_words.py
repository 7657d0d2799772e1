"""bad_words.py MOEBATCH MODEL BAD_WORDS.json WORK: greedy rows with bad words against vLLM's rule (apply_bad_words), written again over
the stored logits: at each place the ids that would complete a sequence are forbidden, and the likeliest of the rest is the token."""
import json, os, subprocess, sys
import h5py, numpy as np

exe, model, cases, work = sys.argv[1:5]
lists = [c for c in json.load(open(cases))["cases"] if c["tokenizer"] == "demo" and c["ids"]]
prompts = ["In the beginning God", "The file system of the", "The LORD said unto", "This option prints"]
rows = [(f"{i}", prompts[i % 4], c) for i, c in enumerate(lists)]
with open(work + "/in.jsonl", "w") as f:
    for name, prompt, c in rows:
        f.write(json.dumps(dict(id=name, prompt=prompt, max_tokens=20, temperature=0, ignore_eos=True, bad_words=c["words"])) + "\n")
subprocess.run([exe, "run", "-m", model, "-i", work + "/in.jsonl", "-o", work + "/r.h5", "--save-logits", "--overwrite"], check=True, stderr=subprocess.PIPE)
f = h5py.File(work + "/r.h5")
changed = longer = 0
for r, (name, _, c) in enumerate(rows):
    assert f["requests/id"][r].decode() == name and f["requests/status"][r] == 0, f["requests/error"][r]
    out = list(f["tokens/output_ids"][f["tokens/output_offsets"][r]:f["tokens/output_offsets"][r + 1]])
    n = f["tokens/prompt_offsets"][r + 1] - f["tokens/prompt_offsets"][r]
    first = f["rows/offsets"][r] + n - 1
    for t, token in enumerate(out):
        z = f["logits"][first + t].astype(np.float64)
        best = int(z.argmax())
        for s in c["ids"]:
            k = len(s) - 1
            if k <= t and out[t - k:t] == s[:-1]:
                z[s[-1]] = -np.inf
                longer += k > 0 and s[-1] == best
        assert int(z.argmax()) == token, (name, t, c["words"])
        changed += token != best
print(f"{len(rows)} rows, {changed} tokens others than the likeliest, {longer} for words of several tokens")
assert changed > 20 and longer > 0
