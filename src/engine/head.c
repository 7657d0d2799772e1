/* Logits of the rows that need them: scores of known tokens, draws of new ones. In pieces of logit_rows rows, so that prompt
 * log-probabilities of a long chunk need bounded memory. A tensor group divides the vocabulary; the first rank of the attention group
 * in the last stage gets all logits of a row and samples. */
#include <string.h>
#include "base/log.h"
#include "engine/count.h"
#include "engine/step.h"

struct piece {
    int32_t first, n; /* entries of the batch's out list */
    int32_t top_n;    /* largest asked for */
    struct mb_view z, stats;
    struct mb_view x; /* own residual stream, and the norm behind it */
    const struct mb_vec *norm, *norm_b;
};

/* ---------------------------------------------------------------- logits */

/* hn = norm of n rows of the own residual stream, given by their places in it. */
static enum mb_status normed(struct mb_pass *p, const struct piece *pc, const int32_t *rows, int32_t n, struct mb_view hn)
{
    const struct mb_model *m = p->c->o.model;
    const struct mb_ops *ops = p->c->o.ops;
    struct mb_view idx = mb_rows(p, MB_SB_ROW_AT, n, 1, MB_I32), hx = mb_rows(p, MB_SB_HX, n, m->hidden, MB_F32);

    if (n == 0)
        return MB_OK;
    MB_TRY(ops->copy_in(p->c->stream, idx, rows));
    MB_TRY(ops->gather(p->c->stream, hx, pc->x, idx));
    return ops->norm(p->c->stream, hn, MB_NO_VIEW, hx, pc->norm->view, pc->norm_b->view, m->norm, m->norm_eps, 1, 1);
}

/* z = hn W^T for this rank's vocabulary. */
static enum mb_status project(const struct mb_context *c, struct mb_view z, struct mb_view hn)
{
    struct mb_gemm_group g = {.w = c->w.head, .rows = hn.rows, .bias = c->w.head_b.view};

    if (c->w.head == NULL || hn.rows == 0)
        return MB_OK;
    MB_TRY(c->o.ops->gemm(c->stream, z, hn, &g, 1));
    return c->o.model->logit_scale != 1.0f ? c->o.ops->scale(c->stream, z, c->o.model->logit_scale) : MB_OK;
}

static enum mb_status logits_alone(struct mb_pass *p, struct piece *pc)
{
    struct mb_view hn = mb_rows(p, MB_SB_HN, pc->n, p->c->o.model->hidden, p->c->o.path);
    int32_t *rows = p->work->h_i32;

    for (int32_t i = 0; i < pc->n; i++)
        rows[i] = p->batch->out[pc->first + i].row;
    MB_TRY(normed(p, pc, rows, pc->n, hn));
    return project(p->c, pc->z, hn);
}

/* ---------------------------------------------------------------- over a group */

/* Where the rows of a piece lie: part and tensor rank of each, and its place in the own rows of that rank. */
struct where {
    int32_t part, t, at;
};

static void locate(const struct mb_pass *p, const struct piece *pc, struct where *w)
{
    const struct mb_batch *b = p->batch;
    int32_t sp = p->c->t.g.sp_size, tp = p->c->t.g.tp_size, r = 0, before[MB_MAX_PARTS] = {0};

    for (int32_t i = 0; i < pc->n; i++) {
        int32_t row = b->out[pc->first + i].row, in = row, all = b->rows;
        w[i].part = 0;
        if (sp > 1) { /* its number among the rows of its part; rows ascend */
            for (; r < row; r++)
                before[mb_layout_part(sp, b->pos[r] / p->c->o.segment)]++;
            w[i].part = mb_layout_part(sp, b->pos[row] / p->c->o.segment);
            in = before[w[i].part];
            all = b->order.at[w[i].part + 1] - b->order.at[w[i].part];
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
static enum mb_status part_norms(struct mb_pass *p, const struct piece *pc, const struct where *w, struct mb_view hn)
{
    int32_t me = p->c->t.g.tp_rank, part = p->c->t.g.sp_rank, n = 0, *rows = p->work->h_i32;
    int64_t at[MB_MAX_LEAVES + 1];
    struct mb_split s = {p->c->t.g.tp, p->c->t.g.tp_size, me, at};
    struct mb_view mine = mb_rows(p, MB_SB_HN2, count_rows(w, pc->n, part, me), hn.cols, hn.dtype);

    at[0] = 0;
    for (int32_t t = 0; t < s.n; t++)
        at[t + 1] = at[t] + count_rows(w, pc->n, part, t);
    for (int32_t i = 0; i < pc->n; i++) {
        if (w[i].part == part && w[i].t == me)
            rows[n++] = w[i].at;
    }
    if (s.n == 1)
        return normed(p, pc, rows, n, hn);
    MB_TRY(normed(p, pc, rows, n, mine));
    return mb_allgather_rows(p, &s, hn, mine, -1);
}

/* Puts the logits of part q's rows, columns [v0, v1), where they belong: runs of rows that follow each other in the piece. */
static enum mb_status place(const struct mb_context *c, const struct piece *pc, const struct where *w, int32_t q, int64_t v0, int64_t v1,
                            const float *from)
{
    for (int32_t i = 0, end; i < pc->n; i = end) {
        end = i + 1;
        if (w[i].part != q)
            continue;
        while (end < pc->n && w[end].part == q)
            end++;
        MB_TRY(c->o.ops->copy_in(c->stream, mb_view_cols(mb_view_rows(pc->z, i, end - i), v0, v1 - v0), from));
        from += (end - i) * (v1 - v0);
    }
    return MB_OK;
}

/* Slices of logits to the rank that samples. */
static enum mb_status collect(struct mb_pass *p, struct piece *pc, const struct where *w, const float *mine, float *recv)
{
    struct mb_where at = {"logits", p->step, -1};
    int32_t tp = p->c->t.g.tp_size, n = tp * p->c->t.g.sp_size;
    bool sampler = p->c->t.g.sp_rank == 0 && p->c->t.g.tp_rank == 0;
    int64_t own = count_rows(w, pc->n, p->c->t.g.sp_rank, -1) * (p->c->w.v1 - p->c->w.v0);

    for (int32_t r = 0; r < n; r++) {
        int64_t v0, v1;
        mb_part_vocab(p->c->o.model->vocab, r % tp, tp, &v0, &v1);
        int64_t size = sampler ? count_rows(w, pc->n, r / tp, -1) * (v1 - v0) : 0;
        p->work->in[r] = (struct mb_piece){recv, (uint64_t)size * 4};
        p->work->out[r] = (struct mb_piece){(void *)mine, r == 0 ? (uint64_t)own * 4 : 0};
        recv += size;
    }
    MB_TRY(mb_comm_swap(p->c->t.g.att, p->work->out, p->work->in, &at));
    for (int32_t r = 0; sampler && r < n; r++) {
        int64_t v0, v1;
        mb_part_vocab(p->c->o.model->vocab, r % tp, tp, &v0, &v1);
        MB_TRY(place(p->c, pc, w, r / tp, v0, v1, r == 0 ? mine : p->work->in[r].p));
    }
    return MB_OK;
}

static enum mb_status logits_shared(struct mb_pass *p, struct piece *pc)
{
    struct where *w = (struct where *)p->work->h_where;
    bool sampler = p->c->t.g.sp_rank == 0 && p->c->t.g.tp_rank == 0;
    int64_t cols = p->c->w.v1 - p->c->w.v0;

    locate(p, pc, w);
    int32_t n = count_rows(w, pc->n, p->c->t.g.sp_rank, -1);
    struct mb_view hn = mb_rows(p, MB_SB_HN, n, p->c->o.model->hidden, p->c->o.path);
    struct mb_view z = mb_rows(p, MB_SB_LOGITS_PART, n, cols, MB_F32);
    if (n > 0) {
        MB_TRY(part_norms(p, pc, w, hn));
        MB_TRY(project(p->c, z, hn));
    }
    float *mine = mb_room_host(p, MB_SB_SLICE, (int64_t)(n * cols + 1) * 4);
    float *recv = mb_room_host(p, MB_SB_RECV, sampler ? (uint64_t)((int64_t)pc->n * p->c->o.model->vocab + 1) * 4 : 4);
    if (mine == NULL || recv == NULL)
        return MB_BUG;
    if (n * cols > 0)
        MB_TRY(p->c->o.ops->copy_out(p->c->stream, mine, z));
    return collect(p, pc, w, mine, recv);
}

/* ---------------------------------------------------------------- draws and scores */

/* How many rows of sampling parameters [s, s + n) have adjustments that fit together: at least one, if it does. */
static int32_t rows_that_fit(const struct mb_sample_row *s, int32_t n, int64_t room)
{
    int32_t k = 0;

    while (k < n && s[k].adj_end - s[0].adj_begin <= room)
        k++;
    return k;
}

/* Sampling parameters of n rows, and their adjustments, which are consecutive in the step's list. */
static enum mb_status upload_sampling(struct mb_pass *p, const struct mb_sample_row *s, int32_t n, struct mb_view *rows,
                                      struct mb_view *adj)
{
    const struct mb_ops *ops = p->c->o.ops;
    int32_t a = s[0].adj_begin, changes = s[n - 1].adj_end - a;
    struct mb_sample_row *h = p->work->h_srows;

    *rows = mb_rows(p, MB_SB_SAMPLING, n, sizeof *s, MB_U8);
    *adj = mb_rows(p, MB_SB_ADJUST, changes, sizeof(struct mb_sample_adjust), MB_U8);
    memcpy(h, s, sizeof *s * (size_t)n);
    for (int32_t i = 0; i < n; i++) {
        h[i].adj_begin -= a;
        h[i].adj_end -= a;
    }
    MB_TRY(ops->copy_in(p->c->stream, *rows, h));
    return changes > 0 ? ops->copy_in(p->c->stream, *adj, p->batch->adj.v + a) : MB_OK;
}

/* Masks that this step brings, into their slots. */
static enum mb_status upload_masks(struct mb_pass *p)
{
    const struct mb_mask_list *m = &p->batch->masks;
    struct mb_view all = m->n_fresh > 0 ? mb_rows(p, MB_SB_MASKS, m->slots, m->words, MB_I32) : MB_NO_VIEW;

    for (int32_t i = 0; i < m->n_fresh; i++)
        MB_TRY(p->c->o.ops->copy_in(p->c->stream, mb_view_rows(all, m->fresh[i], 1), m->fresh_bits + (int64_t)i * m->words));
    return MB_OK;
}

/* Tokens of all rows of a piece, of as many at a time as there is room for their adjustments. */
static enum mb_status sample(struct mb_pass *p, const struct piece *pc, struct mb_view drawn)
{
    const struct mb_sample_row *s = p->batch->sample + pc->first;
    int64_t room = p->c->rooms.bytes[MB_SB_ADJUST] / (int64_t)sizeof(struct mb_sample_adjust);
    struct mb_view rows, adj, masks = mb_rows(p, MB_SB_MASKS, p->batch->masks.slots, p->batch->masks.words, MB_I32);

    for (int32_t i = 0, n; i < pc->n; i += n) {
        n = rows_that_fit(s + i, pc->n - i, room);
        if (n == 0)
            return mb_error(MB_BUG, "a row adjusts %d tokens of %lld", s[i].adj_end - s[i].adj_begin, (long long)room);
        MB_TRY(upload_sampling(p, s + i, n, &rows, &adj));
        MB_TRY(p->c->o.ops->sample(p->c->stream, mb_view_rows(drawn, i, n), mb_view_rows(pc->z, i, n),
                                   mb_view_rows(pc->stats, i, n), rows, adj, masks));
    }
    return MB_OK;
}

static enum mb_status draw(struct mb_pass *p, struct piece *pc)
{
    const struct mb_ops *ops = p->c->o.ops;
    struct mb_found *f = p->found;
    struct mb_view best = mb_rows(p, MB_SB_BEST, pc->n, 1, MB_I32), bad = mb_rows(p, MB_SB_LBAD, pc->n, 1, MB_I32);
    struct mb_view drawn = mb_rows(p, MB_SB_DRAWN, pc->n, 1, MB_I32);

    MB_TRY(ops->logit_stats(p->c->stream, pc->stats, best, bad, pc->z));
    MB_TRY(sample(p, pc, drawn));
    memset(f->guess + pc->first, 0xff, sizeof *f->guess * (size_t)pc->n);
    MB_TRY(ops->copy_out(p->c->stream, f->drawn + pc->first, drawn));
    MB_TRY(ops->copy_out(p->c->stream, f->best + pc->first, best));
    return ops->copy_out(p->c->stream, f->bad + pc->first, bad);
}

static enum mb_status top(struct mb_pass *p, struct piece *pc)
{
    const struct mb_ops *ops = p->c->o.ops;
    struct mb_view ti = mb_rows(p, MB_SB_TOP_IDS, pc->n, pc->top_n, MB_I32), tl = mb_rows(p, MB_SB_TOP_LP, pc->n, pc->top_n, MB_F32);

    MB_TRY(ops->top(p->c->stream, ti, tl, pc->z, pc->stats));
    MB_TRY(ops->copy_out(p->c->stream, p->work->h_i32, ti));
    MB_TRY(ops->copy_out(p->c->stream, p->work->h_f32, tl));
    for (int32_t i = 0; i < pc->n; i++) {
        memcpy(p->found->top_ids + (int64_t)(pc->first + i) * MB_MAX_TOP, p->work->h_i32 + i * pc->top_n, 4 * (size_t)pc->top_n);
        memcpy(p->found->top_lp + (int64_t)(pc->first + i) * MB_MAX_TOP, p->work->h_f32 + i * pc->top_n, 4 * (size_t)pc->top_n);
    }
    return MB_OK;
}

/* The token whose log-probability a row gives: the drawn one, or the next of the prompt. */
static enum mb_status score(struct mb_pass *p, struct piece *pc)
{
    const struct mb_ops *ops = p->c->o.ops;
    struct mb_view target = mb_rows(p, MB_SB_TARGET, pc->n, 1, MB_I32), lp = mb_rows(p, MB_SB_LP, pc->n, 1, MB_F32);
    int32_t *ids = p->work->h_i32;

    pc->top_n = 0;
    for (int32_t i = 0; i < pc->n; i++) {
        const struct mb_out *o = &p->batch->out[pc->first + i];
        ids[i] = o->target >= 0 ? o->target : p->found->drawn[pc->first + i];
        pc->top_n = o->top_n > pc->top_n ? o->top_n : pc->top_n;
    }
    MB_TRY(ops->copy_in(p->c->stream, target, ids));
    MB_TRY(ops->logprob(p->c->stream, lp, pc->z, pc->stats, target));
    MB_TRY(ops->copy_out(p->c->stream, p->found->lp + pc->first, lp));
    return pc->top_n > 0 ? top(p, pc) : MB_OK;
}

static enum mb_status save_logits(struct mb_pass *p, struct piece *pc, struct mb_sink *sink)
{
    int64_t V = p->c->o.model->vocab;

    if (p->c->o.save_logits == MB_LOGITS_NONE)
        return MB_OK;
    MB_TRY(p->c->o.ops->copy_out(p->c->stream, p->work->h_rows, pc->z));
    for (int32_t i = 0; i < pc->n; i++)
        MB_TRY(mb_results_logits(p, pc->first + i, p->work->h_rows + i * V, sink));
    return MB_OK;
}

static bool samples(const struct mb_context *c)
{
    return c->t.g.sp_rank == 0 && c->t.g.tp_rank == 0;
}

/* The logits of the next piece of the batch's out list, where rows are sampled. */
static enum mb_status logits(struct mb_pass *p, struct piece *pc)
{
    int32_t left = p->batch->n_out - pc->first;

    pc->n = left < p->work->logit_rows ? left : p->work->logit_rows;
    pc->z = mb_rows(p, MB_SB_LOGITS, pc->n, p->c->o.model->vocab, MB_F32);
    pc->stats = mb_rows(p, MB_SB_STATS, pc->n, 2, MB_F32);
    return p->c->t.g.att == NULL ? logits_alone(p, pc) : logits_shared(p, pc);
}

static enum mb_status head_run(struct mb_pass *p, struct mb_sink *sink)
{
    struct piece pc = {.x = mb_rows(p, MB_SB_X, p->batch->part.n_own, p->c->o.model->hidden, MB_F32),
                      .norm = &p->c->w.final_norm, .norm_b = &p->c->w.final_norm_b};

    if (samples(p->c))
        MB_TRY(upload_masks(p));
    for (; pc.first < p->batch->n_out; pc.first += pc.n) {
        MB_TRY(logits(p, &pc));
        if (!samples(p->c))
            continue;
        MB_TRY(draw(p, &pc));
        MB_TRY(score(p, &pc));
        MB_TRY(save_logits(p, &pc, sink));
    }
    return MB_OK;
}

enum mb_status mb_head_run(struct mb_pass *p, struct mb_sink *sink)
{
    enum mb_time before = mb_time_into(p->tally, MB_TIME_HEAD);
    enum mb_status st = head_run(p, sink);

    (void)mb_time_into(p->tally, before);
    return st;
}

enum mb_status mb_head_mtp(struct mb_pass *p, struct mb_view x, struct mb_sink *sink)
{
    const struct mb_vec none = {0};
    struct piece pc = {.x = x, .norm = &p->c->w.mtp_norm, .norm_b = &none};

    for (; pc.first < p->batch->n_out; pc.first += pc.n) {
        MB_TRY(logits(p, &pc));
        if (!samples(p->c))
            continue;
        MB_TRY(p->c->o.ops->copy_out(p->c->stream, p->work->h_rows, pc.z));
        for (int32_t i = 0; i < pc.n; i++)
            MB_TRY(mb_results_mtp(p, pc.first + i, p->work->h_rows + (int64_t)i * p->c->o.model->vocab, sink));
    }
    return MB_OK;
}

/* The guess behind out i is for the token that the module has read: of several draws of one row the last one. */
static int32_t guess_of(const struct mb_pass *p, int32_t i)
{
    const struct mb_batch *b = p->batch;
    const struct mb_found *f = p->found;
    int32_t last = i;

    while (last + 1 < b->n_out && b->out[last + 1].row == b->out[i].row)
        last++;
    bool read = b->out[last].target < 0 && f->drawn[last] == f->drawn[i];
    return read && b->out[i].draws && !f->bad[i] && f->guess[i] < p->c->o.model->vocab ? f->guess[i] : -1;
}

enum mb_status mb_head_guess(struct mb_pass *p, struct mb_view x)
{
    const struct mb_vec none = {0};
    const struct mb_ops *ops = p->c->o.ops;
    struct piece pc = {.x = x, .norm = &p->c->w.mtp_norm, .norm_b = &none};

    for (; pc.first < p->batch->n_out; pc.first += pc.n) {
        MB_TRY(logits(p, &pc));
        if (!samples(p->c))
            continue;
        struct mb_view best = mb_rows(p, MB_SB_BEST, pc.n, 1, MB_I32), bad = mb_rows(p, MB_SB_LBAD, pc.n, 1, MB_I32);
        MB_TRY(ops->logit_stats(p->c->stream, pc.stats, best, bad, pc.z));
        MB_TRY(ops->copy_out(p->c->stream, p->found->guess + pc.first, best));
    }
    for (int32_t i = 0; samples(p->c) && i < p->batch->n_out; i++)
        p->found->guess[i] = guess_of(p, i);
    return MB_OK;
}
