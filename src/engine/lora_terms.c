/* Adding the terms of adapters: a few GEMMs over views of rows for each. Where a group divides the inputs of
 * a weight, A x is one more sum that the group completes by the tree rule (tp.c); B is applied where a row
 * is owned. */
#include "engine/lora.h"

#include <string.h>
#include "engine/step.h"

struct mb_lora_term *mb_lora_terms(struct mb_pass *p, int64_t n)
{
    return mb_room_host(p, MB_SB_TERMS, (int64_t)n * sizeof(struct mb_lora_term));
}

/* ---------------------------------------------------------------- the two factors */

/* x in f32, of at most max_rows rows. */
static enum mb_status as_f32(struct mb_pass *p, struct mb_view x, struct mb_view *out)
{
    *out = x;
    if (x.dtype == MB_F32)
        return MB_OK;
    *out = mb_view_of(mb_dev(p, MB_SB_LORA_X), 0, x.rows, x.cols, MB_F32);
    return p->c->o.ops->copy(p->c->stream, *out, x);
}

/* A tree node of z = A x: leaves [first, first + count), each by R32, neighbours summed first. x: f32, its
 * columns begin at input k0. z: in lora_z. */
static enum mb_status low_rank(struct mb_pass *p, const struct mb_lora_pair *pair, struct mb_view x,
                               const int64_t *leaf, int32_t first, int32_t count, int64_t k0,
                               struct mb_view *z)
{
    const struct mb_ops *ops = p->c->o.ops;
    int64_t r = pair->a.view.rows;
    struct mb_view part[MB_MAX_LEAVES];

    for (int32_t i = 0; i < count; i++) {
        int64_t a = leaf[first + i] - k0, n = leaf[first + i + 1] - leaf[first + i];
        part[i] = mb_view_of(mb_dev(p, MB_SB_LORA_Z), (uint64_t)(i * x.rows * r * 4), x.rows, r, MB_F32);
        MB_TRY(ops->gemm_r32(p->c->stream, part[i], mb_view_cols(x, a, n), mb_view_cols(pair->a.view, a, n),
                             MB_NO_VIEW));
    }
    for (int32_t w = 1; w < count; w *= 2) {
        for (int32_t i = 0; i + w < count; i += 2 * w)
            MB_TRY(ops->add(p->c->stream, part[i], part[i], part[i + w]));
    }
    *z = part[0];
    return MB_OK;
}

/* out += scale * B z, z f32 of at most max_rows rows. */
static enum mb_status high_rank(struct mb_pass *p, const struct mb_lora_pair *pair, float scale,
                                struct mb_view out, struct mb_view z)
{
    const struct mb_ops *ops = p->c->o.ops;
    struct mb_view zt = z, y = mb_view_of(mb_dev(p, MB_SB_LORA_Y), 0, z.rows, out.cols, MB_F32);
    struct mb_gemm_group g = {.w = pair->b, .rows = z.rows};

    if (p->c->o.path != MB_F32) {
        zt = mb_view_of(mb_dev(p, MB_SB_LORA_H), 0, z.rows, z.cols, p->c->o.path);
        MB_TRY(ops->copy(p->c->stream, zt, z));
    }
    MB_TRY(ops->gemm(p->c->stream, y, zt, &g, 1));
    MB_TRY(ops->scale(p->c->stream, y, scale));
    return ops->add(p->c->stream, out, out, y);
}

static int32_t leaves_of(const struct mb_lora_pair *pair, int64_t leaf[MB_MAX_LEAVES + 1])
{
    leaf[0] = 0;
    leaf[1] = pair->inputs;
    return pair->unit > 0 ? mb_k_leaves(pair->inputs, pair->unit, leaf) : 1;
}

enum mb_status mb_lora_add(struct mb_pass *p, const struct mb_lora_term *t, int32_t n, struct mb_view out,
                           struct mb_view x)
{
    int64_t leaf[MB_MAX_LEAVES + 1], most = p->work->max_rows;

    for (int32_t i = 0; i < n; i++) {
        int32_t S = leaves_of(t[i].pair, leaf);
        for (int64_t r = 0; r < t[i].rows; r += most) {
            int64_t rows = t[i].rows - r < most ? t[i].rows - r : most, at = t[i].row0 + r;
            struct mb_view xf, z;
            MB_TRY(as_f32(p, mb_view_rows(x, at, rows), &xf));
            MB_TRY(low_rank(p, t[i].pair, xf, leaf, 0, S, 0, &z));
            MB_TRY(high_rank(p, t[i].pair, t[i].scale, mb_view_rows(out, at, rows), z));
        }
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- over a group */

/* Rows of a term below row `at`. */
static int64_t rows_below(const struct mb_lora_term *t, int64_t at)
{
    int64_t n = at - t->row0;
    return n < 0 ? 0 : n < t->rows ? n : t->rows;
}

/* The rows of all terms of one rank, one behind the other, divided as s divides all rows. */
static void split_terms(const struct mb_split *s, const struct mb_lora_term *t, int32_t n, int64_t r,
                        int64_t *at)
{
    for (int32_t m = 0; m <= s->n; m++) {
        at[m] = 0;
        for (int32_t i = 0; i < n; i++)
            at[m] += t[i].pair->a.view.rows == r ? rows_below(&t[i], s->at[m]) : 0;
    }
}

/* Nodes here of A x for the rows of all terms of rank r: parts [node][rows][r]. */
static enum mb_status make_nodes(struct mb_pass *p, const struct mb_split *s, const struct mb_lora_term *t,
                                 int32_t n, int64_t r, int64_t all, struct mb_view x, struct mb_buf *parts)
{
    int32_t first[MB_MAX_LEAVES], count[MB_MAX_LEAVES];
    int64_t leaf[MB_MAX_LEAVES + 1], row = 0, most = p->work->max_rows;

    for (int32_t i = 0; i < n; i++) {
        if (t[i].pair->a.view.rows != r)
            continue;
        int32_t S = leaves_of(t[i].pair, leaf), nodes = mb_part_nodes(S, s->me, s->n, first, count);
        for (int64_t k = 0; k < t[i].rows; k += most) {
            int64_t rows = t[i].rows - k < most ? t[i].rows - k : most;
            struct mb_view xf, z;
            MB_TRY(as_f32(p, mb_view_rows(x, t[i].row0 + k, rows), &xf));
            for (int32_t j = 0; j < nodes; j++) {
                MB_TRY(low_rank(p, t[i].pair, xf, leaf, first[j], count[j], leaf[first[0]], &z));
                MB_TRY(p->c->o.ops->copy(
                    p->c->stream, mb_view_of(parts, (uint64_t)((j * all + row) * r * 4), rows, r, MB_F32), z));
            }
            row += rows;
        }
    }
    return MB_OK;
}

/* B for the own rows of every term of rank r, whose A x lie one behind the other in z. */
static enum mb_status use_sums(struct mb_pass *p, const struct mb_split *s, const struct mb_lora_term *t,
                               int32_t n, int64_t r, struct mb_view out, struct mb_view z)
{
    int64_t from = 0, most = p->work->max_rows;

    for (int32_t i = 0; i < n; i++) {
        if (t[i].pair->a.view.rows != r)
            continue;
        int64_t a = rows_below(&t[i], s->at[s->me]), b = rows_below(&t[i], s->at[s->me + 1]);
        for (; a < b; a += most) {
            int64_t rows = b - a < most ? b - a : most;
            MB_TRY(high_rank(p, t[i].pair, t[i].scale, mb_view_rows(out, t[i].row0 + a - s->at[s->me], rows),
                             mb_view_rows(z, from, rows)));
            from += rows;
        }
    }
    return MB_OK;
}

static enum mb_status sum_rank(struct mb_pass *p, const struct mb_split *s, const struct mb_lora_term *t,
                               int32_t n, int64_t r, struct mb_view out, struct mb_view x, int32_t layer)
{
    int64_t at[MB_MAX_LEAVES + 1], leaf[MB_MAX_LEAVES + 1];
    struct mb_split of = {s->c, s->n, s->me, at};
    struct mb_rowpar w = {.leaves = leaves_of(t[0].pair, leaf)};
    int32_t first[MB_MAX_LEAVES], count[MB_MAX_LEAVES];

    split_terms(s, t, n, r, at);
    int64_t all = at[s->n], own = at[s->me + 1] - at[s->me],
            nodes = mb_part_nodes(w.leaves, s->me, s->n, first, count);
    struct mb_buf *parts = mb_room_dev(p, MB_SB_PARTS, (int64_t)(nodes * all * r * 4)),
                  *sums = mb_room_dev(p, MB_SB_LOW, (int64_t)(own * r * 4));
    if (parts == NULL || sums == NULL)
        return MB_BUG;
    struct mb_view z = mb_rows_of(sums, own, r, MB_F32);
    MB_TRY(make_nodes(p, s, t, n, r, all, x, parts));
    MB_TRY(mb_reduce_scatter_rows(p, &of, &w, z, parts, layer));
    return use_sums(p, s, t, n, r, out, z);
}

enum mb_status mb_lora_sum(struct mb_pass *p, const struct mb_split *s, const struct mb_lora_term *t,
                           int32_t n, struct mb_view out, struct mb_view x, int32_t layer)
{
    if (s->n == 1)
        return mb_lora_add(p, t, n, out, x);
    for (int32_t i = 0; i < n; i++) {
        int64_t r = t[i].pair->a.view.rows;
        bool done = false;
        for (int32_t j = 0; j < i; j++)
            done |= t[j].pair->a.view.rows == r;
        if (!done)
            MB_TRY(sum_rank(p, s, t, n, r, out, x, layer));
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- sites */

enum mb_status mb_lora_site(struct mb_pass *p, int32_t l, enum mb_lora_site site, struct mb_view out,
                            struct mb_view x)
{
    int64_t at[MB_MAX_LEAVES + 1];
    struct mb_split s = mb_tp_split(p, at);
    int32_t n = 0;

    if (p->batch->part.n_runs == 0)
        return MB_OK;
    struct mb_lora_term *t = mb_lora_terms(p, p->batch->part.n_runs);
    if (t == NULL)
        return MB_BUG;
    for (int32_t i = 0; i < p->batch->part.n_runs; i++) {
        const struct mb_lora_run *run = &p->batch->part.run[i];
        const struct mb_lora_pair *pair = &p->c->lora[run->adapter].layer[l].site[site];
        if (pair->a.buf != NULL)
            t[n++] = (struct mb_lora_term){pair, p->c->lora[run->adapter].scale, run->row0, run->rows};
    }
    bool inputs = site == MB_LORA_O || site == MB_LORA_DOWN || site == MB_LORA_SH_DOWN;
    return inputs ? mb_lora_sum(p, &s, t, n, out, x, l) : mb_lora_add(p, t, n, out, x);
}

bool mb_lora_touches_kv_b(const struct mb_pass *p, int32_t l)
{
    for (int32_t i = 0; i < p->batch->part.n_runs; i++) {
        if (p->c->lora[p->batch->part.run[i].adapter].layer[l].uk != NULL)
            return true;
    }
    return false;
}

enum mb_status mb_lora_heads(struct mb_pass *p, int32_t l, bool up, struct mb_view out, int64_t out_step,
                             struct mb_view x, int64_t x_step)
{
    const struct mb_model *m = p->c->o.model;

    for (int32_t i = 0; i < p->batch->part.n_runs; i++) {
        const struct mb_lora_run *run = &p->batch->part.run[i];
        const struct mb_lora_layer *y = &p->c->lora[run->adapter].layer[l];
        for (int32_t h = 0; h < p->c->t.h.heads && y->uk != NULL; h++) {
            struct mb_lora_term t = {up ? &y->uv[h] : &y->uk[h], p->c->lora[run->adapter].scale, run->row0,
                                     run->rows};
            MB_TRY(mb_lora_add(p, &t, 1, mb_view_cols(out, h * out_step, up ? m->v_dim : m->kv_lora),
                               mb_view_cols(x, h * x_step, up ? m->kv_lora : m->nope)));
        }
    }
    return MB_OK;
}

bool mb_lora_on_experts(const struct mb_engine_options *o)
{
    for (int32_t i = 0; i < o->n_adapters; i++) {
        if (mb_adapter_on_experts(o->adapters[i]))
            return true;
    }
    return false;
}
