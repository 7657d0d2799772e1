# Failures on one rank at places that have to be met exactly (tests/fault_shim.c), signals and slow work of one rank.
load common.bash

shim() {
    no_sanitizers
    ${CC:-cc} -O1 -shared -fPIC -o "$work/shim.so" "$top/tests/fault_shim.c" -ldl
}

# faulty N VARIABLE=VALUE... -- ARGUMENT...: moebatch run on N ranks with the shim; output to $work/log, exit code in $code
faulty() {
    local n=$1 vars=()
    shift
    while [ "$1" != -- ]; do
        vars+=("$1")
        shift
    done
    shift
    code=0
    OMP_NUM_THREADS=1 FAIL_LOG=$work/hits sh "$top/tests/mpirun.sh" "$n" env LD_PRELOAD="$work/shim.so" "${vars[@]}" "$MOEBATCH" run \
        -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" "$@" >"$work/log" 2>&1 || code=$?
    cat "$work/log"
}

# requests N TOKENS
requests() {
    for i in $(seq "$1"); do echo "{\"id\":\"r$i\",\"prompt\":\"The package $i is\",\"max_tokens\":$2}"; done >"$work/in.jsonl"
    "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/want.h5" >"$work/want.log" 2>&1
}

nobody_waited() { if grep "waited" "$work/log"; then return 1; fi; }

# The results there are now those of the unbroken run.
mended() {
    "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/r.h5" "$@"
    [ "$(digest "$work/r.h5")" = "$(digest "$work/want.h5")" ]
}

@test "a journal write that fails in the step in which all stop: nobody waits for the deadline" {
    shim
    requests 24 30
    faulty 2 FAIL_RANK=1 FAIL_KIND=write FAIL_PATH=/journal- FAIL_AT=3 FAIL_SIGNAL=10 FAIL_ON=1 -- --deadline 400
    grep -q write "$work"/hits.1
    [ $code -eq 75 ]
    grep "rank 1: error: .*journal.*No space" "$work/log"
    nobody_waited
    mended --resume
}

@test "under ZeRO-inference an expert that one rank cannot read ends all" {
    shim
    requests 6 12
    faulty 3 FAIL_RANK=1 FAIL_PATH=safetensors FAIL_AT=0 -- --zero-inference 2
    [ $code -eq 0 ]
    reads=$(sed -n 's/^count read //p' "$work/hits.1")
    for at in $((reads / 2)) $((reads * 3 / 4)); do # which rank takes which line is not fixed: reads of a run differ
        rm -rf "$work"/r.h5* "$work"/hits.*
        faulty 3 FAIL_RANK=1 FAIL_KIND=read FAIL_PATH=safetensors FAIL_AT=$at FAIL_ON=1 -- --zero-inference 2 --deadline 400
        grep -q safetensors "$work/hits.1"
        [ $code -eq 75 ] || [ $code -eq 74 ]
        grep "rank 1: error: .*safetensors.*Input/output error" "$work/log"
        nobody_waited
        mended $([ -d "$work/r.h5.d" ] && echo --resume)
    done
}

@test "a rank other than 0 that cannot read the tokenizer says so" {
    shim
    requests 2 3
    faulty 2 FAIL_RANK=1 FAIL_KIND=read FAIL_PATH=/tokenizer.json FAIL_AT=1 FAIL_ON=1 -- --deadline 400
    [ $code -eq 2 ] || [ $code -eq 74 ]
    grep "rank 1: error: .*tokenizer.json.*Input/output error" "$work/log"
}

@test "any thread that cannot be started: a message and an end, or right results" {
    shim
    requests 2 3
    for rank in 0 1; do
        for at in 1 2 3 4 5 6; do
            rm -rf "$work"/r.h5* "$work"/hits.*
            faulty 2 FAIL_RANK=$rank FAIL_KIND=thread FAIL_AT=$at -- --deadline 400
            if [ $code -eq 0 ]; then
                [ "$(digest "$work/r.h5")" = "$(digest "$work/want.h5")" ]
            else
                [ $code -eq 71 ] || [ $code -eq 75 ]
                grep -E "moebatch: (rank $rank: )?error: .*thread" "$work/log"
                nobody_waited
            fi
            grep -q pthread_create "$work/hits.$rank" || break # it has no more
        done
        [ "$at" -gt 1 ]
    done
}

@test "input from a pipe that takes longer than the deadline: the other ranks wait, and are told why" {
    shim
    requests 6 3
    code=0
    (head -3 "$work/in.jsonl"; sleep 7; tail -3 "$work/in.jsonl") |
        ranks 2 run -m "$demo" -i - -o "$work/r.h5" --deadline 4 >"$work/log" 2>&1 || code=$?
    cat "$work/log"
    [ $code -eq 0 ]
    grep "the other ranks wait" "$work/log"
    [ "$("$MOEBATCH" inspect "$work/r.h5" --digest | tail -n 1)" = "$(digest "$work/want.h5")" ]
}

@test "a signal while the results are assembled stops it, and a resume makes them" {
    shim
    requests 6 4
    "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/want.h5" --overwrite --save-routing
    for n in 1 3; do
        rm -rf "$work"/r.h5* "$work"/hits.*
        faulty $n FAIL_RANK=0 FAIL_KIND=write FAIL_PATH=r.h5.d/assembling FAIL_AT=1 FAIL_SIGNAL=10 -- --save-routing --deadline 400
        [ $code -eq 75 ]
        grep "asked to stop; what is half written is removed" "$work/log"
        grep "stopped by SIGUSR1" "$work/log"
        [ ! -e "$work/r.h5" ]
        [ -z "$(find "$work/r.h5.d" -name 'assembling*')" ]
        "$MOEBATCH" status "$work/r.h5" | tee "$work/status"
        grep -q stopped "$work/status"
        mended --resume --save-routing
    done
}

@test "a rank that has no memory while all write the results: nobody waits in HDF5" {
    shim
    requests 4 2
    "$MOEBATCH" run -m "$demo" -i "$work/in.jsonl" -o "$work/want.h5" --overwrite --save-routing
    for at in 1 20 45; do # the first dataset of numbers, one in the middle, behind them
        rm -rf "$work"/r.h5* "$work"/hits.*
        faulty 3 FAIL_RANK=2 FAIL_KIND=alloc FAIL_AFTER=assembling FAIL_AT=$at -- --save-routing --deadline 50
        grep alloc "$work/hits.2"
        [ $code -eq 75 ]
        grep "rank 2: error: no memory" "$work/log"
        nobody_waited
        mended --resume --save-routing
    done
}
