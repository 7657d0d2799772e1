"""The tokenizers of this directory, and what HF's tokenizers package makes of every code point with them.
usage: python make.py write            makes NAME.json and blocks.json (needs tokenizers, and regex in its newest version)
       python make.py compare PROGRAM  the same by moebatch tokenize; prints the code points that differ
blocks.json: for each tokenizer, the hash (FNV-1a, 32 bits, 8 hex digits each) over the ids of each block: 64 code points that have a
meaning, their text() joined by line feeds."""
import json, subprocess, sys, tempfile
import regex
import tokenizers
from tokenizers import Tokenizer

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
DEEPSEEK = [r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+",
            r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""]


def split(pattern):
    return dict(type="Split", pattern=dict(Regex=pattern), behavior="Isolated", invert=False)


BYTES = dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=False)  # the space shows where pieces begin
MARK = dict(type="Metaspace", replacement="▁", prepend_scheme="always", split=False)


def seq(kind, key, *steps):
    return {"type": "Sequence", key: list(steps)}


def byte_chars():
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    more = iter(range(256, 512))
    return [chr(b if b in own else next(more)) for b in range(256)]


def file(norm, pre, model):
    return dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=norm, pre_tokenizer=pre, post_processor=None, decoder=None, model=model)


def bpe():
    return dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False,
                byte_fallback=False, vocab={c: i for i, c in enumerate(sorted(byte_chars()))}, merges=[])


def unigram():
    return dict(type="Unigram", unk_id=0, byte_fallback=True, vocab=[["<unk>", 0.0], ["▁", -1.0]] + [["<0x%02X>" % b, -2.0] for b in range(256)])


def norms(*names):
    return seq("normalizer", "normalizers", *[dict(type=n, **(dict(strip_left=True, strip_right=True) if n == "Strip" else {})) for n in names])


def pres(*steps):
    return seq("pre", "pretokenizers", *steps)


def files():
    return {
        "qwen": file(norms("NFC"), pres(split(QWEN), BYTES), bpe()),
        "o200k": file(norms("NFKD"), pres(split(O200K), BYTES), bpe()),
        "deepseek": file(norms("NFD", "Lowercase"), pres(*[split(p) for p in DEEPSEEK], BYTES), bpe()),
        "words": file(norms("NFKC", "Lowercase"), pres(dict(type="Whitespace"), dict(type="Digits", individual_digits=False), MARK), unigram()),
        "bert": file(norms("Strip", "NFD", "StripAccents"), pres(dict(type="BertPreTokenizer"), MARK), unigram()),
    }


def points():
    return [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and not regex.match(r"\p{Cn}", chr(c))]


def text(c):
    s = chr(c)
    return s + "a" + s + "b " + s + s + " 1" + s + "2 A" + s + "\u0327\u0301z" + s


def hash_of(ids):
    h = 0x811C9DC5
    for i in ids:
        for b in (i & 255, i >> 8):
            h = ((h ^ b) * 0x01000193) & 0xFFFFFFFF
    return "%08x" % h


def reference(name, all_points):
    t = Tokenizer.from_str(json.dumps(files()[name]))
    return [e.ids for e in t.encode_batch([text(c) for c in all_points], add_special_tokens=False)]


def blocks_of(all_points):
    return [all_points[i:i + 64] for i in range(0, len(all_points), 64)]


def write():
    all_points, hashes = points(), {}
    texts = ["\n".join(map(text, b)) for b in blocks_of(all_points)]
    for name, f in files().items():
        json.dump(f, open(name + ".json", "w"), ensure_ascii=True)
        t = Tokenizer.from_str(json.dumps(f))
        hashes[name] = "".join(hash_of(t.encode(s, add_special_tokens=False).ids) for s in texts)
    ranges = []
    for c in all_points:
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    json.dump(dict(regex=regex.__version__, tokenizers=tokenizers.__version__, points=ranges, hashes=hashes), open("blocks.json", "w"), separators=(",", ":"))


def by_program(program, name, texts):
    with tempfile.TemporaryDirectory() as d:
        json.dump(files()[name], open(d + "/tokenizer.json", "w"))
        lines = "".join(json.dumps(t) + "\n" for t in texts)
        out = subprocess.run([program, "tokenize", "-m", d], input=lines.encode(), stdout=subprocess.PIPE, check=True).stdout
    return [json.loads(x) for x in out.splitlines()]


def compare(program, top=40):
    """Blocks of code points first, then each of those in blocks that differ."""
    all_points, failed = points(), 0
    blocks = blocks_of(all_points)
    texts = ["\n".join(map(text, b)) for b in blocks]
    for name in files():
        t = Tokenizer.from_str(json.dumps(files()[name]))
        want = [t.encode(s, add_special_tokens=False).ids for s in texts]
        got = by_program(program, name, texts)
        assert len(got) == len(want)
        some = [c for b, x, y in zip(blocks, want, got) if x != y for c in b]
        bad = [c for c, x, y in zip(some, reference(name, some), by_program(program, name, [text(c) for c in some])) if x != y]
        print(f"{name}: {len(all_points)} code points, {len(bad)} differ", " ".join("%x" % c for c in bad[:top]))
        failed += len(bad) + (len(some) > 0)
    return failed


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write()
    else:
        sys.exit(compare(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 40) > 0)
