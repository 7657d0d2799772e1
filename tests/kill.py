"""kill.py MOEBATCH MPIRUN_SH MODEL PROMPTS WORK_DIR KILLS [SEED] [PLACE]: a job killed with kill -9 again and again, resumed at
once on another number of ranks, until it is complete: the digest is that of the unbroken run, and nothing is lost that was
acknowledged (status.json) or written (valid records of the journals) before a kill.

PLACE: loading, prefill, decode or assembly: kill inside that pause point (needs configure --enable-faults); else at random
moments after the header block. Every other kill hits mpirun alone; its ranks live on for a while."""
import json, os, random, shutil, signal, subprocess, sys, time

exe, mpirun, model, prompts, work, kills = sys.argv[1:7]
kills = int(kills)
rng = random.Random(int(sys.argv[7]) if len(sys.argv) > 7 else 1)
place = sys.argv[8] if len(sys.argv) > 8 else None
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
requests = os.path.join(work, "in.jsonl")
lines = [json.loads(x) for x in open(prompts)]
with open(requests, "w") as f:
    for copy in range(int(os.environ.get("COPIES", "12"))):
        for x in lines:
            y = dict(x, id=f"{x['id']}/{copy}", seed=copy)
            f.write(json.dumps(y) + "\n")


def command(out, ranks, resume):
    return (["sh", mpirun, str(ranks), exe, "run", "-m", model, "-i", requests, "-o", out, "--sync-interval", "0.2",
             "--max-num-seqs", "4"] + (["--resume"] if resume else []))


def digest(out):
    return subprocess.run([exe, "inspect", out, "--digest"], capture_output=True, text=True, check=True).stdout.split()[-1]


def status(out):
    r = subprocess.run([exe, "status", "--json", out], capture_output=True, text=True)
    return r.returncode, json.loads(r.stdout) if r.stdout.strip() else {}


def acknowledged(out):
    try:
        return json.load(open(out + ".d/status.json"))["acknowledged"]
    except (OSError, ValueError, KeyError):
        return 0


def ranks_of(out):
    """Processes of the job: they have its results file on their command line."""
    found = []
    for p in os.listdir("/proc"):
        if p.isdigit() and int(p) != os.getpid():
            try:
                words = open(f"/proc/{p}/cmdline", "rb").read().split(b"\0")
            except OSError:
                continue
            if os.fsencode(out) in words and os.path.basename(words[0]).startswith(b"moebatch"):
                found.append(int(p))
    return found


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run_until_killed(out, ranks, resume, delay, only_mpirun, place):
    """True if the job ended before it was killed."""
    env = dict(os.environ)
    if place:
        env["MOEBATCH_FAULT"] = f"{place}:20000"
    log = open(os.path.join(work, "log"), "w+b")
    p = subprocess.Popen(command(out, ranks, resume), stderr=log, stdout=log, env=env, start_new_session=True)
    mark = b"fault: " + place.encode() if place else b"output    :"
    end = time.time() + 60
    while p.poll() is None and time.time() < end:
        if mark in open(log.name, "rb").read():
            break
        time.sleep(0.01)
    if p.poll() is None:
        time.sleep(delay)
    if p.poll() is not None:
        return p.returncode, open(log.name, "rb").read()
    pids = ranks_of(out)
    mpi = [x for x in pids if x != p.pid]
    if only_mpirun:
        kill(p.pid)  # sh exec'ed mpirun
    else:
        for x in mpi:
            kill(x)
        kill(p.pid)
    p.wait()
    return None, b""


ref = os.path.join(work, "ref.h5")
t = time.time()
subprocess.run(command(ref, 2, False) + ["--overwrite"], check=True, stderr=subprocess.DEVNULL)
long = time.time() - t
want = digest(ref)
print(f"unbroken run: {long:.1f} s, digest {want}", flush=True)
done = 0
with_ack = jobs = 0
while done < kills:
    out = os.path.join(work, f"job{jobs}.h5")
    jobs += 1
    resume = False
    most = 0
    while True:
        ranks = rng.choice([1, 2, 3, 4])
        delay = rng.uniform(0, 0.3) if place else rng.uniform(0, 0.8 * long)
        # what was acknowledged before must be there when a run starts on it
        if done >= kills:
            delay, now_place = 1e9, None
        else:
            now_place = place
        if done >= kills:
            r = subprocess.run(command(out, ranks, resume), capture_output=True)
            code, text = r.returncode, r.stderr
        else:
            code, text = run_until_killed(out, ranks, resume, delay, done % 2 == 1, now_place)
        if code is not None:
            if code != 0:
                sys.exit(f"run after {done} kills ended with {code}:\n{text.decode(errors='replace')[-3000:]}")
            break
        done += 1
        ack = acknowledged(out)
        most = max(most, ack)
        with_ack += ack > 0
        code, st = status(out)
        if code not in (0, 75, 2) or (most > 0 and st.get("committed", 0) < most):
            sys.exit(f"kill {done}: {most} rows were acknowledged, status says {code} {st}")
        resume = True
    if digest(out) != want:
        sys.exit(f"job {jobs}: digest {digest(out)} after kills, {want} unbroken")
    for x in (out, out + ".d"):
        shutil.rmtree(x, ignore_errors=True) if os.path.isdir(x) else os.path.exists(x) and os.remove(x)
left = [x for x in os.listdir("/dev/shm") if "moebatch" in x]
print(f"{done} kills in {jobs} jobs, {with_ack} with rows acknowledged before, digests equal; left in /dev/shm: {len(left)}")
