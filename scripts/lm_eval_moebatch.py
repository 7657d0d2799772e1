#!/usr/bin/env python3
"""An lm-eval model over moebatch's files: requests go out as JSON lines, results come back from HDF5.

    python3 scripts/lm_eval_moebatch.py --model moebatch \
        --model_args pretrained=DIR,command="srun moebatch",options="--dtype bf16" --tasks TASK ...

or, from Python, `import lm_eval_moebatch` and lm_eval.simple_evaluate(model="moebatch", model_args={...}). model_args:

    pretrained   the model directory
    command      what starts the program (default: moebatch), as in "mpirun -n 4 moebatch"
    options      further options of moebatch run
    work         where files go and stay (default: a temporary directory)
    max_gen_toks tokens to generate where a task does not say (default: 256)

Scores are those of lm-eval's HFLM (README, "Scoring"). Needs lm-eval and h5py; no torch."""
import json, os, shlex, subprocess, sys, tempfile
import h5py
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model


def positions(config):
    for key in ("max_position_embeddings", "max_seq_len", "n_positions", "max_sequence_length"):
        if config.get(key):
            return int(config[key])
    return 2048


@register_model("moebatch")
class Moebatch(LM):
    def __init__(self, pretrained, command="moebatch", options="", work=None, max_gen_toks=256, batch_size=None,
                 device=None, max_batch_size=None, **ignored):
        super().__init__()
        if ignored:
            raise ValueError("moebatch: unknown model_args: " + ", ".join(ignored))
        self.model, self.command, self.options = pretrained, shlex.split(command), shlex.split(options)
        self.keep = work is not None
        self.work = work or tempfile.mkdtemp(prefix="lm_eval_moebatch.")
        self.max_gen_toks, self.jobs = int(max_gen_toks), 0
        os.makedirs(self.work, exist_ok=True)
        files = [{}, {}]
        for i, name in enumerate(("config.json", "tokenizer_config.json")):
            path = os.path.join(pretrained, name)
            if os.path.exists(path):
                with open(path) as f:
                    files[i] = json.load(f)
        self.max_length = positions(files[0].get("text_config", files[0]))
        text = lambda t: t.get("content") if isinstance(t, dict) else t
        self.bos, self.eos = (text(files[1].get(k)) for k in ("bos_token", "eos_token"))
        self.name = os.path.basename(os.path.normpath(pretrained))

    @property
    def tokenizer_name(self):
        return self.name.replace("/", "__")

    def chat_template(self, chat_template=False):
        return ""  # the model's own, applied by moebatch

    def apply_chat_template(self, chat_history, add_generation_prompt=True):
        """Marked, so that it can go out as messages and not as text."""
        return "\0chat" + json.dumps([chat_history, bool(add_generation_prompt)])

    def run(self, lines):
        """One job; yields the results of its lines in their order."""
        self.jobs += 1
        base = os.path.join(self.work, f"job{self.jobs}")
        with open(base + ".jsonl", "w") as f:
            for i, line in enumerate(lines):
                f.write(json.dumps({"id": i, **line}) + "\n")
        done = subprocess.run(self.command + ["run", "-m", self.model, "-i", base + ".jsonl", "-o", base + ".h5", "--overwrite",
                              "--truncate", "left", "--generation-config", "none"] + self.options, stdout=sys.stderr)
        if not os.path.exists(base + ".h5"):
            raise RuntimeError(f"moebatch ended with exit code {done.returncode} and left no results")
        with h5py.File(base + ".h5") as f:
            r = f["requests"]
            rows = list(zip(r["id"].asstr()[:], r["status"][:], r["error"].asstr()[:], r["logprob_sum"][:], r["is_greedy"][:],
                            r["text"].asstr()[:]))
        bad = [f"line {int(i) + 1}: {e}" for i, status, e, *_ in rows if status == 1]
        if bad or done.returncode != 0:
            raise RuntimeError(f"moebatch: exit code {done.returncode}, {len(bad)} error rows; {bad[:1]}")
        if not self.keep:
            for end in (".jsonl", ".h5"):
                os.unlink(base + end)
        return [(float(s), bool(g), t) for _, _, _, s, g, t in rows]

    def loglikelihood(self, requests, disable_tqdm=False):
        lines = [{"context": c, "continuation": t} for c, t in (r.args for r in requests)]
        if any(l["context"].startswith("\0chat") for l in lines):
            raise NotImplementedError("log-likelihoods under a chat template: render it with --apply_chat_template of HFLM")
        return [(s, g) for s, g, _ in self.run(lines)] if lines else []

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        texts = [r.args[0] for r in requests]
        sums = iter(self.run([{"text": t} for t in texts if t])) if any(texts) else iter(())
        return [next(sums)[0] if t else 0.0 for t in texts]

    def ask(self, context, kwargs):
        kwargs = dict(kwargs)
        until = kwargs.pop("until", None) or []
        until = [until] if isinstance(until, str) else list(until)
        limits = [kwargs.pop(k, None) for k in ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")]
        line = {"max_tokens": int(next((v for v in limits if v is not None), self.max_gen_toks))}
        sample, heat = kwargs.pop("do_sample", None), kwargs.pop("temperature", 0)
        line["temperature"] = heat if sample or (sample is None and heat) else 0
        if self.eos and self.eos not in until:
            until.append(self.eos)
        line["stop"] = [s for s in until if s][:16]
        for key in ("top_p", "top_k", "min_p", "repetition_penalty", "seed"):
            if key in kwargs:
                line[key] = kwargs.pop(key)
        if kwargs:
            raise ValueError("moebatch: generation settings that it has not: " + ", ".join(kwargs))
        if context.startswith("\0chat"):
            messages, generate = json.loads(context[5:])
            return {**line, "messages": messages, **({} if generate else {"continue_final_message": True})}
        if self.bos and context.startswith(self.bos):
            line["add_special_tokens"] = False  # the text has its own
        return {**line, "prompt": context}

    def generate_until(self, requests, disable_tqdm=False):
        lines = [self.ask(*r.args) for r in requests]
        return [t for _, _, t in self.run(lines)] if lines else []


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate
    cli_evaluate()
