/* Logits of the rows that need them: scores of known tokens, draws of new ones. In pieces of logit_rows rows, so that prompt
 * log-probabilities of a long chunk need bounded memory. A tensor group divides the vocabulary; the first rank of the attention group
 * in the last stage gets all logits of a row and samples. */
#include <string.h>
#include "base/log.h"
#include "engine/count.h"
#include "engine/work.h"

struct piece {
    int32_t first, n; /* entries of the batch's out list */
    int32_t top_n;    /* largest asked for */
    struct mb_view z, stats;
    struct mb_view x; /* own residual stream, and the norm behind it */
    const struct mb_vec *norm, *norm_b;
};

/* ---------------------------------------------------------------- logits */

/* hn = norm of n rows of the own residual stream, given by their places in it. */
static enum mb_status normed(struct mb_engine *e, const struct piece *p, const int32_t *rows, int32_t n, struct mb_view hn)
{
    const struct mb_model *m = e->o.model;
    const struct mb_ops *ops = e->o.ops;
    struct mb_view idx = mb_rows_of(e->work.idx, n, 1, MB_I32), hx = mb_rows_of(e->work.hx, n, m->hidden, MB_F32);

    if (n == 0)
        return MB_OK;
    MB_TRY(ops->copy_in(e->stream, idx, rows));
    MB_TRY(ops->gather(e->stream, hx, p->x, idx));
    return ops->norm(e->stream, hn, MB_NO_VIEW, hx, p->norm->view, p->norm_b->view, m->norm, m->norm_eps, 1, 1);
}

/* z = hn W^T for this rank's vocabulary. */
static enum mb_status project(struct mb_engine *e, struct mb_view z, struct mb_view hn)
{
    struct mb_gemm_group g = {.w = e->w.head, .rows = hn.rows, .bias = e->w.head_b.view};

    if (e->w.head == NULL || hn.rows == 0)
        return MB_OK;
    MB_TRY(e->o.ops->gemm(e->stream, z, hn, &g, 1));
    return e->o.model->logit_scale != 1.0f ? e->o.ops->scale(e->stream, z, e->o.model->logit_scale) : MB_OK;
}

static enum mb_status logits_alone(struct mb_engine *e, struct piece *p)
{
    struct mb_view hn = mb_rows_of(e->work.hn, p->n, e->o.model->hidden, e->o.path);
    int32_t *rows = e->work.h_i32;

    for (int32_t i = 0; i < p->n; i++)
        rows[i] = e->batch.out[p->first + i].row;
    MB_TRY(normed(e, p, rows, p->n, hn));
    return project(e, p->z, hn);
}

/* ---------------------------------------------------------------- over a group */

/* Where the rows of a piece lie: part and tensor rank of each, and its place in the own rows of that rank. */
struct where {
    int32_t part, t, at;
};

static void locate(const struct mb_engine *e, const struct piece *p, struct where *w)
{
    const struct mb_batch *b = &e->batch;
    int32_t sp = e->t.l.sp, tp = e->t.l.tp;

    for (int32_t i = 0; i < p->n; i++) {
        int32_t row = b->out[p->first + i].row, in = row, all = b->rows;
        w[i].part = sp > 1 ? mb_layout_part(sp, b->pos[row] / e->o.segment) : 0;
        if (sp > 1) { /* its number among the rows of its part */
            in = 0;
            for (int32_t r = 0; r < row; r++)
                in += mb_layout_part(sp, b->pos[r] / e->o.segment) == w[i].part;
            all = b->g_at[w[i].part + 1] - b->g_at[w[i].part];
        }
        w[i].t = 0;
        while (in >= mb_share(all, w[i].t + 1, tp))
            w[i].t++;
        w[i].at = in - (int32_t)mb_share(all, w[i].t, tp);
    }
}

static int32_t count_rows(const struct where *w, int32_t n, int32_t part, int32_t t)
{
    int32_t k = 0;

    for (int32_t i = 0; i < n; i++)
        k += w[i].part == part && (t < 0 || w[i].t == t);
    return k;
}

/* Final norms of the own part's rows of the piece, from all tensor ranks: hn in the order of the piece. */
static enum mb_status part_norms(struct mb_engine *e, const struct piece *p, const struct where *w, struct mb_view hn)
{
    int32_t me = e->t.at.t, part = e->t.at.q, n = 0, *rows = e->work.h_i32;
    int64_t at[MB_MAX_LEAVES + 1];
    struct mb_split s = {e->t.tp, e->t.l.tp, me, at};
    struct mb_view mine = mb_rows_of(e->work.hn2, count_rows(w, p->n, part, me), hn.cols, hn.dtype);

    at[0] = 0;
    for (int32_t t = 0; t < s.n; t++)
        at[t + 1] = at[t] + count_rows(w, p->n, part, t);
    for (int32_t i = 0; i < p->n; i++) {
        if (w[i].part == part && w[i].t == me)
            rows[n++] = w[i].at;
    }
    if (s.n == 1)
        return normed(e, p, rows, n, hn);
    MB_TRY(normed(e, p, rows, n, mine));
    return mb_share_gather(e, &s, hn, mine, -1);
}

/* Puts the logits of part q's rows, columns [v0, v1), where they belong: runs of rows that follow each other in the piece. */
static enum mb_status place(struct mb_engine *e, const struct piece *p, const struct where *w, int32_t q, int64_t v0, int64_t v1,
                            const float *from)
{
    for (int32_t i = 0, end; i < p->n; i = end) {
        end = i + 1;
        if (w[i].part != q)
            continue;
        while (end < p->n && w[end].part == q)
            end++;
        MB_TRY(e->o.ops->copy_in(e->stream, mb_view_cols(mb_view_rows(p->z, i, end - i), v0, v1 - v0), from));
        from += (end - i) * (v1 - v0);
    }
    return MB_OK;
}

/* Slices of logits to the rank that samples. */
static enum mb_status collect(struct mb_engine *e, struct piece *p, const struct where *w, const float *mine, float *recv)
{
    struct mb_where at = {"logits", e->step, -1};
    int32_t tp = e->t.l.tp, n = tp * e->t.l.sp;
    bool sampler = e->t.at.q == 0 && e->t.at.t == 0;
    int64_t own = count_rows(w, p->n, e->t.at.q, -1) * (e->w.v1 - e->w.v0);

    for (int32_t r = 0; r < n; r++) {
        int64_t v0, v1;
        mb_part_vocab(e->o.model->vocab, r % tp, tp, &v0, &v1);
        int64_t size = sampler ? count_rows(w, p->n, r / tp, -1) * (v1 - v0) : 0;
        e->transit.in[r] = (struct mb_piece){recv, (uint64_t)size * 4};
        e->transit.out[r] = (struct mb_piece){(void *)mine, r == 0 ? (uint64_t)own * 4 : 0};
        recv += size;
    }
    MB_TRY(mb_comm_swap(e->t.att, e->transit.out, e->transit.in, &at));
    for (int32_t r = 0; sampler && r < n; r++) {
        int64_t v0, v1;
        mb_part_vocab(e->o.model->vocab, r % tp, tp, &v0, &v1);
        MB_TRY(place(e, p, w, r / tp, v0, v1, r == 0 ? mine : e->transit.in[r].p));
    }
    return MB_OK;
}

static enum mb_status logits_shared(struct mb_engine *e, struct piece *p)
{
    struct where *w = (struct where *)e->work.h_where;
    bool sampler = e->t.at.q == 0 && e->t.at.t == 0;
    int64_t cols = e->w.v1 - e->w.v0;

    locate(e, p, w);
    int32_t n = count_rows(w, p->n, e->t.at.q, -1);
    struct mb_view hn = mb_rows_of(e->work.hn, n, e->o.model->hidden, e->o.path);
    struct mb_view z = mb_rows_of(e->work.logits_part, n, cols, MB_F32);
    if (n > 0) {
        MB_TRY(part_norms(e, p, w, hn));
        MB_TRY(project(e, z, hn));
    }
    float *mine = mb_transit_host(e, &e->transit.z, (uint64_t)(n * cols + 1) * 4);
    float *recv = mb_transit_host(e, &e->transit.recv, sampler ? (uint64_t)((int64_t)p->n * e->o.model->vocab + 1) * 4 : 4);
    if (mine == NULL || recv == NULL)
        return MB_NO_MEMORY;
    if (n * cols > 0)
        MB_TRY(e->o.ops->copy_out(e->stream, mine, z));
    return collect(e, p, w, mine, recv);
}

/* ---------------------------------------------------------------- draws and scores */

/* The piece's sampling parameters; its adjustments are consecutive in the step's list. */
static enum mb_status upload_sampling(struct mb_engine *e, struct piece *p, struct mb_view *rows, struct mb_view *adj)
{
    const struct mb_ops *ops = e->o.ops;
    const struct mb_sample_row *s = e->batch.sample + p->first;
    int32_t a = s[0].adj_begin, n = s[p->n - 1].adj_end - a;
    struct mb_sample_row *h = e->work.h_srows;

    *rows = mb_rows_of(e->work.srows, p->n, sizeof *s, MB_U8);
    *adj = mb_rows_of(e->work.sadj, n, sizeof(struct mb_sample_adjust), MB_U8);
    memcpy(h, s, sizeof *s * (size_t)p->n);
    for (int32_t i = 0; i < p->n; i++) {
        h[i].adj_begin -= a;
        h[i].adj_end -= a;
    }
    MB_TRY(ops->copy_in(e->stream, *rows, h));
    if (n == 0)
        return MB_OK;
    if (n > e->work.adj_cap) {
        ops->buf_free(e->work.sadj);
        e->work.sadj = NULL;
        e->work.adj_cap = 0;
        MB_TRY(ops->buf_alloc(e->o.dev, MB_MEM_ACTIVATIONS, (uint64_t)(2 * (int64_t)n) * sizeof(struct mb_sample_adjust), &e->work.sadj));
        e->work.adj_cap = 2 * (int64_t)n;
        adj->buf = e->work.sadj;
    }
    return ops->copy_in(e->stream, *adj, e->batch.adj.v + a);
}

static enum mb_status draw(struct mb_engine *e, struct piece *p)
{
    const struct mb_ops *ops = e->o.ops;
    struct mb_found *f = &e->found;
    struct mb_view best = mb_rows_of(e->work.best, p->n, 1, MB_I32), bad = mb_rows_of(e->work.lbad, p->n, 1, MB_I32);
    struct mb_view drawn = mb_rows_of(e->work.drawn, p->n, 1, MB_I32), rows, adj;

    MB_TRY(ops->logit_stats(e->stream, p->stats, best, bad, p->z));
    MB_TRY(upload_sampling(e, p, &rows, &adj));
    MB_TRY(ops->sample(e->stream, drawn, p->z, p->stats, rows, adj));
    MB_TRY(ops->copy_out(e->stream, f->drawn + p->first, drawn));
    MB_TRY(ops->copy_out(e->stream, f->best + p->first, best));
    return ops->copy_out(e->stream, f->bad + p->first, bad);
}

static enum mb_status top(struct mb_engine *e, struct piece *p)
{
    const struct mb_ops *ops = e->o.ops;
    struct mb_view ti = mb_rows_of(e->work.top_ids, p->n, p->top_n, MB_I32), tl = mb_rows_of(e->work.top_lp, p->n, p->top_n, MB_F32);

    MB_TRY(ops->top(e->stream, ti, tl, p->z, p->stats));
    MB_TRY(ops->copy_out(e->stream, e->work.h_i32, ti));
    MB_TRY(ops->copy_out(e->stream, e->work.h_f32, tl));
    for (int32_t i = 0; i < p->n; i++) {
        memcpy(e->found.top_ids + (int64_t)(p->first + i) * MB_MAX_TOP, e->work.h_i32 + i * p->top_n, 4 * (size_t)p->top_n);
        memcpy(e->found.top_lp + (int64_t)(p->first + i) * MB_MAX_TOP, e->work.h_f32 + i * p->top_n, 4 * (size_t)p->top_n);
    }
    return MB_OK;
}

/* The token whose log-probability a row gives: the drawn one, or the next of the prompt. */
static enum mb_status score(struct mb_engine *e, struct piece *p)
{
    const struct mb_ops *ops = e->o.ops;
    struct mb_view target = mb_rows_of(e->work.target, p->n, 1, MB_I32), lp = mb_rows_of(e->work.lp, p->n, 1, MB_F32);
    int32_t *ids = e->work.h_i32;

    p->top_n = 0;
    for (int32_t i = 0; i < p->n; i++) {
        const struct mb_out *o = &e->batch.out[p->first + i];
        ids[i] = o->target >= 0 ? o->target : e->found.drawn[p->first + i];
        p->top_n = o->top_n > p->top_n ? o->top_n : p->top_n;
    }
    MB_TRY(ops->copy_in(e->stream, target, ids));
    MB_TRY(ops->logprob(e->stream, lp, p->z, p->stats, target));
    MB_TRY(ops->copy_out(e->stream, e->found.lp + p->first, lp));
    return p->top_n > 0 ? top(e, p) : MB_OK;
}

static enum mb_status save_logits(struct mb_engine *e, struct piece *p, struct mb_sink *sink)
{
    int64_t V = e->o.model->vocab;

    if (e->o.save_logits == MB_LOGITS_NONE)
        return MB_OK;
    MB_TRY(e->o.ops->copy_out(e->stream, e->work.h_rows, p->z));
    for (int32_t i = 0; i < p->n; i++)
        MB_TRY(mb_results_logits(e, p->first + i, e->work.h_rows + i * V, sink));
    return MB_OK;
}

static bool samples(const struct mb_engine *e)
{
    return e->t.at.q == 0 && e->t.at.t == 0;
}

/* The logits of the next piece of the batch's out list, where rows are sampled. */
static enum mb_status logits(struct mb_engine *e, struct piece *p)
{
    int32_t left = e->batch.n_out - p->first;

    p->n = left < e->work.logit_rows ? left : e->work.logit_rows;
    p->z = mb_rows_of(e->work.logits, p->n, e->o.model->vocab, MB_F32);
    p->stats = mb_rows_of(e->work.stats, p->n, 2, MB_F32);
    return e->t.att == NULL ? logits_alone(e, p) : logits_shared(e, p);
}

static enum mb_status head_run(struct mb_engine *e, struct mb_sink *sink)
{
    struct piece p = {.x = mb_rows_of(e->work.x, e->batch.n_own, e->o.model->hidden, MB_F32),
                      .norm = &e->w.final_norm, .norm_b = &e->w.final_norm_b};

    for (; p.first < e->batch.n_out; p.first += p.n) {
        MB_TRY(logits(e, &p));
        if (!samples(e))
            continue;
        MB_TRY(draw(e, &p));
        MB_TRY(score(e, &p));
        MB_TRY(save_logits(e, &p, sink));
    }
    return MB_OK;
}

enum mb_status mb_head_run(struct mb_engine *e, struct mb_sink *sink)
{
    enum mb_time before = mb_time_into(e, MB_TIME_HEAD);
    enum mb_status st = head_run(e, sink);

    (void)mb_time_into(e, before);
    return st;
}

enum mb_status mb_head_mtp(struct mb_engine *e, struct mb_view x, struct mb_sink *sink)
{
    const struct mb_vec none = {0};
    struct piece p = {.x = x, .norm = &e->w.mtp_norm, .norm_b = &none};

    for (; p.first < e->batch.n_out; p.first += p.n) {
        MB_TRY(logits(e, &p));
        if (!samples(e))
            continue;
        MB_TRY(e->o.ops->copy_out(e->stream, e->work.h_rows, p.z));
        for (int32_t i = 0; i < p.n; i++)
            MB_TRY(mb_results_mtp(e, p.first + i, e->work.h_rows + (int64_t)i * e->o.model->vocab, sink));
    }
    return MB_OK;
}
