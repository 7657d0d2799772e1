"""vLLM on a CPU, offline: LLM.generate, greedy, EOS ignored, no prefix cache."""
import os
import random
import time
from common import Results, arguments, clock, measure

a = arguments(dtype="bfloat16", eager=0)
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "0-%d" % (a.threads - 1))
os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main():
    import vllm
    from vllm import LLM, SamplingParams
    t = time.perf_counter()
    llm = LLM(model=a.model, dtype=a.dtype, max_model_len=max(1024, a.prompt + a.output), max_num_seqs=max(a.batches + [a.requests]),
              max_num_batched_tokens=max(2048, a.prompt), enforce_eager=bool(a.eager), enable_prefix_caching=False, seed=0, disable_log_stats=True)
    vocab = llm.get_tokenizer().vocab_size
    r = Results("vllm", version=vllm.__version__, dtype=a.dtype, eager=a.eager, threads=a.threads,
                zentorch="zentorch" in os.environ.get("PYTHONPATH", ""))
    r.add("load", "s", [time.perf_counter() - t], less=True)
    rng = random.Random(1)

    def generate(n, prompt, output):
        prompts = [{"prompt_token_ids": [rng.randrange(3, vocab) for _ in range(prompt)]} for _ in range(n)]
        how = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True, detokenize=False)

        def go():
            o = llm.generate(prompts, how, use_tqdm=False)
            assert sum(len(x.outputs[0].token_ids) for x in o) == n * output
        return clock(go)

    measure(a, r, generate)


if __name__ == "__main__":  # vLLM starts processes of its own
    main()
