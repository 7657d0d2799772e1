# A network that is cut (namespaces of this machine, joined by TCP).
load hosts.bash

setup() { hosts_or_skip 2; }
teardown() { hosts_end; }

# In Open MPI 5 the daemons have other switches.
@test "a host that is cut off: ranks and mpirun end soon, and a resume gives the results" {
    [[ $(mpirun --version | head -n 1) == *" 4."* ]] || skip "mpirun of Open MPI 4"
    for i in $(seq 160); do echo "{\"id\":\"r$i\",\"prompt\":\"Package $i is\",\"max_tokens\":30,\"seed\":$i}"; done >"$work/in.jsonl"
    go() { on_hosts "$1" 1 "$work/moebatch" run -m inputs/models/demo -i in.jsonl -o "$2" "${@:3}"; }
    export OMPI_MCA_oob_tcp_keepalive_time=2 OMPI_MCA_oob_tcp_keepalive_intvl=1 OMPI_MCA_oob_tcp_keepalive_probes=2
    go 2 c.h5 --deadline 5 --sync-interval 0.1 --overwrite --isa portable --max-num-seqs 4 >"$work/log" 2>&1 &
    job=$!
    for k in $(seq 300); do
        ! grep -q '"acknowledged": *[1-9]' "$work/c.h5.d/status.json" 2>/dev/null || break
        sleep 0.1
    done
    "$work/hosts.sh" cut 1
    code=0
    wait $job || code=$?
    [ $code -ne 0 ] # and that it came before the limit of this test
    "$work/hosts.sh" heal 1
    unset OMPI_MCA_oob_tcp_keepalive_time
    go 1 c.h5 --resume --takeover
    go 1 d.h5
    [ "$("$MOEBATCH" inspect "$work/c.h5" --digest | tail -n 1)" = "$("$MOEBATCH" inspect "$work/d.h5" --digest | tail -n 1)" ]
}
