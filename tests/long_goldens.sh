#!/bin/bash
# All reference models on 1 and 4 ranks against their goldens, and one digest on 1, 2, 3 and 4 ranks for each.
set -eu
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
for dir in "$top"/tests/data/models/*/; do
    m=${dir%/}
    digests=
    for n in 1 2 3 4; do
        if [ $n = 1 ] || [ $n = 4 ]; then
            "$PYTHON3" "$top/tests/golden.py" "$MOEBATCH" "$top/tests/mpirun.sh" $n "$m" "$work" || failed=1
        else
            sh "$top/tests/mpirun.sh" $n "$MOEBATCH" run -m "$m" -i "$work/in.jsonl" -o "$work/out.h5" --overwrite --dtype f32 \
                --save-logits --save-routing --save-hidden 2>/dev/null || failed=1
        fi
        digests="$digests $("$MOEBATCH" inspect "$work/out.h5" --digest | tail -n 1)"
    done
    [ "$(echo $digests | tr ' ' '\n' | sort -u | wc -l)" = 1 ] || { echo "$m: digests differ:$digests"; failed=1; }
done
"$PYTHON3" "$top/tests/bf16.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$top/tests/data" "$work" || failed=1
exit $failed
