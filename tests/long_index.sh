#!/bin/sh
# Time and memory of reading a model of 46,000 tensors in 163 files: see long_index.py.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$PYTHON3" "$top_srcdir/tests/long_index.py" "$MOEBATCH" "$top_srcdir/tests/mpirun.sh" "$top_srcdir/tests/data/models/deepseekv3_a" "$work"
