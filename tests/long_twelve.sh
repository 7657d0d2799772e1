#!/bin/bash
# One digest over at least twelve layouts of up to 4 ranks for each model: pipeline stages, tensor, sequence and expert parallel ranks,
# replicas, lane scope, ranks of their own for experts, experts on demand, flat and hierarchical exchange, small steps. Everything
# that can be saved is, and so is part of the digest. usage: long_twelve.sh [MODEL...]   (names of tests/data/models; none: TWELVE_MODELS, else all of them)
set -eu
: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}" "${MOEBATCH:=$PWD/moebatch}" "${PYTHON3:=python3}"
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
[ $# -gt 0 ] || set -- ${TWELVE_MODELS:-$(ls "$top/tests/data/models")}

# ranks and options; what a model's sizes forbid is passed over
layouts() {
    cat <<'END'
1
2 --tensor-parallel-size 2
2 --pipeline-parallel-size 2
2 --sequence-parallel-size 2
2 --zero-inference 30
3 --alltoall hier --placement scattered
3 --disaggregate 1:2
4 --tensor-parallel-size 2 --sequence-parallel-size 2
4 --pipeline-parallel-size 2 --expert-scope lane --alltoall hier
4 --expert-parallel-size 2 --expert-tensor-parallel-size 2
4 --data-parallel-size 2 --sequence-parallel-size 2
3 --zero-inference 60 --alltoall hier --max-batch-rows 17 --isa portable
4 --expert-data-parallel-size 2 --threads 2
4 --tensor-parallel-size 2 --pipeline-parallel-size 2 --max-batch-rows 9
4 --data-parallel-size 2 --tensor-parallel-size 2
3 --tensor-parallel-size 3 --max-num-seqs 2
END
}

one_layout() { # MODEL RANKS OPTION...
    local m=$1 n=$2
    shift 2
    sh "$top/tests/mpirun.sh" "$n" "$MOEBATCH" run -m "$m" -i "$work/in.jsonl" -o "$work/out.h5" --overwrite --dtype f32 --kv-segment 64 \
        --max-num-seqs 6 --kv-pages 60 --save-logits --save-routing --save-hidden "$@" 2>"$work/log" </dev/null
}

one_model() {
    local m=$top/tests/data/models/$1 n options got want= ran=0 refused=0
    "$PYTHON3" - "$m/config.json" >"$work/in.jsonl" <<'END'
import json, random, sys
c = json.load(open(sys.argv[1]))
vocab, r = c.get("text_config", c)["vocab_size"], random.Random(5)
ids = lambda n: [r.randrange(vocab) for _ in range(n)]
for i, n in enumerate((1, 7, 64, 150, 200, 33, 90, 5)):
    print(json.dumps(dict(id=f"g{i}", prompt_ids=ids(n), max_tokens=5 + i, ignore_eos=True, temperature=i % 2 * 0.8, seed=i)))
print(json.dumps(dict(id="n", prompt_ids=ids(12), max_tokens=6, n=3, temperature=1.1, top_p=0.9, seed=3, logprobs=2)))
print(json.dumps(dict(id="c", context_ids=ids(70), continuation_ids=ids(9))))
print(json.dumps(dict(id="t", text_ids=ids(130))))
END
    : >"$work/refused"
    while read -r n options; do
        # shellcheck disable=SC2086 # several options
        if ! one_layout "$m" "$n" $options; then
            grep -q 'layout\|cannot be divided\|does not divide' "$work/log" || { echo "$1: $n $options:"; tail -n 5 "$work/log"; failed=1; }
            echo "refused: $1 $n $options: $(grep -m 1 error "$work/log")" >>"$work/refused"
            refused=$((refused + 1))
            continue
        fi
        got=$("$MOEBATCH" inspect "$work/out.h5" --digest | tail -n 1)
        want=${want:-$got}
        ran=$((ran + 1))
        [ "$got" = "$want" ] || { echo "$1: $n $options: $got, expected $want"; failed=1; }
    done < <(layouts)
    [ $ran -ge 12 ] || { echo "$1: only $ran layouts"; cat "$work/refused"; failed=1; }
    echo "$1: $ran layouts, $refused refused, one digest $want"
}

for m in "$@"; do
    one_model "$m"
done
exit $failed
