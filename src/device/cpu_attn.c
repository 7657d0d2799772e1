/* Paged attention by the numeric contract: what a call is cut into, and attention itself. Blocks fold in
 * order inside a segment; segments join by the tree over their positions. */
#include <string.h>
#include "device/cpu_attn_item.h"
#include "device/cpu_tree.h"

/* ---------------------------------------------------------------- checks and cutting */
enum mb_status mb_attn_open(struct mb_attn *t, struct mb_stream *s, const struct mb_attn_args *a,
                            const char *op, int32_t *most)
{
    const struct mb_kv_desc *d = &a->kv->desc;
    if (a->heads < 1 || a->heads % d->heads != 0 || a->segment < MB_KV_BLOCK ||
        a->segment % MB_KV_BLOCK != 0 || a->window < 0)
        return mb_error(MB_BUG, "%s: %d heads on %d KV heads, segment %d, window %d do not fit", op, a->heads,
                        d->heads, a->segment, a->window);
    MB_TRY(mb_want_float(op, "q", a->q, -1, (int64_t)a->heads * d->d));
    MB_TRY(mb_want(op, "pos", a->pos, a->q.rows, 1, MB_I32));
    MB_TRY(mb_want(op, "seq", a->seq, a->q.rows, 1, MB_I32));
    MB_TRY(mb_want(op, "page_table", a->page_table, -1, -1, MB_I32));
    enum mb_isa isa = mb_isa_plain(s->dev->isa);
    *t = (struct mb_attn){.a = a, .kv = a->kv, .k = mb_tile_kernels(isa), .vec = mb_attn_vec_of(isa)};
    t->group = a->heads / d->heads;
    t->head_parts = (int32_t)mb_ceil_div(t->group, MB_ATTN_VECTORS);
    *most = t->group < MB_ATTN_VECTORS ? MB_ATTN_VECTORS / t->group : 1;
    return MB_OK;
}

enum mb_status mb_attn_check_pages(const struct mb_attn *t, const struct mb_attn_rows *r, int32_t first,
                                   int32_t last)
{
    const struct mb_attn_args *a = t->a;
    if (r->seq < 0 || r->seq >= a->page_table.rows || last >= a->page_table.cols)
        return mb_error(MB_BUG, "attention: sequence %d, block %d lies outside the page table", r->seq, last);
    const int32_t *page = mb_row_i32(a->page_table, r->seq);
    for (int32_t b = first; b <= last; b++)
        if (page[b] < 0 || page[b] >= a->kv->desc.pages)
            return mb_error(MB_BUG, "attention: page %d of sequence %d, block %d lies outside %d pages",
                            page[b], r->seq, b, a->kv->desc.pages);
    return MB_OK;
}

enum mb_status mb_attn_add_row(struct mb_attn *t, int64_t i, int32_t most, bool apart)
{
    int32_t pos = mb_at_i32(t->a->pos, i), seq = mb_at_i32(t->a->seq, i);
    if (pos < 0)
        return mb_error(MB_BUG, "attention: row %lld has position %d", (long long)i, pos);
    int32_t first = mb_attn_lowest(t->a, pos) / MB_KV_BLOCK, last = pos / MB_KV_BLOCK;
    struct mb_attn_rows *r = t->n_rows > 0 ? &t->rows[t->n_rows - 1] : NULL;
    if (r == NULL || apart || r->seq != seq || r->rows == most) {
        t->rows[t->n_rows++] = (struct mb_attn_rows){i, 1, seq, first, last};
        return MB_OK;
    }
    r->rows++;
    r->first = first < r->first ? first : r->first;
    r->last = last > r->last ? last : r->last;
    return MB_OK;
}

static enum mb_status check_choice(const struct mb_attn_args *a, const char *op, int64_t i)
{
    const int32_t *c = mb_row_i32(a->chosen, i);
    int32_t before = -1;
    if (c[0] < 1 || c[0] >= a->chosen.cols)
        return mb_error(MB_BUG, "%s: row %lld chose %d keys", op, (long long)i, c[0]);
    for (int32_t j = 1; j <= c[0]; before = c[j++])
        if (c[j] <= before || c[j] > mb_at_i32(a->pos, i))
            return mb_error(MB_BUG, "%s: row %lld chose key %d behind %d", op, (long long)i, c[j], before);
    return MB_OK;
}

enum mb_status mb_attn_check_choices(const struct mb_attn_args *a, const char *op)
{
    if (!mb_has_view(a->chosen))
        return MB_OK;
    if (a->softcap != 0.0f)
        return mb_error(MB_BUG, "%s: a choice of keys with capped scores", op);
    MB_TRY(mb_want(op, "chosen", a->chosen, a->q.rows, -1, MB_I32));
    for (int64_t i = 0; i < a->q.rows; i++)
        if (mb_attn_chooses(a, i))
            MB_TRY(check_choice(a, op, i));
    return MB_OK;
}

/* ---------------------------------------------------------------- one item */
/* left = left (+) right for every vector. */
static void join(const struct mb_attn_item *it, struct mb_osm *left, float *o1, const struct mb_osm *right,
                 const float *o2)
{
    for (int32_t v = 0; v < it->n; v++) {
        if (!right[v].present)
            continue;
        bool copy = !left[v].present;
        float e1, e2;
        left[v] = mb_osm_join(left[v], right[v], &e1, &e2);
        for (int64_t p = 0; p < it->t->kv->v_panels; p++) {
            int64_t at = (p * it->n + v) * MB_PANEL;
            if (copy)
                memcpy(o1 + at, o2 + at, MB_PANEL * sizeof *o1);
            else
                it->t->vec->join(o1 + at, o2 + at, e1, e2);
        }
    }
}

/* Segments in order on a stack of open tree nodes. The root is left at level 0. */
static void run_segments(struct mb_attn_item *it)
{
    int32_t per = it->t->a->segment / MB_KV_BLOCK, from = it->r->first, to = it->r->last, top = 0;
    int64_t o_size = it->t->kv->v_panels * it->n * MB_PANEL;
    struct mb_tree tree = {0};
    for (int32_t seg = from / per;; seg++) {
        int32_t ends = seg <= to / per ? mb_tree_next(&tree, seg) : mb_tree_end(&tree);
        for (; ends > 0; ends--, top--)
            join(it, it->state + (top - 2) * it->n, it->o + (top - 2) * o_size, it->state + (top - 1) * it->n,
                 it->o + (top - 1) * o_size);
        if (seg > to / per)
            break;
        struct mb_osm *state = it->state + top * it->n;
        mb_attn_clear(it, state);
        int32_t begin = seg * per > from ? seg * per : from;
        for (int32_t b = begin; b <= to && b / per == seg; b++)
            mb_attn_fold_block(it, b, b < to ? b + 1 : b, state, it->o + top * o_size);
        top++;
    }
}

/* sinks, then o / l */
static void finish(const struct mb_attn_item *it, struct mb_view out)
{
    const struct mb_attn *t = it->t;
    int64_t dv = t->kv->desc.dv;
    for (int32_t v = 0; v < it->n; v++) {
        int64_t row = it->r->row + v / it->heads, head = it->head + v % it->heads;
        struct mb_osm s = it->state[v];
        float e1 = 1.0f, e2 = 0.0f;
        bool sink = mb_has_view(t->a->sinks);
        if (sink)
            s = mb_osm_join(s, (struct mb_osm){mb_row_f32(t->a->sinks, 0)[head], 1.0f, true}, &e1, &e2);
        for (int64_t c = 0; c < dv; c += MB_PANEL) {
            const float zero[MB_PANEL] = {0};
            float *o = it->o + (c / MB_PANEL * it->n + v) * MB_PANEL;
            if (sink)
                t->vec->join(o, zero, e1, e2);
            for (int32_t i = 0; i < MB_PANEL; i++)
                o[i] = o[i] / s.l;
            mb_store_row(out, row, head * dv + c, o, dv - c < MB_PANEL ? dv - c : MB_PANEL);
        }
    }
}

/* ---------------------------------------------------------------- the operation */
struct call {
    struct mb_attn t;
    struct mb_view out;
};

static void run_items(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct call *c = arg;
    const struct mb_attn *t = &c->t;
    for (int64_t i = begin; i < end; i++) {
        int32_t part = (int32_t)(i % t->head_parts),
                kv_head = (int32_t)(i / t->head_parts % t->kv->desc.heads);
        const struct mb_attn_rows *r = &t->rows[i / t->head_parts / t->kv->desc.heads];
        struct mb_attn_item it;
        mb_attn_item(&it, t, r, kv_head, part, thread);
        mb_attn_take_choice(&it);
        run_segments(&it);
        finish(&it, c->out);
    }
}

static enum mb_status run(struct mb_stream *s, struct call *c, int32_t most)
{
    struct mb_attn *t = &c->t;
    int32_t segments = 1;
    for (int64_t i = 0; i < t->a->q.rows; i++) {
        MB_TRY(mb_attn_add_row(t, i, most, mb_attn_chooses(t->a, i) || (i > 0 && mb_attn_chooses(t->a, i - 1))));
    }
    for (int64_t i = 0; i < t->n_rows; i++) {
        const struct mb_attn_rows *r = &t->rows[i];
        int32_t n = r->last / (t->a->segment / MB_KV_BLOCK) + 1;
        segments = n > segments ? n : segments;
        MB_TRY(mb_attn_check_pages(t, r, r->first, r->last));
    }
    t->depth = mb_tree_depth(segments);
    MB_TRY(mb_attn_scratch(t, s, 0));
    mb_cpu_run(s->dev, t->n_rows * t->kv->desc.heads * t->head_parts, 1, run_items, c);
    return MB_OK;
}

enum mb_status mb_cpu_attention(struct mb_stream *s, struct mb_view out, const struct mb_attn_args *a)
{
    struct call c = {.out = out};
    int32_t most;
    MB_TRY(mb_attn_open(&c.t, s, a, "attention", &most));
    MB_TRY(mb_want_float("attention", "out", out, a->q.rows, (int64_t)a->heads * a->kv->desc.dv));
    if (mb_has_view(a->sinks))
        MB_TRY(mb_want("attention", "sinks", a->sinks, 1, a->heads, MB_F32));
    MB_TRY(mb_attn_check_choices(a, "attention"));
    if (a->q.rows == 0)
        return MB_OK;
    c.t.rows = mb_alloc(s->dev->mem, MB_MEM_OTHER, (size_t)a->q.rows, sizeof *c.t.rows);
    if (c.t.rows == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for attention over %lld rows", (long long)a->q.rows);
    enum mb_status st = run(s, &c, most);
    mb_free(c.t.rows);
    return st;
}
