#!/bin/bash
# long_fuzz.sh: libFuzzer with ASan and UBSan on every target (FUZZ_TARGETS): FUZZ_RUNS runs (10 million) or FUZZ_SECONDS of
# processor time (3600) each, whichever comes first. Prints runs, processor time and coverage of each. Needs clang.
set -eu
command -v "${CLANG:=clang}" >/dev/null || { echo "clang is missing"; exit 77; }
top=$(cd "$top_srcdir" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/obj"
echo "" >"$work/config.h"
# only the rooms that read files and texts: instrumenting the kernels would take minutes and find nothing
libs=$(pkg-config --libs jansson libpcre2-8 libutf8proc libxxhash)
flags="-std=c11 -D_GNU_SOURCE -g -O2 -I$top/src -I$work -I$top/tests/fuzz $(pkg-config --cflags jansson libpcre2-8)"
# Comparisons are traced in readers of binary forms only: in a lexer this costs half of the speed, and for texts the words
# of the dictionary do more.
compile()
{
    case $1 in
    */tests/fuzz/*) cov= ;; # ours: what is searched is the program
    */spm*|*/charsmap*|*/journal*|*/record*|*/safetensors*|*/base/*) cov=inline-8bit-counters,pc-table,trace-cmp ;;
    *) cov=inline-8bit-counters,pc-table ;;
    esac
    # shellcheck disable=SC2086
    "$CLANG" $flags ${cov:+-fsanitize=address,undefined -fno-sanitize-recover=undefined -fsanitize-coverage=$cov} -c "$1" -o "$work/obj/$(echo "$1" | tr / _).o"
}
export -f compile
export CLANG flags work
ls "$top"/src/{base,job,text,guide,model}/*.c "$top"/src/io/{parse*,journal*,identity}.c "$top"/tests/fuzz/{targets,libfuzzer,files_memory}.c |
    xargs -P "$(nproc)" -I {} bash -c 'compile {}'
# shellcheck disable=SC2086
"$CLANG" -fsanitize=fuzzer,address,undefined -Wl,--wrap={open,stat,fstat,pread,close} "$work"/obj/*.o $libs -lm -lpthread -o "$work/fuzz"

# the words that a room's sources know, as a dictionary
words()
{
    grep -oh '"[A-Za-z_.|][A-Za-z0-9_.|]*"' "$@" | tr -d '"' | tr '|' '\n' | sort -u |
        awk 'length($0) > 1 && length($0) < 60 { print "\"" $0 "\"" }'
}

settings() # of target $1: longest input, and the dictionary
{
    local text=$top/src/text model=$top/src/model
    case $1 in
    weights) max=3000; words "$model"/{arch,safetensors}.c ;;
    config) max=1400; words "$model"/{config*,arch,rope,ids,cfg}.c ;;
    tokenizer) max=2600; words "$text"/{hf*,norm,pretok,decode}.c ;;
    template) max=1500; words "$text"/../jinja/*.c ;;
    request) max=600; words "$top"/src/io/parse*.c ;;
    regex) max=100 ;;
    schema) max=600; words "$top"/src/guide/{compile*,formats}.c ;;
    spm) max=600 ;;
    journal) max=1600 ;;
    record) max=1024 ;;
    esac >"$work/words"
}

# Stacks of allocations, a long quarantine and filling of new memory would double the time; a finding is repeated without this
# (FUZZ_TARGET=... fuzz FILE). libFuzzer knows only wall clock: ulimit ends it by processor time (SIGXCPU).
export ASAN_OPTIONS=malloc_context_size=0:quarantine_size_mb=1:thread_local_quarantine_size_kb=64:max_malloc_fill_size=0
export FUZZ_TOP=$top FUZZ_WORK=/in-memory FUZZ_TARGET UBSAN_OPTIONS=print_stacktrace=1
for FUZZ_TARGET in ${FUZZ_TARGETS:-weights config tokenizer spm request template journal record regex schema}; do
    settings "$FUZZ_TARGET"
    mkdir "$work/$FUZZ_TARGET"
    cp "$top/tests/fuzz/seeds/$FUZZ_TARGET"/* "$work/$FUZZ_TARGET/"
    dict=
    [ -s "$work/words" ] && dict=-dict=$work/words
    rc=0
    TIMEFORMAT='%U s user, %S s system'
    # shellcheck disable=SC2016,SC2086
    { time bash -c 'ulimit -S -t "$0" && exec "$@"' "${FUZZ_SECONDS:-3600}" "$work/fuzz" -runs="${FUZZ_RUNS:-10000000}" -max_len=$max \
        $dict -timeout=20 -rss_limit_mb=4096 -artifact_prefix="$PWD/fuzz-$FUZZ_TARGET-" "$work/$FUZZ_TARGET" >"$work/log" 2>&1; } \
        2>"$work/time" || rc=$?
    if [ $rc -ne 0 ] && [ $rc -ne 152 ]; then # 128 + SIGXCPU
        tail -n 60 "$work/log"
        echo "$FUZZ_TARGET: a finding"
        exit 1
    fi
    echo "$FUZZ_TARGET: $(grep -E '^#[0-9]' "$work/log" | tail -n 1) in $(tail -n 1 "$work/time")"
done
