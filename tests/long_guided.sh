#!/bin/bash
# Random JSON Schemas, expressions and choices, sampled on the demo model: every answer that ends by itself is valid. And the official
# test suite as a whole, where SUITE names it (json/tests of jsonschema's sdist). usage: long_guided.sh [SCHEMAS [SEED]]
set -e
dir=$(mktemp -d "${TMPDIR:-/tmp}/long_guided.XXXXXX")
trap 'rm -rf "$dir"' EXIT
python=${PYTHON3:-/usr/bin/python3}
"$python" -c 'import jsonschema, h5py' 2>/dev/null || exit 77
"$python" "$top_srcdir/tests/guided.py" make "${2:-2}" "${1:-200}" 5 400 > "$dir/in.jsonl"
"$MOEBATCH" run -m "$top_srcdir/inputs/models/demo" -i "$dir/in.jsonl" -o "$dir/r.h5" --max-num-seqs 128
"$python" "$top_srcdir/tests/guided.py" check "$dir/in.jsonl" "$dir/r.h5"
for draft in draft4 draft6 draft7 draft2019-09 draft2020-12; do
    [ -z "${SUITE:-}" ] || "$python" "$top_srcdir/tests/json_schema_suite.py" "$top_builddir/tests/guide_feed" "$SUITE/$draft" --verbose
done
