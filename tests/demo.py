"""demo.py RESULTS.h5 EXPECTED.json: greedy ids and log-likelihoods of the demo model against transformers in fp32."""
import json, sys
import h5py

f = h5py.File(sys.argv[1], "r")
want = json.load(open(sys.argv[2]))
ids = [x.decode() if isinstance(x, bytes) else x for x in f["requests/id"][:]]
off, out = f["tokens/output_offsets"][:], f["tokens/output_ids"][:]
bad, worst = [], 0.0
for g in want["greedy"]:
    r = ids.index(g["id"])
    got = [int(x) for x in out[off[r]:off[r + 1]]]
    if got != g["ids"]:
        bad.append(f"{g['id']}: greedy ids {got}, expected {g['ids']}")
    text = f["requests/text"][r].decode()
    if text != g["text"]:
        bad.append(f"{g['id']}: text {text!r}, expected {g['text']!r}")
for s in want["loglikelihood"]:
    r = ids.index(s["id"])
    d = abs(float(f["requests/logprob_sum"][r]) - s["logprob_sum"])
    worst = max(worst, d)
    if d > 1e-3:
        bad.append(f"{s['id']}: log-likelihood {f['requests/logprob_sum'][r]}, expected {s['logprob_sum']}")
print(f"{len(want['greedy'])} greedy runs, {len(want['loglikelihood'])} log-likelihoods, worst difference {worst:.2g}")
if bad:
    sys.exit("\n".join(bad[:10]))
