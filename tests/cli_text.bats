# Tokenizers, templates and requests as published models and clients have them.
load common.bash

# changed NAME FILE PYTHON: the demo model with one of its JSON files changed (d is its content)
changed() {
    mkdir -p "$work/$1"
    ln -sf "$demo"/* "$work/$1/"
    "${PYTHON3:-/usr/bin/python3}" - "$work/$1/$2" "$3" <<'P'
import json, os, sys
path, change = sys.argv[1:]
d = json.load(open(path)) if os.path.exists(path) else {}
exec(change)
if os.path.lexists(path):
    os.unlink(path)
json.dump(d, open(path, "w"))
P
}

rows() { # RESULTS: error, finish and ids of each row
    "${PYTHON3:-/usr/bin/python3}" - "$1" <<'P'
import h5py, sys
f = h5py.File(sys.argv[1]); r, t = f["requests"], f["tokens"]
for i, o in enumerate(t["output_offsets"][:-1]):
    ids = t["output_ids"][o:t["output_offsets"][i + 1]].tolist()
    print(r["id"][i].decode(), r["error"][i].decode()[:200] or "ok", int(r["finish_reason"][i]), len(ids), repr(r["text"][i].decode()))
P
}

@test "numbers that Python writes into configurations" {
    changed big tokenizer_config.json 'd["model_max_length"] = 10**30; d["x"] = float("inf")'
    changed big config.json 'd["router_aux_loss_coef"] = float("nan"); d["foo"] = 10**30'
    echo '{"id":"a","prompt":"In the","max_tokens":1}' > "$work/in.jsonl"
    run ranks 1 run -m "$work/big" -i "$work/in.jsonl" -o "$work/r.h5"
    echo "$output"
    [ "$status" -eq 0 ]
}

@test "a template that does not compile fails the rows that need it" {
    changed bad tokenizer_config.json 'd["chat_template"] = "{{ messages | nosuch }}"'
    printf '%s\n' '{"id":"a","prompt":"In the","max_tokens":1}' '{"id":"b","messages":[{"role":"user","content":"x"}]}' > "$work/in.jsonl"
    run ranks 1 run -m "$work/bad" -i "$work/in.jsonl" -o "$work/r.h5"
    [ "$status" -eq 0 ]
    run rows "$work/r.h5"
    echo "$output"
    [[ ${lines[0]} == "a ok 2 1 "* ]]
    [[ ${lines[1]} == "b "*"chat_template: line 1: no filter named"* ]]
}

@test "tools, reasoning, variables and continued messages reach the template" {
    changed chat tokenizer_config.json 'd["chat_template"] = "{{ (tools or []) | length }}{{ effort or reasoning_effort }}{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}{{ raise_exception(think) if think }}"'
    cat > "$work/in.jsonl" <<'J'
{"custom_id":"tools","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"1"}],"tools":[{"type":"function","function":{"name":"f"}}],"max_tokens":1}}
{"custom_id":"kwargs","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"q"}],"chat_template_kwargs":{"think":"thought"},"max_tokens":1}}
{"custom_id":"continue","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"pre"}],"continue_final_message":true,"max_tokens":1,"reasoning_effort":"low"}}
J
    run ranks 1 run -m "$work/chat" -i "$work/in.jsonl" -o "$work/r.h5"
    [ "$status" -eq 0 ]
    run rows "$work/r.h5"
    echo "$output"
    [[ ${lines[0]} == "tools ok "* ]]
    [[ ${lines[1]} == "kwargs "*thought* ]]
    [[ ${lines[2]} == "continue ok "* ]]
}

@test "allowed ids, bad words, stop ids and min_tokens" {
    cat > "$work/in.jsonl" <<'J'
{"id":"free","prompt":"In the beginning God","max_tokens":12,"temperature":0}
{"id":"only","prompt":"In the beginning God","max_tokens":6,"temperature":0,"allowed_token_ids":[300],"ignore_eos":true}
{"id":"none","prompt":"In the beginning God","max_tokens":6,"temperature":0,"allowed_token_ids":[300],"stop_token_ids":[300],"min_tokens":2}
{"id":"stop","prompt":"In the beginning God","max_tokens":6,"temperature":0,"allowed_token_ids":[300],"stop_token_ids":[300]}
{"id":"min","prompt":"In the beginning God","max_tokens":12,"temperature":0,"min_tokens":8,"stop":"a"}
J
    run ranks 2 run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5"
    [ "$status" -eq 0 ]
    run rows "$work/r.h5"
    echo "$output"
    [[ ${lines[1]} == "only ok 2 6 "* ]]
    [[ ${lines[2]} == "none nothing can be drawn"* ]]
    [[ ${lines[3]} == "stop ok 3 1 ''" ]]
    [[ ${lines[4]} == "min ok "* ]]
    [ "$(echo "${lines[4]}" | cut -d' ' -f4)" -gt 8 ]
    # the first words of the free text, forbidden
    first=$(echo "${lines[0]}" | cut -d"'" -f2 | cut -d' ' -f2)
    echo "{\"id\":\"bad\",\"prompt\":\"In the beginning God\",\"max_tokens\":12,\"temperature\":0,\"bad_words\":[\"$first\"]}" > "$work/bad.jsonl"
    run ranks 1 run -m "$demo" -i "$work/bad.jsonl" -o "$work/b.h5"
    [ "$status" -eq 0 ]
    run rows "$work/b.h5"
    [[ ${lines[0]} == "bad ok "* && ${lines[0]} != *" $first "* ]]
}

@test "a sentencepiece model with tokens beside it, as transformers reads it" {
    mkdir "$work/spm"
    cp "$top/tests/data/tokenizers/spm_model/bpe.model" "$work/spm/tokenizer.model"
    echo '{"tokenizer_class":"LlamaTokenizer","add_bos_token":true,"added_tokens_decoder":{"700":{"content":"<|im_end|>","special":true},
        "701":{"content":"<|im_start|>","special":true}}}' > "$work/spm/tokenizer_config.json"
    cat > "$work/texts" <<'J'
"Hello world"
"a</s>b"
"<s>[INST] Hi [/INST]</s>"
"<|im_start|>user\nHi<|im_end|>"
J
    run "$MOEBATCH" tokenize -m "$work/spm" < "$work/texts"
    echo "$output"
    [ "${lines[0]}" = "[1,290,335,291,301,301,295,290,324,278,301,303]" ]
    [ "${lines[1]}" = "[1,261,2,312]" ]
    [ "${lines[2]}" = "[1,1,357,314,328,313,315,358,290,335,293,290,357,343,314,328,313,315,358,2]" ]
    [ "${lines[3]}" = "[1,701,304,298,266,13,335,293,700]" ]
    run "$MOEBATCH" tokenize -m "$work/spm" --no-special < "$work/texts"
    [ "${lines[0]}" = "[290,335,291,301,301,295,290,324,278,301,303]" ]
}

@test "a pattern that is dear at every byte gives up on the text" {
    "${PYTHON3:-/usr/bin/python3}" - "$top/tests/data/tokenizers/bpe_qwen/tokenizer.json" "$work/t.json" <<'P'
import json, sys
t = json.load(open(sys.argv[1]))
t["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(?=(?:a|aa){1,17}c)x|."}, "behavior": "Isolated", "invert": False}
json.dump(t, open(sys.argv[2], "w"))
P
    run "$MOEBATCH" tokenize -m "$work/t.json" <<< "\"$(printf 'a%.0s' $(seq 20000))\""
    [ "$status" -eq 2 ]
    [[ $output == *"gave up on this text"* ]]
    run "$MOEBATCH" tokenize -m "$work/t.json" <<< '"aaaaaaaaaaaa"'
    [ "$status" -eq 0 ]
}

# now RESULTS [OPTIONS]: what a template makes of the time
now() {
    local out=$1 # every row is an error: exit code 3
    shift
    "$MOEBATCH" run -m "$work/now" -i "$work/in.jsonl" -o "$out" "$@" > "$work/now.log" 2>&1
    rows "$out"
}

@test "--now fixes the time that templates see, and belongs to the job" {
    changed now tokenizer_config.json 'd["chat_template"] = "{{ raise_exception(strftime_now(\"%Y-%m-%d %H:%M:%S\")) }}"'
    echo '{"id":"a","messages":[{"role":"user","content":"x"}],"max_tokens":1}' > "$work/in.jsonl"
    [[ $(now "$work/1.h5" --now 2024-02-29) == *"2024-02-29 00:00:00"* ]]
    [[ $(now "$work/2.h5" --now 2026-11-28T23:30:05.25-02:00) == *"2026-11-29 01:30:05"* ]]
    [[ $(now "$work/3.h5" --now '1969-12-31t23:59:59z') == *"1969-12-31 23:59:59"* ]]
    run "$MOEBATCH" run -m "$work/now" -i "$work/in.jsonl" -o "$work/1.h5" --resume --now 2024-03-01
    echo "$output"
    [ "$status" -eq 2 ]
    [[ $output == *"now=1709164800"*"now=1709251200"* ]]
}

@test "tokens that only tokenizer_config.json names" {
    changed pad tokenizer_config.json 'd["added_tokens_decoder"] = {"99999": {"content": "<|only here|>", "special": True}}'
    printf '%s\n' '{"id":"a","prompt":"In the","max_tokens":1}' '{"id":"b","prompt":"In <|only here|>","max_tokens":1}' > "$work/in.jsonl"
    run ranks 1 run -m "$work/pad" -i "$work/in.jsonl" -o "$work/r.h5"
    [ "$status" -eq 0 ]
    run rows "$work/r.h5"
    echo "$output"
    [[ ${lines[0]} == "a ok 2 1 "* ]]
    [[ ${lines[1]} == "b "*"outside the model's vocabulary"* ]]
}

@test "bad words forbid what vLLM's rule forbids, over the logits" {
    "$PYTHON3" "$top/tests/bad_words.py" "$MOEBATCH" "$demo" "$top/tests/data/stops/bad_words.json" "$work"
}
