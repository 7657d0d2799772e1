#!/bin/bash
# make install puts module files for its version beside the program, which find it; where Environment Modules are installed, one is loaded.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
make -s -C "$top_builddir" install-data-local DESTDIR="$work" MAKEFLAGS= prefix=/opt/mb 2>&1
dir=$work/opt/mb/share/modulefiles
version=$(ls "$dir/moebatch" | grep -v lua)
[ "$(ls "$dir/moebatch" | wc -l)" = 2 ] && [ -f "$dir/moebatch/$version.lua" ]
if grep -n '@' "$dir/moebatch/$version" "$dir/moebatch/$version.lua"; then exit 1; fi
grep -q '^prepend_path("PATH", "/opt/mb/bin")$' "$dir/moebatch/$version.lua"
grep -q '^prepend_path("MANPATH", "/opt/mb/share/man")$' "$dir/moebatch/$version.lua"
grep -q '^prepend-path PATH /opt/mb/bin$' "$dir/moebatch/$version"
if command -v luac >/dev/null; then luac -p "$dir/moebatch/$version.lua"; fi
if command -v modulecmd >/dev/null; then
    out=$(MODULEPATH=$dir modulecmd sh load moebatch)
    path=$(unset LD_PRELOAD; eval "$out" >/dev/null 2>&1; echo "$PATH:$MANPATH")
    [[ :$path == *:/opt/mb/bin:* && :$path: == *:/opt/mb/share/man:* ]] || { echo "not loaded: $out"; exit 1; }
    echo "loaded by $(modulecmd sh --version 2>&1 | head -n 1)"
else
    echo "Environment Modules are not installed: their file was read, not loaded"
fi
