/* Attention in parts: the states of single KV segments (cpu_attn_join.c has their tree). */
#include <string.h>
#include "device/cpu_attn_item.h"

/* ---------------------------------------------------------------- attention_parts: cutting */
struct parts {
    struct mb_attn t;
    struct mb_view state, item_off, item_seg;
    int32_t per;  /* blocks of a segment */
    int32_t span; /* segments that an item takes from its rows' lists */
    int64_t spans;
};

static int32_t listed(const struct parts *p, int64_t row)
{
    return mb_at_i32(p->item_off, row + 1) - mb_at_i32(p->item_off, row);
}

/* Whether row i chose a key of the segment; *at: the first of its choices that may lie there, moved on. */
static bool chose_in(const struct mb_attn_args *a, int64_t i, int32_t seg, int32_t *at)
{
    const int32_t *c = mb_row_i32(a->chosen, i);
    while (*at <= c[0] && c[*at] / a->segment < seg)
        ++*at;
    return *at <= c[0] && c[*at] / a->segment == seg;
}

/* The list of row i is ascending and every segment has a key that the row sees. */
static enum mb_status check_list(const struct parts *p, int64_t i)
{
    int64_t at = mb_at_i32(p->item_off, i), end = mb_at_i32(p->item_off, i + 1);
    if (at < 0 || end < at || end > p->item_seg.rows)
        return mb_error(MB_BUG, "attention_parts: items %lld to %lld of row %lld", (long long)at,
                        (long long)end, (long long)i);
    int32_t pos = mb_at_i32(p->t.a->pos, i), segment = p->t.a->segment;
    int32_t least = mb_attn_lowest(p->t.a, pos) / segment, chosen = 1;
    for (int64_t j = at; j < end; j++) {
        int32_t seg = mb_at_i32(p->item_seg, j);
        if (seg < least || seg > pos / segment || (mb_attn_chooses(p->t.a, i) && !chose_in(p->t.a, i, seg, &chosen)))
            return mb_error(MB_BUG, "attention_parts: row %lld at position %d with segment %d", (long long)i,
                            pos, seg);
        least = seg + 1;
    }
    return MB_OK;
}

/* Rows that an item may hold together. */
static bool same_list(const struct parts *p, int64_t i, int64_t k)
{
    int32_t n = listed(p, i), a = mb_at_i32(p->item_off, i), b = mb_at_i32(p->item_off, k);
    if (n != listed(p, k) || mb_attn_chooses(p->t.a, i) || mb_attn_chooses(p->t.a, k))
        return false;
    for (int32_t j = 0; j < n; j++)
        if (mb_at_i32(p->item_seg, a + j) != mb_at_i32(p->item_seg, b + j))
            return false;
    return true;
}

/* Blocks of segment seg that rows r may see. */
static void blocks_of(const struct parts *p, const struct mb_attn_rows *r, int32_t seg, int32_t *first,
                      int32_t *last)
{
    int32_t begin = seg * p->per, end = begin + p->per - 1;
    *first = begin > r->first ? begin : r->first;
    *last = end < r->last ? end : r->last;
}

/* An item takes a few thousand positions from its list, so that packing q costs little; fewer where there
 * would not be enough items for the threads. */
static void cut_lists(struct parts *p, int32_t longest, int32_t threads)
{
    int64_t items = p->t.n_rows * p->t.kv->desc.heads * p->t.head_parts;
    p->span = (int32_t)mb_ceil_div(4 * MB_KV_SEGMENT, p->t.a->segment);
    if (items * mb_ceil_div(longest, p->span) < 8 * (int64_t)threads)
        p->span = (int32_t)mb_ceil_div(MB_KV_SEGMENT, p->t.a->segment);
    p->spans = mb_ceil_div(longest, p->span);
}

static enum mb_status cut_parts(struct parts *p, int32_t most, int32_t threads)
{
    struct mb_attn *t = &p->t;
    int32_t longest = 0;
    for (int64_t i = 0; i < t->a->q.rows; i++) {
        MB_TRY(check_list(p, i));
        MB_TRY(mb_attn_add_row(t, i, most, i > 0 && !same_list(p, i - 1, i)));
        longest = listed(p, i) > longest ? listed(p, i) : longest;
    }
    for (int64_t g = 0; g < t->n_rows; g++) {
        const struct mb_attn_rows *r = &t->rows[g];
        for (int32_t j = 0; j < listed(p, r->row); j++) {
            int32_t first, last;
            blocks_of(p, r, mb_at_i32(p->item_seg, mb_at_i32(p->item_off, r->row) + j), &first, &last);
            MB_TRY(mb_attn_check_pages(t, r, first, last));
        }
    }
    cut_lists(p, longest, threads);
    return MB_OK;
}

/* ---------------------------------------------------------------- attention_parts: one item */
/* Where the state of vector v goes: place j of its row's list. */
static float *state_of(const struct mb_attn_item *it, const struct parts *p, int32_t j, int32_t v)
{
    int64_t item = mb_at_i32(p->item_off, it->r->row + v / it->heads) + j;
    return mb_row_f32(p->state, item) + (it->head + v % it->heads) * (it->t->kv->desc.dv + 2);
}

/* The states of level 0 to place j. */
static void store_part(const struct mb_attn_item *it, const struct parts *p, int32_t j)
{
    int64_t dv = it->t->kv->desc.dv;
    for (int32_t v = 0; v < it->n; v++) {
        float *to = state_of(it, p, j, v);
        *to++ = it->state[v].m;
        *to++ = it->state[v].l;
        const float *o = it->o + v * MB_PANEL;
        int64_t left = dv;
        for (; left >= MB_PANEL; left -= MB_PANEL, to += MB_PANEL, o += it->n * MB_PANEL)
            memcpy(to, o, MB_PANEL * sizeof *to);
        memcpy(to, o, (size_t)left * sizeof *to);
    }
}

/* Places j .. end - 1 of the rows' lists. */
static void run_span(struct mb_attn_item *it, const struct parts *p, int32_t j, int32_t end)
{
    for (int64_t at = mb_at_i32(p->item_off, it->r->row); j < end; j++) {
        int32_t first, last;
        blocks_of(p, it->r, mb_at_i32(p->item_seg, at + j), &first, &last);
        mb_attn_clear(it, it->state);
        for (int32_t b = first; b <= last; b++)
            mb_attn_fold_block(it, b, b < last ? b + 1 : b, it->state, it->o);
        store_part(it, p, j);
    }
}

/* Rows pass fastest: neighbours read the same keys and values, which then come from the cache. */
static void run_parts(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct parts *p = arg;
    const struct mb_attn *t = &p->t;
    for (int64_t i = begin; i < end; i++) {
        const struct mb_attn_rows *r = &t->rows[i % t->n_rows];
        int64_t rest = i / t->n_rows, heads = t->kv->desc.heads;
        int32_t part = (int32_t)(rest % t->head_parts), kv_head = (int32_t)(rest / t->head_parts % heads);
        int32_t j = (int32_t)(rest / t->head_parts / heads) * p->span, n = listed(p, r->row);
        if (j >= n)
            continue;
        struct mb_attn_item it;
        mb_attn_item(&it, t, r, kv_head, part, thread);
        mb_attn_take_choice(&it);
        run_span(&it, p, j, n - j < p->span ? n : j + p->span);
    }
}

enum mb_status mb_cpu_attention_parts(struct mb_stream *s, struct mb_view state, const struct mb_attn_args *a,
                                      struct mb_view item_off, struct mb_view item_seg)
{
    struct parts p = {.state = state, .item_off = item_off, .item_seg = item_seg};
    int32_t most;
    MB_TRY(mb_attn_open(&p.t, s, a, "attention_parts", &most));
    int64_t width = (int64_t)a->heads * (a->kv->desc.dv + 2);
    MB_TRY(mb_want("attention_parts", "state", state, -1, width, MB_F32));
    MB_TRY(mb_attn_check_choices(a, "attention_parts"));
    if (a->q.rows == 0 || state.rows == 0)
        return MB_OK;
    MB_TRY(mb_want("attention_parts", "item_off", item_off, a->q.rows + 1, 1, MB_I32));
    MB_TRY(mb_want("attention_parts", "item_seg", item_seg, state.rows, 1, MB_I32));
    p.per = a->segment / MB_KV_BLOCK;
    p.t.depth = 1;
    p.t.rows = mb_alloc(s->dev->mem, MB_MEM_OTHER, (size_t)a->q.rows, sizeof *p.t.rows);
    if (p.t.rows == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for attention over %lld rows", (long long)a->q.rows);
    enum mb_status st = cut_parts(&p, most, s->dev->threads);
    if (st == MB_OK)
        st = mb_attn_scratch(&p.t, s, 0);
    if (st == MB_OK)
        mb_cpu_run(s->dev, p.t.n_rows * p.t.kv->desc.heads * p.t.head_parts * p.spans, 1, run_parts, &p);
    mb_free(p.t.rows);
    return st;
}
