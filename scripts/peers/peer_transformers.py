"""transformers: model.generate, greedy, all sequences of a call as one batch."""
import os
import time
from common import Results, arguments, clock, measure

os.environ["HF_HUB_OFFLINE"] = "1"
a = arguments(dtype="bfloat16")
import torch, transformers
from transformers import AutoModelForCausalLM

torch.set_num_threads(a.threads)
torch.manual_seed(0)
t = time.perf_counter()
m = AutoModelForCausalLM.from_pretrained(a.model, dtype=getattr(torch, a.dtype)).eval()
r = Results("transformers", version=transformers.__version__, torch=torch.__version__, dtype=a.dtype, threads=a.threads,
            attention=m.config._attn_implementation)
r.add("load", "s", [time.perf_counter() - t], less=True)


@torch.inference_mode()
def generate(n, prompt, output):
    ids = torch.randint(3, m.config.vocab_size, (n, prompt))

    def go():
        o = m.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=output, max_new_tokens=output, pad_token_id=0)
        assert o.shape == (n, prompt + output)
    return clock(go)


measure(a, r, generate)
