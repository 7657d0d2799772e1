/* What a step found out: from every rank of the attention group to its leader. */
#include <string.h>
#include "base/clock.h"
#include "base/log.h"
#include "base/wire.h"
#include "engine/count.h"
#include "engine/step.h"

#define TAG_RESULT 3

/* ---------------------------------------------------------------- on the way */

struct result {
    int64_t step;
    int32_t n_own, n_draw, top_n, guesses; /* n_draw: rows with logits, of the rank that samples, else 0; guesses: as many, or none */
    uint64_t logits;                      /* bytes of logits behind everything else */
};

static bool samples(const struct mb_pass *p)
{
    return p->c->t.last_stage && p->c->t.g.sp_rank == 0 && p->c->t.g.tp_rank == 0;
}

static int32_t widest(const struct mb_batch *b)
{
    int32_t n = 0;

    for (int32_t i = 0; i < b->n_out; i++)
        n = b->out[i].top_n > n ? b->out[i].top_n : n;
    return n;
}

static void pack_draws(const struct mb_found *f, const struct result *r, struct mb_wire_out *o)
{
    int32_t n = r->n_draw, top_n = r->top_n;
    size_t bytes = 4 * (size_t)n;

    mb_wire_put(o, f->drawn, bytes);
    mb_wire_put(o, f->best, bytes);
    mb_wire_put(o, f->bad, bytes);
    mb_wire_put(o, f->lp, bytes);
    mb_wire_put(o, f->guess, 4 * (size_t)r->guesses);
    for (int32_t i = 0; top_n > 0 && i < n; i++) {
        mb_wire_put(o, f->top_ids + i * MB_MAX_TOP, 4 * (size_t)top_n);
        mb_wire_put(o, f->top_lp + i * MB_MAX_TOP, 4 * (size_t)top_n);
    }
}

/* The layers whose planes this rank has: MoE layers [*lm0, *lm1), residual streams [*h0, *h1). */
static void planes_of(const struct mb_context *c, int32_t stage, int32_t *lm0, int32_t *lm1, int32_t *h0,
                      int32_t *h1)
{
    const int32_t *first = c->o.plan->first_layer;

    *lm0 = 0;
    for (int32_t l = 0; l < first[stage]; l++)
        *lm0 += c->o.model->is_moe[l];
    *lm1 = *lm0;
    for (int32_t l = first[stage]; l < first[stage + 1]; l++)
        *lm1 += c->o.model->is_moe[l];
    *h0 = stage == 0 ? 0 : first[stage] + 1;
    *h1 = first[stage + 1] + 1;
}

static void pack_rows(const struct mb_pass *p, struct mb_wire_out *o)
{
    int64_t k = p->c->o.model->router.k, H = p->c->o.model->hidden, R = p->work->max_rows, n = p->batch->part.n_own;
    int32_t lm0, lm1, h0, h1;

    planes_of(p->c, p->c->t.g.pp_rank, &lm0, &lm1, &h0, &h1);
    for (int32_t lm = lm0; p->c->o.save_routing && lm < lm1; lm++) {
        mb_wire_put(o, p->work->h_experts + lm * R * k, (size_t)(4 * n * k));
        mb_wire_put(o, p->work->h_served + lm * R * k, (size_t)(4 * n * k));
        mb_wire_put(o, p->work->h_weights + lm * R * k, (size_t)(4 * n * k));
    }
    for (int32_t h = h0; p->c->o.save_hidden && h < h1; h++)
        mb_wire_put(o, p->work->h_hidden + h * R * H, (size_t)(4 * n * H));
}

static enum mb_status pack(struct mb_pass *p, struct mb_bytes *out)
{
    const struct mb_found *f = p->found;
    const struct mb_batch *b = p->batch;
    struct result r = {
        p->step, b->part.n_own, samples(p) ? b->n_out : 0, samples(p) ? widest(b) : 0,
        samples(p) && p->c->o.drafts.how == MB_DRAFT_MTP ? b->n_out : 0, p->work->result.len};
    struct mb_wire_out o = {out, MB_OK};

    out->len = 0;
    mb_wire_put(&o, &r, sizeof r);
    for (int32_t i = 0; i < b->part.n_own; i++)
        mb_wire_put_i32(&o, mb_own_row(b, i));
    for (int32_t i = 0; i < b->part.n_own; i++)
        mb_wire_put_i32(&o, f->bad_layer[mb_own_row(b, i)]);
    pack_draws(f, &r, &o);
    pack_rows(p, &o);
    mb_wire_put(&o, p->work->result.data, p->work->result.len);
    return o.st;
}

/* The leader's own results go the same way, to itself: steps overlap. */
enum mb_status mb_results_post(struct mb_pass *p)
{
    if (p->c->t.g.line == NULL)
        return MB_OK;
    MB_TRY(pack(p, &p->work->msg));
    p->work->result.len = 0;
    return mb_comm_post(p->c->t.g.line, 0, TAG_RESULT, p->work->msg.data, p->work->msg.len);
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
    mb_wire_get(w, f->guess, 4 * (size_t)r->guesses);
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

static void get_planes(struct mb_pass *p, int32_t stage, const int32_t *rows, int32_t n, struct mb_wire *w)
{
    struct mb_found *f = p->found;
    int64_t k = p->c->o.model->router.k, H = p->c->o.model->hidden, R = p->work->max_rows;
    int32_t lm0, lm1, h0, h1;

    planes_of(p->c, stage, &lm0, &lm1, &h0, &h1);
    for (int32_t lm = lm0; p->c->o.save_routing && lm < lm1; lm++) {
        get_plane(w, f->experts + lm * R * k, rows, n, k);
        get_plane(w, f->served + lm * R * k, rows, n, k);
        get_plane(w, f->weights + lm * R * k, rows, n, k);
    }
    for (int32_t h = h0; p->c->o.save_hidden && h < h1; h++)
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

/* One rank's message into found. w is left at its logits, which come last. */
static bool unpack(struct mb_pass *p, const struct mb_flight *f, int32_t stage, struct mb_wire *w)
{
    struct mb_found *found = p->found;
    struct result r;

    mb_wire_get(w, &r, sizeof r);
    if (w->bad || r.step != f->step || r.n_own < 0 || r.n_own > f->rows ||
        (r.n_draw != 0 && r.n_draw != f->n_out) || (r.guesses != 0 && r.guesses != r.n_draw) || r.top_n < 0 || r.top_n > MB_MAX_TOP)
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
    get_planes(p, stage, rows, r.n_own, w);
    return !w->bad && w->n == r.logits;
}

/* Whether the results keep the logits of this row of a flight. */
static bool kept(const struct mb_context *c, const struct mb_flight *f, int32_t i)
{
    return (c->o.save_logits == MB_LOGITS_ALL && f->out_pos[i] >= 0) ||
           (c->o.save_logits == MB_LOGITS_LAST && f->out_pos[i] >= f->out_seq[i]->n_fed - 1);
}

static enum mb_status sink_logits(struct mb_pass *p, const struct mb_flight *f, int32_t i, const float *z,
                                  struct mb_sink *sink)
{
    const struct mb_seq *q = f->out_seq[i];
    int64_t at = f->out_pos[i];

    if (p->c->o.save_logits == MB_LOGITS_LAST)
        at = 0; /* each later row replaces the one before: the last one stays */
    return q->handle >= 0 && !q->done ? sink->ops->bulk(sink, q->handle, MB_BULK_LOGITS, at, 1, z)
                                                 : MB_OK;
}

enum mb_status mb_results_logits(struct mb_pass *p, int32_t i, const float *z, struct mb_sink *sink)
{
    if (!p->batch->out[i].keep)
        return MB_OK;
    return p->flight != NULL ? sink_logits(p, p->flight, i, z, sink)
                             : mb_bytes_put(&p->work->result, z, sizeof(float) * (size_t)p->c->o.model->vocab);
}

/* A sequence that is stopped early gets its last row anew when it ends (sched.c: nothing to predict). */
static enum mb_status sink_mtp(struct mb_pass *p, const struct mb_flight *f, int32_t i, const float *z,
                               struct mb_sink *sink)
{
    const struct mb_seq *q = f->out_seq[i];
    int64_t at = f->out_pos[i];

    (void)p;
    return q->handle >= 0 && !q->done ? sink->ops->bulk(sink, q->handle, MB_BULK_MTP, at, 1, z)
                                                 : MB_OK;
}

enum mb_status mb_results_mtp(struct mb_pass *p, int32_t i, const float *z, struct mb_sink *sink)
{
    if (!p->batch->out[i].next)
        return MB_OK;
    return p->flight != NULL ? sink_mtp(p, p->flight, i, z, sink)
                             : mb_bytes_put(&p->work->result, z, sizeof(float) * (size_t)p->c->o.model->vocab);
}

typedef enum mb_status (*sink_row_fn)(struct mb_pass *p, const struct mb_flight *f, int32_t i,
                                      const float *z, struct mb_sink *sink);

/* The next row of logits of a message, for row i of the flight. */
static enum mb_status save_row(struct mb_pass *p, const struct mb_flight *f, int32_t i, struct mb_wire *w,
                               sink_row_fn put, struct mb_sink *sink)
{
    size_t row = sizeof(float) * (size_t)p->c->o.model->vocab;
    const uint8_t *z = mb_wire_skip(w, row);

    if (z == NULL)
        return mb_error(MB_BUG, "the logits of step %lld are cut short", (long long)f->step);
    memcpy(p->work->h_rows, z, row);
    return put(p, f, i, p->work->h_rows, sink);
}

/* Logits of the flight's rows that the results keep, in order; behind them those of the MTP module. */
static enum mb_status save_logits(struct mb_pass *p, const struct mb_flight *f, struct mb_wire *w,
                                  struct mb_sink *sink)
{
    if (w->n == 0)
        return MB_OK;
    for (int32_t i = 0; i < f->n_out; i++) {
        if (kept(p->c, f, i))
            MB_TRY(save_row(p, f, i, w, sink_logits, sink));
    }
    for (int32_t i = 0; mb_mtp_saved(p->c) && i < f->n_out; i++) {
        if (mb_seq_goes_on_at(f->out_seq[i], f->out_pos[i]))
            MB_TRY(save_row(p, f, i, w, sink_mtp, sink));
    }
    return MB_OK;
}

enum mb_status mb_results_take(struct mb_pass *p, const struct mb_flight *f, struct mb_sink *sink)
{
    const struct mb_groups *g = &p->c->t.g;
    int32_t per = g->tp_size * g->sp_size, n = per * g->pp_size;
    struct mb_where at = {"the results of a step", f->step, -1};

    mb_found_reset(p->found, f->rows);
    for (int32_t i = 1; i <= n; i++) { /* the rank that samples is the first of the last stage; its logits are used at once */
        int32_t r = i % n;
        enum mb_time before = mb_time_into(p->tally, MB_TIME_WAIT);
        enum mb_status st = mb_comm_take(g->line, r, TAG_RESULT, &p->work->msg, &at);
        (void)mb_time_into(p->tally, before);
        MB_TRY(st);
        struct mb_wire w = mb_wire_of(p->work->msg.data, p->work->msg.len);
        if (!unpack(p, f, r / per, &w))
            return mb_error(MB_BUG, "rank %d sent results of step %lld that make no sense", mb_comm_world_rank(g->line, r),
                            (long long)f->step);
        MB_TRY(save_logits(p, f, &w, sink));
    }
    return MB_OK;
}
