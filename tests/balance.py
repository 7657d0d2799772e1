"""balance.py PLACE [--long [SIZES]] [RESULTS.h5 ...]: placements by measured loads against DeepSeek's published balancer and the
optimum, as a table. PLACE is the program tests/place. The first half of a trace trains, the second judges, window by window.

The balancer is written here from its description: (hierarchical) groups of experts are packed on nodes, experts are replicated
inside each node - always the one with most load a replica - and replicas are packed on the node's GPUs, each next heaviest one
on the lightest GPU that has room; (global) the same with one group and one node. A replica takes an equal part of its expert's
load. The optimum of a placement is the least that its fullest GPU can have when loads are split freely: its dual is the largest,
over sets of GPUs, of the loads that cannot leave the set, per GPU; scipy's LP is asked too, if it is there."""
import json, subprocess, sys
import numpy as np

try:
    from scipy.optimize import linprog
except ImportError:
    linprog = None

place = sys.argv[1]
long = "--long" in sys.argv
recorded = [a for a in sys.argv[2:] if a.endswith(".h5")]
only = [a for a in sys.argv[2:] if a.count(":") == 2]  # EXPERTS:K:GPUS ...
WINDOWS = 8


# ---------------------------------------------------------------- the published balancer
def pack(weight, packs):
    room, sums, of = len(weight) // packs, [0.0] * packs, [0] * len(weight)
    used = [0] * packs
    for i in sorted(range(len(weight)), key=lambda i: -weight[i]):
        p = min((p for p in range(packs) if used[p] < room), key=lambda p: sums[p])
        of[i] = p
        sums[p] += weight[i]
        used[p] += 1
    return of


def replicate(weight, n):
    count = np.ones(len(weight), np.int64)
    of = list(range(len(weight)))
    for _ in range(n - len(weight)):
        e = int(np.argmax(weight / count))
        count[e] += 1
        of.append(e)
    return of, count


def eplb(load, gpus, redundant, groups, nodes):
    """[gpus][experts] part of each expert's load."""
    E = len(load)
    part = np.zeros((gpus, E))
    each = E // groups
    node_of = pack([load[g * each:(g + 1) * each].sum() for g in range(groups)], nodes)
    for node in range(nodes):
        ids = [e for e in range(E) if node_of[e // each] == node]
        of, count = replicate(load[ids], (E + redundant) // nodes)
        at = pack([load[ids[i]] / count[i] for i in of], gpus // nodes)
        for i, g in zip(of, at):
            part[node * (gpus // nodes) + g, ids[i]] += 1 / count[i]
    return part


# ---------------------------------------------------------------- the optimum of a placement
def bound(holders, load, sums):
    """The best lower bound by sets of the fullest GPUs."""
    best = load.sum() / len(sums)
    order = np.argsort(-sums)
    rank = np.empty(len(sums), int)
    rank[order] = np.arange(len(sums))
    last = np.zeros(len(sums))
    for h, l in zip(holders, load):
        last[max(rank[g] for g in h)] += l
    return max(best, (np.cumsum(last) / np.arange(1, len(sums) + 1)).max())


def optimum(holders, load, gpus):
    """Loads are levelled, expert by expert, until a set of GPUs proves that it gets no better."""
    share = [np.full(len(h), l / len(h)) for h, l in zip(holders, load)]
    sums = np.zeros(gpus)
    for h, s in zip(holders, share):
        sums[h] += s
    movable = [e for e, h in enumerate(holders) if len(h) > 1]
    best = bound(holders, load, sums)
    for sweep in range(4000):
        if sums.max() <= best * (1 + 1e-5):
            break
        for e in movable if sweep % 2 == 0 else reversed(movable):
            h, s = holders[e], share[e]
            base = sums[h] - s
            at = np.sort(base)
            level = min(x for x in (np.cumsum(at) + load[e]) / np.arange(1, len(h) + 1))
            share[e] = np.maximum(level - base, 0)
            sums[h] = base + share[e]
        best = max(best, bound(holders, load, sums))
    return best


def program(holders, load, gpus):
    pairs = [(e, g) for e, h in enumerate(holders) for g in h]
    n = len(pairs)
    A, E = np.zeros((gpus, n + 1)), np.zeros((len(load), n + 1))
    for i, (e, g) in enumerate(pairs):
        A[g, i] = 1
        E[e, i] = 1
    A[:, n] = -1
    c = np.zeros(n + 1)
    c[n] = 1
    r = linprog(c, A, np.zeros(gpus), E, load, method="highs")
    assert r.status == 0
    return r.fun


# ---------------------------------------------------------------- ours
def ours(loads, gpus, redundant, nodes=1, groups=0, k=8, far=(0, 0, 0), slack=0, before=None):
    L, E = loads.shape
    text = f"{L} {E} {gpus} {redundant} {nodes} {groups} {k} {far[0]} {far[1]} {far[2]} {slack}\n" + " ".join(map(str, loads.reshape(-1)))
    r = subprocess.run([place] + ([before] if before else []), input=text, capture_output=True, text=True, check=True)
    return json.loads(r.stdout), int(r.stderr)


def parts(doc, layer, gpus):
    owner, quota = doc["owner"][layer], doc["quota"][layer] if doc["quota"] else None
    part = np.zeros((gpus, len(owner)))
    holders = []
    for e, o in enumerate(owner):
        h = o if isinstance(o, list) else [o]
        q = quota[e] if quota and quota[e] else [65536 / len(h)] * len(h)
        assert len(set(h)) == len(h) and sum(q) == 65536
        for g, x in zip(h, q):
            part[g, e] = x / 65536
        holders.append(h)
    return part, holders


# ---------------------------------------------------------------- traces
def zipf(rng, E, k, rows, s, drift, layers):
    """[2 * WINDOWS][layers][E] rows of experts, k different ones a row, by popularity rank to the power -s; with drift, the
    ranks of the experts go over into others until the end."""
    out = np.zeros((2 * WINDOWS, layers, E), np.int64)
    for l in range(layers):
        a = -s * np.log(1 + rng.permutation(E))
        b = -s * np.log(1 + rng.permutation(E))
        for w in range(2 * WINDOWS):
            t = drift * w / (2 * WINDOWS - 1)
            key = np.log((1 - t) * np.exp(a) + t * np.exp(b)) + rng.gumbel(size=(rows, E))
            out[w, l] = np.bincount(np.argpartition(-key, k, axis=1)[:, :k].reshape(-1), minlength=E)
    return out


def of_results(path):
    import h5py
    f = h5py.File(path)
    x, E = f["routing/experts"][:], f["metrics/expert_usage"].shape[1]
    cuts = np.linspace(0, x.shape[1], 2 * WINDOWS + 1).astype(int)
    return np.array([[np.bincount(x[l, a:b].reshape(-1), minlength=E) for l in range(len(x))] for a, b in zip(cuts, cuts[1:])])


# ---------------------------------------------------------------- a case
form = "{:<14} {:<9} {:>4} {:>4} {:>5} {:>3} | {:>8} {:>8} {:>7} | {:>8} {:>8} {:>7} {:>7}"
bad = []
programs = 0


def judge(trace, gpus, each, nodes, groups):
    """Of every layer what trained (EPLB, ours, the optimum of our placement), of every window and layer what came after it
    (EPLB, ours, the optimum of our placement in hindsight), as max / avg."""
    global programs
    train, after, t, h = trace[:WINDOWS].sum(0), trace[WINDOWS:], [], []
    far = (1e-3, 1e-3, 1e-3) if nodes > 1 else (0, 0, 0)
    doc, _ = ours(train, gpus, gpus * each, nodes, groups if groups > 1 else 0, 8, far)
    for l in range(train.shape[0]):
        p, holders = parts(doc, l, gpus)
        q = eplb(train[l].astype(float), gpus, gpus * each, groups, nodes)
        for load, to in [(train[l], t)] + [(w[l], h) for w in after]:
            mean = load.sum() / gpus
            if mean == 0:
                continue
            best = optimum(holders, load.astype(float), gpus)
            if linprog is not None and programs < 60 and gpus <= 64:
                programs += 1
                assert abs(program(holders, load.astype(float), gpus) - best) <= 1e-4 * best
            to.append(((q @ load).max() / mean, (p @ load).max() / mean, best / mean))
    return np.array(t), np.array(h)


def case(name, how, traces, gpus, each, nodes=1, groups=1):
    """Several traces of one kind: a placement for each, means over all."""
    E = traces[0].shape[2]
    if (E + gpus * each) % gpus or gpus * each > E * (gpus - 1):
        return
    both = [judge(t, gpus, each, nodes, groups) for t in traces]
    t, h = np.concatenate([b[0] for b in both]), np.concatenate([b[1] for b in both])
    opt, m = (t[:, 1] / t[:, 2]).max(), h.mean(0)
    print(form.format(name, how, E, gpus, nodes, each, *("%.4f" % x for x in (t[:, 0].mean(), t[:, 1].mean(), opt)),
                      *("%.4f" % x for x in (m[0], m[1], m[1] / m[0], (h[:, 1] / h[:, 2]).mean()))), flush=True)
    what = f"{name} {how}, {E} experts on {gpus} GPUs, {each} more each, {nodes} nodes: "
    if (t[:, 1] > t[:, 0] * (1 + 1e-4)).any():  # quotas are whole numbers
        bad.append(what + f"{(t[:, 1] / t[:, 0]).max():.4f} of EPLB's on what it was trained with")
    if opt > 1.01:
        bad.append(what + f"{opt:.4f} of the optimum of its placement")
    ratios.append((what, m[1] / m[0], how))


def zipfs(E, k, gpus, rows, layers, seeds, exponents):
    for s in exponents:
        for how, drift in (("still", 0), ("drifting", 1)):
            traces = [zipf(np.random.default_rng(seed), E, k, rows, s, drift, layers) for seed in range(seeds)]
            for each in (0, 1):
                case(f"zipf {s}", how, traces, gpus, each)
                if gpus >= 16:
                    case(f"zipf {s}", how, traces, gpus, each, 8, 8)


ratios = []
print("max/avg of GPUs' rows. What trained: EPLB, ours, ours / the optimum of our placement at worst;")
print("what came after it, mean over windows, layers and seeds: EPLB, ours, ours / EPLB, ours / the optimum in hindsight")
print(form.format("trace", "", "E", "GPUs", "nodes", "rep", "EPLB", "ours", "opt", "EPLB", "ours", "ratio", "hind"))
for path in recorded:
    trace = of_results(path)
    for gpus in (2, 4, 8):
        for each in (0, 1):
            case(path.rsplit("/", 1)[-1][:14], "recorded", [trace], gpus, each)
if long:
    for E, k, gpus in [(256, 8, g) for g in (8, 16, 32, 64, 128, 256)] + [(128, 8, g) for g in (8, 32, 128)] + [(64, 6, g) for g in (8, 64)]:
        if not only or f"{E}:{k}:{gpus}" in only:
            zipfs(E, k, gpus, 2048, 2, 4, (0.5, 1.0, 1.5))
else:
    zipfs(64, 6, 8, 512, 3, 2, (0.5, 1.5))
    zipfs(256, 8, 32, 512, 2, 2, (1.0,))
# Afterwards luck has a part in each single kind, most where rows have drifted: means over kinds.
bad += [w + f"{r:.4f} of EPLB's afterwards" for w, r, how in ratios if how == "still" and r > 1.015]
for kind in ("recorded", "still", "drifting"):
    of = [r for _, r, how in ratios if how == kind]
    if of:
        print(f"afterwards, ours / EPLB, {kind}: mean {np.mean(of):.4f}, from {min(of):.4f} to {max(of):.4f}")
        if np.mean(of) > 1.005:
            bad.append(f"{np.mean(of):.4f} of EPLB's afterwards, {kind}")
print("\n".join(bad) if bad else "nowhere worse than EPLB on what trained, at most 1.01 of the optimum; afterwards at most 1.005 of EPLB")
sys.exit(bool(bad))
