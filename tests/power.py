"""power.py MOEBATCH MPIRUN_SH MODEL SHIM WORK_DIR CUTS [SEED]: a job with saved routing and logits, several choices, scoring and
generation is killed at random moments; then each of its files is cut, or filled with zeros, anywhere behind what an fsync had
brought to the disk (SHIM, made of sync_log.c, knows). It is resumed on another number of ranks and in another layout until it is
complete. The digest is that of the unbroken run, and no acknowledged row was lost. SHIM -: kills only, nothing is cut."""
import glob, json, os, random, shutil, signal, subprocess, sys, time
import jobs

exe, mpirun, model, shim, work = sys.argv[1:6]
cuts, seed = int(sys.argv[6]), int((sys.argv[7:8] or [1])[0])
rng = random.Random(seed)
shutil.rmtree(work, ignore_errors=True)
os.makedirs(work)
work = os.path.realpath(work)
jobs.exe, jobs.mpirun, jobs.model, jobs.requests = exe, mpirun, model, os.path.join(work, "in.jsonl")
SAVED = ["--save-routing", "--save-logits", "--dtype", "f32"]


def ids(n):
    return [rng.randrange(3, 200) for _ in range(n)]


with open(jobs.requests, "w") as f:
    for i in range(int(os.environ.get("REQUESTS", "120"))):
        kind = i % 4
        x = {"id": f"r{i}"}
        if kind == 0:
            x.update(context_ids=ids(rng.randrange(1, 30)), continuation_ids=ids(rng.randrange(1, 12)))
        elif kind == 1:
            x.update(text_ids=ids(rng.randrange(1, 40)))
        else:
            x.update(prompt_ids=ids(rng.randrange(1, 25)), max_tokens=rng.randrange(1, 40), n=1 + i % 3, seed=i,
                     temperature=rng.choice([0.7, 1.0]), ignore_eos=True)
        f.write(json.dumps(x) + "\n")


def start(out, ranks, resume, layout):
    env = dict(os.environ)
    if shim != "-":
        env.update(LD_PRELOAD=shim, SYNC_LOG=os.path.join(work, "syncs"))
    log = open(os.path.join(work, "log"), "w+b")
    more = ["--sync-interval", str(rng.choice([0.02, 0.1, 0.5])), *SAVED, *layout] + (["--resume"] if resume else [])
    return subprocess.Popen(jobs.command(out, ranks, *more), stderr=log, stdout=log, start_new_session=True, env=env)


def kill(p, out):
    for pid in jobs.ranks_of(out) + [p.pid]:
        jobs.send(pid, signal.SIGKILL)
    p.wait()
    while jobs.ranks_of(out):
        time.sleep(0.01)


def on_disk():
    sizes = {}
    try:
        lines = open(os.path.join(work, "syncs")).read().splitlines()
    except OSError:
        return sizes
    for line in lines:
        what, rest = line.split(" ", 1)
        if what == "sync":
            size, path = rest.split(" ", 1)
            sizes[path] = int(size)
        else:
            a, b = rest.split("\t")
            sizes[b] = sizes.pop(a, 0)
    return sizes


def all_on_disk(out):
    """What is there after a power loss is what the disk has."""
    with open(os.path.join(work, "syncs"), "a") as f:
        for path in glob.glob(out + ".d/**", recursive=True):
            if os.path.isfile(path):
                f.write(f"sync {os.path.getsize(path)} {path}\n")


def lose_power(out):
    """How many files lost something."""
    safe, hurt = on_disk(), 0
    for path in glob.glob(out + ".d/**", recursive=True):
        if not os.path.isfile(path) or os.path.islink(path):
            continue
        size, kept = os.path.getsize(path), safe.get(path, 0)
        if size <= kept or rng.random() < 0.2:
            continue
        at = rng.randrange(kept, size)
        with open(path, "r+b") as f:
            f.truncate(at)
            if rng.random() < 0.3:
                f.truncate(size)  # the length had reached the disk, the contents had not
        hurt += 1
    return hurt


def one_job(out):
    global done, hurt, acked
    begun = False
    while True:
        ranks = rng.choice([1, 2, 3, 4])
        layout = jobs.draw_layout(rng, ranks)
        while jobs.P in layout and "3" in layout:  # the model has two layers
            layout = jobs.draw_layout(rng, ranks)
        p = start(out, ranks, begun, layout)
        begun = True
        if done < cuts:
            time.sleep(rng.uniform(0.05, 1.1) * whole)
            if p.poll() is None:
                kill(p, out)
                ack = jobs.acknowledged(out)
                if shim != "-" and rng.random() < 0.7:  # else a kill alone: the kernel keeps what was written
                    hurt += lose_power(out)
                    all_on_disk(out)
                have = len({k[1:] for k in jobs.rows_written(out)})
                if have < ack and not os.path.exists(out):
                    sys.exit(f"cut {done}: {ack} rows were acknowledged, the journals have {have}")
                acked += ack > 0
                done += 1
                continue
        code = p.wait()
        if code != 0:
            sys.exit(f"{out}: the run ended with {code}:\n{open(os.path.join(work, 'log'), errors='replace').read()[-3000:]}")
        break
    if jobs.digest(out) != want:
        sys.exit(f"{out}: digest {jobs.digest(out)}, {want} unbroken")


done = hurt = acked = n = 0
ref = os.path.join(work, "ref.h5")
t = time.time()
if start(ref, 2, False, []).wait() != 0:
    sys.exit(open(os.path.join(work, "log"), errors="replace").read())
whole, want = time.time() - t, jobs.digest(ref)
while done < cuts:
    out = os.path.join(work, f"job{n}.h5")
    one_job(out)
    n += 1
    os.remove(out)
    shutil.rmtree(out + ".d")
    open(os.path.join(work, "syncs"), "w").close()
print(f"{done} {'kills' if shim == '-' else 'power losses'} in {n} jobs (unbroken run {whole:.1f} s), {hurt} files cut, {acked} with "
      f"acknowledged rows before; digests equal")
