# The whole program with the CUDA backend, on the emulator of CUDA's runtime (tests/cuda_emu): digests are the CPU's, on every layout; a
# GPU without memory and one that fails end the job as documented, and a resumed job has the same results.
load common.bash

program() {
    emu=$PWD/tests/moebatch-cuda-emu
    [ -x "$emu" ] || skip "configure found no C++17 compiler (scripts/install-deps.sh installs g++)"
    cat >"$work/in.jsonl" <<EOF
{"id":"a","prompt_ids":[3,5,7,9,11,13,2,4],"max_tokens":5}
{"id":"b","prompt_ids":[30,50,17],"max_tokens":6}
{"id":"c","prompt_ids":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20],"max_tokens":4,"temperature":0.8,"seed":3}
EOF
}

# run_on BACKEND RANKS OUT MODEL OPTION...
run_on() {
    local backend=$1 n=$2 out=$3 model=$4
    shift 4
    sh "$top/tests/mpirun.sh" "$n" "$emu" run --backend "$backend" -m "$models/$model" -i "$work/in.jsonl" -o "$work/$out" \
        --kv-pages 64 "$@"
}

# same MODEL OPTION...: on the CPU, on a GPU, on two
same() {
    program
    run_on cpu 1 cpu.h5 "$@"
    run_on cuda 1 one.h5 "$@"
    [ "$(digest "$work/one.h5")" = "$(digest "$work/cpu.h5")" ]
    run_on cuda 2 two.h5 "$@"
    [ "$(digest "$work/two.h5")" = "$(digest "$work/cpu.h5")" ]
}

@test "a model with grouped heads, bf16" { same mixtral_a --dtype bf16; }
@test "a model with latent attention, f32" { same deepseekv3_a --dtype f32; }
@test "a model that keeps states, bf16" { same qwen3next_a --dtype bf16; }

@test "a GPU without memory: refused, with what to do" {
    program
    MB_EMU_FAIL=malloc:20 run run_on cuda 1 r.h5 mixtral_a --dtype bf16
    [ "$status" = 71 ]
    [[ $output == *"the GPU has no memory left"* ]]
}

@test "a kernel that fails in the middle: 75, and the rest later" {
    program
    run_on cpu 1 cpu.h5 mixtral_a --dtype bf16
    MB_EMU_FAIL=async:300 run run_on cuda 1 r.h5 mixtral_a --dtype bf16
    [ "$status" = 75 ]
    run_on cuda 1 r.h5 mixtral_a --dtype bf16 --resume
    [ "$(digest "$work/r.h5")" = "$(digest "$work/cpu.h5")" ]
}
