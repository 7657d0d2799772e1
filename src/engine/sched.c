/* The scheduler: made, ended, and which sequences run. */
#include "engine/sched.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "engine/sched_impl.h"

static enum mb_status flight_create(const struct mb_sched_options *o, struct mb_flight *f)
{
    size_t rows = (size_t)o->max_rows, seqs = (size_t)o->max_seqs;

    f->seq = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    f->seq_pos = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs, sizeof *f->seq_pos);
    f->seq_row = mb_zalloc(o->mem, MB_MEM_REQUESTS, 2 * seqs, sizeof *f->seq_row);
    f->out_seq = mb_zalloc(o->mem, MB_MEM_REQUESTS, rows, sizeof(void *));
    f->out_pos = mb_zalloc(o->mem, MB_MEM_REQUESTS, rows, sizeof *f->out_pos);
    if (!f->seq || !f->seq_pos || !f->seq_row || !f->out_seq || !f->out_pos)
        return mb_error(MB_NO_MEMORY,
                        "no memory for %zu sequences and %zu rows; use a smaller --max-num-seqs", seqs, rows);
    f->seq_rows = f->seq_row + seqs;
    return MB_OK;
}

static enum mb_status flights_create(struct mb_sched *s)
{
    s->stage_tick = mb_zalloc(s->o.mem, MB_MEM_REQUESTS, (size_t)s->o.depth, sizeof *s->stage_tick);
    s->flight = mb_zalloc(s->o.mem, MB_MEM_REQUESTS, (size_t)s->o.depth, sizeof *s->flight);
    if (s->stage_tick == NULL || s->flight == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d steps", s->o.depth);
    for (int32_t i = 0; i < s->o.depth; i++)
        MB_TRY(flight_create(&s->o, &s->flight[i]));
    return MB_OK;
}

static enum mb_status pages_create(const struct mb_sched_options *o, struct mb_free_pages *f)
{
    int32_t pages = (int32_t)o->kv_pages;

    f->page = mb_zalloc(o->mem, MB_MEM_REQUESTS, (size_t)o->parts, sizeof(void *));
    f->n = mb_zalloc(o->mem, MB_MEM_REQUESTS, (size_t)o->parts, sizeof(int32_t));
    for (int32_t p = 0; f->page != NULL && f->n != NULL && p < o->parts; p++) {
        f->page[p] = mb_zalloc(o->mem, MB_MEM_REQUESTS, (size_t)pages, sizeof(int32_t));
        if (f->page[p] == NULL)
            break;
        f->n[p] = pages;
        for (int32_t i = 0; i < pages; i++)
            f->page[p][i] = pages - 1 - i;
    }
    if (f->page == NULL || f->n == NULL || f->page[o->parts - 1] == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of %d KV pages", pages);
    return MB_OK;
}

static enum mb_status no_logits_create(struct mb_sched *s)
{
    if (!s->o.mtp)
        return MB_OK;
    s->no_logits = mb_zalloc(s->o.mem, MB_MEM_REQUESTS, (size_t)s->o.vocab, sizeof(float));
    for (int32_t i = 0; s->no_logits != NULL && i < s->o.vocab; i++)
        s->no_logits[i] = NAN;
    return s->no_logits != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for %d logits", s->o.vocab);
}

enum mb_status mb_sched_create(const struct mb_sched_options *o, struct mb_counters *counters,
                               struct mb_sched *s)
{
    size_t seqs = (size_t)o->max_seqs;

    *s = (struct mb_sched){.o = *o, .counters = counters};
    s->running = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    s->waiting = mb_zalloc(o->mem, MB_MEM_REQUESTS, seqs, sizeof(void *));
    if (s->running == NULL || s->waiting == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %zu sequences; use a smaller --max-num-seqs", seqs);
    MB_TRY(pages_create(o, &s->pages));
    MB_TRY(no_logits_create(s));
    return flights_create(s);
}

void mb_sched_destroy(struct mb_sched *s)
{
    for (int32_t i = 0; i < s->n_running; i++)
        mb_seq_destroy(s->running[i]);
    mb_seq_destroy(s->held);
    for (int32_t i = 0; i < s->n_waiting; i++)
        mb_job_drop(s->waiting[i]);
    mb_free(s->running);
    mb_free(s->waiting);
    for (int32_t p = 0; p < s->o.parts && s->pages.page != NULL; p++)
        mb_free(s->pages.page[p]);
    mb_free(s->pages.page);
    mb_free(s->pages.n);
    mb_free(s->no_logits);
    mb_free(s->stage_tick);
    for (int32_t i = 0; i < s->o.depth && s->flight != NULL; i++) {
        mb_free(s->flight[i].seq);
        mb_free(s->flight[i].seq_pos);
        mb_free(s->flight[i].seq_row);
        mb_free(s->flight[i].out_seq);
        mb_free(s->flight[i].out_pos);
    }
    mb_free(s->flight);
    *s = (struct mb_sched){0};
}

/* ---------------------------------------------------------------- admission */

enum mb_status mb_sched_copy_id(const struct mb_request *r, struct mb_record *rec)
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
    struct mb_record rec = {.line = r->line,
                            .choice = choice,
                            .n = r->n,
                            .kind = (uint8_t)r->kind,
                            .status = MB_ROW_ERROR,
                            .finish = MB_FINISH_ERROR,
                            .openai = r->openai,
                            .chat = r->chat};
    enum mb_status st = mb_sched_copy_id(r, &rec);

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

/* A line that asks for nothing we can run: its error rows, at once (n of them where the line itself was
 * good). */
static enum mb_status emit_error(struct mb_sched *s, struct mb_request *r, struct mb_sink *sink)
{
    enum mb_status st = MB_OK;

    for (int32_t c = 0; c < r->n && st == MB_OK; c++) {
        st = emit_error_row(r, c, sink);
        s->counters->requests_done++;
        s->counters->requests_error++;
    }
    mb_request_destroy(r);
    return st;
}

static enum mb_status take_request(struct mb_sched *s, struct mb_request *r, struct mb_sink *sink)
{
    if (r->error != NULL)
        return emit_error(s, r, sink);
    struct mb_job *job = mb_zalloc(s->o.mem, MB_MEM_REQUESTS, 1, sizeof *job);
    if (job == NULL) {
        mb_request_destroy(r);
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    }
    job->req = r;
    job->refs = 1;
    job->arrived = mb_now();
    s->waiting[s->n_waiting++] = job;
    return MB_OK;
}

static enum mb_status pull(struct mb_sched *s, struct mb_source *src, struct mb_sink *sink)
{
    struct mb_request *got[16];

    while (!s->source_ended && s->n_running + s->n_waiting < s->o.max_seqs) {
        int32_t room = s->o.max_seqs - s->n_running - s->n_waiting, n = 0;
        enum mb_source_state state;
        MB_TRY(src->ops->next(src, room < 16 ? room : 16, got, &n, &state));
        enum mb_status st = MB_OK;
        for (int32_t i = 0; i < n; i++) {
            if (st == MB_OK)
                st = take_request(s, got[i], sink);
            else
                mb_request_destroy(got[i]);
        }
        MB_TRY(st);
        if (state == MB_SOURCE_END)
            s->source_ended = true;
        if (state != MB_SOURCE_SOME)
            break;
    }
    return MB_OK;
}

/* The next choice that still has to be computed, or NULL. */
static enum mb_status next_seq(struct mb_sched *s, struct mb_seq **out)
{
    *out = NULL;
    while (s->n_waiting > 0) {
        struct mb_job *job = s->waiting[0];
        const struct mb_request *r = job->req;
        while (job->next < r->n && r->resume != NULL && r->resume[job->next].done)
            job->next++;
        if (job->next < r->n)
            return mb_seq_create(s->o.mem, job, s->o.seed, out);
        s->n_waiting--;
        memmove(s->waiting, s->waiting + 1, sizeof(void *) * (size_t)s->n_waiting);
        mb_job_drop(job);
    }
    return MB_OK;
}

static enum mb_status refuse(struct mb_sched *s, struct mb_seq *q, int64_t pages, struct mb_sink *sink)
{
    struct mb_record rec;

    MB_TRY(mb_seq_fail(q, "needs %lld KV pages on a rank for %lld positions, this layout has %lld a rank",
                       (long long)pages, (long long)mb_seq_positions(q), (long long)s->o.kv_pages));
    enum mb_status st = mb_seq_record(q, &rec);
    if (st == MB_OK)
        st = mb_sched_copy_id(q->job->req, &rec);
    if (st == MB_OK)
        st = sink->ops->done(sink, -1, &rec);
    s->counters->requests_done++;
    s->counters->requests_error++;
    mb_seq_destroy(q);
    return st;
}

/* The pages that each part keeps of n. */
static void pages_by_part(const struct mb_sched *s, int64_t n, int64_t count[MB_MAX_PARTS])
{
    memset(count, 0, sizeof *count * (size_t)s->o.parts);
    if (s->o.parts == 1)
        count[0] = n;
    for (int64_t i = 0; s->o.parts > 1 && i < n; i++)
        count[mb_sched_part_of(s, i)]++;
}

/* The whole of a sequence's pages is reserved at admission, so a running sequence never has to give way. */
static enum mb_status admit(struct mb_sched *s, struct mb_seq *q, int32_t pages, struct mb_sink *sink)
{
    for (int32_t i = 0; i < pages; i++) {
        int32_t p = mb_sched_part_of(s, i);
        q->page[i] = s->pages.page[p][--s->pages.n[p]];
    }
    q->n_pages = pages;
    q->got.t_admit = mb_now();
    s->running[s->n_running++] = q;
    return sink->ops->begin(sink, q->job->req, q->choice, q->rows_total, &q->handle);
}

/* The parser refused names that are none; -1: no adapter. */
static int32_t adapter_index(const struct mb_sched *s, const char *name)
{
    for (int32_t i = 0; name != NULL && i < s->o.n_adapters; i++) {
        if (strcmp(s->o.adapter_names[i], name) == 0)
            return i;
    }
    return -1;
}

enum mb_status mb_sched_fill(struct mb_sched *s, struct mb_source *src, struct mb_sink *sink)
{
    MB_TRY(pull(s, src, sink));
    while (s->n_running < s->o.max_seqs) {
        struct mb_seq *q = s->held;
        if (q == NULL)
            MB_TRY(next_seq(s, &q));
        if (q == NULL)
            return MB_OK;
        s->held = NULL;
        int64_t pages = (mb_seq_positions(q) + MB_KV_BLOCK - 1) / MB_KV_BLOCK;
        int64_t of[MB_MAX_PARTS], most = 0;
        bool wait = false;
        pages_by_part(s, pages, of);
        for (int32_t p = 0; p < s->o.parts; p++) {
            most = of[p] > most ? of[p] : most;
            wait |= of[p] > s->pages.n[p];
        }
        if (most > s->o.kv_pages || pages > s->o.max_pages) {
            MB_TRY(refuse(s, q, most, sink));
            continue;
        }
        if (wait) {
            s->held = q;
            return MB_OK;
        }
        q->adapter = adapter_index(s, q->job->req->adapter);
        q->rope_long =
            s->o.rope_switch > 0 && (q->window > 0 ? q->window : q->n_prompt + q->max_out) > s->o.rope_switch;
        MB_TRY(admit(s, q, (int32_t)pages, sink));
    }
    return MB_OK;
}
