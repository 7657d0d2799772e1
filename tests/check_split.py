"""check_split.py RESULTS.h5 MODEL [SHARE]: the work of a job lies on its ranks as its plan says. Worked out
here from the layout's sizes, the saved routing and the lengths of the rows' sequences, by own formulas of
the two grids, and compared by == with what the ranks counted: multiply-adds of attention, bytes of keys and
values, rows of experts by rank and layer, resident bytes, ticks of the pipeline. With SHARE, every rank of a
sequence group has at most SHARE / sp of its group's attention and KV.

The job was run with --save-routing and --keep (a journal says which rank led a request), on ranks in order."""
import glob, json, os, re, struct, sys
import h5py, numpy as np

path, model = sys.argv[1:3]
f = h5py.File(path, "r")
plan, cfg = json.loads(f["provenance/plan"][()]), json.load(open(os.path.join(model, "config.json")))
segment = int(re.search(r"kv.segment\W*(\d+)", f["provenance/deck"][()].decode()).group(1))
z = plan["sizes"]
world, lanes, stages, size = z["world"], z["lanes"], z["stages"], z["stage_size"]
tp, sp, adp, ep, etp, edp = (z[k] for k in ("tp", "sp", "adp", "ep", "etp", "edp"))
attn, lane_scope, first = z["attention_ranks"], z["expert_scope"] == "lane", plan["first_layer"]
split = attn + z["expert_ranks"] == size and attn < size  # disaggregated
heads, kv_heads = cfg["num_attention_heads"], cfg["num_key_value_heads"]
d = cfg.get("head_dim") or cfg["hidden_size"] // heads
wide = 2 if f["provenance/numeric_path"][()].decode().startswith("bf16") else 4
owner, quota = plan["owner"], plan["quota"]  # every layer of these models is an MoE layer
layers = len(owner)
assert layers == cfg["num_hidden_layers"]


def leaders():
    """Request line -> the rank whose journal has its tokens."""
    home = {}
    for name in glob.glob(path + ".d/run-*/journal-*"):
        data, at = open(name, "rb").read(), 0
        while at + 16 <= len(data):
            length = struct.unpack_from("<I", data, at + 4)[0]
            kind, _, _, count = struct.unpack_from("<BBHI", data, at + 16)
            for i in range(count if kind == 2 else 0):
                home[struct.unpack_from("<Q", data, at + 24 + 20 * i)[0]] = int(name.rsplit("-", 1)[1])
            at += 16 + length
    return home


def part(i):
    """z = 0 .. sp - 1, sp - 1 .. 0"""
    return (list(range(sp)) + list(range(sp))[::-1])[i % (2 * sp)]


def members(e):
    """(ranks of a stage's or lane's expert grid that hold expert e's shards), numbered in the group."""
    out = []
    for shard in e if isinstance(e, list) else [e]:
        for c in range(edp):
            for x in range(etp):
                n = (c * ep + shard) * etp + x
                each = size - attn if split else size
                out.append(n // each * size + (attn if split else 0) + n % each)
    return sorted(out)


TURNS = 64


def turns(lm, e, homes, group):
    """Home -> the member that serves each of its 64 turns of an expert whose copies have quotas: quotas are rounded to turns of
    all homes at the boundaries between members; own turns first, then the node's, then any."""
    by = [(m, quota[lm][e][owner[lm][e].index(s)]) for s in owner[lm][e] for m in members(s)]
    by.sort()
    total, all_, at, left = TURNS * len(homes), sum(q for _, q in by), 0, []
    for m, q in by:
        left.append((2 * (at + q) * total + all_) // (2 * all_) - (2 * at * total + all_) // (2 * all_))
        at += q
    rest, node = {h: TURNS for h in homes}, lambda m: plan["node_of"][group + m]
    out = {h: [] for h in homes}

    def share(some, copies):
        units = [c for c in copies for _ in range(left[c])]  # turn by turn, eight of each home at a time
        while units and any(rest[h] for h in some):
            for h in some:
                for _ in range(min(8, rest[h], len(units))):
                    c = units.pop(0)
                    out[h].append(by[c][0])
                    rest[h] -= 1
                    left[c] -= 1

    for c in range(len(by)):
        share([h for h in homes if h == by[c][0]], [c])
    for x in sorted({node(m) for m, _ in by}):
        share([h for h in homes if node(h) == x], [c for c in range(len(by)) if node(by[c][0]) == x])
    share(homes, range(len(by)))
    assert not any(rest.values()) and not any(left)
    return out


flops, kv = np.zeros(world, np.int64), np.zeros(world, np.int64)
rows = np.zeros((world, layers), np.int64)
shared = {}  # rows of experts whose copies have quotas, by home
experts, offsets, lines = f["routing/experts"][:], f["rows/offsets"][:], f["requests/line"][:]
home, exact = leaders(), tp * sp == 1
for i, line in enumerate(lines):
    lead, n = home[int(line)], int(offsets[i + 1] - offsets[i])
    lane, a = lead // (size * stages), lead % size // (tp * sp)
    assert lead // size % stages == 0
    pos = np.arange(n)
    for s in range(stages):
        base = (lane * stages + s) * size
        group = lane * stages * size if lane_scope else base
        for q in range(sp):
            keys = np.zeros(n, np.int64)  # that the rows' sequence keeps on part q, for each row
            for g in range((n + segment - 1) // segment):
                if part(g) == q:
                    keys += np.clip(pos + 1 - g * segment, 0, segment)
            kept = sum(part(p // segment) == q for p in pos)
            for t in range(tp):
                r = base + (a * sp + q) * tp + t
                h0, h1 = heads * t // tp, heads * (t + 1) // tp
                own = (h1 - 1) // (heads // kv_heads) - h0 // (heads // kv_heads) + 1
                flops[r] += (first[s + 1] - first[s]) * int(keys.sum()) * (h1 - h0) * 2 * 2 * d
                kv[r] += (first[s + 1] - first[s]) * kept * own * 2 * d * wide
        for l in range(first[s], first[s + 1]):
            at = base - group + a * sp * tp  # the home of these rows in the exchange, where one rank has all
            for e in experts[l, offsets[i]:offsets[i + 1]].reshape(-1):
                if quota and quota[l][e]:
                    shared.setdefault((lane, s, l, e), {}).setdefault(at, 0)
                    shared[lane, s, l, e][at] += 1
                    continue
                m = members(owner[l][e])
                exact &= len(m) == 1 or tp * sp == 1
                rows[group + (at if at in m else m[at % len(m)]), l] += 1
assert (f["physical/attention_flops"][:] == flops).all(), (f["physical/attention_flops"][:], flops)
assert (f["physical/kv_bytes"][:] == kv).all(), (f["physical/kv_bytes"][:], kv)
got = f["physical/layer_rows"][:]
named = f["physical/rank"][:]  # where each row went, as the ranks themselves noted it
for (lane, s, l, e), by_home in shared.items():
    group = lane * stages * size + (0 if lane_scope else s * size)
    homes = [m for m in range(size * (stages if lane_scope else 1)) if not (split and m % size >= attn) and (not lane_scope or m // size == s)]
    plan_of, served = turns(l, e, homes, group), np.zeros(world, np.int64)
    for r in named[l][experts[l] == e]:
        served[r] += 1
    mine = np.zeros(world, np.int64)
    for x in range(world):
        mine[x] = served[x] if group <= x < group + size * (stages if lane_scope else 1) else 0
    # a step's rows of an expert go round its turns, so that no copy gets more than its part of them and a row a home and step
    # beside it; who has none of the turns gets none
    can = {m for h in by_home for m in plan_of[h]}
    assert {x - group for x in np.nonzero(mine)[0]} <= can, (l, e, mine, can)
    rows[:, l] += mine
assert (got.sum(0) == rows.sum(0)).all() and (f["physical/rows"][:] == got.sum(1)).all()
assert not exact or (got == rows).all(), (got, rows)
assert (got == np.array([np.bincount(x.reshape(-1), minlength=world) for x in named]).T).all()
peak, cats = f["metrics/memory_peak"][:], [x.decode() for x in f["metrics/memory_categories"][:]]
for what, name in (("weights", "weight_bytes"), ("experts", "expert_bytes")):
    assert (peak[:, cats.index(what)] == plan[name]).all(), (what, peak[:, cats.index(what)], plan[name])
assert (f["physical/expert_bytes"][:] == plan["expert_bytes"]).all()
if split:
    work = np.arange(world) % size < attn
    assert (flops[work] > 0).any() and (flops[~work] == 0).all() and (got[work] == 0).all()
if len(sys.argv) > 3:
    for x in (f["physical/attention_flops"][:], f["physical/kv_bytes"][:]):
        by = x.reshape(-1, sp, tp)  # attention groups of each stage, parts, heads
        assert (by <= float(sys.argv[3]) / sp * by.sum(1, keepdims=True)).all(), by
ticks, steps = f["metrics/pipeline_ticks"][:], f["metrics/pipeline_steps"][:]
assert ((steps == 0) | (ticks >= steps + stages - 1)).all() and steps.sum() > 0
print("attention", flops.tolist(), "rows", got.tolist(), "idle ticks", (ticks - steps).tolist(), "of", ticks.tolist())
