#!/usr/bin/env python3
"""Writes cases.json: prompts, outputs, stop strings and what must come of them, worked out token by token on whole texts, with
nothing but the vocabularies. make_cases.py DIR_OF_TOKENIZERS [CASES [SEED]] > cases.json"""
import json, random, sys

ROOT = sys.argv[1]
COUNT, SEED = [int(x) for x in (sys.argv[2:] + ["120", "1"][len(sys.argv) - 2:])]


def byte_map():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {**{chr(b): b for b in plain}, **{chr(256 + i): b for i, b in enumerate(rest)}}


class Tokens:
    def __init__(self, name):
        t = json.load(open("%s/%s/tokenizer.json" % (ROOT, name)))
        self.name, self.level = name, byte_map() if t["decoder"]["type"] == "ByteLevel" else None
        self.special = {a["id"] for a in t["added_tokens"] if a["special"]}
        self.bytes = {i: self.of(s) for s, i in t["model"]["vocab"].items()}
        self.bytes.update({a["id"]: a["content"].encode() for a in t["added_tokens"]})

    def of(self, s):
        if self.level:
            return bytes(self.level[c] for c in s) if all(c in self.level for c in s) else s.encode()
        if len(s) == 6 and s.startswith("<0x"):
            return bytes([int(s[3:5], 16)])
        return s.replace("\u2581", " ").encode()


def whole(b):
    try:
        b.decode()
        return True
    except UnicodeDecodeError:
        return False


def begun(b):
    """The longest end that begins a character."""
    for n in range(min(3, len(b)), 0, -1):
        for more in range(1, 4):
            for fill in (b"\x80", b"\x90", b"\xbf"):
                if whole(b[-n:] + fill * more) and not whole(b[-n:]) and len((b[-n:] + fill * more).decode()) == 1:
                    return b[-n:]
    return b""


def run(t, c):
    """(tokens used, finish, text or None where decoding whole texts is another test's matter)"""
    lead = begun(b"".join(t.bytes[i] for i in c["prompt"])) if t.level else b""
    seen, marks, held = lead, [], 0
    for n, i in enumerate(c["output"], 1):
        if n > c["min_tokens"] and i in c["stop_token_ids"]:
            kept = c["output"][:n if c["include"] else n - 1]
            return n, "stop", plain(t, c, kept, lead)
        old = len(seen)
        seen += t.bytes[i]
        marks += [i in t.special] * (len(seen) - old)
        if n <= c["min_tokens"]:
            held = len(seen)
            continue
        hits = [(at, k, len(s)) for k, s in enumerate(x.encode() for x in c["stop"]) for at in range(len(seen) - len(s) + 1)
                if seen[at:at + len(s)] == s and at + len(s) > max(old, held)]
        if hits:
            at, _, size = min(hits)
            end = at + (size if c["include"] else 0)
            hide = [False] * len(lead) + marks
            return n, "stop", show(bytes(b for b, h in zip(seen[:end], hide) if c["keep"] or not h), lead)
    return len(c["output"]), "length", plain(t, c, c["output"], lead)


def plain(t, c, ids, lead):
    b = lead + b"".join(t.bytes[i] for i in ids if c["keep"] or i not in t.special)
    return show(b, lead) if whole(b) else None


def show(b, lead):
    if lead and b:
        good = any(whole(b[:k]) for k in range(1, 5))
        text = b.decode("utf-8", "replace")
        return text if good else text[1:]
    return b.decode("utf-8", "replace")


def make(rng, t):
    ids = sorted(t.bytes)
    single = [i for i in ids if len(t.bytes[i]) == 1 and t.bytes[i][0] > 127] or ids
    short = [i for i in ids if len(t.bytes[i]) <= 2 and t.bytes[i].isascii()]

    def draw():
        how = rng.random()
        if how < 0.15:
            return [rng.choice(sorted(t.special))]
        if how < 0.35:
            wanted = rng.choice("\u00e9\u20ac\U0001f9ea\u4e2d").encode()
            return [i for b in wanted for i in [next((j for j in ids if t.bytes[j] == bytes([b])), ids[5])]]
        return [rng.choice(single if how < 0.4 else short if how < 0.8 else ids)]
    prompt = [i for i in ids if t.bytes[i] == b"a"][:1] + (draw()[:rng.randint(1, 3)] if t.level and rng.random() < 0.3 else [])
    output = sum((draw() for _ in range(rng.randint(1, 14))), [])
    text = b"".join(t.bytes[i] for i in output).decode("utf-8", "ignore") or "x"
    stops = []
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(text))
        stops.append(text[at:at + rng.randint(1, 4)] if rng.random() < 0.8 else rng.choice(["zq", "\n", "\ufffd", " "]))
    return {"tokenizer": t.name, "prompt": prompt, "output": output, "stop": stops, "include": rng.random() < 0.3,
            "keep": rng.random() < 0.3, "min_tokens": rng.choice((0, 0, 0, 1, 3, 8)),
            "stop_token_ids": sorted({rng.choice(output)}) if rng.random() < 0.2 else []}


def main():
    rng = random.Random(SEED)
    cases = []
    for name in ("bpe_qwen", "spm_mixtral", "spm_metaspace", "gpt2_bytelevel"):
        t = Tokens(name)
        for _ in range(COUNT):
            c = make(rng, t)
            c["used"], c["finish"], c["text"] = run(t, c)
            c["text"] = c["text"] and c["text"].replace("\0", "\ufffd")
            cases.append(c)
    json.dump(cases, sys.stdout, separators=(",", ":"))


main()
