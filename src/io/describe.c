#include "io/describe.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"

/* units: UDUNITS; "1": a plain number or an id; "": text and named values. */
static const struct described {
    const char *path, *long_name, *unit;
    const char *axes[4];
} table[] = {
    {"/requests/id", "id of the request", "", {"request"}},
    {"/requests/line", "line of the input, from 0", "1", {"request"}},
    {"/requests/choice", "choice of the request, from 0", "1", {"request"}},
    {"/requests/kind", "generation or scoring", "", {"request"}},
    {"/requests/status", "whether the row is good", "", {"request"}},
    {"/requests/finish_reason", "why generation ended", "", {"request"}},
    {"/requests/error", "why the row is an error", "", {"request"}},
    {"/requests/logprob_sum", "sum of the log-probabilities of the scored tokens", "nat", {"request"}},
    {"/requests/is_greedy", "whether every scored token was the likeliest", "1", {"request"}},
    {"/requests/text", "generated text", "", {"request"}},
    {"/requests/reply", "form in which the line came: 1 OpenAI, 2 chat, 4 log-probabilities, 8 echo, 16 prompt_logprobs", "", {"request"}},
    {"/timing/queue", "time until the request was begun", "s", {"request"}},
    {"/timing/ttft", "time from begin to first token", "s", {"request"}},
    {"/timing/tpot", "mean time of a further token", "s", {"request"}},
    {"/timing/end_to_end", "time until the request was done", "s", {"request"}},
    {"/tokens/prompt_offsets", "where the prompt tokens of each request begin", "1", {"request boundary"}},
    {"/tokens/prompt_ids", "token id of the prompt", "1", {"prompt token"}},
    {"/tokens/prompt_logprobs", "log-probability of the prompt token", "nat", {"prompt token"}},
    {"/tokens/output_offsets", "where the generated tokens of each request begin", "1", {"request boundary"}},
    {"/tokens/output_ids", "generated token id", "1", {"output token"}},
    {"/tokens/output_logprobs", "log-probability of the generated token", "nat", {"output token"}},
    {"/tokens/top_ids", "likeliest token ids at the generated token", "1", {"output token", "candidate"}},
    {"/tokens/top_logprobs", "log-probabilities of the likeliest tokens", "nat", {"output token", "candidate"}},
    {"/tokens/prompt_top_ids", "likeliest token ids at the prompt token", "1", {"prompt token", "candidate"}},
    {"/tokens/prompt_top_logprobs", "log-probabilities of the likeliest tokens", "nat", {"prompt token", "candidate"}},
    {"/rows/offsets", "where the computed rows of each request begin", "1", {"request boundary"}},
    {"/routing/layers", "layer of the model", "1", {"MoE layer"}},
    {"/routing/experts", "chosen expert", "1", {"MoE layer", "row", "choice of expert"}},
    {"/routing/weights", "weight of the chosen expert", "1", {"MoE layer", "row", "choice of expert"}},
    {"/physical/rank", "rank that computed the chosen expert", "1", {"MoE layer", "row", "choice of expert"}},
    {"/logits", "logits of the next token", "1", {"row", "token id"}},
    {"/hidden", "hidden states between layers", "1", {"row", "layer", "channel"}},
    {"/mtp/logits", "logits of the multi-token-prediction module", "1", {"row", "token id"}},
    {"/health/events", "commands that the job was given, as JSON, oldest first", "", {"event"}},
    {"/metrics/expert_usage", "rows that the routers gave to each expert, all runs", "1", {"MoE layer", "expert"}},
    {"/metrics/runs", "runs of the job that are counted", "1", {NULL}},
    {"/metrics/attended_rows", "rows computed by attention, all runs", "1", {"rank"}},
    {"/metrics/cached_rows", "rows that were not computed because an earlier sequence had begun alike, all runs", "1", {"rank"}},
    {"/metrics/recomputed_rows", "rows computed again after their pages were given away, all runs", "1", {"rank"}},
    {"/metrics/preempted", "times a sequence gave its pages away, all runs", "1", {"rank"}},
    {"/metrics/steps", "steps with rows, all runs", "1", {"rank"}},
    {"/metrics/idle_steps", "steps without own rows, all runs", "1", {"rank"}},
    {"/metrics/empty_steps", "steps in which nobody had rows, all runs", "1", {"rank"}},
    {"/metrics/pipeline_ticks", "ticks of the pipeline, all runs", "1", {"rank"}},
    {"/metrics/pipeline_steps", "steps of the pipeline with rows, all runs", "1", {"rank"}},
    {"/metrics/peak_bytes", "most memory allocated, of all runs", "byte", {"rank"}},
    {"/metrics/resident_growth_bytes", "most growth of resident memory, of all runs", "byte", {"rank"}},
    {"/metrics/weight_bytes_read", "weights read from files, all runs", "byte", {"rank"}},
    {"/metrics/weight_bytes_received", "weights received from other ranks, all runs", "byte", {"rank"}},
    {"/metrics/seconds", "what the time of each rank went into, all runs", "s", {"rank", "part of the time"}},
    {"/metrics/seconds_columns", "names of the parts of the time", "", {"part of the time"}},
    {"/metrics/memory_peak", "most memory of each category, of all runs", "byte", {"rank", "memory category"}},
    {"/metrics/memory_categories", "names of the categories of memory", "", {"memory category"}},
    {"/physical/rows", "rows times experts computed here, all runs", "1", {"rank"}},
    {"/physical/expert_bytes", "resident weights of experts, most of all runs", "byte", {"rank"}},
    {"/physical/group_bytes", "sent inside attention groups and slices, all runs", "byte", {"rank"}},
    {"/physical/group_messages", "messages inside attention groups and slices, all runs", "1", {"rank"}},
    {"/physical/cache_hits", "experts needed that were there, all runs", "1", {"rank"}},
    {"/physical/fetched_from_ranks", "experts got from other ranks, all runs", "1", {"rank"}},
    {"/physical/fetched_from_files", "experts read from files, all runs", "1", {"rank"}},
    {"/physical/prefetched", "experts read that were announced before, all runs", "1", {"rank"}},
    {"/physical/fetched_bytes", "weights of experts got on demand, all runs", "byte", {"rank"}},
    {"/physical/rows_kept", "own rows that a copy here computed, all runs", "1", {"rank"}},
    {"/physical/attention_flops", "operations of attention, all runs", "1", {"rank"}},
    {"/physical/kv_bytes", "keys and values put into pages, all runs", "byte", {"rank"}},
    {"/physical/layer_rows", "rows that the rank's experts were sent, all runs", "1", {"rank", "MoE layer"}},
    {"/physical/exchange_bytes", "sent by dispatch and combine, all runs", "byte", {"rank", "direction", "link"}},
    {"/physical/exchange_messages", "messages of dispatch and combine, all runs", "1", {"rank", "direction", "link"}},
    {"/physical/links", "names of the classes of links", "", {"link"}},
    {"/physical/experts_on_demand", "what was needed of each layer and where it came from, all runs", "1", {"MoE layer", "source"}},
    {"/physical/experts_on_demand_columns", "names of the sources", "", {"source"}},
    {"/provenance/version", "version of moebatch", "", {NULL}},
    {"/provenance/commit", "commit of moebatch", "", {NULL}},
    {"/provenance/libraries", "libraries and their versions", "", {NULL}},
    {"/provenance/command", "command line of the last run", "", {NULL}},
    {"/provenance/deck", "effective options of the last run", "", {NULL}},
    {"/provenance/plan", "plan of the last run, as JSON", "", {NULL}},
    {"/provenance/incarnations", "the runs of the job, as JSON", "", {NULL}},
    {"/provenance/identity", "what the results are of, as JSON", "", {NULL}},
    {"/provenance/numeric_path", "numeric rules", "", {NULL}},
    {"/provenance/hwloc", "machine of rank 0, as hwloc's XML", "", {NULL}},
    {"/provenance/started", "start of the last run, UTC", "", {NULL}},
    {"/provenance/finished", "end of the last run, UTC", "", {NULL}},
    {"/provenance/model", "directory of the model", "", {NULL}},
    {"/provenance/model_hash", "hash of the model", "", {NULL}},
    {"/provenance/model_files", "files of the model's weights", "", {"model file"}},
    {"/provenance/model_file_bytes", "sizes of the files of weights", "byte", {"model file"}},
    {"/provenance/files", "files that the results depend on", "", {"file"}},
    {"/provenance/file_bytes", "sizes of these files", "byte", {"file"}},
    {"/provenance/file_hashes", "XXH3 of their contents", "", {"file"}},
    {"/provenance/slurm", "variables of Slurm", "", {NULL}},
    {"/provenance/host", "host of each rank of the last run", "", {"rank of the last run"}},
    {"/provenance/cpu", "processor of each rank of the last run", "", {"rank of the last run"}},
    {"/provenance/threads", "threads of each rank of the last run", "1", {"rank of the last run"}},
    {"/provenance/merged_from", "files that were merged", "", {"merged file"}},
};

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

static const struct described *row_of(const char *plain)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(table[i].path, plain) == 0)
            return &table[i];
    }
    return NULL;
}

/* The scale of an axis: a dataset that has its values, or one of /axes, made when it is first met; one that has another length
 * (rows of /logits with --save-logits=last are those of the results) gets a name of its own. */
static enum mb_status attach(struct mb_h5 *h, const struct mb_h5_set *s, int dim, const char *axis, const char *part)
{
    char scale[256];
    if (*part == 0 && strcmp(axis, "request") == 0)
        snprintf(scale, sizeof scale, "/requests/id");
    else if (*part == 0 && strcmp(axis, "MoE layer") == 0 && mb_h5_has(h, "/routing/layers"))
        snprintf(scale, sizeof scale, "/routing/layers");
    else
        snprintf(scale, sizeof scale, MB_H5_AXES "%s%s of %llu", part, axis, (unsigned long long)s->dims[dim]);
    MB_TRY(mb_h5_label(h, s->path, dim, axis));
    if (strcmp(scale, s->path) == 0)
        return MB_OK; /* is one itself */
    if (!mb_h5_has(h, scale)) {
        MB_TRY(mb_h5_axis(h, scale, axis, s->dims[dim]));
        MB_TRY(mb_h5_attr_text(h, scale, "long_name", axis));
        MB_TRY(mb_h5_attr_text(h, scale, "units", ""));
    }
    return mb_h5_attach(h, s->path, dim, scale);
}

static enum mb_status describe(void *arg, struct mb_h5_set *s)
{
    struct mb_h5 *h = arg;
    char plain[256], part[32];
    split_part(s->path, plain, part);
    const struct described *d = row_of(plain);
    if (d == NULL)
        return MB_OK;
    MB_TRY(mb_h5_attr_text(h, s->path, "long_name", d->long_name));
    MB_TRY(mb_h5_attr_text(h, s->path, "units", d->unit));
    for (int i = 0; i < s->rank && d->axes[i] != NULL; i++)
        MB_TRY(attach(h, s, i, d->axes[i], part));
    return MB_OK;
}

enum mb_status mb_describe(struct mb_h5 *h)
{
    MB_TRY(mb_h5_group(h, MB_H5_AXES)); /* first, so that the walk meets no new group of the file */
    return mb_h5_walk(h, describe, h);
}
