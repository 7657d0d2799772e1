#!/bin/bash
# plan --simulate by size: instructions for each rank, by callgrind, so that no noise of the machine matters, are the same for 256
# and 1,024 ranks (and 4,096 with "large" as argument), within a fifth; a step of DeepSeek-V3 on 4,096 ranks takes less than 30 s of
# a processor, and a rank's plan less than 64 MB.
set -eu
command -v valgrind >/dev/null || { echo "skipped: valgrind is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
top=$(cd "${top_srcdir:-.}" && pwd)
moebatch=${MOEBATCH:-${top_builddir:-.}/moebatch}
simulate() { # NODES ROWS
    "$moebatch" plan -m "$top/inputs/configs/deepseek-v3" --cluster "$1 nodes x 8 H100-80GB nvlink 8x400Gb" --tensor-parallel-size 1 \
        --pipeline-parallel-size 1 --data-parallel-size 1 --expert-parallel-size 256 --expert-tensor-parallel-size 1 --alltoall hier \
        --workload 1000000x1024+256 --simulate zipf:1.0 --simulate-rows "$2" --json
}
each() { # NODES
    MOEBATCH=$moebatch valgrind --tool=callgrind --callgrind-out-file="$work/out" --collect-atstart=no --toggle-collect=mb_simulate \
        "$moebatch" plan -m "$top/inputs/configs/deepseek-v3" --cluster "$1 nodes x 8 H100-80GB nvlink 8x400Gb" --tensor-parallel-size 1 \
        --pipeline-parallel-size 1 --data-parallel-size 1 --expert-parallel-size 256 --expert-tensor-parallel-size 1 --alltoall hier \
        --workload 1000000x1024+256 --simulate zipf:1.0 --simulate-rows 2 --json >/dev/null 2>"$work/log" || { cat "$work/log"; exit 1; }
    awk -v ranks=$((8 * $1)) '/^totals:|^summary:/ { n = $2 } END { printf "%d", n / ranks }' "$work/out"
}
first=$(each 32)
echo "256 ranks: $first instructions for each"
for nodes in 128 ${1:+512}; do
    n=$(each $nodes)
    echo "$((8 * nodes)) ranks: $n"
    [ $((10 * n)) -le $((12 * first)) ] && [ $((12 * n)) -ge $((10 * first)) ] || { echo "not linear"; exit 1; }
done
TIMEFORMAT=%U
{ time simulate 512 32 >"$work/json"; } 2>"$work/time"
echo "4,096 ranks, 32 rows each, 58 layers of 256 experts: $(cat "$work/time") s of a processor"
"${PYTHON3:-python3}" - "$work/json" "$(cat "$work/time")" <<'PY'
import json, sys
s = json.load(open(sys.argv[1]))["simulation"]
print("a rank's plan:", s["plan_bytes"], "bytes")
assert float(sys.argv[2]) < 30 and s["plan_bytes"] < 64 << 20 and s["layers"] == 58
PY
