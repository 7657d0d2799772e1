#!/bin/bash
# Instructions of the exchange on integers for each (row, expert) pair, by callgrind, so that no noise of the
# machine matters: a line for each case, and a failure above the limit, which keeps what has been reached. They
# depend on the compiler, so that this is no part of make check.
# Counted are the functions of src/comm without the transports, which move bytes; "moved": the C library's, which
# copies rows of two floats and their integers. Before: what it was when every way through a row looked up its
# ids again (gcc 12.2, as the limits). With "functions" as argument also those that need most.
set -eu
command -v valgrind >/dev/null || { echo "skipped: valgrind is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
functions=${1:-}
failed=0
form="%-9s %7s %6s %12s %5s %7s %6s %6s %6s\n"
# shellcheck disable=SC2059
printf "$form" algorithm members a_node experts rows before now limit moved
cost() { # BEFORE LIMIT ALGORITHM MEMBERS PER_NODE EXPERTS K ROWS
    local pairs all each moved before=$1 limit=$2
    shift 2
    pairs=$(valgrind --tool=callgrind --callgrind-out-file="$work/out" --collect-atstart=no \
        --toggle-collect=measured "${top_builddir:-.}/tests/xchg_cost" "$@" 4 2>"$work/log") ||
        { cat "$work/log"; exit 1; }
    callgrind_annotate --auto=no --threshold=100 "$work/out" | grep -E '^ *[0-9,]+ \(' | sed 's/( */(/' >"$work/all"
    grep 'src/' "$work/all" | grep -v xport >"$work/list"
    all=$(awk '{ gsub(",", "", $1); n += $1 } END { printf "%d", n }' "$work/list")
    moved=$(grep 'libc' "$work/all" | awk -v pairs="$pairs" '{ gsub(",", "", $1); n += $1 } END { printf "%d", n / pairs }')
    each=$((all / pairs))
    # shellcheck disable=SC2059
    printf "$form" "$1" "$2" "$3" "$5 of $4" "$6" "$before" "$each" "$limit" "$moved"
    [ $each -le "$limit" ] || failed=1
    [ "$functions" = "" ] ||
        awk -v pairs="$pairs" '{ gsub(",", "", $1); sub(".*/", "", $3); printf "%8.1f %s\n", $1 / pairs, $3 }' "$work/list" |
        head -n 20
}
cost 323 225 flat 2 2 8 2 256
cost 204 135 flat 2 2 64 8 256
cost 381 270 flat 8 4 8 2 256
cost 299 205 flat 8 4 64 8 256
cost 299 205 flat 8 8 64 8 256
cost 412 320 flat 8 4 64 8 16
cost 341 235 hier 2 2 8 2 256
cost 210 150 hier 2 2 64 8 256
cost 766 440 hier 8 4 8 2 256
cost 462 280 hier 8 4 64 8 256
cost 391 235 hier 8 8 64 8 256
cost 582 400 hier 8 4 64 8 16
exit $failed
