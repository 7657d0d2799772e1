/* Values on the device: what the lists of route say is gathered, added by the tree rule, stored. */
#include "base/log.h"
#include "comm/xchg_impl.h"

struct mb_view mb_sum_upload(struct mb_xchg *x, const int32_t *idx, int64_t n)
{
    struct mb_view v = mb_view_of(mb_xchg_dev(x, MB_XB_IDX, n * 4), 0, n, 1, MB_I32);

    mb_xchg_must(x, x->o.ops->copy_in(x->o.stream, v, idx));
    return v;
}

int64_t mb_sum_bytes(const struct mb_xchg *x, int32_t kind)
{
    return kind == LONE ? x->size.y : x->o.hidden * 4;
}

static int64_t all_of(const struct mb_helds *h, const int64_t *base, const int64_t *n)
{
    return base[h->regions - 1] + n[h->regions - 1];
}

void mb_sum_begin(struct mb_xchg *x)
{
    const struct mb_helds *h = &x->rt.held;
    int64_t own = x->rt.take.hits, lone = all_of(h, h->lone_base, h->lone_n);

    x->y_all = x->y;
    mb_xchg_dev(x, MB_XB_INNER, all_of(h, h->inner_base, h->inner_n) * x->o.hidden * 4);
    bool there = x->y.buf != NULL && x->y.buf == x->buf.dev[MB_XB_Y];
    if (lone <= own)
        return;
    x->y_all = mb_view_of(mb_xchg_dev(x, MB_XB_Y, lone * x->size.y), 0, lone, x->o.hidden, x->o.y_type);
    if (own > 0 && !there)
        mb_xchg_must(x, x->o.ops->copy(x->o.stream, mb_view_rows(x->y_all, 0, own), x->y));
}

void mb_sum_store(struct mb_xchg *x, int32_t region, int32_t kind, int64_t at, const uint8_t *data, int64_t n)
{
    const struct mb_helds *h = &x->rt.held;
    struct mb_view v;

    if (n == 0)
        return;
    if (kind == LONE)
        v = mb_view_rows(x->y_all, h->lone_base[region] + at, n);
    else
        v = mb_view_of(x->buf.dev[MB_XB_INNER], (uint64_t)((h->inner_base[region] + at) * x->o.hidden * 4), n,
                       x->o.hidden, MB_F32);
    mb_xchg_must(x, x->o.ops->copy_in(x->o.stream, v, data));
}

void mb_sum_fetch(struct mb_xchg *x, int32_t kind, int64_t i0, int64_t i1, uint8_t *to)
{
    if (i1 == i0)
        return;
    struct mb_view v = kind == LONE ? mb_view_of(x->buf.dev[MB_XB_OUT], 0, i1, x->o.hidden, x->o.y_type)
                                    : mb_view_of(x->buf.dev[MB_XB_SUMS], 0, i1, x->o.hidden, MB_F32);
    mb_xchg_must(x, x->o.ops->copy_out(x->o.stream, to, mb_view_rows(v, i0, i1 - i0)));
}

/* All index lists in one upload: idx | off | src | pos | w. */
static struct mb_view upload_lists(struct mb_xchg *x)
{
    struct mb_emit *e = &x->rt.emit;
    size_t lone = (size_t)e->lone, inner = (size_t)e->inner + 1, items = (size_t)e->items;
    int32_t *all = x->buf.host[MB_XB_UPLOAD], *at = all;

    e->off[e->inner] = (int32_t)e->items;
    memcpy(at, e->idx, 4 * lone);
    at += lone;
    memcpy(at, e->off, 4 * inner);
    at += inner;
    memcpy(at, e->src, 4 * items);
    memcpy(at + items, e->pos, 4 * items);
    memcpy(at + 2 * items, e->w, 4 * items);
    return mb_sum_upload(x, all, (int64_t)(lone + inner + 3 * items));
}

static void fold(struct mb_xchg *x, struct mb_view out, struct mb_view lists)
{
    const struct mb_emit *e = &x->rt.emit;
    const struct mb_helds *h = &x->rt.held;
    struct mb_fold_args a = {.y = x->y_all};
    int64_t inner = all_of(h, h->inner_base, h->inner_n);

    a.item_off = mb_view_rows(lists, e->lone, e->inner + 1);
    a.src = mb_view_rows(lists, e->lone + e->inner + 1, e->items);
    a.pos = mb_view_rows(a.src, e->items, e->items);
    a.weight = mb_view_rows(a.pos, e->items, e->items);
    a.weight.dtype = MB_F32;
    if (inner > 0)
        a.inner = mb_view_of(x->buf.dev[MB_XB_INNER], 0, inner, x->o.hidden, MB_F32);
    mb_xchg_must(x, x->o.ops->fold(x->o.stream, out, &a));
}

void mb_sum_make(struct mb_xchg *x, struct mb_view out)
{
    const struct mb_emit *e = &x->rt.emit;
    int64_t H = x->o.hidden;

    if (x->rt.full)
        mb_xchg_must(x, mb_error(MB_BUG, "more values of an exchange than were planned for"));
    if (x->st.stuck || e->lone + e->inner == 0)
        return;
    struct mb_view lists = upload_lists(x);
    if (e->lone > 0)
        mb_xchg_must(x, x->o.ops->gather(x->o.stream,
                                         mb_view_of(mb_xchg_dev(x, MB_XB_OUT, e->lone * x->size.y), 0,
                                                    e->lone, H, x->o.y_type),
                                         x->y_all, mb_view_rows(lists, 0, e->lone)));
    if (e->inner == 0)
        return;
    if (out.buf == NULL)
        out = mb_view_of(mb_xchg_dev(x, MB_XB_SUMS, e->inner * H * 4), 0, e->inner, H, MB_F32);
    fold(x, out, lists);
}
