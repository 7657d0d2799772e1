"""Makes cases.json: texts in which each match of a pattern has become "|", by Hugging Face's tokenizers (Oniguruma, Unicode 16).
usage: python make.py > cases.json     (needs tokenizers)"""
import json
import random
from tokenizers import Regex, normalizers

PATS = [r"[A&&[^B]]",r"[a-z&&[^aeiou]]+|.",r"[^\p{L}&&[^b-d]]+",r"[\p{L}\p{M}&&[^a-c\s]]+|\d",r"[\p{L}&&\p{Lu}]+",r"[a-c[x-z]]+",r"[^a-c[x-z]]+",r"[a[b[^c]]&&[^d]]+",r"[\w&&[^\d_]]+",r"[]a&&[^b]]+",r"[[:alpha:]&&[^é]]+",
 r"[\P{L}]+",r"[\P{L}a]+",r"[^\P{L}a]+",r"\P{L}+",r"\p{^L}+",r"\p{Lu}+",r"[^\s\p{L}\p{N}]+",r"\p{N}{1,3}",r"\w+",r"\W+",r"\bA",r"[\W]+",r"[^\Da]+",r"[\D3]+",r"[[:alnum:]]+",r"[[:upper:][:digit:]]",r"[[:punct:]]+",r"[[:word:]]+",r"\d+",r"\D+",r"[^[:lower:]]",r"[\p{L}&&[^\p{Han}]]+|\p{Han}+",
 r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+",
 r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
 r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"]
ALPHABET = "AABBabcdexyz _1279é,.'s\n\u0301漢字\u1c89\u1c8a\ua7da\ua7dc\U00010d50\U00010d70\U00010d40\U0002ebf0\U00031350\U0001e4d0\U00011f50\U0001ccf0\u0897\U00010d6e\u1b4e\u2ff0\U0001faea]^-&["
rnd = random.Random(5)
texts = ["".join(rnd.choice(ALPHABET) for _ in range(rnd.randrange(1, 25))) for _ in range(60)]
rows = [[p, [normalizers.Replace(Regex(p), "|").normalize_str(s) for s in texts]] for p in PATS]
print(json.dumps(dict(texts=texts, cases=rows)))
