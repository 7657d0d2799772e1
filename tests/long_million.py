"""long_million.py MOEBATCH MPIRUN_SH MODEL WORK_DIR [SMALL LARGE]: many short requests on 2 ranks. What rank 1 accounts for must not
depend on their number (0.5 %); its peak memory may differ by 5 % + 8 MB."""
import json, os, re, subprocess, sys, time
import h5py, numpy as np

exe, mpirun, model, work = sys.argv[1:5]
sizes = [int(x) for x in sys.argv[5:7]] or [100000, 1000000]
os.makedirs(work, exist_ok=True)
wrapper = os.path.join(work, "rss.sh")  # GNU time is not everywhere: the kernel's high-water mark, read at the end
open(wrapper, "w").write("""#!/bin/sh
"$@" &
pid=$!
while kill -0 $pid 2>/dev/null; do
    v=$(sed -n 's/^VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$pid/status 2>/dev/null)
    [ -z "$v" ] || echo "$v" >%s/rss.$OMPI_COMM_WORLD_RANK
    sleep 0.3
done
wait $pid
""" % work)
os.chmod(wrapper, 0o755)
seen = {}
for n in sizes:
    inp, out = os.path.join(work, "in.jsonl"), os.path.join(work, "out.h5")
    with open(inp, "w") as f:
        for i in range(n):
            f.write('{"prompt_ids":[%d],"max_tokens":1,"temperature":0}\n' % (3 + i % 200))
    t = time.time()
    r = subprocess.run(["sh", mpirun, "2", wrapper, exe, "run", "-m", model, "-i", inp, "-o", out, "--overwrite", "--threads", "1",
                        "--max-num-seqs", "256", "--kv-pages", "512", "--max-model-len", "1024"], stderr=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit(r.stderr[-3000:])
    f = h5py.File(out, "r")
    cats = [x.decode() for x in f["metrics/memory_categories"][:]]
    peak = f["metrics/memory_peak"][1]
    rss = int(open(os.path.join(work, "rss.1")).read())
    assert len(f["requests/status"]) == n and not f["requests/status"][:].any()
    seen[n] = (dict(zip(cats, map(int, peak))), rss)
    print(n, "requests:", f"{time.time() - t:.1f} s, rank 1 accounts for {peak.sum()} bytes, peak memory {rss} kB", flush=True)
    print("  " + "\n  ".join(x for x in r.stderr.splitlines() if re.match("time|memory|requests", x)), flush=True)
a, b = (seen[n] for n in sizes)
# Peaks of the exchange and of sequences follow what happened to arrive together, in two runs of one size as well.
if a[0]["index"] or b[0]["index"] or abs(sum(a[0].values()) - sum(b[0].values())) > 0.005 * sum(a[0].values()):
    sys.exit(f"accounted bytes differ: {a[0]} {b[0]}")
if b[1] > 1.05 * a[1] + 8192:
    sys.exit(f"peak memory grows: {a[1]} kB to {b[1]} kB")
