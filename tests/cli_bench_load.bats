# moebatch bench throughput and latency: the engine's own figures, the same results on any layout, and bounds that follow from the
# figures printed with them.
load common.bash

quick="--repeats 2 --buffer 4M --threads 1"

fact() { # FILE KEY
    "$PYTHON3" -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$1" "$2"
}

@test "bench throughput: counts are what was asked for, bounds follow from the roofline" {
    "$MOEBATCH" bench throughput -m "$models/mixtral_a" --workload 6x9+5 $quick --decode-batches 1-3,6,7 -o "$work/t.json" --csv >"$work/t.csv"
    "$PYTHON3" - "$work/t.json" "$models/mixtral_a/config.json" <<'END'
import json, math, sys
d, c = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
assert (d["requests"], d["prompt_tokens"], d["output_tokens"], d["concurrency"], d["ranks"]) == (6, 54, 30, 6, 1), d
r = {x["name"]: x for x in d["results"]}
assert [n for n in r if n.startswith("decode/")] == ["decode/B=1", "decode/B=2", "decode/B=3", "decode/B=6"]
near = lambda a, b: abs(a - b) <= 1e-6 * abs(b)
H, I, V, L, E, K = 48, 28, c["vocab_size"], c["num_hidden_layers"], 8, 2
h, kv, hd = c["num_attention_heads"], c["num_key_value_heads"], c.get("head_dim") or 48 // c["num_attention_heads"]
f = d["roofline"]
attn = 2 * h * hd * H + 2 * kv * hd * H
assert near(f["token_flops"], 2 * L * (attn + E * H + K * 3 * H * I)) and near(f["head_flops"], 2 * V * H)
assert near(f["dense_bytes"], 4 * (L * (attn + E * H) + V * H)) and near(f["expert_bytes"], 4 * L * 3 * H * I)
assert near(f["kv_bytes"], 4 * L * 2 * kv * hd) and near(f["attention_flops_at_1"], L * 4 * h * hd)
assert near(f["read"], r["limit/read"]["max"] * 1e9) and near(f["flops"], r["limit/f32 FMA"]["max"] * 1e9)
def step(b, ctx):
    flops = b * (f["token_flops"] + f["head_flops"] + f["attention_flops_at_1"] * ctx)
    size = f["dense_bytes"] + E * (1 - (1 - K / E) ** b) * f["expert_bytes"] + b * ctx * f["kv_bytes"]
    return max(flops / f["flops"], size / f["read"])
ctx = 9 + 5 / 2
for b in (1, 2, 3, 6):
    assert near(r[f"decode/B={b}"]["bound"], b / step(b, ctx)), b
flops = 6 * (9 * f["token_flops"] + f["head_flops"] + f["attention_flops_at_1"] * 45)
pre = max(flops / f["flops"], (f["dense_bytes"] + E * (1 - (1 - K / E) ** 54) * f["expert_bytes"]) / f["read"])
assert near(r["prefill"]["bound"], 54 / pre)
job = pre + math.ceil(24 / 6) * step(6, ctx)
assert near(r["job"]["bound"], job) and near(r["throughput/output"]["bound"], 30 / job) and near(r["throughput/total"]["bound"], 84 / job)
for x in d["results"]:
    if "fraction" in x:
        assert near(x["fraction"], x["bound"] / x["median"] if x["better"] == "less" else x["median"] / x["bound"])
for i in range(2):
    t = r["job"]["samples"][i]
    assert near(r["throughput/output"]["samples"][i], 30 / t) and near(r["throughput/requests"]["samples"][i], 6 / t)
    assert 0 < sum(r["time/" + k]["samples"][i] for k in ("rest", "attention", "experts", "head", "exchange", "wait")) <= t
    assert r["ttft/p50"]["samples"][i] <= r["ttft/p99"]["samples"][i] <= r["ttft/max"]["samples"][i] <= r["total/max"]["samples"][i] <= t
END
    [ "$(head -n 1 "$work/t.csv")" = name,unit,better,samples,median,min,max,bound,fraction,formula ]
}

@test "bench throughput: weights drawn here are those drawn by another program, on every layout" {
    "$PYTHON3" "$top/tests/random_weights.py" "$models/mixtral_a/config.json" "$work/model" 77 "$top/src/model/model.h"
    args="--workload 7x11+4 --decode-batches 3 --repeats 1 --buffer 4M --seed 77"
    "$MOEBATCH" bench throughput -m "$work/model" $args -o "$work/files.json" >/dev/null
    want=$(fact "$work/files.json" digest)
    [ ${#want} = 16 ]
    "$MOEBATCH" bench throughput --random-weights "$models/mixtral_a/config.json" $args -o "$work/1.json" >/dev/null
    [ "$(fact "$work/1.json" digest)" = "$want" ]
    for layout in "4 --tensor-parallel-size 2 --pipeline-parallel-size 2" "3 --data-parallel-size 3" "2 --zero-inference 50" \
        "3 --disaggregate 1:2"; do
        ranks ${layout%% *} bench throughput --random-weights "$models/mixtral_a" $args ${layout#* } --threads 1 --json >"$work/l.json"
        [ "$(fact "$work/l.json" digest)" = "$want" ] || { echo "$layout"; cat "$work/l.json"; false; }
        [ "$(fact "$work/l.json" ranks)" = "${layout%% *}" ]
        [ "$(fact "$work/l.json" output_tokens)" = 28 ]
    done
    "$MOEBATCH" bench throughput --random-weights "$models/mixtral_a" ${args/77/78} -o "$work/2.json" >/dev/null
    [ "$(fact "$work/2.json" digest)" != "$want" ]
}

@test "bench: results are those of run" {
    "$MOEBATCH" bench latency -m "$demo" --workload 2x12+6 $quick --concurrency 1 -o "$work/l.json" >/dev/null
    "$PYTHON3" - "$work" <<'END'
import json, sys
# token p of prompt i: the high half of word p % 4 of Philox(counter (p / 4, i, 0, 1), key seed) times the vocabulary
def philox(c, k0, k1):
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [p1 >> 32 ^ c[1] ^ k0, p1 & 0xFFFFFFFF, p0 >> 32 ^ c[3] ^ k1, p0 & 0xFFFFFFFF]
        k0, k1 = k0 + 0x9E3779B9 & 0xFFFFFFFF, k1 + 0xBB67AE85 & 0xFFFFFFFF
    return c
with open(sys.argv[1] + "/in.jsonl", "w") as f:
    for i in range(2):
        ids = [philox([p // 4, i, 0, 1], 0, 0)[p % 4] * 4096 >> 32 for p in range(12)]
        f.write(json.dumps({"prompt_ids": ids, "max_tokens": 6, "ignore_eos": True, "temperature": 0}) + "\n")
END
    "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" 2>/dev/null
    "$PYTHON3" - "$work" <<'END'
import h5py, json, struct, sys, xxhash
f, d = h5py.File(sys.argv[1] + "/r.h5"), json.load(open(sys.argv[1] + "/l.json"))
h, off, total = xxhash.xxh3_64_intdigest, f["tokens/output_offsets"][:], 0
for i in range(2):
    ids, lp = f["tokens/output_ids"][off[i]:off[i + 1]], f["tokens/output_logprobs"][off[i]:off[i + 1]]
    assert len(ids) == 6
    total += h(struct.pack("<QQQQ", i, 6, h(ids.astype("<i4").tobytes()), h(lp.astype("<f4").tobytes())))
assert d["digest"] == "%016x" % (total % 2**64), d["digest"]
r = {x["name"]: x for x in d["results"]}
assert d["concurrency"] == 1 and "prefill" not in r and not any(n.startswith("decode/") for n in r)
assert r["job"]["median"] >= 2 * r["total/mean"]["median"] * 0.9  # one after the other
END
}

@test "bench: workloads from files" {
    cat >"$work/share.json" <<'END'
[{"id": "a", "conversations": [{"from": "human", "value": "Once upon a time"}, {"from": "gpt", "value": "there was a small boat."}]},
 {"id": "b", "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hello again, and again."}, {"from": "human", "value": "x"}]},
 {"id": "c", "conversations": [{"from": "human", "value": "No answer"}]}]
END
    "$MOEBATCH" bench throughput -m "$demo" --workload "$work/share.json" --max-tokens 3 $quick --decode-batches 1 -o "$work/s.json" >/dev/null
    count() { echo "\"$1\"" | "$MOEBATCH" tokenize -m "$demo" $2 | tr ',' '\n' | wc -l; }
    prompts=$(($(count "Once upon a time") + $(count "Hello") + $(count "No answer")))
    outputs=$(($(count "there was a small boat." --no-special) + $(count "Hello again, and again." --no-special) + 3))
    [ "$(fact "$work/s.json" requests) $(fact "$work/s.json" prompt_tokens) $(fact "$work/s.json" output_tokens)" = "3 $prompts $outputs" ]
    cat >"$work/batch.jsonl" <<'END'
{"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {"model": "m", "prompt": [5, 6, 7], "max_tokens": 4}}
{"custom_id": "2", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 2}}
{"prompt": "Hello", "max_tokens": 100000}
no json
{"prompt_ids": [1, 2], "max_tokens": 1}
END
    ranks 2 bench throughput -m "$demo" --workload "$work/batch.jsonl" --threads 1 --repeats 1 --buffer 4M --decode-batches 1 --json >"$work/b.json"
    [ "$(fact "$work/b.json" requests) $(fact "$work/b.json" output_tokens) $(fact "$work/b.json" requests_left_out)" = "3 7 2" ]
    [ "$(fact "$work/b.json" prompt_tokens)" = $((5 + $(count Hello))) ]
    "$MOEBATCH" bench throughput --random-weights "$demo" --workload "$work/batch.jsonl" --num-requests 2 $quick --decode-batches 1 -o "$work/c.json" >/dev/null
    [ "$(fact "$work/c.json" prompt_tokens) $(fact "$work/c.json" output_tokens)" = "5 6" ] # four bytes a token
}

@test "bench throughput and latency: what is refused" {
    refused() {
        local code=$1 text=$2 got=0
        shift 2
        "$@" >"$work/out" 2>"$work/err" || got=$?
        [ $got = "$code" ] || { echo "exit $got"; cat "$work/err"; return 1; }
        grep -qF -- "$text" "$work/err" || { cat "$work/err"; return 1; }
    }
    refused 1 "needs a model (-m) or --random-weights" "$MOEBATCH" bench throughput
    refused 1 "--expect-digest 'x' is not" "$MOEBATCH" bench latency -m "$demo" --expect-digest x
    "$MOEBATCH" bench latency -m "$demo" --workload 1x4+2 $quick -o "$work/d.json" >/dev/null
    "$MOEBATCH" bench latency -m "$demo" --workload 1x4+2 $quick --expect-digest "$(fact "$work/d.json" digest)" >/dev/null
    refused 70 "not 0123456789abcdef" "$MOEBATCH" bench latency -m "$demo" --workload 1x4+2 $quick --expect-digest 0123456789abcdef -o "$work/e.json"
    [ ! -s "$work/out" ] && [ ! -e "$work/e.json" ]
    refused 1 "--model and --random-weights contradict" "$MOEBATCH" bench latency -m "$demo" --random-weights "$demo"
    refused 1 "--rows is no option of bench throughput" "$MOEBATCH" bench throughput -m "$demo" --rows 1
    refused 1 "--concurrency is no option of bench throughput" "$MOEBATCH" bench throughput -m "$demo" --concurrency 2
    refused 1 "--workload is no option of bench gemm" "$MOEBATCH" bench gemm --workload 1x1+1
    refused 1 "--workload '5y6' is neither a file" "$MOEBATCH" bench latency -m "$demo" --workload 5y6
    refused 2 "not between 1 + 1 tokens and the 1024" "$MOEBATCH" bench latency -m "$demo" --workload 1x1000+25
    refused 2 "not between 1 + 1 tokens" "$MOEBATCH" bench latency -m "$demo" --workload 1x10+0
    refused 1 "--decode-batches '0' is no list" "$MOEBATCH" bench throughput -m "$demo" --decode-batches 0
    refused 2 "config.json" "$MOEBATCH" bench throughput --random-weights "$work/none"
    refused 2 "a model's directory with its weights is needed" "$MOEBATCH" bench throughput -m "$top/inputs/configs/qwen3-30b-a3b/config.json"
    echo "nothing" >"$work/no.jsonl"
    refused 2 "has no request" "$MOEBATCH" bench throughput -m "$demo" --workload "$work/no.jsonl"
    refused 2 "KV pages" "$MOEBATCH" bench throughput -m "$demo" --workload 1x200+5 --kv-pages 2 --buffer 4M
    refused 1 "belongs to --zero-inference" "$MOEBATCH" bench throughput -m "$demo" --prefetch 2
}

@test "bench --against: the other model's own figures and digest, and ratios of medians; refused before anything is measured" {
    "$MOEBATCH" bench throughput -m "$models/mixtral_a" --against "$models/mistral_a" --workload 4x9+5 $quick --decode-batches 2 -o "$work/t.json" >"$work/t.txt"
    for m in mixtral_a mistral_a; do
        "$MOEBATCH" bench throughput -m "$models/$m" --workload 4x9+5 $quick --decode-batches 2 -o "$work/$m.json" >/dev/null
    done
    [ "$(fact "$work/t.json" digest)" = "$(fact "$work/mixtral_a.json" digest)" ]
    [ "$(fact "$work/t.json" against_digest)" = "$(fact "$work/mistral_a.json" digest)" ]
    [ "$(fact "$work/t.json" against_parameters)" = "$(fact "$work/mistral_a.json" parameters)" ]
    "$PYTHON3" - "$work" <<'END'
import json, sys
d, a, b = (json.load(open(f"{sys.argv[1]}/{n}.json")) for n in ("t", "mixtral_a", "mistral_a"))
r = {x["name"]: x for x in d["results"]}
mine, other = ([x["name"] for x in y["results"] if not x["name"].startswith("limit/")] for y in (a, b))
assert [n for n in r if n.startswith("against/")] == ["against/" + n for n in other]
assert [n for n in r if "/" not in n or n.split("/")[0] not in ("against", "ratio", "limit")] == mine
ratios = [n[6:] for n in r if n.startswith("ratio/")]
assert ratios == [n for n in other if not n.startswith("time/")] and "throughput/output" in ratios and "memory/rank" in ratios
for n in ratios:
    want = r[n]["median"] / r["against/" + n]["median"]
    assert abs(r["ratio/" + n]["median"] - want) <= 1e-6 * want and r["ratio/" + n]["better"] == r[n]["better"], n
# memory is that of each model alone
memory = {x["name"]: x["median"] for x in b["results"]}
assert abs(r["against/memory/rank"]["median"] - memory["memory/rank"]) < 0.1 * memory["memory/rank"]
assert d["against_roofline"]["experts"] == 0 and d["roofline"]["experts"] == 8
assert d["parameters"] > d["parameters_active"] and d["against_parameters"] == d["against_parameters_active"]
END
    grep -q '^ratio/throughput/output' "$work/t.txt"
    ranks 2 bench latency --random-weights "$models/mixtral_a" --expert-parallel-size 2 --against "$top/inputs/configs/none" $quick && false
    ranks 2 bench latency --random-weights "$models/mixtral_a" --expert-parallel-size 2 --against "$models/llama_a/config.json" --workload 2x6+3 $quick -o "$work/l.json" >/dev/null
    [ "$(fact "$work/l.json" against_output_tokens)" = 6 ]
    cp "$models/mistral_a/config.json" "$work/config.json"
    run "$MOEBATCH" bench latency -m "$models/mixtral_a" --against "$work/config.json" $quick
    [ "$status" = 2 ] && [[ $output == *"--against"*"weights"* ]]
}
