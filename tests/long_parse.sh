#!/bin/bash
# check_parse.sh over many more lines.
set -e
for seed in 11 12 13 14; do
    LINES_TO_CHECK=20000 SEED=$seed bash "$top_srcdir/tests/check_parse.sh"
done
