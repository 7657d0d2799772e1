# A sample of the kill and stop campaigns (tests/long_kill.sh has the whole).
load common.bash

@test "killed with kill -9, resumed on other rank counts and in other layouts" {
    COPIES=1 "$PYTHON3" "$top/tests/kill.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$demo" "$top/inputs/prompts.jsonl" "$work/k" 3 7
}

@test "stopped by SIGTERM to one rank, SIGUSR1 to mpirun and SIGTERM to all ranks" {
    COPIES=1 "$PYTHON3" "$top/tests/stop.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$demo" "$top/inputs/prompts.jsonl" "$work/s" 3 7
}

@test "a signal to one rank of the second of two lanes stops both, and rank 0 names it" {
    for i in {1..20}; do
        sed "s/\"id\": *\"/&$i-/" "$top/inputs/prompts.jsonl"
    done >"$work/in.jsonl"
    for index in 3 1 2; do # the second rank of lane 2, of lane 1, the first of lane 2
        ranks 4 run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" --overwrite --isa portable --data-parallel-size 2 --tensor-parallel-size 2 \
            >"$work/log" 2>&1 &
        job=$!
        until grep -q "^output " "$work/log"; do sleep 0.05; done
        sleep 0.3
        pids=($(pgrep -f "moebatch run .*$work/r.h5" | sort -n | while read -r p; do
            grep -qz "^OMPI_COMM_WORLD_RANK=$index$" "/proc/$p/environ" 2>/dev/null && echo "$p" || true
        done))
        kill -TERM "${pids[0]}"
        code=0
        wait $job || code=$?
        [ $code -eq 75 ] || { cat "$work/log"; false; }
        grep "stopped by SIGTERM" "$work/log"
        grep "^stopped   :" "$work/log"
    done
}
