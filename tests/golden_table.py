"""golden_table.py LINES: one table, model x worst difference, from what golden.py (all rank counts together), bf16.py and
contract.py print, and "digest MODEL EQUAL|DIFFER HEX" lines. Chosen experts and greedy ids have no column: golden.py fails
unless they are exact."""
import re, sys

rows = {}
for line in open(sys.argv[1]):
    w = line.split()
    if len(w) > 3 and w[1] == "ranks":  # mixtral_a ranks 4 logits 1e-5 mtp - ...
        r = rows.setdefault(w[0], {})
        r.setdefault("ranks", set()).add(w[2])
        for k, v in zip(w[3::2], w[4::2]):
            r[k] = v if v == "-" else max(r.get(k, "0"), v, key=float)
    elif w[:1] == ["digest"]:
        rows.setdefault(w[1], {})["digest"] = w[3][:8] if w[2] == "EQUAL" else "DIFFER"
    elif m := re.match(r"(\S+) +mean (\S+) argmax (\S+) other experts (\S+) p99 before a change (\S+)", line):
        rows.setdefault(m[1], {}).update(mean=m[2], argmax=m[3], other=m[4], p99=m[5])
    elif m := re.match(r"(\S+): \d+ rows, median \S+ beyond 2e-3 \S+ worst (\S+),", line):
        rows.setdefault(m[1], {})["contract"] = m[2]
columns = [("ranks", "ranks"), ("logits", "logits"), ("weights", "router w"), ("logprob", "logprob"), ("sum", "sum"),
           ("hidden", "hidden"), ("mtp", "MTP"), ("digest", "digest"), ("mean", "bf16 mean"), ("argmax", "argmax"),
           ("other", "experts"), ("p99", "p99"), ("contract", "contract")]
print(f"{'model':15}" + "".join(f"{title:>10}" for _, title in columns))
for model in sorted(rows):
    r = rows[model]
    r["ranks"] = ",".join(sorted(r.get("ranks", "-")))
    print(f"{model:15}" + "".join(f"{r.get(k, '-'):>10}" for k, _ in columns))
limits = dict(ranks="tolerance", logits="1e-4+rel", weights="2e-5", logprob="1e-4", sum="1e-3", hidden="2e-4", mtp="1e-4+rel",
              digest="1-4 ranks", mean="0.2", argmax=">= 0.85", other="0.1", p99="0.4", contract="0.1")
print(f"{'':15}" + "".join(f"{limits[k]:>10}" for k, _ in columns))
