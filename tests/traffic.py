"""traffic.py RESULTS.h5 HIDDEN: the exchange's counted bytes and messages against the formulas, worked out from the saved routing.

The job was run with --save-routing, --keep (the journals say which rank attends a request) and an --a2a-eager so large
that there are no second messages. The formulas, per MoE layer and step:
  messages  a rank sends one to each remote node (hier) or to each other rank (flat), in each direction, rows or none; where no
            rank at all has rows, the step ends after the first layer's dispatch;
  dispatch  64 bytes a message; a row goes once to each other node (rank) that holds one of its experts, with its
            k expert ids (2 bytes each, padded to 4 together), k weights (4 bytes each) and its hidden values;
  combine   64 bytes a message; from each of those nodes (ranks) the maximal nodes of the tree over expert ids whose
            chosen leaves it holds completely: hidden values of the numeric path for a lone term, of 4 bytes for an inner node.
"""
import glob, json, os, struct, sys
import h5py, numpy as np

SHM, INTRA, INTER = 1, 2, 3  # of the link classes self, shm, intra, inter


def homes(path):
    """Request line -> rank that attended it: the one whose journal has its tokens."""
    home = {}
    for name in glob.glob(path + ".d/run-*/*"):
        base = os.path.basename(name)
        if not base.startswith("journal-"):
            continue
        rank = int(base[len("journal-"):])
        data, at = open(name, "rb").read(), 0
        while at + 16 <= len(data):
            length = struct.unpack_from("<I", data, at + 4)[0]
            kind, _, _, count = struct.unpack_from("<BBHI", data, at + 16)
            if kind == 2:
                for i in range(count):
                    line = struct.unpack_from("<Q", data, at + 24 + 20 * i)[0]
                    assert home.setdefault(line, rank) == rank
            at += 16 + length
    return home


def maximal(chosen, held, lo, size):
    """(number of chosen leaves) of each maximal held node of the tree over [lo, lo + size)."""
    inside = [e for e in chosen if lo <= e < lo + size]
    if not inside:
        return []
    if all(e in held for e in inside):
        return [len(inside)]
    if size == 1:
        return []
    half = size // 2
    return maximal(chosen, held, lo, half) + maximal(chosen, held, lo + half, half)


def main():
    path = sys.argv[1]
    f = h5py.File(path, "r")
    experts, served = f["routing/experts"][:], f["physical/rank"][:]
    layers, total, k = experts.shape
    plan = json.loads(f["provenance/plan"][()])
    host = [h.decode() for h in f["provenance/host"][:]]
    world, hier = len(host), plan["alltoall"] == "hier"
    hidden = int(sys.argv[2])
    size = 2 if f["provenance/numeric_path"][()].decode().startswith("bf16") else 4
    tree = 1
    while tree < len(plan["owner"][0]):
        tree *= 2
    bytes_, counted = f["physical/exchange_bytes"][:], f["physical/exchange_messages"][:]
    # ranks of one host share memory, or use MPI all of them
    near = INTRA if not hier and counted[:, :, INTRA].any() else SHM
    peer = (lambda r: host[r]) if hier else (lambda r: r)
    home, lines, offsets = homes(path), f["requests/line"][:], f["rows/offsets"][:]
    row_bytes = (2 * k + 3) // 4 * 4 + 4 * k + (hidden * size + 3) // 4 * 4
    want = np.zeros((2, 4), dtype=np.int64)  # of the job: [dispatch, combine][link]
    sent = np.zeros((world, 4), dtype=np.int64)  # dispatch, by rank
    for i, line in enumerate(lines):
        r = home[int(line)]
        for t in range(offsets[i], offsets[i + 1]):
            for lm in range(layers):
                chosen = [int(e) for e in experts[lm, t]]
                owner = {e: int(s) for e, s in zip(chosen, served[lm, t])}
                for p in {peer(o) for o in owner.values()} - {peer(r)}:
                    link = near if not hier and host[p] == host[r] else INTER
                    sent[r, link] += row_bytes
                    held = {e for e in chosen if peer(owner[e]) == p}
                    want[1, link] += sum(hidden * (4 if n > 1 else size) for n in maximal(chosen, held, 0, tree))
    messages, back = np.zeros((world, 4), dtype=np.int64), np.zeros((world, 4), dtype=np.int64)
    steps, empty = f["metrics/steps"][:], f["metrics/empty_steps"][:]
    for r in range(world):
        for p in {peer(o) for o in range(world)} - {peer(r)}:
            link = near if not hier and host[p] == host[r] else INTER
            back[r, link] += layers * int(steps[r] - empty[r])
            messages[r, link] += layers * int(steps[r] - empty[r]) + int(empty[r])
    sent += 64 * messages
    want[0] = sent.sum(0)
    want[1] += 64 * back.sum(0)
    for link in (INTRA, INTER) if hier else (SHM, INTRA, INTER):
        assert (bytes_[:, 0, link] == sent[:, link]).all(), ("dispatch bytes", bytes_[:, 0, link], sent[:, link])
        assert bytes_[:, 1, link].sum() == want[1, link], ("combine bytes", bytes_[:, 1, link], want[1, link])
        assert (counted[:, 0, link] == messages[:, link]).all(), ("messages", counted[:, 0, link], messages[:, link])
        assert counted[:, 1, link].sum() == back[:, link].sum(), ("messages back", counted[:, 1, link], back[:, link])
    inter = bytes_[:, :, INTER].sum(0)
    assert len(set(host)) == 1 or inter.min() > 0
    print("inter", int(inter[0]), int(inter[1]), int(counted[:, :, INTER].sum()))


main()
