#!/bin/bash
# Mistakes put into cuda/ one at a time: each has to be found by a test on the emulator. In a build folder where `make check` has built
# its programs: ../tests/long_cuda_mutants.sh [FIRST [LAST]].
# A mutant: file | line that is changed (a part of it, the first that has it) | what takes its place | source that is compiled | test
set -u
top=$(cd "${top_srcdir:-..}" && pwd)
build=${top_builddir:-.}
first=${1:-1} last=${2:-1000}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
cd "$build" || exit 1
[ -f tests/cuda_emu/libcuda.a ] || { echo "no emulated backend here: make check builds it, where there is a C++17 compiler"; exit 77; }
libs=$(make -s print-emu-libs) cxx="$(make -s print-emu-cxx)" cc="$(make -s print-emu-cc)"

mutants() {
    cat <<'EOF'
attn.cu|stage.load_keys(mb_page_keys(t.kv, page, it->kv_head), s.first, s.last);|stage.load_keys(mb_page_keys(t.kv, page, it->kv_head), s.first, s.last); // @NEXT|attn.cu|attention
attn.cu|score_all<V>(t, *it, stage, s);|score_all<V>(t, *it, stage, s); // @NEXT|attn.cu|attention
attn.cu|lane + 32 <= last;|lane + 32 < last;|attn.cu|attention
attn.cu|__shfl_xor_sync(MB_ALL, s0, 16)|__shfl_xor_sync(MB_ALL, s0, 8)|attn.cu|attention
attn.cu|float other = __shfl_xor_sync(MB_ALL, m, d);|float other = __shfl_xor_sync(0xffffu, m, d);|attn.cu|attention
attn.cu|state.l = state.present ? fmaf(state.l, alpha, sum) : sum;|state.l = state.present ? state.l * alpha + sum : sum;|attn.cu|attention
attn.cu|(bad && !s.same)|(bad && s.same)|attn.cu|attention
attn.cu|put_away(t, *it, top - 1);|{}|attn.cu|attention
attn.cu|t.chunked != 0|false|attn.cu|attention
stage.h|first & ~1, last \| 1,|first, last,|attn.cu|attention
attn_join.cu|fmaf(o[(top - 2) * T], e1, o[(top - 1) * T] * e2)|fmaf(o[(top - 1) * T], e2, o[(top - 2) * T] * e1)|attn_join.cu|attention_parts
attn_join.cu|*end > *begin|true|attn_join.cu|attention_parts
choose.cu|count[threadIdx.x] = 0;|count[threadIdx.x] = 0; // @NEXT|choose.cu|choose
choose.cu|int32_t equal = k - above;|int32_t equal = k - above + 1;|choose.cu|choose
choose.cu|room[mb_warp()] = __popc(lanes);|room[mb_warp()] = __popc(lanes); // @NEXT|choose.cu|choose
delta.cu|m.sum[p.block * COLS + p.col] = mine;|m.sum[p.block * COLS + p.col] = mine; // @NEXT|delta.cu|delta
delta.cu|m.k[i] = x[keys + at + i];|m.k[i] = x[keys + at + i]; // @NEXT|delta.cu|delta
delta.cu|bool fresh = mb_row_i32(t.pos, row0)[0] == 0|bool fresh = false|delta.cu|delta
delta.cu|runs[1 + n] = rows;|runs[1 + n] = rows - 1;|delta.cu|delta
delta.cu|if (real && p->block == 0)|if (real)|delta.cu|delta
kv.cu|if (at < 0 \|\| at / MB_KV_BLOCK >= kv.pages)|if (at < 0)|kv.cu|attention
kv.cu|for (int w = 0; w < THREADS / MB_WARP; w++)|for (int w = 0; w < 1; w++)|kv.cu|kv8
kv.cu|most[mb_warp()] = m;|most[mb_warp()] = m; // @NEXT|kv.cu|kv8
kv.c|cudaMemsetAsync(data, 0, (size_t)kv->bytes, dev->setup->s)|cudaMemset(data, 0, (size_t)kv->bytes)|kv.c|kv8
copy.c|copy_rows(s->s, first(dst)|copy_rows(NULL, first(dst)|copy.c|attention
memory.c|MB_TRY(mb_cuda_call("waiting for the GPU", cudaStreamSynchronize(s->s)));|;|memory.c|attention
row.h|p = p + __shfl_xor_sync(MB_ALL, p, d);|p = p + __shfl_down_sync(MB_ALL, p, d);|delta.cu|delta
EOF
}

# mutate FILE FROM TO: in $work/cuda; @NEXT at the end of TO takes the next __syncthreads() away
mutate() {
    "${PYTHON3:-python3}" - "$work/cuda/$1" "${2//\\|/|}" "${3//\\|/|}" <<'EOF'
import sys
path, old, new = sys.argv[1:]
text = open(path).read()
if old not in text:
    sys.exit(1)
if new.endswith(" // @NEXT"):
    at = text.index(old) + len(old)
    barrier = text.index("__syncthreads();", at)
    text = text[:barrier] + ";" + text[barrier + len("__syncthreads();"):]
else:
    text = text.replace(old, new, 1)
open(path, "w").write(text)
EOF
}

n=0 found=0 missed=0
while IFS=$'\t' read -r file from to source test; do
    n=$((n + 1))
    [ "$n" -ge "$first" ] && [ "$n" -le "$last" ] || continue
    rm -rf "$work/cuda" && cp -r "$top/cuda" "$work/cuda"
    mutate "$file" "$from" "$to" || { echo "mutant $n: $file has no \"$from\""; missed=$((missed + 1)); continue; }
    case $source in *.cu) how=$cxx ;; *) how=$cc ;; esac
    (cd "$work" && eval "$how" -I"$work" -c "cuda/$source" -o mutant.o) 2>"$work/log" || { echo "mutant $n: $file does not compile"; cat "$work/log"; missed=$((missed + 1)); continue; }
    eval "${CC:-gcc}" -o "$work/test" tests/emu_"$test"-*.o cuda/tests_emu_"$test"-backends.o "$work/mutant.o" tests/cuda_emu/libcuda.a \
        tests/cuda_emu/libcuda_emu.a "$libs" || exit 1
    if { timeout 120 "$work/test" >"$work/log" 2>&1; } 2>/dev/null; then
        echo "mutant $n NOT found: $file: $from"
        missed=$((missed + 1))
    else
        echo "mutant $n found: $file: $(grep -m1 -E 'cuda_emu:|ERROR' "$work/log" | cut -c1-110)"
        found=$((found + 1))
    fi
done < <(mutants | sed 's/\\|/\x01/g; s/|/\t/g; s/\x01/|/g')
echo "$found found, $missed missed"
[ "$missed" = 0 ]
