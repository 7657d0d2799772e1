# Several hosts (namespaces of this machine, joined by TCP): the digest of one host, and what crosses between hosts is what
# the formulas say.
load hosts.bash

setup() { hosts_or_skip 3; }
teardown() { hosts_end; }

# job HOSTS EACH OPTION...: the demo job; its digest must be the constant of cli_layouts. Sets traffic.
job() {
    local n=$1 each=$2
    shift 2
    on_hosts "$n" "$each" "$work/moebatch" run -m inputs/models/demo -i inputs/prompts.jsonl -o r.h5 --overwrite --dtype bf16 \
        --save-routing --keep --a2a-eager 1G "$@"
    traffic=$("$PYTHON3" "$top_srcdir/tests/traffic.py" "$work/r.h5" 256)
    echo "$n hosts x $each, $*: $traffic"
    on_hosts "$n" "$each" "$work/moebatch" run -m inputs/models/demo -i inputs/prompts.jsonl -o d.h5 --overwrite --dtype bf16 "$@"
    [ "$("$MOEBATCH" inspect "$work/d.h5" --digest | tail -n 1)" = 09d0bc6620c6eae81ab38a986bdbb238 ]
}

@test "2 hosts of 2 ranks: formulas hold, hier sends no more than flat" {
    job 2 2 --alltoall flat
    read -r _ flat_d flat_c flat_m <<<"$traffic"
    job 2 2 --alltoall hier
    read -r _ d c m <<<"$traffic"
    [ "$d" -le "$flat_d" ] && [ "$c" -le "$flat_c" ] && [ "$m" -lt "$flat_m" ]
}

@test "3 hosts of 2 ranks, scattered experts, flat" {
    job 3 2 --alltoall flat --placement scattered
}

@test "3 hosts of 2 ranks, scattered experts, hier" {
    job 3 2 --alltoall hier --placement scattered
}

@test "3 hosts of 1 rank, hier" {
    job 3 1 --alltoall hier --max-num-seqs 1
}
