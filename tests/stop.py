"""stop.py MOEBATCH MPIRUN_SH MODEL PROMPTS WORK_DIR TIMES [SEED]: in turn SIGTERM to one rank, SIGUSR1 to
mpirun and SIGTERM to all ranks at random moments from the header block on, in random layouts: every rank
leaves with 75 (0 if it was complete already); resumed in another layout, the digest is that of the unbroken
run."""
import os, random, shutil, signal, subprocess, sys, time
import jobs

work, times = sys.argv[5], int(sys.argv[6])
rng = random.Random(int((sys.argv[7:8] or [1])[0]))
shutil.rmtree(work, ignore_errors=True)
jobs.setup(*sys.argv[1:6], int(os.environ.get("COPIES", "4")))
out = os.path.join(work, "job.h5")
log = os.path.join(work, "log")


def start(ranks, *more):
    """The running job, its header block printed."""
    with open(log, "wb") as f:
        p = subprocess.Popen(jobs.command(out, ranks, *more), stdout=f, stderr=f)
    while p.poll() is None and b"output    :" not in open(log, "rb").read():
        time.sleep(0.01)
    return p


def end(p, what):
    try:
        return p.wait(120)
    except subprocess.TimeoutExpired:
        sys.exit(f"{what}: still running after 120 s\n" + open(log).read()[-3000:])


p = start(2)
t = time.time()
if end(p, "unbroken") != 0:
    sys.exit(open(log).read())
whole, want = time.time() - t, jobs.digest(out)
codes = {"SIGTERM to one rank": {}, "SIGUSR1 to mpirun": {}, "SIGTERM to all ranks": {}}
for i in range(times):
    ranks = rng.choice([2, 3, 4] if i % 3 == 0 else [1, 2, 3])
    layout = jobs.draw_layout(rng, ranks)
    p = start(ranks, "--overwrite", *layout)
    time.sleep(rng.uniform(0, whole))
    name, mine = list(codes)[i % 3], [x for x in jobs.ranks_of(out) if x != p.pid]
    for pid in [p.pid] if i % 3 == 1 else mine if i % 3 == 2 else mine and [rng.choice(mine)]:
        jobs.send(pid, signal.SIGUSR1 if i % 3 == 1 else signal.SIGTERM)
    code = end(p, f"stop {i}, {name}, {layout}")
    codes[name][code] = codes[name].get(code, 0) + 1
    if code == -signal.SIGUSR1 and "\nresults   :" in open(log).read():
        code = 0  # the job was over, its results in place, and mpirun itself no longer caught signals
    if code not in (0, 75):
        sys.exit(f"stop {i}, {name}, {layout}: exit {code}\n" + open(log).read()[-3000:])
    ranks = rng.choice([1, 2, 3, 4])
    layout = jobs.draw_layout(rng, ranks, layout)
    if code == 75 and end(start(ranks, "--resume", *layout), f"resume {i}") != 0:
        sys.exit(f"stop {i}: the resume failed, {layout}\n" + open(log).read()[-3000:])
    if jobs.digest(out) != want:
        sys.exit(f"stop {i}: digest {jobs.digest(out)}, unbroken {want}")
print(f"{times} stops, {whole:.1f} s the unbroken run; exit codes {codes}; digests equal")
