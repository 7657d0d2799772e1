#!/bin/bash
# Placements by measured loads against DeepSeek's published balancer and the optimum, as a table: 8 to 256 GPUs, Zipf 0.5 to
# 1.5, still and drifting, 0 and 1 copies more a GPU, one and eight nodes. About a quarter of an hour on one core. Arguments,
# as in 256:8:64 (experts, of a row, GPUs), take only these sizes. In tests/cli_balance.bats is a short form.
set -eu
exec "${PYTHON3:-python3}" "${top_srcdir:-.}/tests/balance.py" "${top_builddir:-.}/tests/place" --long "$@"
