# Gated DeltaNet (Qwen3-Next, Qwen3.5-MoE): a state that goes through the positions in order gives the same bits however they come.
load common.bash

# requests LONGEST: prompts that end inside pages, steps and segments; draws; a continuation
requests() {
    "$PYTHON3" -c "
import json, random, sys
r = random.Random(5)
for i in range(40): # end much earlier than they may, so that pages are promised to more than can have them
    print(json.dumps({'id': f's{i}', 'prompt_ids': [i + 5, 7], 'max_tokens': 250, 'allowed_token_ids': [2]}))
for i in range(4): # begin in one page, end in three
    print(json.dumps({'id': f'p{i}', 'prompt_ids': [r.randrange(280) for _ in range(50 + i)], 'max_tokens': 100, 'ignore_eos': True, 'seed': i}))
for i, n in enumerate((1, 2, 15, 63, 64, 65, 130, $1)):
    ids = [r.randrange(280) for _ in range(n)]
    print(json.dumps({'id': f'g{i}', 'prompt_ids': ids, 'max_tokens': 24 - 2 * i, 'ignore_eos': True, 'seed': i, 'temperature': i % 2}))
    print(json.dumps({'id': f'n{i}', 'prompt_ids': ids[:40], 'max_tokens': 3, 'n': 2, 'seed': i}))
    print(json.dumps({'id': f'c{i}', 'context_ids': ids, 'continuation_ids': ids[:5]}))"
}

# of the last run: sequences whose pages were needed by others, so that they began again from zeros
gave_way() {
    grep -q "^shared .*[1-9][0-9]* sequences gave way" "$work/log"
}

same_bits() { # MODEL TYPE HOW...
    local want= got how model=$1 type=$2
    shift 2
    for how in "$@"; do
        set -- $how
        ranks "$1" run -m "$models/$model" -i "$work/in.jsonl" -o "$work/r.h5" --overwrite --dtype "$type" --save-routing --kv-segment 64 \
            --max-model-len 300 "${@:2}" >"$work/log" 2>&1 || { cat "$work/log"; false; }
        got=$(digest "$work/r.h5")
        [ "${want:=$got}" = "$got" ] || { echo "$model $type $how: $got, not $want"; false; }
    done
}

@test "chunks of a prompt, batches, pages that run out: one digest" {
    requests 250 >"$work/in.jsonl"
    same_bits qwen3next_a f32 "1 --max-num-seqs 8" "1 --max-batch-rows 1 --max-num-seqs 1" "1 --max-batch-rows 5 --max-num-seqs 3" \
        "1 --max-batch-rows 64 --max-num-seqs 2 --isa portable" "1 --kv-pages 7 --max-num-seqs 7"
    gave_way
    same_bits qwen35moe_a bf16 "1 --max-batch-rows 7 --max-num-seqs 2" "1 --kv-pages 6 --max-num-seqs 6"
    gave_way
}

@test "layouts: heads over tensor ranks and over parts of sequences" {
    requests 200 >"$work/in.jsonl"
    same_bits qwen3next_a bf16 "1" "2 --tensor-parallel-size 2" "2 --sequence-parallel-size 2 --max-batch-rows 7 --max-num-seqs 3" \
        "4 --tensor-parallel-size 2 --sequence-parallel-size 2 --kv-pages 6" "3 --zero-inference 50 --alltoall hier"
    same_bits qwen35moe_a f32 "1" "3 --sequence-parallel-size 3 --kv-pages 4 --max-num-seqs 5" "4 --pipeline-parallel-size 2 --sequence-parallel-size 2"
}

@test "more ranks than there are leaves of its heads are refused by name" {
    run ranks 6 run -m "$models/qwen3next_a" -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" --tensor-parallel-size 2 --sequence-parallel-size 3
    [ "$status" -eq 2 ]
    [[ $output == *"--tensor-parallel-size times --sequence-parallel-size 6 is more than the 4 leaves of the linear attention's output"* ]]
}

@test "killed with kill -9 in the middle, resumed in other layouts" {
    requests 150 >"$work/in.jsonl"
    COPIES=1 "$PYTHON3" "$top/tests/kill.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$models/qwen3next_a" "$work/in.jsonl" "$work/k" 3 5
}
