/* The way back: which values travel, by the tree rule, and how they are made and put together. */
#include "comm/route.h"

#include <string.h>
#include "base/log.h"

/* ---------------------------------------------------------------- where terms come from */
/* The values that a region sends for places [i, j] of a row; it sends them in the order of rows, so counting
 * is enough. */
static void ref_run(struct mb_helds *h, const uint16_t *id, int32_t k, int32_t i, int32_t j, int32_t region,
                    struct mb_ref *ref)
{
    while (i <= j) {
        int32_t end = mb_cut_node(id, k, i, j);
        int64_t *n = end > i ? &h->inner_n[region] : &h->lone_n[region];
        ref[i] = (struct mb_ref){(int32_t)(*n)++, end - i + 1};
        i = end + 1;
    }
}

static void ref_row(struct mb_route *r, const struct mb_block *b, int64_t row, const uint16_t *owner,
                    const int32_t *region)
{
    const uint16_t *id = mb_meta_id(r, b->meta + row * r->meta_bytes);
    int32_t k = r->k, t = r->held.taken[b->at + row];
    struct mb_ref *ref = r->held.ref + (b->at + row) * k;
    const struct mb_hit *hit = t >= 0 ? r->take.hit + r->take.row[t].hit : NULL;

    for (int32_t i = 0, j, next = 0, g = k > 0 ? region[owner[id[0]]] : 0; i < k; i = j, g = next) {
        for (j = i + 1; j < k && (next = region[owner[id[j]]]) == g; j++)
            continue;
        if (g == 0)
            for (; i < j; i++)
                ref[i] = (struct mb_ref){(hit++)->row, 1};
        else if (g > 0 && j == i + 1)
            ref[i] = (struct mb_ref){(int32_t)r->held.lone_n[g]++, 1};
        else if (g > 0)
            ref_run(&r->held, id, k, i, j - 1, g, ref);
    }
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
    for (int32_t b = 0; b < blocks; b++) {
        const uint16_t *owner = mb_owners_of(&r->owners, h->block[b].home);
        for (int64_t i = 0; i < h->block[b].rows; i++)
            ref_row(r, &h->block[b], i, owner, b == 0 ? h->region_own : h->region);
    }
    place_regions(r);
}

/* ---------------------------------------------------------------- values to be made */
static bool room_for_row(struct mb_route *r)
{
    struct mb_emit *e = &r->emit;

    if (e->lone + r->k <= e->lone_room && e->inner + r->k < e->inner_room && e->items + r->k <= e->items_room)
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
static void emit_hits(struct mb_route *r, const struct mb_taken *row)
{
    const struct mb_hit *a = r->take.hit + row[0].hit, *end = r->take.hit + row[1].hit;
    const uint16_t *id = mb_meta_id(r, row->meta);
    const float *w = (const float *)row->meta;

    if (!room_for_row(r))
        return;
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

    mb_route_bucket(r, near, true);
    begin_lists(r);
    for (int32_t q = 0; q < near; q++) {
        end_destination(r, q);
        for (int64_t i = t->home[q]; q != place && i < t->home[q + 1]; i++)
            emit_hits(r, &t->row[t->order[i]]);
    }
    end_destination(r, near);
}

/* A sum's source: row of the outputs, or -1 - row of the inner nodes. */
static inline int32_t source_of(const struct mb_helds *h, const struct mb_ref *ref, int32_t region)
{
    return (int32_t)(ref->count > 1 ? -1 - (h->inner_base[region] + ref->src)
                                    : h->lone_base[region] + ref->src);
}

/* Items of places [i, j] of a held row. */
static void emit_refs(struct mb_route *r, const uint8_t *meta, const uint16_t *owner, const int32_t *region,
                      const struct mb_ref *ref, int32_t i, int32_t j)
{
    const uint16_t *id = mb_meta_id(r, meta);
    const float *w = (const float *)meta;
    int64_t at = r->emit.items;
    int32_t *src = r->emit.src, *pos = r->emit.pos;
    float *to = r->emit.w;

    for (; i <= j; i += ref[i].count, at++) {
        src[at] = source_of(&r->held, &ref[i], region[owner[id[i]]]);
        pos[at] = id[i];
        to[at] = w[i];
    }
    r->emit.items = at;
}

/* What this node has of a held row, for its home. */
static void reply_row(struct mb_route *r, const struct mb_block *b, int64_t row, const uint16_t *owner)
{
    const int32_t *region = r->held.region;
    const uint8_t *meta = b->meta + row * r->meta_bytes;
    const uint16_t *id = mb_meta_id(r, meta);
    const struct mb_ref *ref = r->held.ref + (b->at + row) * r->k;
    struct mb_emit *e = &r->emit;

    if (!room_for_row(r))
        return;
    for (int32_t i = 0, j; i < r->k; i = j + 1) {
        j = i;
        if (region[owner[id[i]]] < 0)
            continue;
        while (j + 1 < r->k && region[owner[id[j + 1]]] >= 0)
            j++;
        j = mb_cut_node(id, r->k, i, j);
        if (j == i) {
            e->idx[e->lone++] = source_of(&r->held, &ref[i], region[owner[id[i]]]);
            continue;
        }
        e->off[e->inner++] = (int32_t)e->items;
        emit_refs(r, meta, owner, region, ref, i, j);
    }
}

void mb_route_reply(struct mb_route *r, int32_t sources)
{
    struct mb_helds *h = &r->held;
    bool alone = mb_cut_near(&r->cut) == 1;

    begin_lists(r);
    for (int32_t j = 0; j < sources; j++) {
        const struct mb_block *b = &h->block[h->source[j]];
        const uint16_t *owner = mb_owners_of(&r->owners, b->home);
        end_destination(r, j);
        for (int64_t i = 0; i < b->rows; i++) {
            int32_t t = h->taken[b->at + i];
            if (!alone)
                reply_row(r, b, i, owner);
            else if (t >= 0)
                emit_hits(r, &r->take.row[t]);
        }
    }
    end_destination(r, sources);
}

void mb_route_final(struct mb_route *r)
{
    const struct mb_block *b = &r->held.block[0];
    const uint16_t *owner = mb_owners_of(&r->owners, r->cut.me);

    begin_lists(r);
    for (int64_t i = 0; i < b->rows && room_for_row(r); i++) {
        r->emit.off[r->emit.inner++] = (int32_t)r->emit.items;
        emit_refs(r, b->meta + i * r->meta_bytes, owner, r->held.region_own, r->held.ref + i * r->k, 0,
                  r->k - 1);
    }
}
