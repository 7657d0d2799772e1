"""wrong_variants.py MOEBATCH MODELS_DIR WORK_DIR [MODEL...]: reference models changed in one setting or one kind of tensor, so that what
is computed is a plausible mistake (the other rotation, a bias left out, no selection of keys, no decay ...), must miss their golden logits,
and unchanged they must meet them. It shows that every such setting and tensor is read and used, and that the goldens would tell."""
import json, os, shutil, struct, subprocess, sys
import h5py, numpy as np

exe, models, work = sys.argv[1:4]
PROMPT = 4  # 64 tokens: beyond every window, chunk, choice of keys and scale of positions of these models
DTYPE = {"BF16": np.uint16, "F32": np.float32}


def setting(**new):
    """Keys of config.json's text part; None removes one. A dict changes a dict's keys."""
    def change(c, tensors):
        for k, v in new.items():
            if isinstance(v, dict) and isinstance(c.get(k), dict):
                c[k].update(v)
            elif v == "gone":
                c.pop(k)
            else:
                c[k] = v
    return change


def tensors(part, fn, but=""):
    """fn of every tensor whose name has `part` (f32 in and out)."""
    def change(c, all):
        names = [n for n in all if part in n and not (but and but in n)]
        assert names, part
        for n in names:
            all[n] = fn(all[n]).astype(np.float32)
    return change


def both(*changes):
    def change(c, all):
        for x in changes:
            x(c, all)
    return change


zero = lambda part, but="": tensors(part, lambda x: x * 0, but)
ones = lambda part: tensors(part, lambda x: x * 0 + 1)
less_one = lambda part, but="": tensors(part, lambda x: x - 1, but)


def turned(rows, width, first=0, size=None):
    """Rows of heads of `size`, of which [first, first + width) turn: from half-split to interleaved pairs, or back, by moving rows."""
    def fn(x):
        h = size or width
        y = x.reshape(-1, h, *x.shape[1:]).copy()
        order = np.arange(width).reshape(2, -1).T.reshape(-1) if rows == "half" else np.arange(width).reshape(-1, 2).T.reshape(-1)
        y[:, first:first + width] = y[:, first:first + width][:, np.argsort(order)]
        return y.reshape(x.shape)
    return fn


def gates_apart(heads, d):
    return lambda x: x.reshape(2, heads, d, -1).transpose(1, 0, 2, 3).reshape(x.shape)


V = {
    "llama4_a": {
        "full instead of chunked attention": setting(attention_chunk_size=None),
        "no temperature": setting(attn_temperature_tuning=False),
        "another floor_scale": setting(floor_scale=15),
        "half-split rotation": both(*(tensors(f"self_attn.{w}_proj", turned("pairs", 12)) for w in "qk")),
        "rotation in every layer": setting(no_rope_layers=[1, 1, 1, 1]),
        "no q/k norm": setting(use_qk_norm=False),
        "no rope scaling": setting(rope_scaling=None),
        "no shared expert": zero("shared_expert.down_proj"),
    },
    "mistral4_a": {
        "queries do not grow": setting(rope_parameters={"llama_4_scaling_beta": 0.0}),
        "half-split rotation": setting(rope_interleave=False),
        "mscale^2 missing": setting(rope_parameters={"mscale_all_dim": 0.0}),
        "no yarn": setting(rope_parameters={"type": "default", "rope_type": "default"}),
        "weights not divided by their sum": setting(norm_topk_prob=False),
    },
    "qwen3next_a": {
        "norms by w, not 1 + w": less_one("norm.weight", "linear_attn"),
        "the gated norm by 1 + w": tensors("linear_attn.norm.weight", lambda x: x + 1),
        "rotation of whole heads": setting(partial_rotary_factor=1.0),
        "all queries, then all gates": tensors("self_attn.q_proj", gates_apart(4, 16)),
        "taps reversed": tensors("conv1d", lambda x: x[..., ::-1]),
        "no decay": tensors("A_log", lambda x: x * 0 - 60),
        "no dt_bias": zero("dt_bias"),
        "weights not divided by their sum": setting(norm_topk_prob=False),
        "the shared expert's gate at a half": zero("shared_expert_gate"),
    },
    "qwen35moe_a": {
        "norms by w, not 1 + w": less_one("norm.weight", "linear_attn"),
        "rotation of whole heads": setting(rope_parameters={"partial_rotary_factor": 1.0}),
        "all queries, then all gates": tensors("self_attn.q_proj", gates_apart(6, 24)),
        "taps reversed": tensors("conv1d", lambda x: x[..., ::-1]),
        "no decay": tensors("A_log", lambda x: x * 0 - 60),
        "no dt_bias": zero("dt_bias"),
    },
    "deepseekv32_a": {
        "no choice of keys": setting(index_topk=4096),
        "one key more": setting(index_topk=21),
        "interleaved rotation of the indexer": both(tensors("indexer.wq_b", turned("half", 8, 0, 16)), tensors("indexer.wk", turned("half", 8, 0, 16)),
                                                    tensors("indexer.k_norm", turned("half", 8, 0, 16))),
        "index key without its bias": zero("indexer.k_norm.bias"),
        "weights of index heads alike": ones("indexer.weights_proj"),
        "no bias of the choice of experts": zero("e_score_correction_bias"),
        "no group limit": setting(topk_group=3),
        "no yarn": setting(rope_scaling=None),
    },
    "glmmoedsa_a": {
        "no choice of keys": setting(index_topk=4096),
        "one key more": setting(index_topk=17),
        "half-split rotation of the indexer": both(tensors("indexer.wq_b", turned("pairs", 8, 0, 12)), tensors("indexer.wk", turned("pairs", 8, 0, 12)),
                                                   tensors("indexer.k_norm", turned("pairs", 8, 0, 12))),
        "layers share the first one's choice": setting(indexer_types=["full", "shared", "shared"]),
        "no bias of the choice of experts": zero("e_score_correction_bias"),
        "scaling 1": setting(routed_scaling_factor=1.0),
    },
    "glm4moe_a": {
        "rotation of whole heads": setting(partial_rotary_factor=1.0),
        "no bias of the choice of experts": zero("e_score_correction_bias"),
        "no bias of v": zero("v_proj.bias"),
        "weights not divided by their sum": setting(norm_topk_prob=False),
        "no shared expert": zero("shared_experts.down_proj"),
        "another epsilon": setting(rms_norm_eps=1e-6),
    },
    "glm4moelite_a": {"scaling 1": setting(routed_scaling_factor=1.0), "no bias of the choice of experts": zero("e_score_correction_bias")},
    "minimaxm2_a": {
        "rotation of whole heads": setting(rotary_dim=12),
        "another theta": setting(rope_theta=10000),
        "no bias of the choice of experts": zero("e_score_correction_bias"),
        "no q norm": ones("q_norm"),
    },
    "dots1_a": {"scaling 1": setting(routed_scaling_factor=1.0), "no q norm": ones("q_norm"),
                "weights not divided by their sum": setting(norm_topk_prob=False)},
    "ernie45moe_a": {"no bias of the choice of experts": zero("e_score_correction_bias"),
                     "half-split rotation": both(*(tensors(f"self_attn.{w}_proj", turned("pairs", 8)) for w in "qk"))},
    "granitemoe_a": {"embedding_multiplier 1": setting(embedding_multiplier=1.0), "residual_multiplier 1": setting(residual_multiplier=1.0),
                     "logits_scaling 1": setting(logits_scaling=1.0), "scores by d^-1/2": setting(attention_multiplier=8 ** -0.5)},
    "hunyuanmoe_a": {"no alpha": setting(rope_scaling=None), "no shared expert": zero("shared_mlp.down_proj"), "no q norm": ones("query_layernorm")},
    "kimik2_a": {"no yarn": setting(rope_scaling=None), "beta_fast 32": setting(rope_scaling={"beta_fast": 32.0}),
                 "mscale^2 missing": setting(rope_scaling={"mscale_all_dim": 0.0})},
    "solaropen_a": {"no yarn": setting(rope_scaling=None), "yarn with an attention factor of 1": setting(rope_scaling={"attention_factor": 1.0})},
    "bailingmoe2_a": {"rotation of whole heads": setting(partial_rotary_factor=1.0), "no group limit": setting(topk_group=4),
                      "no norms of q and k": both(ones("query_layernorm"), ones("key_layernorm")),
                      "no bias of the choice of experts": zero("expert_bias")},
    "hyv3_a": {"scaling 1": setting(router_scaling_factor=1.0), "no bias of the choice of experts": zero("expert_bias"),
               "another theta": setting(rope_parameters={"rope_theta": 10000.0})},
}


class Copy:
    """A copy of a model whose settings and tensors can be changed; tensors keep their types and shapes."""

    def __init__(self, src, dst):
        shutil.rmtree(dst, ignore_errors=True)
        shutil.copytree(src, dst, ignore=lambda d, names: [n for n in names if n == "golden.h5"])
        self.dir = dst
        self.config = json.load(open(f"{dst}/config.json"))
        self.at, self.tensors = {}, {}
        for f in sorted(os.listdir(dst)):
            if not f.endswith(".safetensors"):
                continue
            b = open(f"{dst}/{f}", "rb").read()
            n = struct.unpack("<Q", b[:8])[0]
            for name, t in json.loads(b[8:8 + n]).items():
                if name == "__metadata__" or t["dtype"] not in DTYPE:
                    continue
                a, e = t["data_offsets"]
                raw = np.frombuffer(b[8 + n + a:8 + n + e], DTYPE[t["dtype"]]).reshape(t["shape"])
                self.at[name] = (f, 8 + n + a, t["dtype"])
                self.tensors[name] = (raw.astype(np.uint32) << 16).view(np.float32) if t["dtype"] == "BF16" else raw.copy()

    def write(self, before):
        json.dump(self.config, open(f"{self.dir}/config.json", "w"))
        for name, x in self.tensors.items():
            if x is before[name]:
                continue
            f, at, t = self.at[name]
            x = np.ascontiguousarray(x, np.float32)
            if t == "BF16":
                u = x.view(np.uint32).astype(np.uint64)
                x = ((u + 0x7fff + ((u >> 16) & 1)) >> 16).astype(np.uint16)
            with open(f"{self.dir}/{f}", "r+b") as o:
                o.seek(at)
                o.write(x.tobytes())


def far(model, directory):
    """The largest |d| / (1e-4 + 1e-4 |golden|): above 1 the golden is missed."""
    with h5py.File(f"{models}/{model}/golden.h5") as g:
        ids, want = [int(x) for x in g[f"prompt{PROMPT}/input_ids"][:]], g[f"prompt{PROMPT}/logits"][:]
    open(f"{work}/in.jsonl", "w").write(json.dumps({"prompt_ids": ids, "max_tokens": 1}) + "\n")
    cmd = [exe, "run", "-m", directory, "-i", f"{work}/in.jsonl", "-o", f"{work}/out.h5", "--overwrite", "--dtype", "f32", "--save-logits", "--threads", "1"]
    r = subprocess.run(cmd, stderr=subprocess.PIPE, text=True)
    if r.returncode:
        sys.exit(f"{' '.join(cmd)}: exit {r.returncode}\n{r.stderr[-1500:]}")
    with h5py.File(f"{work}/out.h5") as f:
        got = f["logits"][:len(ids)]
    d = np.abs(got - want) / (1e-4 + 1e-4 * np.abs(want))
    return float(np.nan_to_num(d, nan=1e9).max())


failed = n = 0
least = (1e9, "")
for model in sys.argv[4:] or list(V):
    if (x := far(model, f"{models}/{model}")) > 1:
        print(f"{model}: its golden is missed, {x:.3g} times the tolerance")
        failed = 1
    for what, change in V[model].items():
        c = Copy(f"{models}/{model}", f"{work}/wrong")
        before = dict(c.tensors)
        change(c.config.get("text_config", c.config), c.tensors)
        c.write(before)
        x = far(model, c.dir)
        n += 1
        least = min(least, (x, f"{model}, {what}"))
        if x <= 1:
            print(f"{model}: {what}: its golden is met all the same ({x:.3g} of the tolerance)")
            failed = 1
print(f"{n} wrong variants of {len(sys.argv[4:] or V)} models miss their goldens; the nearest, {least[1]}, by {least[0]:.3g} times the tolerance")
sys.exit(failed)
