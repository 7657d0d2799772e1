# Directories that `quantize` writes: read again with the bits of an independent script, on any layout.
bats_require_minimum_version 1.5.0
load common.bash

requests() {
    printf '%s\n' '{"id":"a","prompt_ids":[1,5,9,20,33,7,2,40,11,3,8,21,30,5,6,9,17,29,33,12],"max_tokens":5,"temperature":0,"ignore_eos":true}' \
        '{"id":"b","prompt_ids":[4],"max_tokens":3,"temperature":1,"ignore_eos":true}' >"$work/in"
}

# quantize NAME OUT OPTION...: of the small models
quantize() {
    local name=$1 out=$2
    shift 2
    "$MOEBATCH" quantize -m "$name" -o "$out" "$@" >"$work/said" 2>"$work/err" || { cat "$work/said" "$work/err"; return 1; }
}

# same DIR RANKS DTYPE OPTION...: a quantised directory and its dequantised copy give one digest, also split over ranks
same() {
    local dir=$1 n=$2 type=$3
    shift 3
    rm -rf "$work/wide"
    "$PYTHON3" "$top/tests/dequantise.py" "$dir" "$work/wide"
    cp "$dir"/tokenizer* "$work/wide" 2>/dev/null || true
    ranks "$n" run -m "$dir" -i "$work/in" -o "$work/q.h5" --overwrite --weights stored --dtype "$type" --kv-pages 8 --save-logits --save-routing "$@" 2>"$work/err"
    grep -q '^weights   : .*as stored' "$work/err"
    ranks 1 run -m "$work/wide" -i "$work/in" -o "$work/w.h5" --overwrite --dtype "$type" --kv-pages 8 --save-logits --save-routing 2>"$work/err"
    [ "$(digest "$work/q.h5")" = "$(digest "$work/w.h5")" ] || { echo "$dir $type"; return 1; }
}

@test "the demo model in each form: kept as stored, the bits of the dequantised model, one digest on other layouts" {
    requests
    for f in int8 fp8 mxfp4 int4; do
        quantize "$demo" "$work/$f" --format $f
        same "$work/$f" 1 bf16
        [ -f "$work/$f/tokenizer.json" ] && [ -f "$work/$f/generation_config.json" ]
    done
    for o in "3 --placement scattered" "4 --expert-tensor-parallel-size 2 --tensor-parallel-size 2" "2 --zero-inference 40"; do
        # shellcheck disable=SC2086
        ranks ${o%% *} run -m "$work/int4" -i "$work/in" -o "$work/r.h5" --overwrite --dtype bf16 --save-logits --save-routing ${o#* }
        [ "$(digest "$work/r.h5")" = "$(digest "$work/q.h5")" ] || { echo "$o"; return 1; }
    done
}

@test "every kind of source: f32, other forms, stacked experts, uneven widths" {
    requests
    quantize "$models/deepseekv3_fp8" "$work/a" --format int4 --group-size 32
    same "$work/a" 2 bf16
    quantize "$models/qwen3moe_awq_a" "$work/b" --format fp8
    same "$work/b" 1 f32
    quantize "$models/mixtral_w4_a" "$work/e" --format mxfp4 # the rest of it was int4, and is wide again
    same "$work/e" 1 bf16
    run -2 --separate-stderr "$MOEBATCH" quantize -m "$models/gptoss_a" -o "$work/f" --format int4
    [[ $stderr == *"--format mxfp4 has one"* ]]
    run -2 --separate-stderr "$MOEBATCH" quantize -m "$models/dbrx_a" -o "$work/f" --format int8
    [[ $stderr == *"for all of a layer"* ]]
    [ ! -e "$work/f" ]
}

@test "MXFP4 made of values that MXFP4 has, packed or wide and stacked: nothing is lost" {
    requests
    "$PYTHON3" "$top/tests/dequantise.py" "$models/gptoss_mxfp4_a" "$work/wide"
    for m in "$models/gptoss_mxfp4_a" "$work/wide"; do
        rm -rf "$work/c"
        quantize "$m" "$work/c" --format mxfp4
        "$PYTHON3" - "$work/c/moebatch_quantize.json" <<'PY'
import json, sys
m = json.load(open(sys.argv[1]))
assert m["error_experts"] == 0 and len(m["tensors"]) > 0
PY
        for d in "$m" "$work/c"; do
            ranks 2 run -m "$d" -i "$work/in" -o "$work/r.h5" --overwrite --dtype bf16 --kv-pages 8 --save-logits 2>"$work/err"
            digest "$work/r.h5"
        done | uniq | wc -l | grep -qx 1
        grep -q '^weights   : experts mxfp4 as stored' "$work/err"
    done
}

@test "several files: a file at a time, with an index" {
    n=$(ls "$models/mixtral_a"/*.safetensors | wc -l)
    [ "$n" -gt 1 ]
    quantize "$models/mixtral_a" "$work/q" --format int8
    [ "$(ls "$work/q"/*.safetensors | wc -l)" = "$n" ] && [ -f "$work/q/model.safetensors.index.json" ]
    requests
    same "$work/q" 1 bf16
    "$MOEBATCH" check -m "$work/q" >/dev/null
}
