/* The scheduler: requests in, and which sequences run. */
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "engine/sched_impl.h"

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

/* The guide of a request; what is wrong with its text becomes the request's error. */
static enum mb_status open_guide(struct mb_sched *s, struct mb_request *r, struct mb_guide **out)
{
    char why[400] = "the model has no tokenizer";
    enum mb_status st = MB_REQUEST;

    *out = NULL;
    if (r->error != NULL || r->guide_kind == MB_GUIDE_NONE)
        return MB_OK;
    if (s->o.guides != NULL)
        st = mb_guide_open(s->o.guides, r->guide_kind, r->guide.data, r->guide.len, out, why, sizeof why);
    if (st != MB_REQUEST)
        return st;
    if (asprintf(&r->error, "%s: %s", r->guide_key, why) >= 0)
        return MB_OK;
    r->error = NULL;
    return mb_error(MB_NO_MEMORY, "no memory for an error row");
}

static enum mb_status take_request(struct mb_sched *s, struct mb_request *r, struct mb_sink *sink)
{
    struct mb_guide *guide;
    enum mb_status st = open_guide(s, r, &guide);

    if (st != MB_OK) {
        mb_request_destroy(r);
        return st;
    }
    if (r->error != NULL)
        return emit_error(s, r, sink);
    struct mb_job *job = mb_zalloc(s->o.mem, MB_MEM_REQUESTS, 1, sizeof *job);
    if (job == NULL) {
        mb_guide_close(guide);
        mb_request_destroy(r);
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    }
    job->req = r;
    job->guide = guide;
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

static enum mb_status admit(struct mb_sched *s, struct mb_seq *q, struct mb_sink *sink)
{
    q->got.t_admit = mb_now();
    q->number = ++s->admitted;
    q->way.hits = (float)mb_draft_hits(&s->draft.sums);
    s->running[s->n_running++] = q;
    mb_sched_stand(s, q);
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

/* What about a sequence its rows depend on beside their ids. */
static void choose_kind(const struct mb_sched *s, struct mb_seq *q)
{
    int64_t most = q->window > 0 ? q->window : q->n_prompt + q->max_out;

    q->kind.adapter = adapter_index(s, q->job->req->adapter);
    q->kind.rope_long = s->o.rope_switch > 0 && most > s->o.rope_switch;
}

/* Pages that a part needs at most for the sequence if it is the only one. */
static int64_t needs(const struct mb_sched *s, const struct mb_seq *q)
{
    int64_t pages = mb_sched_pages_for(mb_seq_positions(q)), most = 0;

    for (int32_t p = 0; p < s->o.parts; p++) {
        int64_t n = mb_sched_pages_of(s, p, pages);
        most = n > most ? n : most;
    }
    return most;
}

/* Those that had to give way go on, the oldest first. Whether all do: nobody overtakes them. */
static bool resume(struct mb_sched *s)
{
    for (int32_t i = 0; i < s->n_running; i++) {
        struct mb_seq *q = s->running[i];
        if (!q->paused)
            continue;
        if (q->way.steps > 0 || !mb_sched_fits(s, q))
            return false;
        q->paused = false;
    }
    return true;
}

enum mb_status mb_sched_fill(struct mb_sched *s, struct mb_source *src, struct mb_sink *sink)
{
    MB_TRY(pull(s, src, sink));
    bool all = resume(s);
    while (all && s->n_running < s->o.max_seqs) {
        struct mb_seq *q = s->held;
        if (q == NULL)
            MB_TRY(next_seq(s, &q));
        if (q == NULL)
            return MB_OK;
        s->held = NULL;
        choose_kind(s, q);
        int64_t most = needs(s, q);
        if (most > s->o.kv_pages || mb_sched_pages_for(mb_seq_positions(q)) > s->o.max_pages) {
            MB_TRY(refuse(s, q, most, sink));
            continue;
        }
        if (!mb_sched_fits(s, q)) {
            s->held = q;
            return MB_OK;
        }
        MB_TRY(admit(s, q, sink));
    }
    return MB_OK;
}
