# Experts of own rows and the shared one are computed while rows travel: the same results, whatever the layout, with few rows and
# with many.
load common.bash

job() { # RANKS OUT OPTION...
    local n=$1 out=$2
    shift 2
    ranks "$n" run -m "$model" -i "$work/in.jsonl" -o "$work/$out" --overwrite --max-num-seqs 8 "$@" 2>"$work/$out.log" ||
        { cat "$work/$out.log"; return 1; }
}

same() { # RANKS OPTION...: as one rank
    job "$1" o.h5 "${@:2}"
    [ "$(digest "$work/one.h5")" = "$(digest "$work/o.h5")" ]
}

@test "the demo model: on, off and auto, flat and hier, rounds" {
    model=$demo
    for i in 1 2 3 4 5 6; do
        echo "{\"id\": $i, \"prompt\": \"$(printf ' the cat%.0s' $(seq $((40 * i))))\", \"max_tokens\": 3, \"temperature\": 0}"
    done >"$work/in.jsonl"
    job 1 one.h5
    same 2 --overlap on
    same 2 --max-batch-rows 512 --alltoall hier
    same 4 --overlap on --placement scattered --data-parallel-size 2
}

shared_expert() { # MODEL RANKS OPTION...: on
    model=$models/$1
    for i in 1 2 3 4; do
        echo "{\"id\": $i, \"prompt_ids\": [$(seq -s, 1 $((9 * i)))], \"max_tokens\": 3, \"temperature\": 0}"
    done >"$work/in.jsonl"
    job 1 one.h5
    same "$2" --overlap on "${@:3}"
}

@test "a shared expert with a gate" { shared_expert qwen2moe_a 2; }
@test "a shared expert, hier" { shared_expert deepseekv3_a 3 --alltoall hier; }
@test "a shared expert beside weights on the experts' input" { shared_expert llama4_a 2; }
@test "a shared expert that a tensor group divides" { shared_expert qwen2moe_a 4 --tensor-parallel-size 2; }
