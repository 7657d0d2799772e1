"""check_spread.py RESULTS.h5: the experts of a job are spread as its plan says. Every rank holds at most
its share of the experts of a layer and one more; the rows it served are those that the routers sent to its
experts; bytes were exchanged."""
import json, sys
import h5py, numpy as np

f = h5py.File(sys.argv[1], "r")
owner = np.array(json.loads(f["provenance/plan"][()])["owner"])  # [MoE layer][expert] -> rank
layers, experts = owner.shape
own, rows, usage = f["physical/expert_bytes"][:], f["physical/rows"][:], f["metrics/expert_usage"][:]
world = len(own)
one = own.sum() / owner.size
assert one > 0 and (own <= own.sum() / world + layers * one).all(), own
assert (own == one * np.bincount(owner.reshape(-1), minlength=world)).all(), own
served = np.zeros(world, dtype=np.int64)
np.add.at(served, owner.reshape(-1), usage.reshape(-1))
assert usage.sum() > 0 and (served == rows).all(), (served, rows)
assert world == 1 or f["physical/exchange_bytes"][:].sum() > 0
if "routing" in f:
    assert (np.bincount(f["routing/experts"][:].reshape(-1), minlength=experts) == usage.sum(0)).all()
    assert (np.bincount(f["physical/rank"][:].reshape(-1), minlength=world) == rows).all()
