#!/bin/bash
# A failed allocation, read or journal write on one rank of four, at 1,000 operation numbers. FAULTS=N or first argument:
# N of them; second: seconds after which a loaded machine begins no more.
set -eu
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CC:-cc} -O1 -shared -fPIC -o "$work/shim.so" "$top/tests/fault_shim.c" -ldl
"$PYTHON3" "$top/tests/faults.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$top/inputs/models/demo" "$work/shim.so" "$work/w" "${1:-${FAULTS:-1000}}" "${2:-inf}"
