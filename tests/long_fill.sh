#!/bin/bash
# FILLS (100) random fills of up to 8 ranks for each of four models in f32 and bf16: each ends in time, one digest for the same
# requests. SEED: of the first campaign.
set -e
: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}" "${top_builddir:=$PWD}"
export top_srcdir
seed=${SEED:-$RANDOM}
for model in mixtral_a qwen3moe_b deepseekv3_a dbrx_a; do
    for dtype in f32 bf16; do
        echo "seed $seed"
        sh "$top_srcdir/tests/mpirun.sh" 8 "$top_builddir/tests/mpi_fill" $model $dtype "${FILLS:-100}" $seed 60
        seed=$((seed + 1))
    done
done
