#!/bin/bash
# Instructions of the exchange on integers for each (row, expert) pair, by callgrind, so that no noise of the
# machine matters: a line for each case, and a failure above the limit, which keeps what has been reached.
# Counted are the functions of src/comm without the transports, which move bytes. With "functions" as argument
# also those that need most.
set -eu
command -v valgrind >/dev/null || { echo "skipped: valgrind is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
functions=${1:-}
failed=0
cost() { # LIMIT ALGORITHM MEMBERS PER_NODE EXPERTS K ROWS
    local pairs all each limit=$1
    shift
    pairs=$(valgrind --tool=callgrind --callgrind-out-file="$work/out" --collect-atstart=no \
        --toggle-collect=measured "${top_builddir:-.}/tests/xchg_cost" "$@" 4 2>"$work/log") ||
        { cat "$work/log"; exit 1; }
    callgrind_annotate --auto=no --threshold=100 "$work/out" | grep -E '^ *[0-9,]+ \(.*src/' | grep -v xport >"$work/list"
    all=$(awk '{ gsub(",", "", $1); n += $1 } END { printf "%d", n }' "$work/list")
    each=$((all / pairs))
    echo "$1: $2 members, $3 a node, $5 of $4 experts, $6 rows: $each instructions a pair, the limit is $limit"
    [ $each -le "$limit" ] || failed=1
    [ "$functions" = "" ] ||
        awk -v pairs="$pairs" '{ gsub(",", "", $1); printf "%8.1f %s\n", $1 / pairs, $4 }' "$work/list" | head -n 20
}
cost 340 flat 2 2 8 2 256
cost 210 flat 2 2 64 8 256
cost 420 flat 8 4 8 2 256
cost 310 flat 8 4 64 8 256
cost 310 flat 8 8 64 8 256
cost 450 flat 8 4 64 8 16
cost 370 hier 2 2 8 2 256
cost 220 hier 2 2 64 8 256
cost 790 hier 8 4 8 2 256
cost 480 hier 8 4 64 8 256
cost 410 hier 8 8 64 8 256
cost 600 hier 8 4 64 8 16
exit $failed
