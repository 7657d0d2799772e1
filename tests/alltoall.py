"""Holds what `bench alltoall` counted against numbers computed here: alltoall.py RESULTS.json. Routes are drawn anew (Philox, Gumbel
top-k), bytes of a dispatch come from them by hand; those of the combine must be what the plan's formulas say."""
import json, math, sys


def philox(c, key):
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k0, p1 & 0xFFFFFFFF, p0 >> 32 ^ c[3] ^ k1, p0 & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def draw(key, a, b, c):
    return (philox([a, b, c, 2], key)[0] + 0.5) / 2**32


def routes(seed, rank, rows, experts, k, exponent):
    order = sorted(range(experts), key=lambda e: (-draw(seed, e, 0, 0xFFFFFFFF), e))
    log_of = {e: -exponent * math.log(i + 1) for i, e in enumerate(order)}
    out = []
    for r in range(rows):
        keys = [(log_of[e] - math.log(-math.log(draw(seed, e, r, rank))), e) for e in range(experts)]
        out.append([e for _, e in sorted(keys, key=lambda x: (-x[0], x[1]))[:k]])
    return out


def main(path):
    d = json.load(open(path))
    ranks, nodes, size = d["ranks"], d["nodes"], 2 if d["type"] == "bf16" else 4
    each = ranks // nodes  # nodes have equally many ranks here
    exponent = 0 if d["routes"] == "uniform" else float(d["routes"].split(":")[1])
    seen = set()
    for x in d["results"]:
        if not x["name"].startswith("alltoall/"):
            continue
        E, K, H, T = x["experts"], x["topk"], x["hidden"], x["tokens"]
        seen.add((x["algorithm"], T, x["part"]))
        owner = [next(r for r in range(ranks) if r * E // ranks <= e < (r + 1) * E // ranks) for e in range(E)]
        row = (2 * K + 3) // 4 * 4 + 4 * K + H * size
        assert x["ranks_min"] <= x["ranks_median"] <= x["ranks_max"]
        assert x["median"] >= x["ranks_min"] * 0.999 and len(x["samples"]) >= 1 and all(s > 0 for s in x["samples"])
        assert x["bus_gbytes_per_second"] >= 0
        if "formula_bytes" in x and x["rounds"] == 1:
            assert x["bytes"]["inter"] == x["formula_bytes"]["inter"], x
            assert x["messages"]["inter"] == x["formula_messages"]["inter"], x
            if x["algorithm"] == "flat":  # what hier copies inside a node is in no formula
                assert x["bytes"] == x["formula_bytes"] and x["messages"] == x["formula_messages"], x
        if x["part"] != "dispatch":
            continue
        inside = outside = 0
        hier, plain = x["algorithm"] == "hier", x["algorithm"] == "MPI_Alltoallv"
        for r in range(ranks):
            sent = {}
            for ids in routes(d["seed"], r, T, E, K, exponent):
                to = {owner[e] // each if hier else owner[e] for e in ids}
                for p in to:
                    sent[p] = sent.get(p, 0) + row
            for p in range(nodes if hier else ranks):
                if p == (r // each if hier else r):
                    continue
                bytes_to = sent.get(p, 0) + (0 if plain else 64)
                if hier or p // each != r // each:
                    outside += bytes_to
                else:
                    inside += bytes_to
        assert x["bytes"]["inter"] == outside, (x, outside)
        if not hier:
            assert x["bytes"]["intra"] + x["bytes"]["shm"] == inside, (x, inside)
    print(*sorted(f"{a}:{t}:{p}" for a, t, p in seen))


main(sys.argv[1])
