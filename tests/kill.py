"""kill.py MOEBATCH MPIRUN_SH MODEL PROMPTS WORK_DIR KILLS [SEED] [PLACE]: a job killed with kill -9 again
and again, resumed at once on another number of ranks and in another layout (tensor, sequence, pipeline and
data parallel, slices and copies of experts, disaggregated), until it is complete. Then its digest is that of the
unbroken run, and no row was lost, and none computed again, that status.json called acknowledged or that was
written to a journal before a kill.

PLACE: loading, prefill, decode or assembly: kill inside that pause point (needs configure --enable-faults);
else at random moments from the header block on. Every other kill hits mpirun alone; its ranks live on for a
while. Environment: COPIES of the prompts, MIN_SECONDS the unbroken run has to last, MIN_ACK kills that have
to find acknowledged rows."""
import os, random, shutil, signal, subprocess, sys, time
import jobs

kills, seed, place = int(sys.argv[6]), int((sys.argv[7:8] or [1])[0]), (sys.argv[8:9] or [None])[0]
rng = random.Random(seed)
work = sys.argv[5]
shutil.rmtree(work, ignore_errors=True)
jobs.setup(*sys.argv[1:6], int(os.environ.get("COPIES", "12")))
shm_before = set(os.listdir("/dev/shm"))


def start(out, ranks, resume, layout, env=None):
    """The running job, and its output so far."""
    log = open(os.path.join(work, "log"), "w+b")
    more = ["--sync-interval", "0.2", "--keep", *layout] + (["--resume", "--takeover"] if resume else [])
    p = subprocess.Popen(jobs.command(out, ranks, *more), stderr=log, stdout=log, start_new_session=True,
                         env=dict(os.environ, **(env or {})))
    return p, lambda: open(log.name, "rb").read()


def wait_for(p, text, mark):
    end = time.time() + 60
    while p.poll() is None and time.time() < end and mark not in text():
        time.sleep(0.01)


def run_until_killed(out, ranks, resume, layout, only_mpirun):
    """None if it was killed, else its exit code."""
    p, text = start(out, ranks, resume, layout, {"MOEBATCH_FAULT": f"{place}:20000"} if place else None)
    wait_for(p, text, b"fault: " + place.encode() if place else b"output    :")
    if p.poll() is None:
        time.sleep(rng.uniform(0, 0.3 if place else whole))
    if p.poll() is not None:
        return p.returncode
    mine = [] if only_mpirun else [x for x in jobs.ranks_of(out) if x != p.pid]
    for pid in mine + [p.pid]:  # sh exec'ed mpirun
        jobs.send(pid, signal.SIGKILL)
    p.wait()
    return None


def check_kept(out, before):
    """before: the rows that the journals had after each kill, with the runs there were. All are there
    still, and no later run has computed one of them again."""
    after = jobs.rows_written(out)
    for rows, runs in before:
        for (run, line, choice), frame in rows.items():
            if after.get((run, line, choice)) != frame:
                sys.exit(f"{out}: line {line + 1} was written in {run}, and is lost")
            again = [r for r, l, c in after if (l, c) == (line, choice) and r not in runs]
            if again:
                sys.exit(f"{out}: line {line + 1} was written in {run}, and computed again in {again}")


def one_job(out):
    """Kills until there were enough or the job is complete."""
    global done, with_ack, rows_kept
    before, ranks = [], 0
    while True:
        ranks = rng.choice([n for n in (1, 2, 3, 4) if n != ranks])
        layout = jobs.draw_layout(rng, ranks)
        seen.add((ranks, *layout))
        if done < kills:
            code = run_until_killed(out, ranks, bool(before), layout, done % 2 == 1)
        else:
            code = start(out, ranks, bool(before), layout)[0].wait()
        if code is not None:
            break
        done += 1
        ack, rows = jobs.acknowledged(out), jobs.rows_written(out)
        with_ack += ack > 0
        if len({k[1:] for k in rows}) < ack:
            sys.exit(f"kill {done}: {ack} rows were acknowledged, the journals have {len(rows)}")
        before.append((rows, set(os.listdir(out + ".d"))))
        rows_kept += len(rows)
    if code != 0:
        text = open(os.path.join(work, "log"), errors="replace").read()
        sys.exit(f"run after {done} kills ended with {code}:\n{text[-3000:]}")
    if jobs.digest(out) != want:
        sys.exit(f"{out}: digest {jobs.digest(out)} after {len(before)} kills, {want} unbroken")
    check_kept(out, before)


ref = os.path.join(work, "ref.h5")
t = time.time()
p, text = start(ref, 2, False, [])
wait_for(p, text, b"output    :")
header = time.time()
if p.wait() != 0:
    sys.exit(text().decode(errors="replace"))
whole, want = time.time() - header, jobs.digest(ref)
print(f"unbroken run: {time.time() - t:.1f} s, {whole:.1f} s of it from the header block on, digest {want}",
      flush=True)
if whole < float(os.environ.get("MIN_SECONDS", "0")):
    sys.exit("too short: more COPIES are needed")
seen = set()
done = with_ack = rows_kept = n_jobs = 0
while done < kills:
    out = os.path.join(work, f"job{n_jobs}.h5")
    one_job(out)
    n_jobs += 1
    os.remove(out)
    shutil.rmtree(out + ".d")
ours, mpis = jobs.left_in_shm(shm_before)
print(f"{place or 'random'}: {done} kills in {n_jobs} jobs and {len(seen)} layouts, {with_ack} with rows acknowledged before; "
      f"digests equal, {rows_kept} rows written before kills all used; left in /dev/shm: {ours or 'nothing'}, "
      f"and {mpis} of Open MPI's own segments (removed)")
if ours:
    sys.exit("segments are left")
if with_ack < int(os.environ.get("MIN_ACK", "0")):
    sys.exit("too few kills that found acknowledged rows")
