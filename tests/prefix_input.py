"""Requests that begin alike, and what computing them once comes to. Usage:
prefix_input.py make [CONTEXTS [TOKENS]]        lines of all kinds on stdout; with CONTEXTS only contexts of TOKENS ids with 4 continuations
prefix_input.py trie RESULTS.h5                   computed rows, rows asked for, rows of the trie of all texts
"""
import json
import random
import sys


def ids(n, seed):
    draw = random.Random(seed)
    return [draw.randrange(10, 250) for _ in range(n)]


def few_shot(contexts, tokens):
    for c in range(contexts):
        context = ids(tokens(c), c)
        for k in range(4):
            yield {"id": f"s{c}.{k}", "context_ids": context, "continuation_ids": ids(2 + k, 1000 + 4 * c + k)}


def mixed():
    yield from few_shot(4, lambda c: 90 + c * 37)
    for i in range(3):
        yield {"id": f"n{i}", "prompt_ids": ids(37 + 40 * i, 50 + i), "n": 6, "max_tokens": 9, "temperature": 0.9, "seed": i}
    for i in range(4):
        yield {"id": f"g{i}", "prompt_ids": ids(64 + i // 2 * 6, 77), "max_tokens": 12, "temperature": 0}
    for i in range(3):
        yield {"id": f"p{i}", "prompt_ids": ids(70, 77) + ids(i, 5), "max_tokens": 3, "temperature": 0, "prompt_logprobs": 1}
    for i in range(2):
        yield {"id": f"r{i}", "text_ids": ids(80, 9), "max_tokens": 0}
    for i in range(3):
        yield {"id": f"w{i}", "prompt_ids": ids(100, 5), "max_tokens": 6, "repetition_penalty": 1.3, "logprobs": 2, "seed": i}


def trie(results):
    import h5py

    texts, count = [], 0
    with h5py.File(results) as f:
        at, out = f["tokens/prompt_offsets"][:], f["tokens/output_offsets"][:]
        prompt, drawn = f["tokens/prompt_ids"][:], f["tokens/output_ids"][:]
        for r in range(len(at) - 1):
            texts.append(tuple(prompt[at[r]:at[r + 1]]) + tuple(drawn[out[r]:max(out[r], out[r + 1] - 1)]))
        computed = int(f["metrics/attended_rows"][:].sum())
        cached = int(f["metrics/cached_rows"][:].sum()) - int(f["metrics/recomputed_rows"][:].sum())
    before = ()
    for text in sorted(texts):
        common = next((i for i, (a, b) in enumerate(zip(before, text)) if a != b), min(len(before), len(text)))
        count += len(text) - common
        before = text
    print(computed, computed + cached, count)


if sys.argv[1] == "trie":
    trie(sys.argv[2])
else:
    lines = few_shot(int(sys.argv[2]), lambda c: int(sys.argv[3])) if len(sys.argv) > 3 else mixed()
    for line in lines:
        print(json.dumps({**line, **({"ignore_eos": True} if "max_tokens" in line else {})}))
