#include "engine/seq.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"

static enum mb_status no_memory(void)
{
    return mb_error(MB_NO_MEMORY, "no memory for a sequence; use a smaller --max-num-seqs");
}

void mb_job_drop(struct mb_job *job)
{
    if (job == NULL || --job->refs > 0)
        return;
    mb_guide_close(job->guide);
    mb_request_destroy(job->req);
    mb_free(job);
}

void mb_seq_destroy(struct mb_seq *q)
{
    if (q == NULL)
        return;
    mb_free(q->ids);
    mb_free(q->page);
    mb_free(q->seen.v);
    mb_config_fini(&q->seen.guide.at);
    mb_config_fini(&q->seen.guide.ahead);
    free(q->got.prompt_lp);
    free(q->got.prompt_top.ids);
    free(q->got.prompt_top.logprobs);
    free(q->got.out_lp);
    free(q->got.top_ids);
    free(q->got.top_lp);
    free(q->got.error);
    mb_job_drop(q->job);
    mb_free(q);
}

static bool needs_counts(const struct mb_sampling *s)
{
    return s->repetition != 1.0f || s->frequency != 0.0f || s->presence != 0.0f;
}

/* What is not scored has none. */
static enum mb_status init_prompt_top(struct mb_seq *q, int32_t n)
{
    size_t all = (size_t)q->n_prompt * (size_t)n;
    struct mb_tops *t = &q->got.prompt_top;

    if (all == 0)
        return MB_OK;
    t->ids = malloc(sizeof(int32_t) * all);
    t->logprobs = malloc(sizeof(float) * all);
    if (t->ids == NULL || t->logprobs == NULL)
        return no_memory();
    t->n = n;
    for (size_t i = 0; i < all; i++) {
        t->ids[i] = -1;
        t->logprobs[i] = NAN;
    }
    return MB_OK;
}

static enum mb_status init_results(struct mb_seq *q)
{
    const struct mb_request *r = q->job->req;
    bool prompt = r->kind != MB_KIND_GENERATE || r->want_prompt_logprobs;

    if (prompt) {
        q->got.prompt_lp = malloc(sizeof(float) * (size_t)(q->n_prompt + 1));
        if (q->got.prompt_lp == NULL)
            return no_memory();
        for (int64_t i = 0; i < q->n_prompt; i++)
            q->got.prompt_lp[i] = NAN;
        MB_TRY(init_prompt_top(q, r->prompt_top_n));
    }
    q->got.out_lp = malloc(sizeof(float) * (size_t)(q->max_out + 1));
    if (q->got.out_lp == NULL)
        return no_memory();
    if (r->top_n > 0) {
        q->got.top_ids = malloc(sizeof(int32_t) * (size_t)((q->max_out + 1) * r->top_n));
        q->got.top_lp = malloc(sizeof(float) * (size_t)((q->max_out + 1) * r->top_n));
        if (q->got.top_ids == NULL || q->got.top_lp == NULL)
            return no_memory();
    }
    return MB_OK;
}

static enum mb_status init_ids(struct mb_mem *mem, struct mb_seq *q)
{
    const struct mb_request *r = q->job->req;
    const struct mb_choice_state *known = r->resume != NULL ? &r->resume[q->choice] : NULL;

    q->n_prompt = r->n_prompt;
    q->max_out = r->kind == MB_KIND_GENERATE ? r->sampling.max_tokens : 0;
    q->n_forced = known != NULL && r->kind == MB_KIND_GENERATE ? known->n_forced : 0;
    if (q->n_forced > q->max_out)
        return mb_error(MB_CORRUPT, "request %s: the journal holds %lld drawn tokens, more than its max_tokens %lld",
                        r->id.data, (long long)q->n_forced, (long long)q->max_out);
    q->cap = q->n_prompt + q->max_out + 1;
    q->ids = mb_alloc(mem, MB_MEM_REQUESTS, (size_t)q->cap, sizeof(int32_t));
    if (q->ids == NULL)
        return no_memory();
    memcpy(q->ids, r->prompt, sizeof(int32_t) * (size_t)q->n_prompt);
    if (q->n_forced > 0)
        memcpy(q->ids + q->n_prompt, known->forced, sizeof(int32_t) * (size_t)q->n_forced);
    /* the last one is drawn again: if it ended its row, no row belongs behind it */
    q->n_ids = q->n_prompt + q->n_forced - (q->n_forced > 0);
    q->window = r->window;
    q->n_fed = q->n_prompt - (q->window > 0);
    q->n_compute = q->window > 0 ? (q->n_fed + q->window - 1) / q->window * q->window : q->n_prompt;
    q->rows_total = q->n_fed + (q->max_out > 0 ? q->max_out - 1 : 0);
    return MB_OK;
}

enum mb_status mb_seq_create(struct mb_mem *mem, struct mb_job *job, uint64_t job_seed, struct mb_seq **out)
{
    struct mb_seq *q = mb_zalloc(mem, MB_MEM_REQUESTS, 1, sizeof *q);
    if (q == NULL)
        return no_memory();
    q->job = job;
    job->refs++;
    q->choice = job->next++;
    q->handle = -1;
    q->kind.adapter = -1;
    q->at.node = MB_PREFIX_NONE;
    q->got.greedy = true;
    q->key = mb_request_key(job->req, job_seed, q->choice);
    q->seen.guide.n_ahead = -1;
    q->seen.counting = needs_counts(&job->req->sampling);
    q->got.t_admit = mb_now();
    enum mb_status st = init_ids(mem, q);
    if (st == MB_OK)
        st = init_results(q);
    if (st == MB_OK) {
        int64_t pages = (mb_seq_positions(q) + MB_KV_BLOCK - 1) / MB_KV_BLOCK;
        q->page = mb_alloc(mem, MB_MEM_REQUESTS, (size_t)pages + 1, sizeof(int32_t));
        if (q->page == NULL)
            st = no_memory();
    }
    if (st != MB_OK) {
        mb_seq_destroy(q);
        return st;
    }
    *out = q;
    return MB_OK;
}

int64_t mb_seq_positions(const struct mb_seq *q)
{
    return q->window > 0 ? q->window : q->rows_total;
}

int64_t mb_seq_todo(const struct mb_seq *q)
{
    if (q->window == 0)
        return q->n_ids - q->n_sched;
    return q->n_sched < q->n_compute ? q->window - q->n_sched % q->window : 0;
}

int64_t mb_seq_position(const struct mb_seq *q, int64_t row)
{
    return q->window > 0 ? row % q->window : row;
}

int64_t mb_seq_index(const struct mb_seq *q, int64_t row)
{
    if (q->window == 0)
        return row;
    int64_t begin = row - row % q->window, last = q->n_fed - q->window;
    return (begin < last ? begin : last) + row % q->window;
}

int64_t mb_seq_repeats(const struct mb_seq *q, int64_t row, int64_t n)
{
    int64_t again = q->window > 0 ? row - row % q->window - mb_seq_index(q, row) : 0;

    return again < 0 ? 0 : again < n ? again : n;
}

int64_t mb_seq_first_wanted(const struct mb_seq *q)
{
    const struct mb_request *r = q->job->req;
    int64_t first = q->n_compute - 1;

    if (q->got.prompt_lp != NULL) {
        int64_t from = r->kind == MB_KIND_GENERATE ? 1 : r->score_from;
        first = from - 1 < first ? from - 1 : first;
    }
    return first > 0 ? first : 0;
}

bool mb_seq_draws_at(const struct mb_seq *q, int64_t pos)
{
    return q->max_out > 0 && pos >= q->n_prompt - 1;
}

bool mb_seq_goes_on_at(const struct mb_seq *q, int64_t pos)
{
    return pos >= 0 && pos + 1 < q->rows_total;
}

bool mb_seq_scores_at(const struct mb_seq *q, int64_t pos)
{
    const struct mb_request *r = q->job->req;
    int64_t from = r->kind == MB_KIND_GENERATE ? 1 : r->score_from;
    return q->got.prompt_lp != NULL && pos + 1 < q->n_prompt && pos + 1 >= from;
}

/* ---------------------------------------------------------------- the end of a row */

enum mb_status mb_seq_fail(struct mb_seq *q, const char *fmt, ...)
{
    va_list ap;
    if (q->got.error != NULL)
        return MB_OK;
    va_start(ap, fmt);
    int n = vasprintf(&q->got.error, fmt, ap);
    va_end(ap);
    if (n < 0) {
        q->got.error = NULL;
        return no_memory();
    }
    q->done = true;
    return MB_OK;
}

static enum mb_status copy_ids(const int32_t *src, int64_t n, int32_t **out)
{
    *out = malloc(sizeof(int32_t) * (size_t)(n + 1));
    if (*out == NULL)
        return no_memory();
    memcpy(*out, src, sizeof(int32_t) * (size_t)n);
    return MB_OK;
}

/* Log-likelihood sums are f64, over the scored tokens in order. */
static void sum_up(const struct mb_seq *q, struct mb_record *rec)
{
    const struct mb_request *r = q->job->req;
    double sum = 0.0;

    if (r->kind == MB_KIND_GENERATE) {
        for (int64_t i = 0; i < q->n_drawn; i++)
            sum += (double)q->got.out_lp[i];
    } else {
        for (int64_t i = r->score_from > 1 ? r->score_from : 1; i < q->n_prompt; i++)
            sum += (double)q->got.prompt_lp[i];
    }
    rec->logprob_sum = sum;
    rec->is_greedy = r->kind == MB_KIND_LOGLIKELIHOOD && q->got.greedy;
}

static void record_timing(const struct mb_seq *q, struct mb_record *rec)
{
    double now = mb_now(), arrived = q->job->arrived;
    rec->timing.queue = q->got.t_admit - arrived;
    rec->timing.ttft = q->got.t_first > 0 ? q->got.t_first - arrived : NAN;
    rec->timing.tpot = q->n_drawn > 1 && q->got.t_first > 0 ? (now - q->got.t_first) / (double)(q->n_drawn - 1) : NAN;
    rec->timing.total = now - arrived;
}

enum mb_status mb_seq_record(struct mb_seq *q, struct mb_record *rec)
{
    const struct mb_request *r = q->job->req;

    *rec = (struct mb_record){.line = r->line, .choice = q->choice, .n = r->n, .kind = (uint8_t)r->kind,
                              .openai = r->openai, .chat = r->chat,
                              .want_logprobs = r->want_logprobs, .echo = r->echo, .prompt_asked = r->prompt_asked};
    record_timing(q, rec);
    if (q->got.error != NULL) {
        rec->status = MB_ROW_ERROR;
        rec->finish = MB_FINISH_ERROR;
        rec->error = (struct mb_text){q->got.error, strlen(q->got.error)};
        q->got.error = NULL;
        return MB_OK;
    }
    if (r->adapter != NULL) {
        rec->adapter.data = strdup(r->adapter);
        if (rec->adapter.data == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for a record");
        rec->adapter.len = strlen(r->adapter);
    }
    rec->status = MB_ROW_OK;
    rec->finish = (uint8_t)q->got.finish;
    rec->n_prompt = q->n_prompt;
    MB_TRY(copy_ids(q->ids, rec->n_prompt, &rec->prompt_ids));
    rec->n_output = q->n_drawn;
    MB_TRY(copy_ids(q->ids + q->n_prompt, q->n_drawn, &rec->output_ids));
    sum_up(q, rec);
    if (q->got.prompt_lp != NULL) {
        rec->prompt_logprobs = q->got.prompt_lp;
        q->got.prompt_lp = NULL;
    }
    rec->prompt_top = q->got.prompt_top;
    q->got.prompt_top = (struct mb_tops){0};
    rec->output_logprobs = q->got.out_lp;
    q->got.out_lp = NULL;
    rec->top_n = r->top_n;
    rec->top_ids = q->got.top_ids;
    rec->top_logprobs = q->got.top_lp;
    q->got.top_ids = NULL;
    q->got.top_lp = NULL;
    rec->n_rows = q->n_fed + (q->n_drawn > 0 ? q->n_drawn - 1 : 0);
    return MB_OK;
}
