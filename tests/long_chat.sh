#!/bin/bash
# Templates that use each feature of the language over many random conversations, against Jinja as transformers sets it up (and
# transformers' own environment, where PYTHON3 has it). usage: long_chat.sh [CONVERSATIONS [SEED]]
set -e
dir=$(mktemp -d "${TMPDIR:-/tmp}/long_chat.XXXXXX")
trap 'rm -rf "$dir"' EXIT
python=${PYTHON3:-/usr/bin/python3}
"$python" -c 'import jinja2' 2>/dev/null || exit 77
"$python" "$top_srcdir/tests/data/chat/make_features.py" "${1:-200}" "${2:-77}" > "$dir/cases.json"
CHAT_FEATURES=$dir/cases.json "$top_builddir/tests/unit_chat"
