/* The integers of a combine: which values travel, by the tree rule, and how they are made and put together. */
#include "comm/xchg_impl.h"

/* Values of one row that one holder makes: nodes of the tree over its ids that it holds completely. */
struct nodes {
    int32_t n, first[XCHG_MAX_K], count[XCHG_MAX_K];
};

static void maximal(int32_t k, const uint16_t *id, const uint8_t *held, struct nodes *out)
{
    int32_t pos[XCHG_MAX_K];

    for (int32_t i = 0; i < k; i++)
        pos[i] = id[i];
    out->n = mb_tree_maximal(pos, held, k, out->first, out->count);
}

/* ---------------------------------------------------------------- where terms come from */
/* Of a row whose home is here, what other nodes send counts too. */
static int32_t region_of(const struct mb_xchg *x, int32_t expert, int32_t home)
{
    int32_t owner = mb_serve_pick(x->serve, expert, home), node = x->node_of[owner];

    if (owner == x->me)
        return 0;
    if (node == x->my_node)
        return 1 + owner - x->node_first[node];
    return home == x->me ? 1 + x->node.n + node : -1;
}

/* The values that region sends for this row; it sends them in the order of rows, so counting is enough. */
static void ref_region(struct mb_xchg *x, const uint16_t *id, const int32_t *region, int32_t which, struct ref *refs)
{
    uint8_t held[XCHG_MAX_K];
    struct nodes nd;

    for (int32_t i = 0; i < x->o.k; i++)
        held[i] = region[i] == which;
    maximal(x->o.k, id, held, &nd);
    for (int32_t j = 0; j < nd.n; j++) {
        bool inner = nd.count[j] > 1;
        int64_t *n = inner ? &x->inner_n[which] : &x->lone_n[which];
        refs[nd.first[j]] = (struct ref){which, inner, (int32_t)(*n)++};
    }
}

static void ref_row(struct mb_xchg *x, const uint8_t *meta, int32_t taken, int32_t home, struct ref *refs)
{
    const uint16_t *id = mb_meta_id(x, meta);
    const int32_t *ypos = x->taken.ypos.p;
    int32_t region[XCHG_MAX_K], k = x->o.k;

    for (int32_t i = 0; i < k; i++) {
        region[i] = region_of(x, id[i], home);
        refs[i] = (struct ref){-1, 0, 0};
    }
    for (int32_t i = 0; i < k; i++) {
        bool seen = false;
        for (int32_t j = 0; j < i; j++)
            seen |= region[j] == region[i];
        if (region[i] == 0)
            refs[i] = (struct ref){0, 0, ypos[(int64_t)taken * k + i]};
        else if (region[i] > 0 && !seen)
            ref_region(x, id, region, region[i], refs);
    }
}

/* Places of the regions in cy and ci, from the counts. */
static void place_regions(struct mb_xchg *x)
{
    int64_t lone = x->rows, inner = 0;

    x->lone_base[0] = x->inner_base[0] = 0;
    for (int32_t r = 1; r < x->n_regions; r++) {
        x->lone_base[r] = lone;
        x->inner_base[r] = inner;
        lone += x->lone_n[r];
        inner += x->inner_n[r];
        x->lone_got[r] = x->inner_got[r] = 0;
    }
    x->y_all = x->y;
    if (lone > x->rows) {
        struct mb_buf *buf = mb_xchg_dev(x, &x->cy, (uint64_t)(lone * x->y_bytes), 0);
        x->y_all = mb_view_of(buf, 0, lone, x->o.hidden, x->o.y_type);
        if (x->rows > 0)
            mb_xchg_must(x, x->o.ops->copy(x->o.stream, mb_view_rows(x->y_all, 0, x->rows), x->y));
    }
    if (inner > 0)
        mb_xchg_dev(x, &x->ci, (uint64_t)(inner * x->o.hidden * 4), 0);
}

void mb_values_refs(struct mb_xchg *x)
{
    struct ref *refs = mb_xchg_room(x, &x->refs, (uint64_t)x->n_held * (uint64_t)x->o.k, sizeof *refs);
    const int32_t *taken = x->held_taken.p;

    x->n_regions = 1 + x->node.n + x->n_nodes;
    memset(x->lone_n, 0, (size_t)x->n_regions * sizeof *x->lone_n);
    memset(x->inner_n, 0, (size_t)x->n_regions * sizeof *x->inner_n);
    for (int32_t place = 0; place <= x->n_pub; place++) {
        int32_t b = place == 0 ? 0 : x->pub_order[place - 1];
        for (int64_t r = 0; r < mb_block_rows(x, b); r++) {
            int64_t h = x->block_at[b] + r;
            ref_row(x, mb_held_meta(x, b, r), taken[h], mb_block_home(x, b), refs + h * x->o.k);
        }
    }
    place_regions(x);
}

/* ---------------------------------------------------------------- values to be made */
static void emit_clear(struct emit *e)
{
    e->lone = e->inner = e->items = 0;
}

static void emit_lone(struct mb_xchg *x, int32_t row)
{
    struct emit *e = &x->emit;
    int32_t *idx = mb_xchg_room(x, &e->idx, (uint64_t)e->lone + 1, sizeof *idx);

    idx[e->lone++] = row;
}

/* Begins an inner value; its items follow. The boundary behind the last one is set by mb_values_make. */
static void emit_inner(struct mb_xchg *x)
{
    struct emit *e = &x->emit;
    int32_t *off = mb_xchg_room(x, &e->off, (uint64_t)e->inner + 2, sizeof *off);

    off[e->inner++] = (int32_t)e->items;
}

static void emit_item(struct mb_xchg *x, int32_t src, int32_t pos, float w)
{
    struct emit *e = &x->emit;
    uint64_t want = (uint64_t)e->items + 1;
    int32_t *s = mb_xchg_room(x, &e->src, want, sizeof *s), *p = mb_xchg_room(x, &e->pos, want, sizeof *p);
    float *wt = mb_xchg_room(x, &e->w, want, sizeof *wt);

    s[e->items] = src;
    p[e->items] = pos;
    wt[e->items++] = w;
}

/* A fold's source: row of y_all, or -1 - row of ci. */
static int32_t source_of(const struct mb_xchg *x, struct ref r)
{
    return (int32_t)(r.inner ? -1 - (x->inner_base[r.region] + r.seq) : x->lone_base[r.region] + r.seq);
}

static void emit_refs(struct mb_xchg *x, const uint8_t *meta, const struct ref *refs, int32_t first, int32_t count)
{
    const uint16_t *id = mb_meta_id(x, meta);

    for (int32_t i = first; i < first + count; i++)
        if (refs[i].region >= 0)
            emit_item(x, source_of(x, refs[i]), id[i], mb_meta_w(meta)[i]);
}

/* ---------------------------------------------------------------- for the node's agents */
static void local_row(struct mb_xchg *x, int32_t t)
{
    const uint8_t *meta = (uint8_t *)x->taken.meta.p + t * x->meta_bytes;
    const uint16_t *id = mb_meta_id(x, meta);
    const int32_t *ypos = (int32_t *)x->taken.ypos.p + (int64_t)t * x->o.k;
    uint8_t held[XCHG_MAX_K];
    struct nodes nd;

    for (int32_t i = 0; i < x->o.k; i++)
        held[i] = ypos[i] >= 0;
    maximal(x->o.k, id, held, &nd);
    for (int32_t j = 0; j < nd.n; j++) {
        if (nd.count[j] == 1) {
            emit_lone(x, ypos[nd.first[j]]);
            continue;
        }
        emit_inner(x);
        for (int32_t i = nd.first[j]; i < nd.first[j] + nd.count[j]; i++)
            emit_item(x, ypos[i], id[i], mb_meta_w(meta)[i]);
    }
}

void mb_values_local(struct mb_xchg *x)
{
    int32_t nn = x->node.n;
    const int32_t *agent = mb_xchg_room(x, &x->taken.agent, (uint64_t)x->taken.n, sizeof *agent);
    const int32_t *order = mb_rows_bucket(x, agent, x->taken.n, nn, x->first);

    emit_clear(&x->emit);
    for (int32_t q = 0; q < nn; q++) {
        x->out_lone[q] = x->emit.lone;
        x->out_inner[q] = x->emit.inner;
        for (int64_t i = x->first[q]; q != x->node.me && i < x->first[q + 1]; i++)
            local_row(x, order[i]);
    }
    x->out_lone[nn] = x->emit.lone;
    x->out_inner[nn] = x->emit.inner;
}

/* ---------------------------------------------------------------- for the sources of held rows */
static void reply_row(struct mb_xchg *x, int32_t home, const uint8_t *meta, const struct ref *refs)
{
    const uint16_t *id = mb_meta_id(x, meta);
    uint8_t held[XCHG_MAX_K];
    struct nodes nd;

    for (int32_t i = 0; i < x->o.k; i++)
        held[i] = x->node_of[mb_serve_pick(x->serve, id[i], home)] == x->my_node;
    maximal(x->o.k, id, held, &nd);
    for (int32_t j = 0; j < nd.n; j++) {
        if (nd.count[j] == 1) {
            emit_lone(x, source_of(x, refs[nd.first[j]]));
            continue;
        }
        emit_inner(x);
        emit_refs(x, meta, refs, nd.first[j], nd.count[j]);
    }
}

void mb_values_reply(struct mb_xchg *x)
{
    const struct ref *refs = x->refs.p;
    int32_t n = x->comb.n_out;

    emit_clear(&x->emit);
    for (int32_t j = 0; j < n; j++) {
        int32_t b = 1 + j;
        x->out_lone[j] = x->emit.lone;
        x->out_inner[j] = x->emit.inner;
        for (int64_t r = 0; r < mb_block_rows(x, b); r++)
            reply_row(x, mb_block_home(x, b), mb_held_meta(x, b, r), refs + (x->block_at[b] + r) * x->o.k);
    }
    x->out_lone[n] = x->emit.lone;
    x->out_inner[n] = x->emit.inner;
}

void mb_values_final(struct mb_xchg *x)
{
    const struct ref *refs = x->refs.p;

    emit_clear(&x->emit);
    for (int64_t r = 0; r < x->m; r++) {
        emit_inner(x);
        emit_refs(x, mb_held_meta(x, 0, r), refs + r * x->o.k, 0, x->o.k);
    }
}

/* ---------------------------------------------------------------- on the device */
/* All index lists in one upload: idx | off | src | pos | w. */
static struct mb_view upload_lists(struct mb_xchg *x)
{
    struct emit *e = &x->emit;
    size_t lone = (size_t)e->lone, inner = (size_t)e->inner + 1, items = (size_t)e->items;
    size_t n = lone + inner + 3 * items;
    int32_t *all = mb_xchg_room(x, &x->host_idx, n, sizeof *all), *at = all;
    int32_t *off = mb_xchg_room(x, &e->off, inner, sizeof *off);

    off[e->inner] = (int32_t)e->items;
    if (lone > 0)
        memcpy(at, e->idx.p, 4 * lone);
    at += lone;
    memcpy(at, off, 4 * inner);
    at += inner;
    if (items > 0) {
        memcpy(at, e->src.p, 4 * items);
        memcpy(at + items, e->pos.p, 4 * items);
        memcpy(at + 2 * items, e->w.p, 4 * items);
    }
    return mb_rows_upload(x, all, (int64_t)n);
}

static void fold(struct mb_xchg *x, struct mb_view out, struct mb_view lists)
{
    const struct emit *e = &x->emit;
    struct mb_fold_args a = {.y = x->y_all};
    int64_t inner = x->inner_base[x->n_regions - 1] + x->inner_n[x->n_regions - 1];

    a.item_off = mb_view_rows(lists, e->lone, e->inner + 1);
    a.src = mb_view_rows(lists, e->lone + e->inner + 1, e->items);
    a.pos = mb_view_rows(a.src, e->items, e->items);
    a.weight = mb_view_rows(a.pos, e->items, e->items);
    a.weight.dtype = MB_F32;
    if (inner > 0)
        a.inner = mb_view_of(x->ci.buf, 0, inner, x->o.hidden, MB_F32);
    mb_xchg_must(x, x->o.ops->fold(x->o.stream, out, &a));
}

void mb_values_make(struct mb_xchg *x, struct mb_view out)
{
    struct emit *e = &x->emit;

    if (e->lone + e->inner == 0)
        return;
    struct mb_view lists = upload_lists(x);
    if (e->lone > 0) {
        struct mb_buf *buf = mb_xchg_dev(x, &x->lone, (uint64_t)(e->lone * x->y_bytes), 0);
        mb_xchg_must(x, x->o.ops->gather(x->o.stream, mb_view_of(buf, 0, e->lone, x->o.hidden, x->o.y_type), x->y_all,
                                         mb_view_rows(lists, 0, e->lone)));
    }
    if (e->inner > 0) {
        if (out.buf == NULL)
            out = mb_view_of(mb_xchg_dev(x, &x->inner, (uint64_t)(e->inner * x->o.hidden * 4), 0), 0, e->inner,
                             x->o.hidden, MB_F32);
        fold(x, out, lists);
    }
}
