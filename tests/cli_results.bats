# What users do with results: OpenAI lines, inspection, partial files, other layouts of the same file.
load common.bash

requests() {
    cat >"$work/in.jsonl" <<'END'
{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "In the beginning", "max_tokens": 6, "n": 2, "temperature": 1, "seed": 3, "logprobs": 2}}
{"custom_id": "b", "method": "POST", "url": "/v1/completions", "body": {"prompt": "import", "max_tokens": 5, "temperature": 0, "stop": ["\n"]}}

{"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x", "tools": [{"type": "function"}]}}
{"id": "d", "context": "The file system", "continuation": " of the computer"}
{"id": "e", "text": "To be or not to be"}
{"id": 7, "prompt": "int main(", "max_tokens": 4, "temperature": 0}
END
}

job() {
    local n=$1 out=$2
    shift 2
    ranks "$n" run -m "$demo" -i "$work/in.jsonl" -o "$work/$out" --dtype f32 "$@"
}

python_digest() {
    "$PYTHON3" "$top/tests/digest.py" "$1"
}

@test "OpenAI lines: one a line of the input, in order, the same on 1 and 3 ranks" {
    requests
    job 1 a.h5 --openai-output "$work/a.jsonl"
    job 3 b.h5 --openai-output "$work/b.jsonl"
    "$PYTHON3" - "$work" <<'END'
import json, re, sys
a, b = (open(f"{sys.argv[1]}/{n}.jsonl").read() for n in "ab")
plain = lambda s: re.sub(r'"created": ?\d+', "", s)
assert plain(a) == plain(b), (a, b)
rows = [json.loads(x) for x in a.splitlines()]
assert [r["custom_id"] for r in rows] == ["a", "b", "c", "d", "e", "7"], rows
assert len(rows[0]["response"]["body"]["choices"]) == 2
assert rows[0]["response"]["status_code"] == 200 and rows[2]["response"]["status_code"] == 400
assert "tools" in json.dumps(rows[2]["response"]["body"])
assert "\n" not in rows[1]["response"]["body"]["choices"][0]["text"]
END
}

@test "--openai-output without a tokenizer is refused before anything is computed" {
    requests
    cp -r "$demo" "$work/model"
    rm "$work"/model/tokenizer*
    run ranks 1 run -m "$work/model" -i "$work/in.jsonl" -o "$work/a.h5" --openai-output "$work/a.jsonl"
    [ "$status" = 2 ]
    [[ $output == *"--openai-output"* ]]
    [ ! -e "$work/a.jsonl" ]
}

@test "everything that can be saved: independent digest, all layouts alike" {
    requests
    job 1 a.h5 --save-routing --save-logits=all --save-hidden
    job 3 b.h5 --save-routing --save-logits=all --save-hidden
    want=$(digest "$work/a.h5")
    [ "$(digest "$work/b.h5")" = "$want" ]
    [ "$(python_digest "$work/a.h5")" = "$want" ]
    "$PYTHON3" "$top/tests/check_results.py" "$work/b.h5" "$want"
    job 2 c.h5 --save-logits=last
    [ "$(python_digest "$work/c.h5")" = "$(digest "$work/c.h5")" ]
    "$MOEBATCH" inspect "$work/a.h5" --routing | grep -q MAX/MEAN
    "$MOEBATCH" inspect "$work/a.h5" --text | grep -q -- "--- c error:.*tools"
    [ "$("$MOEBATCH" inspect "$work/a.h5" --digest --requests | wc -l)" = 8 ]
    h5dump -H "$work/a.h5" >/dev/null || [ $? = 127 ]
}

@test "assemble --openai-output finds the tokenizer by itself" {
    requests
    for i in $(seq 40); do echo "{\"prompt\": \"line $i\", \"max_tokens\": 60, \"ignore_eos\": true}"; done >>"$work/in.jsonl"
    run job 1 a.h5 --max-hours 0.0003 --max-num-seqs 2 --isa portable
    [ "$status" = 75 ]
    "$MOEBATCH" assemble "$work/a.h5" --partial --openai-output "$work/p.jsonl"
    [ "$(wc -l <"$work/p.jsonl")" = 46 ]
    grep -q pending "$work/p.jsonl"
    run "$MOEBATCH" assemble "$work/a.h5"
    [ "$status" = 75 ]
}
