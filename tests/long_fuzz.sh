#!/bin/bash
# long_fuzz.sh: libFuzzer with ASan and UBSan on every target: FUZZ_RUNS runs (10 million) or FUZZ_SECONDS (3600) each,
# whichever comes first. Needs clang.
set -eu
command -v "${CLANG:=clang}" >/dev/null || { echo "clang is missing"; exit 77; }
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# only the rooms that read files and texts: instrumenting the kernels would take minutes and find nothing
mkdir "$work/obj"
echo "" >"$work/config.h"
flags="-std=c11 -D_GNU_SOURCE -g -O1 -I$top/src -I$work -I$top/tests/fuzz $(pkg-config --cflags jansson libpcre2-8)
    -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
ls "$top"/src/{base,job,text,model}/*.c "$top"/src/io/{parse*,journal*,identity}.c "$top"/tests/fuzz/*.c |
    xargs -P "$(nproc)" -I {} sh -c '"$0" $1 -c "$3" -o "$2/$(echo "$3" | tr / _).o"' "$CLANG" "$flags" "$work/obj" {}
"$CLANG" -fsanitize=fuzzer,address,undefined "$work"/obj/*.o $(pkg-config --libs jansson libpcre2-8 libutf8proc libxxhash) -lm -lpthread \
    -o "$work/fuzz"
export FUZZ_TOP=$top FUZZ_WORK=$work/files FUZZ_TARGET UBSAN_OPTIONS=print_stacktrace=1
mkdir "$work/files"
for t in ${FUZZ_TARGETS:-weights config tokenizer request template journal record}; do
    FUZZ_TARGET=$t
    mkdir "$work/$t"
    cp "$top"/tests/fuzz/{request.json,template.jinja,journal} "$work/$t/"
    case $t in
    weights) head -c 20000 "$top/tests/data/models/mixtral_dense/model.safetensors" >"$work/$t/seed" ;;
    config) cp "$top"/tests/data/models/*/config.json "$work/$t/" 2>/dev/null || for m in "$top"/tests/data/models/*/; do cp "$m/config.json" "$work/$t/$(basename "$m")"; done ;;
    tokenizer) cp "$top/tests/data/models/mixtral_a/tokenizer.json" "$work/$t/" ;;
    esac
    "$work/fuzz" -max_total_time="${FUZZ_SECONDS:-3600}" -runs="${FUZZ_RUNS:-10000000}" -timeout=20 -rss_limit_mb=4096 \
        -artifact_prefix="$PWD/fuzz-$t-" "$work/$t" >"$work/log" 2>&1 || { tail -n 60 "$work/log"; echo "$t: a finding"; exit 1; }
    echo "$t: $(tail -n 1 "$work/log")"
done
