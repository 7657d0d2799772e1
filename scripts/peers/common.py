"""What the drivers of the engines share: their command line, and results in the form of `moebatch bench` (moebatch-bench/1)."""
import argparse, json, os, statistics, time


def arguments(**more):
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--requests", type=int, default=64)
    p.add_argument("--prompt", type=int, default=128)
    p.add_argument("--output", type=int, default=64)
    p.add_argument("--batches", type=lambda s: [int(x) for x in s.split(",")], default=[1, 8, 32, 64])
    p.add_argument("--repeats", type=int, default=1)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    for name, value in more.items():
        p.add_argument("--" + name.replace("_", "-"), default=value, type=type(value))
    return p.parse_args()


class Results:
    def __init__(self, engine, **facts):
        self.d = {"schema": "moebatch-bench/1", "bench": "throughput", "engine": engine, **facts, "results": []}

    def add(self, name, unit, samples, less=False):
        s = [float(x) for x in samples]
        self.d["results"].append({"name": name, "unit": unit, "better": "less" if less else "more", "samples": s,
                                  "median": statistics.median(s), "min": min(s), "max": max(s)})

    def save(self, path):
        with open(path, "w") as f:
            json.dump(self.d, f, indent=1)


def measure(a, results, generate):
    """generate(sequences, prompt, output) -> seconds; every call has new prompts. The same measurements as bench throughput: job, prefill,
    decoding at each number of sequences (the time of a whole run less that of its prompts)."""
    generate(min(4, a.requests), a.prompt, 2)
    full = {b: [] for b in a.batches if b <= a.requests}
    first = {b: [] for b in full}
    job, prefill = [], []
    for _ in range(a.repeats):
        job.append(generate(a.requests, a.prompt, a.output))
        prefill.append(generate(a.requests, a.prompt, 1))
        for b in full:
            full[b].append(generate(b, a.prompt, a.output))
            first[b].append(generate(b, a.prompt, 1))
    results.add("job", "s", job, less=True)
    results.add("throughput/output", "tokens/s", [a.requests * a.output / t for t in job])
    results.add("prefill", "tokens/s", [a.requests * a.prompt / t for t in prefill])
    for b in full:
        rate = [b * (a.output - 1) / (x - y) for x, y in zip(full[b], first[b]) if x > y]
        if rate:
            results.add(f"decode/B={b}", "tokens/s", rate)
    results.save(a.out)


def clock(f):
    t = time.perf_counter()
    f()
    return time.perf_counter() - t
