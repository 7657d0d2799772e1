#!/bin/bash
# Every option is in the man page and in the completion. The list comes from the option table's own rows.
set -u
man=$top_builddir/moebatch.1
completion=$top_builddir/src/conf/completion/moebatch
table=$top_srcdir/src/conf/table.c
bad=0
n=0
for name in $(sed -n 's/^ *{\(STRING(\|INT(\|SIZE(\|REAL(\|SWITCH(\|\.name = \)"\([a-z0-9-]*\)".*/\2/p' "$table"); do
    n=$((n + 1))
    grep -q -- "^\.B .*\\\\-\\\\-$(printf %s "$name" | sed 's/-/\\\\-/g')\\b" "$man" || { echo "man page: --$name is missing"; bad=1; }
    env=MOEBATCH_$(printf %s "$name" | tr 'a-z-' 'A-Z_')
    grep -q "^$env[,.]" "$man" || { echo "man page: $env is missing"; bad=1; }
    grep -q -e "--$name " "$completion" || { echo "completion: --$name is missing"; bad=1; }
done
[ "$n" -gt 40 ] || { echo "only $n options were found in $table"; bad=1; }
# every key of a request: in the man page, and in README
k=0
for name in $(sed -n 's/^ *\[MB_KEY_[A-Z_]*\] = {"\([a-z_]*\)".*/\1/p' "$top_srcdir/src/conf/request_keys.c"); do
    k=$((k + 1))
    grep -qx "\.B $name" "$man" || { echo "man page: the key $name is missing"; bad=1; }
done
[ "$k" -gt 40 ] || { echo "only $k request keys were found"; bad=1; }
for name in temperature top_p min_p top_k max_tokens seed n stop logit_bias logprobs prompt_logprobs echo bad_words tools; do
    grep -qw -- "$name" "$top_srcdir/README" || { echo "README: the key $name is missing"; bad=1; }
done
for s in NAME SYNOPSIS COMMANDS OPTIONS INPUTS "REQUEST KEYS" RESULTS "EXIT STATUS" ENVIRONMENT EXAMPLES; do
    grep -qx "\.SH $s" "$man" || { echo "man page: section $s is missing"; bad=1; }
done
if command -v man >/dev/null && command -v groff >/dev/null; then
    w=$(groff -man -Tutf8 -ww -z "$man" 2>&1)
    [ -z "$w" ] || { echo "$w"; bad=1; }
fi
bash -n "$completion" || bad=1
# what a user sees after TAB
complete_words() {
    bash -c '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }; _moebatch; printf "%s\n" "${COMPREPLY[@]}"' "$completion" "$@"
}
[ "$(complete_words moebatch insp)" = inspect ] || { echo "completion of a command"; bad=1; }
[ "$(complete_words moebatch run --save-lim)" = --save-limit ] || { echo "completion of an option"; bad=1; }
[ "$(complete_words moebatch run --alltoall hi)" = hier ] || { echo "completion of a choice"; bad=1; }
# README names no option that does not exist: of moebatch, configure or what else it calls
others=" help version enable-sanitize enable-faults with-cuda export signal cpus-per-task bind-to mca owner--name "
for name in $(grep -o -- '--[a-z][a-z0-9-]*' "$top_srcdir/README" | sed 's/^--//; s/-*$//' | sort -u); do
    [[ $others == *" $name "* ]] && continue
    grep -Eq "^ *\{((STRING|INT|SIZE|REAL|SWITCH)\(|\.name = )\"$name\"" "$table" || { echo "README: --$name is no option"; bad=1; }
done
exit $bad
