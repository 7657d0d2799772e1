"""Makes cases.json: what transformers' AutoTokenizer makes of tokens that only the files beside a tokenizer.json name.
usage: python make.py ../spm_mixtral > cases.json     (needs transformers)"""
import json, os, shutil, sys, tempfile
from transformers import AutoTokenizer

TEXTS = ["a <|x|> b", "a <s>  b", "a [INST] b", "x<|y|> <|z|> <s> ", "<unk>a</s>"]


def token(text, **flags):
    return dict(dict(content=text, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True), **flags)


X = "<|x|>"
CASES = {
    "nothing": ({}, {}),
    "new": (dict(added_tokens_decoder={"5000": token(X)}), {}),
    "flags": (dict(added_tokens_decoder={"1": token("<s>", rstrip=True, lstrip=True)}), {}),
    "no longer special": (dict(added_tokens_decoder={"1": token("<s>", special=False)}), {}),
    "extra list": (dict(extra_special_tokens=[X]), {}),
    "extra object": (dict(extra_special_tokens=dict(image_token=X)), {}),
    "additional": (dict(additional_special_tokens=[X]), {}),
    "pad": (dict(pad_token=X), {}),
    "pad object": (dict(pad_token=dict(token(X, lstrip=True, rstrip=True), __type="AddedToken")), {}),
    "file": ({}, {"added_tokens.json": {X: 1402}}),
    "file not read": (dict(added_tokens_decoder={}), {"added_tokens.json": {X: 1402}}),
    "file and name": (dict(pad_token=X), {"added_tokens.json": {"<|y|>": 1405, X: 1402}}),
    "map": ({}, {"special_tokens_map.json": {"pad_token": X}}),
    "order": (dict(added_tokens_decoder={"10": token("<|y|>"), "9": token(X), "100": token("<|z|>", normalized=True, special=False)}), {}),
    "named": (dict(bos_token="<|y|>", added_tokens_decoder={"10": token("<|y|>", special=False)}, extra_special_tokens=["<|z|>", X]), {}),
}


def case(name, config, files, base):
    with tempfile.TemporaryDirectory() as d:
        shutil.copy(os.path.join(base, "tokenizer.json"), d)
        files = dict(files, **{"tokenizer_config.json": config})
        for f, v in files.items():
            json.dump(v, open(os.path.join(d, f), "w"))
        t = AutoTokenizer.from_pretrained(d)
        ids = [t(s, add_special_tokens=False).input_ids for s in TEXTS]
        return dict(name=name, files=files, ids=ids, decoded=[t.decode(x, skip_special_tokens=True) for x in ids])


rows = [case(n, c, f, sys.argv[1]) for n, (c, f) in CASES.items()]
print(json.dumps(dict(texts=TEXTS, cases=rows), indent=None, ensure_ascii=False).replace('{"name"', '\n{"name"'))
