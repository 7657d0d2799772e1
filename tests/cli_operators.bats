# What an operator relies on: exit codes, pipes, figures of the result block, requests that a model cannot serve.
load common.bash

@test "exit codes before anything has begun: never 75" {
    head -n 1 "$top/inputs/prompts.jsonl" >"$work/i.jsonl"
    try() { # CODE OPTIONS...
        local want=$1
        shift
        run "$MOEBATCH" run -i "$work/i.jsonl" "$@"
        [ "$status" = "$want" ] || { echo "$*: $status, not $want: $output"; false; }
    }
    try 73 -m "$demo" -o /proc/x.h5
    touch "$work/file"
    try 73 -m "$demo" -o "$work/file/x.h5"
    try 2 -m "$demo/config.json" -o "$work/x.h5"
    [[ $output == *"directory with its weights"* ]]
    [ ! -e "$work/x.h5.d" ]
    if ! grep -q amx_int8 /proc/cpuinfo; then
        try 2 -m "$demo" -o "$work/x.h5" --isa amx
    fi
    [ "$(id -u)" = 0 ] || { mkdir -m 555 "$work/ro" && try 77 -m "$demo" -o "$work/ro/x.h5"; }
}

@test "a limit on address space belongs to the plan" {
    head -n 1 "$top/inputs/prompts.jsonl" >"$work/i.jsonl"
    "$MOEBATCH" --version >/dev/null
    no_sanitizers # they map terabytes
    run bash -c "ulimit -v 300000; '$MOEBATCH' run -m '$demo' -i '$work/i.jsonl' -o '$work/y.h5' --max-num-seqs 4096 --max-batch-rows 65536"
    [ "$status" = 2 ] || [ "$status" = 71 ] || { echo "$status: $output"; false; }
}

@test "standard output: a full one is 74, a closed one ends quietly" {
    run bash -c "'$MOEBATCH' run --help >/dev/full"
    [ "$status" = 74 ]
    run bash -c "exec 2>'$work/err'; '$MOEBATCH' run --help | true; echo \${PIPESTATUS[0]}"
    [ "${lines[0]}" = 0 ] || [ "${lines[0]}" = 141 ]
    [ ! -s "$work/err" ]
}

# the shares of the time table, in tenths of a percent, added up
shares() {
    sed -n 's/^ *: [a-z]* *\([0-9]*\)\.\([0-9]\) %.*/\1\2/p' "$1" | awk '{s += $1; n++} END {print n, s}'
}

@test "the result block of a stopped job and of a finished one: true figures" {
    for i in 1 2 3 4; do
        echo "{\"prompt\": \"The\", \"max_tokens\": 2000, \"ignore_eos\": true, \"n\": 40}"
    done >"$work/i.jsonl"
    "$MOEBATCH" run -m "$demo" -i "$work/i.jsonl" -o "$work/r.h5" 2>"$work/log" &
    local pid=$! code=0
    until grep -q '"tokens_per_second": [0-9.]*[1-9]' "$work/r.h5.d/status.json" 2>/dev/null; do
        kill -0 $pid
        sleep 0.1
    done
    kill -USR1 $pid
    wait $pid || code=$?
    [ $code = 75 ]
    cat "$work/log"
    grep -q '^stopped   : stop' "$work/log"
    [ "$(shares "$work/log")" = "8 1000" ]
    grep -q '^tokens    : [1-9][0-9]* computed' "$work/log"
    ! grep -q '^memory    : 0 B' "$work/log"
    grep -q '"state": "stopped"' "$work/r.h5.d/status.json"
    grep -q '"failure": "stop"' "$work/r.h5.d/status.json"
    ! grep -q '"tokens_per_second": 0\.0' "$work/r.h5.d/status.json"
    ranks 2 run -m "$demo" -i "$top/inputs/greedy.jsonl" -o "$work/f.h5" 2>"$work/log"
    [ "$(shares "$work/log")" = "8 1000" ]
    grep -q '"state": "complete"' "$work/f.h5.d/status.json"
}

@test "no tokenizer: text requests are error rows, ids run" {
    mkdir "$work/m"
    cp "$demo/config.json" "$demo/generation_config.json" "$demo/model.safetensors" "$work/m"
    cat >"$work/i.jsonl" <<'END'
{"id": "p", "prompt": "x", "max_tokens": 3}
{"id": "s", "context": "a", "continuation": "b"}
{"id": "r", "text": "rolling"}
{"id": "m", "messages": [{"role": "user", "content": "hi"}]}
{"id": "t", "prompt_ids": [5, 6, 7], "max_tokens": 3, "stop": ["foo"]}
{"id": "g", "prompt_ids": [5, 6, 7], "max_tokens": 3}
END
    "$MOEBATCH" run -m "$work/m" -i "$work/i.jsonl" -o "$work/r.h5"
    "$MOEBATCH" inspect "$work/r.h5" --text --json >"$work/out"
    [ "$(grep -c '"status": *"error"' "$work/out")" = 5 ]
    [ "$(grep -c 'no tokenizer\|no chat template' "$work/out")" = 5 ]
    grep -q '"id":"g".*"status":"ok"' "$work/out"
    for file in hy.tiktoken tekken.json vocab.json; do # forms that are not read are named
        touch "$work/m/$file"
        "$MOEBATCH" run -m "$work/m" -i "$work/i.jsonl" -o "$work/r.h5" --overwrite 2>&1 | grep -q "form of its $file is not read"
        "$MOEBATCH" check -m "$work/m" 2>&1 | grep -q "the form of $file is not read"
        run "$MOEBATCH" tokenize -m "$work/m" </dev/null
        [ "$status" -eq 2 ]
        [[ $output == *"found $file, whose form is not read"* ]]
        rm "$work/m/$file"
    done
}

@test "a text that cannot fit is refused before it is tokenised" {
    "$PYTHON3" -c "
import json
print(json.dumps({'id': 'long', 'prompt': 'word ' * 4000000, 'max_tokens': 2}))
print(json.dumps({'id': 'short', 'prompt': 'word', 'max_tokens': 2}))" >"$work/i.jsonl"
    "$MOEBATCH" run -m "$demo" -i "$work/i.jsonl" -o "$work/r.h5"
    "$MOEBATCH" inspect "$work/r.h5" --text --json >"$work/out"
    grep -q '"id":"long".*20000000 bytes of text are more than' "$work/out"
    grep -q '"id":"short".*"status":"ok"' "$work/out"
}

@test "inspect --errors: error rows alone; ids cannot write on the terminal" {
    printf '%s\n' '{"id": "a\nb\u001b[2J\u009bx", "prompt": 7}' '{"id": "fine", "prompt_ids": [5], "max_tokens": 2}' >"$work/i.jsonl"
    "$MOEBATCH" run -m "$demo" -i "$work/i.jsonl" -o "$work/r.h5"
    "$MOEBATCH" inspect "$work/r.h5" --errors >"$work/out"
    [ "$(wc -l <"$work/out")" = 1 ]
    grep -qF -- '--- a\x0ab\x1b[2J' "$work/out"
    ! grep -q fine "$work/out"
    ! LC_ALL=C grep -q "$(printf '\033')" "$work/out"
}

@test "header: nodes with their CPUs and threads; OMP_NUM_THREADS; binding that leaves CPUs idle; the launcher's switches again" {
    head -n 1 "$top/inputs/greedy.jsonl" >"$work/i.jsonl"
    go() { ranks 1 run -m "$demo" -i "$work/i.jsonl" -o "$work/r.h5" --overwrite "$@" 2>"$work/log"; }
    OMP_NUM_THREADS=1 go
    grep -q "^nodes     : .*: 1 rank x 1 thread on CPUs .*by OMP_NUM_THREADS" "$work/log"
    OMP_NUM_THREADS=1 go --threads 2
    grep -q "^nodes     : .*: 1 rank x 2 threads on CPUs" "$work/log"
    OMP_NUM_THREADS=many go
    grep -q "OMP_NUM_THREADS=many is no number" "$work/log"
    "$PYTHON3" - "$work/r.h5" <<'END'
import h5py, sys
f = h5py.File(sys.argv[1])["metrics"]
names = [x.decode() for x in f["seconds_columns"][()]]
assert names == ["attention", "experts", "head", "exchange", "waiting", "rest", "load"], names
t = f["seconds"][()]
assert t.shape == (1, 7) and (t >= 0).all() and (t[0, [0, 1, 2, 5, 6]] > 0).all() and t.sum() < 600, t
END
    if [ "$(nproc)" -gt 1 ]; then # mpirun's default for few ranks is a core each
        OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun -n 1 --bind-to core "$MOEBATCH" run -m "$demo" \
            -i "$work/i.jsonl" -o "$work/r.h5" --overwrite 2>"$work/log"
        grep -q "warning: .*bound to .* stay idle: mpirun --bind-to none" "$work/log"
    fi
    ranks 2 run -m "$demo" -i "$top/inputs/greedy.jsonl" -o "$work/s.h5" --max-hours 0.000001 2>"$work/log" || [ $? = 75 ]
    grep -q "^go on with: .*mpirun -n 2 --oversubscribe --bind-to none .*moebatch run .*--resume" "$work/log"
}
