#!/bin/bash
# The batch scripts under a real Slurm on two hosts (namespaces of this machine): to completion with mpirun and srun, stopped
# by USR1 and requeued, stopped by the time limit, requeueing forbidden, a run that adds nothing, an array of shards merged.
# With names of cases as arguments: only those.
set -u
. "$top_srcdir/tests/hosts.bash"
why=$(hosts_need sbatch srun slurmctld slurmd munged)
[ -z "$why" ] || { echo "skipped: $why"; exit 77; }
hosts_up 2 || { echo "skipped: no network namespaces here"; hosts_down; exit 77; }
export MINIHOSTS=$work/hosts.sh MINISLURM_DIR=$work/slurm.d
export SLURM_CONF=$MINISLURM_DIR/slurm.conf
slurm() { bash "$work/slurm-on-minihosts.sh" "$@"; }
finish() {
    trap '' INT TERM # a second signal must not leave hosts behind
    slurm stop >/dev/null 2>&1
    hosts_down
}
trap finish EXIT
trap 'exit 1' INT TERM
slurm start 2 || { echo "skipped: Slurm does not start here"; exit 77; }
cp -r "$top_srcdir/slurm" "$work/slurm"
on_head() { "$work/hosts.sh" exec head env -C "$work" "$@"; }

failed=0
fail() {
    echo "FAILED: $*"
    failed=1
    tail -n 40 "$work"/*.out "$MINISLURM_DIR"/log/slurmctld.log
}
export MOEBATCH=$work/moebatch MODEL=$work/inputs/models/demo INPUT=$work/inputs/prompts.jsonl OPTIONS="--dtype bf16"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1 OMP_WAIT_POLICY=passive
export OMPI_MCA_btl_tcp_if_include=$net.0/24 OMPI_MCA_oob_tcp_if_include=$net.0/24 OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader,tcp
export MPIRUN_OPTIONS="--bind-to none --oversubscribe"
demo=09d0bc6620c6eae81ab38a986bdbb238
digest() { "$work/moebatch" inspect "$1" --digest | tail -n 1; }
submit() { on_head sbatch --parsable "$@"; }
state() { on_head scontrol show job "$1" 2>/dev/null | sed -n 's/^ *JobState=\([A-Z]*\).*/\1/p' | head -n 1; }

# Waits until no job is in the queue, $1 seconds at most.
drained() {
    local i
    for ((i = 0; i < $1; i++)); do
        [ -z "$(on_head squeue -h)" ] && return 0
        sleep 1
    done
    on_head squeue
    on_head scancel -u root
    return 1
}
# Waits until $2 is in file $1, $3 seconds at most.
appears() {
    local i
    for ((i = 0; i < $3 * 10; i++)); do
        grep -q -- "$2" "$1" 2>/dev/null && return 0
        sleep .1
    done
    return 1
}
# Waits until the journals of $1 have tokens of begun requests, 60 s at most.
begun() {
    local i
    for ((i = 0; i < 200; i++)); do
        "$work/moebatch" status --json "$1" 2>/dev/null | grep -q '"begun_tokens": *[1-9]' && return 0
        sleep .3
    done
    return 1
}
is() { [ "$(digest "$1")" = "$2" ] || fail "$1: not the digest $2"; }
says() { grep -q -- "$2" "$1" || fail "$1 does not say: $2"; }

# A job that lasts: about 20 s and more on two nodes, and its digest
slow() {
    [ ! -f "$work/slow.h5" ] || { slow=$(digest "$work/slow.h5"); return; }
    "$PYTHON3" - "$work/inputs/prompts.jsonl" "$work/slow.jsonl" <<'PY'
import json, sys
rows = [json.loads(x) for x in open(sys.argv[1])]
with open(sys.argv[2], "w") as f:
    for i in range(6):
        for r in rows:
            f.write(json.dumps(dict(r, id=f"{r['id']}/{i}", seed=i, max_tokens=200)) + "\n")
PY
    on_hosts 2 2 "$work/moebatch" run -m "$MODEL" -i slow.jsonl -o slow.h5 --dtype bf16 --max-num-seqs 16 || fail "the unsplit run"
    slow=$(digest "$work/slow.h5")
}
SLOW="--dtype bf16 --max-num-seqs 16 --sync-interval 0.5"

case_mpirun() {
    export OUTPUT=$work/mpirun.h5 LAUNCH=mpirun
    submit --output=mpirun.out slurm/moebatch.sbatch
    drained 60 || fail "mpirun: not done in 60 s"
    is "$OUTPUT" $demo
    says "$work/mpirun.out" "2 nodes"
}

# The script's own mapping: two ranks a node with a core each, and where a core has two ranks none is bound
case_cores() {
    export OUTPUT=$work/cores.h5 LAUNCH=mpirun
    MPIRUN_OPTIONS="--oversubscribe --report-bindings" submit --output=cores.out slurm/moebatch.sbatch
    drained 60 || fail "cores: not done in 60 s"
    is "$OUTPUT" $demo
    says "$work/cores.out" "--map-by ppr:2:node:PE=1 --bind-to core\|--bind-to none"
}

case_srun() {
    export OUTPUT=$work/srun.h5 LAUNCH=srun
    submit --output=srun.out slurm/moebatch.sbatch
    drained 60 || fail "srun: not done in 60 s"
    is "$OUTPUT" $demo
    says "$work/srun.out" "2 nodes"
}

# stopped LAUNCH: USR1 to the batch shell in the middle of the job; it requeues itself and ends complete
stopped() {
    slow
    export OUTPUT=$work/usr1-$1.h5 LAUNCH=$1 OPTIONS=$SLOW INPUT=$work/slow.jsonl
    local id out=$work/usr1-$1.out
    id=$(submit --output="$out" slurm/moebatch.sbatch)
    begun "$OUTPUT" || fail "$1: the job does not start"
    sleep 1
    on_head scancel --signal=USR1 --batch "$id"
    appears "$out" "requeued as job $id" 60 || fail "$1: not requeued after USR1"
    says "$out" "status 75"
    drained 300 || fail "$1: not done in 300 s"
    is "$OUTPUT" "$slow"
    says "$out" "run 1 of job $id"
}
case_usr1() { (stopped mpirun; exit $failed) || failed=1; }
case_usr1_srun() { (stopped srun; exit $failed) || failed=1; }

# The time limit: Slurm sends USR1 some seconds before it, again and again until the results are complete.
limit() {
    local whole
    slow
    head -n 60 "$work/slow.jsonl" >"$work/limit.jsonl"
    on_hosts 2 2 "$work/moebatch" run -m "$MODEL" -i limit.jsonl -o whole.h5 --dtype bf16 || fail "the unsplit run"
    whole=$(digest "$work/whole.h5")
    export OUTPUT=$work/limit.h5 LAUNCH=mpirun OPTIONS="--dtype bf16 --max-num-seqs 1" INPUT=$work/limit.jsonl
    submit --output=limit.out --time=1 --signal=B:USR1@20 slurm/moebatch.sbatch
    drained 900 || fail "limit: not done in 900 s"
    is "$OUTPUT" "$whole"
    says "$work/limit.out" "asked to stop"
    says "$work/limit.out" "requeued as job"
}
case_limit() { (limit; exit $failed) || failed=1; }

# Where requeueing is forbidden, the script submits itself again.
no_requeue() {
    slow
    export OUTPUT=$work/again.h5 LAUNCH=mpirun OPTIONS=$SLOW INPUT=$work/slow.jsonl NO_REQUEUE=1
    local id
    id=$(submit --output=again.out slurm/moebatch.sbatch)
    begun "$OUTPUT" || fail "again: the job does not start"
    sleep 1
    on_head scancel --signal=USR1 --batch "$id"
    appears "$work/again.out" "requeueing is not allowed here" 60 || fail "again: not submitted again"
    drained 300 || fail "again: not done in 300 s"
    is "$OUTPUT" "$slow"
}
case_again() { (no_requeue; exit $failed) || failed=1; }

# A job that adds nothing to its results must not go round for ever: here every run but the first ends at once with 75.
nothing() {
    slow
    export OUTPUT=$work/nothing.h5 LAUNCH=mpirun OPTIONS="--dtype bf16" INPUT=$work/slow.jsonl
    on_hosts 1 2 "$work/moebatch" run -m "$MODEL" -i slow.jsonl -o nothing.h5 --dtype bf16 --max-hours 0.000001
    printf '#!/bin/bash\n[ "$1" = run ] && { sleep 1; exit 75; }\nexec %s "$@"\n' "$work/moebatch" >"$work/idle.sh"
    chmod +x "$work/idle.sh"
    export MOEBATCH=$work/idle.sh
    submit --output=nothing.out slurm/moebatch.sbatch
    drained 60 || fail "nothing: goes round"
    says "$work/nothing.out" "this run added nothing"
}
case_nothing() { (nothing; exit $failed) || failed=1; }

case_array() {
    export OUTPUT=$work/array.h5 LAUNCH=mpirun
    submit --array=0-3 --output=array-%a.out slurm/array.sbatch
    drained 120 || fail "array: not done in 120 s"
    is "$OUTPUT" $demo
}

[ $# -gt 0 ] || set -- mpirun cores srun array nothing usr1 usr1_srun again limit
for c in "$@"; do
    SECONDS=0
    case_"$c"
    echo "$c: $SECONDS s, failed $failed"
done
exit $failed
