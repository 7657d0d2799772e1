/* The option table. A new option is a row here and a member of struct mb_conf. */
#include "conf/table.h"

#include <ctype.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define C(x) (1u << MB_CMD_##x)
#define JOBS (C(RUN) | C(SCORE))
#define ENGINE (JOBS | C(BENCH) | C(VERIFY)) /* who makes one */
#define PLANNED (ENGINE | C(PLAN))
#define LOADS (MB_BENCH_THROUGHPUT | MB_BENCH_LATENCY)
#define BOTH (LOADS | MB_BENCH_GEMM)
#define MEASURED (BOTH | MB_BENCH_ALLTOALL | MB_BENCH_NODES)
#define JOBS_A2A (LOADS | MB_BENCH_ALLTOALL)
#define ENGINES (LOADS | MB_BENCH_RUN) /* whatever runs a job, by any layout */
#define AT(member) offsetof(struct mb_conf, member)
#define STRING(n, member, def) .name = n, .type = MB_OPT_STRING, .value = def, .at = AT(member)
#define INT(n, member, def, low, high) \
    .name = n, .type = MB_OPT_INT, .value = def, .lo = low, .hi = high, .metavar = "N", .at = AT(member)
#define SIZE(n, member, def) \
    .name = n, .type = MB_OPT_SIZE, .value = def, .lo = 0, .hi = 0x1p62, .metavar = "SIZE", .at = AT(member)
#define REAL(n, member, def, low, high, unit) \
    .name = n, .type = MB_OPT_REAL, .value = def, .lo = low, .hi = high, .metavar = unit, .at = AT(member)
#define SWITCH(n, member) .name = n, .type = MB_OPT_BOOL, .value = "no", .implied = "yes", .at = AT(member)
#define I32MAX 2147483647.0

const struct mb_opt mb_opts[] = {
    /* ---- files */
    {STRING("model", model, ""), .letter = 'm', .metavar = "DIR", .section = MB_SEC_FILES,
     .commands = PLANNED | C(INSPECT) | C(CHECK) | C(TOKENIZE) | C(EXPORT) | C(QUANTIZE),
     .bench = MEASURED,
     .help = "model directory: config.json, *.safetensors and tokenizer files as Hugging Face stores them"},
    {STRING("input", input, ""), .letter = 'i', .metavar = "FILE", .section = MB_SEC_FILES, .commands = JOBS,
     .help = "requests: JSON lines, *.txt with one prompt a line, or *.json (ShareGPT), also packed by gzip or zstd; - is "
             "standard input"},
    {STRING("output", output, ""), .letter = 'o', .metavar = "RESULTS.h5", .section = MB_SEC_FILES,
     .commands = JOBS | C(MERGE) | C(EXPORT) | C(BENCH) | C(QUANTIZE),
     .help = "results file; while the job runs RESULTS.h5.d holds its journal and status. For export: the file of the lines, "
             "packed by gzip if its name ends in .gz; left out, or -: standard output. For bench: gets the JSON, or HDF5 if its name ends in .h5, beside what is printed. For quantize: the "
             "directory to be made"},
    {STRING("config", config, ""), .letter = 'c', .metavar = "DECK.yaml", .section = MB_SEC_FILES, .commands = JOBS,
     .help = "YAML deck: every long option is a key (max_tokens: 64)"},
    {STRING("openai-output", openai_output, ""), .metavar = "FILE", .section = MB_SEC_FILES, .commands = JOBS | C(ASSEMBLE),
     .help = "also write OpenAI batch result lines here"},
    {STRING("adapter", adapter, ""), .metavar = "NAME=DIR,...", .section = MB_SEC_FILES, .commands = JOBS,
     .help = "LoRA adapters (PEFT directories) that requests may name; several are separated by commas"},
    {STRING("stage", stage, ""), .metavar = "DIR", .section = MB_SEC_FILES, .commands = JOBS,
     .help = "copy the weight files a node needs to this node-local directory first"},

    /* ---- layout */
    {STRING("layout", layout, ""), .metavar = "HOW", .choices = "auto", .section = MB_SEC_LAYOUT, .commands = ENGINE,
     .bench = ENGINES,
     .help = "auto: sizes that are not given are chosen by the machine's memory and an estimate of the time, as plan does"},
    {STRING("cluster", cluster, ""), .metavar = "LINE", .section = MB_SEC_LAYOUT, .commands = C(PLAN),
     .help = "machines to plan for: '[N nodes x] M GPU [nvlink|xgmi|pcie] [NETWORK]', as in '4 nodes x 8 H100-80GB nvlink 8x400Gb'; or "
             "hwloc XML files by commas in place of M GPU, one for each node or one for all, with a rank on each NUMA node; left "
             "out: this machine"},
    {STRING("workload", workload, ""), .metavar = "WHAT", .section = MB_SEC_LAYOUT, .commands = C(PLAN) | C(BENCH),
     .bench = LOADS,
     .help = "what is to be done: '[REQUESTS x] PROMPT+OUTPUT' tokens, or a file of requests (four bytes of text count as a "
             "token); left out: 100000 x 1024+256. For bench: '64x128+64', or a file of requests or ShareGPT, whose texts are encoded; left "
             "out: 64x128+64, for latency 8x128+64"},
    {REAL("deadline-hours", deadline_hours, "0", 0, 1e6, "HOURS"), .section = MB_SEC_LAYOUT, .commands = C(PLAN),
     .help = "plan for the smallest number of nodes of this kind that is estimated to do --workload in this time; 0: for the cluster "
             "as it is"},
    {STRING("profile", profile, ""), .metavar = "FILE", .section = MB_SEC_LAYOUT, .commands = PLANNED, .bench = ENGINES,
     .help = "speeds that `bench calibrate --profile-out FILE` measured: plan, --layout auto and --alltoall auto reckon with them in place of "
             "data sheets and guesses"},
    {REAL("price", price, "0", 0, 1e9, "MONEY"), .section = MB_SEC_LAYOUT, .commands = C(PLAN),
     .help = "what an hour of a node costs: the plan says what the workload does; 0: node-hours alone"},
    {STRING("simulate", simulate, ""), .metavar = "ROUTES", .section = MB_SEC_LAYOUT, .commands = C(PLAN),
     .help = "go through a step of the chosen layout, row by row, with the job's own tables and formulas: bytes and messages by link, "
             "balance, time. Rows are routed evenly (uniform), by popularity (zipf:1.2), or as a results file with /routing says"},
    {INT("simulate-rows", simulate_rows, "0", 0, 1048576), .section = MB_SEC_LAYOUT, .commands = C(PLAN),
     .help = "rows of each rank that attends in the step of --simulate; 0: those of a step that generates"},
    {SWITCH("sbatch", sbatch), .section = MB_SEC_LAYOUT, .commands = C(PLAN),
     .help = "print only a job script for the chosen layout, to be given to sbatch"},
    {INT("data-parallel-size", data_parallel_size, "0", 0, I32MAX), .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "independent copies of the model (DP replicas) that share one queue of requests; 0: 1, as for the next three. Not "
             "what vLLM calls so: its data parallel ranks, which share the experts, are --attention-data-parallel-size here"},
    {INT("pipeline-parallel-size", pipeline_parallel_size, "0", 0, I32MAX), .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "stages of a DP replica: each has a range of layers, and several steps are under way at once"},
    {INT("tensor-parallel-size", tensor_parallel_size, "0", 0, I32MAX), .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "ranks that share the heads, dense layers and vocabulary of a stage"},
    {INT("sequence-parallel-size", sequence_parallel_size, "0", 0, 1024), .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "ranks that share each sequence: its KV segments and the rows of its prompt. Of linear attention, whose state goes through "
             "the positions in order, they share the heads, as tensor parallel ranks do"},
    {INT("attention-data-parallel-size", attention_data_parallel_size, "0", 0, I32MAX), .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "independent batches of a stage that share its experts; 0: the ranks of a stage / (tensor * sequence)"},
    {INT("expert-parallel-size", expert_parallel_size, "0", 0, I32MAX), .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "ranks that share the experts of a layer; 0: the ranks of a stage / (expert-tensor * expert-data)"},
    {INT("expert-tensor-parallel-size", expert_tensor_parallel_size, "0", 0, I32MAX), .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "ranks that share each expert, a slice each; 0: 1"},
    {INT("expert-data-parallel-size", expert_data_parallel_size, "0", 0, I32MAX), .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "copies of the experts in a stage; 0: 1, or what --expert-parallel-size leaves"},
    {STRING("expert-scope", expert_scope, "stage"), .metavar = "SCOPE", .choices = "stage|lane", .section = MB_SEC_LAYOUT,
     .commands = PLANNED,
     .bench = ENGINES,
     .help = "stage: a pipeline stage keeps the experts of its layers; lane: all ranks of a DP replica share the experts of all layers"},
    {STRING("disaggregate", disaggregate, ""), .metavar = "A:X", .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "of the ranks of each stage A attend and X hold experts, instead of doing both"},
    {INT("num-experts-per-gpu", num_experts_per_gpu, "0", 0, I32MAX), .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "experts of a layer that a rank holds: an expert-parallel size of experts / N, rounded up; 0: not given"},
    {STRING("placement", placement, "uniform"), .metavar = "HOW", .section = MB_SEC_LAYOUT,
     .commands = PLANNED,
     .bench = ENGINES,
     .help = "which rank holds which expert: uniform (equal ranges), scattered (round robin), usage (equal rows by "
             "--expert-usage), capacity (by the memory of ranks; rows by --expert-usage), or a JSON file {\"owner\": "
             "[[expert-parallel index of each expert, or a list of several] per MoE layer]}, as --placement-out writes it"},
    {STRING("expert-usage", expert_usage, ""), .metavar = "RESULTS.h5,...", .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "results of earlier jobs with this model, or merged ones, which say how often each expert was chosen (by their counts, "
             "else by the routing that was saved); for --placement usage and capacity"},
    {STRING("placement-before", placement_before, ""), .metavar = "FILE", .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "a placement for the same layout, from which --placement usage and capacity move as few experts as they can; its next "
             "revision"},
    {STRING("placement-out", placement_out, ""), .metavar = "FILE", .section = MB_SEC_LAYOUT, .commands = C(PLAN),
     .help = "write the placement of the chosen layout here: for --placement of a job with the same sizes, or --placement-before"},
    {INT("num-redundant-experts", num_redundant_experts, "0", 0, 1048576), .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "copies of experts in each layer beyond one of each: of those chosen most, on ranks of their own, each with a "
             "quota of the rows by usage; for "
             "--placement usage and capacity"},
    {.name = "zero-inference", .type = MB_OPT_INT, .value = "0", .lo = 0, .hi = 100000, .metavar = "PERCENT",
     .at = AT(zero_inference), .section = MB_SEC_LAYOUT, .commands = PLANNED, .bench = ENGINES,
     .help = "experts stay in the files and come when they are needed, from ranks that have them or from the files; a rank keeps "
             "PERCENT of an even share of them (below 100: less memory; above: copies where rows would move more bytes than "
             "the expert); 0: every rank keeps its experts"},
    {INT("min-experts", min_experts, "0", 0, I32MAX), .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = ENGINES,
     .help = "with --zero-inference: experts of each layer that stay on a rank; 0: an even part of what it keeps"},
    {INT("prefetch", prefetch, "0", 0, I32MAX), .section = MB_SEC_LAYOUT, .commands = ENGINE,
     .bench = ENGINES,
     .help = "with --zero-inference: experts of the next layer, the most used, whose file parts are announced to the system while "
             "a layer is computed"},
    {STRING("alltoall", alltoall, "auto"), .metavar = "HOW", .choices = "auto|flat|hier",
     .section = MB_SEC_LAYOUT, .commands = PLANNED,
     .bench = JOBS_A2A | MB_BENCH_RUN,
     .help = "exchange of rows between ranks: flat sends to each rank, hier to each node once; auto takes the one that is "
             "expected to be faster for a full step and a step of one row for each sequence"},
    {STRING("overlap", overlap, "auto"), .metavar = "HOW", .choices = "auto|on|off", .section = MB_SEC_LAYOUT, .commands = ENGINE,
     .bench = ENGINES,
     .help = "compute the experts of a rank's own rows, and the shared one, while rows of others travel: on, off, or auto, where "
             "there are rows enough; results are the same"},
    {INT("threads", threads, "0", 0, 1024), .section = MB_SEC_LAYOUT, .commands = ENGINE,
     .bench = MEASURED | MB_BENCH_RUN | MB_BENCH_CALIBRATE,
     .help = "computing threads of a rank; 0: OMP_NUM_THREADS, and where it is not set the CPUs the rank was given, divided with ranks that "
             "were given the same"},
    {STRING("backend", backend, "auto"), .metavar = "NAME", .choices = "auto|cpu|cuda", .section = MB_SEC_LAYOUT,
     .commands = ENGINE,
     .bench = MEASURED | MB_BENCH_RUN | MB_BENCH_CALIBRATE, .help = "device that computes: cuda, where the program was built with it; auto: a GPU if there is one, else the CPU"},
    {STRING("isa", isa, "auto"), .metavar = "NAME", .choices = "auto|portable|avx2|avx512|avx512bf16|amx",
     .section = MB_SEC_LAYOUT, .commands = ENGINE,
     .bench = MEASURED | MB_BENCH_RUN | MB_BENCH_CALIBRATE,
     .help = "instruction set of the CPU backend; the results have the same bits with each"},

    /* ---- memory */
    {REAL("gpu-memory-utilization", gpu_memory_utilization, "0.9", 0.01, 1, "X"), .section = MB_SEC_MEMORY, .commands = PLANNED,
     .bench = ENGINES,
     .help = "share of a node's free memory that its ranks may use together"},
    {.name = "max-num-seqs", .type = MB_OPT_INT, .value = "0", .lo = 0, .hi = 1048576, .metavar = "N|auto", .word = "auto",
     .at = AT(max_num_seqs), .section = MB_SEC_MEMORY, .commands = PLANNED, .bench = ENGINES,
     .help = "sequences under way at once in an attention group; 0: 64, and for plan 256 on GPUs; auto: as many as the memory holds pages "
             "of 1024 positions for, 1024 at most; not for plan"},
    {INT("max-num-batched-tokens", max_num_batched_tokens, "0", 0, 1048576), .section = MB_SEC_MEMORY, .commands = PLANNED,
     .bench = ENGINES,
     .help = "tokens of one step of an attention group: those of sequences that generate come first, guesses (--speculative) and "
             "prompts share what is left; 0: --max-num-seqs (times 1 + guesses) + 256, and for plan --max-num-seqs + 2048 on GPUs"},
    {INT("max-batch-rows", max_batch_rows, "0", 0, 1048576), .section = MB_SEC_MEMORY, .commands = PLANNED,
     .bench = ENGINES, .help = "another name of --max-num-batched-tokens"},
    {INT("max-model-len", max_model_len, "0", 0, I32MAX), .section = MB_SEC_MEMORY, .commands = PLANNED,
     .bench = ENGINES,
     .help = "longest sequence in tokens, prompt and output together; 0: the model's"},
    {INT("kv-pages", kv_pages, "0", 0, I32MAX), .section = MB_SEC_MEMORY, .commands = ENGINE,
     .bench = ENGINES,
     .help = "KV pages of 64 positions on a rank; 0: what memory allows"},
    {.name = "enable-prefix-caching", .type = MB_OPT_BOOL, .value = "yes", .implied = "yes", .at = AT(prefix_caching),
     .section = MB_SEC_MEMORY, .commands = ENGINE, .bench = ENGINES,
     .help = "compute what requests have in common at their beginnings once; nothing but time changes. Off under --save-routing, "
             "--save-hidden and --save-logits, and for models with a recurrent state"},
    {STRING("speculative", speculative, "off"), .metavar = "HOW", .section = MB_SEC_MEMORY, .commands = PLANNED, .bench = LOADS,
     .help = "guess tokens of a sequence and compute their rows in one step with that of its last one: ngram: what followed its last "
             "tokens where they stand in it already; mtp: what the model's MTP module holds for likeliest; off. With :N (ngram:4, "
             "mtp:1) so many a step, else as many as pay, 4 at most. A guess that is not what is drawn is dropped: results are the same. "
             "Off under --save-logits; not for models with a recurrent state"},
    {SIZE("shm-size", shm_size, "64M"), .section = MB_SEC_MEMORY, .commands = ENGINE,
     .bench = JOBS_A2A | MB_BENCH_RUN,
     .help = "most memory that the ranks of a node share for the exchange; 0: MPI inside nodes too, flat"},
    {SIZE("a2a-eager", a2a_eager, "64K"), .section = MB_SEC_MEMORY, .commands = ENGINE,
     .bench = JOBS_A2A | MB_BENCH_RUN,
     .help = "rows up to this size travel with the header of their message, larger ones in a second message"},

    /* ---- numbers */
    {STRING("dtype", dtype, "auto"), .metavar = "TYPE", .choices = "auto|f32|bf16|int8", .section = MB_SEC_NUMBERS,
     .commands = PLANNED,
     .bench = MEASURED | MB_BENCH_CALIBRATE, .help = "numeric path; auto: f32 for a model stored as f32, else bf16. int8: weights of all matrices as signed bytes with a scale for "
                                "each output and leaf, made at the start, rows quantised as they are read, sums exact; not with --adapter"},
    {STRING("kv-dtype", kv_dtype, "auto"), .metavar = "TYPE", .choices = "auto|int8", .section = MB_SEC_NUMBERS, .commands = PLANNED,
     .bench = LOADS,
     .help = "type of keys and values in pages: auto: that of --dtype (f32, else bf16); int8: signed bytes with a scale for each position and head, "
             "half the memory, part of the numeric path; with --dtype bf16 or int8"},
    {STRING("weights", weights, "auto"), .metavar = "FORM", .choices = "auto|stored|wide", .section = MB_SEC_NUMBERS,
     .commands = PLANNED,
     .bench = MEASURED,
     .help = "how quantised matrices are kept in memory: stored: in the file's bits and scales, of which the kernels make the values "
             "as they read; wide: as values of the path's type, two to four times as large (with one or two rows at a time, faster on AVX2 where a core reads more than "
             "15 GB/s); auto: stored but for int8 and act-order. Results are the same"},
    {INT("k", k, "0", 0, 1024), .section = MB_SEC_NUMBERS, .commands = PLANNED,
     .bench = BOTH,
     .help = "experts per token, in place of the model's; 0: the model's"},
    {INT("kv-segment", kv_segment, "512", 64, 1048576), .section = MB_SEC_NUMBERS, .commands = ENGINE,
     .bench = LOADS,
     .help = "positions whose attention is summed in order before segments are added as a tree; a multiple of 64, part of "
             "the numeric path"},
    {INT("seed", seed, "0", -0x1p63, 0x1p63), .section = MB_SEC_NUMBERS, .commands = ENGINE | C(PLAN),
     .bench = JOBS_A2A,
     .help = "seed of requests that bring none of their own; for bench: of prompts, routes and random weights; for plan: of drawn routes; for verify: of the sample"},

    /* ---- requests */
    {INT("max-tokens", max_tokens, "256", 0, I32MAX), .section = MB_SEC_REQUESTS, .commands = JOBS | C(BENCH),
     .bench = LOADS,
     .help = "tokens to generate where a request does not say"},
    {STRING("generation-config", generation_config, "auto"), .metavar = "auto|none|FILE", .section = MB_SEC_REQUESTS, .commands = JOBS,
     .help = "where temperature, top_p, top_k, min_p and repetition_penalty of requests without them come from; auto: the model's "
             "generation_config.json; none: temperature 1 and nothing cut. The next five go before it"},
    {REAL("temperature", temperature, "-1", -1, 100, "T"), .section = MB_SEC_REQUESTS, .commands = JOBS,
     .help = "temperature of requests that do not say: 0 (the likeliest token) or 1e-05 to 100; -1: not given"},
    {REAL("top-p", top_p, "-1", -1, 1, "P"), .section = MB_SEC_REQUESTS, .commands = JOBS,
     .help = "top_p of requests that do not say; -1: not given"},
    {INT("top-k", top_k, "-1", -1, I32MAX), .section = MB_SEC_REQUESTS, .commands = JOBS,
     .help = "top_k of requests that do not say; 0: all tokens; -1: not given"},
    {REAL("min-p", min_p, "-1", -1, 1, "P"), .section = MB_SEC_REQUESTS, .commands = JOBS,
     .help = "min_p of requests that do not say; -1: not given"},
    {REAL("repetition-penalty", repetition_penalty, "-1", -1, 1000, "X"), .section = MB_SEC_REQUESTS, .commands = JOBS,
     .help = "repetition_penalty of requests that do not say; -1: not given"},
    {STRING("stop", stop, ""), .metavar = "TEXT", .section = MB_SEC_REQUESTS, .commands = JOBS,
     .help = "stop string of requests without the key; several as a JSON list: '[\"\\n\", \"END\"]'"},
    {STRING("add-bos", add_bos, "auto"), .metavar = "WHEN", .choices = "auto|yes|no", .section = MB_SEC_REQUESTS,
     .commands = JOBS, .help = "beginning-of-sequence token before a text; auto: as the tokenizer does"},
    {STRING("truncate", truncate, ""), .metavar = "SIDE", .choices = "left", .section = MB_SEC_REQUESTS, .commands = JOBS,
     .help = "cut contexts and prompts that are too long on this side (a prompt so that max_tokens fit); without it "
             "such a request is an error row"},
    {STRING("now", now, ""), .metavar = "TIME", .section = MB_SEC_REQUESTS, .commands = JOBS,
     .help = "what chat templates take for the time (strftime_now, in UTC): a date, 2026-11-28, or a time as RFC 3339 writes it, "
             "2026-11-28T09:30:00Z; left out: when the job was first started"},
    {SWITCH("strict", strict), .section = MB_SEC_REQUESTS, .commands = JOBS, .help = "exit 3 if there are error rows"},
    {STRING("order", order, "input"), .metavar = "HOW", .choices = "input|prefix|length", .section = MB_SEC_REQUESTS, .commands = JOBS,
     .help = "in which order requests are computed: as they stand, those whose prompts begin alike together (the input is read once "
             "more), or the longest lines first, so that the end of a job is short. Results stay in the order of the input"},
    {STRING("shard", shard, ""), .metavar = "I/N", .section = MB_SEC_REQUESTS, .commands = JOBS,
     .help = "run part I of N of the input only (I from 1); moebatch merge joins the results"},

    /* ---- results */
    {SWITCH("save-routing", save_routing), .section = MB_SEC_RESULTS, .commands = JOBS,
     .help = "store the experts and weights of every row"},
    {STRING("save-logits", save_logits, ""), .metavar = "WHICH", .choices = "all|last", .implied = "all",
     .section = MB_SEC_RESULTS, .commands = JOBS, .help = "store logits of all rows, or of the last row of each request"},
    {SWITCH("save-hidden", save_hidden), .section = MB_SEC_RESULTS, .commands = JOBS,
     .help = "store the residual stream after the embedding and after each layer"},
    {SIZE("save-limit", save_limit, "100G"), .section = MB_SEC_RESULTS, .commands = JOBS,
     .help = "refuse to start if what is to be stored may exceed this"},

    /* ---- the job */
    {SWITCH("resume", resume), .section = MB_SEC_JOB, .commands = JOBS,
     .help = "go on with a job that stopped early (exit 75); the number of ranks may differ"},
    {SWITCH("overwrite", overwrite), .section = MB_SEC_JOB, .commands = JOBS | C(MERGE) | C(EXPORT),
     .help = "replace RESULTS.h5 and its journal; for export: the file of the lines"},
    {SWITCH("takeover", takeover), .section = MB_SEC_JOB, .commands = JOBS,
     .help = "with --resume or --overwrite: go on in the place of a job that still runs, which then stops"},
    {SWITCH("keep", keep), .section = MB_SEC_JOB, .commands = JOBS | C(ASSEMBLE),
     .help = "keep the journals when the results are complete"},
    {REAL("deadline", deadline, "600", 0.1, 1e9, "SECONDS"), .section = MB_SEC_JOB, .commands = ENGINE,
     .bench = JOBS_A2A | MB_BENCH_NODES | MB_BENCH_RUN | MB_BENCH_CALIBRATE,
     .help = "how long a rank waits for another before the job stops with exit 75"},
    {REAL("sync-interval", sync_interval, "10", 0.01, 1e9, "SECONDS"), .section = MB_SEC_JOB, .commands = JOBS,
     .help = "how often the journal is brought to disk (fsync)"},
    {REAL("max-hours", max_hours, "0", 0, 1e6, "HOURS"), .section = MB_SEC_JOB, .commands = JOBS,
     .help = "stop in good order after this time, exit 75; 0: no limit"},

    /* ---- benchmarks */
    {STRING("rows", rows, "1-96,128,256,512,1024,2048"), .metavar = "LIST", .section = MB_SEC_BENCH, .commands = C(BENCH),
     .bench = MB_BENCH_GEMM, .help = "numbers of rows (tokens of a batch), as numbers and ranges"},
    {INT("repeats", repeats, "5", 1, 64), .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = MEASURED | MB_BENCH_RUN | MB_BENCH_CALIBRATE,
     .help = "samples of each measurement; medians are shown"},
    {SIZE("buffer", buffer, "512M"), .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = BOTH | MB_BENCH_NODES | MB_BENCH_RUN,
     .help = "memory that is read to find out how fast that goes, and that weights are spread over so that caches don't hold them"},

    {STRING("random-weights", random_weights, ""), .metavar = "CONFIG", .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = ENGINES,
     .help = "in place of -m: a config.json, or a directory with one, whose weights are drawn from --seed where they are needed; the "
             "same on any layout"},
    {STRING("against", against, ""), .metavar = "MODEL", .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = LOADS,
     .help = "another model, for one a dense one, that then does the same workload on the same ranks, with the same options but those of "
             "experts; its figures follow as against/..., and ratio/... is the first model's by its. With --random-weights: a "
             "config.json, or a directory with one"},
    {STRING("decode-batches", decode_batches, "1,8,32,64"), .metavar = "LIST", .section = MB_SEC_BENCH, .commands = C(BENCH),
     .bench = MB_BENCH_THROUGHPUT,
     .help = "numbers of sequences at which decoding is measured by itself; those beyond the workload's requests are left out"},
    {INT("num-requests", num_requests, "0", 0, 10000000), .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = LOADS,
     .help = "take so many requests of --workload; 0: all"},
    {INT("concurrency", concurrency, "1", 1, 1048576), .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = MB_BENCH_LATENCY,
     .help = "requests under way at once"},

    {STRING("expect-digest", expect_digest, ""), .metavar = "HEX", .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = LOADS,
     .help = "throughput, latency: refuse the result (exit 70) if the digest of its tokens and log-probabilities is another one: speed "
             "counts only where the answers are right"},
    {STRING("profile-out", profile_out, ""), .metavar = "FILE", .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = MB_BENCH_CALIBRATE,
     .help = "calibrate: write what was measured here, for --profile"},
    {STRING("class", bench_class, "demo"), .metavar = "NAME", .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = MB_BENCH_RUN,
     .help = "run: which of the shapes, workloads and digests of the run rule; one that is unknown is answered with the list"},
    {STRING("hidden", hidden, "4096"), .metavar = "LIST", .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = MB_BENCH_ALLTOALL,
     .help = "alltoall: lengths of rows, where there is no -m"},
    {STRING("experts", experts, "64"), .metavar = "LIST", .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = MB_BENCH_ALLTOALL,
     .help = "alltoall: numbers of experts, where there is no -m"},
    {STRING("topk", topk, "8"), .metavar = "LIST", .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = MB_BENCH_ALLTOALL,
     .help = "alltoall: experts per token, where there is no -m"},
    {STRING("tokens", tokens, "1,8,64,512"), .metavar = "LIST", .section = MB_SEC_BENCH, .commands = C(BENCH),
     .bench = MB_BENCH_ALLTOALL, .help = "alltoall: rows that each rank sends"},
    {STRING("routes", routes, "uniform"), .metavar = "uniform|zipf:S", .section = MB_SEC_BENCH, .commands = C(BENCH),
     .bench = MB_BENCH_ALLTOALL, .help = "alltoall: how experts are chosen: all alike, or the i-th as often as 1 / i^S"},

    {REAL("threshold", threshold, "0.05", 0, 100, "X"), .section = MB_SEC_BENCH, .commands = C(BENCH), .bench = MB_BENCH_COMPARE | MB_BENCH_NODES,
     .help = "compare: differences up to this part count as none; nodes: what lies further below the median is named"},

    /* ---- what to show */
    {STRING("format", format, "jsonl"), .metavar = "FORM", .choices = "jsonl|openai|csv|int8|fp8|mxfp4|int4", .section = MB_SEC_SHOW,
     .commands = C(EXPORT) | C(QUANTIZE),
     .help = "export: jsonl, openai or csv; jsonl: an object for each row with all its fields; openai: the lines of --openai-output; csv: a record for each row (RFC "
             "4180), without token ids and log-probabilities of tokens. quantize: int8 (a scale for each row), fp8 (E4M3, a scale for 128 x 128), "
             "mxfp4 (experts only, a power of two for 32 columns) or int4 (--group-size)"},
    {INT("group-size", group_size, "0", 0, 128), .section = MB_SEC_SHOW, .commands = C(QUANTIZE),
     .help = "int4: columns that share a scale, 32, 64 or 128; 0: 128"},
    {STRING("calibration", calibration, ""), .metavar = "FILE", .section = MB_SEC_SHOW, .commands = C(QUANTIZE),
     .help = "requests, as for score: both models compute them, and the divergence of their distributions is printed and kept in the "
             "manifest"},
    {SWITCH("digest", digest), .section = MB_SEC_SHOW, .commands = C(INSPECT),
     .help = "print the digest of the results as the last line: equal results have equal digests"},
    {SWITCH("check", check), .section = MB_SEC_SHOW, .commands = C(INSPECT),
     .help = "read all of the results, and compare with the checksums and digests in them; 2 if anything differs"},
    {SWITCH("in-order", in_order), .section = MB_SEC_SHOW, .commands = C(INSPECT),
     .help = "digest in file order, not by id"},
    {SWITCH("requests", requests), .section = MB_SEC_SHOW, .commands = C(INSPECT),
     .help = "with --digest: one line a request, hash, id and choice"},
    {SWITCH("text", text), .section = MB_SEC_SHOW, .commands = C(INSPECT), .help = "print the generated texts"},
    {SWITCH("errors", errors), .section = MB_SEC_SHOW, .commands = C(INSPECT), .help = "print the error rows alone, with their reasons"},
    {SWITCH("routing", routing), .section = MB_SEC_SHOW, .commands = C(INSPECT), .help = "print how often experts were used"},
    {SWITCH("json", json), .section = MB_SEC_SHOW, .commands = C(QUANTIZE) | C(INSPECT) | C(STATUS) | C(PLAN) | C(BENCH) | C(VERIFY), .help = "print JSON"},
    {REAL("fraction", fraction, "0.05", 1e-9, 1, "X"), .section = MB_SEC_SHOW, .commands = C(VERIFY),
     .help = "part of the rows that is computed again; 1: all"},
    {SWITCH("csv", csv), .section = MB_SEC_SHOW, .commands = C(BENCH), .help = "print CSV (RFC 4180)"},
    {SWITCH("partial", partial), .section = MB_SEC_SHOW, .commands = C(ASSEMBLE),
     .help = "also from a job that has not finished; open requests are marked as pending"},
    {SWITCH("decode", decode), .section = MB_SEC_SHOW, .commands = C(TOKENIZE), .help = "ids to text instead of text to ids"},
    {SWITCH("no-special", no_special), .section = MB_SEC_SHOW, .commands = C(TOKENIZE),
     .help = "add no special tokens; with --decode: leave them out"},
};
const int mb_n_opts = sizeof mb_opts / sizeof *mb_opts;

const struct mb_word mb_bench_words[] = {
    {"gemm", MB_BENCH_GEMM}, {"throughput", MB_BENCH_THROUGHPUT}, {"latency", MB_BENCH_LATENCY},
    {"alltoall", MB_BENCH_ALLTOALL},
    {"compare", MB_BENCH_COMPARE},
    {"nodes", MB_BENCH_NODES},
    {"run", MB_BENCH_RUN},
    {"calibrate", MB_BENCH_CALIBRATE},
};
const int mb_n_bench_words = sizeof mb_bench_words / sizeof *mb_bench_words;

const struct mb_cmd mb_cmds[MB_CMD_COUNT] = {
    [MB_CMD_RUN] = {"run", "-m MODEL -i INPUT -o RESULTS.h5 [OPTION...]", "run requests of every kind",
                    "Runs every request of INPUT and writes one HDF5 file. Each line says what it wants: a continuation, the "
                    "likelihood of one, or that of a whole text. Start it under mpirun or srun to use several ranks; the "
                    "results have the same bits on any number of them.",
                    0, 0},
    [MB_CMD_SCORE] = {"score", "-m MODEL -i INPUT -o RESULTS.h5 [OPTION...]", "like run, but plain lines are scored",
                      "As run, but a line with only a prompt or text is scored (log-likelihood of its tokens) instead of "
                      "continued.",
                      0, 0},
    [MB_CMD_PLAN] = {"plan", "-m MODEL|config.json [--cluster LINE] [--workload WHAT] [OPTION...]", "choose a layout for a cluster",
                     "Shows which layouts of a cluster hold the model, with the memory of a GPU and the estimated speed, which of them "
                     "it would choose and why; sizes that are given stay as they are. Estimates come from data sheets. Needs only the "
                     "model's config.json, and no mpirun.",
                     0, 0},
    [MB_CMD_INSPECT] = {"inspect", "RESULTS.h5 [--digest] [OPTION...] | -m MODEL [--json]", "show results, or a model",
                        "Shows what a results file holds, or what a model directory is: shapes, mechanisms, sizes. Needs no "
                        "mpirun.",
                        0, 1},
    [MB_CMD_STATUS] = {"status", "RESULTS.h5", "how far a job is",
                       "Says whether results are complete (exit 0), can be resumed (exit 75, with the command that does it), "
                       "or are no results (exit 2). Needs no mpirun.",
                       1, 1},
    [MB_CMD_ASSEMBLE] = {"assemble", "RESULTS.h5 [--partial]", "make the results file from the journal",
                         "Builds RESULTS.h5 from the journal of a job that computed every request but was stopped before the "
                         "file was complete. Needs no mpirun.",
                         1, 1},
    [MB_CMD_MERGE] = {"merge", "A.h5 B.h5... -o RESULTS.h5", "join the results of job arrays",
                      "Joins the results of all parts of one input (--shard I/N). The digest is that of the unsplit job.", 1,
                      1 << 20},
    [MB_CMD_COMPARE] = {"compare", "A.h5 B.h5", "where two results differ",
                        "Names the first row and field in which two results files differ, with both values, and counts the rows that do. "
                        "Exit 0: equal, also if only the order of the rows is another; 3: different. Needs no mpirun.",
                        2, 2},
    [MB_CMD_TOKENIZE] = {"tokenize", "-m MODEL [--decode] [--no-special]", "text to token ids and back",
                         "Reads one JSON string a line on standard input and writes one JSON array of ids a line; with "
                         "--decode the reverse. Needs no mpirun.",
                         0, 0},
    [MB_CMD_CHECK] = {"check", "-m MODEL", "check a model directory and the machine",
                      "Checks that a model directory is complete and understood, and what this machine offers: CPUs, memory, "
                      "MPI. Needs no mpirun.",
                      0, 0},
    [MB_CMD_EXPORT] = {"export", "RESULTS.h5 [--format jsonl|openai|csv] [-o FILE[.gz]] [-m MODEL]", "results as lines of text",
                       "Writes the rows of a results file as JSON lines, as OpenAI batch result lines or as CSV. For OpenAI's lines it "
                       "reads the tokenizer of the model that the results name; -m says where that is now. Needs no mpirun.",
                       1, 1},
    [MB_CMD_BENCH] = {"bench", "gemm [-m MODEL|config.json] | nodes [-m MODEL] | throughput | latency -m MODEL|--random-weights CONFIG [--workload WHAT] | run [--class NAME] --random-weights CONFIG | calibrate [--profile-out FILE] | alltoall "
                      "[-m MODEL|config.json] | compare A.json B.json [--json|--csv] [-o FILE] [OPTION...]",
                      "measure machines, kernels, jobs and exchanges",
                      "gemm: how fast this machine's memory can be read and how fast its instructions multiply, and, with a model, how "
                      "near to that its matrix products come at each number of rows. nodes: every node of the job beside the others, links between "
                      "all pairs, and with a model the reading of its weights; exit 3 and the host's name where one lags by more than "
                      "--threshold. throughput: a workload as fast as it goes, its prompts alone, "
                      "and decoding at given numbers of sequences. latency: a few requests at a time. Both run the engine of `run`, under mpirun or "
                      "srun on its ranks, and hold their figures against what the machines' limits allow. run: the same at a fixed shape, seed and "
                      "workload, so that clusters can be compared; the result counts only with the digest that belongs to them. calibrate: what the "
                      "job's ranks reach together at products by rows, reading weights, small operations, and links, as a profile that plan and "
                      "--layout auto reckon with (--profile). alltoall: dispatch and combine of the "
                      "exchange between those ranks, with their bytes and messages, beside MPI_Alltoallv. compare: two results measurement by "
                      "measurement, with the ratio of medians B / A and its interval of 95 % by bootstrap; exit 3 if something got worse by more "
                      "than --threshold, surely (the whole interval), or if the same requests gave another digest.",
                      1, 3},
    [MB_CMD_VERIFY] = {"verify", "RESULTS.h5 -m MODEL [--fraction X] [OPTION...]", "compute rows of results again and compare bits",
                       "Draws rows of a results file (by --seed), computes them again along their stored tokens, on any layout under mpirun or "
                       "srun, and compares log-probabilities, their sums, whether scored rows are greedy, and saved routing, bit for bit. Exit 0: "
                       "all rows are equal; 3: some differ, and the first one is named with the place and both values; 2: the results or the "
                       "model can't be read, or the numeric path is another one.",
                       1, 1},
    [MB_CMD_CTL] = {"ctl", "RESULTS.h5 status|drain|stop", "talk to a running job",
                    "status prints how far a running job is; drain lets it finish what is under way and begin no more (exit 75 if requests are "
                    "left, and --resume goes on); stop ends it at the end of its step (75). Works from any machine that sees RESULTS.h5.d, for the "
                    "job's own user; what was asked is kept in /health/events of the results. Needs no mpirun.",
                    2, 2},
    [MB_CMD_QUANTIZE] = {"quantize", "-m MODEL -o DIR --format int8|fp8|mxfp4|int4 [--group-size N] [--calibration FILE] [--json]",
                         "store a model's weights in fewer bits",
                         "Writes a directory with the weights of a model in a published form that other programs read as well "
                         "(quantization_config of config.json), its tokenizer and other texts, and a manifest (moebatch_quantize.json) with the "
                         "hashes of what it was made from and the error of each matrix and expert. Reads every directory that run reads, some "
                         "rows at a time. Embedding, norms, router and head stay as they are. With --calibration: how far the results of "
                         "the new model are from those of the old one. The directory appears whole or not at all. Needs no mpirun.",
                         0, 0},
    [MB_CMD_HELP] = {"help", "[COMMAND]", "this text, or the options of a command", NULL, 0, 1},
    [MB_CMD_VERSION] = {"version", "", "version and libraries", NULL, 0, 0},
};

const char *mb_section_title(enum mb_opt_section s)
{
    static const char *const titles[MB_SEC_COUNT] = {
        "Files", "Layout", "Memory", "Numbers", "Requests", "What is stored", "The job", "Benchmarks", "What to show",
    };
    return titles[s];
}

const char *mb_command_name(enum mb_command cmd)
{
    return mb_cmds[cmd].name;
}

static char folded(char c)
{
    return c == '-' ? '_' : c;
}

static bool same_key(const char *a, const char *b)
{
    while (*a != '\0' && folded(*a) == folded(*b))
        a++, b++;
    return *a == *b;
}

const struct mb_opt *mb_opt_find(const char *name)
{
    for (int i = 0; i < mb_n_opts; i++)
        if (same_key(mb_opts[i].name, name))
            return &mb_opts[i];
    return NULL;
}

char *mb_opt_key(const struct mb_opt *o, char buf[MB_NAME_CAP])
{
    snprintf(buf, MB_NAME_CAP, "%s", o->name);
    for (char *p = buf; *p != '\0'; p++)
        *p = folded(*p);
    return buf;
}

char *mb_opt_env(const struct mb_opt *o, char buf[MB_NAME_CAP])
{
    snprintf(buf, MB_NAME_CAP, "MOEBATCH_%s", o->name);
    for (char *p = buf; *p != '\0'; p++)
        *p = (char)toupper((unsigned char)folded(*p));
    return buf;
}

/* Edit distance (insert, delete, replace) of two names; names beyond the cap are never near. */
static int distance(const char *a, const char *b)
{
    int row[MB_NAME_CAP + 1], n = (int)strlen(b);

    if (n > MB_NAME_CAP || strlen(a) > MB_NAME_CAP)
        return MB_NAME_CAP;
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 0; a[i] != '\0'; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 1; j <= n; j++) {
            int change = diagonal + (folded(a[i]) != folded(b[j - 1]));
            int best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = change < best ? change : best;
        }
    }
    return row[n];
}

static bool nearer(const char *name, const char *candidate, int *best)
{
    int d = distance(name, candidate);
    if (d >= *best || d > 1 + (int)strlen(candidate) / 4)
        return false;
    *best = d;
    return true;
}

const char *mb_opt_nearest(const char *name)
{
    const char *found = NULL;
    int best = MB_NAME_CAP;
    for (int i = 0; i < mb_n_opts; i++)
        if (nearer(name, mb_opts[i].name, &best))
            found = mb_opts[i].name;
    return found;
}

const char *mb_cmd_nearest(const char *name)
{
    const char *found = NULL;
    int best = MB_NAME_CAP;
    for (int i = 0; i < MB_CMD_COUNT; i++)
        if (nearer(name, mb_cmds[i].name, &best))
            found = mb_cmds[i].name;
    return found;
}

void mb_opt_label(const struct mb_opt *o, char *buf, size_t cap)
{
    const char *value = o->choices ? o->choices : o->metavar;
    int n = o->letter ? snprintf(buf, cap, "-%c, --%s", o->letter, o->name) : snprintf(buf, cap, "    --%s", o->name);

    if (o->type == MB_OPT_BOOL || n < 0 || (size_t)n >= cap)
        return;
    snprintf(buf + n, cap - (size_t)n, o->implied ? "[=%s]" : " %s", value);
}
