# Guessed tokens: a guess that is right is the row that would have been computed next, of one that is wrong nothing is left. No bit
# changes, and right guesses save steps.
load common.bash

job() { # RANKS OPTION...
    local n=$1
    shift
    ranks "$n" run -m "$model" -i "$work/in.jsonl" -o "$work/r.h5" --overwrite --dtype bf16 "$@"
}

spec() {
    "$PYTHON3" "$top/tests/spec.py" "$@"
}

looped() { # a model that repeats itself
    spec model "$models/deepseekv3_a" "$work/looped"
    model=$work/looped
}

reference() {
    job 1
    ref=$(digest "$work/r.h5")
    [ "$(spec counts "$work/r.h5")" = "0 0 1.000" ]
}

@test "a model whose module is right: two tokens a step; a text that repeats itself: more" {
    looped
    for i in $(seq 6); do
        echo '{"prompt_ids": ['$((12 * i + 4))','$((12 * i + 5))'], "max_tokens": 241, "temperature": 0, "ignore_eos": true}'
    done >"$work/in.jsonl"
    reference
    job 1 --speculative mtp:1
    [ "$(digest "$work/r.h5")" = "$ref" ]
    read -r made right each < <(spec counts "$work/r.h5")
    echo "mtp: $right of $made right, $each a step"
    [ "$made" -ge 700 ] && [ $((right * 100)) -ge $((made * 95)) ] && [[ $each > 1.9 ]]
    job 1 --speculative ngram:4
    [ "$(digest "$work/r.h5")" = "$ref" ]
    read -r made right each < <(spec counts "$work/r.h5")
    echo "ngram: $right of $made right, $each a step"
    [[ $each > 2.5 ]]
}

@test "requests of all kinds, on any layout, with few pages: the digest without guesses" {
    looped
    spec input 60 1 >"$work/in.jsonl"
    reference
    while read -r n options; do
        job "$n" $options
        [ "$(digest "$work/r.h5")" = "$ref" ]
        read -r made right each < <(spec counts "$work/r.h5")
        echo "$n $options: $right of $made right, $each a step"
        [ "$right" -gt 150 ] && [ "$right" -lt "$made" ]
    done <<'END'
1 --speculative ngram:4
1 --speculative mtp:1 --kv-pages 5 --max-batch-rows 24 --max-num-seqs 24
1 --speculative ngram:7 --kv-pages 5 --max-batch-rows 24 --max-num-seqs 24
2 --speculative mtp:1 --pipeline-parallel-size 2
2 --speculative ngram:3 --pipeline-parallel-size 2 --enable-prefix-caching=no --kv-pages 6
2 --speculative mtp:1 --sequence-parallel-size 2 --kv-segment 64 --kv-pages 4
3 --speculative mtp:1 --tensor-parallel-size 3
3 --speculative ngram:5
2 --speculative mtp:1 --data-parallel-size 2 --zero-inference 50
END
    for how in mtp ngram; do # as many as pay: nobody knows how many
        job 1 --speculative $how
        [ "$(digest "$work/r.h5")" = "$ref" ]
    done
}

@test "routing and hidden states are those of right guesses; logits are computed each for itself" {
    model=$demo
    spec input 12 3 | grep -v guided >"$work/in.jsonl"
    job 1 --save-routing --save-hidden
    ref=$(digest "$work/r.h5")
    mv "$work/r.h5" "$work/ref.h5"
    job 2 --save-routing --save-hidden --speculative ngram:4
    [ "$(digest "$work/r.h5")" = "$ref" ]
    [ "$(spec counts "$work/r.h5")" != "0 0 1.000" ]
    "$PYTHON3" - "$work/ref.h5" "$work/r.h5" <<'END'
import h5py, sys
a, b = (h5py.File(x) for x in sys.argv[1:])
assert (a["rows/offsets"][:] == b["rows/offsets"][:]).all() and (a["hidden"][:] == b["hidden"][:]).all()
END
    job 1 --save-logits=last
    ref=$(digest "$work/r.h5")
    job 1 --save-logits=last --speculative ngram:4
    [ "$(digest "$work/r.h5")" = "$ref" ]
    [ "$(spec counts "$work/r.h5")" = "0 0 1.000" ]
}

@test "rows of an adapter guess, too" {
    model=$models/mixtral_a
    "$PYTHON3" - >"$work/in.jsonl" <<'END'
import json
for i in range(12):
    q = {"prompt_ids": [5 + (i + 7 * j) % 40 for j in range(30)], "max_tokens": 40, "temperature": 0 if i % 3 else 1, "seed": i, "ignore_eos": True}
    print(json.dumps({**q, **({"adapter": "one"} if i % 2 else {})}))
END
    set -- --adapter "one=$top/tests/data/lora/mixtral_a__attn_r4"
    job 1 "$@"
    ref=$(digest "$work/r.h5")
    job 2 "$@" --speculative ngram:4 --tensor-parallel-size 2
    [ "$(digest "$work/r.h5")" = "$ref" ]
    read -r made right each < <(spec counts "$work/r.h5")
    [ "$made" -gt 60 ]
}

@test "a killed job goes on with guesses, or without" {
    looped
    spec input 80 2 >"$work/in.jsonl"
    reference
    rm "$work/r.h5"
    "$MOEBATCH" run -m "$model" -i "$work/in.jsonl" -o "$work/r.h5" --dtype bf16 --speculative mtp:1 --max-num-seqs 6 --isa portable &
    job=$!
    until [ "$(cat "$work"/r.h5.d/run-*/journal* 2>/dev/null | wc -c)" -gt 4000 ] || ! kill -0 $job; do sleep 0.02; done
    kill -KILL $job
    wait $job || true
    [ ! -e "$work/r.h5" ]
    ranks 2 run -m "$model" -i "$work/in.jsonl" -o "$work/r.h5" --dtype bf16 --resume --speculative ngram:4 --kv-pages 6
    [ "$(digest "$work/r.h5")" = "$ref" ]
}

@test "as many sequences as memory allows; rows of a step under either name" {
    model=$demo
    echo '{"prompt_ids": [5], "max_tokens": 3}' >"$work/in.jsonl"
    job 1 --max-num-seqs auto --kv-pages 70 --max-num-batched-tokens 90
    "$PYTHON3" - "$work/r.h5" <<'END'
import h5py, json, sys
plan = json.loads(h5py.File(sys.argv[1])["provenance/plan"][()])
assert (plan["max_num_seqs"], plan["max_batch_rows"]) == (2, 90), plan
END
    run job 2 --max-num-seqs auto
    [[ "$output" == *"tail      : an attention group had nothing left for "* ]]
    run "$MOEBATCH" plan -m "$model" --cluster "1 nodes x 1 H100-80GB" --max-num-seqs auto
    [ "$status" = 1 ] && [[ "$output" == *"plan compares layouts with one number of sequences"* ]]
}

@test "what cannot guess says so" {
    model=$models/qwen3next_a
    echo '{"prompt_ids": [5], "max_tokens": 1}' >"$work/in.jsonl"
    run job 1 --speculative ngram
    [ "$status" = 2 ] && [[ "$output" == *"linear attention cannot go back"* ]]
    model=$demo
    run job 1 --speculative mtp
    [ "$status" = 2 ] && [[ "$output" == *"no MTP module"* ]]
    run job 1 --speculative ngram:99
    [ "$status" = 1 ] && [[ "$output" == *"a number from 1 to 16"* ]]
}
