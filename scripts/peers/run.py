#!/usr/bin/env python3
"""run.py DIR --moebatch PATH [--model MODEL]: measures moebatch and the engines that install.sh put into DIR on one workload, in turns, and
prints one table: medians, and least and most in brackets. DIR/results gets the JSON of every engine (moebatch-bench/1: two of them can
be given to `moebatch bench compare`).

Without --model a random Mixtral of 640 million parameters is made in DIR/model (make_model.py). In every round each engine is started
anew, so that what else the machine does falls on all alike; "command to end" is the whole process, with loading and every
measurement. The roofline is moebatch's own of the same rounds."""
import argparse, json, os, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
ALL = ("moebatch", "vllm", "vllm-zentorch", "llama", "transformers")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir")
    p.add_argument("--moebatch", required=True)
    p.add_argument("--mpirun", default="", help="words before moebatch, as 'mpirun -n 2'")
    p.add_argument("--model")
    p.add_argument("--workload", default="64x128+64")
    p.add_argument("--batches", default="1,8,32,64")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--engines", default=",".join(ALL))
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--python", action="append", default=[], help="ENGINE=PATH: another Python for an engine, as transformers=/usr/bin/python3")
    p.add_argument("--timeout", type=float, default=1800)
    a = p.parse_args()
    requests, lengths = a.workload.replace(" ", "").split("x")
    a.requests, (a.prompt, a.output) = int(requests), map(int, lengths.split("+"))
    a.python = dict(x.split("=", 1) for x in a.python)
    return a


def python_of(a, engine, venv):
    return a.python.get(engine, os.path.join(a.dir, venv, "bin", "python"))


def gguf(a):
    path = os.path.join(a.dir, "model-bf16.gguf")
    if not os.path.exists(path):
        subprocess.run([python_of(a, "llama", "llama"), f"{HERE}/convert_gguf.py", f"{a.dir}/llama/src", a.model, path + ".new.gguf", "bf16"], check=True)
        os.rename(path + ".new.gguf", path)
    return path


def command(a, engine, out):
    """The command of one round, and what its environment has beside ours; None where the engine is not there."""
    common = ["--model", a.model, "--out", out, "--requests", str(a.requests), "--prompt", str(a.prompt), "--output", str(a.output),
              "--batches", a.batches, "--threads", str(a.threads)]
    if engine == "moebatch":
        return [*a.mpirun.split(), a.moebatch, "bench", "throughput", "-m", a.model, "--workload", a.workload, "--decode-batches", a.batches,
                "--repeats", "1", *(["--threads", str(a.threads)] if not a.mpirun else []), "-o", out], {}
    venv = {"vllm-zentorch": "vllm"}.get(engine, engine)
    python = python_of(a, engine, venv)
    if not os.path.exists(python):
        return None
    env = {"OMP_NUM_THREADS": str(a.threads)}
    if engine == "llama":
        if not os.path.exists(f"{a.dir}/llama/bin/llama-batched-bench"):
            return None
        return [python, f"{HERE}/peer_llama.py", *common, "--bin", f"{a.dir}/llama/bin", "--gguf", gguf(a)], env
    if engine == "vllm-zentorch":
        if not os.path.isdir(f"{a.dir}/zentorch"):
            return None
        env["PYTHONPATH"] = f"{a.dir}/zentorch"
    return [python, f"{HERE}/peer_{venv}.py", *common], env


def one_round(a, engine, number, results):
    out = os.path.join(a.dir, "results", f"{engine}-{number}.json")
    made = command(a, engine, out)
    if made is None:
        return False
    words, env = made
    load, t = os.getloadavg()[0], time.perf_counter()
    p = subprocess.run(words, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=a.timeout)
    seconds = time.perf_counter() - t
    print(f"# round {number}: {engine}: exit {p.returncode}, {seconds:.1f} s, load before {load:.1f}", file=sys.stderr, flush=True)
    if p.returncode != 0:
        print(p.stdout[-2000:], file=sys.stderr)
        return False
    d = json.load(open(out))
    into = results.setdefault(engine, d) if engine in results else results.setdefault(engine, {**d, "results": []})
    rows = {x["name"]: x for x in into["results"]}
    whole = {"name": "command to end", "unit": "s", "better": "less", "samples": [seconds]}
    for x in [*d["results"], whole]:
        if x["name"] in rows:
            rows[x["name"]]["samples"] += x["samples"]
            for key in ("bound",):  # of every round: their median counts
                if key in x:
                    rows[x["name"]].setdefault("bounds", []).append(x[key])
        else:
            y = dict(x, bounds=[x["bound"]] if "bound" in x else [])
            into["results"].append(y)
            rows[x["name"]] = y
    return True


def finish(d):
    for x in d["results"]:
        s = x["samples"]
        x.update(median=statistics.median(s), min=min(s), max=max(s))
        bounds = x.pop("bounds", [])
        if bounds:
            x["bound"] = statistics.median(bounds)
            x["fraction"] = x["bound"] / x["median"] if x["better"] == "less" else x["median"] / x["bound"]


def cell(x):
    f = (lambda v: f"{v:.0f}") if x["median"] >= 100 else (lambda v: f"{v:.3g}")
    return f(x["median"]) + (f" [{f(x['min'])}-{f(x['max'])}]" if len(x["samples"]) > 1 else "")


def table(a, results):
    names = ["prefill", *[f"decode/B={b}" for b in a.batches.split(",")], "job", "load", "command to end"]
    rows = [["engine", *[n + (" s" if n in ("job", "load", "command to end") else " tok/s") for n in names]]]
    for engine, d in results.items():
        have = {x["name"]: x for x in d["results"]}
        rows.append([engine, *[cell(have[n]) if n in have else "-" for n in names]])
    bounds = {x["name"]: x for x in results.get("moebatch", {"results": []})["results"] if "bound" in x}
    if bounds:
        rows.append(["(roofline)", *[f"{bounds[n]['bound']:.3g}" if n in bounds else "" for n in names]])
    width = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for r in rows:
        print(" | ".join(c.ljust(w) for c, w in zip(r, width)).rstrip())


def main():
    a = arguments()
    os.makedirs(os.path.join(a.dir, "results"), exist_ok=True)
    if a.model is None:
        a.model = os.path.join(a.dir, "model")
        if not os.path.exists(os.path.join(a.model, "model.safetensors")):
            subprocess.run([sys.executable, f"{HERE}/make_model.py", a.model], check=True)
    results, engines = {}, [e for e in a.engines.split(",")]
    for e in engines:
        if e not in ALL:
            sys.exit(f"there is no engine {e}; known are {', '.join(ALL)}")
    for number in range(1, a.rounds + 1):
        engines = [e for e in engines if one_round(a, e, number, results)]
    cpu = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    for engine, d in results.items():
        finish(d)
        json.dump(d, open(os.path.join(a.dir, "results", f"{engine}.json"), "w"), indent=1)
    print(f"{a.workload} (requests x prompt + output), {a.threads} threads, {cpu}, medians of {a.rounds} rounds in turns")
    table(a, results)


if __name__ == "__main__":
    main()
