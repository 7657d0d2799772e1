# The planner as a user calls it: tables, refusals, deadlines, the job script; and that what --layout auto chooses runs, with
# the bits of every other layout.
load common.bash

bf16=09d0bc6620c6eae81ab38a986bdbb238
h100="4 nodes x 8 H100-80GB nvlink 8x400Gb"

config() { echo "$top/inputs/configs/$1"; } # a directory without weights will do

# plan MODEL OPTION...: out and err in files, the exit code
plan() {
    local model=$1
    shift
    "$MOEBATCH" plan -m "$(config "$model")" "$@" >"$work/out" 2>"$work/err"
}

# refused CODE TEXT COMMAND...: the exit code, and what the message says
refused() {
    local code=$1 text=$2 got=0
    shift 2
    "$@" || got=$?
    [ $got = "$code" ] || { echo "exit $got"; cat "$work/err"; return 1; }
    grep -qF -- "$text" "$work/err" || { cat "$work/err"; return 1; }
}

# the chosen layout is the fastest of all that fit, by the figures that --json gives
fastest() { # MODEL LINE [ARG...]
    local name=$1 line=$2
    shift 2
    plan "$name" --cluster "$line" --json "$@"
    "$PYTHON3" -c 'import json, sys
p = json.load(open(sys.argv[1])); c = p["chosen"]; t = [l["estimate"]["seconds"] for l in p["layouts"]]
assert t == sorted(t) and len(t) == min(p["fit"], 100) and c["estimate"]["seconds"] == t[0] and c in p["layouts"], t
assert abs(sum(c["estimate"]["shares"].values()) - 1) < 1e-9
assert c["estimate"]["load_seconds"] > 0 and c["estimate"]["assembly_seconds"] > 0
assert c["sizes"]["data_parallel"] * c["sizes"]["pipeline_parallel"] * c["sizes"]["tensor_parallel"] * c["sizes"]["sequence_parallel"] * c["sizes"]["attention_data_parallel"] == p["cluster"]["nodes"] * p["cluster"]["ranks_per_node"]
print(c["options"])' "$work/out" >"$work/options"
}

@test "the fastest layout that fits is chosen, and --json says why" {
    fastest mixtral-8x22b "$h100"
    fastest mixtral-8x7b "2 nodes x 4 A100-40GB nvlink 4x200Gb"
    fastest deepseek-v3 "4 nodes x 8 H100-80GB nvlink 8x400Gb"
    fastest deepseek-v3 "32 nodes x 8 H800-80GB nvlink 8x400Gb" --workload "100000 x 1024+256"
    plan deepseek-v3 --cluster "32 nodes x 8 H800-80GB nvlink 8x400Gb" --workload "100000 x 1024+256"
    grep -qxF -- "chosen    : $(cat "$work/options")" "$work/out"
    refused 1 "--json and --sbatch contradict" plan mixtral-8x22b --cluster "$h100" --json --sbatch
}

@test "what a table for people says" {
    plan mixtral-8x22b --cluster "$h100" --data-parallel-size 4 --expert-parallel-size 8 --tensor-parallel-size 1 --pipeline-parallel-size 1
    grep -q "^chosen *: --data-parallel-size 4 --expert-parallel-size 8$" "$work/out"
    grep -q "experts 33.8, shared 10.7" "$work/out"
    grep -q "^estimates : from data sheets.*no GPU has run" "$work/out"
    grep -q "^time *:.* of loading, .* of assembly" "$work/out"
    [ "$(grep -c "^\* " "$work/out")" = 1 ]
    [ ! -s "$work/err" ]
    plan deepseek-v3 --cluster "4 nodes x 8 H800-80GB nvlink 8x400Gb" --weights wide # as bf16
    grep -q "experts over all .*does not fit: 40.9 experts + 34.5 shared" "$work/out"
    plan deepseek-v3 --cluster "4 nodes x 8 H800-80GB nvlink 8x400Gb" # as it is stored
    [ "$(grep -c "does not fit: 40.9" "$work/out")" = 0 ]
    plan qwen3-235b-a22b --cluster "2 nodes x 8 H100-80GB nvlink 8x400Gb" --expert-parallel-size 16 --tensor-parallel-size 1
    grep -q "experts 28.4, shared 16.1" "$work/out"
}

@test "Grok-1 on 8 H100s is refused, with what would hold it; slices of experts do" {
    refused 2 "16 GPUs (2 nodes) hold it" plan grok-1 --cluster "8 H100-80GB nvlink"
    grep -q "no layout of 8 ranks fits" "$work/err"
    grep -q "77.3 experts + 14.5 shared" "$work/out"
    plan grok-1 --cluster "2 nodes x 8 H100-80GB nvlink 8x400Gb"
    grep -q "^chosen *:.*\(pipeline\|expert-tensor\)-parallel-size 2" "$work/out"
    plan grok-1 --cluster "2 nodes x 8 H100-80GB nvlink 8x400Gb" --pipeline-parallel-size 1
    grep -q "^chosen *:.*--expert-tensor-parallel-size 2" "$work/out"
}

@test "every published configuration is planned or refused in words" {
    for dir in "$top"/inputs/configs/*/; do
        name=$(basename "$dir")
        [ "$name" = llama-3.1-8b ] && continue
        got=0
        plan "$name" --cluster "2 nodes x 8 H200-141GB nvlink 8x400Gb" --workload "1000 x 500+100" || got=$?
        [ $got = 0 ] || [ $got = 2 ] || { echo "$name: $got"; cat "$work/err"; false; }
        [ $got = 2 ] || grep -q "^because *: " "$work/out"
    done
}

# how many of the layouts that --json lists split sequences
split() {
    "$PYTHON3" -c 'import json, sys
print(sum(l["sizes"]["sequence_parallel"] > 1 for l in json.load(open(sys.argv[1]))["layouts"]))' "$work/out"
}

@test "splitting sequences is considered where the context is long, and only there" {
    plan qwen3-235b-a22b --cluster "$h100" --workload "1000 x 30000+500" --json
    [ "$(split)" -gt 0 ]
    plan qwen3-235b-a22b --cluster "$h100" --workload "1000 x 15000+500" --json
    [ "$(split)" = 0 ]
    plan qwen3-235b-a22b --cluster "$h100" --workload "1000 x 30000+500" --sequence-parallel-size 2
    grep -q "^chosen *:.*--sequence-parallel-size 2" "$work/out"
    grep -q "sequences of more than 16384 positions are asked for" "$work/out"
}

@test "sizes that are given stay" {
    plan mixtral-8x22b --cluster "$h100" --tensor-parallel-size 4 --data-parallel-size 2
    grep -q "^chosen *: --data-parallel-size 2 --tensor-parallel-size 4 " "$work/out"
    refused 2 "no layout" plan mixtral-8x22b --cluster "$h100" --data-parallel-size 3
}

@test "lines that are no cluster are refused with what would be right" {
    for line in "8 H1000" "4 nodes 8 H100-80GB 400Gb" "4 nodes x 8 H100-80GB nvlink" "0 nodes x 8 H100-80GB 400Gb" \
        "8 L40S-48GB nvlink" "99999999999 nodes x 8 H100-80GB 400Gb" "x"; do
        refused 1 "4 nodes x 8 H100-80GB nvlink 8x400Gb" plan dbrx --cluster "$line"
    done
    refused 1 "H200-141GB" plan dbrx --cluster "8 H1000"
    refused 2 "hwloc XML" plan dbrx --cluster "$work/none.xml"
    refused 1 "--deadline-hours needs --workload" plan dbrx --cluster "$h100" --deadline-hours 3
    refused 1 "PROMPT+OUTPUT" plan dbrx --cluster "$h100" --workload "12 x 5"
    refused 2 "longer than the model's" plan dbrx --cluster "$h100" --workload "32768+1"
}

@test "a deadline gives a number of nodes, and a longer one fewer" {
    plan mixtral-8x22b --cluster "8 H100-80GB nvlink 8x400Gb" --workload "10000000 x 1000+200" --deadline-hours 12
    few=$(awk '$1 == "*" && NF > 4 { print $2; exit }' "$work/out")
    grep -q "smallest number of nodes for 12 hours" "$work/out"
    plan mixtral-8x22b --cluster "8 H100-80GB nvlink 8x400Gb" --workload "10000000 x 1000+200" --deadline-hours 6
    many=$(awk '$1 == "*" && NF > 4 { print $2; exit }' "$work/out")
    [ "$few" -gt 1 ] && [ "$many" -gt "$few" ]
    refused 1 "network" plan mixtral-8x22b --cluster "8 H100-80GB" --workload "100+10" --deadline-hours 6
}

@test "a file of requests is a workload" {
    "$MOEBATCH" plan -m "$demo" --workload "$top/inputs/prompts.jsonl" >"$work/out"
    grep -q "^workload *: $(grep -c . "$top/inputs/prompts.jsonl") requests of" "$work/out"
    : >"$work/empty"
    refused 2 "no requests" plan dbrx --cluster "$h100" --workload "$work/empty"
}

@test "this machine, and machines from hwloc files" {
    "$MOEBATCH" plan -m "$demo" >"$work/out"
    grep -q "^cluster *: 1 node x " "$work/out"
    grep -q "^chosen *: " "$work/out"
    ranks 1 run -m "$demo" -i "$top/inputs/greedy.jsonl" -o "$work/r.h5" 2>"$work/err"
    "$PYTHON3" -c 'import h5py, sys; sys.stdout.write(h5py.File(sys.argv[1])["provenance/hwloc"].asstr()[()])' "$work/r.h5" >"$work/m.xml"
    "$MOEBATCH" plan -m "$demo" --cluster "4 nodes x $work/m.xml 100Gb" >"$work/out"
    grep -q "^cluster *: 4 nodes x [0-9]* CPU ranks* 1x100Gb" "$work/out"
    "$MOEBATCH" plan -m "$demo" --cluster "$work/m.xml,$work/m.xml 100Gb" >"$work/out"
    grep -q "^cluster *: 2 nodes x [0-9]* CPU ranks* 1x100Gb" "$work/out"
    refused 1 "one for each node" "$MOEBATCH" plan -m "$demo" --cluster "3 nodes x $work/m.xml,$work/m.xml 100Gb" 2>"$work/err"
    echo "<topology>" >"$work/bad.xml"
    refused 2 "hwloc" "$MOEBATCH" plan -m "$demo" --cluster "$work/bad.xml" 2>"$work/err"
}

@test "GPUs, their links and network cards of hwloc files; CPU clusters as a line" {
    data=$top/tests/data/topo
    plan mixtral-8x7b --cluster "2 nodes x $data/gpus.xml"
    grep -q "^cluster *: 2 nodes x 4 A100-80GB nvlink 2x200Gb$" "$work/out"
    plan mixtral-8x7b --cluster "$data/gpus.xml,$data/gpus.xml 8x400Gb"
    grep -q "^cluster *: 2 nodes x 4 A100-80GB nvlink 8x400Gb$" "$work/out"
    plan mixtral-8x7b --cluster "2 nodes x $data/board.xml"
    grep -q "^cluster *: 2 nodes x 2 CPU ranks " "$work/out"
    plan mixtral-8x7b --cluster "$data/unknown.xml"
    grep -q "^cluster *: 1 node x 2 CPU ranks" "$work/out"
    grep -q "warning.*NVIDIA Z9000" "$work/err"
    refused 2 "was written by hwloc 3" plan mixtral-8x7b --cluster "$data/hwloc3.xml"
    plan mixtral-8x7b --cluster "2 nodes x 2 EPYC-9654 768GB 400Gb"
    grep -q "^cluster *: 2 nodes x 2 EPYC-9654s 1x400Gb$" "$work/out"
    grep -q "^a rank *: 384 GiB of memory" "$work/out"
    refused 1 "needs its memory" plan mixtral-8x7b --cluster "2 EPYC-9654"
}

@test "--sbatch prints a job script that names nodes, GPUs and layout, and a shell takes it" {
    plan mixtral-8x22b --cluster "$h100" --sbatch --data-parallel-size 4 --pipeline-parallel-size 1 --tensor-parallel-size 1
    for i in --nodes=4 --ntasks-per-node=8 --gres=gpu:8 --exclusive; do
        grep -qx -- "#SBATCH $i" "$work/out"
    done
    sed -n '/^set -u/,/^PLANNED/p' "$work/out" >"$work/head"
    said=$(env -u MODEL sh -c '. "$1"; echo "$MODEL|$PLANNED"' sh "$work/head")
    [ "$said" = "$top/inputs/configs/mixtral-8x22b|--data-parallel-size 4 --expert-parallel-size 8 --max-num-seqs 256 --max-batch-rows 2304 --gpu-memory-utilization 0.9 --dtype bf16" ]
    bash -n "$work/out"
}

# job OUT RANKS OPTION...
job() {
    local out=$1 n=$2
    shift 2
    ranks "$n" run -m "$demo" -i "$top/inputs/prompts.jsonl" -o "$work/$out" --overwrite --dtype bf16 --layout auto "$@" 2>"$work/err"
}

@test "run --layout auto on 4 ranks: the choice is shown, and the bits are those of every layout" {
    job r.h5 4
    grep -q "^chosen *: expert and data parallelism alone fit" "$work/err"
    [ "$(digest "$work/r.h5")" = $bf16 ]
}

@test "run --layout auto with sizes: they win, those left out are chosen" {
    job r.h5 4 --tensor-parallel-size 2 --expert-parallel-size 4
    grep -q "^layout *:.*(tp 2 x .* ep 4 x " "$work/err"
    [ "$(digest "$work/r.h5")" = $bf16 ]
    job r.h5 3 --pipeline-parallel-size 3
    grep -q "^layout *:.*stages 3 x" "$work/err"
    [ "$(digest "$work/r.h5")" = $bf16 ]
}

@test "run --layout auto with experts on demand" {
    job r.h5 3 --zero-inference 50
    grep -q "^experts *: [0-9.]* % of [0-9]* were there when needed" "$work/err"
    [ "$(digest "$work/r.h5")" = $bf16 ]
}

@test "run --layout auto where no layout can be says why on one line" {
    got=0
    job r.h5 2 --pipeline-parallel-size 2 --tensor-parallel-size 2 || got=$?
    [ $got = 2 ]
    [ "$(grep -c "error:" "$work/err")" = 1 ]
}
