"""stop.py MOEBATCH MPIRUN_SH MODEL PROMPTS WORK_DIR TIMES [SEED]: SIGUSR1 to mpirun and, in turn, SIGTERM to all ranks at random
moments after the header block: every rank leaves with 75 (0 if it was complete already); resumed, the digest is that of the
unbroken run."""
import json, os, random, shutil, signal, subprocess, sys, time

exe, mpirun, model, prompts, work, times = sys.argv[1:7]
rng = random.Random(int(sys.argv[7]) if len(sys.argv) > 7 else 1)
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
requests = os.path.join(work, "in.jsonl")
with open(requests, "w") as f:
    for copy in range(int(os.environ.get("COPIES", "4"))):
        for x in map(json.loads, open(prompts)):
            f.write(json.dumps(dict(x, id=f"{x['id']}/{copy}", seed=copy)) + "\n")


def command(out, ranks, *more):
    return ["sh", mpirun, str(ranks), exe, "run", "-m", model, "-i", requests, "-o", out, "--max-num-seqs", "4", *more]


def digest(out):
    return subprocess.run([exe, "inspect", out, "--digest"], capture_output=True, text=True, check=True).stdout.split()[-1]


def ranks_of(out):
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{p}/cmdline", "rb").read().split(b"\0")
        except OSError:
            continue
        if os.fsencode(out) in words and os.path.basename(words[0]).startswith(b"moebatch"):
            found.append(int(p))
    return found


out = os.path.join(work, "job.h5")
t = time.time()
subprocess.run(command(out, 2), check=True, stderr=subprocess.DEVNULL)
long, want = time.time() - t, digest(out)
codes = {}
for i in range(int(times)):
    log = open(os.path.join(work, "log"), "w+b")
    p = subprocess.Popen(command(out, rng.choice([1, 2, 3]), "--overwrite"), stdout=log, stderr=log)
    while p.poll() is None and b"output    :" not in open(log.name, "rb").read():
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.8 * long))
    if i % 2 == 0:
        p.send_signal(signal.SIGUSR1)
    else:
        for r in ranks_of(out):
            try:
                os.kill(r, signal.SIGTERM)
            except ProcessLookupError:
                pass
    try:
        code = p.wait(60)
    except subprocess.TimeoutExpired:
        sys.exit(f"stop {i}: still running after 60 s\n" + open(log.name).read()[-3000:])
    codes[code] = codes.get(code, 0) + 1
    if code not in (0, 75):
        sys.exit(f"stop {i}: exit {code}\n" + open(log.name).read()[-3000:])
    if code == 75:
        r = subprocess.run(command(out, rng.choice([1, 2, 3, 4]), "--resume"), capture_output=True, text=True)
        if r.returncode != 0:
            sys.exit(f"stop {i}: the resume ended with {r.returncode}\n{r.stderr[-3000:]}")
    if digest(out) != want:
        sys.exit(f"stop {i}: digest {digest(out)}, unbroken {want}")
print(f"{times} stops, exit codes {codes}, digests equal")
