# The table of datasets (the man page has it): what files hold, and what the digest covers.
load common.bash

@test "every dataset is in the table with its type, axes, unit and name; the digest covers what the table says" {
    head -n 5 "$top/inputs/prompts.jsonl" >"$work/in.jsonl"
    echo '{"id": "bad", "prompt": 5}' >>"$work/in.jsonl"
    echo '{"id": "top", "prompt": "The package number", "max_tokens": 3, "logprobs": 2, "prompt_logprobs": 2}' >>"$work/in.jsonl"
    ranks 2 run -m "$demo" -i "$work/in.jsonl" -o "$work/a.h5" --save-routing --save-logits --save-hidden
    "$top_builddir/src/app/mkdocs" schema >"$work/schema.tsv"
    "$PYTHON3" "$top/tests/schema.py" "$MOEBATCH" "$work/schema.tsv" "$work/a.h5" "$work/bad.h5"
    while IFS=$'\t' read -r path rest; do grep -qF "$path" "$top_builddir/moebatch.1"; done <"$work/schema.tsv"
}
