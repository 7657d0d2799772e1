#!/bin/bash
# Files take their names, and are brought to disk, in one place: no object but base/publish.o may rename, link or sync, and none but it
# and base/fs.o may remove. By the symbols of the built objects.
set -u
bad=0
seen=0
for o in "$top_builddir"/src/*/*.o "$top_builddir"/src/*/*/*.o; do
    [ -f "$o" ] || continue
    name=${o#"$top_builddir"/src/}
    used=$(nm -u "$o" | awk '{sub(/@.*/, "", $2); print $2}')
    out=$(grep -xE 'rename|renameat2?|link|linkat|symlink|symlinkat|fsync|fdatasync|syncfs|sync|sync_file_range|msync|mk[od]?s?temps?|mkostemps?|tmpfile|tmpnam' <<<"$used")
    gone=$(grep -xE 'unlink|unlinkat|remove|rmdir|truncate(64)?' <<<"$used")
    case $name in
    base/publish.o) seen=$(wc -w <<<"$out") ;;
    *) [ -z "$out" ] || { echo "src/${name%.o}.c uses" $out "- base/publish.h is for that"; bad=1; } ;;
    esac
    case $name in
    base/publish.o | base/fs.o) ;;
    *) [ -z "$gone" ] || { echo "src/${name%.o}.c uses" $gone "- base/fs.h is for that"; bad=1; } ;;
    esac
done
[ "$seen" -ge 6 ] || { echo "base/publish.o was not found, or does nothing ($seen symbols)"; bad=1; }
exit $bad
