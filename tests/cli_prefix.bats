# What requests have in common is computed once, and pages come and go as rows do: no bit changes.
load common.bash

job() { # RANKS OPTION...
    local n=$1
    shift
    ranks "$n" run -m "$model" -i "$work/in.jsonl" -o "$work/r.h5" --overwrite --dtype bf16 "$@"
}

alone() {
    model=${1:-$demo}
    job 1 --enable-prefix-caching=no
    ref=$(digest "$work/r.h5")
    [ "$(counted metrics/cached_rows)" = 0 ]
}

counted() {
    "$PYTHON3" -c 'import h5py, sys; print(h5py.File(sys.argv[1])[sys.argv[2]][:].sum())' "$work/r.h5" "$1"
}

make_input() {
    "$PYTHON3" "$top/tests/prefix_input.py" make "$@" >"$work/in.jsonl"
}

@test "shared rows, few pages, small steps, any layout: the digest of every row computed alone" {
    make_input
    alone
    while read -r n options; do
        job "$n" $options
        [ "$(digest "$work/r.h5")" = "$ref" ]
        [ "$(counted metrics/cached_rows)" -gt 500 ]
    done <<'END'
1
1 --kv-pages 4 --max-batch-rows 32 --max-num-seqs 32
1 --max-num-seqs 1
2 --pipeline-parallel-size 2 --max-batch-rows 40 --max-num-seqs 40
2 --sequence-parallel-size 2 --kv-segment 64 --kv-pages 3
3 --tensor-parallel-size 3 --kv-pages 5
END
}

@test "few-shot scoring computes what the trie of all texts has; as much with four attention groups" {
    make_input 40 100
    alone
    for n in 1 4; do
        job "$n" --max-batch-rows 300 --max-num-seqs 16
        [ "$(digest "$work/r.h5")" = "$ref" ]
        read -r computed asked trie < <("$PYTHON3" "$top/tests/prefix_input.py" trie "$work/r.h5")
        echo "$n ranks: $computed computed, $asked asked for, $trie in the trie"
        [ $((computed * 100)) -le $((trie * (n == 1 ? 102 : 105))) ]
        [ "$computed" -ge "$trie" ]
    done
}

@test "lines that begin alike come together, or the longest first: the same results in the order of the input" {
    "$PYTHON3" "$top/tests/prefix_input.py" make 8 100 | shuf --random-source="$top/COPYING" >"$work/in.jsonl"
    alone
    first=$("$MOEBATCH" inspect "$work/r.h5" --digest --in-order | tail -n 1)
    for order in prefix length; do
        job 3 --order $order --max-num-seqs 4
        [ "$("$MOEBATCH" inspect "$work/r.h5" --digest --in-order | tail -n 1)" = "$first" ]
        [ $order = length ] && continue
        read -r computed asked trie < <("$PYTHON3" "$top/tests/prefix_input.py" trie "$work/r.h5")
        echo "$computed computed, $asked asked for, $trie in the trie"
        [ $((computed * 100)) -le $((trie * 110)) ]
    done
}

@test "a prompt with sixteen choices is computed once" {
    model=$demo
    printf '%s\n' '{"prompt_ids": [5,6,7,8,9,10,11,12,13,14,15,16,17], "n": 16, "max_tokens": 4, "temperature": 1, "ignore_eos": true, "seed": 3}' >"$work/in.jsonl"
    job 1
    "$PYTHON3" - "$work/r.h5" <<'END'
import h5py, sys
f = h5py.File(sys.argv[1])
ids = f["tokens/output_ids"][:].reshape(16, 4)
computed = f["metrics/attended_rows"][:].sum()
# three rows of each choice behind the prompt at most; choices that draw the same tokens share them, too
shared = sum(len({tuple(r[:n]) for r in ids}) for n in (1, 2, 3))
print(computed, shared)
assert computed == 13 + shared
END
}

@test "rows of an adapter and of the model alone never share" {
    model=$models/mixtral_a
    for k in 1 2; do
        for a in '' ', "adapter": "one"'; do
            echo '{"prompt_ids": [5,6,7,8,9,10,11,12,13,14,15,16,17,18], "max_tokens": 6, "temperature": 0, "ignore_eos": true'"$a"'}'
        done
    done >"$work/in.jsonl"
    set -- --adapter "one=$top/tests/data/lora/mixtral_a__attn_r4"
    job 1 "$@" --enable-prefix-caching=no
    ref=$(digest "$work/r.h5")
    job 1 "$@"
    [ "$(digest "$work/r.h5")" = "$ref" ]
    [ "$(counted metrics/attended_rows)" = $((2 * (14 + 5))) ] # of each kind one
}

@test "sequences that give way draw nothing twice, and go on after a stop" {
    "$PYTHON3" - >"$work/in.jsonl" <<'END'
import json
for i in range(24):
    print(json.dumps({"prompt_ids": [5 + (i * j) % 90 for j in range(30 + i)], "max_tokens": 300 if i % 8 == 0 else 90,
                      "stop_token_ids": [] if i % 8 == 0 else list(range(10, 200)), "temperature": 1, "ignore_eos": True, "seed": i}))
END
    alone
    job 1 --kv-pages 12
    [ "$(digest "$work/r.h5")" = "$ref" ]
    run job 2 --kv-pages 9 --max-hours 0.0001 --isa portable
    while [ "$status" = 75 ]; do
        run ranks 1 run -m "$model" -i "$work/in.jsonl" -o "$work/r.h5" --dtype bf16 --resume --kv-pages 9 --max-hours 0.0005
    done
    [ "$status" = 0 ]
    [ "$(digest "$work/r.h5")" = "$ref" ]
}
