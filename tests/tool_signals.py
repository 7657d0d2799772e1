"""tool_signals.py MOEBATCH MODEL RESULTS.h5 PART1.h5 PART2.h5 WORK: commands that only show end by a signal; those that write a file
remove what is half written and end with 75, and then do the whole."""
import os, signal, subprocess, sys, time

moebatch, model, results, part1, part2, work = sys.argv[1:]
os.makedirs(work)
for sig in (signal.SIGINT, signal.SIGTERM):
    p = subprocess.Popen([moebatch, "tokenize", "-m", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    p.stdin.write(b'"hello"\n' * 5000)  # more than a buffer of output
    p.stdin.flush()
    assert p.stdout.readline().startswith(b"[")
    p.send_signal(sig)
    assert p.wait(timeout=30) == -sig, p.returncode
    p = subprocess.Popen([moebatch, "tokenize", "-m", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))  # as a shell's background jobs
    p.send_signal(signal.SIGINT)
    assert p.communicate(b'"hello"\n', timeout=30)[0].startswith(b"[") and p.returncode == 0
# after MPI_Init, too: a benchmark of about a minute
p = subprocess.Popen([moebatch, "bench", "latency", "-m", model, "--workload", "500x64+64"], stdout=subprocess.DEVNULL)
time.sleep(3)
assert p.poll() is None
p.send_signal(signal.SIGTERM)
assert p.wait(timeout=30) == -signal.SIGTERM, p.returncode


def stopped(args, out):
    """A signal at ever later moments, until one comes too late: 75 and nothing left, or 0 and a file."""
    wait, asked = 0.002, 0
    while True:
        p = subprocess.Popen([moebatch, *args], stderr=subprocess.PIPE)
        time.sleep(wait)
        p.send_signal(signal.SIGTERM)
        text = p.communicate(timeout=60)[1].decode()
        left = sorted(os.listdir(work))
        if p.returncode == 0:
            assert left == [out], left
            return asked
        if p.returncode == 75:
            assert "asked to stop" in text, text
            asked += 1
        else:
            assert p.returncode == -signal.SIGTERM and wait < 0.5, (p.returncode, text)  # before main
        assert left == [], (left, text)
        wait *= 1.5


n = stopped(["export", results, "--format", "csv", "-o", os.path.join(work, "r.csv")], "r.csv")
os.remove(os.path.join(work, "r.csv"))
n += stopped(["merge", part2, part1, "-o", os.path.join(work, "m.h5")], "m.h5")
print(n, "stopped")
assert n > 0
