#!/usr/bin/python3
"""digest.py RESULTS.h5 [--in-order] [--requests] [--tokens]: the digest of a results file, computed from the description of the
format alone (row hash: XXH3-128 over fields of u64 length and little-endian bytes; file: XXH3-128 over row hashes). --tokens: digest_tokens, which leaves out what --save-* options add."""
import struct
import sys

import h5py
import numpy as np
import xxhash


def f32(a):
    a = np.ascontiguousarray(a, dtype="<f4").reshape(-1).copy()
    a.view("<u4")[np.isnan(a)] = 0x7FC00000
    return a.tobytes()


def f64(v):
    return struct.pack("<Q", 0x7FF8000000000000) if np.isnan(v) else struct.pack("<d", v)


class File:
    def __init__(self, path):
        f = h5py.File(path, "r")
        req, tok = f["requests"], f["tokens"]
        self.id = [x if isinstance(x, bytes) else x.encode() for x in req["id"][:]]
        self.text = [x if isinstance(x, bytes) else x.encode() for x in req["text"][:]]
        self.small = {k: req[k][:] for k in ("kind", "status", "finish_reason", "choice", "logprob_sum", "is_greedy")}
        self.po, self.oo, self.ro = tok["prompt_offsets"][:], tok["output_offsets"][:], f["rows/offsets"][:]
        self.tok = {k: tok[k][:] for k in ("prompt_ids", "prompt_logprobs", "output_ids", "output_logprobs")}
        self.top = (tok["top_ids"][:], tok["top_logprobs"][:]) if "top_ids" in tok else None
        self.prompt_top = (tok["prompt_top_ids"][:], tok["prompt_top_logprobs"][:]) if "prompt_top_ids" in tok else None
        self.routing = (f["routing/experts"][:], f["routing/weights"][:]) if "routing" in f else None
        self.logits = f["logits"][:] if "logits" in f else None
        self.hidden = f["hidden"][:] if "hidden" in f else None
        self.mtp = f["mtp/logits"][:] if "mtp" in f else None
        self.last = self.logits is not None and bool(f["logits"].attrs["last"])

    def fields(self, r):
        s = self.small
        yield self.id[r]
        yield bytes([s["kind"][r]])
        yield bytes([s["status"][r]])
        full = s["status"][r] not in (1, 3)
        p = slice(self.po[r], self.po[r + 1]) if full else slice(0, 0)
        o = slice(self.oo[r], self.oo[r + 1]) if full else slice(0, 0)
        rows = slice(self.ro[r], self.ro[r + 1]) if full else slice(0, 0)
        yield bytes([s["finish_reason"][r]]) if full else b""
        yield struct.pack("<I", s["choice"][r]) if full else b""
        yield self.tok["prompt_ids"][p].astype("<i4").tobytes()
        yield f32(self.tok["prompt_logprobs"][p])
        yield self.tok["output_ids"][o].astype("<i4").tobytes()
        yield f32(self.tok["output_logprobs"][o])
        ids, lps = (self.top[0][o], self.top[1][o]) if self.top else (np.zeros((0, 0), "<i4"), np.zeros((0, 0), "<f4"))
        own = int((ids[0] >= 0).sum()) if len(ids) else 0
        yield np.ascontiguousarray(ids[:, :own]).astype("<i4").tobytes()
        yield f32(lps[:, :own])
        yield f64(s["logprob_sum"][r]) if full else b""
        yield bytes([s["is_greedy"][r]]) if full else b""
        yield self.text[r] if full else b""
        if self.prompt_top and full:
            ids, lps = self.prompt_top[0][p][1:], self.prompt_top[1][p][1:]
            own = int((ids[0] >= 0).sum()) if len(ids) else 0
            if own:
                yield np.ascontiguousarray(ids[:, :own]).astype("<i4").tobytes()
                yield f32(lps[:, :own])
        if "--tokens" in sys.argv:
            return
        if self.routing:
            for layer in range(self.routing[0].shape[0]):
                yield np.ascontiguousarray(self.routing[0][layer, rows]).astype("<u2").tobytes()
                yield f32(self.routing[1][layer, rows])
        if self.logits is not None:
            if self.last:
                yield f32(self.logits[r]) if full else b""
            else:
                yield f32(self.logits[rows])
        for saved in (self.hidden, self.mtp):
            if saved is not None:
                yield f32(saved[rows])

    def row(self, r):
        h = xxhash.xxh3_128()
        for field in self.fields(r):
            h.update(struct.pack("<Q", len(field)))
            h.update(field)
        return h.digest()


def main():
    f = File([a for a in sys.argv[1:] if not a.startswith("--")][0])
    rows = [(f.id[r], int(f.small["choice"][r]), f.row(r)) for r in range(len(f.id)) if f.small["status"][r] != 2]
    if "--in-order" not in sys.argv:
        rows.sort()
    if "--requests" in sys.argv:
        for i, choice, h in rows:
            print(h.hex(), i.decode(), choice)
    print(xxhash.xxh3_128(b"".join(h for _, _, h in rows)).hexdigest())


main()
