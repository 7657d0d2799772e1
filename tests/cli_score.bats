# Scoring: windows of long texts.
load common.bash

windows() { # MODEL: one rank, groups, a pipeline
    "$PYTHON3" "$top/tests/windows.py" make "$work"
    local n=1 name
    for how in "" "--tensor-parallel-size 2" "--pipeline-parallel-size 2 --max-num-seqs 3"; do
        [ -n "$how" ] && n=2
        ranks $n run -m "$models/$1" -i "$work/text.jsonl" -o "$work/r${#how}.h5" --max-model-len 70 --save-routing \
            --save-hidden --save-logits=all $how
        [ "$(digest "$work/r${#how}.h5")" = "$(digest "$work/r0.h5")" ]
    done
    "$PYTHON3" "$top/tests/windows.py" check "$work" "$work"/r*.h5
}

@test "a rolling text longer than the model, row by row" { windows mixtral_a; }
@test "the same with a prediction module" { windows deepseekv3_a; }

# What comes in

@test "inputs packed by gzip and zstd are read; damaged ones are named" {
    head -n 6 "$top/inputs/prompts.jsonl" >"$work/in.jsonl"
    "$PYTHON3" - "$work" <<'END'
import gzip, sys
d = sys.argv[1]
raw = open(d + "/in.jsonl", "rb").read()
k = raw.index(b"\n") + 1
packed = gzip.compress(raw[:k]) + gzip.compress(raw[k:])  # two members
open(d + "/in.jsonl.gz", "wb").write(packed)
open(d + "/cut.jsonl.gz", "wb").write(packed[:-9])
# a zstd frame of raw blocks, by RFC 8878
frame = b"\x28\xb5\x2f\xfd\x00\x48"
while raw:
    part, raw = raw[:100], raw[100:]
    frame += (len(part) << 3 | (not raw)).to_bytes(3, "little") + part
open(d + "/in.jsonl.zst", "wb").write(frame)
open(d + "/p.txt.gz", "wb").write(gzip.compress(b"In the beginning\n"))
END
    ranks 1 run -m "$demo" -i "$work/in.jsonl" -o "$work/a.h5" --max-tokens 2
    ranks 2 run -m "$demo" -i "$work/in.jsonl.gz" -o "$work/b.h5" --max-tokens 2
    ranks 1 run -m "$demo" -i "$work/in.jsonl.zst" -o "$work/c.h5" --max-tokens 2
    [ "$(digest "$work/a.h5")" = "$(digest "$work/b.h5")" ]
    [ "$(digest "$work/a.h5")" = "$(digest "$work/c.h5")" ]
    ranks 1 run -m "$demo" -i "$work/p.txt.gz" -o "$work/d.h5" --max-tokens 2
    run ranks 1 run -m "$demo" -i "$work/cut.jsonl.gz" -o "$work/e.h5"
    [ "$status" = 2 ] && [[ $output == *"cut.jsonl.gz: can't be unpacked"* ]]
}

@test "a file of another kind is refused before weights are read" {
    printf 'id,prompt\n1,hello\n' >"$work/a.csv"
    run ranks 1 run -m "$demo" -i "$work/a.csv" -o "$work/a.h5"
    [ "$status" = 2 ] && [[ $output == *"a.csv: its first 2 lines are no JSON (a CSV file?)"* ]]
    printf 'PAR1\025\000\n\001\002' >"$work/a.parquet"
    run ranks 1 run -m "$demo" -i "$work/a.parquet" -o "$work/a.h5"
    [ "$status" = 2 ] && [[ $output == *"Parquet"* ]]
    { for i in $(seq 19); do echo "no $i"; done; echo '{"prompt": "In", "max_tokens": 1}'; } >"$work/mixed.jsonl"
    ranks 1 run -m "$demo" -i "$work/mixed.jsonl" -o "$work/b.h5"
}

@test "nothing but error rows: the first reason, exit code 3" {
    printf '{"id": "a", "prompt": "x", "colour": 1}\n{"id": "b"}\n' >"$work/bad.jsonl"
    run ranks 1 run -m "$demo" -i "$work/bad.jsonl" -o "$work/a.h5"
    [ "$status" = 3 ] && [[ $output == *'every row is an error; the first: unknown key "colour"'* ]]
}

@test "defaults of requests: generation_config.json, another file, options; the header says which" {
    mkdir "$work/model"
    ln -s "$demo"/* "$work/model/"
    rm "$work/model/generation_config.json"
    echo '{"temperature": 0.5, "top_p": 0.25}' >"$work/model/generation_config.json"
    echo '{"min_p": 0.5}' >"$work/other.json"
    echo '{"id": "a", "prompt": "In the beginning", "max_tokens": 8}' >"$work/a.jsonl"
    job() { # NAME REQUEST-KEYS OPTIONS...: by options, and by keys in the line with nothing else in force
        local name=$1 keys=$2
        shift 2
        ranks 1 run -m "$work/model" -i "$work/a.jsonl" -o "$work/$name.h5" "$@" 2>"$work/$name.log"
        echo "{\"id\": \"a\", \"prompt\": \"In the beginning\", \"max_tokens\": 8$keys}" >"$work/keys.jsonl"
        ranks 1 run -m "$work/model" -i "$work/keys.jsonl" -o "$work/$name.keys.h5" --generation-config none
        [ "$(digest "$work/$name.h5")" = "$(digest "$work/$name.keys.h5")" ]
    }
    job auto ', "temperature": 0.5, "top_p": 0.25'
    grep -q '^defaults  : .*temperature 0.5 (generation_config.json), top_p 0.25 (generation_config.json)' "$work/auto.log"
    job file ', "min_p": 0.5' --generation-config "$work/other.json"
    grep -q '^defaults  : .*min_p 0.5 (.*other.json)' "$work/file.log"
    job options ', "temperature": 2, "top_p": 0.25, "top_k": 7, "repetition_penalty": 1.5, "stop": [" ", "e"]' --temperature 2 \
        --top-k 7 --repetition-penalty 1.5 --stop '[" ", "e"]'
    grep -q '^defaults  : .*temperature 2 (--temperature), top_p 0.25 (generation_config.json), top_k 7' "$work/options.log"
    grep -q '2 stop strings (--stop)' "$work/options.log"
    run ranks 1 run -m "$work/model" -i "$work/a.jsonl" -o "$work/x.h5" --temperature=-0.5
    [ "$status" = 1 ]
}

@test "OpenAI lines: tokens as they grow, their bytes, the prompt as it was" {
    cat >"$work/o.jsonl" <<'END'
{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "<|endoftext|>In é🧪 God", "max_tokens": 4, "temperature": 0, "echo": true, "logprobs": 2}}
{"custom_id": "b", "method": "POST", "url": "/v1/completions", "body": {"prompt": "In", "max_tokens": 12, "logprobs": 3, "seed": 1, "temperature": 3}}
END
    ranks 1 run -m "$demo" -i "$work/o.jsonl" -o "$work/o.h5" --openai-output "$work/out.jsonl"
    "$PYTHON3" - "$work/out.jsonl" <<'END'
import json, sys
for line in open(sys.argv[1]):
    r = json.loads(line)
    c = r["response"]["body"]["choices"][0]
    lp = c["logprobs"]
    assert "".join(lp["tokens"]) == c["text"], (lp["tokens"], c["text"])
    at = 0
    for t, o in zip(lp["tokens"], lp["text_offset"]):
        assert o == at, (o, at)
        at += len(t)
    if r["custom_id"] == "a":
        assert c["text"].startswith("<|endoftext|>In é🧪 God")
        assert "" in lp["tokens"] and "\ufffd" not in "".join(lp["tokens"][:-4])
END
}
