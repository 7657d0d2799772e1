"""For the campaigns that end jobs in the middle (kill.py, stop.py): requests, processes of a job,
journals."""
import glob, json, os, re, struct, subprocess, time
import xxhash

D, T, P, S = ("--data-parallel-size", "--tensor-parallel-size", "--pipeline-parallel-size",
              "--sequence-parallel-size")
X, C, LANE, SPLIT = ("--expert-tensor-parallel-size", "--expert-data-parallel-size", "--expert-scope=lane",
                     "--disaggregate")
# Quite different layouts by number of ranks, options one behind the other.
LAYOUTS = {1: [[]],
           2: [[], [D, 2], [T, 2], [P, 2], [S, 2, X, 2], [P, 2, LANE], [SPLIT, "1:1"]],
           3: [[], [P, 3], [T, 3, X, 3], [SPLIT, "2:1"], [D, 3], [SPLIT, "1:2", X, 2]],
           4: [[], [T, 2, S, 2], [P, 2, X, 2], [P, 2, T, 2, LANE], [D, 2, C, 2], [D, 2, P, 2], [SPLIT, "2:2", T, 2]]}

exe = mpirun = model = requests = None  # set by setup


def setup(exe_, mpirun_, model_, prompts, work, copies):
    """Requests of every prompt `copies` times, with seeds and ids of their own, in a work directory."""
    global exe, mpirun, model, requests
    exe, mpirun, model, requests = exe_, mpirun_, model_, os.path.join(work, "in.jsonl")
    os.makedirs(work)
    with open(requests, "w") as f:
        for copy in range(copies):
            for x in map(json.loads, open(prompts)):
                f.write(json.dumps(dict(x, id=f"{x['id']}/{copy}", seed=copy)) + "\n")


def command(out, ranks, *more):
    return ["sh", mpirun, str(ranks), exe, "run", "-m", model, "-i", requests, "-o", out,
            "--max-num-seqs", "4", *more]


def draw_layout(rng, ranks, besides=None):
    """Options of a random layout of so many ranks, another one than `besides`."""
    return rng.choice([x for x in ([str(w) for w in l] for l in LAYOUTS[ranks]) if x != besides or ranks == 1])


def digest(out):
    r = subprocess.run([exe, "inspect", out, "--digest"], capture_output=True, text=True, check=True)
    return r.stdout.split()[-1]


def ranks_of(out):
    """Processes of the job: they have its results file on their command line."""
    found = []
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{p}/cmdline", "rb").read().split(b"\0")
        except OSError:
            continue
        if os.fsencode(out) in words and os.path.basename(words[0]).startswith(b"moebatch"):
            found.append(int(p))
    return found


def send(pid, sig):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def acknowledged(out):
    try:
        return json.load(open(out + ".d/status.json"))["acknowledged"]
    except (OSError, ValueError, KeyError):
        return 0


def rows_written(out):
    """What write() has returned for, read as src/io/journal.h says: (run, line, choice) -> the record's
    frame, of the valid prefix of every journal."""
    rows = {}
    for name in glob.glob(out + ".d/run-*/journal-*"):
        run = os.path.basename(os.path.dirname(name))
        data, at = open(name, "rb").read(), 0
        while at + 16 <= len(data):
            marker, length, want = struct.unpack_from("<4sIQ", data, at)
            frame = data[at + 16:at + 16 + length]
            if marker != b"MBJL" or len(frame) != length or xxhash.xxh3_64_intdigest(frame) != want:
                break
            kind, mask = frame[:2]
            if kind in (3, 4):
                line, choice = struct.unpack_from("<Qi", frame, 8 + 16 * bin(mask).count("1") + 4)
                rows[run, line, choice] = frame
            at += 16 + length
    return rows


def left_in_shm(before):
    """(names of the program's segments, number of Open MPI's) that came after `before` and nobody has
    mapped. Open MPI's carry the number of their job, so that no other run opens them; they stay where
    mpirun was killed, and are removed here."""
    maps = ""
    for p in filter(str.isdigit, os.listdir("/proc")):
        try:
            maps += open(f"/proc/{p}/maps", errors="replace").read()
        except OSError:
            pass
    stale = [x for x in set(os.listdir("/dev/shm")) - before if f"/dev/shm/{x}" not in maps]
    mpis = [x for x in stale if x.startswith(("vader_segment.", "sm_segment."))]
    for x in mpis:
        path = f"/dev/shm/{x}"
        if os.path.exists(path) and time.time() - os.stat(path).st_mtime > 5:
            os.remove(path)
    return [x for x in stale if re.fullmatch("moebatch-[0-9a-f]{16}", x)], len(mpis)
