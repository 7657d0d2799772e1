"""RESULTS.h5 FILE.jsonl FILE.csv.gz: the lines hold every field of every row, read by h5py, json and csv alone."""
import csv
import gzip
import io
import json
import sys

import h5py
import numpy as np

f = h5py.File(sys.argv[1])
lines = [json.loads(x, parse_constant=lambda c: sys.exit(f"{c} is no JSON")) for x in open(sys.argv[2], encoding="utf-8")]
raw = gzip.open(sys.argv[3], "rb").read().decode("utf-8")
table = list(csv.DictReader(io.StringIO(raw, newline="")))
names = {"kind": ["generate", "loglikelihood", "rolling"], "status": ["ok", "error", "degraded", "pending"],
         "finish_reason": ["none", "eos", "length", "stop", "error"]}
req, tok, timing = f["requests"], f["tokens"], f["timing"]
assert len(lines) == len(table) == len(req["id"]) > 0
assert raw.endswith("\r\n")


def number(x):
    return None if np.isnan(x) else float(np.copysign(9999.0, x)) if np.isinf(x) else float(x)


def numbers(a):
    out = [number(x) for x in a]
    return out if any(x is not None for x in out) else None


def f32(a):
    return a if a is None else [None if x is None else float(np.float32(x)) for x in a]


for i, (line, row) in enumerate(zip(lines, table)):
    for key in ("id", "error", "text"):
        want = req[key][i].decode()
        assert line[key] == want == row[key], (key, line[key], row[key], want)
    for key, words in names.items():
        assert line[key] == words[req[key][i]] == row[key], key
    for key in ("line", "choice"):
        assert line[key] == req[key][i] == int(row[key]), key
    assert line["is_greedy"] is bool(req["is_greedy"][i]) and row["is_greedy"] == str(line["is_greedy"]).lower()
    assert line["logprob_sum"] == number(req["logprob_sum"][i])
    assert (float(row["logprob_sum"]) if row["logprob_sum"] else None) == line["logprob_sum"]
    for key in ("queue", "ttft", "tpot", "end_to_end"):
        assert line["timing"][key] == number(timing[key][i])
        assert (float(row[key]) if row[key] else None) == line["timing"][key]
    p, o = (slice(*tok[k + "_offsets"][i:i + 2]) for k in ("prompt", "output"))
    assert line["prompt_ids"] == tok["prompt_ids"][p].tolist() and int(row["prompt_tokens"]) == len(line["prompt_ids"])
    assert line["output_ids"] == tok["output_ids"][o].tolist() and int(row["output_tokens"]) == len(line["output_ids"])
    assert f32(line["prompt_logprobs"]) == numbers(tok["prompt_logprobs"][p])
    assert f32(line["output_logprobs"]) == numbers(tok["output_logprobs"][o])
    ids = [[x for x in t if x >= 0] for t in tok["top_ids"][o].tolist()]
    if not any(ids):
        assert line["top_ids"] is None and line["top_logprobs"] is None
        continue
    assert line["top_ids"] == ids
    for t, have in zip(tok["top_logprobs"][o], line["top_logprobs"]):
        assert f32(have) == numbers(t[:len(have)])
print(len(lines), "rows")
