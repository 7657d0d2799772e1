/* The scheduler of one attention group: which sequences run, and which of their rows make up a step. Its choices never
 * touch a result's bits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "engine/work.h"

enum mb_status mb_sched_create(struct mb_engine *e)
{
    const struct mb_plan *p = e->o.plan;
    size_t rows = (size_t)p->max_batch_rows, seqs = (size_t)p->max_num_seqs;
    struct mb_batch *b = &e->batch;

    b->max_pages = p->max_pages_per_seq;
    b->seq = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    b->ids = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, 5 * rows, sizeof(int32_t));
    b->page_table = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, seqs * (size_t)b->max_pages, sizeof(int32_t));
    b->run = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, seqs + 1, sizeof *b->run);
    b->tag = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, rows, sizeof *b->tag);
    b->out_row = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, rows, sizeof(int32_t));
    b->out_seq = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, rows, sizeof(void *));
    b->out_pos = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, rows, sizeof(int64_t));
    e->mtp_batch.tag = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, e->mtp ? rows : 1, sizeof(uint16_t));
    e->mtp_batch.ids = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, e->mtp ? 6 * rows : 1, sizeof(int32_t));
    e->running = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    e->cap_waiting = p->max_num_seqs;
    e->waiting = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    e->free_page = mb_zalloc(e->o.mem, MB_MEM_REQUESTS, (size_t)p->kv_pages, sizeof(int32_t));
    if (b->seq == NULL || b->run == NULL || b->tag == NULL || b->ids == NULL || b->page_table == NULL || b->out_row == NULL || b->out_seq == NULL ||
        b->out_pos == NULL || e->mtp_batch.ids == NULL || e->mtp_batch.tag == NULL || e->running == NULL || e->waiting == NULL || e->free_page == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %zu sequences and %zu rows; use a smaller --max-num-seqs", seqs, rows);
    b->pos = b->ids + rows;
    b->rope = b->pos + rows;
    b->slot = b->rope + rows;
    b->row_seq = b->slot + rows;
    if (e->mtp) {
        struct mb_batch *t = &e->mtp_batch;
        t->max_pages = b->max_pages;
        t->pos = t->ids + rows;
        t->rope = t->pos + rows;
        t->slot = t->rope + rows;
        t->row_seq = t->slot + rows;
        t->out_row = t->row_seq + rows;
    }
    e->n_free_page = (int32_t)p->kv_pages;
    for (int32_t i = 0; i < e->n_free_page; i++)
        e->free_page[i] = e->n_free_page - 1 - i;
    return MB_OK;
}

void mb_sched_destroy(struct mb_engine *e)
{
    struct mb_batch *b = &e->batch;

    for (int32_t i = 0; i < e->n_running; i++)
        mb_seq_destroy(e->running[i]);
    mb_seq_destroy(e->held);
    for (int32_t i = 0; i < e->n_waiting; i++)
        mb_job_drop(e->waiting[i]);
    mb_free(e->mtp_batch.ids);
    mb_free(e->mtp_batch.tag);
    mb_free(e->running);
    mb_free(e->waiting);
    mb_free(e->free_page);
    mb_free(b->seq);
    mb_free(b->ids);
    mb_free(b->page_table);
    mb_free(b->run);
    mb_free(b->tag);
    mb_free(b->out_row);
    mb_free(b->out_seq);
    mb_free(b->out_pos);
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

    MB_TRY(mb_seq_fail(q, "needs %lld KV pages for %lld positions, this layout has %lld a rank", (long long)pages,
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

/* The whole of a sequence's pages is reserved at admission, so a running sequence never has to give way. */
static enum mb_status admit(struct mb_engine *e, struct mb_seq *q, int32_t pages, struct mb_sink *sink)
{
    for (int32_t i = 0; i < pages; i++)
        q->page[i] = e->free_page[--e->n_free_page];
    q->n_pages = pages;
    q->t_admit = mb_now();
    e->running[e->n_running++] = q;
    return sink->ops->begin(sink, q->job->req, q->choice, q->rows_total - q->job->req->hidden, &q->handle);
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
        if (pages > e->o.plan->kv_pages || pages > e->o.plan->max_pages_per_seq) {
            MB_TRY(refuse(e, q, pages, sink));
            continue;
        }
        if (pages > e->n_free_page) {
            e->held = q;
            return MB_OK;
        }
        q->adapter = adapter_index(e, q->job->req->adapter);
        q->rope_long = m->rope_switch > 0 && q->n_prompt + q->max_out > m->rope_switch;
        MB_TRY(admit(e, q, (int32_t)pages, sink));
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- the batch of a step */

/* Rows of one adapter lie together; a run is what such rows are called. */
static void note_adapter(struct mb_batch *b, int32_t adapter, int32_t rows)
{
    for (int32_t i = b->rows; i < b->rows + rows; i++)
        b->tag[i] = (uint16_t)(adapter + 1);
    if (adapter < 0)
        return;
    struct mb_lora_run *last = b->n_runs > 0 ? &b->run[b->n_runs - 1] : NULL;
    if (last != NULL && last->adapter == adapter && last->row0 + last->rows == b->rows)
        last->rows += rows;
    else
        b->run[b->n_runs++] = (struct mb_lora_run){adapter, b->rows, rows};
}

static void add_rows(struct mb_engine *e, struct mb_seq *q, int32_t rows)
{
    struct mb_batch *b = &e->batch;
    bool all = e->o.save_logits == MB_LOGITS_ALL;

    if (rows <= 0)
        return;
    note_adapter(b, q->adapter, rows);
    memcpy(b->page_table + (size_t)b->seqs * (size_t)b->max_pages, q->page, sizeof(int32_t) * (size_t)q->n_pages);
    q->step_row = b->rows;
    q->step_rows = rows;
    for (int32_t i = 0; i < rows; i++) {
        int32_t r = b->rows++;
        int64_t pos = q->n_done + i;
        b->ids[r] = q->ids[pos];
        b->pos[r] = (int32_t)pos;
        b->rope[r] = (int32_t)(pos + (q->rope_long ? e->work.rope_rows : 0));
        b->slot[r] = q->page[pos / MB_KV_BLOCK] * MB_KV_BLOCK + (int32_t)(pos % MB_KV_BLOCK);
        b->row_seq[r] = b->seqs;
        if (all || mb_seq_draws_at(q, pos) || mb_seq_scores_at(q, pos) ||
            (e->o.save_logits == MB_LOGITS_LAST && pos == q->n_prompt - 1)) {
            b->out_row[b->n_out] = r;
            b->out_seq[b->n_out] = q;
            b->out_pos[b->n_out++] = pos;
        }
    }
    b->seq[b->seqs++] = q;
}

static void add_decode(struct mb_engine *e, int32_t adapter)
{
    for (int32_t i = 0; i < e->n_running && e->batch.rows < e->o.plan->max_batch_rows; i++) {
        struct mb_seq *q = e->running[i];
        if (q->adapter == adapter && q->n_ids - q->n_done == 1 && q->n_done >= q->n_prompt)
            add_rows(e, q, 1);
    }
}

static void add_prefill(struct mb_engine *e, int32_t adapter)
{
    int32_t max = e->o.plan->max_batch_rows;

    for (int32_t i = 0; i < e->n_running && e->batch.rows < max; i++) {
        struct mb_seq *q = e->running[i];
        int64_t todo = q->n_ids - q->n_done;
        if (q->adapter != adapter || q->step_rows > 0 || todo <= 0)
            continue;
        add_rows(e, q, todo < max - e->batch.rows ? (int32_t)todo : max - e->batch.rows);
    }
}

void mb_sched_batch(struct mb_engine *e)
{
    struct mb_batch *b = &e->batch;

    b->rows = b->seqs = b->n_out = b->n_runs = 0;
    for (int32_t i = 0; i < e->n_running; i++)
        e->running[i]->step_rows = 0;
    for (int32_t a = -1; a < e->o.n_adapters; a++)
        add_decode(e, a);
    for (int32_t a = -1; a < e->o.n_adapters; a++)
        add_prefill(e, a);
    e->counters.rows += b->rows;
}

/* ---------------------------------------------------------------- after a step */

/* The MTP module predicts two tokens ahead: the last row has nothing to predict and is NaN. */
static enum mb_status last_mtp_row(struct mb_engine *e, const struct mb_seq *q, struct mb_sink *sink)
{
    int64_t last = q->n_prompt + (q->n_drawn > 0 ? q->n_drawn - 1 : 0) - 1 - q->job->req->hidden;

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

    for (int32_t i = 0; i < q->n_pages; i++)
        e->free_page[e->n_free_page++] = q->page[i];
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

enum mb_status mb_sched_retire(struct mb_engine *e, struct mb_sink *sink)
{
    int32_t kept = 0;
    enum mb_status st = MB_OK;

    for (int32_t i = 0; i < e->n_running; i++) {
        struct mb_seq *q = e->running[i];
        q->n_done += q->step_rows;
        if (q->max_out == 0 && q->n_done == q->n_prompt && !q->done) {
            q->finish = q->job->req->kind == MB_KIND_GENERATE ? MB_FINISH_LENGTH : MB_FINISH_NONE;
            q->done = true;
        }
        if (q->done && st == MB_OK)
            st = finish(e, q, sink);
        else
            e->running[kept++] = q;
    }
    e->n_running = kept;
    return st;
}
