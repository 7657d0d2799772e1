# For tests on several hosts (namespaces of this machine): hosts_need, hosts_up, on_hosts, hosts_down. Every run has a
# directory of its own in /var/tmp, because /tmp is private to a host; what the hosts run and read must lie there.

# Prints why hosts cannot be had here; nothing if they can.
hosts_need() {
    local tool
    [ "$(id -u)" = 0 ] || { echo "needs root, for namespaces"; return; }
    for tool in ip nsenter unshare mpirun "$@"; do
        command -v "$tool" >/dev/null || { echo "needs $tool"; return; }
    done
}

# hosts_up N: node0 .. node(N-1) with their directory in $work. Fails where namespaces are not allowed.
hosts_up() {
    work=$(mktemp -d /var/tmp/moebatch-hosts.XXXXXX)
    net=10.$((80 + RANDOM % 40)).$((RANDOM % 250))
    export MINIHOSTS_DIR=$work/hosts MINIHOSTS_SUBNET=$net
    cp "$top_srcdir"/tests/testbed/*.sh "$work"
    cp "${MOEBATCH:-$top_builddir/moebatch}" "$work/moebatch"
    cp -r "$top_srcdir/inputs" "$work/inputs"
    printf '#!/bin/bash\nexport MINIHOSTS_DIR=%s MINIHOSTS_SUBNET=%s\nexec bash %s/minihosts.sh "$@"\n' \
        "$MINIHOSTS_DIR" "$net" "$work" >"$work/hosts.sh"
    printf '#!/bin/bash\nexec bash %s/hosts.sh agent "$@"\n' "$work" >"$work/agent"
    chmod +x "$work/agent" "$work/hosts.sh"
    "$work/hosts.sh" up "$1"
}

hosts_down() {
    "$work/hosts.sh" down || true
    rm -rf "$work"
}

# For setup: N hosts, or the test is skipped
hosts_or_skip() {
    local why
    why=$(hosts_need)
    [ -z "$why" ] || skip "$why"
    hosts_up "$1" || skip "no network namespaces here"
}

# For teardown
hosts_end() {
    [ -z "${work:-}" ] || hosts_down
}

# The switches that start ranks on the hosts, in mca
hosts_mca() {
    case $(mpirun --version | head -n 1) in
    *" 4."*) mca=(--mca plm rsh --mca plm_rsh_agent "$work/agent" --mca oob_tcp_if_include "$net.0/24" --mca pml ob1
        --mca btl self,vader,tcp --mca btl_vader_single_copy_mechanism none) ;;
    *) mca=(--prtemca plm ssh --prtemca plm_ssh_agent "$work/agent" --prtemca oob_tcp_if_include "$net.0/24"
        --mca pml ob1 --mca btl self,sm,tcp) ;;
    esac
    mca+=(--mca btl_tcp_if_include "$net.0/24" --mca mpi_yield_when_idle 1)
}

# on_hosts HOSTS EACH PROGRAM ARG...: EACH ranks on each of node0 .. node(HOSTS-1), in $work
on_hosts() {
    local n=$1 each=$2 list="" i mca
    shift 2
    for ((i = 0; i < n; i++)); do
        list+=${list:+,}node$i:$each
    done
    hosts_mca
    "$work/hosts.sh" exec head env -C "$work" OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 \
        PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_WAIT_POLICY=passive \
        mpirun -H "$list" -n $((n * each)) --map-by slot --bind-to none --oversubscribe "${mca[@]}" "$@"
}
