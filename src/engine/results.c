/* What a step found out: from every rank of the attention group to its leader, and there into sequences and
 * records. */
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/wire.h"
#include "engine/count.h"
#include "engine/work.h"

#define TAG_RESULT 3

/* ---------------------------------------------------------------- memory */

static enum mb_status wide_arrays(struct mb_engine *e, size_t rows)
{
    const struct mb_model *m = e->o.model;
    struct mb_found *f = &e->found;
    size_t routes = e->o.save_routing ? (size_t)m->moe_layers * rows * (size_t)m->router.k : 0;
    size_t planes = e->o.save_hidden ? (size_t)(m->layers + 1) * rows * (size_t)m->hidden : 0;

    if (e->t.alone) { /* own rows are all rows */
        f->experts = e->work.h_experts;
        f->served = e->work.h_served;
        f->weights = e->work.h_weights;
        f->hidden = e->work.h_hidden;
        return MB_OK;
    }
    if (!e->t.leads)
        return MB_OK;
    f->experts = mb_zalloc(e->o.mem, MB_MEM_STAGING, routes + 1, sizeof(int32_t));
    f->served = mb_zalloc(e->o.mem, MB_MEM_STAGING, routes + 1, sizeof(int32_t));
    f->weights = mb_zalloc(e->o.mem, MB_MEM_STAGING, routes + 1, sizeof(float));
    f->hidden = mb_zalloc(e->o.mem, MB_MEM_STAGING, planes + 1, sizeof(float));
    return f->experts && f->served && f->weights && f->hidden
               ? MB_OK
               : mb_error(MB_NO_MEMORY, "no memory for the rows of a step");
}

enum mb_status mb_found_create(struct mb_engine *e)
{
    struct mb_found *f = &e->found;
    size_t rows = (size_t)e->o.plan->max_batch_rows;

    f->drawn = mb_zalloc(e->o.mem, MB_MEM_STAGING, (4 + MB_MAX_TOP) * rows, sizeof(int32_t));
    f->lp = mb_zalloc(e->o.mem, MB_MEM_STAGING, (1 + MB_MAX_TOP) * rows, sizeof(float));
    if (f->drawn == NULL || f->lp == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the results of %zu rows", rows);
    f->best = f->drawn + rows;
    f->bad = f->best + rows;
    f->bad_layer = f->bad + rows;
    f->top_ids = f->bad_layer + rows;
    f->top_lp = f->lp + rows;
    return wide_arrays(e, rows);
}

void mb_found_destroy(struct mb_engine *e)
{
    struct mb_found *f = &e->found;

    mb_free(f->drawn);
    mb_free(f->lp);
    if (!e->t.alone) {
        mb_free(f->experts);
        mb_free(f->served);
        mb_free(f->weights);
        mb_free(f->hidden);
    }
    *f = (struct mb_found){0};
}

void mb_found_reset(struct mb_engine *e, int32_t rows)
{
    for (int32_t i = 0; i < rows; i++)
        e->found.bad_layer[i] = -1;
}

/* ---------------------------------------------------------------- on the way */

struct result {
    int64_t step;
    int32_t n_own, n_draw, top_n, unused; /* n_draw: rows with logits, of the rank that samples, else 0 */
    uint64_t logits;                      /* bytes of logits behind everything else */
};

static bool samples(const struct mb_engine *e)
{
    return e->t.last_stage && e->t.at.q == 0 && e->t.at.t == 0;
}

static int32_t widest(const struct mb_batch *b)
{
    int32_t n = 0;

    for (int32_t i = 0; i < b->n_out; i++)
        n = b->out[i].top_n > n ? b->out[i].top_n : n;
    return n;
}

static void pack_draws(const struct mb_found *f, int32_t n, int32_t top_n, struct mb_wire_out *o)
{
    size_t bytes = 4 * (size_t)n;

    mb_wire_put(o, f->drawn, bytes);
    mb_wire_put(o, f->best, bytes);
    mb_wire_put(o, f->bad, bytes);
    mb_wire_put(o, f->lp, bytes);
    for (int32_t i = 0; top_n > 0 && i < n; i++) {
        mb_wire_put(o, f->top_ids + i * MB_MAX_TOP, 4 * (size_t)top_n);
        mb_wire_put(o, f->top_lp + i * MB_MAX_TOP, 4 * (size_t)top_n);
    }
}

/* The layers whose planes this rank has: MoE layers [*lm0, *lm1), residual streams [*h0, *h1). */
static void planes_of(const struct mb_engine *e, int32_t stage, int32_t *lm0, int32_t *lm1, int32_t *h0,
                      int32_t *h1)
{
    const int32_t *first = e->o.plan->first_layer;

    *lm0 = 0;
    for (int32_t l = 0; l < first[stage]; l++)
        *lm0 += e->o.model->is_moe[l];
    *lm1 = *lm0;
    for (int32_t l = first[stage]; l < first[stage + 1]; l++)
        *lm1 += e->o.model->is_moe[l];
    *h0 = stage == 0 ? 0 : first[stage] + 1;
    *h1 = first[stage + 1] + 1;
}

static void pack_rows(const struct mb_engine *e, struct mb_wire_out *o)
{
    int64_t k = e->o.model->router.k, H = e->o.model->hidden, R = e->work.max_rows, n = e->batch.n_own;
    int32_t lm0, lm1, h0, h1;

    planes_of(e, e->t.at.stage, &lm0, &lm1, &h0, &h1);
    for (int32_t lm = lm0; e->o.save_routing && lm < lm1; lm++) {
        mb_wire_put(o, e->work.h_experts + lm * R * k, (size_t)(4 * n * k));
        mb_wire_put(o, e->work.h_served + lm * R * k, (size_t)(4 * n * k));
        mb_wire_put(o, e->work.h_weights + lm * R * k, (size_t)(4 * n * k));
    }
    for (int32_t h = h0; e->o.save_hidden && h < h1; h++)
        mb_wire_put(o, e->work.h_hidden + h * R * H, (size_t)(4 * n * H));
}

static enum mb_status pack(struct mb_engine *e, struct mb_bytes *out)
{
    const struct mb_found *f = &e->found;
    const struct mb_batch *b = &e->batch;
    struct result r = {
        e->step, b->n_own, samples(e) ? b->n_out : 0, samples(e) ? widest(b) : 0, 0, e->transit.result.len};
    struct mb_wire_out o = {out, MB_OK};

    out->len = 0;
    mb_wire_put(&o, &r, sizeof r);
    for (int32_t i = 0; i < b->n_own; i++)
        mb_wire_put_i32(&o, mb_own_row(b, i));
    for (int32_t i = 0; i < b->n_own; i++)
        mb_wire_put_i32(&o, f->bad_layer[mb_own_row(b, i)]);
    pack_draws(f, r.n_draw, r.top_n, &o);
    pack_rows(e, &o);
    mb_wire_put(&o, e->transit.result.data, e->transit.result.len);
    return o.st;
}

/* The leader's own results go the same way, to itself: steps overlap. */
enum mb_status mb_results_post(struct mb_engine *e)
{
    if (e->t.line == NULL)
        return MB_OK;
    MB_TRY(pack(e, &e->transit.msg));
    e->transit.result.len = 0;
    return mb_comm_post(e->t.line, 0, TAG_RESULT, e->transit.msg.data, e->transit.msg.len);
}

/* ---------------------------------------------------------------- arrived */

static void get_draws(struct mb_found *f, const struct result *r, struct mb_wire *w)
{
    size_t n = 4 * (size_t)r->n_draw;

    if (r->n_draw == 0)
        return;
    mb_wire_get(w, f->drawn, n);
    mb_wire_get(w, f->best, n);
    mb_wire_get(w, f->bad, n);
    mb_wire_get(w, f->lp, n);
    for (int32_t i = 0; r->top_n > 0 && i < r->n_draw; i++) {
        mb_wire_get(w, f->top_ids + i * MB_MAX_TOP, 4 * (size_t)r->top_n);
        mb_wire_get(w, f->top_lp + i * MB_MAX_TOP, 4 * (size_t)r->top_n);
    }
}

/* One plane of `width` words a row, from the sender's rows to those of the batch. */
static void get_plane(struct mb_wire *w, void *to, const int32_t *rows, int32_t n, int64_t width)
{
    const uint8_t *p = mb_wire_skip(w, (size_t)(4 * n * width));

    for (int32_t i = 0; p != NULL && i < n; i++)
        memcpy((uint8_t *)to + rows[i] * width * 4, p + i * width * 4, (size_t)width * 4);
}

static void get_planes(struct mb_engine *e, int32_t stage, const int32_t *rows, int32_t n, struct mb_wire *w)
{
    struct mb_found *f = &e->found;
    int64_t k = e->o.model->router.k, H = e->o.model->hidden, R = e->work.max_rows;
    int32_t lm0, lm1, h0, h1;

    planes_of(e, stage, &lm0, &lm1, &h0, &h1);
    for (int32_t lm = lm0; e->o.save_routing && lm < lm1; lm++) {
        get_plane(w, f->experts + lm * R * k, rows, n, k);
        get_plane(w, f->served + lm * R * k, rows, n, k);
        get_plane(w, f->weights + lm * R * k, rows, n, k);
    }
    for (int32_t h = h0; e->o.save_hidden && h < h1; h++)
        get_plane(w, f->hidden + h * R * H, rows, n, H);
}

static bool rows_ok(const int32_t *rows, int32_t n, int32_t all)
{
    for (int32_t i = 0; i < n; i++) {
        if (rows[i] < 0 || rows[i] >= all)
            return false;
    }
    return true;
}

/* One rank's message into e->found. w is left at its logits, which come last. */
static bool unpack(struct mb_engine *e, const struct mb_flight *f, int32_t stage, struct mb_wire *w)
{
    struct mb_found *found = &e->found;
    struct result r;

    mb_wire_get(w, &r, sizeof r);
    if (w->bad || r.step != f->step || r.n_own < 0 || r.n_own > f->rows ||
        (r.n_draw != 0 && r.n_draw != f->n_out) || r.top_n < 0 || r.top_n > MB_MAX_TOP)
        return false;
    const int32_t *rows = (const int32_t *)mb_wire_skip(w, 4 * (size_t)r.n_own);
    const int32_t *bad = (const int32_t *)mb_wire_skip(w, 4 * (size_t)r.n_own);
    if (w->bad || !rows_ok(rows, r.n_own, f->rows))
        return false;
    for (int32_t i = 0; i < r.n_own; i++) {
        int32_t *first = &found->bad_layer[rows[i]];
        if (bad[i] >= 0 && (*first < 0 || bad[i] < *first))
            *first = bad[i];
    }
    get_draws(found, &r, w);
    get_planes(e, stage, rows, r.n_own, w);
    return !w->bad && w->n == r.logits;
}

/* Whether the results keep the logits of this row of a flight. */
static bool kept(const struct mb_engine *e, const struct mb_flight *f, int32_t i)
{
    return (e->o.save_logits == MB_LOGITS_ALL && f->out_pos[i] >= 0) ||
           (e->o.save_logits == MB_LOGITS_LAST && f->out_pos[i] >= f->out_seq[i]->n_fed - 1);
}

static enum mb_status sink_logits(struct mb_engine *e, const struct mb_flight *f, int32_t i, const float *z,
                                  struct mb_sink *sink)
{
    const struct mb_seq *q = f->out_seq[i];
    int64_t at = f->out_pos[i];

    if (e->o.save_logits == MB_LOGITS_LAST)
        at = 0; /* each later row replaces the one before: the last one stays */
    return q->handle >= 0 && !q->done ? sink->ops->bulk(sink, q->handle, MB_BULK_LOGITS, at, 1, z)
                                                 : MB_OK;
}

enum mb_status mb_results_logits(struct mb_engine *e, int32_t i, const float *z, struct mb_sink *sink)
{
    const struct mb_flight *f = e->t.alone ? &e->flight[e->first_flight] : NULL;

    if (!e->batch.out[i].keep)
        return MB_OK;
    return f != NULL ? sink_logits(e, f, i, z, sink)
                     : mb_bytes_put(&e->transit.result, z, sizeof(float) * (size_t)e->o.model->vocab);
}

/* A sequence that is stopped early gets its last row anew when it ends (sched.c: nothing to predict). */
static enum mb_status sink_mtp(struct mb_engine *e, const struct mb_flight *f, int32_t i, const float *z,
                               struct mb_sink *sink)
{
    const struct mb_seq *q = f->out_seq[i];
    int64_t at = f->out_pos[i];

    (void)e;
    return q->handle >= 0 && !q->done ? sink->ops->bulk(sink, q->handle, MB_BULK_MTP, at, 1, z)
                                                 : MB_OK;
}

enum mb_status mb_results_mtp(struct mb_engine *e, int32_t i, const float *z, struct mb_sink *sink)
{
    if (!e->batch.out[i].next)
        return MB_OK;
    return e->t.alone ? sink_mtp(e, &e->flight[e->first_flight], i, z, sink)
                      : mb_bytes_put(&e->transit.result, z, sizeof(float) * (size_t)e->o.model->vocab);
}

typedef enum mb_status (*sink_row_fn)(struct mb_engine *e, const struct mb_flight *f, int32_t i,
                                      const float *z, struct mb_sink *sink);

/* The next row of logits of a message, for row i of the flight. */
static enum mb_status save_row(struct mb_engine *e, const struct mb_flight *f, int32_t i, struct mb_wire *w,
                               sink_row_fn put, struct mb_sink *sink)
{
    size_t row = sizeof(float) * (size_t)e->o.model->vocab;
    const uint8_t *z = mb_wire_skip(w, row);

    if (z == NULL)
        return mb_error(MB_BUG, "the logits of step %lld are cut short", (long long)f->step);
    memcpy(e->work.h_rows, z, row);
    return put(e, f, i, e->work.h_rows, sink);
}

/* Logits of the flight's rows that the results keep, in order; behind them those of the MTP module. */
static enum mb_status save_logits(struct mb_engine *e, const struct mb_flight *f, struct mb_wire *w,
                                  struct mb_sink *sink)
{
    if (w->n == 0)
        return MB_OK;
    for (int32_t i = 0; i < f->n_out; i++) {
        if (kept(e, f, i))
            MB_TRY(save_row(e, f, i, w, sink_logits, sink));
    }
    for (int32_t i = 0; e->mtp && i < f->n_out; i++) {
        if (mb_seq_goes_on_at(f->out_seq[i], f->out_pos[i]))
            MB_TRY(save_row(e, f, i, w, sink_mtp, sink));
    }
    return MB_OK;
}

enum mb_status mb_results_take(struct mb_engine *e, struct mb_sink *sink)
{
    struct mb_flight *f = &e->flight[e->first_flight];
    int32_t per = e->t.l.tp * e->t.l.sp, n = per * e->t.l.pp;
    struct mb_where at = {"the results of a step", f->step, -1};

    mb_found_reset(e, f->rows);
    for (int32_t i = 1; i <= n;
         i++) { /* the rank that samples is the first of the last stage; its logits are used at once */
        int32_t r = i % n;
        enum mb_time before = mb_time_into(e, MB_TIME_WAIT);
        enum mb_status st = mb_comm_take(e->t.line, r, TAG_RESULT, &e->transit.msg, &at);
        (void)mb_time_into(e, before);
        MB_TRY(st);
        struct mb_wire w = mb_wire_of(e->transit.msg.data, e->transit.msg.len);
        if (!unpack(e, f, r / per, &w))
            return mb_error(MB_BUG, "rank %d sent results of step %lld that make no sense",
                            mb_comm_world_rank(e->t.line, r), (long long)f->step);
        MB_TRY(save_logits(e, f, &w, sink));
    }
    MB_TRY(mb_results_use(e, f, sink));
    MB_TRY(mb_sched_retire(e, f, sink));
    e->results_tick = f->tick;
    e->first_flight = (e->first_flight + 1) % e->depth;
    e->n_flights--;
    return MB_OK;
}

/* ---------------------------------------------------------------- into sequences */

static bool ends(const struct mb_engine *e, const struct mb_seq *q, int32_t id)
{
    for (int32_t i = 0; i < e->o.model->n_eos && !q->job->req->sampling.ignore_eos; i++) {
        if (e->o.model->eos[i] == id)
            return true;
    }
    return false;
}

/* One output token, known from a journal or new: its log-probability, its end conditions. */
static enum mb_status take_draw(struct mb_engine *e, int32_t i, struct mb_seq *q, int64_t pos,
                                struct mb_sink *sink)
{
    const struct mb_found *f = &e->found;
    int64_t index = pos - (q->n_prompt - 1);
    bool known = index < q->n_forced, stop = false;
    int32_t id = f->drawn[i], n = q->job->req->top_n;

    if (known && q->ids[pos + 1] != id)
        return mb_error(
            MB_CORRUPT,
            "request %s choice %d: output token %lld was %d in the journal and is %d now; the journal, the "
            "model or this machine's arithmetic is damaged",
            q->job->req->id.data, q->choice, (long long)index, q->ids[pos + 1], id);
    bool fresh = pos + 1 == q->n_ids;
    if (fresh && !mb_seq_may_draw(q, e->o.model->eos, e->o.model->n_eos, index, id))
        return mb_seq_fail(q, "nothing can be drawn at output token %lld: allowed_token_ids, bad_words and min_tokens leave no token",
                           (long long)index);
    if (fresh)
        MB_TRY(mb_seq_push(q, id));
    q->out_lp[index] = f->lp[i];
    for (int32_t j = 0; j < n; j++) {
        q->top_ids[index * n + j] = f->top_ids[i * MB_MAX_TOP + j];
        q->top_lp[index * n + j] = f->top_lp[i * MB_MAX_TOP + j];
    }
    q->n_drawn = index + 1;
    if (q->t_first == 0)
        q->t_first = mb_now();
    e->counters.output_tokens += !known;
    bool eos = ends(e, q, id);
    MB_TRY(sink->ops->token(sink, q->handle, index, id, !known, &stop));
    if (eos)
        q->finish = MB_FINISH_EOS;
    else if (stop)
        q->finish = MB_FINISH_STOP;
    else if (index + 1 == q->max_out)
        q->finish = MB_FINISH_LENGTH;
    else
        return MB_OK;
    q->done = true;
    return MB_OK;
}

static enum mb_status take_row(struct mb_engine *e, const struct mb_flight *f, int32_t i,
                               struct mb_sink *sink)
{
    struct mb_seq *q = f->out_seq[i];
    int64_t pos = f->out_pos[i];

    if (q->done || pos < 0)
        return MB_OK;
    if (e->found.bad[i])
        return mb_seq_fail(q, "a logit at position %lld is not finite", (long long)pos);
    if (mb_seq_scores_at(q, pos)) {
        q->prompt_lp[pos + 1] = e->found.lp[i];
        q->greedy_so_far &= e->found.best[i] == q->ids[pos + 1];
    }
    return mb_seq_draws_at(q, pos) ? take_draw(e, i, q, pos, sink) : MB_OK;
}

/* Of several layers with a bad router the first is named, wherever the news came from. */
static enum mb_status fail_rows(struct mb_engine *e, const struct mb_flight *f)
{
    for (int32_t s = 0; s < f->seqs; s++) {
        int32_t layer = -1;
        for (int32_t r = f->seq_row[s]; r < f->seq_row[s] + f->seq_rows[s]; r++) {
            int32_t bad = e->found.bad_layer[r];
            layer = bad >= 0 && (layer < 0 || bad < layer) ? bad : layer;
        }
        if (layer >= 0)
            MB_TRY(mb_seq_fail(f->seq[s], "a router logit is not finite in layer %d", layer));
    }
    return MB_OK;
}

enum mb_status mb_results_use(struct mb_engine *e, struct mb_flight *f, struct mb_sink *sink)
{
    MB_TRY(fail_rows(e, f));
    MB_TRY(mb_save_flight(e, f, sink));
    for (int32_t i = 0; i < f->n_out; i++)
        MB_TRY(take_row(e, f, i, sink));
    return MB_OK;
}
