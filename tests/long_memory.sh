#!/bin/bash
# Memory of a model of more than 500 MB, predicted and real, and of a prompt of 16,384 tokens.
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$PYTHON3" "$top/tests/long_memory.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$work"
