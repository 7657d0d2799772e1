/* The scheduler of one attention group: which sequences run, and which of their rows make up a step. Its choices never
 * touch a result's bits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "engine/work.h"

static enum mb_status flights_create(struct mb_engine *e)
{
    size_t rows = (size_t)e->o.plan->max_batch_rows, seqs = (size_t)e->o.plan->max_num_seqs;

    e->depth = e->t.l.pp;
    e->stage_tick = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, (size_t)e->depth, sizeof *e->stage_tick);
    if (e->stage_tick == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d stages", e->depth);
    e->flight = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, (size_t)e->depth, sizeof *e->flight);
    for (int32_t i = 0; e->flight != NULL && i < e->depth; i++) {
        struct mb_flight *f = &e->flight[i];
        f->seq = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
        f->seq_pos = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, seqs, sizeof *f->seq_pos);
        f->seq_row = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, 2 * seqs, sizeof *f->seq_row);
        f->out_seq = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, rows, sizeof(void *));
        f->out_pos = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, rows, sizeof *f->out_pos);
        if (!f->seq || !f->seq_pos || !f->seq_row || !f->out_seq || !f->out_pos)
            return mb_error(MB_NO_MEMORY, "no memory for %zu sequences and %zu rows; use a smaller --max-num-seqs", seqs, rows);
        f->seq_rows = f->seq_row + seqs;
    }
    return e->flight != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for %d steps", e->depth);
}

static enum mb_status pages_create(struct mb_engine *e)
{
    int32_t sp = e->t.l.sp, pages = (int32_t)e->o.plan->kv_pages;

    e->free_page = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, (size_t)sp, sizeof(void *));
    e->n_free_page = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, (size_t)sp, sizeof(int32_t));
    for (int32_t p = 0; e->free_page != NULL && e->n_free_page != NULL && p < sp; p++) {
        e->free_page[p] = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, (size_t)pages, sizeof(int32_t));
        if (e->free_page[p] == NULL)
            break;
        e->n_free_page[p] = pages;
        for (int32_t i = 0; i < pages; i++)
            e->free_page[p][i] = pages - 1 - i;
    }
    if (e->free_page == NULL || e->n_free_page == NULL || e->free_page[sp - 1] == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of %d KV pages", pages);
    return MB_OK;
}

/* Only a leader schedules. */
enum mb_status mb_sched_create(struct mb_engine *e)
{
    size_t seqs = (size_t)e->o.plan->max_num_seqs;

    if (!e->t.leads)
        return MB_OK;
    e->running = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    e->cap_waiting = e->o.plan->max_num_seqs;
    e->waiting = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    if (e->running == NULL || e->waiting == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %zu sequences; use a smaller --max-num-seqs", seqs);
    MB_TRY(pages_create(e));
    return flights_create(e);
}

void mb_sched_destroy(struct mb_engine *e)
{
    for (int32_t i = 0; i < e->n_running; i++)
        mb_seq_destroy(e->running[i]);
    mb_seq_destroy(e->held);
    for (int32_t i = 0; i < e->n_waiting; i++)
        mb_job_drop(e->waiting[i]);
    mb_free(e->running);
    mb_free(e->waiting);
    for (int32_t p = 0; p < e->t.l.sp && e->free_page != NULL; p++)
        mb_free(e->free_page[p]);
    mb_free(e->free_page);
    mb_free(e->n_free_page);
    mb_free(e->stage_tick);
    for (int32_t i = 0; i < e->depth && e->flight != NULL; i++) {
        mb_free(e->flight[i].seq);
        mb_free(e->flight[i].seq_pos);
        mb_free(e->flight[i].seq_row);
        mb_free(e->flight[i].out_seq);
        mb_free(e->flight[i].out_pos);
    }
    mb_free(e->flight);
}

/* ---------------------------------------------------------------- admission */

static enum mb_status copy_id(const struct mb_request *r, struct mb_record *rec)
{
    rec->id.data = malloc(r->id.len + 1);
    if (rec->id.data == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for an id");
    memcpy(rec->id.data, r->id.data, r->id.len);
    rec->id.data[r->id.len] = 0;
    rec->id.len = r->id.len;
    return MB_OK;
}

static enum mb_status emit_error_row(const struct mb_request *r, int32_t choice, struct mb_sink *sink)
{
    struct mb_record rec = {.line = r->line, .choice = choice, .n = r->n, .kind = (uint8_t)r->kind,
                            .status = MB_ROW_ERROR, .finish = MB_FINISH_ERROR, .openai = r->openai, .chat = r->chat};
    enum mb_status st = copy_id(r, &rec);

    rec.error.data = strdup(r->error);
    rec.error.len = strlen(r->error);
    if (st == MB_OK && rec.error.data == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for an error row");
    if (st == MB_OK)
        st = sink->ops->done(sink, -1, &rec);
    if (st != MB_OK)
        mb_record_fini(&rec);
    return st;
}

/* A line that asks for nothing we can run: its error rows, at once (n of them where the line itself was good). */
static enum mb_status emit_error(struct mb_engine *e, struct mb_request *r, struct mb_sink *sink)
{
    enum mb_status st = MB_OK;

    for (int32_t c = 0; c < r->n && st == MB_OK; c++) {
        st = emit_error_row(r, c, sink);
        e->counters.requests_done++;
        e->counters.requests_error++;
    }
    mb_request_destroy(r);
    return st;
}

static enum mb_status take_request(struct mb_engine *e, struct mb_request *r, struct mb_sink *sink)
{
    if (r->error != NULL)
        return emit_error(e, r, sink);
    struct mb_job *job = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, 1, sizeof *job);
    if (job == NULL) {
        mb_request_destroy(r);
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    }
    job->req = r;
    job->refs = 1;
    job->arrived = mb_now();
    e->waiting[e->n_waiting++] = job;
    return MB_OK;
}

static enum mb_status pull(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink)
{
    struct mb_request *got[16];

    while (!e->source_ended && e->n_running + e->n_waiting < e->o.plan->max_num_seqs) {
        int32_t room = e->o.plan->max_num_seqs - e->n_running - e->n_waiting, n = 0;
        enum mb_source_state state;
        MB_TRY(src->ops->next(src, room < 16 ? room : 16, got, &n, &state));
        enum mb_status st = MB_OK;
        for (int32_t i = 0; i < n; i++) {
            if (st == MB_OK)
                st = take_request(e, got[i], sink);
            else
                mb_request_destroy(got[i]);
        }
        MB_TRY(st);
        if (state == MB_SOURCE_END)
            e->source_ended = true;
        if (state != MB_SOURCE_SOME)
            break;
    }
    return MB_OK;
}

/* The next choice that still has to be computed, or NULL. */
static enum mb_status next_seq(struct mb_engine *e, struct mb_seq **out)
{
    *out = NULL;
    while (e->n_waiting > 0) {
        struct mb_job *job = e->waiting[0];
        const struct mb_request *r = job->req;
        while (job->next < r->n && r->resume != NULL && r->resume[job->next].done)
            job->next++;
        if (job->next < r->n)
            return mb_seq_create(e->o.mem, job, e->o.seed, out);
        e->n_waiting--;
        memmove(e->waiting, e->waiting + 1, sizeof(void *) * (size_t)e->n_waiting);
        mb_job_drop(job);
    }
    return MB_OK;
}

static enum mb_status refuse(struct mb_engine *e, struct mb_seq *q, int64_t pages, struct mb_sink *sink)
{
    struct mb_record rec;

    MB_TRY(mb_seq_fail(q, "needs %lld KV pages on a rank for %lld positions, this layout has %lld a rank", (long long)pages,
                       (long long)mb_seq_positions(q), (long long)e->o.plan->kv_pages));
    enum mb_status st = mb_seq_record(q, &rec);
    if (st == MB_OK)
        st = copy_id(q->job->req, &rec);
    if (st == MB_OK)
        st = sink->ops->done(sink, -1, &rec);
    e->counters.requests_done++;
    e->counters.requests_error++;
    mb_seq_destroy(q);
    return st;
}

/* The part that keeps a page, and the pages that each part keeps of n. */
static int32_t part_of_page(const struct mb_engine *e, int64_t page)
{
    return mb_layout_part(e->t.l.sp, page * MB_KV_BLOCK / e->o.segment);
}

static void pages_by_part(const struct mb_engine *e, int64_t n, int64_t count[MB_MAX_PARTS])
{
    memset(count, 0, sizeof *count * (size_t)e->t.l.sp);
    if (e->t.l.sp == 1)
        count[0] = n;
    for (int64_t i = 0; e->t.l.sp > 1 && i < n; i++)
        count[part_of_page(e, i)]++;
}

/* The whole of a sequence's pages is reserved at admission, so a running sequence never has to give way. */
static enum mb_status admit(struct mb_engine *e, struct mb_seq *q, int32_t pages, struct mb_sink *sink)
{
    for (int32_t i = 0; i < pages; i++) {
        int32_t p = part_of_page(e, i);
        q->page[i] = e->free_page[p][--e->n_free_page[p]];
    }
    q->n_pages = pages;
    q->t_admit = mb_now();
    e->running[e->n_running++] = q;
    return sink->ops->begin(sink, q->job->req, q->choice, q->rows_total, &q->handle);
}

/* The parser refused names that are none; -1: no adapter. */
static int32_t adapter_index(const struct mb_engine *e, const char *name)
{
    for (int32_t i = 0; name != NULL && i < e->o.n_adapters; i++) {
        if (strcmp(e->o.adapter_names[i], name) == 0)
            return i;
    }
    return -1;
}

enum mb_status mb_sched_fill(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink)
{
    const struct mb_model *m = e->o.model;

    MB_TRY(pull(e, src, sink));
    while (e->n_running < e->o.plan->max_num_seqs) {
        struct mb_seq *q = e->held;
        if (q == NULL)
            MB_TRY(next_seq(e, &q));
        if (q == NULL)
            return MB_OK;
        e->held = NULL;
        int64_t pages = (mb_seq_positions(q) + MB_KV_BLOCK - 1) / MB_KV_BLOCK;
        int64_t of[MB_MAX_PARTS], most = 0;
        bool wait = false;
        pages_by_part(e, pages, of);
        for (int32_t p = 0; p < e->t.l.sp; p++) {
            most = of[p] > most ? of[p] : most;
            wait |= of[p] > e->n_free_page[p];
        }
        if (most > e->o.plan->kv_pages || pages > e->o.plan->max_pages_per_seq) {
            MB_TRY(refuse(e, q, most, sink));
            continue;
        }
        if (wait) {
            e->held = q;
            return MB_OK;
        }
        q->adapter = adapter_index(e, q->job->req->adapter);
        q->rope_long = m->rope_switch > 0 && (q->window > 0 ? q->window : q->n_prompt + q->max_out) > m->rope_switch;
        MB_TRY(admit(e, q, (int32_t)pages, sink));
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- the batch of a step */

/* A row that the results do not keep; the MTP module alone has to know the token behind it. */
static void add_repeat(struct mb_engine *e, struct mb_flight *f, struct mb_seq *q, int32_t row, int64_t at)
{
    struct mb_batch *b = &e->batch;

    if (!e->mtp)
        return;
    int32_t i = b->n_out++;
    f->out_seq[i] = q;
    f->out_pos[i] = -1;
    b->out[i] = (struct mb_out){row, q->ids[at + 1], 0, false, false};
    b->sample[i] = (struct mb_sample_row){.repetition = 1.0f, .top_p = 1.0f, .adj_begin = b->adj.n, .adj_end = b->adj.n};
}

/* A row whose logits are needed: what for. A known next token (of the prompt, or forced) is the target; else the drawn one. */
static enum mb_status add_out(struct mb_engine *e, struct mb_flight *f, struct mb_seq *q, int32_t row, int64_t pos)
{
    struct mb_batch *b = &e->batch;
    bool draws = mb_seq_draws_at(q, pos), all = e->o.save_logits == MB_LOGITS_ALL;
    bool last = e->o.save_logits == MB_LOGITS_LAST && pos >= q->n_fed - 1;

    if (!all && !last && !draws && !mb_seq_scores_at(q, pos))
        return MB_OK;
    int32_t i = b->n_out++;
    f->out_seq[i] = q;
    f->out_pos[i] = pos;
    b->out[i] = (struct mb_out){row, pos + 1 < q->n_prompt ? q->ids[pos + 1] : -1, 0, all || last, mb_seq_goes_on_at(q, pos)};
    b->sample[i] = (struct mb_sample_row){.repetition = 1.0f, .top_p = 1.0f, .adj_begin = b->adj.n, .adj_end = b->adj.n};
    if (!draws)
        return MB_OK;
    b->out[i].top_n = q->job->req->top_n;
    return mb_seq_sampling(q, e->o.model->eos, e->o.model->n_eos, pos - (q->n_prompt - 1), &b->adj, &b->sample[i]);
}

static enum mb_status add_rows(struct mb_engine *e, struct mb_flight *f, struct mb_seq *q, int64_t rows)
{
    struct mb_batch *b = &e->batch;

    if (rows <= 0)
        return MB_OK;
    memcpy(b->page_table + (size_t)b->seqs * (size_t)b->max_pages, q->page, sizeof(int32_t) * (size_t)q->n_pages);
    f->seq[b->seqs] = q;
    f->seq_row[b->seqs] = b->rows;
    f->seq_rows[b->seqs] = (int32_t)rows;
    f->seq_pos[b->seqs] = q->n_sched;
    int64_t again = mb_seq_repeats(q, q->n_sched, rows);
    for (int64_t i = 0; i < rows; i++) {
        int32_t r = b->rows++;
        int64_t pos = mb_seq_position(q, q->n_sched + i), at = mb_seq_index(q, q->n_sched + i);
        b->ids[r] = q->ids[at];
        b->pos[r] = (int32_t)pos;
        b->rope[r] = (int32_t)(pos + (q->rope_long ? e->work.rope_rows : 0));
        b->row_seq[r] = b->seqs;
        b->tag[r] = (uint16_t)(q->adapter + 1);
        if (i < again)
            add_repeat(e, f, q, r, at);
        else
            MB_TRY(add_out(e, f, q, r, at));
    }
    b->seqs++;
    q->n_sched += rows;
    q->in_flight++;
    q->picked = true;
    return MB_OK;
}

/* Sequences that wait for nothing but this step. With several steps under way each takes its part of them, or the first would have
 * them all. */
static enum mb_status add_decode(struct mb_engine *e, struct mb_flight *f, int32_t adapter, int32_t *left)
{
    for (int32_t i = 0; i < e->n_running && e->batch.rows < e->o.plan->max_batch_rows && *left > 0; i++) {
        struct mb_seq *q = e->running[i];
        if (q->adapter != adapter || q->done || mb_seq_todo(q) != 1 || q->n_sched < q->n_prompt || q->max_out == 0)
            continue;
        MB_TRY(add_rows(e, f, q, 1));
        (*left)--;
    }
    return MB_OK;
}

static enum mb_status add_prefill(struct mb_engine *e, struct mb_flight *f, int32_t adapter)
{
    int32_t max = e->o.plan->max_batch_rows;

    for (int32_t i = 0; i < e->n_running && e->batch.rows < max; i++) {
        struct mb_seq *q = e->running[i];
        int64_t todo = mb_seq_todo(q), room = max - e->batch.rows;
        bool decode = todo == 1 && q->n_sched >= q->n_prompt && q->max_out > 0;
        if (q->adapter == adapter && !q->picked && !q->done && !(decode && e->depth > 1))
            MB_TRY(add_rows(e, f, q, todo < room ? todo : room));
    }
    return MB_OK;
}

enum mb_status mb_sched_batch(struct mb_engine *e)
{
    struct mb_batch *b = &e->batch;
    struct mb_flight *f = &e->flight[(e->first_flight + e->n_flights) % e->depth];
    int32_t decode = (e->n_running + e->depth - 1) / e->depth;

    b->rows = b->seqs = b->n_out = b->n_runs = b->adj.n = 0;
    for (int32_t i = 0; i < e->n_running; i++)
        e->running[i]->picked = false;
    enum mb_status st = e->status;
    for (int32_t a = -1; st == MB_OK && a < e->o.n_adapters; a++)
        st = add_decode(e, f, a, &decode);
    for (int32_t a = -1; st == MB_OK && a < e->o.n_adapters; a++)
        st = add_prefill(e, f, a);
    f->rows = b->rows;
    f->seqs = b->seqs;
    f->n_out = b->n_out;
    mb_batch_share(e, b);
    e->counters.rows += b->rows;
    return st;
}

/* ---------------------------------------------------------------- after a step */

/* The MTP module predicts two tokens ahead: the last row has nothing to predict and is NaN. */
static enum mb_status last_mtp_row(struct mb_engine *e, const struct mb_seq *q, struct mb_sink *sink)
{
    int64_t last = q->n_fed + (q->n_drawn > 0 ? q->n_drawn - 1 : 0) - 1;

    if (!e->mtp || q->error != NULL || last < 0)
        return MB_OK;
    for (int32_t i = 0; i < e->o.model->vocab; i++)
        e->work.h_rows[i] = NAN;
    return sink->ops->bulk(sink, q->handle, MB_BULK_MTP, last, 1, e->work.h_rows);
}

static enum mb_status finish(struct mb_engine *e, struct mb_seq *q, struct mb_sink *sink)
{
    struct mb_record rec = {0};
    bool failed = q->error != NULL;

    for (int32_t i = 0; i < q->n_pages; i++) {
        int32_t p = part_of_page(e, i);
        e->free_page[p][e->n_free_page[p]++] = q->page[i];
    }
    enum mb_status st = last_mtp_row(e, q, sink);
    if (st == MB_OK)
        st = mb_seq_record(q, &rec);
    if (st == MB_OK)
        st = copy_id(q->job->req, &rec);
    if (st == MB_OK)
        st = sink->ops->done(sink, q->handle, &rec);
    else
        mb_record_fini(&rec);
    e->counters.requests_done++;
    e->counters.requests_error += failed;
    e->counters.prompt_tokens += q->n_prompt;
    mb_seq_destroy(q);
    return st;
}

enum mb_status mb_sched_retire(struct mb_engine *e, struct mb_flight *f, struct mb_sink *sink)
{
    int32_t kept = 0;
    enum mb_status st = MB_OK;

    for (int32_t i = 0; i < f->seqs; i++) {
        f->seq[i]->n_done += f->seq_rows[i];
        f->seq[i]->in_flight--;
    }
    for (int32_t i = 0; i < e->n_running; i++) {
        struct mb_seq *q = e->running[i];
        if (q->max_out == 0 && q->n_done == q->n_compute && !q->done) {
            q->finish = q->job->req->kind == MB_KIND_GENERATE ? MB_FINISH_LENGTH : MB_FINISH_NONE;
            q->done = true;
        }
        if (q->done && q->in_flight == 0 && st == MB_OK)
            st = finish(e, q, sink);
        else
            e->running[kept++] = q;
    }
    e->n_running = kept;
    return st;
}
