# Calls that fail: a sample of tests/long_fail.sh.
load common.bash

@test "writes, syncs, renames and directories that fail: no wrong result, none lost, never 0" {
    no_sanitizers
    TMPDIR=$work bash "$top/tests/long_fail.sh" 12
}
