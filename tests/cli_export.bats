# `moebatch export`: rows of a results file as OpenAI's lines, JSON lines and CSV.
load common.bash

requests() {
    cat >"$work/in.jsonl" <<'END'
{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {"prompt": "In the beginning", "max_tokens": 6, "n": 2, "temperature": 1, "seed": 3, "logprobs": 2}}
{"custom_id": "b \"q\", \u00e9", "method": "POST", "url": "/v1/completions", "body": {"prompt": "import", "max_tokens": 25, "temperature": 0}}
{"custom_id": "echo", "method": "POST", "url": "/v1/completions", "body": {"prompt": "import", "max_tokens": 2, "temperature": 0, "echo": true, "logprobs": 0}}
{"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "temperature": 0, "logprobs": true, "top_logprobs": 3}}
{"custom_id": "chat2", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4, "temperature": 0}}
{"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x", "tools": [{"type": "function"}]}}
{"id": "d", "context": "The file system", "continuation": " of the computer"}
{"id": "e", "text": "To be or not to be"}
{"id": 7, "prompt": "int main(", "max_tokens": 4, "temperature": 0}
END
    cp -r "$demo" "$work/model"
    "$PYTHON3" - "$work/model/tokenizer_config.json" <<'END'
import json, sys
c = json.load(open(sys.argv[1]))
c["chat_template"] = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
json.dump(c, open(sys.argv[1], "w"))
END
}

job() {
    local n=$1 out=$2
    shift 2
    ranks "$n" run -m "$work/model" -i "$work/in.jsonl" -o "$work/$out" --dtype f32 "$@"
}

@test "OpenAI's lines after the fact are those of --openai-output, byte by byte, packed ones too; chats stay chats" {
    requests
    job 2 a.h5 --openai-output "$work/a.jsonl"
    grep -q '"object":"chat.completion"' "$work/a.jsonl"
    "$MOEBATCH" export "$work/a.h5" --format openai >"$work/x.jsonl"
    cmp "$work/a.jsonl" "$work/x.jsonl"
    "$MOEBATCH" export "$work/a.h5" --format openai -o "$work/x.jsonl.gz"
    gzip -dc "$work/x.jsonl.gz" | cmp - "$work/a.jsonl"
    job 1 a.h5 --resume --openai-output "$work/late.jsonl"
    cmp "$work/a.jsonl" "$work/late.jsonl"
    mv "$work/model" "$work/moved"
    run "$MOEBATCH" export "$work/a.h5" --format openai
    [ "$status" = 2 ]
    [[ $output == *"-m says where"* ]]
    "$MOEBATCH" export "$work/a.h5" --format openai -m "$work/moved" | cmp - "$work/a.jsonl"
}

@test "parts that are merged keep the form of their lines" {
    requests
    job 1 whole.h5 --openai-output "$work/whole.jsonl"
    job 1 1.h5 --shard 1/2
    job 1 2.h5 --shard 2/2
    "$MOEBATCH" merge "$work/1.h5" "$work/2.h5" -o "$work/m.h5"
    "$MOEBATCH" export "$work/m.h5" --format openai -o - | sed 's/"created":[0-9]*//' >"$work/m.jsonl"
    sed 's/"created":[0-9]*//' "$work/whole.jsonl" | cmp - "$work/m.jsonl"
}

@test "JSON lines and CSV hold what the file holds" {
    requests
    job 1 a.h5
    "$MOEBATCH" export "$work/a.h5" -o "$work/a.jsonl"
    "$MOEBATCH" export "$work/a.h5" --format csv -o "$work/a.csv.gz"
    "$PYTHON3" "$top/tests/check_export.py" "$work/a.h5" "$work/a.jsonl" "$work/a.csv.gz"
}

@test "a file that is there stays, results are not replaced, a closed pipe is no error, a full device is one" {
    requests
    job 1 a.h5
    echo mine >"$work/a.jsonl"
    run "$MOEBATCH" export "$work/a.h5" -o "$work/a.jsonl"
    [ "$status" = 2 ]
    [ "$(cat "$work/a.jsonl")" = mine ]
    "$MOEBATCH" export "$work/a.h5" -o "$work/a.jsonl" --overwrite
    [ "$(wc -l <"$work/a.jsonl")" = 10 ]
    run "$MOEBATCH" export "$work/a.h5" -o "$work/a.h5" --overwrite
    [ "$status" = 2 ]
    "$MOEBATCH" inspect "$work/a.h5" --digest
    run bash -c "'$MOEBATCH' export '$work/a.h5' >/dev/full"
    [ "$status" = 74 ]
    run bash -c "exec 2>'$work/err'; '$MOEBATCH' export '$work/a.h5' | true"
    [ "$status" = 0 ]
    [ ! -s "$work/err" ]
    ! ls "$work" | grep -q tmp-
}
