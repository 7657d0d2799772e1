#!/usr/bin/env python3
"""make_seeds.py TOP: writes tests/fuzz/seeds again, small inputs of every kind made from the files of tests/data.

A seed is small because the speed of a fuzzer is that of its inputs: one layer, few tokens, few frames."""
import json
import os
import re
import struct
import sys

top = sys.argv[1]
out = os.path.join(top, "tests/fuzz/seeds")


def put(kind, name, data):
    os.makedirs(os.path.join(out, kind), exist_ok=True)
    with open(os.path.join(out, kind, name), "wb") as f:
        f.write(data)


# ---------------------------------------------------------------- models of one layer
def read_header(path):
    with open(path, "rb") as f:
        return json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))


def one_layer(name, layer, config_changes, experts=8):
    """config and header of a model of which only one layer and the first experts are left, none of them shared."""
    d = os.path.join(top, "tests/data/models", name)
    config = json.load(open(os.path.join(d, "config.json")))
    config.update(config_changes)
    for key in list(config):
        if re.search("initial|cache|version|dropout|pdrop|jitter|output_|aux_loss|ep_size|bos_|eos_|torch_|architectures|_init", key):
            config.pop(key)
    header, at = {}, 0
    for file in sorted(f for f in os.listdir(d) if f.endswith(".safetensors")):
        for tensor, e in sorted(read_header(os.path.join(d, file)).items()):
            if tensor == "__metadata__":
                continue
            parts = tensor.split(".")
            numbers = [i for i, p in enumerate(parts) if p.isdigit()]
            if numbers:
                old = int(parts[numbers[0]])
                if old != layer or (len(numbers) > 1 and int(parts[numbers[1]]) >= experts) or "shared_experts" in parts:
                    continue
                parts[numbers[0]] = "0"
            n, shape = e["data_offsets"][1] - e["data_offsets"][0], e["shape"]
            if parts[-2:] in (["gate", "weight"], ["gate", "e_score_correction_bias"]) and shape[0] > experts:
                n, shape = n // shape[0] * experts, [experts] + shape[1:]
            header[".".join(parts)] = {"dtype": e["dtype"], "shape": shape, "data_offsets": [at, at + n]}
            at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    return json.dumps(config, separators=(",", ":")).encode(), struct.pack("<Q", len(text)) + text, at


# the index in this list is the selector of the weights target
models = [
    one_layer("mixtral_dense", 0, {"num_hidden_layers": 1}),
    one_layer("dbrx_a", 0, {"n_layers": 1}),
    one_layer("gptoss_a", 0, {"num_hidden_layers": 1, "layer_types": ["sliding_attention"]}),
    one_layer("deepseekv3_fp8", 1, {"num_hidden_layers": 1, "first_k_dense_replace": 0, "n_routed_experts": 1,
                                      "num_experts_per_tok": 1, "n_shared_experts": 0, "n_group": 1}, 1),
]
for i, (config, header, size) in enumerate(models):
    put("weights", str(i), header + bytes([i]) + struct.pack("<I", size))
    put("model", "%d.json" % i, config)
# found by the fuzzer: a header without tensors
put("weights", "empty", struct.pack("<Q", 2) + b"{}" + bytes([0]) + struct.pack("<I", 4))
for name in sorted(os.listdir(os.path.join(top, "tests/data/models"))):
    with open(os.path.join(top, "tests/data/models", name, "config.json")) as f:
        put("config", name, json.dumps(json.load(f), separators=(",", ":")).encode())
put("config", "model0", models[0][0])


# ---------------------------------------------------------------- tokenizers of few tokens
def few_tokens(name):
    with open(os.path.join(top, "tests/data/tokenizers", name, "tokenizer.json")) as f:
        t = json.load(f)
    m = t["model"]
    merges = [x.split(" ") if isinstance(x, str) else x for x in m["merges"]][:6]
    keep = {p for a, b in merges for p in (a, b, a + b)} | {a["content"] for a in t["added_tokens"]}
    keep |= {"<0x%02X>" % b for b in (0xC3, 0xA9, 0xE4)} | set("IntheigA1▁ĠÃ©") | {"<unk>"}
    tokens = [k for k in sorted(m["vocab"], key=m["vocab"].get) if k in keep]
    m["vocab"] = {k: i for i, k in enumerate(tokens)}
    m["merges"] = [[a, b] if name == "bpe_qwen" else a + " " + b for a, b in merges]
    t["added_tokens"] = [dict(a, id=m["vocab"].get(a["content"], len(tokens) + i))
                         for i, a in enumerate(t["added_tokens"][:4])]
    return json.dumps(t, separators=(",", ":"), ensure_ascii=False).encode()


for name in ("bpe_deepseek", "bpe_gpt4_dbrx", "bpe_qwen", "gpt2_bytelevel", "spm_metaspace", "spm_mixtral"):
    put("tokenizer", name, few_tokens(name))
# found by the fuzzer: a decoder whose first step makes nothing of a token
replaced = json.loads(few_tokens("spm_mixtral"))
replaced["decoder"]["decoders"] = [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": ""}, {"type": "ByteFallback"},
                                   {"type": "Strip", "content": " ", "start": 0, "stop": 5}, {"type": "Fuse"}]
put("tokenizer", "replaced", json.dumps(replaced, separators=(",", ":"), ensure_ascii=False).encode())
put("tokenizer", "unigram", json.dumps({
    "added_tokens": [{"id": 0, "content": "<unk>", "special": True, "lstrip": True, "normalized": False}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"}, {"type": "StripAccents"},
                   {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}, {"type": "Strip", "left": True,
                                                                                       "right": True}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
                      {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}]},
    "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
    "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": False, "vocab": [
        ["<unk>", 0.0], ["▁in", -1.5], ["▁the", -2.0], ["▁", -3.0], ["b", -4.0], ["e", -4.5], ["g", -5], ["in", -2.5]]},
}, separators=(",", ":"), ensure_ascii=False).encode())


# ---------------------------------------------------------------- sentencepiece: a protobuf of which field 1 is a piece
def varint(data, at):
    x = shift = 0
    while True:
        b = data[at]
        at += 1
        x |= (b & 127) << shift
        shift += 7
        if b < 128:
            return x, at


def few_pieces(name, keep):
    with open(os.path.join(top, "tests/data/tokenizers/spm_model", name), "rb") as f:
        data = f.read()
    at, pieces, got = 0, 0, b""
    data = data.replace(b"\x98\x02\x01", b"\x98\x02\x00")  # byte_fallback would need all 256 pieces
    while at < len(data):
        start = at
        tag, at = varint(data, at)
        n, at = varint(data, at)
        at += n
        if data[at - 2:at] == b"\x18\x06":  # the type of a byte's piece
            continue
        pieces += tag == 10
        if tag != 10 or pieces <= keep:
            got += data[start:at]
    return got


put("spm", "bpe", few_pieces("bpe.model", 24))
put("spm", "unigram", few_pieces("unigram.model", 24))


# ---------------------------------------------------------------- a journal of few frames, and records
def frames(data):
    at = 0
    while at + 16 <= len(data):
        n = struct.unpack("<I", data[at + 4:at + 8])[0]
        yield data[at:at + 16 + n]
        at += 16 + n


with open(os.path.join(top, "tests/fuzz/journal"), "rb") as f:
    journal = list(frames(f.read()))
done = [x for x in journal if x[16] == 3]
put("journal", "a", b"".join(journal[:3] + done[:1]))
put("journal", "torn", b"".join(journal[:2] + done[1:2])[:-5])
for i, x in enumerate(done):
    put("record", str(i), x[24:])

# ---------------------------------------------------------------- texts
for name in ("dbrx", "deepseek_v2", "deepseek_v3", "olmoe", "qwen2_5"):
    with open(os.path.join(top, "tests/data/chat", name + ".jinja"), "rb") as f:
        put("template", name, f.read())
put("template", "own", b"""\
{{ bos_token }}{%- set ns = namespace(i=0, last=messages|length - 1) -%}{% macro turn(m, n=3) %}{{ m['content'][1:n] ~ eos_token }}
{%- endmacro %}{% for message in messages %}{% if message['role'] == 'user' and loop.index0 % 2 == 1 %}
{{- '[INST] ' + message['content'] | trim + ' [/INST]' }}{% elif message.role == 'assistant' %}{{ turn(message, n=2) }}
{%- else %}{{ messages | tojson(indent=2) }}{% set ns.i = ns.i + 1 %}{% endif %}{% endfor %}
{%- if add_generation_prompt and not tools is none %}{{ ns.i }}{% endif %}""")
put("template", "qwen3_like", b"""\
{%- for m in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}{%- if m.role == "user" and m.content is string
 and not(m.content.startswith('<tool>') and m.content.endswith('</tool>')) %}{%- if '</think>' in m.content %}
{{- m.content.split('</think>')[-1].lstrip('\\n').rstrip() }}{%- endif %}{%- endif %}
{%- if m.tool_calls is defined %}{% for c in m.tool_calls | selectattr('id') | list %}{{ c.function.arguments | tojson }}
{%- for k, v in c.function.arguments | items %}{{ k|upper }}={{ v|string|replace('a', 'b') if v is not none else raise_exception('no') }}
{%- endfor %}{% endfor %}{% endif %}{% if loop.last or loop.first %}{{ strftime_now('%Y-%m-%d') }}{% else %}{% continue %}{% endif %}
{%- endfor %}{{ [1, 2.5, -3] | map('abs') | sum // 2 ** 1 }}{{ {'a': (1, 2), 'b': "x\\u00e9"}.items() | sort | join(', ') }}
{%- raw %}{{ no }}{% endraw %}{# c #}{% filter upper %}t{% endfilter %}""")
lines = {
    "completion": {
        "custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {
            "prompt": "Hello \u00e9", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "stop": ["x", "y"],
            "logit_bias": {"5": 1.5}, "n": 2, "seed": 7, "logprobs": 3, "echo": True}},
    "plain": {"id": "x", "prompt": "In the", "max_tokens": 3, "temperature": 0, "stop": "the", "logprobs": True},
    "tokens": {"id": "t", "prompt_ids": [1, 2, 3], "top_k": 5, "min_tokens": 1, "ignore_eos": True, "adapter": "b"},
    "chat": {"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": {
        "model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [
            {"type": "text", "text": "h\u00e9"}]}], "max_completion_tokens": 4, "top_logprobs": 2, "logprobs": True}},
    "sharegpt": {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]},
    "score": {"id": 7, "context": "a", "continuation_ids": [5, 6]},
    "rolling": {"id": "r", "text": "In the beginning"},
}
for name, line in lines.items():
    put("request", name, json.dumps(line, separators=(",", ":")).encode())

# ---------------------------------------------------------------- grammars: written by hand, seeds/regex and seeds/schema
