"""llama.cpp: llama-batched-bench, random tokens, nothing sampled. --bin: directory of its programs; --gguf: the converted model."""
import json
import subprocess
import sys
from common import Results, arguments

a = arguments(bin="", gguf="", dtype="bf16")
sizes = sorted(set([b for b in a.batches if b <= a.requests] + [a.requests]))
context = a.requests * (a.prompt + a.output) + 64
command = [f"{a.bin}/llama-batched-bench", "-m", a.gguf, "-t", str(a.threads), "-tb", str(a.threads), "-c", str(context), "-b", "2048",
           "-ub", "512", "-npp", str(a.prompt), "-ntg", str(a.output), "-npl", ",".join(map(str, sizes)), "--output-format", "jsonl"]
found = {b: {"pp": [], "tg": [], "t": []} for b in sizes}
for _ in range(a.repeats):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if p.returncode != 0:
        sys.exit(p.stdout[-2000:])
    for line in p.stdout.splitlines():
        if line.startswith("{") and '"pl"' in line:
            j = json.loads(line)
            found[j["pl"]]["pp"].append(j["speed_pp"])
            found[j["pl"]]["tg"].append(j["speed_tg"])
            found[j["pl"]]["t"].append(j["t"])
r = Results("llama.cpp", dtype=a.dtype, threads=a.threads)
whole = found[a.requests]
r.add("job", "s", whole["t"], less=True)
r.add("throughput/output", "tokens/s", [a.requests * a.output / t for t in whole["t"]])
r.add("prefill", "tokens/s", whole["pp"])
for b in sizes:
    if b in a.batches:
        r.add(f"decode/B={b}", "tokens/s", found[b]["tg"])
r.save(a.out)
