#!/bin/bash
# Two short prompts on two ranks under Valgrind's memcheck, with the portable kernels: no error but other libraries' own.
set -eu
command -v valgrind >/dev/null || { echo "valgrind is not installed"; exit 77; }
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/in.jsonl" <<'END'
{"id": "a", "prompt": "In the", "max_tokens": 3, "temperature": 0}
{"id": "b", "prompt": "int", "max_tokens": 2, "seed": 1}
END
job=0
sh "$top/tests/mpirun.sh" 2 valgrind --error-exitcode=9 --suppressions="$top/tests/valgrind.supp" --num-callers=30 \
    --log-file="$work/valgrind.%p" "$MOEBATCH" run -m "$top/inputs/models/demo" -i "$work/in.jsonl" -o "$work/r.h5" \
    --isa portable --threads 1 >"$work/log" 2>&1 || job=$?
if [ $job != 0 ] || [ "$(cat "$work"/valgrind.* | grep -c 'ERROR SUMMARY: 0 errors')" != 2 ]; then
    cat "$work/log" "$work"/valgrind.*
    exit 1
fi
