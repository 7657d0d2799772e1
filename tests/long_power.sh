#!/bin/bash
# CUTS (200) power losses and KILLS (1,000) kills of jobs with saved routing and logits, several choices, scoring and generation,
# each resumed on another number of ranks and in another layout: tests/power.py.
set -eu
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${CC:-cc} -O1 -shared -fPIC -o "$work/sync_log.so" "$top/tests/sync_log.c" -ldl
args=("$MOEBATCH" "$top/tests/mpirun.sh" "$top/tests/data/models/mixtral_a")
"$PYTHON3" "$top/tests/power.py" "${args[@]}" "$work/sync_log.so" "$work/p" "${CUTS:-200}" "${SEED:-1}"
"$PYTHON3" "$top/tests/power.py" "${args[@]}" - "$work/k" "${KILLS:-1000}" "${SEED:-1}"
