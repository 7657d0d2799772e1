# Work is really split: what the ranks counted of a job against what its layout, its routing and the lengths of its
# sequences say (check_split.py).
load common.bash

# prompts LINES LENGTH MORE: requests by token ids, the first of LENGTH, each next one MORE longer
prompts() {
    "$PYTHON3" - "$@" >"$work/in.jsonl" <<'PY'
import json, sys
n, length, more = map(int, sys.argv[1:])
for i in range(n):
    ids = [(k * k + 7 * k + 13 * i) % 288 for k in range(length + more * i)]
    print(json.dumps({"id": str(i), "prompt": ids, "max_tokens": 1 + i % 4, "ignore_eos": True, "temperature": 0}))
PY
}

# split MODEL SHARE RANKS OPTION...: a job, and the check of what it counted
split() {
    local model=$1 share=$2 n=$3
    shift 3
    ranks "$n" run -m "$model" -i "$work/in.jsonl" -o "$work/r.h5" --overwrite --dtype f32 --save-routing --keep \
        --kv-segment 64 "$@" 2>"$work/err" || { cat "$work/err"; false; }
    "$PYTHON3" "$top/tests/check_split.py" "$work/r.h5" "$model" $share
}

@test "attention and KV of long prompts: at most 1.15 / sp on a rank of 2, 3 and 4" {
    prompts 2 2048 70
    for sp in 2 3 4; do
        split "$models/mixtral_a" 1.15 $sp --sequence-parallel-size $sp --max-model-len 2304
    done
}

@test "rows by rank and layer, resident bytes: stages, pattern 2, copies, slices, disaggregated" {
    prompts 9 5 9
    split "$models/mixtral_a" "" 4 --pipeline-parallel-size 2 --expert-scope lane
    split "$models/mixtral_a" "" 8 --data-parallel-size 2 --pipeline-parallel-size 2 --expert-data-parallel-size 2
    split "$models/mixtral_a" "" 4 --expert-tensor-parallel-size 2 --tensor-parallel-size 2
    split "$models/mixtral_a" "" 5 --disaggregate 2:3
    split "$demo" "" 6 --pipeline-parallel-size 2 --disaggregate 1:2 --expert-scope lane
}

@test "ticks of a pipeline: four chunks of a prompt, then two tokens one after the other" {
    prompts 1 64 0
    sed -i 's/"max_tokens": 1/"max_tokens": 3/' "$work/in.jsonl"
    # 4 + 4 ticks until the chunks have left the fifth stage, then five for each token
    for scope in stage lane; do
        split "$demo" "" 5 --pipeline-parallel-size 5 --max-batch-rows 16 --max-num-seqs 4 --expert-scope $scope |
            grep -F "idle ticks [12, 0, 0, 0, 0] of [18, 0, 0, 0, 0]"
        grep -F "a stage idled in 12 of 18 ticks (66.7 %; (S-1)/(m+S-1) is 40.0 %)" "$work/err"
    done
}
