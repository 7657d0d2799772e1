#!/bin/bash
# Guessed tokens under drawn requests, layouts and limits: always the digest of a job without guesses, also after kills.
# long_spec.sh [ROUNDS [SEED]]
set -euo pipefail
: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}" "${top_builddir:=$PWD}" "${MOEBATCH:=$top_builddir/moebatch}" "${PYTHON3:=python3}"
export top_srcdir MOEBATCH PYTHON3
rounds=${1:-40} seed=${2:-1}
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/moebatch-spec.XXXXXX")
trap 'rm -rf "$work"' EXIT
RANDOM=$seed
wrong=0
MB_SCHED_ROUNDS=$((rounds * 300)) "$top_builddir/tests/unit_sched" >"$work/sched.log" 2>&1 || { tail -n 20 "$work/sched.log"; wrong=1; }
"$PYTHON3" "$top/tests/spec.py" model "$top/tests/data/models/deepseekv3_a" "$work/looped"

run() { # RANKS OPTION...
    local n=$1
    shift
    sh "$top/tests/mpirun.sh" "$n" "$MOEBATCH" run -i "$work/in.jsonl" -o "$work/r.h5" "$@" >"$work/log" 2>&1
}
digest() { "$MOEBATCH" inspect "$work/r.h5" --digest | tail -n 1; }
pick() { local a=("$@"); echo "${a[RANDOM % ${#a[@]}]}"; }

for ((i = 0; i < rounds; i++)); do
    model=$(pick "$work/looped" "$work/looped" "$top/inputs/models/demo" "$top/tests/data/models/deepseekv3_b" "$top/tests/data/models/gptoss_a" \
        "$top/tests/data/models/glm4moe_a" "$top/tests/data/models/llama4_a")
    dtype=$(pick f32 bf16)
    "$PYTHON3" "$top/tests/spec.py" input $((5 + RANDOM % 90)) $RANDOM >"$work/in.jsonl"
    run 1 -m "$model" --dtype "$dtype" --overwrite || { cat "$work/log"; exit 1; }
    ref=$(digest)
    how=ngram
    case $model in */looped | */deepseekv3_b | */glm4moe_a) how=$(pick ngram mtp) ;; esac
    layout=$(pick "1" "2" "3" "2 --pipeline-parallel-size 2" "3 --pipeline-parallel-size 3" "2 --tensor-parallel-size 2" \
        "2 --sequence-parallel-size 2 --kv-segment 512" "4 --pipeline-parallel-size 2 --tensor-parallel-size 2" "2 --data-parallel-size 2" \
        "4 --pipeline-parallel-size 2 --expert-scope lane" "2 --zero-inference 50" "3 --disaggregate 2:1")
    few=$(pick "" "--kv-pages 5" "--kv-pages 4 --max-num-seqs 3" "--max-batch-rows 9 --max-num-seqs 9" "--enable-prefix-caching=no --kv-pages 6")
    save=$(pick "" "" "" "--save-routing" "--save-hidden" "--save-logits=last" "--save-logits=all")
    guess=$how$(pick "" ":1")
    [ $how = ngram ] && guess=$how$(pick "" ":1" ":2" ":4" ":9")
    if [ -n "$save" ]; then
        run 1 -m "$model" --dtype "$dtype" --overwrite $save || { cat "$work/log"; exit 1; }
        ref=$(digest)
    fi
    say="$i: $(basename "$model") $dtype $layout $few $save --speculative $guess"
    set -- $layout -m "$model" --dtype "$dtype" $few $save --speculative "$guess"
    if [ $((RANDOM % 3)) = 0 ]; then # stopped on the way, and gone on without guesses, or others
        rm -rf "$work/r.h5" "$work/r.h5.d"
        rc=0
        run "$@" --isa portable --max-hours 0.0002 || rc=$?
        for ((k = 0; rc == 75 && k < 50; k++)); do
            rc=0
            run "$(pick 1 2)" -m "$model" --dtype "$dtype" $save --resume --speculative "$(pick off ngram ngram:5)" --max-hours 0.002 || rc=$?
        done
    else
        rc=0
        run "$@" --overwrite || rc=$?
    fi
    if [ $rc = 2 ] && grep -q "is more than\|refused\|needs\|not divisible\|but the model has\|chooses among" "$work/log"; then
        echo "$say: no such layout: $(grep error "$work/log" | head -n 1)"
    elif [ $rc != 0 ]; then
        echo "$say: exit $rc"; cat "$work/log"; wrong=$((wrong + 1)); cp "$work/in.jsonl" "/tmp/long_spec.$i.jsonl"
    elif [ "$(digest)" != "$ref" ]; then
        echo "$say: another digest"; wrong=$((wrong + 1)); cp "$work/in.jsonl" "/tmp/long_spec.$i.jsonl"
    else
        echo "$say: $(grep -a "^guessed" "$work/log" || echo "no guesses in the last run")"
    fi
done
echo "long_spec: $rounds rounds from seed $seed, $wrong wrong"
[ $wrong = 0 ]
