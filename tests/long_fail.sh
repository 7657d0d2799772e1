#!/bin/bash
# Every write, fsync, rename and mkdir of a short job fails, once and from there on. FAILURES=N: N of them only.
# Arguments: N, and the parts that are wanted (fail_calls.py).
set -eu
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CC:-cc} -O1 -shared -fPIC -o "$work/shim.so" "$top/tests/fail_calls.c" -ldl
"$PYTHON3" "$top/tests/fail_calls.py" "$MOEBATCH" "$top/inputs/models/demo" "$work/shim.so" "$work/w" "${1:-${FAILURES:-0}}" "${@:2}"
