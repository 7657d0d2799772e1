#!/bin/bash
# The kill campaign: 50 kills at random moments of a run of at least 5 s, 5 in each pause point (a build of
# its own with --enable-faults), 20 stops of each kind.
set -eu
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
args=("$top/tests/mpirun.sh" "$top/inputs/models/demo" "$top/inputs/prompts.jsonl")
export COPIES=${COPIES:-20}
MIN_SECONDS=5 MIN_ACK=20 "$PYTHON3" "$top/tests/kill.py" "$MOEBATCH" "${args[@]}" "$work/k" 50 1
COPIES=6 "$PYTHON3" "$top/tests/stop.py" "$MOEBATCH" "${args[@]}" "$work/s" 60 1
mkdir "$work/faults"
(cd "$work/faults" && "$top/configure" -q --enable-faults >/dev/null && make -s moebatch)
for place in loading prefill decode assembly; do
    COPIES=3 "$PYTHON3" "$top/tests/kill.py" "$work/faults/moebatch" "${args[@]}" "$work/f" 5 1 $place
done
