# Sparse attention by an indexer (DeepSeek-V3.2, GLM-MoE-DSA): goldens, and one digest over layouts.
load common.bash

golden() {
    GOLDEN_PROMPTS="2 4" "$PYTHON3" "$top/tests/golden.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$1" "$models/$2" "$work" "${@:3}"
}

@test "DeepSeek-V3.2: half-split rotation of the indexer, one in each layer" { golden 2 deepseekv32_a; }
@test "GLM-MoE-DSA: interleaved rotation of the indexer" { golden 1 glmmoedsa_a; }
@test "GLM-MoE-DSA: layers that share a choice, also over the border of a stage" {
    golden 1 glmmoedsa_b
    golden 4 glmmoedsa_b --pipeline-parallel-size 4
}

@test "one digest over layouts, small steps and instruction sets" {
    "$PYTHON3" -c "
import json, random
r = random.Random(3)
for i, n in enumerate((3, 15, 16, 17, 64, 130, 250)):
    ids = [r.randrange(280) for _ in range(n)]
    print(json.dumps({'id': f'g{i}', 'prompt_ids': ids, 'max_tokens': 12, 'ignore_eos': True, 'seed': i}))
    print(json.dumps({'id': f'c{i}', 'context_ids': ids, 'continuation_ids': ids[:5]}))" >"$work/in.jsonl"
    for type in f32 bf16; do
        want=
        for how in "1" "1 --max-batch-rows 9 --max-num-seqs 2" "1 --isa portable" \
            "2 --tensor-parallel-size 2" "4 --tensor-parallel-size 2 --pipeline-parallel-size 2" \
            "3 --pipeline-parallel-size 3" "3" "2 --disaggregate 1:1" "2 --zero-inference 50" "4 --data-parallel-size 2 --expert-tensor-parallel-size 2" \
            "2 --sequence-parallel-size 2" "4 --sequence-parallel-size 2 --pipeline-parallel-size 2 --max-batch-rows 9 --max-num-seqs 2" \
            "4 --sequence-parallel-size 2 --tensor-parallel-size 2" "3 --sequence-parallel-size 3 --isa portable --zero-inference 50"; do
            set -- $how
            ranks "$1" run -m "$models/glmmoedsa_b" -i "$work/in.jsonl" -o "$work/r.h5" --overwrite --dtype $type --save-routing --kv-segment 64 "${@:2}" \
                2>"$work/log" || { cat "$work/log"; false; }
            got=$(digest "$work/r.h5")
            [ "${want:=$got}" = "$got" ] || { echo "$type $how: $got, not $want"; false; }
        done
    done
}

@test "stopped and resumed in parts of sequences, the same" {
    for i in $(seq 12); do echo "{\"prompt_ids\":[$i,5,9,13,21,34],\"max_tokens\":200,\"ignore_eos\":true,\"seed\":$i}"; done >"$work/in.jsonl"
    "$MOEBATCH" run -m "$models/deepseekv32_a" -i "$work/in.jsonl" -o "$work/want.h5"
    run ranks 2 run -m "$models/deepseekv32_a" -i "$work/in.jsonl" -o "$work/r.h5" --max-hours 0.00002 --max-num-seqs 2 --isa portable
    [ "$status" -eq 75 ]
    ranks 2 run -m "$models/deepseekv32_a" -i "$work/in.jsonl" -o "$work/r.h5" --resume --sequence-parallel-size 2
    [ "$(digest "$work/r.h5")" = "$(digest "$work/want.h5")" ]
}
