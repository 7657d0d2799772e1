#!/bin/bash
# All reference models (GOLDEN_MODELS: some) on 1, 3 and 4 ranks against their goldens, one digest on 1, 2, 3 and 4 ranks for each;
# bf16 by the rules of the reference, four models by contract.py, and wrong variants, which must miss their goldens. Ends with one table,
# model x worst difference.
set -eu
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
models=${GOLDEN_MODELS:-$(ls "$top/tests/data/models")}

# a digest for each number of ranks; the runs of 1, 3 and 4 are those that golden.py judges
one_model()
{
    local m=$top/tests/data/models/$1 n digests=
    for n in 1 2 3 4; do
        if [ $n != 2 ]; then
            "$PYTHON3" "$top/tests/golden.py" "$MOEBATCH" "$top/tests/mpirun.sh" $n "$m" "$work" || failed=1
        else
            sh "$top/tests/mpirun.sh" $n "$MOEBATCH" run -m "$m" -i "$work/in.jsonl" -o "$work/out.h5" --overwrite --dtype f32 \
                --save-logits --save-routing --save-hidden 2>/dev/null || failed=1
        fi
        digests="$digests $("$MOEBATCH" inspect "$work/out.h5" --digest | tail -n 1)"
    done
    # shellcheck disable=SC2086
    if [ "$(printf '%s\n' $digests | sort -u | wc -l)" = 1 ]; then
        echo "digest $1 EQUAL $digests"
    else
        echo "digest $1 DIFFER $digests"
        failed=1
    fi
}

for m in $models; do
    one_model "$m" >>"$work/lines"
    tail -n 3 "$work/lines"
done
# shellcheck disable=SC2086
"$PYTHON3" "$top/tests/bf16.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$top/tests/data" "$work" $models >>"$work/lines" || failed=1
for m in mixtral_a deepseekv3_b dbrx_a llama_a; do
    # shellcheck disable=SC2086
    printf '%s\n' $models | grep -qx $m || continue
    "$PYTHON3" "$top/tests/contract.py" "$MOEBATCH" "$top/tests/data/models/$m" "$work" >>"$work/lines" || failed=1
done
wrong=$(sed -n 's/^    "\([a-z0-9]*_a\)": {.*/\1/p' "$top/tests/wrong_variants.py" | grep -xF "$(printf '%s\n' $models)" || true)
# shellcheck disable=SC2086
[ -z "$wrong" ] || "$PYTHON3" "$top/tests/wrong_variants.py" "$MOEBATCH" "$top/tests/data/models" "$work" $wrong || failed=1
"$PYTHON3" "$top/tests/golden_table.py" "$work/lines"
exit $failed
