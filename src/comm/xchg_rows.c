/* The integers of a dispatch: whose experts, which rows go to which node, which rows are taken here and in what order. */
#include "base/log.h"
#include "comm/xchg_impl.h"

enum mb_status mb_rows_owners(struct mb_xchg *x, const struct mb_serve *v)
{
    if (v->ids != x->o.experts || v->members != x->n)
        return mb_error(MB_BUG, "tables for %d ids and %d members: the exchange has %d and %d", v->ids, v->members, x->o.experts, x->n);
    x->serve = v;
    x->n_own = 0;
    for (int32_t id = 0; id < v->ids; id++) {
        x->slot[id] = -1;
        for (int32_t i = v->first[id]; i < v->first[id + 1]; i++) {
            if (v->member[i] == x->me)
                x->slot[id] = x->n_own;
        }
        if (x->slot[id] >= 0)
            x->own_expert[x->n_own++] = id;
    }
    return MB_OK;
}

/* Ids ascending with their weights. */
static void sort_row(int32_t k, const int32_t *experts, const float *weights, float *w, uint16_t *id)
{
    for (int32_t j = 0; j < k; j++) {
        int32_t at = j;
        for (; at > 0 && id[at - 1] > (uint16_t)experts[j]; at--) {
            id[at] = id[at - 1];
            w[at] = w[at - 1];
        }
        id[at] = (uint16_t)experts[j];
        w[at] = weights[j];
    }
}

static bool ids_ok(const struct mb_xchg *x, const int32_t *experts, const uint16_t *sorted)
{
    for (int32_t j = 0; j < x->o.k; j++)
        if (experts[j] < 0 || experts[j] >= x->o.experts || (j > 0 && sorted[j] <= sorted[j - 1]))
            return false;
    return true;
}

/* Calls for each node that row r (its sorted ids) must reach: the own node only if another member of it has an expert. */
static int64_t mark_nodes(struct mb_xchg *x, int64_t r, const uint16_t *id, int64_t *at, int32_t *rows)
{
    int64_t n = 0;

    for (int32_t i = 0; i < x->o.k; i++) {
        int32_t owner = mb_serve_pick(x->serve, id[i], x->me), node = x->node_of[owner];
        if (owner == x->me || x->mark[node] == (int32_t)r)
            continue;
        x->mark[node] = (int32_t)r;
        if (rows != NULL)
            rows[at[node]] = (int32_t)r;
        at[node]++;
        n++;
    }
    return n;
}

static void list_rows(struct mb_xchg *x)
{
    int64_t total = 0, *at = x->first;

    memset(at, 0, ((size_t)x->n_nodes + 1) * sizeof *at);
    memset(x->mark, 0xff, (size_t)x->n_nodes * sizeof *x->mark);
    for (int64_t r = 0; r < x->m; r++)
        total += mark_nodes(x, r, mb_meta_id(x, mb_held_meta(x, 0, r)), at, NULL);
    int32_t *rows = mb_xchg_room(x, &x->send_rows, (uint64_t)total, sizeof *rows);
    x->send_off[0] = 0;
    for (int32_t b = 0; b < x->n_nodes; b++) {
        x->send_off[b + 1] = x->send_off[b] + at[b];
        at[b] = x->send_off[b];
    }
    memset(x->mark, 0xff, (size_t)x->n_nodes * sizeof *x->mark);
    for (int64_t r = 0; r < x->m; r++)
        mark_nodes(x, r, mb_meta_id(x, mb_held_meta(x, 0, r)), at, rows);
}

enum mb_status mb_rows_route(struct mb_xchg *x, int64_t m, const int32_t *experts, const float *weights)
{
    int32_t k = x->o.k;
    uint8_t *meta = mb_xchg_room(x, &x->own_meta, (uint64_t)m, (uint64_t)x->meta_bytes);
    int32_t *served = mb_xchg_room(x, &x->served, (uint64_t)m * (uint64_t)k, sizeof *served);

    x->m = m;
    for (int64_t r = 0; r < m; r++, meta += x->meta_bytes) {
        uint16_t *id = (uint16_t *)(meta + 4 * (int64_t)k);
        memset(meta, 0, (size_t)x->meta_bytes);
        sort_row(k, experts + r * k, weights + r * k, (float *)meta, id);
        if (x->o.tagged && x->tags != NULL)
            id[k] = x->tags[r];
        if (!ids_ok(x, experts + r * k, id))
            return mb_error(MB_BUG, "row %lld of the dispatch has experts outside 0 .. %d or one twice", (long long)r,
                            x->o.experts - 1);
        for (int32_t j = 0; j < k; j++)
            served[r * k + j] = mb_serve_pick(x->serve, experts[r * k + j], x->me);
    }
    list_rows(x);
    return MB_OK;
}

struct mb_view mb_rows_upload(struct mb_xchg *x, const int32_t *idx, int64_t n)
{
    struct mb_view v = mb_view_of(mb_xchg_dev(x, &x->idx, (uint64_t)n * 4, 0), 0, n, 1, MB_I32);

    mb_xchg_must(x, x->o.ops->copy_in(x->o.stream, v, idx));
    return v;
}

static bool has_expert_here(const struct mb_xchg *x, int32_t home, const uint8_t *meta)
{
    const uint16_t *id = mb_meta_id(x, meta);

    for (int32_t i = 0; i < x->o.k; i++)
        if (mb_xchg_here(x, home, id[i]))
            return true;
    return false;
}

/* Notes n rows with consecutive metas as taken; their data is or comes in recv at the same places. */
static void note_taken(struct mb_xchg *x, int32_t from, int32_t agent, const uint8_t *meta, int64_t n)
{
    struct taken *t = &x->taken;
    uint64_t want = (uint64_t)(t->n + n);
    int32_t *f = mb_xchg_room(x, &t->from, want, sizeof *f), *a = mb_xchg_room(x, &t->agent, want, sizeof *a);
    uint8_t *m = mb_xchg_room(x, &t->meta, want, (uint64_t)x->meta_bytes);

    memcpy(m + t->n * x->meta_bytes, meta, (size_t)(n * x->meta_bytes));
    for (int64_t i = 0; i < n; i++) {
        f[t->n + i] = from;
        a[t->n + i] = agent;
    }
    t->n += n;
}

void mb_rows_take(struct mb_xchg *x, int32_t from, int32_t agent, const uint8_t *meta, const uint8_t *data, int64_t rows,
                  int64_t held)
{
    struct taken *t = &x->taken;
    int32_t *at = x->held_taken.p;

    for (int64_t r = 0; r < rows;) {
        int64_t end = r;
        while (end < rows && has_expert_here(x, from, meta + end * x->meta_bytes))
            end++;
        if (end > r) { /* a run of rows: one copy */
            uint64_t have = (uint64_t)(t->n * x->x_bytes), more = (uint64_t)((end - r) * x->x_bytes);
            struct mb_buf *buf = mb_xchg_dev(x, &x->recv, have + more, have);
            mb_xchg_must(x, x->o.ops->copy_in(x->o.stream, mb_view_of(buf, have, end - r, x->o.hidden, x->o.x_type),
                                              data + r * x->x_bytes));
            for (int64_t i = r; held >= 0 && i < end; i++)
                at[held + i] = (int32_t)(t->n + i - r);
            note_taken(x, from, agent, meta + r * x->meta_bytes, end - r);
        }
        if (end < rows && held >= 0)
            at[held + end] = -1;
        r = end + 1;
    }
}

void mb_rows_take_own(struct mb_xchg *x, struct mb_view in)
{
    int32_t *at = mb_xchg_room(x, &x->held_taken, (uint64_t)x->m, sizeof *at);
    int32_t *rows = mb_xchg_room(x, &x->order, (uint64_t)x->m, sizeof *rows);
    int64_t n = 0;

    x->block_at[0] = 0;
    x->n_held = x->m;
    x->taken.n = 0;
    for (int64_t r = 0; r < x->m; r++) {
        const uint8_t *meta = mb_held_meta(x, 0, r);
        bool here = has_expert_here(x, x->me, meta);
        at[r] = here ? (int32_t)n : -1;
        if (!here)
            continue;
        rows[n++] = (int32_t)r;
        note_taken(x, x->me, x->node.me, meta, 1);
    }
    x->counts.dispatch_bytes[MB_LINK_SELF] += n * x->x_bytes;
    x->counts.dispatch_messages[MB_LINK_SELF] += n > 0;
    if (n == 0 || x->n == 1)
        return; /* alone, every row is taken, so `in` itself is in the order of recv */
    struct mb_buf *buf = mb_xchg_dev(x, &x->recv, (uint64_t)(n * x->x_bytes), 0);
    mb_xchg_must(x, x->o.ops->gather(x->o.stream, mb_view_of(buf, 0, n, x->o.hidden, x->o.x_type), in,
                                     mb_rows_upload(x, rows, n)));
}

int32_t *mb_rows_bucket(struct mb_xchg *x, const int32_t *key, int64_t n, int32_t keys, int64_t *first)
{
    int32_t *order = mb_xchg_room(x, &x->order, (uint64_t)n, sizeof *order);

    memset(first, 0, ((size_t)keys + 1) * sizeof *first);
    for (int64_t i = 0; i < n; i++)
        first[key[i] + 1]++;
    for (int32_t b = 0; b < keys; b++)
        first[b + 1] += first[b];
    for (int64_t i = 0; i < n; i++)
        order[first[key[i]]++] = (int32_t)i;
    for (int32_t b = keys; b > 0; b--)
        first[b] = first[b - 1];
    first[0] = 0;
    return order;
}

/* begin[] from the counts of each own expert. */
static void count_experts(struct mb_xchg *x)
{
    const uint8_t *meta = x->taken.meta.p;
    const int32_t *home = x->taken.from.p;

    memset(x->begin, 0, ((size_t)x->n_own + 1) * sizeof *x->begin);
    for (int64_t t = 0; t < x->taken.n; t++, meta += x->meta_bytes) {
        const uint16_t *id = mb_meta_id(x, meta);
        for (int32_t i = 0; i < x->o.k; i++)
            if (mb_xchg_here(x, home[t], id[i]))
                x->begin[x->slot[id[i]] + 1]++;
    }
    for (int32_t e = 0; e < x->n_own; e++)
        x->begin[e + 1] += x->begin[e];
    x->rows = x->begin[x->n_own];
    memcpy(x->fill, x->begin, (size_t)x->n_own * sizeof *x->fill);
}

static const uint8_t *taken_meta(const struct mb_xchg *x, int64_t t)
{
    return (const uint8_t *)x->taken.meta.p + t * x->meta_bytes;
}

/* Stable counting sort of to[] = from[] by one byte of the rows' tags. */
static void sort_by_byte(const struct mb_xchg *x, const int32_t *from, int32_t *to, int64_t n, int shift)
{
    int64_t at[257] = {0};

    for (int64_t i = 0; i < n; i++)
        at[(mb_meta_tag(x, taken_meta(x, from[i])) >> shift & 255) + 1]++;
    for (int b = 0; b < 256; b++)
        at[b + 1] += at[b];
    for (int64_t i = 0; i < n; i++)
        to[at[mb_meta_tag(x, taken_meta(x, from[i])) >> shift & 255]++] = from[i];
}

/* The same order, tag after tag. Overwrites order. */
static const int32_t *order_by_tag(struct mb_xchg *x, int32_t *order, int64_t n)
{
    int32_t *by = mb_xchg_room(x, &x->by_tag, (uint64_t)n, sizeof *by);

    sort_by_byte(x, order, by, n, 0);
    sort_by_byte(x, by, order, n, 8);
    return order;
}

void mb_rows_sort(struct mb_xchg *x, struct mb_view in)
{
    int64_t n = x->taken.n;
    int32_t k = x->o.k;
    int32_t *own = mb_rows_bucket(x, mb_xchg_room(x, &x->taken.from, (uint64_t)n, 4), n, x->n, x->first);
    const int32_t *order = x->o.tagged ? order_by_tag(x, own, n) : own;
    const int32_t *home = x->taken.from.p;
    int32_t *ypos = mb_xchg_room(x, &x->taken.ypos, (uint64_t)n * (uint64_t)k, sizeof *ypos);

    count_experts(x);
    int32_t *idx = mb_xchg_room(x, &x->host_idx, (uint64_t)x->rows, sizeof *idx);
    uint16_t *tag = mb_xchg_room(x, &x->out_tag, (uint64_t)x->rows, sizeof *tag);
    for (int64_t i = 0; i < n; i++) {
        int32_t t = order[i];
        const uint16_t *id = mb_meta_id(x, (uint8_t *)x->taken.meta.p + t * x->meta_bytes);
        for (int32_t j = 0; j < k; j++) {
            int64_t at = mb_xchg_here(x, home[t], id[j]) ? x->fill[x->slot[id[j]]]++ : -1;
            ypos[(int64_t)t * k + j] = (int32_t)at;
            if (at < 0)
                continue;
            idx[at] = t;
            tag[at] = mb_meta_tag(x, taken_meta(x, t));
        }
    }
    x->counts.served_rows += x->rows;
    struct mb_buf *buf = mb_xchg_dev(x, &x->x, (uint64_t)(x->rows * x->x_bytes), 0);
    struct mb_view src = x->n == 1 ? in : mb_view_of(x->recv.buf, 0, n, x->o.hidden, x->o.x_type);
    if (x->rows > 0)
        mb_xchg_must(x, x->o.ops->gather(x->o.stream, mb_view_of(buf, 0, x->rows, x->o.hidden, x->o.x_type), src,
                                         mb_rows_upload(x, idx, x->rows)));
}
