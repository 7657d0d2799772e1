# The bytes the exchange counts are the bytes the network sees: on three hosts (namespaces of one machine), counted bytes
# between nodes against the interfaces' own counters.
setup() {
    [ "$(id -u)" = 0 ] || skip "needs root, for namespaces"
    for tool in ip nsenter unshare mpirun; do
        command -v $tool >/dev/null || skip "needs $tool"
    done
    work=$(mktemp -d /var/tmp/moebatch-bytes.XXXXXX) # /tmp is private to a host
    cp "$top_builddir/tests/xchg_bytes" "$top_srcdir/tests/testbed/minihosts.sh" "$work"
    net=10.79.$((RANDOM % 250))
    export MINIHOSTS_DIR=$work/hosts MINIHOSTS_SUBNET=$net
    printf '#!/bin/bash\nexport MINIHOSTS_DIR=%s MINIHOSTS_SUBNET=%s\nexec bash %s/minihosts.sh agent "$@"\n' \
        "$MINIHOSTS_DIR" "$net" "$work" >"$work/agent"
    chmod +x "$work/agent"
    bash "$work/minihosts.sh" up 3 || { down; skip "no network namespaces here"; }
}

down() {
    bash "$work/minihosts.sh" down || true
    rm -rf "$work"
}

teardown() {
    [ -z "${work:-}" ] || down
}

sent() { # bytes node $1 has sent
    bash "$work/minihosts.sh" exec "$1" grep eth0: /proc/net/dev | awk '{print $10}'
}

on_three_hosts() { # PROGRAM ARG...
    case $(mpirun --version | head -n 1) in
    *" 4."*) mca=(--mca plm rsh --mca plm_rsh_agent "$work/agent" --mca oob_tcp_if_include "$net.0/24"
        --mca btl self,vader,tcp --mca btl_vader_single_copy_mechanism none) ;;
    *) mca=(--prtemca plm ssh --prtemca plm_ssh_agent "$work/agent" --prtemca oob_tcp_if_include "$net.0/24"
        --mca pml ob1 --mca btl self,sm,tcp) ;;
    esac
    bash "$work/minihosts.sh" exec head env -C "$work" \
        OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 \
        PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 50 \
        mpirun -H node0:2,node1:2,node2:2 -n 6 --map-by slot --bind-to none --oversubscribe "${mca[@]}" \
        --mca btl_tcp_if_include "$net.0/24" --mca mpi_yield_when_idle 1 "$@"
}

compare() { # ALGORITHM
    local before=() i counted seen
    for i in 0 1 2; do before[i]=$(sent $i); done
    run on_three_hosts "$work/xchg_bytes" "$1" 60
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
