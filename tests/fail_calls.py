"""fail_calls.py MOEBATCH MODEL SHIM WORK SAMPLE [PART...]: every call of write, fsync, rename and mkdir of a short job fails once with EIO, and
from there on with ENOSPC (SAMPLE > 0: that many of them, drawn evenly). The job must not end with 0 unless only status.json was
hit; what lies at the place of the results is never wrong; a resume without failures gives the reference, and leaves nothing.
Three kinds of job: a fresh one, one that replaces complete results, one that resumes. PART: fresh, replacing:fsync ...: only these."""
import errno, json, os, shutil, subprocess, sys

moebatch, model, shim, work, sample = sys.argv[1:5] + [int(sys.argv[5])]
parts = sys.argv[6:]
work = os.path.realpath(work)
CALLS = ("write", "fsync", "rename", "mkdir")
os.makedirs(work, exist_ok=True)
lines = os.path.join(work, "in.jsonl")
with open(lines, "w") as f:
    for i in range(10):
        f.write(json.dumps({"id": f"r{i}", "prompt": f"Package {i} is", "max_tokens": 4, "temperature": 0}) + "\n")
base = dict(os.environ, OMP_NUM_THREADS="1")


def run(d, *more, **env):
    o = ["-o", os.path.join(d, "r.h5"), "--openai-output", os.path.join(d, "o.jsonl")]
    p = subprocess.run([moebatch, "run", "-m", model, "-i", lines, "--save-routing", "--sync-interval", "0.01", *o, *more],
                       env=dict(base, **env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=100)
    return p.returncode, p.stdout.decode(errors="replace")


def digest(d):
    p = subprocess.run([moebatch, "inspect", os.path.join(d, "r.h5"), "--digest"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return p.stdout.decode().split("\n")[-2] if p.returncode == 0 else None


def answers(d):
    rows = [json.loads(x) for x in open(os.path.join(d, "o.jsonl"))]
    for r in rows:
        r["response"]["body"].pop("created", None)
    return rows


def fresh(d):
    return []


def replacing(d):
    shutil.copytree(os.path.join(work, "other"), d, dirs_exist_ok=True)
    return ["--overwrite"]


def resuming(d):
    shutil.copytree(os.path.join(work, "stopped"), d, dirs_exist_ok=True)
    return ["--resume"]


def prepare():
    ref = os.path.join(work, "ref")
    os.makedirs(ref)
    assert run(ref)[0] == 0
    other = os.path.join(work, "other")
    os.makedirs(other)
    assert run(other, "--seed", "7")[0] == 0
    stopped = os.path.join(work, "stopped")
    os.makedirs(stopped)
    log = os.path.join(work, "log")
    # stopped by a failure itself: at the rename of the results, when everything is in the journal
    code, text = run(stopped, LD_PRELOAD=shim, FAIL_CALL="rename", FAIL_DIR=os.path.join(stopped, "r.h5.d/assembling"), FAIL_AT="1",
                     FAIL_ERRNO=str(errno.EIO), FAIL_LOG=log)
    assert code not in (0, 1, 2) and not os.path.exists(os.path.join(stopped, "r.h5")), (code, text)
    os.remove(log)
    return digest(ref), answers(ref)


want, want_lines = prepare()
old = digest(os.path.join(work, "other"))
assert want and old and want == digest(os.path.join(work, "ref"))


def attempt(kind, call, at, sticky):
    """The paths of its calls, and which of them failed."""
    d, log = os.path.join(work, "job"), os.path.join(work, "log")
    shutil.rmtree(d, ignore_errors=True)
    if os.path.exists(log):
        os.remove(log)
    os.makedirs(d)
    more = kind(d)
    env = dict(LD_PRELOAD=shim, FAIL_CALL=call, FAIL_DIR=d + "/", FAIL_AT=str(at), FAIL_LOG=log,
               FAIL_ERRNO=str(errno.ENOSPC if sticky else errno.EIO))
    if sticky:
        env["FAIL_ON"] = "1"
    code, text = run(d, *more, **env)
    calls = open(log).read().splitlines() if os.path.exists(log) else []
    hit = [c.split(" ")[1] for c in calls if c.endswith(" failed")]
    where = f"{kind.__name__}: {call} {at}{' and all later' if sticky else ''} ({hit[:1]}): exit {code}\n{text}"
    found = digest(d)
    if code == 0:
        names = [os.path.basename(p) for p in hit]
        again = [n for n in names if n.startswith("assembling") and not sticky]  # HDF5 wrote it again: then all of it is there
        assert all(n.startswith(("status.json", "counts-", "metrics.prom")) or n in again for n in names), "ended with 0: " + where
        if again:
            subprocess.run([moebatch, "inspect", "--check", d + "/r.h5"], check=True, capture_output=True)
        assert found == want and answers(d) == want_lines, "wrong: " + where
        told = [p for p in hit if not os.path.basename(p).startswith(("counts-", "assembling", "metrics.prom"))]  # kept again and again, quietly but at the end
        assert not told or "goes on without it" in text, "no warning: " + where
    else:
        assert at > 0 and hit and "error" in text, "failed: " + where
        assert code in (2, 73, 74, 75), "odd code: " + where
        assert found in (None, want) or (found == old and kind is replacing), "a wrong result: " + where
    if hit:
        again = ["--resume"] if kind is not replacing or found != old else ["--overwrite"]
        code, text = run(d, *again)
        if code == 2 and "identity" not in text and kind is replacing and "differ" in text:
            code, text = run(d, "--overwrite")
        assert code == 0 and digest(d) == want and answers(d) == want_lines, f"not mended ({code}): {text}\nafter {where}"
        left = sorted(os.listdir(d)) + sorted(os.listdir(os.path.join(d, "r.h5.d")))
        assert left == ["o.jsonl", "r.h5", "r.h5.d", "status.json"], f"left behind: {left} after {where}"
    return calls, hit


tried = 0
for kind in (fresh, replacing, resuming):
    for call in CALLS:
        if parts and not {kind.__name__, f"{kind.__name__}:{call}"} & set(parts):
            continue
        calls = attempt(kind, call, 0, False)[0]
        n = len(calls)
        assert n > 0 or (call == "mkdir"), f"{kind.__name__}: no {call} was seen"
        take = max(1, sample // (len(CALLS) * 3)) if sample > 0 else n
        numbers = sorted({1 + (2 * i + 1) * n // (2 * take) for i in range(take)} & set(range(1, n + 1)))
        for at in numbers:
            for sticky in ((False, True) if sample == 0 else (at % 2 == 0,)):
                tried += len(attempt(kind, call, at, sticky)[1]) > 0
        if sample > 0 and kind is fresh and call == "write":  # each kind of data that the results are made of
            own = [i + 1 for i, c in enumerate(calls) if "assembling" in c]
            more = own[::max(1, len(own) // 9)]
            tried += sum(len(attempt(kind, call, at, False)[1]) > 0 for at in more)
            numbers += more
        print(f"{kind.__name__}: {call}: {len(numbers)} of {n} calls", flush=True)
print(f"{tried} failures: no wrong result, none lost")
assert tried > 0
