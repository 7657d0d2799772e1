#!/bin/bash
# Holds the rooms against the table of HACKING: who includes whom, who calls MPI, HDF5 and hwloc, and that nothing but the
# logger, the pause points and app has mutable variables at file scope (by the symbols of the built objects).
set -u
bad=0
complain() {
    echo "$*"
    bad=1
}

# what a room may include besides itself
declare -A may=(
    [base]=""
    [conf]="base"
    [job]="base"
    [jinja]="base"
    [text]="base jinja"
    [guide]="base job"
    [topo]="base"
    [device]="base"
    [model]="base conf device/ops.h"
    [plan]="base conf model topo"
    [comm]="base topo plan device"
    [engine]="base job guide model plan device comm"
    [guard]="base job conf plan"
    [io]="base conf job text comm"
)
# A header that a contract header of another room already brings in is no new dependency: device/ops.h for those that see
# model.h, topo/topo.h and base/link.h for those that see comm.h.
also_ok() { # room header
    case "$1 $2" in
    "plan device/ops.h" | "engine topo/topo.h" | "io topo/topo.h") return 0 ;;
    esac
    return 1
}
# libraries and the files that may include them
library_ok() { # header file
    [[ $2 == app/* && $1 != hdf5.h && $1 != H5*.h ]] && return # app reports the versions of libraries
    case $1 in
    hdf5.h | H5*.h) [[ $2 == io/h5.c || $2 == io/h5_own.h || $2 == io/h5_read.c || $2 == io/h5_tree.c ]] ;;
    mpi.h) [[ $2 == comm/* || $2 == app/* || $2 == io/h5.c ]] ;;
    hwloc.h | hwloc/*) [[ $2 == topo/load.h ]] ;;
    yaml.h) [[ $2 == conf/deck.c ]] ;;
    pcre2.h) [[ $2 == text/* ]] ;;
    xxhash.h) [[ $2 == base/hash.c ]] ;;
    *) true ;;
    esac
}

check_include() { # file (room/name) header
    local room=${1%%/*} target=${2%%/*}
    [[ $2 == config.h || $room == app || $target == "$room" ]] && return
    [[ $2 == */* ]] || complain "src/$1 includes \"$2\"; write \"room/file.h\""
    [[ -v may[$room] ]] || { complain "src/$room is no room of the table"; return; }
    for ok in ${may[$room]}; do
        [[ $ok == "$target" || $ok == "$2" ]] && return
    done
    also_ok "$room" "$2" || complain "src/$1 includes \"$2\", which room $room may not: ${may[$room]:-nothing}"
}

cd "$top_srcdir/src" || exit 1
files=0
for file in */*.c */*.h */*/*.c */*/*.h; do
    [ -f "$file" ] || continue
    files=$((files + 1))
    while read -r header; do
        case $header in
        *..*) complain "src/$file includes \"$header\"; write \"room/file.h\"" ;;
        esac
        check_include "$file" "$header"
    done < <(sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$file")
    while read -r header; do
        library_ok "$header" "$file" || complain "src/$file includes <$header>, which another file is for"
    done < <(sed -n 's/^ *# *include *<\([^>]*\)>.*/\1/p' "$file")
    grep -qE '#[a-z ]*\b(HAVE_CUDA|MB_CUDA|__CUDACC__)\b' "$file" && complain "src/$file: no #ifdef for a backend"
done
[ "$files" -gt 30 ] || complain "only $files sources were found below $PWD"
# The room cuda/ beside src: kernels see numeric headers and what is read by every compiler, C files the table of operations.
device_code="base/mb_math.h base/mb_math_inl.h base/numerics.h base/numerics_inl.h base/rng.h device/form_value.h device/kinds.h"
files=0
for file in ../cuda/*.c ../cuda/*.h ../cuda/*.cu; do
    files=$((files + 1))
    while read -r header; do
        case $header in
        cuda/*) continue ;;
        base/* | device/ops.h | device/view.h | device/check.h | device/host.h | device/registry.h) [[ $file == *.cu ]] || continue ;;
        esac
        [[ " $device_code " == *" $header "* ]] || complain "$file includes \"$header\", which it may not"
    done < <(sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$file")
    grep -qE '<<<[^>]' "$file" && complain "$file: kernels are launched by MB_LAUNCH"
    [[ $file == *.cu ]] && grep -nE '\b(__)?(expf|logf|tanhf|erff|powf|rsqrtf|exp|log|pow)\(' "$file" &&
        complain "$file: a function of CUDA's in a row's arithmetic"
done
[ "$files" -gt 10 ] || complain "only $files sources were found in cuda/"
known=$(grep -nE '^ *# *include *["<](cuda/|cuda_runtime)' -r . --include=*.[ch])
[ -z "$known" ] || complain "src includes what is CUDA's: $known"
# An architecture is a row of model/arch.c: no other room has a string with its name, no one looks at mb_model.arch
names=$(grep -oE '\.(model_types|classes) = "[^"]*"' model/arch.c | cut -d'"' -f2 | tr '|' '\n')
[ "$(wc -l <<<"$names")" -ge 24 ] || complain "only these names of architectures were found in model/arch.c:" $names
known=$(grep -nE "\"($(paste -sd'|' <<<"$names"))\"" --include=*.[ch] -r . | grep -v '^\./model/')
[ -z "$known" ] || complain "architectures are named outside src/model: $known"
known=$(grep -nE "(->|\.)arch\b" --include=*.[ch] -r . | grep -v '^\./model/' | grep -E 'cmp|==|!=')
[ -z "$known" ] || complain "an architecture's name is compared outside src/model: $known"
cd - >/dev/null || exit 1

# Symbols of the built objects: which room calls MPI, HDF5 and the functions that end a process. All objects at once: a process for
# each would take a minute on a busy machine.
mapfile -t objects < <(cd "$top_builddir/src" && ls */*.o */*/*.o 2>/dev/null)
out=$(cd "$top_builddir/src" && nm -A -u "${objects[@]}" | sed 's/\.o:  *[UwvV] / /' | awk '
    $2 ~ /^(P?MPIX?_|ompi_)/ && $1 !~ /^(comm|app)\// && $1 != "io/h5" && $1 != "io/h5_tree" { print "src/" $1 " uses " $2 }
    $2 ~ /^_?H5[A-Z]/ && $1 != "io/h5" && $1 != "io/h5_read" && $1 != "io/h5_tree" { print "src/" $1 " uses " $2 }
    # the watchdog ends a process whose main thread hangs in MPI
    $2 ~ /^(_?exit|abort|quick_exit)$/ && $1 !~ /^app\// && $1 != "comm/watchdog" { print "src/" $1 " ends the process by " $2 }')
[ -z "$out" ] || complain "$out"
# Objects in .data, .bss, thread-local or common storage; constants with addresses in them lie in .data.rel.ro.
out=$(cd "$top_builddir/src" && objdump -t "${objects[@]}" | awk '
    / file format / { f = $1; sub(/\.o:$/, "", f) }
    f !~ /^app\// && f != "base/log" && f != "base/fault" && / O / && / (\.data|\.bss|\.tdata|\.tbss|\*COM\*)[. \t]/ &&
        !/\.data\.rel\.ro/ && $NF !~ /^(\.L|__|___asan|__odr|__sancov)/ { print "src/" f " has the mutable variable " $NF }')
[ -z "$out" ] || complain "$out"
[ "${#objects[@]}" -gt 15 ] || complain "only ${#objects[@]} objects were found below $top_builddir/src"
exit $bad
