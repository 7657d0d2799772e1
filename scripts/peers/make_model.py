#!/usr/bin/env python3
"""make_model.py OUT [--kind mixtral|qwen3_moe] [sizes]: a model with random bf16 weights that all engines load. Needs numpy and tokenizers.

Embeddings have a standard deviation of 1, everything else 0.02: with small embeddings the mean that attention takes drowns the tokens,
and all of them go to the same few experts."""
import argparse, json, os, struct
import numpy as np


def bf16(a):
    u = np.ascontiguousarray(a, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype("<u2")


def config(a):
    c = dict(hidden_size=a.hidden, num_hidden_layers=a.layers, num_attention_heads=a.heads, num_key_value_heads=a.kv_heads,
             head_dim=a.head_dim, vocab_size=a.vocab, max_position_embeddings=4096, rms_norm_eps=1e-6, rope_theta=1e6, hidden_act="silu",
             attention_dropout=0.0, tie_word_embeddings=False, torch_dtype="bfloat16", bos_token_id=1, eos_token_id=2, use_cache=True,
             num_experts_per_tok=a.topk, router_aux_loss_coef=0.001, output_router_logits=False, sliding_window=None, model_type=a.kind)
    if a.kind == "mixtral":
        return dict(c, architectures=["MixtralForCausalLM"], num_local_experts=a.experts, intermediate_size=a.ffn)
    return dict(c, architectures=["Qwen3MoeForCausalLM"], num_experts=a.experts, moe_intermediate_size=a.ffn, intermediate_size=a.ffn * a.topk,
                norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], attention_bias=False, use_sliding_window=False, rope_scaling=None)


def shapes(a):
    """name, shape, standard deviation (0: ones)"""
    q, kv, H = a.heads * a.head_dim, a.kv_heads * a.head_dim, a.hidden
    yield "model.embed_tokens.weight", (a.vocab, H), 1.0
    for l in range(a.layers):
        p = f"model.layers.{l}."
        for name, n, k in (("q", q, H), ("k", kv, H), ("v", kv, H), ("o", H, q)):
            yield f"{p}self_attn.{name}_proj.weight", (n, k), 0.02
        if a.kind != "mixtral":
            yield p + "self_attn.q_norm.weight", (a.head_dim,), 0
            yield p + "self_attn.k_norm.weight", (a.head_dim,), 0
        yield p + "input_layernorm.weight", (H,), 0
        yield p + "post_attention_layernorm.weight", (H,), 0
        moe, names = (p + "block_sparse_moe.", "w1 w3 w2") if a.kind == "mixtral" else (p + "mlp.", "gate_proj up_proj down_proj")
        yield moe + "gate.weight", (a.experts, H), 0.02
        for e in range(a.experts):
            for i, name in enumerate(names.split()):
                yield f"{moe}experts.{e}.{name}.weight", (H, a.ffn) if i == 2 else (a.ffn, H), 0.02
    yield "model.norm.weight", (H,), 0
    yield "lm_head.weight", (a.vocab, H), 0.02


def weights(a, path):
    head, at, rng = {"__metadata__": {"format": "pt"}}, 0, np.random.default_rng(a.seed)
    for name, shape, _ in shapes(a):
        n = 2 * int(np.prod(shape))
        head[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for _, shape, sd in shapes(a):
            v = rng.standard_normal(shape, dtype=np.float32) * np.float32(sd) if sd else np.ones(shape, np.float32)
            f.write(bf16(v).tobytes())


def tokenizer(a, out):
    """Byte-level BPE: 3 special tokens, the 256 bytes, and pairs of letters, pairs of those ... up to the size of the vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    special, letters = ["<unk>", "<s>", "</s>"], list("etaoinshrdlucmfwypvbgkjqxz")
    vocab, merges, level = {t: i for i, t in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}, [], letters
    while len(vocab) < a.vocab:
        longer = []
        for left in level:
            for right in letters:
                if left + right not in vocab and len(vocab) < a.vocab:
                    vocab[left + right] = len(vocab)
                    merges.append((left, right))
                    longer.append(left + right)
        level = longer
    t = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>"))
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens(special)
    t.save(os.path.join(out, "tokenizer.json"))
    json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
               "model_max_length": 4096, "add_bos_token": False}, open(os.path.join(out, "tokenizer_config.json"), "w"))
    json.dump({"bos_token_id": 1, "eos_token_id": 2}, open(os.path.join(out, "generation_config.json"), "w"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out")
    p.add_argument("--kind", default="mixtral", choices=("mixtral", "qwen3_moe"))
    for name, value in (("hidden", 1024), ("layers", 8), ("heads", 16), ("kv-heads", 4), ("head-dim", 64), ("vocab", 32000), ("experts", 8),
                        ("topk", 2), ("ffn", 2816), ("seed", 1)):
        p.add_argument("--" + name, type=int, default=value)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    json.dump(config(a), open(os.path.join(a.out, "config.json"), "w"), indent=1)
    tokenizer(a, a.out)
    weights(a, os.path.join(a.out, "model.safetensors"))
    print(f"{a.out}: {sum(int(np.prod(s)) for _, s, _ in shapes(a)) / 1e6:.1f} million parameters")


if __name__ == "__main__":
    main()
