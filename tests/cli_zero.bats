# ZeRO-inference: experts on demand. The same bits, less memory, hit rates as the cache is large, rows or experts move.
load common.bash

f32=5e8f8e6a2a8243f4cfe98f8810f017db

@test "a quarter and a half of the experts are resident: hit rates follow, bits do not change" {
    for percent in 25 50; do
        ranks 2 run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/$percent.h5" --dtype f32 --zero-inference $percent --prefetch 4
        [ "$(digest "$work/$percent.h5")" = $f32 ]
    done
    ranks 2 run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/all.h5" --dtype f32
    "$PYTHON3" - "$work" <<'END'
import sys, h5py
p = {n: h5py.File(f"{sys.argv[1]}/{n}.h5")["physical"] for n in (25, 50, "all")}
share = p["all"]["expert_bytes"][:]
for n in (25, 50):
    assert (p[n]["expert_bytes"][:] == share * n // 100).all(), (p[n]["expert_bytes"][:], share)
    hits, files, peers = (p[n][k][:].sum() for k in ("cache_hits", "fetched_from_files", "fetched_from_ranks"))
    rate = 100 * hits / (hits + files + peers)
    assert n - 12 < rate < n + 12, (n, rate)
    assert files > 0 and 0 < p[n]["prefetched"][:].sum() <= files
    layers = p[n]["experts_on_demand"][:]
    assert list(layers.sum(0)[:4]) == [hits, peers, files, p[n]["prefetched"][:].sum()]
    assert (layers[:, 2] > 0).all()
assert p["all"]["cache_hits"][:].sum() == 0 and "experts_on_demand" not in p["all"]
END
}

@test "a busy owner: copies of its experts take the rows" {
    model=$models/qwen3moe_b
    "$PYTHON3" - "$model" "$work" <<'END'
import json, sys
c = json.load(open(sys.argv[1] + "/config.json"))
n = c["num_hidden_layers"] - len(c["mlp_only_layers"])
with open(sys.argv[2] + "/owners.json", "w") as f:
    json.dump({"owner": [[0] * c["num_experts"]] * n}, f)
with open(sys.argv[2] + "/in.jsonl", "w") as f:
    for i in range(6):
        ids = [(k * k + 7 * k + 13 * i) % c["vocab_size"] for k in range(900 + i)]
        f.write(json.dumps({"id": str(i), "prompt_ids": ids, "max_tokens": 3, "temperature": 0}) + "\n")
END
    ranks 1 run -m "$model" -i "$work/in.jsonl" -o "$work/one.h5" --dtype f32 --save-routing --max-model-len 1024 --kv-pages 48 --max-batch-rows 1900
    ranks 3 run -m "$model" -i "$work/in.jsonl" -o "$work/busy.h5" --dtype f32 --save-routing --max-model-len 1024 --kv-pages 48 --max-batch-rows 1900 --placement "$work/owners.json"
    ranks 3 run -m "$model" -i "$work/in.jsonl" -o "$work/zero.h5" --dtype f32 --save-routing --max-model-len 1024 --kv-pages 48 --max-batch-rows 1900 --placement "$work/owners.json" \
        --zero-inference 300
    [ "$(digest "$work/one.h5")" = "$(digest "$work/busy.h5")" ]
    [ "$(digest "$work/one.h5")" = "$(digest "$work/zero.h5")" ]
    "$PYTHON3" - "$work" <<'END'
import sys, h5py
busy, zero = (h5py.File(f"{sys.argv[1]}/{n}.h5")["physical"] for n in ("busy", "zero"))
for p in (busy, zero):
    print(*(f"{k} {p[k][:].tolist()}" for k in ("rows", "rows_kept", "fetched_from_ranks", "fetched_from_files", "expert_bytes")))
assert busy["rows"][0] > 0 and list(busy["rows"][1:]) == [0, 0]
assert (zero["rows"][:] > 0).all() and zero["rows"][:].sum() == busy["rows"][0]
assert zero["rows"][:].max() < 0.7 * busy["rows"][0], zero["rows"][:]
assert zero["rows_kept"][1:].min() > 0 and zero["fetched_from_ranks"][1:].min() > 0
assert zero["fetched_bytes"][1:].min() > 0
moved = lambda p: p["exchange_bytes"][:, :, 1:].sum()  # all but what stays in the rank
assert moved(zero) < 0.6 * moved(busy), (moved(zero), moved(busy))
END
}

# refused "OPTIONS" STATUS "WORDS"
refused() {
    run ranks 1 run -m "${model:-$demo}" -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" $1
    echo "$output"
    [ "$status" -eq "${2}" ]
    [[ $output == *"$3"* ]]
}

@test "what does not go together is refused with the reason" {
    refused "--min-experts 2" 1 "--min-experts belongs to --zero-inference"
    refused "--prefetch 2" 1 "--prefetch belongs to --zero-inference"
    refused "--zero-inference 50 --stage $work" 1 "--stage copies what a node reads"
    refused "--zero-inference 50 --min-experts 99" 2 "--min-experts 99 is more than the 8 experts of a layer"
    model=$models/llama_a refused "--zero-inference 50" 2 "the model is dense"
    run ranks 2 run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" --zero-inference 50 --expert-tensor-parallel-size 2
    [ "$status" -eq 2 ]
    [[ $output == *"experts are fetched whole"* ]]
}

@test "an expert that cannot be read any more ends the job in order" {
    cp -r "$demo" "$work/model"
    chmod -R u+w "$work/model"
    (
        for i in $(seq 400); do
            grep -q 'output    :' "$work/log" 2>/dev/null && break
            sleep 0.05
        done
        for f in "$work"/model/*.safetensors; do truncate -s 200000 "$f"; done
    ) 3>&- &
    status=0
    timeout 60 sh "$top/tests/mpirun.sh" 2 "$MOEBATCH" run -m "$work/model" -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" \
        --max-tokens 400 --max-num-seqs 2 --zero-inference 25 2>"$work/log" || status=$?
    cat "$work/log"
    wait
    [ "$status" -ne 0 ] && [ "$status" -ne 124 ]
    grep -q "safetensors" "$work/log"
}
