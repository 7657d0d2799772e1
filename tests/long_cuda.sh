#!/bin/bash
# The CUDA backend on the emulator at length: every operation on 200 random shapes (UNIT_CUDA_OPS_N), and all reference models
# (CUDA_MODELS: some) with `--backend cuda`, whose digests are the CPU's. Ends with a table.
set -eu
top=$(cd "$top_srcdir" && pwd)
build=${top_builddir:-.}
emu=$build/tests/moebatch-cuda-emu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
models=${CUDA_MODELS:-$(ls "$top/tests/data/models")}
[ -x "$emu" ] || { echo "no emulated program here: make check builds it, where there is a C++17 compiler"; exit 77; }
UNIT_CUDA_OPS_N=${UNIT_CUDA_OPS_N:-200} "$build/tests/unit_cuda_ops" || failed=1
cat >"$work/in.jsonl" <<END
{"id": "a", "prompt_ids": [5, 9, 17, 3], "max_tokens": 6, "temperature": 0, "ignore_eos": true}
{"id": "b", "prompt_ids": [7, 2, 40, 41, 8, 11], "max_tokens": 5, "temperature": 0.8, "top_p": 0.9, "top_k": 20, "seed": 3, "logprobs": 3}
{"id": "c", "context_ids": [4, 8, 15], "continuation_ids": [16, 23, 42]}
END

digest_on() { # backend model
    "$emu" run --backend "$1" -m "$top/tests/data/models/$2" -i "$work/in.jsonl" -o "$work/out.h5" --overwrite --save-logits \
        --save-routing >"$work/log" 2>&1 || { tail -3 "$work/log" >&2; echo "failed on $1"; return; }
    "$emu" inspect "$work/out.h5" --digest | tail -1
}
for m in $models; do
    [ -f "$top/tests/data/models/$m/config.json" ] || continue
    cpu=$(digest_on cpu "$m") cuda=$(digest_on cuda "$m") said=equal
    [ "$cpu" = "$cuda" ] && [[ $cpu != failed* ]] || { said="CUDA has $cuda"; failed=1; }
    printf '%-24s %s  %s\n' "$m" "$cpu" "$said"
done
exit $failed
