/* One look at each row that this member is the agent of: where its terms come from, which experts here see
 * it, who else in the domain or outside needs it. */
#include <string.h>
#include "comm/route.h"

/* How far a walk is: the next hit, the next term. */
struct walk {
    int64_t hit, term;
};

static inline struct walk begin_walk(const struct mb_route *r)
{
    return (struct walk){r->take.hits, r->held.terms};
}

static inline void end_walk(struct mb_route *r, struct walk w)
{
    r->take.hits = w.hit;
    r->held.terms = w.term;
    r->held.value[r->held.values] = (int32_t)w.term;
}

/* The terms of places [i, end), whose experts are here. */
static inline struct walk terms_here(struct mb_route *r, struct walk w, const float *weight, int64_t i,
                                     int64_t end)
{
    const uint16_t *id = (const uint16_t *)(weight + r->k);
    const int32_t *slot = r->owners.slot, taken = (int32_t)r->take.n;
    struct mb_term *term = r->held.term;
    struct mb_hit *hit = r->take.hit;
    int64_t *count = r->take.begin + 1;

    for (; i < end; i++) {
        int32_t s = slot[id[i]];
        term[w.term++] = (struct mb_term){(int32_t)w.hit, 0, id[i], weight[i]};
        hit[w.hit++] = (struct mb_hit){s, taken, (int32_t)i};
        count[s]++;
    }
    return w;
}

/* The terms of places [i, end), several, which region g makes, where they are not one node of the tree. */
static __attribute__((noinline)) int64_t part_terms(struct mb_helds *h, int64_t term, uint16_t g,
                                                    const float *weight, int32_t k, int32_t i, int32_t end)
{
    const uint16_t *id = (const uint16_t *)(weight + k);

    for (int32_t last; i < end; i = last + 1) {
        last = mb_cut_node(id, k, i, end - 1);
        int64_t src = last == i ? h->lone_n[g]++ : -1 - h->inner_n[g]++;
        h->term[term++] = (struct mb_term){(int32_t)src, g, id[i], weight[i]};
    }
    return term;
}

/* The terms of places [i, end), which region g makes. It sends what it makes in the order of rows, so
 * counting is enough. Returns the number of the next term. */
static inline int64_t terms_of(struct mb_helds *h, int64_t term, uint16_t g, const float *weight, int64_t k,
                               int64_t i, int64_t end)
{
    const uint16_t *id = (const uint16_t *)(weight + k);
    int64_t src;

    if (end == i + 1)
        src = h->lone_n[g]++;
    else if (mb_cut_whole(id, k, i, end - 1))
        src = -1 - h->inner_n[g]++;
    else
        return part_terms(h, term, g, weight, (int32_t)k, (int32_t)i, (int32_t)end);
    h->term[term] = (struct mb_term){(int32_t)src, g, id[i], weight[i]};
    return term + 1;
}

static inline void take(struct mb_takes *t, const uint8_t *meta, int64_t hit, int64_t row)
{
    t->order[t->n] = (int32_t)row;
    t->row[t->n++] = (struct mb_taken){meta, hit};
}

/* Of rows that are left, as many as there is certainly room for. */
static inline int64_t room_of(const struct mb_takes *t, int64_t rows, int32_t k)
{
    int64_t hits = (t->hits_room - t->hits) / k, n = t->rows_room - t->n;

    n = rows < n ? rows : n;
    return n < hits ? n : hits;
}

/* ---------------------------------------------------------------- own rows */
struct reach {
    int32_t domain, row;
};

/* Own terms apart, to leave the loop over others' its registers. */
static __attribute__((noinline)) struct walk own_terms(struct mb_route *r, struct walk w, const float *weight,
                                                       int64_t i, int64_t end)
{
    return terms_here(r, w, weight, i, end);
}

/* The regions of an own row that says which copies serve it. */
static void own_regions(const struct mb_route *r, const uint16_t *id, uint16_t *g)
{
    const uint8_t *copy = mb_meta_copy(r, id);

    for (int32_t j = 0; j < r->k; j++)
        g[j] = (uint16_t)r->owners.region_own[mb_route_chosen(r, id[j], copy[j])];
}

/* Own rows [row, end), for which there is room; to: behind the list of what is reached. Returns the place
 * behind it. */
static inline __attribute__((always_inline)) struct reach *walk_rows(struct mb_route *r, int64_t row, int64_t end,
                                                                     struct reach *to, bool chosen)
{
    struct mb_own_rows *o = &r->own;
    const int64_t k = r->k, bytes = r->meta_bytes;
    const uint8_t *meta = o->meta + row * bytes;
    const uint16_t *at = r->owners.at;
    uint16_t g_of[MB_ROUTE_MAX_K];
    int32_t *value = r->held.value + r->held.values;
    struct walk w = begin_walk(r);

    for (; row < end; row++, meta += bytes) {
        const float *weight = (const float *)meta;
        const uint16_t *id = (const uint16_t *)(weight + k);
        int64_t first = w.hit;
        *value++ = (int32_t)w.term;
        if (chosen)
            own_regions(r, id, g_of);
        for (int64_t i = 0, from = 0; i < k; from = i) {
            uint16_t g = chosen ? g_of[i] : at[id[i]];
            for (i++; i < k && (chosen ? g_of[i] : at[id[i]]) == g; i++)
                continue;
            if (g == 0) {
                w = own_terms(r, w, weight, from, i);
                continue;
            }
            w.term = terms_of(&r->held, w.term, g, weight, k, from, i);
            int32_t d = o->domain[g];
            if (o->mark[d] == row)
                continue;
            o->mark[d] = (int32_t)row;
            o->send_at[d + 1]++;
            *to++ = (struct reach){d, (int32_t)row};
        }
        if (w.hit > first)
            take(&r->take, meta, first, row - o->r0);
    }
    r->held.values = value - r->held.value;
    end_walk(r, w);
    return to;
}

/* The rows of each domain, from the list of what was reached. */
static void list_sends(struct mb_own_rows *o, int32_t domains, const struct reach *from,
                       const struct reach *end)
{
    int64_t *at = o->send_at;
    int32_t *send = o->send;

    for (int32_t b = 0; b < domains; b++)
        at[b + 1] += at[b];
    for (; from < end; from++)
        send[at[from->domain]++] = from->row;
    for (int32_t b = domains; b > 0; b--)
        at[b] = at[b - 1];
    at[0] = 0;
}

static void walk_own(struct mb_route *r)
{
    struct mb_own_rows *o = &r->own;
    struct reach *list = (struct reach *)r->scratch, *to = list;
    int32_t domains = r->cut.domains;

    memset(o->mark, 0xff, (size_t)domains * sizeof *o->mark);
    memset(o->send_at, 0, ((size_t)domains + 1) * sizeof *o->send_at);
    r->held.value[0] = 0;
    for (int64_t i = o->r0, n; i < o->r1 && !r->full; i += n) {
        n = room_of(&r->take, o->r1 - i, r->k);
        if (n > 0)
            to = r->chosen ? walk_rows(r, i, i + n, to, true) : walk_rows(r, i, i + n, to, false);
        r->full = n <= 0; /* the quotas of all members leave room for own rows */
    }
    list_sends(o, domains, list, to);
    mb_route_end_run(&r->take, r->cut.me, mb_cut_place(&r->cut), 0);
}

static void begin_round(struct mb_route *r)
{
    struct mb_takes *t = &r->take;
    struct mb_helds *h = &r->held;

    r->full = false;
    t->n = t->hits = t->runs = 0;
    t->first = t->first_row = t->first_run = 0;
    h->n = 1;
    h->terms = h->values = 0;
    h->rows = r->own.r1 - r->own.r0;
    h->block[0] = (struct mb_block){
        .home = r->cut.me, .rows = h->rows, .meta = r->own.meta + r->own.r0 * r->meta_bytes};
    memset(h->lone_n, 0, (size_t)h->regions * sizeof *h->lone_n);
    memset(h->inner_n, 0, (size_t)h->regions * sizeof *h->inner_n);
    memset(t->begin, 0, ((size_t)r->owners.n + 1) * sizeof *t->begin);
}

void mb_route_round(struct mb_route *r, int32_t round)
{
    struct mb_own_rows *o = &r->own;
    struct mb_block *b = &r->held.block[0];

    o->round = round;
    o->r0 = round < o->rounds ? o->first[round] : o->m;
    o->r1 = round < o->rounds ? o->first[round + 1] : o->m;
    begin_round(r);
    walk_own(r);
    b->taken_end = r->take.n;
    b->value_end = b->inner = r->held.values;
}

void mb_route_none(struct mb_route *r)
{
    r->owners.n = 0;
    r->own.m = 0;
    r->own.rounds = 1;
    r->own.first[0] = r->own.first[1] = 0;
    mb_route_round(r, 0);
}

/* ---------------------------------------------------------------- rows of other homes */
/* The regions of a row's ids, MB_NOBODY behind the last one. False: an id is none. */
static inline bool regions_of(const struct mb_route *r, const uint16_t *region, const uint16_t *id,
                              uint16_t *g, uint8_t *wanted)
{
    const int32_t ids = r->ids, k = r->k;
    const uint16_t near = (uint16_t)mb_cut_near(&r->cut);
    uint8_t any = 0;

    for (int32_t j = 0; j < k; j++) {
        if (id[j] >= ids)
            return false;
        g[j] = region[id[j]];
        any |= (uint16_t)(g[j] - 1) < near;
    }
    g[k] = MB_NOBODY;
    *wanted = any;
    return true;
}

/* The same of rows that say which copies serve them. */
static bool chosen_regions(const struct mb_route *r, const uint16_t *id, uint16_t *g, uint8_t *wanted)
{
    const uint8_t *copy = mb_meta_copy(r, id);
    const int32_t k = r->k, near = mb_cut_near(&r->cut);
    uint8_t any = 0;

    for (int32_t j = 0; j < k; j++) {
        int32_t by = id[j] < r->ids ? mb_route_chosen(r, id[j], copy[j]) : -1;
        if (by < 0)
            return false;
        g[j] = (uint16_t)r->owners.region[by]; /* none is MB_NOBODY too */
        any |= g[j] != 0 && g[j] <= near;
    }
    g[k] = MB_NOBODY;
    *wanted = any;
    return true;
}

/* The value of places [i, last]: its terms, region by region. */
static inline struct walk value_of(struct mb_route *r, struct walk w, const float *weight, const uint16_t *g,
                                   int32_t i, int32_t last)
{
    r->held.value[r->held.values++] = (int32_t)(last > i ? w.term : -1 - w.term);
    while (i <= last) {
        int32_t first = i++;
        while (i <= last && g[i] == g[first])
            i++;
        if (g[first] == 0)
            w = terms_here(r, w, weight, first, i);
        else
            w.term = terms_of(&r->held, w.term, g[first], weight, r->k, first, i);
    }
    return w;
}

/* The values of a row: the largest nodes of the tree among the places that this domain has. */
static inline struct walk values_of(struct mb_route *r, struct walk w, const float *weight, const uint16_t *g,
                                    int64_t *inner)
{
    const int32_t k = r->k;
    const uint16_t *id = (const uint16_t *)(weight + k);

    for (int32_t i = 0, last, end = -1; i < k; i = last + 1) {
        last = i;
        if (g[i] == MB_NOBODY)
            continue;
        if (end < i)
            for (end = i; g[end + 1] != MB_NOBODY; end++)
                continue;
        last = mb_cut_node(id, k, i, end);
        *inner += last > i;
        w = value_of(r, w, weight, g, i, last);
    }
    return w;
}

bool mb_route_walk(struct mb_route *r, struct mb_block *b)
{
    const uint16_t *region = r->chosen ? NULL : mb_owners_of(&r->owners, b->home);
    uint8_t *wanted = r->held.wanted + b->at;
    struct walk w = begin_walk(r);
    const uint8_t *meta = b->meta;
    uint16_t g[MB_ROUTE_MAX_K + 1];
    bool good = true;

    for (int64_t i = 0; i < b->rows; i++, meta += r->meta_bytes) {
        int64_t first = w.hit;
        r->full |= w.hit + r->k > r->take.hits_room || r->take.n == r->take.rows_room;
        good = r->chosen ? chosen_regions(r, mb_meta_id(r, meta), g, &wanted[i])
                         : regions_of(r, region, mb_meta_id(r, meta), g, &wanted[i]);
        if (!good || r->full)
            break;
        w = values_of(r, w, (const float *)meta, g, &b->inner);
        if (w.hit > first)
            take(&r->take, meta, first, i);
    }
    end_walk(r, w);
    b->value_end = r->held.values;
    mb_route_end_run(&r->take, b->home, mb_cut_place(&r->cut), b->taken);
    return good;
}
