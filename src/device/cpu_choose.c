/* The choice of sparse attention: index scores of every key that a row sees, by the tiles of attention, and the highest of them. */
#include <string.h>
#include "device/cpu_attn_item.h"

struct call {
    struct mb_attn t;
    const struct mb_choose_args *a;
    struct mb_view out;
    uint64_t room; /* floats of scratch for scores: as many keys as the longest row sees, in whole blocks; and twice this in all */
};

/* Larger scores have larger numbers; a NaN is below all. */
static uint32_t rank_of(float x)
{
    uint32_t u = mb_bits_of(x == 0.0f ? 0.0f : x);
    if (x != x)
        return 0;
    return u >> 31 ? ~u : u | 0x80000000u;
}

/* sum[0 .. keys of the row's blocks): head by head in order, so that parts of the heads follow each other. */
static void score(const struct call *c, const struct mb_attn_rows *r, int32_t thread, float *sum)
{
    const struct mb_attn *t = &c->t;
    memset(sum, 0, (size_t)(r->last + 1) * MB_KV_BLOCK * sizeof *sum);
    for (int32_t part = 0; part < t->head_parts; part++) {
        struct mb_attn_item it;
        mb_attn_item(&it, t, r, 0, part, thread);
        const int32_t *page = mb_row_i32(t->a->page_table, r->seq);
        const float *w = mb_row_f32(c->a->w, r->row) + it.head;
        for (int32_t b = 0; b <= r->last; b++) {
            mb_attn_dots(&it, b, mb_kv_keys(t->kv, page[b < r->last ? b + 1 : b], 0));
            for (int32_t p = 0; p < MB_KV_PANELS; p++)
                t->vec->index(sum + b * MB_KV_BLOCK + p * MB_PANEL, it.s + (int64_t)p * it.n * MB_PANEL, w, it.n, c->a->scale);
        }
    }
}

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
        int32_t *out = mb_row_i32(c->out, r->row), n = mb_at_i32(c->a->pos, r->row) + 1, k = c->a->topk;
        memset(out, 0xff, (size_t)(1 + k) * sizeof *out);
        if (n <= k)
            continue;
        score(c, r, thread, sum);
        for (int32_t s = 0; s < n; s++)
            x[s] = rank_of(sum[s]);
        out[0] = k;
        choose(x, n, k, out + 1);
    }
}

static enum mb_status run(struct mb_stream *s, struct call *c)
{
    struct mb_attn *t = &c->t;
    int32_t last = 0;
    for (int64_t i = 0; i < t->a->q.rows; i++) {
        MB_TRY(mb_attn_add_row(t, i, 1, true));
        MB_TRY(mb_attn_check_pages(t, &t->rows[i], 0, t->rows[i].last));
        last = t->rows[i].last > last ? t->rows[i].last : last;
    }
    c->room = (uint64_t)(last + 1) * MB_KV_BLOCK;
    t->depth = 1;
    MB_TRY(mb_attn_scratch(t, s, 2 * c->room));
    mb_cpu_run(s->dev, t->n_rows, 1, run_rows, c);
    return MB_OK;
}

enum mb_status mb_cpu_choose_keys(struct mb_stream *s, struct mb_view out, const struct mb_choose_args *a)
{
    const struct mb_attn_args attn = {.q = a->q, .kv = a->kv, .pos = a->pos, .seq = a->seq, .page_table = a->page_table,
                                      .heads = a->heads, .scale = a->scale, .segment = MB_KV_BLOCK};
    struct call c = {.a = a, .out = out};
    int32_t most;
    if (a->topk < 1 || a->kv->desc.heads != 1)
        return mb_error(MB_BUG, "choose_keys: %d of the keys of %d heads", a->topk, a->kv->desc.heads);
    MB_TRY(mb_attn_open(&c.t, s, &attn, "choose_keys", &most));
    MB_TRY(mb_cpu_want("choose_keys", "w", a->w, a->q.rows, a->heads, MB_F32));
    MB_TRY(mb_cpu_want("choose_keys", "out", out, a->q.rows, 1 + (int64_t)a->topk, MB_I32));
    if (a->q.rows == 0)
        return MB_OK;
    c.t.rows = mb_alloc(s->dev->mem, MB_MEM_OTHER, (size_t)a->q.rows, sizeof *c.t.rows);
    if (c.t.rows == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a choice of %lld rows", (long long)a->q.rows);
    enum mb_status st = run(s, &c);
    mb_free(c.t.rows);
    return st;
}
