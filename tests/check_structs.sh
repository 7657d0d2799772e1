#!/bin/bash
# No struct and no room's state grows into one that everything takes (tests/check_structs.py says what is measured).
exec python3 "$top_srcdir/tests/check_structs.py" "$top_srcdir/src"
