"""Makes cases.json: small sentencepiece models, unigram and BPE, whose pieces have scores of a few values, so that paths tie or differ by
rounding alone, with user-defined and unused pieces and byte fallback; and what the sentencepiece package makes of random texts.
usage: python make.py > cases.json              (needs sentencepiece)
       python make.py compare PROGRAM MODELS    the same by moebatch tokenize, with many models"""
import base64, json, os, random, subprocess, sys, tempfile
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2 as pb2

ROUND, EVEN = [-0.1, -0.2, -0.3, -0.4, -0.5, -0.6, -0.7, -1.1, -2.2, -3.3, -1 / 3, -2 / 3, -1.0], [-1.0, -2.0, -3.0]


def model(seed, kind):
    r, m = random.Random(seed), pb2.ModelProto()
    m.trainer_spec.model_type = kind
    m.normalizer_spec.add_dummy_prefix = r.random() < 0.5
    m.normalizer_spec.remove_extra_whitespaces = False

    def add(piece, score, type=1):
        x = m.pieces.add()
        x.piece, x.score, x.type = piece, score, type

    for piece, type in (("<unk>", 2), ("<s>", 3), ("</s>", 3)):
        add(piece, 0, type)
    if seed % 9 == 2:
        m.trainer_spec.byte_fallback = True
        for i in range(256):
            add("<0x%02X>" % i, 0, 6)
    letters, scores, seen = ("abc" if seed % 2 else "abé"), (ROUND if seed % 4 < 2 else EVEN), set()
    for c in letters + "\u2581":
        if r.random() < 0.9:
            add(c, r.choice(scores))
            seen.add(c)
    for _ in range(60):
        p = "".join(r.choice(letters + "\u2581") for _ in range(r.randrange(2, 6)))
        if p not in seen:
            seen.add(p)
            score = r.choice(scores) if r.random() < 0.7 else sum(r.choice(scores) for _ in p)
            add(p, score, 4 if r.random() < 0.06 else 5 if kind == 1 and r.random() < 0.06 else 1)
    texts = ["".join(r.choice(letters + " " + ("zξ" if r.random() < 0.2 else "")) for _ in range(r.randrange(1, 40))) for _ in range(20)]
    return m.SerializeToString(), texts


def cases(count):
    for seed in range(count):
        for kind in (1, 2):
            data, texts = model(seed, kind)
            sp = SentencePieceProcessor(model_proto=data)
            yield dict(what=f"{'unigram' if kind == 1 else 'BPE'} {seed}", model=base64.b64encode(data).decode(), texts=texts, ids=[sp.encode(t) for t in texts])


def compare(program, count):
    bad = all_texts = 0
    with tempfile.TemporaryDirectory() as d:
        for c in cases(count):
            open(d + "/tokenizer.model", "wb").write(base64.b64decode(c["model"]))
            out = subprocess.run([program, "tokenize", "-m", d], input="".join(json.dumps(t) + "\n" for t in c["texts"]).encode(), stdout=subprocess.PIPE, check=True).stdout
            for t, x, y in zip(c["texts"], map(json.loads, out.splitlines()), c["ids"], strict=True):
                all_texts += 1
                if x != y:
                    bad += 1
                    print(c["what"], repr(t), x, y)
    print(f"{2 * count} models, {all_texts} texts, {bad} differ")
    return bad


if len(sys.argv) > 3:
    sys.exit(compare(sys.argv[2], int(sys.argv[3])) > 0)
print(json.dumps(dict(models=list(cases(20)))).replace('{"what"', '\n{"what"'))
