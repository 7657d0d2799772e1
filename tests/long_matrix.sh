#!/bin/bash
# Every legal layout up to 8 ranks for four models in f32, a sixth of them in bf16, and a part of those with lane scope or disaggregated
# ranks: one digest per model and type; a part of them for models that choose keys or keep states. The same with adapters on attention and experts, mixed, and with experts on demand. STRIDE=n takes every n-th only.
set -e
: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}" "${top_builddir:=$PWD}"
: "${PYTHON3:=python3}"
export top_srcdir
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run() { sh "$top_srcdir/tests/mpirun.sh" 8 "$top_builddir/tests/mpi_matrix" "$@"; }
for model in mixtral_a qwen3moe_b deepseekv3_a dbrx_a; do
    run "$model" f32 8 "${STRIDE:-1}" 0
    run "$model" bf16 8 6 "$((RANDOM % 6))"
    run "$model" f32 8 "${WIDE_STRIDE:-8}" 0 wide
    "$PYTHON3" "$top_srcdir/tests/adapters.py" "$top_srcdir/tests/data/models/$model" "$work/$model"
    run "$model" f32 8 "$((3 * ${STRIDE:-1}))" 0 basic "$work/$model"/*
    run "$model" bf16 8 12 "$((RANDOM % 12))" basic "$work/$model"/*
    run "$model" bf16 8 "$((2 * ${WIDE_STRIDE:-8}))" 1 wide "$work/$model"/*
    run "$model" f32 8 "${STRIDE:-1}" 0 zero
    run "$model" bf16 8 6 "$((RANDOM % 6))" zerowide
done
for model in glmmoedsa_b qwen3next_a; do
    run "$model" f32 8 "$((3 * ${STRIDE:-1}))" 0
    run "$model" bf16 8 12 "$((RANDOM % 12))"
    run "$model" f32 8 "$((2 * ${WIDE_STRIDE:-8}))" 1 wide
done
# with all logits, and those of the MTP module
run deepseekv3_a f32 8 "$((3 * ${STRIDE:-1}))" 1 basic+mtp
run deepseekv3_a bf16 8 12 "$((RANDOM % 12))" basic+mtp "$work"/deepseekv3_a/*
run deepseekv3_a f32 8 "$((2 * ${WIDE_STRIDE:-8}))" 2 wide+mtp
