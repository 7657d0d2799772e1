# The bytes the exchange counts are the bytes the network sees: on three hosts (namespaces of one machine), counted bytes
# between nodes against the interfaces' own counters.
load hosts.bash

setup() {
    why=$(hosts_need)
    [ -z "$why" ] || skip "$why"
    hosts_up 3 || { hosts_down; skip "no network namespaces here"; }
    cp "$top_builddir/tests/xchg_bytes" "$work"
}

teardown() {
    [ -z "${work:-}" ] || hosts_down
}

sent() { # bytes node $1 has sent
    "$work/hosts.sh" exec "$1" grep eth0: /proc/net/dev | awk '{print $10}'
}

compare() { # ALGORITHM
    local before=() i counted seen
    for i in 0 1 2; do before[i]=$(sent $i); done
    run on_hosts 3 2 "$work/xchg_bytes" "$1" 60
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"total $1 "* ]]
    for i in 0 1 2; do
        counted=$(sed -n "s/^node $i host node$i ranks 2 sent_bytes \([0-9]*\) .*/\1/p" <<<"$output")
        seen=$(($(sent $i) - before[i]))
        echo "node $i: counted $counted, interface $seen"
        [ "$counted" -gt 15000000 ]
        [ $((seen * 100)) -ge $((counted * 100)) ] # headers of TCP and IP come on top
        [ $((seen * 100)) -le $((counted * 105)) ]
    done
}

@test "hier: counted bytes are the interfaces' within 5 %" {
    compare hier
}

@test "flat: counted bytes are the interfaces' within 5 %" {
    compare flat
}
