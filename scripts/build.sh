#!/bin/sh
# build.sh: configures (once) and builds in build/ below the top of the tree. For quickstart.sh and run-tests.sh.
set -eu
cd "$(dirname "$0")/.."
if [ ! -x configure ] || [ configure.ac -nt configure ] || [ Makefile.am -nt Makefile.in ]; then
    autoreconf -i >build.log 2>&1 || { cat build.log; exit 1; }
    rm -f build.log
fi
mkdir -p build
cd build
if [ ! -f config.status ] || [ ../configure -nt config.status ]; then
    ../configure -q || exit 1
fi
exec make -s -j"$(nproc 2>/dev/null || echo 1)" "$@"
