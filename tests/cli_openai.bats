# Lines of --openai-output as clients read them, and what they say of prompts.
load common.bash

lines() {
    cat <<'END'
{"id":"a","prompt":"The file system of","max_tokens":3,"temperature":0,"prompt_logprobs":2}
{"id":"b","prompt":"The file system of the","max_tokens":2,"temperature":0,"echo":true,"logprobs":3}
{"id":"c","prompt":"x","max_tokens":1,"temperature":0,"prompt_logprobs":0}
{"id":"d","prompt":"In the beginning","max_tokens":2,"n":2,"prompt_logprobs":1.0,"temperature":0.9}
{"id":"e","prompt":"In the beginning","max_tokens":1,"prompt_logprobs":21}
{"custom_id":"f","method":"POST","url":"/v1/completions","body":{"prompt":"In the beginning","max_tokens":4,"prompt_logprobs":5,"logprobs":2,"echo":true}}
{"custom_id":"g","method":"POST","url":"/v1/completions","body":{"prompt":"In the beginning","max_tokens":6,"stop":"e"}}
{"custom_id":"h","method":"POST","url":"/v1/completions","body":{"prompt":"In the beginning","max_tokens":3,"logprobs":0,"n":2,"temperature":1.3}}
{"id":"i","context":"The file","continuation":" system is"}
{"id":"j","text":"In the beginning God"}
{"id":"k","prompt_ids":[300,301,302],"max_tokens":2,"echo":true,"logprobs":1,"prompt_logprobs":4}
END
}

@test "bodies are of the openai package's types: completions, echo, scores, errors" {
    lines >"$work/in.jsonl"
    run ranks 1 run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --openai-output "$work/o.jsonl"
    run "$PYTHON3" "$top/tests/openai_types.py" "$work/o.jsonl" "$top/tests/data/openai/types.json"
    echo "$output"
    [ "$status" = 0 ]
    [[ $output == "error 1 text_completion 10 "* ]]
}

@test "bodies of chats, with log-probabilities and those of prompts" {
    cp -r "$demo" "$work/m"
    chmod -R u+w "$work/m"
    echo "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}" >"$work/m/chat_template.jinja"
    for k in '' '"logprobs":true,' '"logprobs":true,"top_logprobs":3,' '"prompt_logprobs":2,' '"n":3,"temperature":1.2,"logprobs":true,'; do
        echo "{\"custom_id\":\"c$((i++))\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{$k\"messages\":[{\"role\":\"user\",\"content\":\"the file\"}],\"max_tokens\":4}}"
    done >"$work/in.jsonl"
    run ranks 1 run -m "$work/m" -i "$work/in.jsonl" -o "$work/r.h5" --openai-output "$work/o.jsonl"
    [ "$status" = 0 ]
    run "$PYTHON3" "$top/tests/openai_types.py" "$work/o.jsonl" "$top/tests/data/openai/types.json"
    echo "$output"
    [ "$status" = 0 ]
    [[ $output == "chat.completion 5 "* ]]
}

@test "prompt_logprobs and echo: the likeliest tokens of every place of a prompt are those of its logits, on 1 and 3 ranks" {
    lines >"$work/in.jsonl"
    for n in 1 3; do
        run ranks $n run -m "$demo" -i "$work/in.jsonl" -o "$work/$n.h5" --openai-output "$work/$n.jsonl" --save-logits
        "$PYTHON3" - "$work/$n.h5" "$work/$n.jsonl" <<'END'
import json, sys, h5py, numpy as np
f = h5py.File(sys.argv[1])
ids, choice = [x.decode() for x in f["requests/id"][:]], f["requests/choice"][:]
po, ro, tok, logits = f["tokens/prompt_offsets"][:], f["rows/offsets"][:], f["tokens"], f["logits"]
lines = {json.loads(x)["custom_id"]: json.loads(x)["response"]["body"] for x in open(sys.argv[2])}
want = dict(a=2, b=3, c=0, d=1, e=0, f=5, g=0, h=0, i=0, j=0, k=4)
assert tok["prompt_top_ids"].shape == (po[-1], 5)
for r, name in enumerate(ids):
    k, p = want[name], slice(po[r], po[r + 1])
    top, lps = tok["prompt_top_ids"][p], tok["prompt_top_logprobs"][p]
    assert (top[:1] == -1).all() and (top[:, k:] == -1).all() and np.isnan(lps[:, k:]).all(), name
    if name == "e":
        continue
    z = logits[ro[r]:ro[r] + po[r + 1] - po[r]].astype(np.float64)
    lp = z - z.max(1, keepdims=True)
    lp -= np.log(np.exp(lp).sum(1, keepdims=True))
    for t in range(1, po[r + 1] - po[r]):
        best = sorted(range(z.shape[1]), key=lambda v: (-z[t - 1, v], v))[:k]
        assert list(top[t, :k]) == best, (name, t)
        assert np.abs(lps[t, :k] - lp[t - 1, best]).max(initial=0) < 2e-5
        if name not in "adcfk":
            continue
        said = lines[name]["choices"][choice[r]]["prompt_logprobs"][t]
        own = int(tok["prompt_ids"][po[r] + t])
        assert set(said) == {str(v) for v in best + [own]}, (name, t, said)
        assert abs(said[str(own)]["logprob"] - lp[t - 1, own]) < 2e-5
        assert [said[str(v)]["rank"] for v in best] == list(range(1, k + 1))
        assert own in best or said[str(own)]["rank"] is None
tops = lines["b"]["choices"][0]["logprobs"]["top_logprobs"]
assert tops[0] is None and all(len(x) == 3 for x in tops[1:]) and len(tops) == 7, tops
tops = lines["f"]["choices"][0]["logprobs"]["top_logprobs"]
assert all(len(x) == 2 for x in tops[1:]), tops
END
        [ "$("$PYTHON3" "$top/tests/digest.py" "$work/$n.h5")" = "$(digest "$work/$n.h5")" ]
    done
    [ "$(digest "$work/1.h5")" = "$(digest "$work/3.h5")" ]
    # stages, and parts of a prompt on two ranks in steps of a few rows
    run ranks 4 run -m "$demo" -i "$work/in.jsonl" -o "$work/4.h5" --save-logits --pipeline-parallel-size 2 --sequence-parallel-size 2 --max-batch-rows 3 --max-num-seqs 2
    [ "$(digest "$work/1.h5")" = "$(digest "$work/4.h5")" ]
    "$MOEBATCH" export "$work/1.h5" --format openai -m "$demo" -o "$work/again.jsonl"
    cmp <(sed 's/"created":[0-9]*//' "$work/1.jsonl") <(sed 's/"created":[0-9]*//' "$work/again.jsonl")
    "$MOEBATCH" inspect "$work/1.h5" | grep -q 'candidates per prompt token *5'
}

@test "what was found out about a prompt is in the journal: the tool assembles and merges the same file" {
    lines >"$work/in.jsonl"
    run ranks 2 run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --keep
    d=$(digest "$work/r.h5")
    rm "$work/r.h5"
    "$MOEBATCH" assemble "$work/r.h5"
    [ "$(digest "$work/r.h5")" = "$d" ]
    for part in 1 2; do
        run ranks 1 run -m "$demo" -i "$work/in.jsonl" -o "$work/p$part.h5" --shard $part/2
    done
    "$MOEBATCH" merge "$work/p1.h5" "$work/p2.h5" -o "$work/both.h5"
    [ "$(digest "$work/both.h5")" = "$d" ]
}
