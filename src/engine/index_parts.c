/* The choice of sparse attention over a sequence group, whose ranks keep the index keys of their segments:
 * the index queries of all parts go to all ranks, each lists the highest of its keys for every row, the part
 * of a row joins the lists, and every rank gets every choice, for the segments that it keeps (device/ops.h,
 * choose_parts). */
#include <string.h>
#include "base/log.h"
#include "engine/count.h"
#include "engine/step.h"
#include "plan/rooms.h"

/* Rows of the batch in the order of parts, as many as travel at a time. */
struct block {
    int32_t r0, rows;
    int32_t own0, own; /* rows of the own part among them, counted from r0 */
    int32_t *off, *list;
    int64_t items;
};

static int32_t topk_of(const struct mb_pass *p)
{
    return p->c->o.model->indexer.topk;
}

/* Keys that a part lists for a row at pos: of those of its segments at most topk, none where the row attends
 * to all that it sees. */
static int32_t listed(const struct mb_pass *p, int32_t part, int32_t pos)
{
    int32_t n = 0, k = topk_of(p), size = p->c->o.segment;

    for (int32_t s = 0; pos >= k && s <= pos / size && n < k; s++) {
        if (mb_layout_part(p->c->t.g.sp_size, s) == part)
            n += pos + 1 - s * size < size ? pos + 1 - s * size : size;
    }
    return n < k ? n : k;
}

/* The segments that this rank scores for each row: lists behind one another in the host's list. */
static enum mb_status list_segments(struct mb_pass *p, struct block *b)
{
    int32_t me = p->c->t.g.sp_rank, size = p->c->o.segment, n = 0;
    const int32_t *pos = p->batch->order.pos + b->r0;

    for (int32_t pass = 0; pass < 2; pass++) { /* counted, then written */
        n = 0;
        for (int32_t r = 0; r < b->rows; r++) {
            if (pass == 1)
                b->off[r] = n;
            for (int32_t s = 0; pos[r] >= topk_of(p) && s <= pos[r] / size; s++) {
                if (mb_layout_part(p->c->t.g.sp_size, s) != me)
                    continue;
                if (pass == 1)
                    b->list[n] = s;
                n++;
            }
        }
        if (pass == 1)
            break;
        b->off = mb_room_host(p, MB_SB_LISTS, 4 * ((int64_t)b->rows + 1 + n));
        if (b->off == NULL)
            return MB_BUG;
        b->list = b->off + b->rows + 1;
    }
    b->off[b->rows] = n;
    b->items = n;
    return MB_OK;
}

static struct mb_view part_of_list(struct mb_buf *d, int64_t at, int64_t n, enum mb_dtype t)
{
    return n > 0 ? mb_view_of(d, (uint64_t)at * 4, n, 1, t) : MB_NO_VIEW;
}

/* The work of a block here: as that of choose_keys, for the keys of the own segments. */
static void count(struct mb_pass *p, const struct mb_choose_args *a, const struct block *b)
{
    for (int32_t r = 0; r < b->rows; r++) {
        int32_t pos = p->batch->order.pos[b->r0 + r];
        for (int32_t i = b->off[r]; i < b->off[r + 1]; i++)
            mb_count_choose_part(p->tally, a,
                                 mb_count_keys(0, false, pos, (int64_t)b->list[i] * a->segment,
                                               ((int64_t)b->list[i] + 1) * a->segment),
                                 p->c->o.model->indexer.width);
    }
}

/* This rank's lists of all rows of the block, on the host: out [rows][1 + topk], then scores [rows][topk]. */
static enum mb_status list_here(struct mb_pass *p, struct block *b, const struct mb_choose_args *all,
                                const int32_t **out)
{
    const struct mb_ops *ops = p->c->o.ops;
    int64_t k = all->topk, keys = b->rows * (1 + k), n = b->rows * (1 + 2 * k);
    struct mb_choose_args a = *all;

    MB_TRY(list_segments(p, b));
    struct mb_buf *d = mb_room_dev(p, MB_SB_IDX, 4 * (b->rows + 1 + b->items)),
                  *res = mb_room_dev(p, MB_SB_CHOOSE, 4 * n);
    if (d == NULL || res == NULL)
        return MB_BUG;
    struct mb_view chosen = mb_rows_of(res, b->rows, 1 + k, MB_I32),
                   score = mb_view_of(res, (uint64_t)keys * 4, b->rows, k, MB_F32);
    count(p, &a, b);
    MB_TRY(ops->copy_in(p->c->stream, mb_rows_of(d, b->rows + 1 + b->items, 1, MB_I32), b->off));
    a.q = mb_view_rows(a.q, b->r0, b->rows);
    a.w = mb_view_rows(a.w, b->r0, b->rows);
    a.pos = mb_view_rows(a.pos, b->r0, b->rows);
    a.seq = mb_view_rows(a.seq, b->r0, b->rows);
    MB_TRY(ops->choose_parts(p->c->stream, chosen, score, &a, mb_rows_of(d, b->rows + 1, 1, MB_I32),
                             part_of_list(d, b->rows + 1, b->items, MB_I32)));
    int32_t *host = mb_room_host(p, MB_SB_LISTS, 4 * n);
    if (host == NULL)
        return MB_BUG;
    MB_TRY(ops->copy_out(p->c->stream, host, chosen));
    MB_TRY(ops->copy_out(p->c->stream, host + keys, score));
    *out = host;
    return MB_OK;
}

/* A row's list as it travels: its positions, then their scores. */
static enum mb_status swap_lists(struct mb_pass *p, const struct block *b, int32_t layer, const int32_t *here)
{
    const struct mb_batch_order *o = &p->batch->order;
    int32_t sp = p->c->t.g.sp_size, me = p->c->t.g.sp_rank;
    int64_t k = topk_of(p), sent = 0, come = 0;
    struct mb_where at = {"index scores", p->step, layer};

    for (int32_t r = 0; r < b->rows; r++)
        sent += 2 * listed(p, me, o->pos[b->r0 + r]);
    for (int32_t g = 0; g < sp; g++)
        for (int32_t r = 0; r < b->own; r++)
            come += 2 * listed(p, g, o->pos[b->r0 + b->own0 + r]);
    int32_t *send = mb_room_host(p, MB_SB_SEND, 4 * sent), *recv = mb_room_host(p, MB_SB_RECV, 4 * come);
    if (send == NULL || recv == NULL)
        return MB_BUG;
    for (int32_t g = 0, r = 0; g < sp; g++) {
        int32_t *out = send, *in = recv;
        for (; r < b->rows && b->r0 + r < o->at[g + 1]; r++) {
            size_t n = (size_t)listed(p, me, o->pos[b->r0 + r]);
            memcpy(send, here + r * (1 + k) + 1, n * 4);
            memcpy(send + n, here + b->rows * (1 + k) + r * k, n * 4);
            send += 2 * n;
        }
        for (int32_t i = 0; i < b->own; i++)
            recv += 2 * listed(p, g, o->pos[b->r0 + b->own0 + i]);
        p->work->out[g] = (struct mb_piece){out, (uint64_t)(send - out) * 4};
        p->work->in[g] = (struct mb_piece){in, (uint64_t)(recv - in) * 4};
    }
    if (p->work->in[me].n > 0)
        memcpy(p->work->in[me].p, p->work->out[me].p, p->work->in[me].n);
    return mb_comm_swap(p->c->t.g.sp, p->work->out, p->work->in, &at);
}

/* The lists of the own part's rows, rank after rank as they came, row by row. */
static enum mb_status sort_lists(struct mb_pass *p, struct block *b)
{
    const int32_t *pos = p->batch->order.pos + b->r0 + b->own0;
    int32_t sp = p->c->t.g.sp_size;
    int64_t n = 0;

    for (int32_t g = 0; g < sp; g++)
        n += (int64_t)(p->work->in[g].n / 8);
    b->items = n;
    b->off = mb_room_host(p, MB_SB_LISTS, 4 * (b->own + 1 + 2 * n));
    if (b->off == NULL)
        return MB_BUG;
    b->list = b->off + b->own + 1;
    n = 0;
    for (int32_t r = 0; r < b->own; r++) {
        b->off[r] = (int32_t)n;
        for (int32_t g = 0; g < sp; g++) {
            size_t m = (size_t)listed(p, g, pos[r]);
            int32_t *from = p->work->in[g].p;
            if (m == 0)
                continue;
            memcpy(b->list + n, from, m * 4);
            memcpy(b->list + b->items + n, from + m, m * 4);
            p->work->in[g].p = from + 2 * m;
            n += (int64_t)m;
        }
    }
    b->off[b->own] = (int32_t)n;
    return MB_OK;
}

static enum mb_status join(struct mb_pass *p, struct block *b)
{
    const struct mb_ops *ops = p->c->o.ops;
    int64_t n = b->own + 1 + 2 * b->items;
    struct mb_buf *d = mb_room_dev(p, MB_SB_IDX, 4 * n);

    if (d == NULL)
        return MB_BUG;
    MB_TRY(ops->copy_in(p->c->stream, mb_rows_of(d, n, 1, MB_I32), b->off));
    const struct mb_choose_lists a = {.pos = mb_view_rows(p->batch->dev.order_pos, b->r0 + b->own0, b->own),
                                      .item_off = mb_rows_of(d, b->own + 1, 1, MB_I32),
                                      .key = part_of_list(d, b->own + 1, b->items, MB_I32),
                                      .score = part_of_list(d, b->own + 1 + b->items, b->items, MB_F32)};
    return ops->choose_join(p->c->stream,
                            mb_view_rows(mb_indexer_choice(p, p->batch->rows), b->r0 + b->own0, b->own), &a);
}

/* Every choice to every rank, where lists of segments are made and where attention reads it. */
static enum mb_status tell(struct mb_pass *p, int32_t layer)
{
    const struct mb_batch_order *o = &p->batch->order;
    int32_t sp = p->c->t.g.sp_size, me = p->c->t.g.sp_rank, a = o->at[me], n = o->at[me + 1] - a;
    struct mb_view all = mb_indexer_choice(p, p->batch->rows);
    int64_t row = all.cols * 4;
    uint8_t *host = mb_room_host(p, MB_SB_H_CHOSEN, all.rows * row);
    struct mb_where at = {"choices of keys", p->step, layer};

    if (host == NULL)
        return MB_BUG;
    if (n > 0)
        MB_TRY(p->c->o.ops->copy_out(p->c->stream, host + a * row, mb_view_rows(all, a, n)));
    for (int32_t g = 0; g < sp; g++) {
        p->work->out[g] = (struct mb_piece){host + a * row, (uint64_t)(n * row)};
        p->work->in[g] =
            (struct mb_piece){host + o->at[g] * row, (uint64_t)((o->at[g + 1] - o->at[g]) * row)};
    }
    MB_TRY(mb_comm_swap(p->c->t.g.sp, p->work->out, p->work->in, &at));
    return p->c->o.ops->copy_in(p->c->stream, all, host);
}

/* No row sees more than topk keys. */
static enum mb_status all_see_all(struct mb_pass *p)
{
    struct mb_view all = mb_indexer_choice(p, p->batch->rows);
    int32_t *host = mb_room_host(p, MB_SB_H_CHOSEN, all.rows * all.cols * 4);

    if (host == NULL)
        return MB_BUG;
    memset(host, 0xff, (size_t)(all.rows * all.cols) * 4);
    return p->c->o.ops->copy_in(p->c->stream, all, host);
}

static bool chooses(const struct mb_pass *p, int32_t r0, int32_t rows)
{
    for (int32_t r = 0; r < rows; r++) {
        if (p->batch->order.pos[r0 + r] >= topk_of(p))
            return true;
    }
    return false;
}

static struct block block_at(const struct mb_pass *p, int32_t r0, int64_t limit)
{
    const struct mb_batch_order *o = &p->batch->order;
    int32_t me = p->c->t.g.sp_rank, left = p->batch->rows - r0;
    struct block b = {.r0 = r0, .rows = left < limit ? left : (int32_t)limit};
    int32_t from = o->at[me] > r0 ? o->at[me] : r0,
            to = o->at[me + 1] < r0 + b.rows ? o->at[me + 1] : r0 + b.rows;

    b.own = to > from ? to - from : 0;
    b.own0 = b.own > 0 ? from - r0 : 0;
    return b;
}

static enum mb_status run_block(struct mb_pass *p, struct block *b, int32_t layer,
                                const struct mb_choose_args *a)
{
    const int32_t *here;

    if (chooses(p, b->r0, b->rows)) {
        MB_TRY(list_here(p, b, a, &here));
        MB_TRY(swap_lists(p, b, layer, here));
    } else {
        for (int32_t g = 0; g < p->c->t.g.sp_size; g++)
            p->work->in[g] = (struct mb_piece){NULL, 0};
    }
    if (b->own == 0)
        return MB_OK;
    MB_TRY(sort_lists(p, b));
    return join(p, b);
}

enum mb_status mb_index_parts(struct mb_pass *p, int32_t layer, const struct mb_choose_args *mine)
{
    const struct mb_context *c = p->c;
    int64_t at[MB_MAX_PARTS + 1], rows = p->batch->rows;
    struct mb_split s = {c->t.g.sp, c->t.g.sp_size, c->t.g.sp_rank, at};
    /* the same on all ranks of the group */
    int64_t limit = mb_state_cells(c->o.state_bytes, mb_choose_row_bytes(c->o.model, c->o.plan));
    struct mb_choose_args a = *mine;

    if (!chooses(p, 0, (int32_t)rows))
        return all_see_all(p);
    for (int32_t g = 0; g <= s.n; g++)
        at[g] = p->batch->order.at[g];
    a.q = mb_rows(p, MB_SB_INDEX_Q_ALL, rows, mine->q.cols, mine->q.dtype);
    a.w = mb_rows(p, MB_SB_INDEX_W_ALL, rows, mine->w.cols, MB_F32);
    a.pos = p->batch->dev.order_pos;
    a.seq = p->batch->dev.order_seq;
    a.segment = c->o.segment;
    MB_TRY(mb_allgather_rows(p, &s, a.q, mine->q, layer));
    MB_TRY(mb_allgather_rows(p, &s, a.w, mine->w, layer));
    for (int32_t r0 = 0; r0 < rows;) {
        struct block b = block_at(p, r0, limit);
        MB_TRY(run_block(p, &b, layer, &a));
        r0 += b.rows;
    }
    return tell(p, layer);
}
