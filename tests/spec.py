"""For tests of guessed tokens. A model whose next token is known: spec.py model MODEL OUT makes it of a DeepSeek-V3 with one MTP module. All layers add nothing, so that a
row is the embedding of its token alone, and the head holds for likeliest what follows in a circle of twelve tokens; the module reads the
next token alone and guesses what follows that one. spec.py input N SEED draws requests of all kinds. spec.py counts RESULTS prints
the guesses, those right, and the tokens that a step of a sequence gave, from the results' counters and rows."""
import json, os, random, shutil, struct, sys
import numpy as np

CIRCLE = 12


def bf16(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def tensors(vocab, hidden):
    """What each tensor becomes, by the end of its name; nothing: it stays."""
    rng = np.random.default_rng(1)
    e = rng.standard_normal((vocab, hidden)).astype(np.float32)
    e /= np.linalg.norm(e, axis=1, keepdims=True)
    head = np.zeros_like(e)
    for t in range(vocab):
        n = t + 1 if t % CIRCLE < CIRCLE - 1 and t + 1 < vocab else t - t % CIRCLE
        head[n] = 8 * e[t]
    both = np.concatenate([np.eye(hidden, dtype=np.float32), np.zeros((hidden, hidden), np.float32)], axis=1)
    one = np.ones(hidden, np.float32)
    return {"embed_tokens.weight": e, "lm_head.weight": head, "shared_head.head.weight": head, "eh_proj.weight": both, "enorm.weight": one,
            "hnorm.weight": one, "shared_head.norm.weight": one, "model.norm.weight": one, "o_proj.weight": 0, "down_proj.weight": 0}


def make(model, out):
    os.makedirs(out)
    with open(os.path.join(model, "config.json")) as f:
        config = json.load(f)
    new = tensors(config["vocab_size"], config["hidden_size"])
    for name in os.listdir(model):
        path = os.path.join(model, name)
        if not name.endswith(".safetensors"):
            shutil.copy(path, out)
            continue
        with open(path, "rb") as f:
            data = bytearray(f.read())
        n, = struct.unpack("<Q", data[:8])
        for key, t in json.loads(data[8 : 8 + n]).items():
            value = next((v for end, v in new.items() if key.endswith(end)), None)
            if key == "__metadata__" or value is None:
                continue
            a, b = (8 + n + x for x in t["data_offsets"])
            assert t["dtype"] in ("BF16", "F32"), t["dtype"]
            x = np.broadcast_to(np.float32(value), t["shape"])
            data[a:b] = bf16(x).tobytes() if t["dtype"] == "BF16" else np.ascontiguousarray(x).tobytes()
        with open(os.path.join(out, name), "wb") as f:
            f.write(data)


def one(r, i):
    start, step = r.randrange(4, 200), r.choice([1, 1, 1, 7])
    ids = [4 + (start + step * k) % 230 for k in range(r.choice([1, 5, 12, 30, 70, 130]))]
    q = {"id": i, "prompt_ids": ids, "max_tokens": r.choice([1, 2, 20, 50, 90]), "temperature": r.choice([0, 0, 1, 8]), "seed": r.randrange(9),
         "ignore_eos": r.random() < 0.8}
    extra = [{}, {"repetition_penalty": 1.3}, {"frequency_penalty": 0.5, "presence_penalty": 0.3}, {"n": 3}, {"stop": ["e", "ab"]},
             {"stop_token_ids": [r.randrange(4, 200)]}, {"bad_words": ["a", "th e"]}, {"min_tokens": 5, "ignore_eos": False},
             {"logit_bias": {"7": 3, "90": -100}}, {"logprobs": 3}, {"prompt_logprobs": 1}, {"guided_regex": "([a-c]{1,3},){1,9}"},
             {"guided_choice": ["ab", "abc", "b"]}, {"allowed_token_ids": list(range(40, 80))}, {"top_p": 0.8, "top_k": 9},
             {"guided_json": {"type": "array", "items": {"enum": ["a", "bc", 1]}, "maxItems": 6}}]
    q.update(r.choice(extra))
    if r.random() < 0.1:
        q = {"id": i, "context_ids": ids, "continuation_ids": ids[:3]}
    return q


def draw(n, seed):
    r, lines = random.Random(int(seed)), []
    for i in range(int(n)):
        q = dict(r.choice(lines), id=i) if lines and r.random() < 0.15 else one(r, i)
        lines.append(q)
        print(json.dumps(q))


def counts(results):
    import h5py
    f = h5py.File(results)
    made, right = (int(f["metrics/" + n][:].sum()) for n in ("guessed_rows", "right_guesses"))
    out = int(f["tokens/output_offsets"][-1])
    print(made, right, "%.3f" % (out / (out - right)))


if __name__ == "__main__":
    {"model": make, "input": draw, "counts": counts}[sys.argv[1]](*sys.argv[2:])
