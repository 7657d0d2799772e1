/* The tree over partial states of attention. */
#include <string.h>
#include "device/cpu_tree.h"
#include "device/cpu_vec.h"

/* A partial state: an item as it lies in the caller's view, or what was joined in the thread's scratch. */
struct node {
    struct mb_osm s;
    const float *o;
};
struct join {
    struct mb_view out, state;
    const struct mb_join_args *a;
    const struct mb_vec *vec;
    int64_t floats; /* scratch of a thread: a vector of dv for each open node */
    float *scratch;
};

/* open[top - 2] = open[top - 2] (+) open[top - 1]; its vector moves to room. */
static void join_top(const struct join *p, struct node *open, int32_t top, float *room)
{
    struct node *left = &open[top - 2], *right = &open[top - 1];
    float e1, e2;
    left->s = mb_osm_join(left->s, right->s, &e1, &e2);
    p->vec->mix(room, left->o, e1, right->o, e2, p->a->dv);
    left->o = room;
}

/* The root of out row n and head h. */
static struct node root(const struct join *p, int64_t n, int64_t h, float *scratch)
{
    struct node open[MB_TREE_DEPTH];
    struct mb_tree tree = {0};
    int64_t dv = p->a->dv;
    int32_t top = 0, end = mb_at_i32(p->a->item_off, n + 1);
    for (int32_t j = mb_at_i32(p->a->item_off, n);; j++) {
        int32_t ends = j < end ? mb_tree_next(&tree, mb_at_i32(p->a->pos, j)) : mb_tree_end(&tree);
        for (; ends > 0; ends--, top--)
            join_top(p, open, top, scratch + (top - 2) * dv);
        if (j == end)
            return open[0];
        const float *item = mb_row_f32(p->state, mb_at_i32(p->a->src, j)) + h * (dv + 2);
        for (int64_t c = 0; c < dv + 2 && h + 1 < p->a->heads; c += 16) /* the next head's comes from afar */
            __builtin_prefetch(item + dv + 2 + c);
        open[top++] = (struct node){{item[0], item[1], true}, item + 2};
    }
}

/* Sinks, then o / l. */
static void finish(const struct join *p, int64_t n, int64_t h, struct node r)
{
    static const float zero[MB_CHUNK] = {0};
    bool sink = mb_has_view(p->a->sinks);
    float e1 = 1.0f, e2 = 0.0f;
    if (sink)
        r.s = mb_osm_join(r.s, (struct mb_osm){mb_row_f32(p->a->sinks, 0)[h], 1.0f, true}, &e1, &e2);
    for (int64_t c = 0; c < p->a->dv; c += MB_CHUNK) {
        float buf[MB_CHUNK];
        int64_t m = p->a->dv - c < MB_CHUNK ? p->a->dv - c : MB_CHUNK;
        const float *o = r.o + c;
        if (sink) {
            p->vec->mix(buf, o, e1, zero, e2, m);
            o = buf;
        }
        p->vec->div(buf, o, r.s.l, m);
        if (p->out.dtype == MB_BF16)
            p->vec->round(mb_row_bf16(p->out, n) + h * p->a->dv + c, buf, m);
        else
            mb_store_row(p->out, n, h * p->a->dv + c, buf, m);
    }
}

static void join_heads(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct join *p = arg;
    int64_t dv = p->a->dv;
    for (int64_t i = begin; i < end; i++) {
        int64_t n = i / p->a->heads, h = i % p->a->heads;
        struct node r = root(p, n, h, p->scratch + thread * p->floats);
        if (p->a->finish) {
            finish(p, n, h, r);
            continue;
        }
        float *to = mb_row_f32(p->out, n) + h * (dv + 2);
        to[0] = r.s.m;
        to[1] = r.s.l;
        memcpy(to + 2, r.o, (size_t)dv * sizeof *to);
    }
}

/* *longest: most items of a row. */
static enum mb_status check_items(const struct join *p, int32_t *longest)
{
    const struct mb_join_args *a = p->a;
    int32_t at = mb_at_i32(a->item_off, 0);
    *longest = 1;
    for (int64_t n = 0; n < p->out.rows; n++) {
        int32_t end = mb_at_i32(a->item_off, n + 1);
        if (at < 0 || end <= at || end > a->src.rows)
            return mb_error(MB_BUG, "attention_join: items %d to %d of row %lld", at, end, (long long)n);
        *longest = end - at > *longest ? end - at : *longest;
        for (int32_t j = at, before = -1; j < end; j++) {
            int32_t src = mb_at_i32(a->src, j), pos = mb_at_i32(a->pos, j);
            if (src < 0 || src >= p->state.rows || pos <= before)
                return mb_error(MB_BUG, "attention_join: item %d of row %lld: source %d, position %d", j,
                                (long long)n, src, pos);
            before = pos;
        }
        at = end;
    }
    return MB_OK;
}

static enum mb_status check_views(const struct join *p)
{
    const struct mb_join_args *a = p->a;
    if (a->heads < 1 || a->dv < 1)
        return mb_error(MB_BUG, "attention_join: %d heads of %d", a->heads, a->dv);
    int64_t width = (int64_t)a->heads * (a->dv + 2);
    MB_TRY(mb_want("attention_join", "state", p->state, -1, width, MB_F32));
    if (a->finish)
        MB_TRY(mb_want_float("attention_join", "out", p->out, -1, (int64_t)a->heads * a->dv));
    else
        MB_TRY(mb_want("attention_join", "out", p->out, -1, width, MB_F32));
    if (p->out.rows == 0)
        return MB_OK;
    MB_TRY(mb_want("attention_join", "item_off", a->item_off, p->out.rows + 1, 1, MB_I32));
    MB_TRY(mb_want("attention_join", "src", a->src, -1, 1, MB_I32));
    MB_TRY(mb_want("attention_join", "pos", a->pos, a->src.rows, 1, MB_I32));
    if (a->finish && mb_has_view(a->sinks))
        MB_TRY(mb_want("attention_join", "sinks", a->sinks, 1, a->heads, MB_F32));
    return MB_OK;
}

enum mb_status mb_cpu_attention_join(struct mb_stream *s, struct mb_view out, struct mb_view state,
                                     const struct mb_join_args *a)
{
    struct join p = {out, state, a, mb_vec_of(s->dev), 0, NULL};
    int32_t longest;
    MB_TRY(check_views(&p));
    if (out.rows == 0)
        return MB_OK;
    MB_TRY(check_items(&p, &longest));
    int64_t depth = longest < MB_TREE_DEPTH ? longest : MB_TREE_DEPTH;
    p.floats = (depth * a->dv + 15) / 16 * 16;
    p.scratch = mb_cpu_scratch(s, (uint64_t)p.floats * sizeof(float) * (uint64_t)s->dev->threads);
    if (p.scratch == NULL)
        return MB_NO_MEMORY;
    mb_cpu_run(s->dev, out.rows * a->heads, mb_grain(a->dv, longest), join_heads, &p);
    return MB_OK;
}
