# One failure on one rank: 60 numbers of tests/long_faults.sh.
load common.bash

@test "operations that fail on one of 4 ranks, each once" {
    no_sanitizers
    TMPDIR=$work bash "$top/tests/long_faults.sh" 60 40
}
