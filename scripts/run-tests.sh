#!/bin/sh
# run-tests.sh: installs what is missing, builds, runs make check. Always ends with one line
#     N passed, N failed, N skipped
# counted from the tests' results, and with the exit status of what failed first.
cd "$(dirname "$0")/.." || exit 1

summary() {
    status=$?
    trap - EXIT
    passed=0 failed=0 skipped=0
    if [ -d build/tests ]; then
        passed=$(find build/tests -name '*.trs' -exec grep -hc '^:test-result: PASS' {} + | awk '{n += $1} END {print n + 0}')
        failed=$(find build/tests -name '*.trs' -exec grep -hcE '^:test-result: (FAIL|ERROR|XPASS)' {} + | awk '{n += $1} END {print n + 0}')
        skipped=$(find build/tests -name '*.trs' -exec grep -hc '^:test-result: SKIP' {} + | awk '{n += $1} END {print n + 0}')
    fi
    # a build that fails has no test results: that is a failure, too
    [ "$status" = 0 ] || [ "$failed" != 0 ] || failed=1
    echo "$passed passed, $failed failed, $skipped skipped"
    exit "$status"
}
trap summary EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

find build/tests -name '*.trs' -delete 2>/dev/null
sh scripts/install-deps.sh || exit
sh scripts/build.sh || exit
cd build || exit
make -s check VERBOSE=1
status=$?
cd ..
exit $status
