"""lm_eval_tasks.py MODEL_DIR COMMAND: lm_eval.simple_evaluate over local tasks, by scripts/lm_eval_moebatch.py and by lm-eval's own HFLM
(fp32, eager): multiple choice with and without examples in front, perplexity of documents (one of them longer than the model),
generation until a string, a choice behind a long document. Every metric and every sample's answer: <= 1e-4 + 1e-5 |score|, texts equal.
Needs torch, transformers, datasets and lm-eval; not part of make check."""
import json, os, random, sys, tempfile
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "scripts"))
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
import torch
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval_moebatch import Moebatch

model, command = sys.argv[1:3]
torch.set_num_threads(1)
rng = random.Random(5)
words = open(os.path.join(os.path.dirname(__file__), "..", "README")).read().split() * 3


def text(n):
    k = rng.randrange(len(words) - n)
    return " ".join(words[k:k + n])


def doc(n):
    return dict(question=text(n), choices=[text(2) for _ in range(4)], answer=rng.randrange(4), text=text(3 * n), target=text(1))


TASKS = {
    "choice": dict(output_type="multiple_choice", doc_to_text="{{question}}\nAnswer:", doc_to_choice="{{choices}}", doc_to_target="{{answer}}",
                   metric_list=[dict(metric="acc"), dict(metric="acc_norm")], data=[doc(14) for _ in range(10)]),
    "shots": dict(output_type="multiple_choice", doc_to_text="{{question}}\nAnswer:", doc_to_choice="{{choices}}", doc_to_target="{{answer}}", num_fewshot=2,
                  fewshot_split="test", metric_list=[dict(metric="acc")], data=[doc(9) for _ in range(8)]),
    "perplexity": dict(output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="{{text}}", should_decontaminate=False,
                       metric_list=[dict(metric=m) for m in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
                       data=[doc(n) for n in (4, 40, 300)] + [dict(doc(3), text=" ".join(words[:2600]))]),
    "until": dict(output_type="generate_until", doc_to_text="{{question}}", doc_to_target="{{target}}",
                  generation_kwargs=dict(until=["\n", "."], max_gen_toks=16, do_sample=False),
                  metric_list=[dict(metric="exact_match")], data=[doc(10) for _ in range(6)]),
    "long": dict(output_type="multiple_choice", doc_to_text="{{question}}\nAnswer:", doc_to_choice="{{choices}}", doc_to_target="{{answer}}",
                 metric_list=[dict(metric="acc")], data=[doc(n) for n in (500, 1300)]),
}


def write(folder):
    for name, t in TASKS.items():
        t = dict(t)
        with open(f"{folder}/{name}.jsonl", "w") as f:
            f.writelines(json.dumps(d) + "\n" for d in t.pop("data"))
        t.update(task="local_" + name, dataset_path="json", dataset_kwargs=dict(data_files=dict(test=f"{folder}/{name}.jsonl")), test_split="test")
        json.dump(t, open(f"{folder}/{name}.yaml", "w"))  # JSON is YAML
    return TaskManager(include_path=folder, include_defaults=False)


def near(x, y):
    return abs(x - y) / (1e-4 + 1e-5 * abs(y))


with tempfile.TemporaryDirectory() as folder:
    manager = write(folder)
    theirs = HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=1, attn_implementation="eager", experts_implementation="eager")
    ours = Moebatch(model, command=command, options="--dtype f32")
    a, b = [simple_evaluate(model=m, tasks=["local_" + t for t in TASKS], task_manager=manager, log_samples=True, bootstrap_iters=0,
                            random_seed=1, numpy_random_seed=1, torch_random_seed=1, fewshot_random_seed=1) for m in (ours, theirs)]
worst, bad, metrics, samples = 0.0, 0, 0, 0
for task, want in b["results"].items():
    for key, y in want.items():
        if isinstance(y, (int, float)) and not isinstance(y, bool):
            x = a["results"][task][key]
            part = near(x, y)
            worst, metrics, bad = max(worst, part), metrics + 1, bad + (part > 1)
            print(f"{task} {key}: {x} {y}")
    for s, t in zip(a["samples"][task], b["samples"][task], strict=True):
        assert s["doc"] == t["doc"] and s["arguments"] == t["arguments"]
        for x, y in zip(s["resps"], t["resps"], strict=True):
            x, y = (v[0] if isinstance(v, (list, tuple)) and isinstance(v[0], (list, tuple, str)) else v for v in (x, y))
            samples += 1
            if isinstance(y, str):
                bad += x != y
                continue
            x, y = list(x) if isinstance(x, (list, tuple)) else [x], list(y) if isinstance(y, (list, tuple)) else [y]
            part = near(float(x[0]), float(y[0]))
            worst = max(worst, part)
            bad += part > 1 or [str(v) for v in x[1:]] != [str(v) for v in y[1:]]
print(f"{len(TASKS)} tasks, {metrics} metrics, {samples} answers: {bad} differ, worst {worst:.3f} of the tolerance")
sys.exit(bad > 0)
