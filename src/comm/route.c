/* The way there: own rows to nodes and rounds, rows that arrive to experts. */
#include "comm/route.h"

#include <string.h>
#include "base/log.h"

void mb_route_init(struct mb_route *r, const struct mb_xchg_quota *quota, int64_t back)
{
    const struct mb_cut *c = &r->cut;
    struct mb_helds *h = &r->held;
    int32_t near = mb_cut_near(c);

    h->regions = 1 + near + c->nodes;
    r->own.back = back;
    for (int32_t m = 0; m < c->n; m++) {
        bool here = c->of[m] == c->mine;
        h->region[m] = m == c->me ? 0 : here ? 1 + m - c->first[c->mine] : -1;
        h->region_own[m] = here ? h->region[m] : 1 + near + c->of[m];
        struct mb_xchg_quota agent = here ? quota[c->me] : quota[mb_cut_agent(c, c->me, c->of[m])];
        r->own.may[m] = (struct mb_xchg_quota){quota[m].pairs, agent.rows, agent.terms};
    }
}

/* ---------------------------------------------------------------- own rows */
/* The meta of a row: ids ascending with their weights, and the tag; who serves each choice. False: an id is
 * none, is there twice or has nobody. */
static bool make_row(const struct mb_route *r, const uint16_t *owner, const int32_t *experts,
                     const float *weights, uint16_t tag, uint8_t *meta, int32_t *served)
{
    int32_t k = r->k;
    uint32_t keys[1 + MB_ROUTE_MAX_K], *key = keys + 1, ids = (uint32_t)r->ids, last = UINT32_MAX, bad = 0;
    float *w = (float *)meta;
    uint16_t *id = (uint16_t *)(meta + 4 * (int64_t)k);

    keys[0] = 0;                      /* nothing sorts before it */
    for (int32_t j = 0; j < k; j++) { /* an insertion sort of id and place */
        uint32_t e = (uint32_t)experts[j], new = e << 8 | (uint32_t)j, *at = key + j;
        if (e >= ids || owner[e] == MB_NOBODY)
            return false;
        served[j] = owner[e];
        for (; at[-1] > new; at--)
            at[0] = at[-1];
        at[0] = new;
    }
    for (int32_t j = 0; j < k; j++) {
        uint32_t e = key[j] >> 8;
        id[j] = (uint16_t)e;
        w[j] = weights[key[j] & 255];
        bad |= e == last;
        last = e;
    }
    if (r->tagged)
        id[k++] = tag;
    if (k % 2 != 0)
        id[k] = 0;
    return bad == 0;
}

/* The part of a limit that belongs to m of `of` rows, and always `least`. */
static int64_t part(int64_t limit, int64_t least, int64_t m, int64_t of)
{
    return limit <= least ? least : least + (int64_t)((double)(limit - least) * ((double)m / (double)of));
}

/* Counts what a row adds to the round (sign 1) or takes out of it again (-1). Whether all is within what may
 * be sent. */
static bool count_row(struct mb_route *r, const uint16_t *id, const uint16_t *owner, int64_t of, int32_t sign)
{
    struct mb_own_rows *o = &r->own;
    bool ok = true;
    uint16_t seen[MB_ROUTE_MAX_K];
    int32_t n = 0;

    for (int32_t j = 0; j < r->k; j++) {
        int32_t d = owner[id[j]], b = r->cut.of[d], i = 0;
        o->pairs[d] += sign;
        ok &= o->pairs[d] <= part(o->may[d].pairs, r->k, o->m, of);
        if (b == r->cut.mine)
            continue;
        while (i < n && seen[i] != b)
            i++;
        if (i == n) {
            seen[n++] = (uint16_t)b;
            o->rows[b] += sign;
            ok &= o->rows[b] <= part(o->may[d].rows, 1, o->m, of);
        }
        o->terms[b] += sign;
        ok &= o->terms[b] <= part(o->may[d].terms, r->k, o->m, of) &&
              o->terms[b] <= (o->back > r->k ? o->back : r->k);
    }
    return ok;
}

static void clear_counts(struct mb_route *r)
{
    memset(r->own.pairs, 0, (size_t)r->cut.n * sizeof *r->own.pairs);
    memset(r->own.rows, 0, (size_t)r->cut.nodes * sizeof *r->own.rows);
    memset(r->own.terms, 0, (size_t)r->cut.nodes * sizeof *r->own.terms);
}

/* No limit can be met by so few rows. */
static bool few(const struct mb_route *r, int64_t m, int64_t of)
{
    int64_t pairs = m * r->k;
    bool ok = pairs <= r->own.back || r->cut.nodes == 1;

    for (int32_t d = 0; ok && d < r->cut.n; d++) {
        const struct mb_xchg_quota *q = &r->own.may[d];
        ok = pairs <= part(q->pairs, r->k, m, of) &&
             (r->cut.of[d] == r->cut.mine ||
              (m <= part(q->rows, 1, m, of) && pairs <= part(q->terms, r->k, m, of)));
    }
    return ok;
}

/* Cuts own rows into rounds, each as long as may be. */
static void cut_rounds(struct mb_route *r, int64_t of)
{
    struct mb_own_rows *o = &r->own;
    const uint16_t *owner = mb_owners_of(&r->owners, r->cut.me);

    o->rounds = 1;
    o->first[0] = 0;
    if (!few(r, o->m, of)) {
        clear_counts(r);
        for (int64_t i = 0; i < o->m; i++) {
            const uint16_t *id = mb_meta_id(r, o->meta + i * r->meta_bytes);
            if (count_row(r, id, owner, of, 1) || i == o->first[o->rounds - 1])
                continue;
            clear_counts(r);
            o->first[o->rounds++] = (int32_t)i;
            count_row(r, id, owner, of, 1);
        }
    }
    o->first[o->rounds] = (int32_t)o->m;
}

enum mb_status mb_route_rows(struct mb_route *r, const struct mb_serve *v, int64_t m, int64_t of,
                             const int32_t *experts, const float *weights, const uint16_t *tags)
{
    struct mb_own_rows *o = &r->own;
    int32_t k = r->k;

    if (v->ids != r->ids || v->members != r->cut.n)
        return mb_error(MB_BUG, "tables for %d ids and %d members: the exchange has %d and %d", v->ids,
                        v->members, r->ids, r->cut.n);
    mb_owners_set(&r->owners, v, r->cut.me);
    const uint16_t *owner = mb_owners_of(&r->owners, r->cut.me);
    o->m = m;
    for (int64_t i = 0; i < m; i++) {
        uint8_t *meta = o->meta + i * r->meta_bytes;
        if (!make_row(r, owner, experts + i * k, weights + i * k, tags != NULL ? tags[i] : 0, meta,
                      o->served + i * k))
            return mb_error(
                MB_BUG,
                "row %lld of the dispatch has experts outside 0 .. %d, one twice, or one that nobody serves",
                (long long)i, r->ids - 1);
    }
    cut_rounds(r, of > m ? of : m);
    return MB_OK;
}

/* Appends (node, row) for each node that a row must reach, the own node only for another member of it.
 * Returns how many. */
static int64_t nodes_of_row(struct mb_route *r, const uint16_t *owner, int32_t row, int32_t *to)
{
    const uint16_t *id = mb_meta_id(r, r->own.meta + row * r->meta_bytes);
    int32_t *mark = r->own.mark, me = r->cut.me, n = 0, k = r->k;
    const int32_t *of = r->cut.of;

    for (int32_t j = 0; j < k; j++) {
        int32_t d = owner[id[j]], node = of[d];
        if (d == me || mark[node] == row)
            continue;
        mark[node] = row;
        to[n++] = node;
        to[n++] = row;
    }
    return n;
}

static void list_sends(struct mb_route *r)
{
    struct mb_own_rows *o = &r->own;
    int32_t *pair = r->scratch, nodes = r->cut.nodes;
    const uint16_t *owner = mb_owners_of(&r->owners, r->cut.me);
    int64_t n = 0, *at = o->send_at;

    memset(o->mark, 0xff, (size_t)nodes * sizeof *o->mark);
    memset(at, 0, ((size_t)nodes + 1) * sizeof *at);
    for (int64_t i = o->r0; i < o->r1; i++)
        n += nodes_of_row(r, owner, (int32_t)i, pair + n);
    for (int64_t i = 0; i < n; i += 2)
        at[pair[i] + 1]++;
    for (int32_t b = 0; b < nodes; b++)
        at[b + 1] += at[b];
    for (int64_t i = 0; i < n; i += 2)
        o->send[at[pair[i]]++] = pair[i + 1];
    for (int32_t b = nodes; b > 0; b--)
        at[b] = at[b - 1];
    at[0] = 0;
}

void mb_route_round(struct mb_route *r, int32_t round)
{
    struct mb_own_rows *o = &r->own;
    struct mb_takes *t = &r->take;

    o->round = round;
    o->r0 = round < o->rounds ? o->first[round] : o->m;
    o->r1 = round < o->rounds ? o->first[round + 1] : o->m;
    list_sends(r);
    r->full = false;
    t->n = t->hits = 0;
    memset(t->begin, 0, ((size_t)r->owners.n + 1) * sizeof *t->begin);
    r->held.n = 1;
    r->held.rows = o->r1 - o->r0;
    r->held.block[0] = (struct mb_block){r->cut.me, r->held.rows, 0, o->meta + o->r0 * r->meta_bytes};
}

void mb_route_none(struct mb_route *r)
{
    r->owners.n = 0;
    r->own.m = r->own.r0 = r->own.r1 = 0;
    r->own.round = 0;
    r->own.rounds = 1;
    memset(r->own.send_at, 0, ((size_t)r->cut.nodes + 1) * sizeof *r->own.send_at);
    r->full = false;
    r->take.n = r->take.hits = 0;
    r->held.n = 1;
    r->held.rows = 0;
    r->held.block[0] = (struct mb_block){.home = r->cut.me};
}

/* ---------------------------------------------------------------- rows that arrive */
/* Appends the hits of a row. Returns how many. */
static inline int32_t add_hits(struct mb_route *r, const uint16_t *owner, const uint16_t *id)
{
    struct mb_takes *t = &r->take;
    struct mb_hit *hit = t->hit + t->hits;
    const int32_t *slot = r->owners.slot;
    int64_t *count = t->begin + 1;
    int32_t n = 0, me = r->cut.me, k = r->k;

    for (int32_t j = 0; j < k; j++) {
        if (owner[id[j]] != me)
            continue;
        int32_t s = slot[id[j]];
        hit[n++] = (struct mb_hit){s, j};
        count[s]++;
    }
    t->hits += n;
    return n;
}

/* Takes a row if it has an expert here and there is room. */
static inline bool take_row(struct mb_route *r, const uint16_t *owner, int32_t home, int32_t agent,
                            const uint8_t *meta)
{
    struct mb_takes *t = &r->take;
    int64_t first = t->hits;

    if (t->n >= t->rows_room || first + r->k > t->hits_room) {
        r->full = true;
        return false;
    }
    if (add_hits(r, owner, mb_meta_id(r, meta)) == 0)
        return false;
    t->row[t->n++] = (struct mb_taken){meta, home, agent, (int32_t)first};
    t->row[t->n].hit = (int32_t)t->hits;
    return true;
}

int64_t mb_route_take_own(struct mb_route *r, int32_t *list)
{
    const struct mb_block *b = &r->held.block[0];
    int32_t place = mb_cut_place(&r->cut);
    int64_t n = 0;

    if (b->rows == 0)
        return 0;
    const uint16_t *owner = mb_owners_of(&r->owners, r->cut.me);
    for (int64_t i = 0; i < b->rows && !r->full; i++) {
        bool here = take_row(r, owner, r->cut.me, place, b->meta + i * r->meta_bytes);
        r->held.taken[i] = here ? (int32_t)n : -1;
        if (here)
            list[n++] = (int32_t)i;
    }
    return n;
}

bool mb_route_hold(struct mb_route *r, int32_t j, int32_t home, int64_t rows, const uint8_t *meta)
{
    struct mb_helds *h = &r->held;

    if (rows < 0 || rows > h->room - h->rows)
        return false;
    for (int64_t i = 0; i < rows; i++) {
        const uint16_t *id = mb_meta_id(r, meta + i * r->meta_bytes);
        int32_t worst = -1;
        for (int32_t q = 0; q < r->k; q++)
            worst = id[q] > worst ? id[q] : worst;
        if (worst >= r->ids)
            return false;
    }
    h->source[j] = h->n;
    h->block[h->n++] = (struct mb_block){home, rows, h->rows, meta};
    h->rows += rows;
    return true;
}

int64_t mb_route_take(struct mb_route *r, int32_t home, int32_t agent, const uint8_t *meta, int64_t rows,
                      int64_t held, int64_t *at, int64_t *first)
{
    struct mb_takes *t = &r->take;
    int64_t n = 0;

    if (*at >= rows)
        return 0;
    const uint16_t *owner = mb_owners_of(&r->owners, home);
    for (; *at < rows && !r->full; (*at)++) {
        const uint8_t *own = meta + *at * r->meta_bytes;
        if (held < 0 && t->n < t->copied_room) {
            uint8_t *to = t->copied + t->n * r->meta_bytes;
            memcpy(to, own, (size_t)r->meta_bytes);
            own = to;
        }
        bool here = take_row(r, owner, home, agent, own);
        if (held >= 0)
            r->held.taken[held + *at] = here ? (int32_t)t->n - 1 : -1;
        if (here && n++ == 0)
            *first = *at;
        if (!here && n > 0)
            break;
    }
    return n;
}

bool mb_route_wanted(struct mb_route *r, int32_t home, const uint8_t *meta)
{
    const uint16_t *id = mb_meta_id(r, meta), *owner = mb_owners_of(&r->owners, home);

    for (int32_t j = 0; j < r->k; j++)
        if (owner[id[j]] != r->cut.me && r->cut.of[owner[id[j]]] == r->cut.mine)
            return true;
    return false;
}

void mb_route_bucket(struct mb_route *r, int32_t keys, bool by_agent)
{
    struct mb_takes *t = &r->take;
    int64_t *first = t->home;

    memset(first, 0, ((size_t)keys + 1) * sizeof *first);
    for (int64_t i = 0; i < t->n; i++)
        first[(by_agent ? t->row[i].agent : t->row[i].home) + 1]++;
    for (int32_t b = 0; b < keys; b++)
        first[b + 1] += first[b];
    for (int64_t i = 0; i < t->n; i++)
        t->order[first[by_agent ? t->row[i].agent : t->row[i].home]++] = (int32_t)i;
    for (int32_t b = keys; b > 0; b--)
        first[b] = first[b - 1];
    first[0] = 0;
}

/* Stable counting sort of to[] = from[] by one byte of the rows' tags. */
static void sort_by_byte(const struct mb_route *r, const int32_t *from, int32_t *to, int shift)
{
    const struct mb_takes *t = &r->take;
    int64_t at[257] = {0};

    for (int64_t i = 0; i < t->n; i++)
        at[(mb_meta_tag(r, t->row[from[i]].meta) >> shift & 255) + 1]++;
    for (int b = 0; b < 256; b++)
        at[b + 1] += at[b];
    for (int64_t i = 0; i < t->n; i++)
        to[at[mb_meta_tag(r, t->row[from[i]].meta) >> shift & 255]++] = from[i];
}

int64_t mb_route_sort(struct mb_route *r, int32_t *idx)
{
    struct mb_takes *t = &r->take;
    int32_t own = r->owners.n;

    mb_route_bucket(r, r->cut.n, false);
    if (r->tagged) {
        sort_by_byte(r, t->order, t->by_tag, 0);
        sort_by_byte(r, t->by_tag, t->order, 8);
    }
    for (int32_t e = 0; e < own; e++)
        t->begin[e + 1] += t->begin[e];
    memcpy(t->fill, t->begin, (size_t)own * sizeof *t->fill);
    int64_t *fill = t->fill;
    for (int64_t i = 0; i < t->n; i++) {
        int32_t of = t->order[i];
        struct mb_hit *hit = t->hit + t->row[of].hit, *end = t->hit + t->row[of + 1].hit;
        for (; hit < end; hit++) {
            hit->row = (int32_t)fill[hit->row]++;
            idx[hit->row] = of;
        }
    }
    for (int64_t i = 0; r->tagged && i < t->hits; i++)
        t->tag[i] = mb_meta_tag(r, t->row[idx[i]].meta);
    return t->hits;
}
