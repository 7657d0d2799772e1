#!/bin/sh
# quickstart.sh: from a fresh clone to results. Installs what is missing, builds, lets the demo model (a small Mixtral
# whose experts lie on two ranks) continue the prompts of inputs/prompts.jsonl, and shows the text.
set -eu
cd "$(dirname "$0")/.."
top=$PWD
out=${1:-quickstart-results.h5}

sh scripts/install-deps.sh
echo "building ..."
sh scripts/build.sh

echo "running: mpirun -n 2 build/moebatch run -m inputs/models/demo -i inputs/prompts.jsonl -o $out"
sh tests/mpirun.sh 2 build/moebatch run -m inputs/models/demo -i inputs/prompts.jsonl -o "$out" --overwrite
echo
build/moebatch inspect "$out" --text
echo
case $out in /*) ;; *) out=$top/$out ;; esac
echo "results: $out (HDF5: open it with h5py, h5dump, MATLAB; or build/moebatch inspect $out)"
