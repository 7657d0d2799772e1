#!/bin/bash
# ROUNDS (10,000) drawn games of the scheduler, about ten requests each, and 200 times as many turns of the tree of
# prefixes: every row meets the keys of its own text, and no page is lost. REQUESTS (100,000) requests with drawn
# prefixes in one job with few pages: the digest of every row computed alone, and memory as planned.
set -e
: "${top_srcdir:=$(cd "$(dirname "$0")/.." && pwd)}" "${top_builddir:=$PWD}" "${MOEBATCH:=$top_builddir/moebatch}" "${PYTHON3:=python3}"
export top_srcdir
MB_SCHED_ROUNDS=${ROUNDS:-10000} "$top_builddir/tests/unit_sched"
MB_PREFIX_ROUNDS=$((${ROUNDS:-10000} * 200)) "$top_builddir/tests/unit_prefix"
work=$(mktemp -d "${TMPDIR:-/tmp}/moebatch-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
"$PYTHON3" - "${REQUESTS:-100000}" >"$work/in.jsonl" <<'END'
import random, sys
draw = random.Random(7)
stem = [[draw.randrange(5, 4000) for _ in range(150)] for _ in range(40)]
for i in range(int(sys.argv[1])):
    ids = draw.choice(stem)[:draw.randrange(1, 150)] + [draw.randrange(5, 4000) for _ in range(draw.randrange(4))]
    print('{"prompt_ids": %s, "max_tokens": 2, "ignore_eos": true, "seed": %d}' % (ids, i))
END
for options in --enable-prefix-caching=no "--kv-pages 300"; do
    "$MOEBATCH" run -m "$top_srcdir/inputs/models/demo" -i "$work/in.jsonl" -o "$work/r.h5" --overwrite --dtype bf16 $options
    "$MOEBATCH" inspect "$work/r.h5" --digest | tail -n 1 >>"$work/digests"
done
cat "$work/digests"
[ "$(sort -u "$work/digests" | wc -l)" = 1 ]
