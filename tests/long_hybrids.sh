#!/bin/bash
# The hybrids by name, each a job of its own on the demo model by mpirun, in f32 and bf16: one digest (the constants of cli_layouts.bats),
# also with routing and logits saved, and after a stop in one layout and a resume in a quite different one.
set -e
: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}" "${top_builddir:=$PWD}"
moebatch=$top_builddir/moebatch demo=$top_srcdir/inputs/models/demo input=$top_srcdir/inputs/prompts.jsonl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
f32=5e8f8e6a2a8243f4cfe98f8810f017db bf16=09d0bc6620c6eae81ab38a986bdbb238

# job RANKS DTYPE OPTION...: the digest
job() {
    local n=$1 dtype=$2 st=0
    shift 2
    sh "$top_srcdir/tests/mpirun.sh" "$n" "$moebatch" run -m "$demo" -i "$input" -o "$work/r.h5" --dtype "$dtype" "$@" \
        >"$work/out" 2>&1 || st=$?
    [ $st -eq 0 ] || { echo "exit $st: $n ranks, $dtype, $*"; tail -20 "$work/out"; return 1; }
    echo >>"$work/jobs"
    "$moebatch" inspect --digest "$work/r.h5" | tail -1
}

# same NAME RANKS OPTION...
same() {
    local name=$1 n=$2 dtype d
    shift 2
    for dtype in f32 bf16; do
        d=$(job "$n" $dtype --overwrite "$@") || { echo "$d"; exit 1; }
        [ "$d" = "${!dtype}" ] || { echo "$name on $n ranks, $dtype: other bits ($d)"; exit 1; }
    done
    echo "$name on $n ranks: same bits"
}

D=--data-parallel-size T=--tensor-parallel-size P=--pipeline-parallel-size S=--sequence-parallel-size
E=--expert-parallel-size X=--expert-tensor-parallel-size C=--expert-data-parallel-size
same "EP" 4
same "DP + EP" 4 $D 2
same "DP + TP + EP" 8 $D 2 $T 2
same "DP + PP + EP" 8 $D 2 $P 2
same "DP + TP + EP + SP" 8 $D 2 $T 2 $S 2
same "EP + expert-TP" 4 $X 2
same "EP + expert-TP + copies" 8 $X 2 $C 2
same "copies, an ep of 2" 6 $E 2
same "PP, pattern 1" 4 $P 4
same "PP + TP + SP" 8 $P 2 $T 2 $S 2
same "PP, pattern 2" 4 $P 2 --expert-scope lane
same "PP, pattern 2, with TP and expert-TP" 8 $P 2 $T 2 $X 2 --expert-scope lane
same "disaggregated 2:3" 5 --disaggregate 2:3
same "disaggregated, PP, pattern 2" 6 $P 2 --disaggregate 1:2 --expert-scope lane
same "TP 3, uneven heads" 3 $T 3
same "five stages" 5 $P 5
same "more ranks than requests at a time, one sequence each" 7 --max-num-seqs 1
same "TP with hier and small steps" 4 $T 2 --alltoall hier --max-batch-rows 5 --max-num-seqs 3
same "ZeRO-inference, half" 4 --zero-inference 50 --prefetch 2
same "ZeRO-inference, a quarter, DP + PP" 8 $D 2 $P 2 --zero-inference 25
same "ZeRO-inference, PP pattern 2, copies" 4 $P 2 --expert-scope lane --zero-inference 300 --min-experts 1
same "ZeRO-inference, DP + TP + EP + SP" 8 $D 2 $T 2 $S 2 --zero-inference 60 --alltoall hier

# what is saved beside the rows
whole=$(job 1 f32 --overwrite --save-routing --save-logits)
for l in "4 $T 2 $S 2" "4 $P 2 $T 2" "4 $P 2 --expert-scope lane" "3 --disaggregate 1:2" "4 $X 2"; do
    set -- $l
    n=$1
    shift
    d=$(job "$n" f32 --overwrite --save-routing --save-logits "$@") || { echo "$d"; exit 1; }
    [ "$d" = "$whole" ] || { echo "with routing and logits on $n ranks, $*: other bits"; exit 1; }
done
echo "routing and logits of five hybrids: same bits"

# stopped in one layout, resumed in another
a=("4 $T 2 $S 2" "4 $P 2" "1" "6 $P 2 --disaggregate 1:2" "8 $D 2 $T 2 $S 2")
b=("3 $P 3" "2 $D 2" "8 $P 2 $T 2 $X 2" "2 $T 2" "5")
stopped=0
for i in {1..30}; do
    sed "s/\"id\": *\"/&$i-/" "$top_srcdir/inputs/prompts.jsonl"
done >"$work/long.jsonl"
input=$work/long.jsonl
whole=$(job 1 bf16 --overwrite)
for i in 0 1 2 3 4; do
    rm -rf "$work"/r.h5*
    set -- ${a[$i]}
    n=$1
    shift
    timeout -s USR1 "$((2 + i / 3)).5" sh "$top_srcdir/tests/mpirun.sh" "$n" "$moebatch" run -m "$demo" -i "$input" -o "$work/r.h5" \
        --dtype bf16 "$@" >"$work/out" 2>&1 || stopped=$((stopped + 1))
    set -- ${b[$i]}
    n=$1
    shift
    d=$(job "$n" bf16 --resume "$@") || { echo "$d"; exit 1; }
    [ "$d" = "$whole" ] || { echo "${a[$i]}, then ${b[$i]}: other bits"; exit 1; }
done
[ $stopped -ge 3 ] || { echo "only $stopped of 5 jobs were stopped: the machine is too fast for this test"; exit 1; }
echo "$stopped of 5 jobs were stopped and resumed in another layout: same bits"
echo "$(wc -l <"$work/jobs") jobs by mpirun ended as they should"
