# Commands for a running job, and what monitoring sees of it.
load common.bash

# begin OUT: a job of 2 ranks in the background, once it computes; $job is its process. Portable arithmetic takes it half a minute
# at least on any machine, so that it lives when a command reaches it.
begin() {
    for i in $(seq 300); do echo "{\"id\":\"r$i\",\"prompt\":\"The package $i is\",\"max_tokens\":16,\"seed\":$i}"; done >"$work/in.jsonl"
    ranks 2 run -m "$demo" -i "$work/in.jsonl" -o "$1" --max-num-seqs 4 --isa portable "${@:2}" >"$work/log" 2>&1 &
    job=$!
    for k in $(seq 300); do
        ! "$MOEBATCH" status "$1" 2>/dev/null | grep -q "begun with [1-9]" || return 0
        kill -0 $job || { cat "$work/log"; return 1; }
        sleep 0.05
    done
}

# Waits for the job, which has stopped in good order
ended() {
    code=0
    wait $job || code=$?
    [ $code = 75 ]
}

@test "status, drain, stop: answers, exit codes, a resume, events in the results" {
    begin "$work/r.h5"
    "$MOEBATCH" ctl "$work/r.h5" status | "$PYTHON3" -c "import json, sys; s = json.load(sys.stdin); assert s['state'] == 'running' and s['total'] == 300, s"
    run "$MOEBATCH" ctl "$work/r.h5" dance
    [ "$status" -eq 1 ]
    [ "$("$MOEBATCH" ctl "$work/r.h5" drain)" = "it begins no more requests" ]
    ended
    grep -q "asked to drain" "$work/log"
    # a drained job has nothing half done
    "$MOEBATCH" status "$work/r.h5" >"$work/status" || [ $? = 75 ]
    ! grep -q "begun with" "$work/status"
    begin "$work/r.h5" --resume
    [ "$("$MOEBATCH" ctl "$work/r.h5" stop)" = "it stops at the end of its step" ]
    ended
    run "$MOEBATCH" ctl "$work/r.h5" stop
    [ "$status" -eq 2 ]
    [[ $output == *"no job runs here"* ]]
    "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --resume
    "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/want.h5"
    [ "$(digest "$work/r.h5")" = "$(digest "$work/want.h5")" ]
    [ "$(ls "$work/r.h5.d")" = status.json ]
    "$PYTHON3" - "$work/r.h5" <<'END'
import h5py, json, os, sys
e = [json.loads(x) for x in h5py.File(sys.argv[1])["health/events"][()]]
assert [(x["command"], x["event"], x["run"]) for x in e] == [("status", "answered", 1), ("drain", "accepted", 1), ("stop", "accepted", 2)], e
assert all(x["uid"] == os.getuid() and x["pid"] > 0 for x in e), e
END
}

@test "stop while the results are assembled" {
    "$PYTHON3" -c "
import json
for i in range(30):
    print(json.dumps({'prompt_ids': [(7 * i + k) % 4000 for k in range(150)], 'max_tokens': 1}))" >"$work/in.jsonl"
    "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --save-logits=all >"$work/log" 2>&1 &
    job=$!
    for k in $(seq 600); do
        ! grep -q '"state": "assembling"' "$work/r.h5.d/status.json" 2>/dev/null || break
        sleep 0.05
    done
    "$MOEBATCH" ctl "$work/r.h5" stop
    ended
    [ ! -e "$work/r.h5" ]
    "$MOEBATCH" assemble "$work/r.h5"
    "$MOEBATCH" status "$work/r.h5"
}

@test "files in ctl/ that are no commands, or for another run, do nothing" {
    begin "$work/r.h5"
    d=$work/r.h5.d/ctl
    [ "$(stat -c %a "$d")" = 700 ]
    echo '{"command":"stop","run":7}' >"$d/t" && mv "$d/t" "$d/ask-01"
    head -c 100000 /dev/zero >"$d/t" && mv "$d/t" "$d/ask-02"
    echo '{"command":["stop"],"run":1}' >"$d/t" && mv "$d/t" "$d/ask-03"
    ln -s "$work/in.jsonl" "$d/ask-04"
    mkfifo "$d/ask-05"
    mkdir "$d/ask-06"
    echo '{"command":"stop","run":1}' >"$d/stop"
    for k in $(seq 100); do
        [ ! -e "$d/answer-01" ] || [ ! -e "$d/answer-03" ] || break
        sleep 0.1
    done
    grep -q "that run is over" "$d/answer-01"
    grep -q "no such command" "$d/answer-03"
    "$MOEBATCH" ctl "$work/r.h5" status | grep -q '"state": "running"'
    kill -0 $job
    "$MOEBATCH" ctl "$work/r.h5" stop
    ended
    [ "$(wc -l <"$work/in.jsonl")" = 300 ]
}

@test "metrics.prom: figures of status.json, and a form that Prometheus reads" {
    begin "$work/r \"1\".h5"
    sleep 1.5
    cp "$work/r \"1\".h5.d/metrics.prom" "$work/m"
    "$MOEBATCH" ctl "$work/r \"1\".h5" stop
    ended
    cp "$work/r \"1\".h5.d/metrics.prom" "$work/last"
    "$PYTHON3" - "$work/m" "$work/last" "$work/r \"1\".h5.d/status.json" <<'END'
import json, re, sys
def read(path):
    v, kinds = {}, {}
    for line in open(path):
        if line.startswith("# TYPE"):
            kinds[line.split()[2]] = line.split()[3]
        elif not line.startswith("#"):
            m = re.fullmatch(r'(\w+)\{job_results="(?:[^"\\]|\\.)*"(?:,\w+="([^"]*)")?\} (\S+)\n', line)
            assert m, line
            assert (m[1], m[2]) not in v and m[1] in kinds, line
            v[m[1], m[2]] = float(m[3])
    return v
m, last, s = read(sys.argv[1]), read(sys.argv[2]), json.load(open(sys.argv[3]))
assert m["moebatch_state", "running"] == 1 and last["moebatch_state", "stopped"] == 1 and last["moebatch_state", "running"] == 0
assert last["moebatch_rows", "committed"] == s["committed"] and last["moebatch_rows", "total"] == s["total"] == 300
assert last["moebatch_tokens_total", "generated"] == s["output_tokens"] and m["moebatch_ranks", None] == 2
assert last["moebatch_expert_rows_total", "0"] + last["moebatch_expert_rows_total", "1"] == 2 * 5 * last["moebatch_tokens_total", "computed"]
assert 10 < len(m) < 1000
END
    ! command -v promtool || promtool check metrics <"$work/last"
}

@test "alerts: each fires where it should and not before" {
    command -v promtool || skip "no promtool"
    cp "$top/scripts/alerts.yml" "$top/tests/alerts_test.yml" "$work"
    cd "$work"
    promtool check rules alerts.yml
    promtool test rules alerts_test.yml
    # every series that a rule names is one that is written
    for name in $(grep -o 'moebatch_[a-z_]*' alerts.yml | sort -u); do grep -q "\"$name\"" "$top/src/io/prom.c"; done
}
