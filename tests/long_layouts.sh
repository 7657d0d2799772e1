#!/bin/bash
# The demo job on 1, 2, 3, 4, 5, 8 ranks x flat, hier x one and 64 sequences at a time x 1 and 2 threads,
# f32 and bf16: one digest each, the constants of cli_layouts.bats. In each run, experts and rows are spread
# as planned, and the independent digest agrees.
set -eu
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0 runs=0
for dtype in f32 bf16; do
    want=$(sed -n "s/^$dtype=//p" "$top/tests/cli_layouts.bats")
    for n in 1 2 3 4 5 8; do
        for how in flat hier; do
            for seqs in 1 64; do
                for threads in 1 2; do
                    layout="--dtype $dtype --alltoall $how --max-num-seqs $seqs --threads $threads"
                    # shellcheck disable=SC2086 # several options
                    sh "$top/tests/mpirun.sh" $n "$MOEBATCH" run -m "$top/inputs/models/demo" \
                        -i "$top/inputs/prompts.jsonl" -o "$work/r.h5" --overwrite $layout 2>"$work/log" ||
                        { tail -n 20 "$work/log"; failed=1; }
                    got=$("$MOEBATCH" inspect "$work/r.h5" --digest | tail -n 1)
                    "$PYTHON3" "$top/tests/check_spread.py" "$work/r.h5" || failed=1
                    [ "$("$PYTHON3" "$top/tests/digest.py" "$work/r.h5")" = "$got" ] ||
                        { echo "the independent digest differs"; failed=1; }
                    runs=$((runs + 1))
                    [ "$got" = "$want" ] || { echo "$n ranks, $layout: $got, expected $want"; failed=1; }
                done
            done
        done
    done
done
echo "$runs layouts"
exit $failed
