#!/bin/sh
# driver.sh TEST [ARG...]: runs one test with its own time limit. A test takes at most 60 s on idle cores; the limit (120 s,
# TEST_LIMIT to change) leaves room for a busy machine. How it is run says its name:
# mpiN_* under tests/mpirun.sh on N ranks, *.bats under bats, the rest as it is.
# leaks of libraries, in builds with sanitizers
: "${LSAN_OPTIONS:=suppressions=$top_srcdir/tests/lsan.supp:print_suppressions=0}"
export LSAN_OPTIONS
# hwloc's plugin for PCI reads pci.ids, and is unloaded with it: a leak without names. No test looks at this machine's devices
: "${HWLOC_COMPONENTS:=-pci}"
export HWLOC_COMPONENTS
# scratch of its own: Open MPI keeps one directory for all jobs of a user below it, and one job may remove what another has just made
TMPDIR=$(mktemp -d) || exit 99
export TMPDIR
t=$1
shift
base=$(basename "$t")
case $base in
mpi[0-9]*_*)
    n=${base#mpi}
    n=${n%%_*}
    set -- sh "$top_srcdir/tests/mpirun.sh" "$n" "$t" "$@"
    ;;
*.bats)
    [ "$BATS" != no ] || { echo "bats is not installed"; exit 77; }
    set -- "$BATS" "$t" "$@"
    ;;
*.sh) set -- bash "$t" "$@" ;;
*) set -- "$t" "$@" ;;
esac
timeout -k 5 "${TEST_LIMIT:-120}" "$@"
status=$?
rm -rf "$TMPDIR"
exit $status
