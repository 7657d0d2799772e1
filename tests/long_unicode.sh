#!/bin/bash
# Every code point through five tokenizers: against the stored hashes, and where PYTHON3 has the packages tokenizers and regex, against
# tokenizers itself, which names the code points that differ.
set -eu
UNICODE_STRIDE=1 "$top_builddir/tests/unit_unicode"
if "$PYTHON3" -c 'import tokenizers, regex' 2>/dev/null; then
    "$PYTHON3" "$top_srcdir/tests/data/tokenizers/unicode/make.py" compare "$MOEBATCH"
fi
# ties of sentencepiece's paths
if "$PYTHON3" -c 'import sentencepiece' 2>/dev/null; then
    "$PYTHON3" "$top_srcdir/tests/data/tokenizers/spm_ties/make.py" compare "$MOEBATCH" "${TIES:-300}"
fi
