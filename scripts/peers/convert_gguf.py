"""convert_gguf.py LLAMA_SRC MODEL OUT TYPE: llama.cpp's own converter, told that the tokenizer of make_model.py splits as GPT-2's does
(it knows tokenizers by a hash, and refuses others)."""
import os
import runpy
import sys

source, model, out, kind = sys.argv[1:5]
sys.path[:0] = [source, os.path.join(source, "gguf-py")]
try:
    import conversion.base as base
except ImportError:
    base = None
for name in dir(base) if base else ():
    c = getattr(base, name)
    if isinstance(c, type) and "get_vocab_base_pre" in vars(c):
        c.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
script = os.path.join(source, "convert_hf_to_gguf.py")
sys.argv = [script, model, "--outtype", kind, "--outfile", out]
runpy.run_path(script, run_name="__main__")
