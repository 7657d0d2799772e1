/* The way back: which values travel, by the tree rule, and how they are made and put together. */
#include "comm/route.h"

#include <string.h>
#include "base/log.h"

/* ---------------------------------------------------------------- where terms come from */
/* The values that a region sends for places [i, j] of a row; it sends them in the order of rows, so counting
 * is enough. */
static void ref_run(struct mb_helds *h, const uint16_t *id, int32_t k, int32_t i, int32_t j, uint16_t region,
                    struct mb_ref *ref)
{
    while (i <= j) {
        int32_t end = mb_cut_node(id, k, i, j);
        int64_t *n = end > i ? &h->inner_n[region] : &h->lone_n[region];
        ref[i] = (struct mb_ref){(int32_t)(*n)++, region, (uint16_t)(end - i + 1)};
        i = end + 1;
    }
}

/* Returns the hit behind those of the row. */
static inline const struct mb_hit *ref_row(struct mb_helds *h, int32_t k, const uint16_t *id,
                                           const uint16_t *region, const struct mb_hit *hit,
                                           struct mb_ref *ref)
{
    for (int32_t i = 0, j, next, g = k > 0 ? region[id[0]] : 0; i < k; i = j, g = next) {
        next = -1;
        for (j = i + 1; j < k && (next = region[id[j]]) == g; j++)
            continue;
        if (g == 0)
            for (; i < j; i++)
                ref[i] = (struct mb_ref){(hit++)->row, 0, 1};
        else if (j == i + 1 && g != MB_NOBODY)
            ref[i] = (struct mb_ref){(int32_t)h->lone_n[g]++, (uint16_t)g, 1};
        else if (g != MB_NOBODY)
            ref_run(h, id, k, i, j - 1, (uint16_t)g, ref);
    }
    return hit;
}

static void ref_block(struct mb_route *r, const struct mb_block *b)
{
    const uint16_t *region = mb_owners_of(&r->owners, b->home);
    const struct mb_hit *hit = r->take.hit + r->take.row[b->taken].hit;
    struct mb_ref *ref = r->held.ref + b->at * r->k;

    for (int64_t i = 0; i < b->rows; i++, ref += r->k)
        hit = ref_row(&r->held, r->k, mb_meta_id(r, b->meta + i * r->meta_bytes), region, hit, ref);
}

/* Places of the regions among the outputs and among inner nodes, from the counts. */
static void place_regions(struct mb_route *r)
{
    struct mb_helds *h = &r->held;
    int64_t lone = r->take.hits, inner = 0;

    h->lone_base[0] = h->inner_base[0] = 0;
    for (int32_t g = 1; g < h->regions; g++) {
        h->lone_base[g] = lone;
        h->inner_base[g] = inner;
        lone += h->lone_n[g];
        inner += h->inner_n[g];
    }
}

void mb_route_refs(struct mb_route *r)
{
    struct mb_helds *h = &r->held;
    int32_t blocks = mb_cut_near(&r->cut) > 1 ? h->n : 1; /* alone in its node, what is here says all */

    memset(h->lone_n, 0, (size_t)h->regions * sizeof *h->lone_n);
    memset(h->inner_n, 0, (size_t)h->regions * sizeof *h->inner_n);
    for (int32_t b = 0; b < blocks; b++)
        if (h->block[b].rows > 0)
            ref_block(r, &h->block[b]);
    place_regions(r);
}

/* ---------------------------------------------------------------- values to be made */
/* Room for so many more values of both kinds and terms. */
static bool room_for(struct mb_route *r, int64_t lone, int64_t inner, int64_t items)
{
    const struct mb_emit *e = &r->emit;

    if (e->lone + lone <= e->lone_room && e->inner + inner < e->inner_room &&
        e->items + items <= e->items_room)
        return true;
    r->full = true;
    return false;
}

static inline void emit_item(struct mb_emit *e, int32_t src, int32_t pos, float w)
{
    int64_t at = e->items++;

    e->src[at] = src;
    e->pos[at] = pos;
    e->w[at] = w;
}

/* Hits [a, b) of a row: one node of its tree. */
static inline void emit_node(struct mb_emit *e, const struct mb_hit *a, const struct mb_hit *b,
                             const uint16_t *id, const float *w)
{
    if (b == a + 1) {
        e->idx[e->lone++] = a->row;
        return;
    }
    e->off[e->inner++] = (int32_t)e->items;
    for (; a < b; a++)
        emit_item(e, a->row, id[a->place], w[a->place]);
}

/* The terms that are here of one taken row, as the largest nodes of its tree. */
static inline void emit_hits(struct mb_route *r, const struct mb_taken *row)
{
    const struct mb_hit *a = r->take.hit + row[0].hit, *end = r->take.hit + row[1].hit;
    const uint16_t *id = mb_meta_id(r, row->meta);
    const float *w = (const float *)row->meta;

    if (a + 1 == end) {
        r->emit.idx[r->emit.lone++] = a->row;
        return;
    }
    while (a < end) {
        const struct mb_hit *b = a + 1;
        while (b < end && b->place == b[-1].place + 1)
            b++;
        if (b > a + 1)
            b = a + mb_cut_node(id, r->k, a->place, b[-1].place) - a->place + 1;
        emit_node(&r->emit, a, b, id, w);
        a = b;
    }
}

/* The same of taken rows [i, end). */
static void emit_taken(struct mb_route *r, int64_t i, int64_t end)
{
    const struct mb_taken *row = r->take.row;
    int64_t n = i < end ? row[end].hit - row[i].hit : 0;

    if (n > 0 && room_for(r, n, n / 2, n))
        for (; i < end; i++)
            emit_hits(r, &row[i]);
}

static void begin_lists(struct mb_route *r)
{
    r->emit.lone = r->emit.inner = r->emit.items = 0;
}

static void end_destination(struct mb_route *r, int32_t i)
{
    r->emit.out_lone[i] = r->emit.lone;
    r->emit.out_inner[i] = r->emit.inner;
}

void mb_route_local(struct mb_route *r)
{
    struct mb_takes *t = &r->take;
    int32_t near = mb_cut_near(&r->cut), place = mb_cut_place(&r->cut);

    mb_route_bucket_agents(r);
    begin_lists(r);
    for (int32_t q = 0; q < near; q++) {
        end_destination(r, q);
        for (int64_t i = t->home[q]; q != place && i < t->home[q + 1]; i++)
            emit_taken(r, t->run[t->order[i]].first, t->run[t->order[i] + 1].first);
    }
    end_destination(r, near);
}

/* A sum's source: row of the outputs, or -1 - row of the inner nodes. */
static inline int32_t source_of(const struct mb_helds *h, const struct mb_ref *ref)
{
    return (int32_t)(ref->count > 1 ? -1 - (h->inner_base[ref->region] + ref->src)
                                    : h->lone_base[ref->region] + ref->src);
}

/* Items of places [i, j] of a row. */
static inline void emit_refs(struct mb_route *r, const uint8_t *meta, const struct mb_ref *ref, int32_t i,
                             int32_t j)
{
    const uint16_t *id = mb_meta_id(r, meta);
    const float *w = (const float *)meta;
    const struct mb_helds *h = &r->held;
    int64_t at = r->emit.items;
    int32_t *src = r->emit.src, *pos = r->emit.pos;
    float *to = r->emit.w;

    for (; i <= j; i += ref[i].count, at++) {
        src[at] = source_of(h, &ref[i]);
        pos[at] = id[i];
        to[at] = w[i];
    }
    r->emit.items = at;
}

/* What this node has of a held row, for its home. */
static void reply_row(struct mb_route *r, const struct mb_block *b, int64_t row, const uint16_t *region)
{
    const uint8_t *meta = b->meta + row * r->meta_bytes;
    const uint16_t *id = mb_meta_id(r, meta);
    const struct mb_ref *ref = r->held.ref + (b->at + row) * r->k;
    struct mb_emit *e = &r->emit;

    for (int32_t i = 0, j; i < r->k; i = j + 1) {
        j = i;
        if (region[id[i]] == MB_NOBODY)
            continue;
        while (j + 1 < r->k && region[id[j + 1]] != MB_NOBODY)
            j++;
        j = mb_cut_node(id, r->k, i, j);
        if (j == i) {
            e->idx[e->lone++] = source_of(&r->held, &ref[i]);
            continue;
        }
        e->off[e->inner++] = (int32_t)e->items;
        emit_refs(r, meta, ref, i, j);
    }
}

static void reply_block(struct mb_route *r, const struct mb_block *b)
{
    const uint16_t *region = mb_owners_of(&r->owners, b->home);

    for (int64_t i = 0; i < b->rows && room_for(r, r->k, r->k / 2, r->k); i++)
        reply_row(r, b, i, region);
}

void mb_route_reply(struct mb_route *r, int32_t sources)
{
    const struct mb_helds *h = &r->held;
    bool alone = mb_cut_near(&r->cut) == 1;

    begin_lists(r);
    for (int32_t j = 0; j < sources; j++) {
        const struct mb_block *b = &h->block[h->source[j]];
        end_destination(r, j);
        if (alone)
            emit_taken(r, b->taken, b->taken_end);
        else
            reply_block(r, b);
    }
    end_destination(r, sources);
}

void mb_route_final(struct mb_route *r)
{
    const struct mb_block *b = &r->held.block[0];
    const struct mb_ref *ref = r->held.ref;

    begin_lists(r);
    if (!room_for(r, 0, b->rows, b->rows * r->k))
        return;
    for (int64_t i = 0; i < b->rows; i++, ref += r->k) {
        r->emit.off[r->emit.inner++] = (int32_t)r->emit.items;
        emit_refs(r, b->meta + i * r->meta_bytes, ref, 0, r->k - 1);
    }
}
