# Answers that are held to a grammar: what comes is right, on every layout the same, and after a stop the same.
load common.bash

guided() { # N RESULTS OPTIONS...
    local n=$1 out=$2
    shift 2
    ranks "$n" run -m "$demo" -i "$work/in.jsonl" -o "$out" "$@"
}

@test "the official JSON Schema test suite: valid instances pass, others do not, or the keyword is refused" {
    run "$PYTHON3" "$top/tests/json_schema_suite.py" ./tests/guide_feed "$top"/tests/data/json_schema/draft*.json
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" == *" 1520 right, 0 wrong, 31 excused"* ]]
}

@test "a job that is stopped and goes on gives the same" {
    "$PYTHON3" "$top/tests/guided.py" make 3 4 2 120 > "$work/in.jsonl"
    guided 2 "$work/ref.h5"
    "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --max-num-seqs 8 --isa portable &
    job=$!
    until [ "$(cat "$work"/r.h5.d/run-*/journal* 2> /dev/null | wc -c)" -gt 2000 ] || ! kill -0 $job; do sleep 0.02; done
    kill -KILL $job
    wait $job || true
    [ ! -e "$work/r.h5" ]
    guided 2 "$work/r.h5" --resume --pipeline-parallel-size 2
    [ "$(digest "$work/r.h5")" = "$(digest "$work/ref.h5")" ]
}

@test "what is no grammar, and what leaves nothing, is an error row that says so" {
    cat > "$work/in.jsonl" <<'J'
{"id":"regex","prompt":"In the","guided_regex":"(a"}
{"id":"look","prompt":"In the","guided_regex":"(?=a)a"}
{"id":"much","prompt":"In the","guided_regex":".*a.{200}"}
{"id":"keyword","prompt":"In the","n":2,"guided_json":{"properties":{"a":{"uniqueItems":true}}}}
{"id":"empty","prompt":"In the","guided_json":{"allOf":[{"type":"string"},{"type":"null"}]}}
{"id":"clash","prompt":"In the","guided_choice":["yes"],"allowed_token_ids":[5]}
{"id":"short","prompt":"In the","max_tokens":3,"guided_regex":"[a-z]{40}"}
{"id":"end","prompt":"In the","max_tokens":30,"min_tokens":25,"guided_choice":["yes","no"]}
J
    guided 1 "$work/r.h5"
    run "$PYTHON3" - "$work/r.h5" <<'P'
import h5py, sys
f = h5py.File(sys.argv[1])["requests"]
for i in range(len(f["id"])):
    print(f["id"][i].decode(), int(f["finish_reason"][i]), f["error"][i].decode() or repr(f["text"][i].decode()))
P
    echo "$output"
    [[ "${lines[0]}" == "regex 4 guided_regex: a group without its )"* ]]
    [[ "${lines[1]}" == "look 4 guided_regex: look-around is not supported"* ]]
    [[ "${lines[2]}" == "much 4 guided_regex: the expression needs more than"* ]]
    [[ "${lines[3]}" == 'keyword 4 guided_json: /properties/a: keyword "uniqueItems" is not supported' ]]
    [[ "${lines[4]}" == "${lines[3]}" ]]
    [[ "${lines[5]}" == "empty 4 nothing can be drawn at output token 0: guided_json and the other limits"* ]]
    [[ "${lines[6]}" == "clash 4 nothing can be drawn at output token 0: guided_choice and the other limits"* ]]
    [[ "${lines[7]}" == "short 2 "* ]]
    [[ "${lines[8]}" == "end 1 'yes'" || "${lines[8]}" == "end 1 'no'" ]]
}
