# The start of a job at the place of its results: nothing is lost by a refusal, a living job is not taken over without a word.
load common.bash

lines() { for i in $(seq "$1"); do echo "{\"id\":\"r$i\",\"prompt\":\"The package number $i is\",\"max_tokens\":${2:-8}}"; done; }
job() { "$MOEBATCH" run -m "$demo" "$@"; }

# Starts a job that takes long, and waits until it has rows.
begin() { # options
    "$MOEBATCH" run -m "$demo" "$@" --max-num-seqs 1 --isa portable --sync-interval 0.05 >"$work/log" 2>&1 3>&- &
    pid=$!
    for _ in $(seq 300); do
        sleep 0.1
        [ "$(sed -n 's/.*"committed": *\([0-9]*\).*/\1/p' r.h5.d/status.json 2>/dev/null || true)" -gt 2 ] 2>/dev/null && return
    done
    return 1
}

@test "a job that runs is not taken over without --takeover" {
    cd "$work"
    lines 400 60 >in.jsonl
    begin -i in.jsonl -o r.h5
    for how in "" --resume --overwrite; do
        run job -i in.jsonl -o r.h5 $how
        [ "$status" -eq 2 ]
        [[ $output == *"pid $pid on $(hostname)"*--takeover* ]]
    done
    run "$MOEBATCH" assemble r.h5
    [ "$status" -eq 2 ]
    run "$MOEBATCH" status r.h5
    [[ $output == *"is running (pid $pid"* && $output != *"to go on"* ]]
    kill -0 "$pid"
    job -i in.jsonl -o r.h5 --resume --takeover --max-hours 0.0003 || [ $? -eq 75 ]
    code=0
    wait "$pid" || code=$?
    [ "$code" -eq 75 ]
    grep -q "taken over" "$work/log"
}

@test "status tells a dead job from a living one" {
    cd "$work"
    lines 400 60 >in.jsonl
    begin -i in.jsonl -o r.h5
    kill -9 "$pid"
    wait "$pid" || true
    run "$MOEBATCH" status r.h5
    [ "$status" -eq 75 ]
    [[ $output == *"died (pid $pid"* && $output == *"to go on"* ]]
    run "$MOEBATCH" status r.h5 --json
    [[ $output == *'"state":"died","alive":false'* ]]
    sed -i "s/\"host\": \"[^\"]*\"/\"host\": \"elsewhere\"/" r.h5.d/owner.json r.h5.d/run-0001/owner.json
    touch r.h5.d/status.json
    run job -i in.jsonl -o r.h5 --resume # another machine's, by its last sign
    [ "$status" -eq 2 ]
    [[ $output == *"on elsewhere"* ]]
    touch -d "2 minutes ago" r.h5.d/*.json
    job -i in.jsonl -o r.h5 --resume --max-hours 0.0003 || [ $? -eq 75 ]
}

@test "the copy of a pipe outlives a resume without the pipe" {
    cd "$work"
    lines 400 60 >in.jsonl
    job -i - -o r.h5 --max-hours 0.0003 <in.jsonl || [ $? -eq 75 ]
    cmp in.jsonl r.h5.d/input
    lines 3 >other.jsonl
    run job -i - -o r.h5 --resume <other.jsonl
    [ "$status" -eq 2 ]
    cmp in.jsonl r.h5.d/input
    job -i - -o r.h5 --resume --max-hours 0.0003 </dev/null || [ $? -eq 75 ]
    cmp in.jsonl r.h5.d/input
    run job -i - -o n.h5 --save-logits=all --save-limit 1K <other.jsonl
    [ "$status" -eq 2 ]
    [ ! -e n.h5.d ]
    job -i - -o n.h5 <other.jsonl
    [ "$(ls n.h5.d)" = status.json ]
    job -i - -o n.h5 --resume </dev/null
}

@test "a refused job removes nothing; no file that is read is replaced, under any name" {
    cd "$work"
    lines 3 >in.jsonl
    job -i in.jsonl -o r.h5
    before=$(digest r.h5)
    run job -i in.jsonl -o r.h5 --overwrite --save-logits=all --save-limit 1K
    [ "$status" -eq 2 ]
    [ "$(digest r.h5)" = "$before" ]
    mkdir sub
    ln in.jsonl hard.jsonl
    ln -s in.jsonl soft.jsonl
    cp in.jsonl copy
    for o in ./in.jsonl sub/../in.jsonl hard.jsonl soft.jsonl; do
        run job -i in.jsonl -o "$o" --overwrite
        [ "$status" -eq 2 ]
        run job -i in.jsonl -o q.h5 --openai-output "$o" --overwrite
        [ "$status" -eq 2 ]
        cmp in.jsonl copy
    done
    run job -i in.jsonl -o q.h5 --openai-output sub/../q.h5
    [ "$status" -eq 2 ]
    cp -r "$demo" m
    run "$MOEBATCH" run -m m -i in.jsonl -o m/../m/config.json --overwrite
    [ "$status" -eq 2 ]
    cmp m/config.json "$demo/config.json"
    [ ! -e q.h5.d ]
}

@test "--openai-output is looked at before anything is computed, and made from complete results" {
    cd "$work"
    lines 3 >in.jsonl
    echo precious >p
    for o in p /proc/o.jsonl /nonexistent/o.jsonl .; do
        run job -i in.jsonl -o r.h5 --openai-output "$o"
        [ "$status" -eq 2 ] || [ "$status" -eq 73 ] || [ "$status" -eq 77 ]
        [[ $output != *"prompt tokens"* ]]
    done
    [ "$(cat p)" = precious ]
    job -i in.jsonl -o r.h5 --openai-output o.jsonl
    job -i in.jsonl -o r.h5 --resume --openai-output late.jsonl
    "$MOEBATCH" assemble r.h5 --openai-output tool.jsonl
    for f in o late tool; do
        python3 -c "import json, sys
for l in open(sys.argv[1]):
    o = json.loads(l); o['response']['body'].pop('created'); o['response']['body'].pop('model', None); print(json.dumps(o, sort_keys=True))" $f.jsonl >$f
    done
    [ "$(wc -l <o)" -eq 3 ]
    cmp o late
    cmp o tool
    job -i in.jsonl -o r.h5 --overwrite --openai-output p
    [ "$(head -c 1 p)" = "{" ]
}

@test "--strict ends alike when the results are complete already" {
    cd "$work"
    (lines 2; echo '{"prompt": 7}') >in.jsonl
    run job -i in.jsonl -o r.h5 --strict
    [ "$status" -eq 3 ]
    run job -i in.jsonl -o r.h5 --strict --resume
    [ "$status" -eq 3 ]
    job -i in.jsonl -o r.h5 --resume
}

@test "a status.json that can't be written is a warning" {
    cd "$work"
    lines 3 >in.jsonl
    mkdir -p r.h5.d/status.json/in
    run job -i in.jsonl -o r.h5
    [ "$status" -eq 0 ]
    [[ $output == *"status.json"*"goes on without it"* ]]
    [ "$(grep -c 'goes on without it' <<<"$output")" -eq 1 ]
}
