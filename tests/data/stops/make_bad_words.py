"""Makes bad_words.json: the sequences of ids that lists of bad words stand for, by vLLM's rule (SamplingParams.update_from_tokenizer)
written again, over Hugging Face's tokenizers: each word without the spaces in front of it, then behind one space, which counts only
if it begins with another token than the former and has as many; a word that has no token is an error.
usage: python make_bad_words.py > bad_words.json     (needs tokenizers; in this directory)"""
import json, random
from tokenizers import Tokenizer

TOKENIZERS = {"demo": "../../../inputs/models/demo", **{n: "../tokenizers/" + n for n in ("bpe_qwen", "bpe_deepseek", "spm_mixtral", "spm_metaspace")}}
WORDS = ["the", " the", "The", "of", "and", "LORD", "God", "heaven", "earth", "in the", "file system", "file", " file", "files", "is", "a", " a", "e",
         ".", ",", " ,", "  two", "\n", "\t\tx", "and the", "the earth", "beginning", "\u3000wide", "é", "naïve", "日本", "🎉", "l'eau", "<s>", "</s>",
         "[INST]", "1", "12", " 123", "x" * 12, "it's", "-", "--", "the the", "/etc", "options", "Prints", "shall", "unto", "\xa0nbsp", " ", "\u2003 "]


def sequences(t, words):
    out = []
    for word in words:
        for spaced in (False, True):
            ids = t.encode((" " if spaced else "") + word.lstrip(), add_special_tokens=False).ids
            if not ids:
                if not spaced:
                    return None
                continue
            if not spaced or (ids[0] != out[-1][0] and len(ids) == len(out[-1])):
                out.append(ids)
    return out


r, cases = random.Random(3), []
for name, path in TOKENIZERS.items():
    t = Tokenizer.from_file(path + "/tokenizer.json")
    lists = [[w] for w in WORDS] + [r.sample(WORDS, r.randrange(2, 6)) for _ in range(40)]
    cases += [dict(tokenizer=name, words=w, ids=sequences(t, w)) for w in lists]
print(json.dumps(dict(cases=cases), ensure_ascii=True).replace('{"tokenizer"', '\n{"tokenizer"'))
