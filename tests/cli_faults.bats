# One failure on one rank: a sample of tests/long_faults.sh.
load common.bash

@test "60 operations that fail on one of 4 ranks, each once" {
    TMPDIR=$work bash "$top/tests/long_faults.sh" 60 75
}
