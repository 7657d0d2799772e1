#!/bin/bash
# 100,000 and 1,000,000 short requests: memory of a rank that is not rank 0 stays as it is.
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$PYTHON3" "$top/tests/long_million.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$top/tests/data/models/mixtral_a" "$work"
