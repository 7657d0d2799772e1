/* Attention over a sequence group: every rank keeps some KV segments of every sequence. The queries of all
 * parts go to all ranks; each computes the states of its segments, joined as far as the tree rule allows, and
 * sends them to the part that a row belongs to, which completes the tree (doc/numerics, KV). */
#include <string.h>
#include "base/log.h"
#include "engine/count.h"
#include "engine/step.h"
#include "plan/rooms.h"

/* The integers of one block of rows and window. Rows are in the order of parts (batch.order.at); those of a block
 * are numbered from its first. Lists lie one behind the other on the device. */
struct lists {
    int32_t r0, rows; /* the block */
    int32_t out0;     /* its first row of the own part, among these */
    int64_t items, nodes, fin,
        mine; /* items and nodes of all rows here; nodes from all ranks of the own part's rows; these rows */
    int32_t *item_off, *item_seg, *node_off, *node_src, *node_pos, *fin_off, *fin_src, *fin_pos;
    int64_t node_at[MB_MAX_PARTS + 1]; /* nodes here, by part of their rows */
    int64_t from_at[MB_MAX_PARTS + 1]; /* nodes of the own part's rows, by the rank that makes them */
};

static void visible(const struct mb_context *c, int32_t window, int32_t pos, int32_t *lo, int32_t *hi)
{
    int32_t first = mb_first_seen(window, c->o.model->chunked, pos);

    *lo = first / c->o.segment;
    *hi = pos / c->o.segment;
}

/* Scratch of row_nodes behind the lists: the segments of a row, and the nodes of a part, the i-th of which has count[i] segments from
 * seg[first[i]] on. */
struct scratch {
    int32_t *seg, *first, *count;
    uint8_t *held;
};

/* What row r (in the order of parts) chose, as choose_keys writes it; NULL: it attends to all that it sees. */
static const int32_t *choice_of(const struct mb_pass *p, int32_t r)
{
    const int32_t *all = p->work->host[MB_SB_H_CHOSEN - MB_XB_COUNT];
    int64_t cols = 1 + (int64_t)p->c->o.model->indexer.topk;

    return p->c->o.model->indexer.topk > 0 && all[r * cols] >= 0 ? all + r * cols : NULL;
}

/* The segments of which row r attends to a key, ascending. */
static int32_t row_segments(const struct mb_pass *p, int32_t window, int32_t r, int32_t *seg)
{
    const int32_t *chosen = choice_of(p, r);
    int32_t lo, hi, n = 0;

    visible(p->c, window, p->batch->order.pos[r], &lo, &hi);
    for (int32_t s = lo; chosen == NULL && s <= hi; s++)
        seg[n++] = s;
    for (int32_t i = 1, end = 0; chosen != NULL && i <= chosen[0]; i++) { /* end: of the segment before */
        if (chosen[i] < end)
            continue;
        seg[n++] = chosen[i] / p->c->o.segment;
        end = (seg[n - 1] + 1) * p->c->o.segment;
    }
    return n;
}

/* Nodes of row r that one part of the group makes. */
static int32_t row_nodes(const struct mb_pass *p, int32_t window, int32_t part, int32_t r, const struct scratch *sc)
{
    int32_t n = row_segments(p, window, r, sc->seg);

    for (int32_t i = 0; i < n; i++)
        sc->held[i] = mb_layout_part(p->c->t.g.sp_size, sc->seg[i]) == part;
    return mb_tree_maximal(sc->seg, sc->held, n, sc->first, sc->count);
}

/* Items and nodes of every row here. */
static void list_here(const struct mb_pass *p, int32_t window, const struct scratch *sc, struct lists *l)
{
    const struct mb_batch *b = p->batch;
    int32_t me = p->c->t.g.sp_rank;

    l->items = l->nodes = 0;
    for (int32_t g = 0, r = 0; g < p->c->t.g.sp_size; g++) {
        l->node_at[g] = l->nodes;
        for (; r < l->rows && l->r0 + r < b->order.at[g + 1]; r++) {
            int32_t n = row_nodes(p, window, me, l->r0 + r, sc);
            l->item_off[r] = (int32_t)l->items;
            for (int32_t i = 0; i < n; i++) {
                l->node_off[l->nodes++] = (int32_t)l->items;
                for (int32_t j = 0; j < sc->count[i]; j++) {
                    l->node_src[l->items] = (int32_t)l->items;
                    l->node_pos[l->items] = sc->seg[sc->first[i] + j];
                    l->item_seg[l->items++] = sc->seg[sc->first[i] + j];
                }
            }
        }
    }
    l->node_at[p->c->t.g.sp_size] = l->nodes;
    l->item_off[l->rows] = (int32_t)l->items;
    l->node_off[l->nodes] = (int32_t)l->items;
}

/* The nodes of the own part's rows: rank after rank as they arrive, and for each row in the order of
 * segments. */
static void list_mine(const struct mb_pass *p, int32_t window, const struct scratch *sc, struct lists *l)
{
    const struct mb_batch *b = p->batch;
    int32_t first = b->order.at[p->c->t.g.sp_rank], last = b->order.at[p->c->t.g.sp_rank + 1], sp = p->c->t.g.sp_size,
            until = l->r0 + l->rows;
    int32_t a = first > l->r0 ? first : l->r0, end = last < until ? last : until;
    int64_t at[MB_MAX_PARTS];

    end = end > a ? end : a;
    l->out0 = a - first;
    l->mine = end - a;
    l->fin = 0;
    for (int32_t g = 0; g < sp; g++) {
        l->from_at[g] = l->fin;
        at[g] = l->fin;
        for (int32_t r = a; r < end; r++)
            l->fin += row_nodes(p, window, g, r, sc);
    }
    l->from_at[sp] = l->fin;
    int32_t n = 0;
    for (int32_t r = a; r < end; r++) {
        int32_t begin = n;
        l->fin_off[r - a] = n;
        for (int32_t g = 0; g < sp; g++) {
            int32_t k = row_nodes(p, window, g, r, sc);
            for (int32_t i = 0; i < k; i++) { /* by insertion: few nodes, nearly in order */
                int32_t to = n++, pos = sc->seg[sc->first[i]];
                for (; to > begin && l->fin_pos[to - 1] > pos; to--) {
                    l->fin_pos[to] = l->fin_pos[to - 1];
                    l->fin_src[to] = l->fin_src[to - 1];
                }
                l->fin_pos[to] = pos;
                l->fin_src[to] = (int32_t)at[g]++;
            }
        }
    }
    l->fin_off[end - a] = n;
}

/* Rows from r0 on that make up a block: as many as have so many cells (rows with one segment each), at least
 * one. */
static int32_t block_rows(const struct mb_pass *p, int32_t window, int32_t r0, int64_t limit,
                          int64_t *cells, int64_t *most)
{
    const struct mb_batch *b = p->batch;
    int32_t n = 0;

    *cells = *most = 0;
    for (int32_t r = r0; r < b->rows; r++, n++) {
        int32_t lo, hi;
        visible(p->c, window, b->order.pos[r], &lo, &hi);
        if (n > 0 && *cells + hi - lo + 1 > limit)
            break;
        *cells += hi - lo + 1;
        *most = hi - lo + 1 > *most ? hi - lo + 1 : *most;
    }
    return n;
}

static enum mb_status make_lists(struct mb_pass *p, int32_t window, int32_t r0, int64_t limit,
                                 struct lists *l)
{
    int64_t most, cells;

    l->r0 = r0;
    l->rows = block_rows(p, window, r0, limit, &cells, &most);
    int64_t n = 2 * (int64_t)(l->rows + 1) + 6 * (cells + 1) + 4 * (most + 1);
    int32_t *at = mb_room_host(p, MB_SB_LISTS, (int64_t)n * 4);
    if (at == NULL)
        return MB_BUG;
    l->item_off = at;
    l->fin_off = l->item_off + l->rows + 1;
    l->item_seg = l->fin_off + l->rows + 1;
    l->node_off = l->item_seg + cells + 1;
    l->node_src = l->node_off + cells + 1;
    l->node_pos = l->node_src + cells + 1;
    l->fin_src = l->node_pos + cells + 1;
    l->fin_pos = l->fin_src + cells + 1;
    struct scratch sc = {.seg = l->fin_pos + cells + 1};
    sc.first = sc.seg + most + 1;
    sc.count = sc.first + most + 1;
    sc.held = (uint8_t *)(sc.count + most + 1);
    list_here(p, window, &sc, l);
    list_mine(p, window, &sc, l);
    return MB_OK;
}

/* n integers to a place of the device's list; *at moves on. */
static enum mb_status put(const struct mb_context *c, struct mb_buf *d, int64_t *at, const int32_t *from, int64_t n,
                          struct mb_view *out)
{
    *out = mb_view_of(d, (uint64_t)*at * 4, n, 1, MB_I32);
    *at += n;
    return n > 0 ? c->o.ops->copy_in(c->stream, *out, from) : MB_OK;
}

/* Keys of segment seg among those chosen; *at: the first that may lie there, moved on. */
static int64_t chosen_in(const int32_t *chosen, int32_t seg, int32_t size, int32_t *at)
{
    int64_t n = 0;

    while (*at <= chosen[0] && chosen[*at] < seg * size)
        ++*at;
    for (; *at <= chosen[0] && chosen[*at] < (seg + 1) * size; ++*at)
        n++;
    return n;
}

/* The work of the items: each is a row with one segment, of which it sees a part. width: of a head's key and
 * value. */
static void count_keys(struct mb_pass *p, const struct mb_attn_args *a, const struct lists *l,
                       int64_t width)
{
    int64_t keys = 0, S = p->c->o.segment;

    for (int32_t r = 0; r < l->rows; r++) {
        const int32_t *chosen = choice_of(p, l->r0 + r);
        int32_t at = 1;
        for (int32_t i = l->item_off[r]; i < l->item_off[r + 1]; i++)
            keys += chosen != NULL ? chosen_in(chosen, l->item_seg[i], (int32_t)S, &at) : mb_count_keys(a->window, a->chunked, p->batch->order.pos[l->r0 + r], l->item_seg[i] * S,
                                  (l->item_seg[i] + 1) * S);
    }
    p->tally->counters.attention_flops += 2 * keys * a->heads * width;
}

/* States of the own segments for all rows, joined to nodes. */
static enum mb_status states(struct mb_pass *p, int32_t layer, const struct mb_pool *pool,
                             const struct lists *l, struct mb_view q, struct mb_buf *ints, int64_t *at,
                             struct mb_view *nodes)
{
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_model *m = p->c->o.model;
    int32_t dv = m->mla ? m->kv_lora : m->v_dim;
    int64_t width = (int64_t)pool->heads * (dv + 2);
    struct mb_buf *sb = mb_room_dev(p, MB_SB_STATE, (int64_t)(l->items * width * 4));
    struct mb_buf *nb = mb_room_dev(p, MB_SB_NODES, (int64_t)((l->nodes + l->fin) * width * 4));
    struct mb_attn_args a = mb_attn_args_of(p, layer, pool, q);
    struct mb_view off, seg;
    struct mb_join_args j = {.heads = pool->heads, .dv = dv};

    if (sb == NULL || nb == NULL)
        return MB_BUG;
    *nodes = mb_rows_of(nb, l->nodes, width, MB_F32);
    if (l->items == 0)
        return MB_OK;
    struct mb_view state = mb_rows_of(sb, l->items, width, MB_F32);
    a.pos = mb_view_rows(p->batch->dev.order_pos, l->r0, l->rows);
    a.seq = mb_view_rows(p->batch->dev.order_seq, l->r0, l->rows);
    a.chosen = mb_indexer_choice(p, p->batch->rows);
    if (a.chosen.buf != NULL)
        a.chosen = mb_view_rows(a.chosen, l->r0, l->rows);
    MB_TRY(put(p->c, ints, at, l->item_off, l->rows + 1, &off));
    MB_TRY(put(p->c, ints, at, l->item_seg, l->items, &seg));
    count_keys(p, &a, l, q.cols / pool->heads + dv);
    MB_TRY(ops->attention_parts(p->c->stream, state, &a, off, seg));
    if (l->nodes == l->items)
        return ops->copy(p->c->stream, *nodes, state);
    MB_TRY(put(p->c, ints, at, l->node_off, l->nodes + 1, &j.item_off));
    MB_TRY(put(p->c, ints, at, l->node_src, l->items, &j.src));
    MB_TRY(put(p->c, ints, at, l->node_pos, l->items, &j.pos));
    return ops->attention_join(p->c->stream, *nodes, state, &j);
}

/* Nodes to the parts whose rows they belong to. got: those of the own part's rows. */
static enum mb_status swap_tree_nodes(struct mb_pass *p, int32_t layer, const struct lists *l,
                                 struct mb_view nodes, struct mb_view got)
{
    const struct mb_ops *ops = p->c->o.ops;
    int32_t sp = p->c->t.g.sp_size, me = p->c->t.g.sp_rank;
    int64_t row = nodes.cols * 4;
    uint8_t *send = mb_room_host(p, MB_SB_SEND, (int64_t)(l->nodes * row)), *recv = NULL;
    struct mb_where where = {"attention states", p->step, layer};

    recv = mb_room_host(p, MB_SB_RECV, (int64_t)(l->fin * row));
    if (send == NULL || recv == NULL)
        return MB_BUG;
    if (l->nodes > 0)
        MB_TRY(ops->copy_out(p->c->stream, send, nodes));
    for (int32_t g = 0; g < sp; g++) {
        p->work->out[g] = (struct mb_piece){send + l->node_at[g] * row,
                                              (uint64_t)((l->node_at[g + 1] - l->node_at[g]) * row)};
        p->work->in[g] = (struct mb_piece){recv + l->from_at[g] * row,
                                             (uint64_t)((l->from_at[g + 1] - l->from_at[g]) * row)};
    }
    MB_TRY(mb_comm_swap(p->c->t.g.sp, p->work->out, p->work->in, &where));
    if (p->work->in[me].n > 0)
        memcpy(p->work->in[me].p, p->work->out[me].p, p->work->in[me].n);
    return l->fin > 0 ? ops->copy_in(p->c->stream, got, recv) : MB_OK;
}

static enum mb_status attend_pool(struct mb_pass *p, int32_t layer, const struct mb_pool *pool,
                                  const struct lists *l, struct mb_view out, struct mb_view q)
{
    const struct mb_model *m = p->c->o.model;
    int32_t dv = m->mla ? m->kv_lora : m->v_dim;
    int64_t width = (int64_t)pool->heads * (dv + 2), at = 0;
    int64_t ints = 2 * (int64_t)l->rows + 8 + 5 * (l->items + l->nodes + l->fin + 2);
    struct mb_buf *d = mb_room_dev(p, MB_SB_IDX, (int64_t)ints * 4);
    struct mb_join_args j = {.heads = pool->heads, .dv = dv, .finish = true};
    struct mb_view nodes;

    if (d == NULL)
        return MB_BUG;
    MB_TRY(states(p, layer, pool, l, q, d, &at, &nodes));
    struct mb_view got = mb_view_of(nodes.buf, (uint64_t)(l->nodes * width * 4), l->fin, width, MB_F32);
    MB_TRY(swap_tree_nodes(p, layer, l, nodes, got));
    if (l->mine == 0)
        return MB_OK;
    if (p->c->w.layer[layer].sinks.buf != NULL)
        j.sinks = mb_view_cols(p->c->w.layer[layer].sinks.view, pool->head, pool->heads);
    MB_TRY(put(p->c, d, &at, l->fin_off, l->mine + 1, &j.item_off));
    MB_TRY(put(p->c, d, &at, l->fin_src, l->fin, &j.src));
    MB_TRY(put(p->c, d, &at, l->fin_pos, l->fin, &j.pos));
    struct mb_view rows = mb_view_rows(out, l->out0, l->mine);
    return p->c->o.ops->attention_join(
        p->c->stream, mb_view_cols(rows, (int64_t)pool->head * dv, (int64_t)pool->heads * dv), got, &j);
}

enum mb_status mb_segments_attend(struct mb_pass *p, int32_t layer, struct mb_view out, struct mb_view q)
{
    int64_t d = q.cols / p->c->t.h.heads, at[MB_MAX_PARTS + 1];
    struct mb_split s = {p->c->t.g.sp, p->c->t.g.sp_size, p->c->t.g.sp_rank, at};
    struct mb_buf *qb =
        mb_room_dev(p, MB_SB_Q_ALL, (int64_t)(p->batch->rows * q.cols * mb_dtype_size(q.dtype)));
    int64_t state =
        (int64_t)p->c->t.h.heads * ((p->c->o.model->mla ? p->c->o.model->kv_lora : p->c->o.model->v_dim) + 2) * 4;
    int64_t limit = mb_state_cells(p->c->o.state_bytes, state); /* the same on all ranks of the group */
    struct lists l;

    if (qb == NULL)
        return MB_BUG;
    for (int32_t g = 0; g <= s.n; g++)
        at[g] = p->batch->order.at[g];
    struct mb_view all = mb_rows_of(qb, p->batch->rows, q.cols, q.dtype);
    MB_TRY(mb_allgather_rows(p, &s, all, q, layer));
    for (int32_t r0 = 0; r0 < p->batch->rows; r0 += l.rows) {
        MB_TRY(make_lists(p, p->c->o.model->window[layer], r0, limit, &l));
        struct mb_view rows = mb_view_rows(all, r0, l.rows);
        for (int32_t i = 0; i < p->c->t.n_pools; i++) {
            const struct mb_pool *pool = &p->c->t.pool[i];
            MB_TRY(attend_pool(p, layer, pool, &l, out, mb_view_cols(rows, pool->head * d, pool->heads * d)));
        }
    }
    return MB_OK;
}
