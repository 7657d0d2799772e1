"""faults.py MOEBATCH MPIRUN_SH MODEL SHIM WORK COUNT [SECONDS]: one failure on one rank of a job of 4 ranks. The operations are
counted first, for each layout, kind (allocation, read, journal write) and rank; COUNT of the numbers are drawn evenly (0: all).
In each run that operation fails. The job ends within 10 seconds (more where the machine is loaded), with the right exit code
and a message of that rank, or goes on and has the right results; what lies there is never wrong, and a run without failures
then gives the reference. SECONDS: on a loaded machine nothing is begun after so many, once a quarter of the numbers is done."""
import concurrent.futures, json, os, re, shutil, signal, subprocess, sys, time

moebatch, mpirun, model, shim, work, count = sys.argv[1:6] + [int(sys.argv[6])]
until = time.time() + float((sys.argv[7:8] or ["inf"])[0])
RANKS, WORKERS = 4, 2
LAYOUTS = ([], ["--zero-inference", "2"], ["--tensor-parallel-size", "2", "--pipeline-parallel-size", "2"], ["--save-routing"])
# exit codes: memory, files of the model or the input, journal; 75 once there is something to resume
CODES = {"alloc": (71, 75), "read": (2, 74, 75), "write": (73, 75)}
SHARES = {"alloc": 0.6, "read": 0.25, "write": 0.15}
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
work = os.path.realpath(work)
lines = os.path.join(work, "in.jsonl")
with open(lines, "w") as f:
    for i, prompt in enumerate(("The package", "In the beginning", "import os")):
        f.write(json.dumps({"id": f"r{i}", "prompt": prompt, "max_tokens": 3, "temperature": 0.5 * i, "seed": i}) + "\n")
base = dict(os.environ, OMP_NUM_THREADS="1")
limit = 60.0


def scratch(d):
    """A directory for Open MPI's own files: jobs at a time that share one may remove what another has just made."""
    path = os.path.join(d, "tmp")
    os.makedirs(path, exist_ok=True)
    return path


def job(d, layout, *more, **env):
    """Exit code (None: it did not end in time), output, seconds."""
    command = ["sh", mpirun, str(RANKS), "env", f"LD_PRELOAD={shim}", moebatch, "run", "-m", model, "-i", lines, "-o", os.path.join(d, "r.h5"),
               "--deadline", "300", "--sync-interval", "0.05", *layout, *more]
    begin = time.time()
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                         env=dict(base, FAIL_PATH=f"{model}/:{lines}:/journal-", FAIL_LOG=os.path.join(d, "log"),
                                  TMPDIR=scratch(d), **env))
    try:
        out = p.communicate(timeout=limit)[0]
        return p.returncode, out.decode(errors="replace"), time.time() - begin
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGTERM)  # mpirun ends its ranks
        try:
            out = p.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            out = p.communicate()[0]
        return None, out.decode(errors="replace"), time.time() - begin


def mend(d, more):
    """A run on one rank without failures."""
    p = subprocess.run([moebatch, "run", "-m", model, "-i", lines, "-o", os.path.join(d, "r.h5"), *more], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, env=dict(base, TMPDIR=scratch(d)), timeout=120)
    return p.returncode, p.stdout.decode(errors="replace")


def digest(d):
    p = subprocess.run([moebatch, "inspect", os.path.join(d, "r.h5"), "--digest"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return p.stdout.decode().split("\n")[-2] if p.returncode == 0 else None


def log(d, rank):
    path = os.path.join(d, f"log.{rank}")
    return open(path).read().splitlines() if os.path.exists(path) else []


def counted(layout, i):
    """The reference, {kind: [numbers of rank 0, 1 ...]}, seconds."""
    d = os.path.join(work, f"count{i}")
    os.makedirs(d)
    code, out, seconds = job(d, layout, FAIL_RANK="all", FAIL_AT="0")
    assert code == 0, (layout, code, out)
    counts = {kind: [int(x.split()[2]) for r in range(RANKS) for x in log(d, r) if x.startswith(f"count {kind} ")] for kind in CODES}
    want = digest(d)
    assert want and all(len(n) == RANKS for n in counts.values())
    return want, counts, seconds


def evenly(n, take):
    take = min(n, take)
    return [1 + (2 * i + 1) * n // (2 * take) for i in range(take)]


def place(counts, n):
    """Operation n of those of all ranks: rank and its own number."""
    for r, own in enumerate(counts):
        if n <= own:
            return r, n
        n -= own


def attempt(number, layout, want, kind, rank, at):
    """None, or what is wrong; and whether the failure happened."""
    d = os.path.join(work, f"job{number}")
    os.makedirs(d)
    code, out, seconds = job(d, layout, FAIL_RANK=str(rank), FAIL_KIND=kind, FAIL_AT=str(at))
    hit = [x for x in log(d, rank) if not x.startswith("count")]
    found = digest(d)
    said = re.search(rf"moebatch: (rank {rank}: )?error: ", out)
    wrong = []
    if code is None:
        wrong.append(f"did not end within {limit:.0f} s")
    elif code == 0:
        wrong += ["ended with 0 and wrong results"] if found != want else []
    else:
        wrong += [f"exit code {code}"] if code not in CODES[kind] else []
        wrong += ["no message of that rank"] if not said else []
        wrong += ["failed without a failure"] if not hit else []
        wrong += ["wrong results"] if found not in (None, want) else []
    if code != 0:
        bulk = layout if "--save-routing" in layout else []
        code2, out2 = mend(d, ["--resume", *bulk] if os.path.isdir(os.path.join(d, "r.h5.d")) else bulk)
        if code2 != 0 or digest(d) != want:
            wrong.append(f"not mended: exit code {code2}: {out2}")
    text = f"number {number}: {' '.join(layout)} {kind} {at} of rank {rank} ({hit}): {'; '.join(wrong)}; {seconds:.1f} s\n{out}" if wrong else None
    if not wrong:
        shutil.rmtree(d)
    return text, bool(hit), code


drawn = []
for i, layout in enumerate(LAYOUTS):
    want, counts, seconds = counted(layout, i)
    limit = min(60.0, max(limit if i else 10.0, 10.0 * seconds))
    print(f"{' '.join(layout) or 'default'}: {counts}", flush=True)
    for kind in CODES:
        take = count and max(1, round(count * SHARES[kind] / len(LAYOUTS)))
        for n in evenly(sum(counts[kind]), take or sum(counts[kind])):
            drawn.append((layout, want, kind, *place(counts[kind], n)))

drawn = [drawn[i * 7919 % len(drawn)] for i in range(len(drawn))] if len(drawn) % 7919 else drawn  # all kinds from the beginning on


def one(number):
    if time.time() > until and number >= len(drawn) // 4:
        return None
    return attempt(number, *drawn[number])


bad = hits = done = 0
codes = {}
with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
    for text, hit, code in filter(None, pool.map(one, range(len(drawn)))):
        done += 1
        bad += text is not None
        hits += hit
        codes[code] = codes.get(code, 0) + 1
        if text is not None:
            print(text, flush=True)
print(f"{done} of {len(drawn)} operations, {hits} of them reached and failed, exit codes {codes}: {bad} wrong")
sys.exit(bad > 0 or hits < done * 0.8)
