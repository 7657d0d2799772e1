# A sample of the campaign of power losses (tests/long_power.sh has the whole).
load common.bash

@test "files cut anywhere behind their last fsync, bulk data too: resumed in other layouts, the same digest" {
    no_sanitizers
    ${CC:-cc} -O1 -shared -fPIC -o "$work/sync_log.so" "$top/tests/sync_log.c" -ldl
    REQUESTS=40 "$PYTHON3" "$top/tests/power.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$models/mixtral_a" "$work/sync_log.so" "$work/p" 4 7
}
