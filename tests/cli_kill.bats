# A sample of the kill and stop campaigns (tests/long_kill.sh has the whole).
load common.bash

@test "killed with kill -9, resumed on other rank counts" {
    COPIES=1 "$PYTHON3" "$top/tests/kill.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$demo" "$top/inputs/prompts.jsonl" "$work/k" 2 7
}

@test "stopped by SIGUSR1 to mpirun and SIGTERM to the ranks" {
    COPIES=1 "$PYTHON3" "$top/tests/stop.py" "$MOEBATCH" "$top/tests/mpirun.sh" "$demo" "$top/inputs/prompts.jsonl" "$work/s" 2 7
}
