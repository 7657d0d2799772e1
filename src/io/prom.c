#include "io/prom.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/log.h"

enum { RANKS_SHOWN = 256, LINE = 4352 };

static enum mb_status put(struct mb_bytes *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static enum mb_status put(struct mb_bytes *out, const char *fmt, ...)
{
    char line[LINE];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    return mb_bytes_put(out, line, n < LINE ? (size_t)n : LINE - 1);
}

static enum mb_status head(struct mb_bytes *out, const char *name, const char *type, const char *help)
{
    return put(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* The label's value: backslash and quote are escaped, what is not printable ASCII is _, what is too long is
 * cut. */
static void label_of(const char *text, char out[1024])
{
    size_t n = 0;

    for (; *text != 0 && n < 1021; text++) {
        if (*text == '\\' || *text == '"')
            out[n++] = '\\';
        out[n++] = *text >= ' ' && *text < 0x7f ? *text : '_';
    }
    out[n] = 0;
}

static enum mb_status one(struct mb_bytes *out, const char *job, const char *name, const char *type,
                          const char *help, double v)
{
    MB_TRY(head(out, name, type, help));
    return put(out, "%s{job_results=\"%s\"} %.17g\n", name, job, v);
}

struct kind {
    const char *label;
    int64_t v;
};

static enum mb_status kinds(struct mb_bytes *out, const char *job, const char *name, const char *type,
                            const char *help, const char *label, const struct kind *k, int n)
{
    MB_TRY(head(out, name, type, help));
    for (int i = 0; i < n; i++)
        MB_TRY(
            put(out, "%s{job_results=\"%s\",%s=\"%s\"} %" PRId64 "\n", name, job, label, k[i].label, k[i].v));
    return MB_OK;
}

static enum mb_status requests(const struct mb_prom *p, const char *job, struct mb_bytes *out)
{
    static const char *const states[] = {"running", "assembling", "stopped", "complete", "failed"};
    const struct mb_run_status *s = p->s;
    const struct kind rows[] = {{"total", s->rows},
                                {"committed", s->committed},
                                {"acknowledged", s->acknowledged},
                                {"error", s->errors}};
    const struct kind tokens[] = {
        {"prompt", s->prompt_tokens},   {"generated", s->output_tokens},        {"computed", s->computed_tokens},
        {"cached", s->cached_tokens},   {"recomputed", s->recomputed_tokens},
        {"guessed", s->guessed_tokens}, {"guessed_right", s->right_tokens}};
    struct kind state[5];

    for (int i = 0; i < 5; i++)
        state[i] = (struct kind){states[i], strcmp(s->state, states[i]) == 0};
    MB_TRY(
        kinds(out, job, "moebatch_state", "gauge", "1 for the state that the job is in.", "state", state, 5));
    MB_TRY(kinds(out, job, "moebatch_rows", "gauge",
                 "Rows of the results by how far they are; earlier runs count.", "state", rows, 4));
    MB_TRY(kinds(out, job, "moebatch_tokens_total", "counter",
                 "Tokens of this run: of prompts and generated in finished rows, computed, taken from pages of "
                 "other requests instead, and of the computed ones those computed again, those guessed before, and "
                 "of these the ones that were right.",
                 "kind", tokens, 7));
    MB_TRY(one(out, job, "moebatch_preempted_total", "counter", "Sequences that gave their pages back.",
               (double)s->preempted));
    MB_TRY(one(out, job, "moebatch_sequences_running", "gauge", "Sequences under way.", p->running));
    MB_TRY(one(out, job, "moebatch_tokens_per_second", "gauge", "Tokens computed a second, lately.",
               s->tokens_per_second));
    if (s->eta >= 0)
        MB_TRY(one(out, job, "moebatch_eta_seconds", "gauge", "Estimated time to the end.", s->eta));
    return one(out, job, "moebatch_run_seconds", "gauge", "Time since this run started.", s->seconds);
}

static enum mb_status ranks(const struct mb_prom *p, const char *job, struct mb_bytes *out)
{
    MB_TRY(one(out, job, "moebatch_ranks", "gauge", "MPI ranks of the job.", p->ranks));
    if (p->imbalance > 0)
        MB_TRY(one(out, job, "moebatch_expert_imbalance", "gauge",
                   "Rows of the most loaded rank's experts over the mean.", p->imbalance));
    MB_TRY(head(out, "moebatch_expert_rows_total", "counter",
                "Row and expert pairs that a rank's experts computed in this run."));
    for (int32_t r = 0; r < p->ranks && r < RANKS_SHOWN; r++)
        MB_TRY(put(out, "moebatch_expert_rows_total{job_results=\"%s\",rank=\"%" PRId32 "\"} %" PRId64 "\n",
                   job, r, p->expert_rows[r]));
    return MB_OK;
}

static enum mb_status memory(const struct mb_prom *p, const char *job, struct mb_bytes *out)
{
    struct kind k[MB_MEM_COUNT];
    int64_t resident, most;

    for (int i = 0; p->mem != NULL && i < MB_MEM_COUNT; i++)
        k[i] = (struct kind){mb_mem_name((enum mb_mem_cat)i), p->mem->now[i]};
    if (p->mem != NULL)
        MB_TRY(kinds(out, job, "moebatch_memory_bytes", "gauge",
                     "Memory that rank 0 has allocated, by what it is for.", "category", k, MB_MEM_COUNT));
    mb_mem_resident(&resident, &most);
    return one(out, job, "moebatch_resident_bytes", "gauge", "Resident memory of rank 0's process.",
               (double)resident);
}

enum mb_status mb_prom_text(const struct mb_prom *p, struct mb_bytes *out)
{
    char job[1024];

    label_of(p->job, job);
    MB_TRY(requests(p, job, out));
    MB_TRY(ranks(p, job, out));
    MB_TRY(memory(p, job, out));
    return one(out, job, "moebatch_updated_seconds", "gauge", "When this was written, in seconds since 1970.",
               p->updated);
}

void mb_prom_write(const char *dir, const struct mb_prom *p)
{
    struct mb_bytes text = {0};
    char *path = mb_path_join(dir, "metrics.prom");

    if (path != NULL && mb_prom_text(p, &text) == MB_OK)
        (void)mb_publish_bytes(path, text.data, text.len, MB_PUBLISH_ADVISORY | MB_PUBLISH_SILENT);
    mb_bytes_fini(&text);
    free(path);
}
