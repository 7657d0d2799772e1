"""windows.py MAKE|CHECK WORK_DIR [RESULTS.h5...]: a rolling text longer than the model. make writes text.jsonl: the text, and each of
its windows, cut here, as a log-likelihood of its own: at most L ids are fed. check compares every stored row of the text, bit for
bit, with the row of the window that predicts behind it, and the sums."""
import json, random, sys
import h5py, numpy as np

L, VOCAB = 70, 258
LENGTHS = (71, 72, 140, 141, 142, 250)  # ids, the first is not scored; 71: one window whose last id is not fed


def windows(n):
    """(first id fed, first id predicted, end): lm-eval's get_rolling_token_windows with context_len 1 and a prefix token."""
    done = 0
    while done < n - 1:
        end = min(done + L, n - 1)  # predicts ids done + 1 ... end from ids end - L ... end - 1
        yield max(end - L, 0), done + 1, end + 1
        done = end


def texts():
    rng = random.Random(5)
    return [[rng.randrange(VOCAB) for _ in range(n)] for n in LENGTHS]


def make(path):
    with open(path, "w") as f:
        for t, ids in enumerate(texts()):
            f.write(json.dumps({"id": f"{t}", "text_ids": ids}) + "\n")
            for w, (a, b, e) in enumerate(windows(len(ids))):
                f.write(json.dumps({"id": f"{t}.{w}", "context_ids": ids[a:b], "continuation_ids": ids[b:e]}) + "\n")
                if e - a == L + 1:  # what is fed, as a prompt that fits
                    f.write(json.dumps({"id": f"{t}.{w}.fed", "context_ids": ids[a:e - 2], "continuation_ids": ids[e - 2:e - 1]}) + "\n")


def check(path):
    f = h5py.File(path)
    at = {i.decode(): k for k, i in enumerate(f["requests/id"][:])}
    assert (f["requests/status"][:] == 0).all(), f["requests/error"][:]
    po, ro = f["tokens/prompt_offsets"][:], f["rows/offsets"][:]
    bulk = [(n, f[n][:], n.startswith("routing")) for n in ("routing/experts", "routing/weights", "logits", "hidden", "mtp/logits") if n in f]
    assert len(bulk) >= 4

    def rows(r, name, v, layered):
        return v[:, ro[r]:ro[r + 1]] if layered else v[ro[r]:ro[r + 1]]

    for t, ids in enumerate(texts()):
        r, total = at[f"{t}"], 0.0
        assert f["tokens/prompt_ids"][po[r]:po[r + 1]].tolist() == ids
        assert ro[r + 1] - ro[r] == len(ids) - 1, (t, ro[r + 1] - ro[r])
        lp = f["tokens/prompt_logprobs"][po[r]:po[r + 1]]
        assert np.isnan(lp[0]) and not np.isnan(lp[1:]).any()
        for w, (a, b, e) in enumerate(windows(len(ids))):
            x = at[f"{t}.{w}"]
            mine = f["tokens/prompt_logprobs"][po[x]:po[x + 1]]
            assert (mine[b - a:] == lp[b:e]).all(), (t, w)
            total += float(f["requests/logprob_sum"][x])
            for name, v, layered in bulk:
                one, all_ = rows(x, name, v, layered), rows(r, name, v, layered)
                n = e - b if name != "mtp/logits" else e - b - 1  # a request's last row has no token but one behind it
                at_row = b - 1 - a
                got = all_[:, b - 1:b - 1 + n] if layered else all_[b - 1:b - 1 + n]
                want = one[:, at_row:at_row + n] if layered else one[at_row:at_row + n]
                assert got.shape == want.shape and got.tobytes() == want.tobytes(), (t, w, name)
                if f"{t}.{w}.fed" in at and name != "mtp/logits":
                    assert rows(at[f"{t}.{w}.fed"], name, v, layered).tobytes() == one.tobytes(), (t, w, name)
        assert abs(total - f["requests/logprob_sum"][r]) < 1e-9 * abs(total) + 1e-9


if sys.argv[1] == "make":
    make(sys.argv[2] + "/text.jsonl")
else:
    for p in sys.argv[3:]:
        check(p)
        print(p, "equal")
