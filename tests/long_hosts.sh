#!/bin/bash
# Several hosts, the full matrix: digest on 2 x 2, 3 x 1 and 3 x 2 hosts x ranks, flat and hier, uniform and
# scattered, f32 and bf16, batch sizes 1 and 64, 1 and 2 threads, shuffled input; and the exchange's bytes
# and messages by the formulas. With "hybrids" as argument: only those.
set -u
. "$top_srcdir/tests/hosts.bash"
why=$(hosts_need)
[ -z "$why" ] || { echo "skipped: $why"; exit 77; }
hosts_up 3 || { echo "skipped: no network namespaces here"; hosts_down; exit 77; }
trap 'trap "" INT TERM; hosts_down' EXIT
trap 'exit 1' INT TERM
shuf --random-source="$work/inputs/prompts.jsonl" "$work/inputs/prompts.jsonl" >"$work/inputs/shuffled.jsonl"
declare -A want=([f32]=5e8f8e6a2a8243f4cfe98f8810f017db [bf16]=09d0bc6620c6eae81ab38a986bdbb238)
runs=0 failed=0
fail() { echo "FAILED: $*"; failed=$((failed + 1)); }

# same HOSTS EACH DTYPE INPUT OPTION...: the digest, whatever the layout
same() {
    local n=$1 each=$2 type=$3 in=$4 got
    shift 4
    on_hosts "$n" "$each" "$work/moebatch" run -m inputs/models/demo -i "inputs/$in.jsonl" -o d.h5 --overwrite \
        --dtype "$type" "$@" >"$work/log" 2>&1 ||
        { cat "$work/log"; fail "$n x $each $type $in $*"; return; }
    got=$("$work/moebatch" inspect "$work/d.h5" --digest | tail -n 1)
    [ "$got" = "${want[$type]}" ] || fail "$n x $each $type $in $*: digest $got"
    runs=$((runs + 1))
}
# digest ...: also whether rows and experts lie as the plan of equal ranks says
digest() {
    same "$@"
    "$PYTHON3" "$top_srcdir/tests/check_spread.py" "$work/d.h5" || fail "$*: spread"
}
# Hybrids over three hosts of two ranks, in names of the options: groups within hosts and across them
hybrids() {
    local type
    for type in bf16 f32; do
        same 3 2 $type prompts --tensor-parallel-size 2
        same 3 2 $type prompts --data-parallel-size 3 --tensor-parallel-size 2
        same 3 2 $type prompts --pipeline-parallel-size 3 --tensor-parallel-size 2
        same 3 2 $type prompts --sequence-parallel-size 3
        same 3 2 $type prompts --data-parallel-size 3 --expert-tensor-parallel-size 2
        same 3 2 $type prompts --pipeline-parallel-size 2 --expert-scope lane --sequence-parallel-size 3
        same 3 2 $type prompts --disaggregate 2:4
        same 3 2 $type prompts --zero-inference 50 --alltoall hier
        same 3 2 $type prompts --zero-inference 300 --pipeline-parallel-size 3
    done
    echo "hybrids: $runs runs, $failed failures"
}

# traffic HOSTS EACH DTYPE OPTION...: prints "inter DISPATCH COMBINE MESSAGES"
traffic() {
    local n=$1 each=$2 type=$3
    shift 3
    on_hosts "$n" "$each" "$work/moebatch" run -m inputs/models/demo -i inputs/prompts.jsonl -o t.h5 --overwrite \
        --dtype "$type" --save-routing --keep --a2a-eager 1G "$@" >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; return 1; }
    "$PYTHON3" "$top_srcdir/tests/traffic.py" "$work/t.h5" 256
}

hybrids
[ "${1:-}" != hybrids ] || exit $failed
for layout in "2 2" "3 1" "3 2"; do
    for type in bf16 f32; do
        for place in uniform scattered; do
            # shellcheck disable=SC2086 # layout is two words
            flat=$(traffic $layout $type --alltoall flat --placement $place) || fail "flat $layout $type $place"
            # shellcheck disable=SC2086
            hier=$(traffic $layout $type --alltoall hier --placement $place) || fail "hier $layout $type $place"
            echo "$layout $type $place: flat $flat, hier $hier"
            read -r _ fd fc fm <<<"$flat"
            read -r _ hd hc hm <<<"$hier"
            [ "${layout#* }" = 1 ] ||
                { [ "$hd" -le "$fd" ] && [ "$hc" -le "$fc" ] && [ "$hm" -lt "$fm" ]; } ||
                fail "$layout $type $place: hier sends more"
            for way in flat hier; do
                for batch in 1 64; do
                    for threads in 1 2; do
                        # shellcheck disable=SC2086
                        digest $layout $type prompts --alltoall $way --placement $place \
                            --max-num-seqs $batch --threads $threads
                    done
                done
            done
        done
        # shellcheck disable=SC2086
        digest $layout $type shuffled
    done
done
echo "$runs runs with equal digests, $failed failures"
[ $failed = 0 ]
