#include "io/schema.h"

#include <string.h>

/* A row is a line. */
/* clang-format off */
static const struct mb_dataset table[] = {
    [MB_SET_ID] = {"/requests/id", "id of the request", "", MB_H5_TEXT, 1, {"request"}, .per = MB_PER_REQUEST, .digest = MB_IN_BOTH},
    [MB_SET_LINE] = {"/requests/line", "line of the input, from 0", "1", MB_H5_U64, 1, {"request"}, .per = MB_PER_REQUEST},
    [MB_SET_CHOICE] = {"/requests/choice", "choice of the request, from 0", "1", MB_H5_U32, 1, {"request"}, .per = MB_PER_REQUEST, .digest = MB_IN_BOTH},
    [MB_SET_KIND] = {"/requests/kind", "generation or scoring", "", MB_H5_KIND, 1, {"request"}, .per = MB_PER_REQUEST, .digest = MB_IN_BOTH},
    [MB_SET_STATUS] = {"/requests/status", "whether the row is good", "", MB_H5_STATUS, 1, {"request"}, .per = MB_PER_REQUEST, .digest = MB_IN_BOTH},
    [MB_SET_FINISH] = {"/requests/finish_reason", "why generation ended", "", MB_H5_FINISH, 1, {"request"}, .per = MB_PER_REQUEST, .digest = MB_IN_BOTH},
    [MB_SET_ERROR] = {"/requests/error", "why the row is an error", "", MB_H5_TEXT, 1, {"request"}, .per = MB_PER_REQUEST},
    [MB_SET_LOGPROB_SUM] = {"/requests/logprob_sum", "sum of the log-probabilities of the scored tokens", "nat", MB_H5_F64, 1, {"request"}, .per = MB_PER_REQUEST, .digest = MB_IN_BOTH},
    [MB_SET_GREEDY] = {"/requests/is_greedy", "whether every scored token was the likeliest", "1", MB_H5_U8, 1, {"request"}, .per = MB_PER_REQUEST, .digest = MB_IN_BOTH},
    [MB_SET_TEXT] = {"/requests/text", "generated text", "", MB_H5_TEXT, 1, {"request"}, .per = MB_PER_REQUEST, .digest = MB_IN_BOTH},
    [MB_SET_PROMPT_OFFSETS] = {"/tokens/prompt_offsets", "where the prompt tokens of each request begin", "1", MB_H5_I64, 1, {"request boundary"}, .per = MB_PER_OFFSET},
    [MB_SET_PROMPT_IDS] = {"/tokens/prompt_ids", "token id of the prompt", "1", MB_H5_I32, 1, {"prompt token"}, .per = MB_PER_PROMPT, .digest = MB_IN_BOTH},
    [MB_SET_PROMPT_LOGPROBS] = {"/tokens/prompt_logprobs", "log-probability of the prompt token", "nat", MB_H5_F32, 1, {"prompt token"}, .per = MB_PER_PROMPT, .digest = MB_IN_BOTH, .fill = MB_FILL_NAN},
    [MB_SET_OUTPUT_OFFSETS] = {"/tokens/output_offsets", "where the generated tokens of each request begin", "1", MB_H5_I64, 1, {"request boundary"}, .per = MB_PER_OFFSET},
    [MB_SET_OUTPUT_IDS] = {"/tokens/output_ids", "generated token id", "1", MB_H5_I32, 1, {"output token"}, .per = MB_PER_OUTPUT, .digest = MB_IN_BOTH},
    [MB_SET_OUTPUT_LOGPROBS] = {"/tokens/output_logprobs", "log-probability of the generated token", "nat", MB_H5_F32, 1, {"output token"}, .per = MB_PER_OUTPUT, .digest = MB_IN_BOTH, .fill = MB_FILL_NAN},
    [MB_SET_ROW_OFFSETS] = {"/rows/offsets", "where the computed rows of each request begin", "1", MB_H5_I64, 1, {"request boundary"}, .per = MB_PER_OFFSET},
    [MB_SET_QUEUE] = {"/timing/queue", "time until the request was begun", "s", MB_H5_F64, 1, {"request"}, .per = MB_PER_REQUEST},
    [MB_SET_TTFT] = {"/timing/ttft", "time from begin to first token", "s", MB_H5_F64, 1, {"request"}, .per = MB_PER_REQUEST},
    [MB_SET_TPOT] = {"/timing/tpot", "mean time of a further token", "s", MB_H5_F64, 1, {"request"}, .per = MB_PER_REQUEST},
    [MB_SET_END_TO_END] = {"/timing/end_to_end", "time until the request was done", "s", MB_H5_F64, 1, {"request"}, .per = MB_PER_REQUEST},
    [MB_SET_TOP_IDS] = {"/tokens/top_ids", "likeliest token ids at the generated token", "1", MB_H5_I32, 2, {"output token", "candidate"}, .per = MB_PER_OUTPUT, .optional = true, .digest = MB_IN_BOTH, .fill = MB_FILL_MINUS_ONE},
    [MB_SET_TOP_LOGPROBS] = {"/tokens/top_logprobs", "log-probabilities of the likeliest tokens", "nat", MB_H5_F32, 2, {"output token", "candidate"}, .per = MB_PER_OUTPUT, .optional = true, .digest = MB_IN_BOTH, .fill = MB_FILL_NAN},
    [MB_SET_EXPERTS] = {"/routing/experts", "chosen expert", "1", MB_H5_U16, 3, {"MoE layer", "row", "choice of expert"}, .per = MB_PER_ROW, .along = 1, .optional = true, .digest = MB_IN_WHOLE},
    [MB_SET_WEIGHTS] = {"/routing/weights", "weight of the chosen expert", "1", MB_H5_F32, 3, {"MoE layer", "row", "choice of expert"}, .per = MB_PER_ROW, .along = 1, .optional = true, .digest = MB_IN_WHOLE},
    [MB_SET_PHYSICAL] = {"/physical/rank", "rank that computed the chosen expert", "1", MB_H5_U16, 3, {"MoE layer", "row", "choice of expert"}, .per = MB_PER_ROW, .along = 1, .optional = true},
    [MB_SET_LOGITS] = {"/logits", "logits of the next token", "1", MB_H5_F32, 2, {"row", "token id"}, .per = MB_PER_ROW, .optional = true, .digest = MB_IN_WHOLE, .fill = MB_FILL_NAN},
    [MB_SET_HIDDEN] = {"/hidden", "hidden states between layers", "1", MB_H5_F32, 3, {"row", "layer", "channel"}, .per = MB_PER_ROW, .optional = true, .digest = MB_IN_WHOLE},
    [MB_SET_MTP] = {"/mtp/logits", "logits of the multi-token-prediction module", "1", MB_H5_F32, 2, {"row", "token id"}, .per = MB_PER_ROW, .optional = true, .digest = MB_IN_WHOLE},
    [MB_SET_REPLY] = {"/requests/reply", "form in which the line came: 1 OpenAI, 2 chat, 4 log-probabilities, 8 echo, 16 prompt_logprobs", "", MB_H5_U8, 1, {"request"}, .per = MB_PER_REQUEST, .optional = true},
    [MB_SET_PROMPT_TOP_IDS] = {"/tokens/prompt_top_ids", "likeliest token ids at the prompt token", "1", MB_H5_I32, 2, {"prompt token", "candidate"}, .per = MB_PER_PROMPT, .optional = true, .digest = MB_IN_BOTH, .fill = MB_FILL_MINUS_ONE},
    [MB_SET_PROMPT_TOP_LOGPROBS] = {"/tokens/prompt_top_logprobs", "log-probabilities of the likeliest tokens", "nat", MB_H5_F32, 2, {"prompt token", "candidate"}, .per = MB_PER_PROMPT, .optional = true, .digest = MB_IN_BOTH, .fill = MB_FILL_NAN},
    {"/routing/layers", "layer of the model", "1", MB_H5_I32, 1, {"MoE layer"}, .per = MB_PER_JOB},
    {"/health/events", "commands that the job was given, as JSON, oldest first", "", MB_H5_TEXT, 1, {"event"}, .per = MB_PER_JOB},
    {"/metrics/expert_usage", "rows that the routers gave to each expert, all runs", "1", MB_H5_I64, 2, {"MoE layer", "expert"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM},
    {"/metrics/runs", "runs of the job that are counted", "1", MB_H5_I64, 0, {NULL}, .per = MB_PER_JOB},
    {"/metrics/attended_rows", "rows computed by attention, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/cached_rows", "rows that were not computed because an earlier sequence had begun alike, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/recomputed_rows", "rows computed again after their pages were given away, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/preempted", "times a sequence gave its pages away, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/guessed_rows", "rows computed of tokens that were guessed (--speculative), all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/right_guesses", "guessed rows whose token was drawn, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/steps", "steps with rows, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/idle_steps", "steps without own rows, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/empty_steps", "steps in which nobody had rows, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/pipeline_ticks", "ticks of the pipeline, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/pipeline_steps", "steps of the pipeline with rows, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/peak_bytes", "most memory allocated, of all runs", "byte", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_MOST_BY_RANK},
    {"/metrics/resident_growth_bytes", "most growth of resident memory, of all runs", "byte", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_MOST_BY_RANK},
    {"/metrics/weight_bytes_read", "weights read from files, all runs", "byte", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/weight_bytes_received", "weights received from other ranks, all runs", "byte", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/seconds", "what the time of each rank went into, all runs", "s", MB_H5_F64, 2, {"rank", "part of the time"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/metrics/seconds_columns", "names of the parts of the time", "", MB_H5_TEXT, 1, {"part of the time"}, .per = MB_PER_JOB},
    {"/metrics/memory_peak", "most memory of each category, of all runs", "byte", MB_H5_I64, 2, {"rank", "memory category"}, .per = MB_PER_JOB, .runs = MB_RUNS_MOST_BY_RANK},
    {"/metrics/memory_categories", "names of the categories of memory", "", MB_H5_TEXT, 1, {"memory category"}, .per = MB_PER_JOB},
    {"/physical/rows", "rows times experts computed here, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/expert_bytes", "resident weights of experts, most of all runs", "byte", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_MOST_BY_RANK},
    {"/physical/group_bytes", "sent inside attention groups and slices, all runs", "byte", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/group_messages", "messages inside attention groups and slices, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/cache_hits", "experts needed that were there, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/fetched_from_ranks", "experts got from other ranks, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/fetched_from_files", "experts read from files, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/prefetched", "experts read that were announced before, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/fetched_bytes", "weights of experts got on demand, all runs", "byte", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/rows_kept", "own rows that a copy here computed, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/attention_flops", "operations of attention, all runs", "1", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/kv_bytes", "keys and values put into pages, all runs", "byte", MB_H5_I64, 1, {"rank"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/layer_rows", "rows that the rank's experts were sent, all runs", "1", MB_H5_I64, 2, {"rank", "MoE layer"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/exchange_bytes", "sent by dispatch and combine, all runs", "byte", MB_H5_I64, 3, {"rank", "direction", "link"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/exchange_messages", "messages of dispatch and combine, all runs", "1", MB_H5_I64, 3, {"rank", "direction", "link"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM_BY_RANK},
    {"/physical/links", "names of the classes of links", "", MB_H5_TEXT, 1, {"link"}, .per = MB_PER_JOB},
    {"/physical/experts_on_demand", "what was needed of each layer and where it came from, all runs", "1", MB_H5_I64, 2, {"MoE layer", "source"}, .per = MB_PER_JOB, .runs = MB_RUNS_SUM},
    {"/physical/experts_on_demand_columns", "names of the sources", "", MB_H5_TEXT, 1, {"source"}, .per = MB_PER_JOB},
    {"/provenance/version", "version of moebatch", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/commit", "commit of moebatch", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/libraries", "libraries and their versions", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/command", "command line of the last run", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/deck", "effective options of the last run", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/plan", "plan of the last run, as JSON", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/incarnations", "the runs of the job, as JSON", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/identity", "what the results are of, as JSON", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/numeric_path", "numeric rules", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/hwloc", "machine of rank 0, as hwloc's XML", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/started", "start of the last run, UTC", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/finished", "end of the last run, UTC", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/model", "directory of the model", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/model_hash", "hash of the model", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/model_files", "files of the model's weights", "", MB_H5_TEXT, 1, {"model file"}, .per = MB_PER_JOB},
    {"/provenance/model_file_bytes", "sizes of the files of weights", "byte", MB_H5_U64, 1, {"model file"}, .per = MB_PER_JOB},
    {"/provenance/files", "files that the results depend on", "", MB_H5_TEXT, 1, {"file"}, .per = MB_PER_JOB},
    {"/provenance/file_bytes", "sizes of these files", "byte", MB_H5_U64, 1, {"file"}, .per = MB_PER_JOB},
    {"/provenance/file_hashes", "XXH3 of their contents", "", MB_H5_TEXT, 1, {"file"}, .per = MB_PER_JOB},
    {"/provenance/slurm", "variables of Slurm", "", MB_H5_TEXT, 0, {NULL}, .per = MB_PER_JOB},
    {"/provenance/host", "host of each rank of the last run", "", MB_H5_TEXT, 1, {"rank of the last run"}, .per = MB_PER_JOB},
    {"/provenance/cpu", "processor of each rank of the last run", "", MB_H5_TEXT, 1, {"rank of the last run"}, .per = MB_PER_JOB},
    {"/provenance/threads", "threads of each rank of the last run", "1", MB_H5_I32, 1, {"rank of the last run"}, .per = MB_PER_JOB},
    {"/provenance/merged_from", "files that were merged", "", MB_H5_TEXT, 1, {"merged file"}, .per = MB_PER_JOB},
};
/* clang-format on */
enum { ROWS = sizeof table / sizeof *table };

const enum mb_set mb_bulk_sets[MB_BULK_COUNT] = {
    [MB_BULK_EXPERTS] = MB_SET_EXPERTS,   [MB_BULK_WEIGHTS] = MB_SET_WEIGHTS,
    [MB_BULK_PHYSICAL] = MB_SET_PHYSICAL, [MB_BULK_LOGITS] = MB_SET_LOGITS,
    [MB_BULK_HIDDEN] = MB_SET_HIDDEN,     [MB_BULK_MTP] = MB_SET_MTP,
};

const struct mb_dataset *mb_dataset(enum mb_set set)
{
    return &table[set];
}

const struct mb_dataset *mb_dataset_at(int i)
{
    return i >= 0 && i < ROWS ? &table[i] : NULL;
}

/* "/physical/part-0001/rows" -> "/physical/rows" and "part-0001/"; other paths stay, part is "" */
static void split_part(const char *path, char plain[256], char part[32])
{
    const char *at = strstr(path, "/part-"), *end = at == NULL ? NULL : strchr(at + 1, '/');
    part[0] = 0;
    snprintf(plain, 256, "%s", path);
    if (end == NULL || end - at >= 31)
        return;
    snprintf(part, 32, "%.*s", (int)(end - at), at + 1);
    snprintf(plain, 256, "%.*s%s", (int)(at - path), path, end);
}

void mb_dataset_part(const char *path, char part[32])
{
    char plain[256];
    split_part(path, plain, part);
}

const struct mb_dataset *mb_dataset_find(const char *path)
{
    char plain[256], part[32];
    split_part(path, plain, part);
    for (int i = 0; i < ROWS; i++) {
        if (strcmp(table[i].path, plain) == 0)
            return &table[i];
    }
    return NULL;
}

uint32_t mb_fill_bits(enum mb_fill fill)
{
    static const uint32_t bits[] = {
        [MB_FILL_ZERO] = 0, [MB_FILL_MINUS_ONE] = 0xffffffffu, [MB_FILL_NAN] = 0x7fc00000u};
    return bits[fill];
}

const char *mb_h5_type_name(enum mb_h5_type t)
{
    static const char *const names[MB_H5_TYPES] = {
        [MB_H5_U8] = "u8",     [MB_H5_U16] = "u16",     [MB_H5_U32] = "u32",     [MB_H5_I32] = "i32",
        [MB_H5_U64] = "u64",   [MB_H5_I64] = "i64",     [MB_H5_F32] = "f32",     [MB_H5_F64] = "f64",
        [MB_H5_KIND] = "enum", [MB_H5_STATUS] = "enum", [MB_H5_FINISH] = "enum", [MB_H5_TEXT] = "text",
    };
    return names[t];
}

/* ---------------------------------------------------------------- for people and tests */
static const char *const digest_names[] = {
    [MB_IN_NONE] = "none", [MB_IN_WHOLE] = "all", [MB_IN_BOTH] = "both"};

static void put_axes(FILE *f, const struct mb_dataset *d, const char *between)
{
    for (int i = 0; i < d->rank; i++)
        fprintf(f, "%s%s", i > 0 ? between : "", d->axes[i]);
}

void mb_schema_man(FILE *f)
{
    static const char *const fills[] = {"", "; -1 where there is none", "; NaN where there is none"};
    fputs(".SS Datasets\n", f);
    for (int i = 0; i < ROWS; i++) {
        const struct mb_dataset *d = &table[i];
        bool named = *d->unit != 0 && strcmp(d->unit, "1") != 0;
        fprintf(f, ".TP\n.B %s\n%s%s%s%s; %s", d->path, d->long_name, named ? ", in " : "",
                named ? d->unit : "", fills[d->fill], mb_h5_type_name(d->type));
        fputs(d->rank > 0 ? " by " : "", f);
        put_axes(f, d, ", ");
        fputs(".\n", f);
    }
}

void mb_schema_tsv(FILE *f)
{
    for (int i = 0; i < ROWS; i++) {
        const struct mb_dataset *d = &table[i];
        fprintf(f, "%s\t%s\t", d->path, mb_h5_type_name(d->type));
        put_axes(f, d, "/");
        fprintf(f, "\t%s\t%d\t%s\t%s\n", d->unit, d->optional, digest_names[d->digest], d->long_name);
    }
}
