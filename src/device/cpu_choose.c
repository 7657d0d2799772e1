/* The choice of sparse attention: index scores of keys that a row sees, by the tiles of attention, and the highest of them; of all keys
 * at once, or of those of some segments and then of all lists. */
#include <string.h>
#include "device/cpu_attn_item.h"

struct call {
    struct mb_attn t;
    const struct mb_choose_args *a;
    struct mb_view out;
    uint64_t room; /* floats of scratch for scores: as many keys as the longest row has, in whole blocks; and twice this in all */
    /* choose_parts */
    bool parts;
    struct mb_view score, item_off, item_seg;
};

/* Larger scores have larger numbers; a NaN is below all. */
static uint32_t rank_of(float x)
{
    uint32_t u = mb_bits_of(x == 0.0f ? 0.0f : x);
    if (x != x)
        return 1;
    return u >> 31 ? ~u : u | 0x80000000u;
}
#define NO_KEY 0 /* below a NaN; no number has a rank below that of -inf, 0x7fffff */

/* ---------------------------------------------------------------- the keys of a row, numbered from 0 in the order of positions */
static int32_t segments(const struct call *c, int64_t row)
{
    return mb_at_i32(c->item_off, row + 1) - mb_at_i32(c->item_off, row);
}

/* Listed segment j of a row. */
static int32_t segment_at(const struct call *c, int64_t row, int32_t j)
{
    return mb_at_i32(c->item_seg, mb_at_i32(c->item_off, row) + j);
}

/* How many: all up to the row's position, or those of its segments, of which only the last may end in the middle. */
static int32_t keys_of(const struct call *c, int64_t row)
{
    int32_t pos = mb_at_i32(c->a->pos, row), n = c->parts ? segments(c, row) : 0, size = c->a->segment;
    if (!c->parts)
        return pos + 1;
    if (n == 0)
        return 0;
    int32_t left = pos + 1 - segment_at(c, row, n - 1) * size;
    return (n - 1) * size + (left < size ? left : size);
}

/* The position of key i. */
static int32_t position(const struct call *c, int64_t row, int32_t i)
{
    return c->parts ? segment_at(c, row, i / c->a->segment) * c->a->segment + i % c->a->segment : i;
}

static int32_t block_at(const struct call *c, int64_t row, int32_t b)
{
    return position(c, row, b * MB_KV_BLOCK) / MB_KV_BLOCK;
}

/* sum[0 .. n) in whole blocks: head by head in order, so that parts of the heads follow each other. */
static void score(const struct call *c, const struct mb_attn_rows *r, int32_t n, int32_t thread, float *sum)
{
    const struct mb_attn *t = &c->t;
    int32_t blocks = (int32_t)mb_ceil_div(n, MB_KV_BLOCK);
    memset(sum, 0, (size_t)blocks * MB_KV_BLOCK * sizeof *sum);
    for (int32_t part = 0; part < t->head_parts; part++) {
        struct mb_attn_item it;
        mb_attn_item(&it, t, r, 0, part, thread);
        const int32_t *page = mb_row_i32(t->a->page_table, r->seq);
        const float *w = mb_row_f32(c->a->w, r->row) + it.head;
        for (int32_t b = 0; b < blocks; b++) {
            int32_t next = block_at(c, r->row, b + 1 < blocks ? b + 1 : b);
            mb_attn_dots(&it, block_at(c, r->row, b), mb_kv_keys(t->kv, page[next], 0));
            for (int32_t p = 0; p < MB_KV_PANELS; p++)
                t->vec->index(sum + b * MB_KV_BLOCK + p * MB_PANEL, it.s + (int64_t)p * it.n * MB_PANEL, w, it.n, c->a->scale);
        }
    }
}

/* ---------------------------------------------------------------- the highest */
/* The k-th largest of n numbers, byte by byte from the top; *above: how many are larger. */
static uint32_t kth(const uint32_t *x, int32_t n, int32_t k, int32_t *above)
{
    uint32_t found = 0, known = 0;
    *above = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        int32_t count[256] = {0};
        for (int32_t i = 0; i < n; i++)
            count[x[i] >> shift & 255] += (x[i] & known) == found;
        uint32_t byte = 255;
        for (; *above + count[byte] < k; byte--)
            *above += count[byte];
        found |= byte << shift;
        known |= 255u << shift;
    }
    return found;
}

/* out [k]: the k highest of n >= k, ascending */
static void choose(const uint32_t *x, int32_t n, int32_t k, int32_t *out)
{
    int32_t above, m = 0;
    uint32_t least = kth(x, n, k, &above);
    int32_t equal = k - above; /* of those that are equal to the least, the lower positions */
    for (int32_t i = 0; i < n; i++)
        if (x[i] > least || (x[i] == least && equal-- > 0))
            out[m++] = i;
}

static void run_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct call *c = arg;
    float *sum = mb_attn_extra(&c->t, thread, 2 * c->room);
    uint32_t *x = (uint32_t *)(void *)(sum + c->room);
    for (int64_t i = begin; i < end; i++) {
        const struct mb_attn_rows *r = &c->t.rows[i];
        int32_t *out = mb_row_i32(c->out, r->row), n = keys_of(c, r->row), k = c->a->topk < n ? c->a->topk : n;
        memset(out, 0xff, (size_t)(1 + c->a->topk) * sizeof *out);
        if (mb_at_i32(c->a->pos, r->row) < c->a->topk)
            continue;
        out[0] = k;
        if (k == 0)
            continue;
        score(c, r, n, thread, sum);
        for (int32_t s = 0; s < n; s++)
            x[s] = rank_of(sum[s]);
        choose(x, n, k, out + 1);
        for (int32_t j = 0; c->parts && j < k; j++) {
            mb_row_f32(c->score, r->row)[j] = sum[out[1 + j]];
            out[1 + j] = position(c, r->row, out[1 + j]);
        }
    }
}

/* ---------------------------------------------------------------- the operations */
static enum mb_status check_segments(const struct call *c, int64_t i)
{
    int64_t at = mb_at_i32(c->item_off, i), end = mb_at_i32(c->item_off, i + 1);
    int32_t last = mb_at_i32(c->a->pos, i) / c->a->segment, least = 0;
    if (at < 0 || end < at || end > c->item_seg.rows)
        return mb_error(MB_BUG, "choose_parts: items %lld to %lld of row %lld", (long long)at, (long long)end, (long long)i);
    for (; at < end; at++) {
        int32_t seg = mb_at_i32(c->item_seg, at);
        if (seg < least || seg > last)
            return mb_error(MB_BUG, "choose_parts: row %lld with segment %d", (long long)i, seg);
        least = seg + 1;
    }
    return MB_OK;
}

/* Blocks of row r whose pages are read; all of them lie in the pool. */
static enum mb_status check_blocks(const struct call *c, const struct mb_attn_rows *r, int32_t *blocks)
{
    *blocks = (int32_t)mb_ceil_div(keys_of(c, r->row), MB_KV_BLOCK);
    if (!c->parts)
        return mb_attn_check_pages(&c->t, r, 0, r->last);
    for (int32_t b = 0; b < *blocks; b++)
        MB_TRY(mb_attn_check_pages(&c->t, r, block_at(c, r->row, b), block_at(c, r->row, b)));
    return MB_OK;
}

static enum mb_status run(struct mb_stream *s, struct call *c)
{
    struct mb_attn *t = &c->t;
    int32_t most = 1, blocks;
    for (int64_t i = 0; i < t->a->q.rows; i++) {
        MB_TRY(mb_attn_add_row(t, i, 1, true));
        if (c->parts)
            MB_TRY(check_segments(c, i));
        MB_TRY(check_blocks(c, &t->rows[i], &blocks));
        most = blocks > most ? blocks : most;
    }
    c->room = (uint64_t)most * MB_KV_BLOCK;
    t->depth = 1;
    MB_TRY(mb_attn_scratch(t, s, 2 * c->room));
    mb_cpu_run(s->dev, t->n_rows, 1, run_rows, c);
    return MB_OK;
}

static enum mb_status open_and_run(struct mb_stream *s, struct call *c, const char *op)
{
    const struct mb_choose_args *a = c->a;
    const struct mb_attn_args attn = {.q = a->q, .kv = a->kv, .pos = a->pos, .seq = a->seq, .page_table = a->page_table,
                                      .heads = a->heads, .scale = a->scale, .segment = c->parts ? a->segment : MB_KV_BLOCK};
    int32_t most;
    if (a->topk < 1 || a->kv->desc.heads != 1)
        return mb_error(MB_BUG, "%s: %d of the keys of %d heads", op, a->topk, a->kv->desc.heads);
    MB_TRY(mb_attn_open(&c->t, s, &attn, op, &most));
    MB_TRY(mb_want(op, "w", a->w, a->q.rows, a->heads, MB_F32));
    MB_TRY(mb_want(op, "out", c->out, a->q.rows, 1 + (int64_t)a->topk, MB_I32));
    if (a->q.rows == 0)
        return MB_OK;
    c->t.rows = mb_alloc(s->dev->mem, MB_MEM_OTHER, (size_t)a->q.rows, sizeof *c->t.rows);
    if (c->t.rows == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a choice of %lld rows", (long long)a->q.rows);
    enum mb_status st = run(s, c);
    mb_free(c->t.rows);
    return st;
}

enum mb_status mb_cpu_choose_keys(struct mb_stream *s, struct mb_view out, const struct mb_choose_args *a)
{
    struct call c = {.a = a, .out = out};
    return open_and_run(s, &c, "choose_keys");
}

enum mb_status mb_cpu_choose_parts(struct mb_stream *s, struct mb_view out, struct mb_view score, const struct mb_choose_args *a,
                                   struct mb_view item_off, struct mb_view item_seg)
{
    struct call c = {.a = a, .out = out, .parts = true, .score = score, .item_off = item_off, .item_seg = item_seg};
    MB_TRY(mb_want("choose_parts", "score", score, a->q.rows, a->topk, MB_F32));
    MB_TRY(mb_want("choose_parts", "item_off", item_off, a->q.rows + 1, 1, MB_I32));
    if (mb_has_view(item_seg)) /* there may be no items */
        MB_TRY(mb_want("choose_parts", "item_seg", item_seg, -1, 1, MB_I32));
    return open_and_run(s, &c, "choose_parts");
}

/* ---------------------------------------------------------------- lists of all ranks */
struct lists {
    const struct mb_choose_lists *a;
    struct mb_view out;
    uint64_t room; /* a number for each position, of each thread */
    uint32_t *scratch;
};

static void join_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct lists *l = arg;
    int32_t k = (int32_t)l->out.cols - 1;
    uint32_t *x = l->scratch + (uint64_t)thread * l->room;
    for (int64_t i = begin; i < end; i++) {
        int32_t *out = mb_row_i32(l->out, i), n = mb_at_i32(l->a->pos, i) + 1;
        memset(out, 0xff, (size_t)(1 + k) * sizeof *out);
        if (n <= k)
            continue;
        memset(x, NO_KEY, (size_t)n * sizeof *x);
        for (int64_t j = mb_at_i32(l->a->item_off, i); j < mb_at_i32(l->a->item_off, i + 1); j++)
            x[mb_at_i32(l->a->key, j)] = rank_of(mb_row_f32(l->a->score, j)[0]);
        out[0] = k;
        choose(x, n, k, out + 1);
    }
}

/* Every row that chooses has enough keys, none behind its position. */
static enum mb_status check_lists(struct lists *l)
{
    for (int64_t i = 0; i < l->out.rows; i++) {
        int64_t at = mb_at_i32(l->a->item_off, i), end = mb_at_i32(l->a->item_off, i + 1);
        int32_t pos = mb_at_i32(l->a->pos, i);
        bool chooses = pos >= l->out.cols - 1;
        if (at < 0 || end < at || end > l->a->key.rows || (chooses && end - at < l->out.cols - 1))
            return mb_error(MB_BUG, "choose_join: items %lld to %lld of row %lld", (long long)at, (long long)end, (long long)i);
        for (; chooses && at < end; at++)
            if (mb_at_i32(l->a->key, at) < 0 || mb_at_i32(l->a->key, at) > pos)
                return mb_error(MB_BUG, "choose_join: row %lld lists key %d", (long long)i, mb_at_i32(l->a->key, at));
        l->room = chooses && (uint64_t)pos + 1 > l->room ? (uint64_t)pos + 1 : l->room;
    }
    return MB_OK;
}

enum mb_status mb_cpu_choose_join(struct mb_stream *s, struct mb_view out, const struct mb_choose_lists *a)
{
    struct lists l = {.a = a, .out = out};
    MB_TRY(mb_want("choose_join", "out", out, -1, -1, MB_I32));
    MB_TRY(mb_want("choose_join", "pos", a->pos, out.rows, 1, MB_I32));
    MB_TRY(mb_want("choose_join", "item_off", a->item_off, out.rows + 1, 1, MB_I32));
    if (mb_has_view(a->key)) { /* there may be no items */
        MB_TRY(mb_want("choose_join", "key", a->key, -1, 1, MB_I32));
        MB_TRY(mb_want("choose_join", "score", a->score, a->key.rows, 1, MB_F32));
    }
    if (out.rows == 0)
        return MB_OK;
    MB_TRY(check_lists(&l));
    l.room = (l.room + 15) / 16 * 16 + 16;
    l.scratch = mb_cpu_scratch(s, l.room * sizeof *l.scratch * (uint64_t)s->dev->threads);
    if (l.scratch == NULL)
        return MB_NO_MEMORY;
    mb_cpu_run(s->dev, out.rows, 1, join_rows, &l);
    return MB_OK;
}
