/* The way back: which values are made, of what. */
#include "comm/route.h"

#include <string.h>
#include "base/log.h"

/* From the counts: places of the regions among the outputs, behind own ones, and among inner nodes. */
void mb_route_bases(struct mb_route *r)
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

/* The sum of hits [a, end) of a row. */
static inline void emit_sum(struct mb_emit *e, const float *w, const uint16_t *id, const struct mb_hit *a,
                            const struct mb_hit *end)
{
    int32_t *src = e->src, *pos = e->pos;
    float *to = e->w;
    int64_t at = e->items;

    e->off[e->inner++] = (int32_t)at;
    for (; a < end; a++, at++) {
        src[at] = a->row;
        pos[at] = id[a->place];
        to[at] = w[a->place];
    }
    e->items = at;
}

/* The terms that are here of one taken row, n of them, several: the largest nodes of its tree. */
static void emit_hits(struct mb_route *r, const uint8_t *meta, const struct mb_hit *a, int32_t n)
{
    const float *w = (const float *)meta;
    const uint16_t *id = (const uint16_t *)(w + r->k);
    const struct mb_hit *end = a + n, *next;
    int32_t last = end[-1].place;

    if (last - a->place == n - 1 && mb_cut_whole(id, r->k, a->place, last)) {
        emit_sum(&r->emit, w, id, a, end);
        return;
    }
    for (; a < end; a = next) {
        for (next = a + 1; next < end && next->place == next[-1].place + 1; next++)
            continue;
        next = a + mb_cut_node(id, r->k, a->place, next[-1].place) - a->place + 1;
        if (next == a + 1)
            r->emit.idx[r->emit.lone++] = a->row;
        else
            emit_sum(&r->emit, w, id, a, next);
    }
}

/* The same of taken rows [i, end). */
static void emit_taken(struct mb_route *r, int64_t i, int64_t end)
{
    const struct mb_taken *row = r->take.row + i, *last = r->take.row + end;
    const struct mb_hit *hit = r->take.hit;
    int64_t n = i < end ? last->hit - row->hit : 0, lone = r->emit.lone;
    int32_t *idx = r->emit.idx;

    if (n == 0 || !room_for(r, n, n / 2, n))
        return;
    for (int64_t at = row->hit, next; row < last; row++, at = next) {
        next = row[1].hit;
        if (next == at + 1) {
            idx[lone++] = hit[at].row;
            continue;
        }
        r->emit.lone = lone;
        emit_hits(r, row->meta, hit + at, (int32_t)(next - at));
        lone = r->emit.lone;
    }
    r->emit.lone = lone;
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

    mb_route_bucket(r, near, true, 0);
    begin_lists(r);
    for (int32_t q = 0; q < near; q++) {
        end_destination(r, q);
        for (int64_t i = t->home[q]; q != place && i < t->home[q + 1]; i++)
            emit_taken(r, t->run[t->order[i]].first, t->run[t->order[i] + 1].first);
    }
    end_destination(r, near);
}

/* Where the value of a term lies: row of the outputs, or -1 - row of the inner nodes. */
static inline int32_t source_of(const struct mb_hit *hit, const int64_t *lone, const int64_t *inner,
                                const struct mb_term *t)
{
    if (t->region == 0)
        return hit[t->src].row;
    return t->src + (int32_t)(t->src >= 0 ? lone[t->region] : -inner[t->region]);
}

static inline int32_t first_term(int32_t value)
{
    return value < 0 ? -1 - value : value;
}

/* Values of a block. */
static void emit_values(struct mb_route *r, const struct mb_block *b)
{
    struct mb_emit *e = &r->emit;
    const int32_t *value = r->held.value + b->value, *end = r->held.value + b->value_end;
    const int64_t *lone_base = r->held.lone_base, *inner_base = r->held.inner_base;
    const struct mb_hit *hit = r->take.hit;
    const struct mb_term *term = r->held.term;
    int64_t at = e->items, lone = e->lone, inner = e->inner;
    int32_t *src = e->src, *pos = e->pos, *off = e->off;

    if (!room_for(r, end - value - b->inner, b->inner, first_term(*end) - first_term(*value)))
        return;
    for (; value < end; value++) {
        const struct mb_term *t = term + first_term(value[0]), *last = term + first_term(value[1]);
        if (value[0] < 0) {
            e->idx[lone++] = source_of(hit, lone_base, inner_base, t);
            continue;
        }
        off[inner++] = (int32_t)at;
        for (; t < last; t++, at++) {
            src[at] = source_of(hit, lone_base, inner_base, t);
            pos[at] = t->pos;
            e->w[at] = t->w;
        }
    }
    e->lone = lone;
    e->inner = inner;
    e->items = at;
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
            emit_values(r, b);
    }
    end_destination(r, sources);
}

/* Own rows come first, so that their terms are the items. */
void mb_route_final(struct mb_route *r)
{
    const struct mb_helds *h = &r->held;
    const struct mb_term *t = h->term;
    const struct mb_hit *hit = r->take.hit;
    struct mb_emit *e = &r->emit;
    int64_t rows = h->block[0].value_end, n = first_term(h->value[rows]);
    int32_t *src = e->src, *pos = e->pos;

    begin_lists(r);
    if (rows == 0 || !room_for(r, 0, rows, n))
        return;
    memcpy(e->off, h->value, (size_t)rows * sizeof *e->off);
    for (int64_t i = 0; i < n; i++) {
        src[i] = source_of(hit, h->lone_base, h->inner_base, &t[i]);
        pos[i] = t[i].pos;
        e->w[i] = t[i].w;
    }
    e->inner = rows;
    e->items = n;
}
