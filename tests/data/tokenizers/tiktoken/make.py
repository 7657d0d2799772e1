"""Makes tiktoken.model, tokenizer_config.json and cases.json: a vocabulary in tiktoken's own form, and what the tiktoken package makes
of texts with it as Kimi-K2's tokenizer class uses it: its pattern, 256 reserved tokens, runs of letters or blanks and long texts cut.
usage: python make.py     (needs tiktoken and regex)"""
import base64, json, random
import tiktoken
from tiktoken._educational import bpe_train

PATTERN = "|".join([
    r"[\p{Han}]+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
SOURCE = open("../../../../COPYING").read()[:9000] + "你好世界，欢迎使用模型。世界很大，你好。" * 6 + "Привет, мир! Приветствие. " * 6 + \
    "    return self.value\n        if x == 10:\n" * 8 + "naïve café résumé " * 5 + "0123456789 2024 1000 " * 5
TOKENS = 640
SPECIAL = ["[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>", None, "[EOT]", "<|im_system|>", "<|tool_calls_section_begin|>", "<|im_middle|>"]


def token(text, special):
    return dict(content=text, lstrip=False, normalized=False, rstrip=False, single_word=False, special=special)


def slices(text, run=25000, whole=400000):
    for k in range(0, len(text), whole):
        s, start, n, blank = text[k:k + whole], 0, 0, text[k].isspace()
        for i, c in enumerate(s):
            n, blank = (n + 1, blank) if c.isspace() == blank else (1, c.isspace())
            if n > run:
                yield s[start:i]
                start, n = i, 1
        yield s[start:]


ranks = bpe_train(SOURCE, TOKENS, "(?V1)" + PATTERN, visualise=None)
with open("tiktoken.model", "w") as f:
    for t, r in sorted(ranks.items(), key=lambda x: x[1]):
        f.write(base64.b64encode(t).decode() + " " + str(r) + "\n")
names = {TOKENS + i: s for i, s in enumerate(SPECIAL) if s}
names[TOKENS + 254], names[TOKENS + 255] = "[UNK]", "[PAD]"
json.dump(dict(tokenizer_class="TikTokenTokenizer", auto_map={"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]}, bos_token="[BOS]",
               eos_token="[EOS]", unk_token="[UNK]", pad_token="[PAD]", additional_special_tokens=["<|im_end|>", "<|im_user|>", "[EOT]"],
               added_tokens_decoder={str(i): token(s, "tool" not in s and "middle" not in s) for i, s in names.items()}),
          open("tokenizer_config.json", "w"), indent=1)
special = {names.get(i, f"<|reserved_token_{i}|>"): i for i in range(TOKENS, TOKENS + 256)}
enc = tiktoken.Encoding("kimi", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)
skipped = {i for s, i in special.items() if s in names.values() and ("tool" not in s and "middle" not in s)}


def case(text):
    ids = [i for s in (slices(text) if text else [""]) for i in enc.encode(s, allowed_special="all")]
    return dict(text=text, ids=ids, ids_plain=None, decoded=enc.decode(ids), decoded_skip=enc.decode([i for i in ids if i not in skipped]))


r = random.Random(11)
POOL = ["a", "B", "é", "ß", "Ǆ", "ǅ", "世", "界", "々", "〇", "、", "《", "・", "〜", "㈱", "ー", "カ", "한", "ا", "ि", "́", "1", "٣", "Ⅷ", "½", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000",
        "'s", "'LL", "'ſ", "!", "—", "🎉", "👩‍💻", "\u200d", "_", "\x00", "\x1c", "ſ", "K", "ᾳ", "𝐀", "𠀀", "\U0001e030", "\ua7cb", "<|im_end|>", "[BOS]", "<|reserved_token_645|>", "<|reserved_token_8|>"]
texts = ["", " ", "Hello, world! It's 2024: 12345 tokens.", "你好世界，欢迎使用Kimi！Hello世界HELLOworld", "<|im_user|>user<|im_middle|>Hi<|im_end|>",
         "[BOS]a[EOS] [PAD] <|tool_calls_section_begin|>", "HTMLParser isn't We'Ve DON'T x'tt", "def f(x):\n    return  x + 1\n\n\n\tend   ", "क्षि ñ Ǆabc ǅabc", "the" * 50,
         "   \n  \n x", "\u00a0\u00a0word", "١٢٣٤ ⅧⅨ", "𝐀𝐁c", "x" * 300, "naïve café" * 3]
texts += ["".join(r.choice(POOL) for _ in range(r.randrange(1, 24))) for _ in range(300)]
texts += [open("../../../../COPYING").read()[9000:13000]]
LONG = [["ab", 12600], [" ", 25003], [" word", 90000], ["世界a", 9000]]
decode = []
for _ in range(60):
    ids = [r.randrange(TOKENS + 256) for _ in range(r.randrange(1, 12))]
    decode.append(dict(ids=ids, decoded=enc.decode(ids), decoded_skip=enc.decode([i for i in ids if i not in skipped])))
long = []
for unit, times in LONG:
    ids = case(unit * times)["ids"]
    long.append([unit, times, len(ids), sum((i % 1000 + 1) * x for i, x in enumerate(ids))])
json.dump(dict(vocab_size=TOKENS + 256, encode=[case(t) for t in texts], decode=decode, long=long), open("cases.json", "w"), separators=(",", ":"))
