"""lm_eval_compare.py MODEL_DIR COMMAND: scripts/lm_eval_moebatch.py against lm-eval's own HFLM (fp32, eager) on local tasks: multiple
choice, perplexity, generation until a string, a document longer than the model. Scores <= 1e-4 + 1e-5 |score|, texts equal.
Needs torch, transformers and lm-eval; not part of make check."""
import os, random, sys
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "scripts"))
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval_moebatch import Moebatch

model, command = sys.argv[1:3]
torch.set_num_threads(1)
ours = Moebatch(model, command=command, options="--dtype f32")
theirs = HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=1, attn_implementation="eager",
              experts_implementation="eager")
rng = random.Random(3)
words = open(os.path.join(os.path.dirname(__file__), "..", "README")).read().split(" ") * 3
text = lambda n: " ".join(words[(k := rng.randrange(len(words) - n)):k + n])


def instances(kind, args):
    return [Instance(kind, {}, a, i) for i, a in enumerate(args)]


choices = [(c, " " + text(2)) for c in (text(20) for _ in range(6)) for _ in range(4)]
choices += [("", text(6)), ("A line that ends with spaces   ", "and goes on"), (text(1200), " the end")]
bos = theirs.tokenizer.decode(theirs.prefix_token_id)
choices += [(bos + text(5), " " + text(2)), ("", bos + text(3))]
docs = [(text(n),) for n in (1, 40, 900)] + [(" ".join(words[:2600]),), (bos + text(30),)]
asks = [(text(12), {"until": ["\n", "."], "max_gen_toks": 24}), (text(30), {"until": "e", "do_sample": False, "max_gen_toks": 8}),
        (text(1300), {"until": [], "max_gen_toks": 5}), (bos + text(4), {"until": ["\n\n"], "max_gen_toks": 6})]
worst, bad = 0.0, 0
for kind, args in (("loglikelihood", choices), ("loglikelihood_rolling", docs), ("generate_until", asks)):
    a = getattr(ours, kind)(instances(kind, args))
    b = getattr(theirs, kind)(instances(kind, args), disable_tqdm=True)
    for x, y, q in zip(a, b, args):
        if kind == "generate_until":
            ok = x == y
        else:
            s, t = (x[0], y[0]) if kind == "loglikelihood" else (x, y)
            part = abs(s - t) / (1e-4 + 1e-5 * abs(t))
            worst, ok = max(worst, part), part <= 1 and (kind != "loglikelihood" or x[1] == y[1])
        bad += not ok
        if not ok:
            print("differs:", kind, repr(q)[:80], x, y)
print(f"{len(choices)} log-likelihoods, {len(docs)} rolling, {len(asks)} generations: {bad} differ, worst {worst:.3f} of the tolerance")
sys.exit(bad > 0)
