#!/bin/bash
# The parser against an independent reading of the input rules, over mutated lines.
set -e
dir=$(mktemp -d "${TMPDIR:-/tmp}/check_parse.XXXXXX")
trap 'rm -rf "$dir"' EXIT
"${PYTHON3:-/usr/bin/python3}" "$top_srcdir/tests/check_parse.py" "$top_builddir/tests/parse_lines" \
    "$top_srcdir/inputs/models/demo/tokenizer.json" "$dir" "${LINES_TO_CHECK:-1000}" "${SEED:-1}"
