# The batch scripts without Slurm: sbatch, scontrol, squeue, srun and mpirun in PATH are stand-ins that write down their arguments.
load common.bash

# stand-ins, and what Slurm tells a job about itself
slurm_setup() {
    program=$MOEBATCH
    mkdir "$work/bin"
    cat >"$work/bin/stand-in" <<'END'
#!/bin/bash
name=${0##*/}
printf '%s\n' "$@" >>"$FAKE/$name.args"
case $name in
scontrol)
    [ "$1" != requeue ] || exit "${FAKE_REQUEUE:-0}"
    [ "$1 $2" != "show job" ] || cat "$FAKE/job"
    [ "$1 $2" != "show node" ] || cat "$FAKE/node"
    ;;
lscpu) for i in 0 1; do for j in 0 1 2 3 4 5 6 7; do echo "$j,$i"; echo "$j,$i"; done; done ;;
nproc) echo "${FAKE_CPUS:-32}" ;;
squeue) for i in ${FAKE_ALIVE:-}; do case " $* " in *" $i "*) echo "$i" ;; esac; done ;;
mpirun | srun)
    env >"$FAKE/$name.env"
    while [ $# -gt 0 ] && [ "$1" != "$MOEBATCH" ]; do shift; done
    exec "$@"
    ;;
esac
exit 0
END
    chmod +x "$work/bin/stand-in"
    for i in sbatch scontrol squeue srun mpirun lscpu nproc; do ln -s stand-in "$work/bin/$i"; done
    # A program that gets a little further with each run, and is stopped
    cat >"$work/bin/stopped" <<'END'
#!/bin/bash
case $1 in
run) echo x >>"$FAKE/runs"; exit 75 ;;
status) [ "$2" != --json ] || echo "{\"committed\": $(cat "$FAKE/runs" 2>/dev/null | wc -l)}"; exit 75 ;;
esac
END
    chmod +x "$work/bin/stopped"
    cat >"$work/node" <<'END'
NodeName=n1 Arch=x86_64 CoresPerSocket=8
   CPUAlloc=32 CPUEfctv=32 CPUTot=32 CPULoad=0.00
   RealMemory=1000 AllocMem=0 FreeMem=1 Sockets=2 Boards=1
END
    cat >"$work/job" <<END
JobId=77 JobName=mine
   UserId=root(0) GroupId=root(0) MCS_label=N/A
   Priority=1 Nice=5 Account=astro QOS=long WCKey=*
   JobState=RUNNING Reason=None Dependency=(null)
   RunTime=00:00:01 TimeLimit=1-02:00:00 TimeMin=N/A
   Partition=cpu AllocNode:Sid=head:1
   ReqNodeList=(null) ExcNodeList=n[3-4]
   NumNodes=2 NumCPUs=64 NumTasks=4 CPUs/Task=8 ReqB:S:C:T=0:0:*:*
   MinCPUsNode=8 MinMemoryNode=64000M MinTmpDiskNode=0
   Features=icelake&ib DelayBoot=00:00:00
   OverSubscribe=NO Contiguous=0 Licenses=matlab:1 Network=(null)
   Command=$top/slurm/moebatch.sbatch
   WorkDir=$work
   Comment=two words
   StdErr=$work/a.err
   StdIn=/dev/null
   StdOut=$work/a.out
   TresPerJob=gres/gpu:8
   TresPerNode=gres/gpu:a100:4
END
    export FAKE=$work PATH=$work/bin:$PATH MODEL=$demo INPUT=$top/inputs/greedy.jsonl OUTPUT=$work/r.h5 OPTIONS="--dtype bf16"
    export SLURM_JOB_ID=77 SLURM_JOB_NAME=mine SLURM_JOB_NUM_NODES=2 SLURM_NTASKS=4 SLURM_NTASKS_PER_NODE=2 SLURM_SUBMIT_DIR=$work \
        SLURM_JOB_NODELIST='n[1-2]' SLURM_JOB_CPUS_PER_NODE='32(x2)' SLURMD_NODENAME=n1
}

has() { # FILE LINE...: each is a line of the file
    local f=$1 i
    shift
    for i in "$@"; do
        grep -qxF -- "$i" "$f" || { echo "no $i in $f:"; cat "$f"; return 1; }
    done
}
hasnt() { ! grep -q -- "$2" "$1"; }
script() { bash "$top/slurm/${1:-moebatch}.sbatch"; }

@test "a whole job with stand-ins: complete, every rank with its part of the cores" {
    slurm_setup
    script >"$work/log"
    grep -q "complete: $OUTPUT" "$work/log"
    [ "$("$program" inspect "$OUTPUT" --digest | tail -n 1)" != "" ]
    # 32 CPUs a node are 16 cores of two threads: 8 for each of two ranks
    has "$work/mpirun.args" -n 4 --map-by ppr:2:node:PE=8 --bind-to core run --resume
    [ ! -e "$work/sbatch.args" ]
}

@test "cores: fewer where asked for, none promised where they cannot be told, the operator's own switches go first" {
    slurm_setup
    export MOEBATCH=$work/bin/stopped
    SLURM_CPUS_PER_TASK=4 script >"$work/log"
    has "$work/mpirun.args" ppr:2:node:PE=2
    rm "$work/mpirun.args"
    SLURM_NTASKS=3 script >"$work/log" # two on one node, one on the other
    has "$work/mpirun.args" --bind-to none
    hasnt "$work/mpirun.args" map-by
    rm "$work/mpirun.args"
    MPIRUN_OPTIONS="--bind-to socket" script >"$work/log"
    has "$work/mpirun.args" --bind-to socket
    hasnt "$work/mpirun.args" ppr
    rm "$work/mpirun.args"
    SLURM_JOB_CPUS_PER_NODE=2,32 script >"$work/log" # a core for two ranks
    has "$work/mpirun.args" --bind-to none
    rm "$work/mpirun.args"
    FAKE_CPUS=2 script >"$work/log" # Slurm's count is not the machine's
    has "$work/mpirun.args" --bind-to none
}

@test "srun gets the CPUs and memory of its ranks" {
    slurm_setup
    export MOEBATCH=$work/bin/stopped LAUNCH=srun
    SLURM_MEM_PER_NODE=64000 script >"$work/log"
    has "$work/srun.args" --mpi=pmix -n 4 --cpus-per-task=16 --mem=64000
    rm "$work/srun.args"
    SLURM_CPUS_PER_TASK=4 SLURM_MEM_PER_CPU=2000 script >"$work/log"
    has "$work/srun.args" --cpus-per-task=4 --mem-per-cpu=2000
    rm "$work/srun.args"
    SRUN_OPTIONS="-c 3 --mem=5" script >"$work/log"
    has "$work/srun.args" -c 3 --mem=5
    hasnt "$work/srun.args" cpus-per-task
}

@test "stopped: requeued by its own number; a task of an array, not the whole array" {
    slurm_setup
    export MOEBATCH=$work/bin/stopped
    script >"$work/log"
    grep -q "requeued as job 77" "$work/log"
    has "$work/scontrol.args" requeue 77
    [ ! -e "$work/sbatch.args" ]
    SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_MAX=3 script >"$work/log"
    has "$work/scontrol.args" 77_3
}

@test "submitted again: with everything that the job was given" {
    slurm_setup
    export MOEBATCH=$work/bin/stopped FAKE_REQUEUE=1 SLURM_CPUS_PER_TASK=8 SLURM_MEM_PER_NODE=64000
    RESUBMIT_OPTIONS="--signal=B:USR1@300" script >"$work/log"
    has "$work/sbatch.args" --export=ALL --job-name=mine --nodes=2 --ntasks-per-node=2 --cpus-per-task=8 --mem=64000M --account=astro \
        --qos=long --partition=cpu --time=1-02:00:00 "--constraint=icelake&ib" --licenses=matlab:1 "--exclude=n[3-4]" --nice=5 \
        "--comment=two words" "--output=$work/a.out" "--error=$work/a.err" "--chdir=$work" --gres=gpu:a100:4 --gpus=8 --exclusive \
        --signal=B:USR1@300 "$top/slurm/moebatch.sbatch"
    hasnt "$work/sbatch.args" "null\|wckey\|reservation\|nodelist\|array"
    [ "$(tail -n 1 "$work/sbatch.args")" = "$top/slurm/moebatch.sbatch" ]
}

@test "submitted again: what was not asked for is not asked for; a script that is gone" {
    slurm_setup
    export MOEBATCH=$work/bin/stopped NO_REQUEUE=1
    cat >"$work/job" <<'END'
JobId=77 JobName=mine
   Nice=0 Account=(null) QOS=normal
   TimeLimit=UNLIMITED
   Partition=cpu
   Features=(null) OverSubscribe=USER Contiguous=0 Licenses=(null) Network=(null)
   Command=/nowhere/job.sbatch
   TresPerTask=cpu=2,gres/gpu=1
END
    script >"$work/log"
    has "$work/sbatch.args" --qos=normal --time=UNLIMITED --exclusive=user --gpus-per-task=1 "$top/slurm/moebatch.sbatch"
    hasnt "$work/sbatch.args" "account\|constraint\|mem\|cpus-per-task\|gres\|licenses\|nice\|null"
}

@test "a run that adds nothing, and errors that a resume cannot mend, end the job" {
    slurm_setup
    export MOEBATCH=$work/bin/idle
    printf '#!/bin/bash\n[ "$1" != run ] || exit ${CODE:-75}\nexit 75\n' >"$MOEBATCH"
    chmod +x "$MOEBATCH"
    run script
    [ "$status" = 75 ]
    [[ $output == *"this run added nothing"* ]]
    for i in 1 2 70 71 73 74 77; do
        CODE=$i run script
        [ "$status" = $i ]
    done
    [ ! -e "$work/sbatch.args" ]
    hasnt "$work/scontrol.args" requeue
}

# an array of two shards; the first one is complete
array_setup() {
    slurm_setup
    export SLURM_ARRAY_JOB_ID=80 SLURM_ARRAY_TASK_MAX=1 SLURM_JOB_NUM_NODES=1 SLURM_NTASKS=1 SLURM_NTASKS_PER_NODE=1
    SLURM_ARRAY_TASK_ID=0 SLURM_JOB_ID=81 script array >"$work/log"
    grep -q "shard 1 is not complete" "$work/log"
    [ ! -e "$OUTPUT" ]
    export SLURM_ARRAY_TASK_ID=1 SLURM_JOB_ID=80
}

@test "an array: shards merged; a killed merger is noticed by the next task, a living one left alone" {
    array_setup
    mkdir "$OUTPUT.merging"
    echo 80_0 >"$OUTPUT.merging/task"
    FAKE_ALIVE=80_0 script array >"$work/log"
    grep -q "task 80_0 merges" "$work/log"
    [ ! -e "$OUTPUT" ]
    script array >"$work/log"
    grep -q "task 80_0 was merging and is gone" "$work/log"
    [ ! -e "$OUTPUT.merging" ]
    whole=$work/whole.h5
    "$program" run -m "$demo" -i "$INPUT" -o "$whole" --dtype bf16 2>"$work/err"
    [ "$(digest "$OUTPUT")" = "$(digest "$whole")" ]
    script array >"$work/log" # a third time: nothing to do
    grep -q "$OUTPUT is complete" "$work/log"
    [ ! -e "$OUTPUT.merging" ]
}

@test "an array's task that cannot be requeued submits the array's script, as the same task of as many shards" {
    slurm_setup
    sed -i "s#Command=.*#Command=$top/slurm/array.sbatch#" "$work/job"
    export SLURM_ARRAY_JOB_ID=80 SLURM_ARRAY_TASK_MAX=3 SLURM_ARRAY_TASK_ID=2 NO_REQUEUE=1 MOEBATCH=$work/bin/stopped
    script array >"$work/log"
    has "$work/sbatch.args" --array=2 "$top/slurm/array.sbatch"
    has "$work/mpirun.args" --shard 3/4 "$work/r.shard-2.h5"
    grep -qx SHARDS=4 "$work/mpirun.env"
}

@test "plan --sbatch: a whole script that runs to completion" {
    slurm_setup
    "$program" plan -m "$demo" --cluster "2 nodes x 2 EPYC-9654 768GB 400Gb" --sbatch >"$work/job.sbatch" 2>"$work/err"
    for i in --nodes=2 --ntasks-per-node=2 --exclusive --mem=0 --requeue --signal=B:USR1@120; do
        has "$work/job.sbatch" "#SBATCH $i"
    done
    hasnt "$work/job.sbatch" "^#SBATCH.*gres"
    unset MODEL
    export OPTIONS="--data-parallel-size 1" # the stand-in starts one rank
    bash "$work/job.sbatch" >"$work/log" || { cat "$work/log"; false; }
    grep -q "complete: $OUTPUT" "$work/log"
    has "$work/mpirun.args" --max-num-seqs "$demo"
}
