/* Rows and sums that a group divides: gathers, trees completed by a row's owner, the embedding by vocabulary.
 */
#include <string.h>
#include "base/log.h"
#include "engine/step.h"

static int64_t rows_of(const struct mb_split *s, int32_t m)
{
    return s->at[m + 1] - s->at[m];
}

struct mb_split mb_tp_split(const struct mb_pass *p, int64_t *at)
{
    int32_t n = p->c->t.g.tp_size;

    for (int32_t t = 0; t <= n; t++)
        at[t] = mb_share(p->batch->part.n, t, n);
    return (struct mb_split){p->c->t.g.tp, n, p->c->t.g.tp_rank, at};
}

static enum mb_status swap(struct mb_pass *p, const struct mb_split *s, const char *what, int32_t layer)
{
    struct mb_where at = {what, p->step, layer};
    return mb_comm_swap(s->c, p->work->out, p->work->in, &at);
}

/* ---------------------------------------------------------------- rows */

enum mb_status mb_allgather_rows(struct mb_pass *p, const struct mb_split *s, struct mb_view all,
                               struct mb_view mine, int32_t layer)
{
    const struct mb_ops *ops = p->c->o.ops;
    int64_t row = mine.cols * mb_dtype_size(mine.dtype), a = s->at[s->me], b = s->at[s->me + 1],
            n = s->at[s->n];
    uint8_t *send = mb_room_host(p, MB_SB_SEND, (int64_t)((b - a) * row));
    uint8_t *recv = mb_room_host(p, MB_SB_RECV, (int64_t)(n * row));

    if (send == NULL || recv == NULL)
        return MB_BUG;
    if (b > a)
        MB_TRY(ops->copy_out(p->c->stream, send, mine));
    for (int32_t m = 0; m < s->n; m++) {
        p->work->out[m] = (struct mb_piece){send, (uint64_t)((b - a) * row)};
        p->work->in[m] = (struct mb_piece){recv + s->at[m] * row, (uint64_t)(rows_of(s, m) * row)};
    }
    MB_TRY(swap(p, s, "gathering rows", layer));
    if (a > 0)
        MB_TRY(ops->copy_in(p->c->stream, mb_view_rows(all, 0, a), recv));
    if (b > a)
        MB_TRY(ops->copy(p->c->stream, mb_view_rows(all, a, b - a), mine));
    return n > b ? ops->copy_in(p->c->stream, mb_view_rows(all, b, n - b), recv + b * row) : MB_OK;
}

enum mb_status mb_tp_allgather(struct mb_pass *p, int32_t l, struct mb_view own, struct mb_view *all)
{
    int64_t at[MB_MAX_LEAVES + 1];

    *all = own;
    if (p->c->t.g.tp == NULL)
        return MB_OK;
    struct mb_split s = mb_tp_split(p, at);
    *all = mb_rows(p, MB_SB_H_PART, p->batch->part.n, own.cols, own.dtype);
    return mb_allgather_rows(p, &s, *all, own, l);
}

/* ---------------------------------------------------------------- sums */

/* Tree nodes of every member: where they begin among all, and the first leaf of each. */
struct tree_nodes {
    int32_t n, first_of[MB_MAX_LEAVES + 1], pos[MB_MAX_LEAVES];
};

static struct tree_nodes all_tree_nodes(int32_t leaves, int32_t members)
{
    struct tree_nodes all = {0};
    int32_t first[MB_MAX_LEAVES], count[MB_MAX_LEAVES];

    for (int32_t m = 0; m < members; m++) {
        int32_t n = mb_part_nodes(leaves, m, members, first, count);
        all.first_of[m] = all.n;
        for (int32_t i = 0; i < n; i++)
            all.pos[all.n++] = first[i];
    }
    all.first_of[members] = all.n;
    return all;
}

static struct mb_view node_rows(struct mb_buf *parts, int64_t node, int64_t all, int64_t at, int64_t rows,
                                int64_t cols)
{
    return mb_view_of(parts, (uint64_t)((node * all + at) * cols * 4), rows, cols, MB_F32);
}

/* Row i's items: the values of its tree nodes, one by one. */
static enum mb_status fold_tree_nodes(struct mb_pass *p, const struct tree_nodes *nd, struct mb_view out,
                                 struct mb_buf *inner)
{
    int64_t rows = out.rows, items = rows * nd->n, total = rows + 1 + 3 * items;
    int32_t *h = mb_room_host(p, MB_SB_SEND, (int64_t)total * 4);
    struct mb_buf *d = mb_room_dev(p, MB_SB_IDX, (int64_t)total * 4);

    if (h == NULL || d == NULL)
        return MB_BUG;
    for (int64_t i = 0; i < rows; i++) {
        h[i] = (int32_t)(i * nd->n);
        for (int32_t j = 0; j < nd->n; j++) {
            h[rows + 1 + i * nd->n + j] = (int32_t)(-1 - (j * rows + i));
            h[rows + 1 + items + i * nd->n + j] = nd->pos[j];
            h[rows + 1 + 2 * items + i * nd->n + j] = 0;
        }
    }
    h[rows] = (int32_t)items;
    struct mb_view list = mb_rows_of(d, total, 1, MB_I32);
    struct mb_fold_args a = {.item_off = mb_view_rows(list, 0, rows + 1),
                             .src = mb_view_rows(list, rows + 1, items),
                             .pos = mb_view_rows(list, rows + 1 + items, items),
                             .weight = mb_view_rows(list, rows + 1 + 2 * items, items),
                             .inner = mb_rows_of(inner, items, out.cols, MB_F32)};
    a.weight.dtype = MB_F32;
    MB_TRY(p->c->o.ops->copy_in(p->c->stream, list, h));
    return p->c->o.ops->fold(p->c->stream, out, &a);
}

/* Sends each member the values of its rows' tree nodes; what comes is put side by side into inner, in the order of
 * leaves. */
static enum mb_status swap_tree_nodes(struct mb_pass *p, const struct mb_split *s, const struct tree_nodes *nd,
                                 struct mb_buf *parts, struct mb_buf *inner, int64_t cols, int32_t layer)
{
    const struct mb_ops *ops = p->c->o.ops;
    int32_t here = nd->first_of[s->me + 1] - nd->first_of[s->me];
    int64_t all = s->at[s->n], own = rows_of(s, s->me), row = cols * 4;
    uint8_t *send = mb_room_host(p, MB_SB_SEND, (int64_t)(here * all * row));
    uint8_t *recv = mb_room_host(p, MB_SB_RECV, (int64_t)(nd->n * own * row)), *at = send;

    if (send == NULL || recv == NULL)
        return MB_BUG;
    for (int32_t m = 0; m < s->n; m++) {
        int64_t rows = rows_of(s, m);
        p->work->out[m] = (struct mb_piece){at, m == s->me ? 0 : (uint64_t)(here * rows * row)};
        p->work->in[m] = (struct mb_piece){recv + nd->first_of[m] * own * row,
                                             (uint64_t)((nd->first_of[m + 1] - nd->first_of[m]) * own * row)};
        for (int32_t i = 0; m != s->me && rows > 0 && i < here; i++, at += rows * row)
            MB_TRY(ops->copy_out(p->c->stream, at, node_rows(parts, i, all, s->at[m], rows, cols)));
    }
    MB_TRY(swap(p, s, "summing over a group", layer));
    for (int32_t m = 0; own > 0 && m < s->n; m++) {
        int64_t first = nd->first_of[m] * own, n = (nd->first_of[m + 1] - nd->first_of[m]) * own;
        if (m != s->me)
            MB_TRY(ops->copy_in(p->c->stream, node_rows(inner, 0, 0, first, n, cols), recv + first * row));
    }
    for (int32_t i = 0; own > 0 && i < here; i++)
        MB_TRY(ops->copy(p->c->stream, node_rows(inner, 0, 0, (nd->first_of[s->me] + i) * own, own, cols),
                         node_rows(parts, i, all, s->at[s->me], own, cols)));
    return MB_OK;
}

enum mb_status mb_reduce_scatter_rows(struct mb_pass *p, const struct mb_split *s, const struct mb_rowpar *w,
                             struct mb_view out, struct mb_buf *parts, int32_t layer)
{
    struct tree_nodes nd = all_tree_nodes(w->leaves, s->n);
    struct mb_buf *inner = mb_room_dev(p, MB_SB_INNER, (int64_t)(nd.n * out.rows * out.cols * 4));

    if (inner == NULL)
        return MB_BUG;
    MB_TRY(swap_tree_nodes(p, s, &nd, parts, inner, out.cols, layer));
    return out.rows > 0 ? fold_tree_nodes(p, &nd, out, inner) : MB_OK;
}

enum mb_status mb_tp_gemm_reduce_scatter(struct mb_pass *p, const struct mb_rowpar *w, struct mb_view out, struct mb_view x,
                                         struct mb_view bias, int32_t layer)
{
    int64_t at[MB_MAX_LEAVES + 1];
    struct mb_split s = mb_tp_split(p, at);

    return mb_gemm_reduce_scatter(p, &s, w, out, x, bias, layer);
}

enum mb_status mb_gemm_reduce_scatter(struct mb_pass *p, const struct mb_split *s, const struct mb_rowpar *w, struct mb_view out,
                                      struct mb_view x, struct mb_view bias, int32_t layer)
{
    const struct mb_ops *ops = p->c->o.ops;

    if (s->n == 1) {
        struct mb_gemm_group g = {.w = w->w[0], .rows = x.rows, .bias = bias};
        return ops->gemm(p->c->stream, out, x, &g, 1);
    }
    struct mb_buf *parts = mb_room_dev(p, MB_SB_PARTS, (int64_t)(w->n * x.rows * out.cols * 4));
    if (parts == NULL)
        return MB_BUG;
    for (int32_t i = 0; i < w->n; i++) {
        struct mb_gemm_group g = {.w = w->w[i], .rows = x.rows, .x_col = w->x_col[i]};
        MB_TRY(ops->gemm(p->c->stream, node_rows(parts, i, x.rows, 0, x.rows, out.cols), x, &g, 1));
    }
    MB_TRY(mb_reduce_scatter_rows(p, s, w, out, parts, layer));
    return bias.buf != NULL && out.rows > 0 ? ops->add(p->c->stream, out, out, bias) : MB_OK;
}

/* ---------------------------------------------------------------- embedding */

/* Part rows [a, b) whose ids lie in tensor rank t's vocabulary: how many; the ids, counted from its first, go
 * to ids. */
static int64_t ids_of(const struct mb_pass *p, int32_t t, int64_t a, int64_t b, int32_t *ids)
{
    int64_t v0, v1, n = 0;

    mb_part_vocab(p->c->o.model->vocab, t, p->c->t.g.tp_size, &v0, &v1);
    for (int64_t i = a; i < b; i++) {
        int32_t id = p->batch->part.ids[i];
        if (id < v0 || id >= v1)
            continue;
        if (ids != NULL)
            ids[n] = (int32_t)(id - v0);
        n++;
    }
    return n;
}

/* The rows of this rank's vocabulary, for whoever owns them: looked up, and on their way. */
static enum mb_status look_up(struct mb_pass *p, const struct mb_split *s, int32_t *ids, uint8_t *send)
{
    const struct mb_ops *ops = p->c->o.ops;
    int64_t H = p->c->o.model->hidden, n = ids_of(p, s->me, 0, s->at[s->n], ids), at = 0;
    struct mb_buf *d = mb_room_dev(p, MB_SB_IDX, (int64_t)(n + 1) * 4);
    struct mb_buf *g = mb_room_dev(p, MB_SB_GATHERED, (int64_t)(n * H * 4));

    if (d == NULL || g == NULL)
        return MB_BUG;
    if (n > 0) {
        MB_TRY(ops->copy_in(p->c->stream, mb_rows_of(d, n, 1, MB_I32), ids));
        MB_TRY(ops->embed(p->c->stream, mb_rows_of(g, n, H, MB_F32), p->c->w.embed.view,
                          mb_rows_of(d, n, 1, MB_I32), p->c->o.model->embed_scale));
        MB_TRY(ops->copy_out(p->c->stream, send, mb_rows_of(g, n, H, MB_F32)));
    }
    for (int32_t m = 0; m < s->n; m++) {
        int64_t rows = ids_of(p, s->me, s->at[m], s->at[m + 1], NULL);
        p->work->out[m] = (struct mb_piece){send + at * H * 4, (uint64_t)(rows * H * 4)};
        at += rows;
    }
    return MB_OK;
}

enum mb_status mb_tp_embed(struct mb_pass *p, struct mb_view x)
{
    const struct mb_ops *ops = p->c->o.ops;
    int64_t at[MB_MAX_LEAVES + 1], H = x.cols, n = 0;

    if (p->c->t.g.tp_size == 1)
        return x.rows > 0 ? ops->embed(p->c->stream, x, p->c->w.embed.view, p->batch->dev.ids, p->c->o.model->embed_scale)
                          : MB_OK;
    struct mb_split s = mb_tp_split(p, at);
    int64_t all = at[s.n], a = at[s.me], b = at[s.me + 1];
    uint8_t *send = mb_room_host(p, MB_SB_SEND, (int64_t)(all * H * 4 + 4));
    uint8_t *recv = mb_room_host(p, MB_SB_RECV, (int64_t)((b - a) * H * 4 + 4));
    int32_t *ids = mb_room_host(p, MB_SB_LISTS, (int64_t)(2 * all + 2) * 4);
    if (send == NULL || recv == NULL || ids == NULL)
        return MB_BUG;
    MB_TRY(look_up(p, &s, ids, send));
    int32_t *row = ids + all + 1;
    for (int32_t m = 0; m < s.n; m++) {
        int64_t v0, v1, got = ids_of(p, m, a, b, NULL), k = 0;
        mb_part_vocab(p->c->o.model->vocab, m, s.n, &v0, &v1);
        p->work->in[m] = (struct mb_piece){recv + n * H * 4, (uint64_t)(got * H * 4)};
        for (int64_t i = a; i < b; i++) {
            if (p->batch->part.ids[i] >= v0 && p->batch->part.ids[i] < v1)
                row[i - a] = (int32_t)(n + k++);
        }
        n += got;
    }
    if (p->work->in[s.me].n > 0)
        memcpy(p->work->in[s.me].p, p->work->out[s.me].p, p->work->in[s.me].n);
    MB_TRY(swap(p, &s, "the embedding", -1));
    if (x.rows == 0)
        return MB_OK;
    struct mb_buf *d = mb_room_dev(p, MB_SB_IDX, (int64_t)x.rows * 4);
    struct mb_buf *in = mb_room_dev(p, MB_SB_INNER, (int64_t)(x.rows * H * 4));
    if (d == NULL || in == NULL)
        return MB_BUG;
    MB_TRY(ops->copy_in(p->c->stream, mb_rows_of(d, x.rows, 1, MB_I32), row));
    MB_TRY(ops->copy_in(p->c->stream, mb_rows_of(in, x.rows, H, MB_F32), recv));
    return ops->gather(p->c->stream, x, mb_rows_of(in, x.rows, H, MB_F32), mb_rows_of(d, x.rows, 1, MB_I32));
}

/* ---------------------------------------------------------------- whole-vector norms */

/* Squares of one member into the columns of its heads; a KV head that several hold comes from the lowest (all
 * have the same bits). */
static void place_squares(const struct mb_context *c, int32_t m, const float *from, int64_t rows, float *q,
                          float *k)
{
    const struct mb_model *model = c->o.model;
    struct mb_part_heads h = mb_part_heads(model, m, c->t.g.tp_size);

    for (int64_t i = 0; i < rows; i++) {
        memcpy(q + i * model->heads + h.head0, from + i * h.heads, sizeof(float) * (size_t)h.heads);
        memcpy(k + i * model->kv_heads + h.kv0, from + rows * h.heads + i * h.kv_heads,
               sizeof(float) * (size_t)h.kv_heads);
    }
}

static enum mb_status norm_by_sums(struct mb_pass *p, struct mb_view x, const float *sums, int32_t leaves,
                                   int64_t n, const struct mb_vec *w)
{
    struct mb_buf *d = mb_room_dev(p, MB_SB_INNER, (int64_t)(x.rows * leaves * 4));

    if (d == NULL)
        return MB_BUG;
    struct mb_view v = mb_rows_of(d, x.rows, leaves, MB_F32);
    MB_TRY(p->c->o.ops->copy_in(p->c->stream, v, sums));
    return p->c->o.ops->norm_sums(p->c->stream, x, v, w->view, n, p->c->o.model->norm_eps);
}

enum mb_status mb_tp_norms(struct mb_pass *p, int32_t l, struct mb_view q, struct mb_view k)
{
    const struct mb_model *m = p->c->o.model;
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_part_heads *h = &p->c->t.h;
    int64_t M = q.rows, own = M * (h->heads + h->kv_heads), all = 0, at[MB_MAX_LEAVES + 1];
    struct mb_split s = mb_tp_split(p, at);

    for (int32_t t = 0; t < s.n; t++) {
        struct mb_part_heads o = mb_part_heads(m, t, s.n);
        all += M * (o.heads + o.kv_heads);
    }
    float *send = mb_room_host(p, MB_SB_SEND, (int64_t)own * 4),
          *recv = mb_room_host(p, MB_SB_RECV, (int64_t)all * 4);
    float *sums = mb_room_host(p, MB_SB_LISTS, (int64_t)(M * (m->heads + m->kv_heads)) * 4),
          *to = recv;
    struct mb_buf *d = mb_room_dev(p, MB_SB_SQUARE, (int64_t)own * 4);
    if (send == NULL || recv == NULL || sums == NULL || d == NULL)
        return MB_BUG;
    MB_TRY(ops->square(p->c->stream, mb_rows_of(d, M, h->heads, MB_F32), q));
    MB_TRY(ops->square(p->c->stream, mb_view_of(d, (uint64_t)(M * h->heads * 4), M, h->kv_heads, MB_F32), k));
    MB_TRY(ops->copy_out(p->c->stream, send, mb_rows_of(d, 1, own, MB_F32)));
    for (int32_t t = 0; t < s.n; t++) {
        struct mb_part_heads o = mb_part_heads(m, t, s.n);
        p->work->out[t] = (struct mb_piece){send, (uint64_t)own * 4};
        p->work->in[t] = (struct mb_piece){to, (uint64_t)(M * (o.heads + o.kv_heads)) * 4};
        to += M * (o.heads + o.kv_heads);
    }
    MB_TRY(swap(p, &s, "square sums of q and k", l));
    for (int32_t t = 0; t < s.n; t++)
        place_squares(p->c, t, t == s.me ? send : p->work->in[t].p, M, sums, sums + M * m->heads);
    MB_TRY(norm_by_sums(p, q, sums, m->heads, (int64_t)m->heads * m->head_dim, &p->c->w.layer[l].q_norm));
    return norm_by_sums(p, k, sums + M * m->heads, m->kv_heads, (int64_t)m->kv_heads * m->head_dim,
                        &p->c->w.layer[l].k_norm);
}
