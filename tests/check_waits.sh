#!/bin/bash
# Waiting and collective MPI calls are in the functions meant for them, and nowhere else: whoever adds one sees this test fail and
# asks first whether the function that is there will do. The lists below are "file:function", one for each kind of call.
set -u
cd "$top_srcdir/src" || exit 1
bad=0

# function file line of every call of one of the names (a pattern), comments and strings left out
calls() { # pattern
    find . -name '*.c' | sort | xargs awk -v want="$1" '
        FNR == 1 { fn = "?"; comment = 0 }
        {
            line = $0
            if (comment) { if (!sub(/^.*\*\//, "", line)) next; comment = 0 }
            gsub(/"([^"\\]|\\.)*"/, "", line)
            gsub(/\/\*[^*]*\*+([^\/*][^*]*\*+)*\//, "", line)
            if (sub(/\/\*.*$/, "", line)) comment = 1
        }
        line ~ /^[A-Za-z_].*\(/ && line !~ /;[ \t]*$/ {
            name = line; sub(/\(.*$/, "", name); sub(/^.*[ *]/, "", name); fn = name
        }
        line ~ "(^|[^A-Za-z0-9_])(" want ")[ ]*\\(" && line !~ /^[A-Za-z_]/ {
            f = FILENAME; sub(/^\.\//, "", f); print f ":" fn
        }' | sort -u
}

allow() { # what, pattern, allowed places
    local what=$1 pattern=$2 have want
    shift 2
    have=$(calls "$pattern")
    want=$(printf '%s\n' "$@" | sort -u)
    have=$(comm -23 <(echo "$have") <(echo "$want"))
    [ -z "$have" ] && return
    bad=1
    echo "$what ($pattern) outside the functions meant for it; a new one belongs into the list of $0:"
    sed 's/^/    /' <<<"$have"
}

allow "waiting for time, threads or the kernel" "nanosleep|usleep|sleep|sched_yield|poll|ppoll|select|epoll_wait|pause|sem_wait|pthread_cond_wait|pthread_cond_timedwait|waitpid|sigwait|syscall" \
    app/apart.c:mb_app_apart \
    app/main.c:parse \
    app/quantize_text.c:wait_for \
    base/fault.c:mb_fault \
    base/publish.c:mb_lock_take \
    io/life.c:beat \
    io/orders.c:serve \
    io/orders_ask.c:ask \
    comm/alone.c:watch \
    comm/comm.c:mb_comm_end \
    comm/group.c:mb_comm_meet \
    comm/wait.c:pause_a_little \
    comm/watchdog.c:sleep_step \
    device/cpu_detect.c:amx_permitted \
    device/cpu_team.c:futex_wait \
    device/cpu_team.c:futex_wake \
    engine/run.c:run_steps \
    io/assemble.c:sync_together \
    io/journal.c:sync_thread

allow "waiting for MPI" "MPI_Wait[a-z]*|MPI_Test[a-z]*|MPI_I?[Mm]?[Pp]robe" \
    comm/ctl.c:is_done \
    comm/ctl.c:mb_ctl_progress \
    comm/ctl.c:take_present \
    comm/group.c:all_left \
    comm/group.c:arrived \
    comm/group.c:mb_comm_meet \
    comm/wait.c:all_done \
    comm/xport_mpi.c:cancel \
    comm/xport_mpi.c:test

allow "MPI calls that block" "MPI_Send|MPI_Recv|MPI_Ssend|MPI_Sendrecv|MPI_Bcast|MPI_Barrier|MPI_Reduce|MPI_Allreduce|MPI_Gatherv?|MPI_Allgatherv?|MPI_Scatterv?|MPI_Alltoallv?" \
    comm/plain.c:exchange

allow "MPI collectives" "MPI_Ibcast|MPI_Ibarrier|MPI_Ireduce|MPI_Iallreduce|MPI_Igatherv?|MPI_Iallgatherv?|MPI_Ialltoallv?|MPI_Comm_dup|MPI_Comm_split|MPI_Comm_free|MPI_Finalize|MPI_Init_thread" \
    app/setup.c:mb_app_end \
    app/setup.c:mpi_up \
    comm/coll.c:gather_once \
    comm/coll.c:mb_comm_barrier \
    comm/coll.c:mb_comm_bcast \
    comm/coll.c:reduce_i64 \
    comm/coll.c:swap_counts \
    comm/comm.c:duplicate \
    comm/comm.c:mb_comm_destroy \
    comm/comm.c:mb_comm_split \
    comm/group.c:mb_comm_meet

allow "the waiting function" "mb_wait_until|mb_wait_all" \
    comm/coll.c:gather_once \
    comm/coll.c:mb_comm_barrier \
    comm/coll.c:mb_comm_bcast \
    comm/coll.c:reduce_i64 \
    comm/coll.c:swap_counts \
    comm/coll.c:swap_piece \
    comm/ctl.c:mb_ctl_flush \
    comm/group.c:mb_comm_posted_flush \
    comm/group.c:mb_comm_swap_some \
    comm/group.c:mb_comm_take \
    comm/wait.c:mb_wait_all \
    comm/xchg.c:mb_xchg_await

allow "collectives of comm" "mb_comm_(bcast|bcast_bytes|allgather|agree|alone|barrier|alltoallv|max_i64|sum_i64|split|same_node|meet|swap|swap_some)" \
    app/run_finish.c:share_signal \
    app/identity.c:mb_app_hash \
    app/identity.c:mb_app_sums \
    app/identity.c:merge \
    app/identity.c:merge_piece \
    app/identity.c:read_rest \
    app/run.c:identify \
    app/run_setup.c:share_files \
    app/bench_a2a.c:add_link \
    app/bench_a2a.c:mb_bench_alltoall \
    app/bench_a2a.c:prepare \
    app/bench_a2a.c:ring \
    app/bench_a2a.c:run_case \
    app/bench_a2a_run.c:algorithm \
    app/bench_a2a_run.c:one_size \
    app/bench_a2a_run.c:plain_size \
    app/bench_a2a_run.c:plain_swap \
    app/bench_a2a_run.c:report \
    app/bench_a2a_run.c:sample \
    app/bench_a2a_run.c:warm_up \
    app/verify.c:gather \
    app/verify.c:verify \
    app/bench_nodes.c:mb_bench_nodes \
    app/bench_nodes.c:measure_links \
    app/bench_nodes.c:measure_nodes \
    app/bench_nodes.c:one_round \
    app/bench_nodes.c:prepare \
    app/bench_calibrate.c:mb_bench_calibrate \
    app/bench_calibrate.c:measure_products \
    app/bench_calibrate.c:measure_rows \
    app/bench_calibrate.c:prepare \
    app/bench_calibrate.c:put \
    app/bench_calibrate.c:ring \
    app/setup.c:job_speeds \
    app/bench_load.c:gather \
    app/bench_load.c:gather_times \
    app/bench_load.c:bench \
    app/bench_load.c:mb_load_prepare \
    app/bench_load.c:measure_limits \
    app/bench_load.c:measure_memory \
    app/bench_load.c:prepare_first \
    app/bench_load.c:run \
    app/bench_load_other.c:mb_load_check_other \
    app/bench_work.c:mb_bench_work_create \
    app/adapters.c:mb_app_adapters \
    app/adapters.c:share \
    app/auto.c:mb_app_auto \
    app/run.c:job \
    app/run.c:make_engine \
    app/run.c:mb_run \
    app/run_extras.c:layer_rows \
    app/run_extras.c:mb_job_last_counts \
    app/run_extras.c:mb_job_gather \
    app/run_extras.c:sum_on_demand \
    app/run_finish.c:assemble \
    app/run_finish.c:last_ticks \
    app/run_finish.c:mb_job_finish \
    app/run_setup.c:mb_job_open \
    app/setup.c:mb_app_device \
    app/setup.c:mb_app_plan \
    app/setup.c:plan_job \
    app/setup.c:share_model \
    app/setup.c:mb_app_topology \
    app/stage.c:mb_app_stage \
    app/usage.c:mb_app_usage \
    comm/alone.c:mb_comm_alone \
    comm/coll.c:gather_pieces \
    comm/coll.c:mb_comm_alltoallv \
    comm/coll.c:mb_comm_bcast_bytes \
    comm/coll.c:swap_counts \
    comm/comm.c:mb_comm_destroy \
    comm/comm.c:mb_comm_split \
    comm/comm.c:share_hosts \
    comm/group.c:mb_comm_swap \
    comm/same_node.c:find \
    comm/same_node.c:mb_comm_same_node \
    comm/same_node.c:one_round \
    comm/shm.c:mb_shm_share \
    comm/xchg_create.c:mb_xchg_create \
    comm/xchg_create.c:same_options \
    comm/xchg_create.c:share_quotas \
    comm/xchg_node.c:mb_node_init \
    engine/engine.c:load \
    engine/engine.c:mb_engine_create \
    engine/experts.c:gather_counts \
    engine/experts.c:gather_tags \
    engine/head.c:collect \
    engine/load.c:read_shared \
    engine/lora.c:load_adapter \
    engine/lora.c:mb_lora_load \
    engine/index_parts.c:swap_lists \
    engine/index_parts.c:tell \
    engine/mtp.c:next_ids \
    engine/run.c:mb_engine_run \
    engine/segments.c:swap_tree_nodes \
    engine/team.c:make_groups \
    engine/team.c:mb_team_create \
    engine/team.c:split \
    engine/tp.c:swap \
    engine/weights.c:mb_weights_load \
    engine/zero.c:mb_zero_step \
    engine/zero_create.c:mb_zero_create \
    engine/zero_move.c:swap \
    io/group.c:mb_group_agree \
    io/group.c:mb_group_allgather \
    io/group.c:mb_group_alone \
    io/group.c:mb_group_alltoallv \
    io/group.c:mb_group_bcast \
    io/group.c:mb_group_max

exit $bad
