# The demo model: the same text and numbers as transformers, the same bits on every layout and every machine.
load common.bash

@test "greedy ids, text and log-likelihoods equal transformers in fp32" {
    cat "$top/inputs/greedy.jsonl" "$top/inputs/scoring.jsonl" >"$work/in.jsonl"
    ranks 2 run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --dtype f32
    "$PYTHON3" "$top/tests/demo.py" "$work/r.h5" "$top/tests/data/demo/expected.json"
}

@test "texts of three reference models, from text to text" {
    "$PYTHON3" "$top/tests/e2e.py" "$MOEBATCH" "$top/tests/data" "$work"
}

@test "a chat request goes through the template" {
    cp -r "$models/mixtral_a" "$work/m"
    chmod -R u+w "$work/m"
    printf '%s' "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}" >"$work/m/chat_template.jinja"
    printf '%s\n' '{"custom_id":"c","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"Hello"}],"max_tokens":2,"temperature":0}}' \
        '{"id":"p","prompt":"x","max_tokens":1}' >"$work/in.jsonl"
    "$MOEBATCH" run -m "$work/m" -i "$work/in.jsonl" -o "$work/r.h5" --openai-output "$work/out.jsonl"
    "$PYTHON3" - "$work/r.h5" <<'PY'
import sys, h5py
f = h5py.File(sys.argv[1])
assert list(f["requests/status"][:]) == [0, 0], f["requests/error"][:]
PY
    grep -q '"chat.completion"' "$work/out.jsonl"
}
