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
    uint64_t keys[1 + MB_ROUTE_MAX_K], last = UINT64_MAX;
    uint32_t ids = (uint32_t)r->ids, bad = 0, w;
    uint16_t *id = (uint16_t *)(meta + 4 * (int64_t)k);

    keys[0] = 0;                      /* nothing sorts before it */
    for (int32_t j = 0; j < k; j++) { /* an insertion sort of id and weight */
        uint32_t e = (uint32_t)experts[j];
        uint64_t *at = keys + 1 + j;
        if (e >= ids)
            return false;
        memcpy(&w, weights + j, sizeof w);
        uint64_t new = (uint64_t)e << 32 | w;
        bad |= owner[e] == MB_NOBODY;
        served[j] = owner[e];
        for (; at[-1] > new; at--)
            at[0] = at[-1];
        at[0] = new;
    }
    for (int32_t j = 0; j < k; j++) {
        uint64_t e = keys[1 + j] >> 32;
        w = (uint32_t)keys[1 + j];
        memcpy(meta + 4 * (int64_t)j, &w, sizeof w);
        id[j] = (uint16_t)e;
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
    const uint16_t *owner = r->owners.mine;

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
    const uint16_t *owner = r->owners.mine;
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

/* Appends (node, row) for each node that a row must reach, the own node only for another member of it, and
 * counts them. Returns how many integers. */
static int64_t nodes_of_row(struct mb_route *r, int32_t row, int32_t *to)
{
    const uint16_t *id = mb_meta_id(r, r->own.meta + row * r->meta_bytes), *at = r->owners.at;
    int32_t *mark = r->own.mark, far = 1 + mb_cut_near(&r->cut), mine = r->cut.mine, n = 0, k = r->k;
    int64_t *count = r->own.send_at + 1;

    for (int32_t j = 0; j < k; j++) {
        int32_t g = at[id[j]], node = g >= far ? g - far : mine;
        if (g == 0 || mark[node] == row)
            continue;
        mark[node] = row;
        count[node]++;
        to[n++] = node;
        to[n++] = row;
    }
    return n;
}

static void list_sends(struct mb_route *r)
{
    struct mb_own_rows *o = &r->own;
    int32_t *pair = r->scratch, nodes = r->cut.nodes;
    int64_t n = 0, *at = o->send_at;

    memset(o->mark, 0xff, (size_t)nodes * sizeof *o->mark);
    memset(at, 0, ((size_t)nodes + 1) * sizeof *at);
    for (int64_t i = o->r0; i < o->r1; i++)
        n += nodes_of_row(r, (int32_t)i, pair + n);
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
    t->n = t->hits = t->runs = 0;
    t->first = t->first_row = t->first_run = 0;
    memset(t->begin, 0, ((size_t)r->owners.n + 1) * sizeof *t->begin);
    r->held.n = 1;
    r->held.rows = o->r1 - o->r0;
    r->held.block[0] =
        (struct mb_block){.home = r->cut.me, .rows = r->held.rows, .meta = o->meta + o->r0 * r->meta_bytes};
}

void mb_route_none(struct mb_route *r)
{
    r->owners.n = 0;
    r->own.m = r->own.r0 = r->own.r1 = 0;
    r->own.round = 0;
    r->own.rounds = 1;
    memset(r->own.send_at, 0, ((size_t)r->cut.nodes + 1) * sizeof *r->own.send_at);
    r->full = false;
    r->take.n = r->take.hits = r->take.runs = 0;
    r->take.first = r->take.first_row = r->take.first_run = 0;
    r->held.n = 1;
    r->held.rows = 0;
    r->held.block[0] = (struct mb_block){.home = r->cut.me};
}

/* ---------------------------------------------------------------- rows that arrive */
/* The first of k ascending ids that is not below lo. */
static inline const uint16_t *first_from(const uint16_t *at, int32_t k, int32_t lo)
{
    for (int32_t half; k > 1; k -= half) {
        half = k / 2;
        at = at[half - 1] < lo ? at + half : at;
    }
    return at + (k == 1 && at[0] < lo);
}

/* Takes rows while they have experts here and there is room, where the ids served here are a range; first
 * come *skipped rows without. Returns how many were taken. */
static int64_t take_range(struct mb_route *r, const uint8_t *meta, int64_t rows, int64_t *skipped)
{
    const int32_t k = r->k, lo = r->owners.own[0];
    const uint32_t most = (uint32_t)r->owners.n;
    const int64_t bytes = r->meta_bytes, last = r->take.hits_room - k;
    struct mb_hit *hits = r->take.hit, *hit = hits + r->take.hits;
    struct mb_taken *row = r->take.row + r->take.n;
    int64_t *count = r->take.begin + 1, n = 0, skip = 0;

    for (; n + skip < rows && hit - hits <= last; n++, meta += bytes) {
        const uint16_t *id = (const uint16_t *)(meta + 4 * (int64_t)k), *end = id + k,
                       *at = first_from(id, k, lo);
        const struct mb_hit *first = hit;
        for (uint32_t s; at < end && (s = (uint32_t)(*at - lo)) < most; at++) {
            *hit++ = (struct mb_hit){(int32_t)s, (int32_t)(at - id)};
            count[s]++;
        }
        if (hit == first && n > 0)
            break;
        if (hit == first) {
            skip++, n--;
            continue;
        }
        *row++ = (struct mb_taken){meta, first - hits};
    }
    r->full |= hit - hits > last && n + skip < rows;
    *skipped = skip;
    r->take.hits = hit - hits;
    r->take.n += n;
    return n;
}

/* The same for one row and any ids. */
static bool take_row(struct mb_route *r, const uint16_t *region, const uint8_t *meta)
{
    struct mb_takes *t = &r->take;
    const uint16_t *id = mb_meta_id(r, meta);
    const int32_t *slot = r->owners.slot;
    struct mb_hit *hit = t->hit + t->hits;
    int64_t *count = t->begin + 1;
    int32_t n = 0, k = r->k;

    if (t->hits + k > t->hits_room) {
        r->full = true;
        return false;
    }
    for (int32_t j = 0; j < k; j++) {
        if (region[id[j]] != 0)
            continue;
        int32_t s = slot[id[j]];
        hit[n++] = (struct mb_hit){s, j};
        count[s]++;
    }
    if (n > 0)
        t->row[t->n++] = (struct mb_taken){meta, t->hits};
    t->hits += n;
    return n > 0;
}

/* Takes the next rows that follow one another and have experts here, behind *skipped rows without, as far as
 * there is room. Returns how many. */
static int64_t take_some(struct mb_route *r, const uint16_t *region, const uint8_t *meta, int64_t rows,
                         int64_t *skipped)
{
    int64_t room = r->take.rows_room - r->take.n, n = 0, skip = 0;

    if (r->owners.range)
        n = take_range(r, meta, rows < room ? rows : room, &skip);
    for (; !r->owners.range && n + skip < rows && n < room && !r->full; meta += r->meta_bytes) {
        bool here = take_row(r, region, meta);
        if (!here && n > 0)
            break;
        n += here;
        skip += !here;
    }
    r->full |= n == room && n + skip < rows;
    *skipped = skip;
    return n;
}

/* Rows from `from` on were taken: they are a run, or belong to the last one. */
static void end_run(struct mb_takes *t, int32_t home, int32_t agent, int64_t from)
{
    struct mb_run *last = t->run + t->runs;

    t->row[t->n].hit = t->hits;
    if (t->n > from && (t->runs == 0 || last[-1].home != home || last[-1].agent != agent)) {
        *last = (struct mb_run){home, agent, (int32_t)from};
        t->runs++;
    }
    t->run[t->runs].first = (int32_t)t->n;
}

int64_t mb_route_take_own(struct mb_route *r, int32_t *list)
{
    struct mb_block *b = &r->held.block[0];
    int64_t n = 0;

    if (b->rows == 0 || r->owners.n == 0)
        return 0;
    for (int64_t at = 0, skip; at < b->rows && !r->full;) {
        int64_t some = take_some(r, r->owners.at, b->meta + at * r->meta_bytes, b->rows - at, &skip);
        for (at += skip; some > 0; some--)
            list[n++] = (int32_t)at++;
    }
    b->taken_end = n;
    end_run(&r->take, r->cut.me, mb_cut_place(&r->cut), 0);
    return n;
}

/* Whether the tables may be asked for every id of the rows. */
static bool ids_valid(const struct mb_route *r, int64_t rows, const uint8_t *meta)
{
    int32_t worst = -1;

    if (r->owners.range && mb_cut_near(&r->cut) == 1)
        return true; /* none is asked */
    for (int64_t i = 0; i < rows; i++) {
        const uint16_t *id = mb_meta_id(r, meta + i * r->meta_bytes);
        for (int32_t q = 0; q < r->k; q++)
            worst = id[q] > worst ? id[q] : worst;
    }
    return worst < r->ids;
}

bool mb_route_hold(struct mb_route *r, int32_t j, int32_t home, int64_t rows, const uint8_t *meta)
{
    struct mb_helds *h = &r->held;

    if (rows < 0 || rows > h->room - h->rows || !ids_valid(r, rows, meta))
        return false;
    h->source[j] = h->n;
    h->block[h->n++] = (struct mb_block){home, rows, h->rows, meta, r->take.n, r->take.n};
    h->rows += rows;
    return true;
}

/* The integers of taken rows, from `from` on, whose memory does not last. */
static void copy_metas(struct mb_route *r, int64_t from)
{
    struct mb_takes *t = &r->take;
    int64_t n = t->n - from, each = r->meta_bytes;
    uint8_t *to = t->copied + from * each;

    if (t->n > t->copied_room) {
        r->full = true;
        return;
    }
    if (n > 0)
        memcpy(to, t->row[from].meta, (size_t)(n * each));
    for (int64_t i = 0; i < n; i++)
        t->row[from + i].meta = to + i * each;
}

int64_t mb_route_take(struct mb_route *r, int32_t home, int32_t agent, const uint8_t *meta, int64_t rows,
                      bool held, int64_t *at, int64_t *first)
{
    struct mb_takes *t = &r->take;
    int64_t from = t->n, n = 0, skip;

    if (*at >= rows || r->owners.n == 0)
        return 0;
    const uint16_t *region = r->owners.range ? NULL : mb_owners_of(&r->owners, home);
    while (n == 0 && *at < rows && !r->full) {
        n = take_some(r, region, meta + *at * r->meta_bytes, rows - *at, &skip);
        *first = *at + skip;
        *at = *first + n;
    }
    if (!held)
        copy_metas(r, from);
    end_run(t, home, agent, from);
    if (held)
        r->held.block[r->held.n - 1].taken_end = t->n;
    return n;
}

bool mb_route_wanted(struct mb_route *r, int32_t home, const uint8_t *meta)
{
    const uint16_t *id = mb_meta_id(r, meta), *region = mb_owners_of(&r->owners, home);
    uint32_t near = (uint32_t)mb_cut_near(&r->cut);

    for (int32_t j = 0; j < r->k; j++)
        if (region[id[j]] - 1u < near)
            return true;
    return false;
}

/* Runs from `from` on ordered by a key of them: order, home[keys + 1]. */
static void bucket(struct mb_route *r, int32_t keys, bool by_agent, int64_t from)
{
    struct mb_takes *t = &r->take;
    int64_t *first = t->home;

    memset(first, 0, ((size_t)keys + 1) * sizeof *first);
    for (int64_t i = from; i < t->runs; i++)
        first[(by_agent ? t->run[i].agent : t->run[i].home) + 1]++;
    for (int32_t b = 0; b < keys; b++)
        first[b + 1] += first[b];
    for (int64_t i = from; i < t->runs; i++)
        t->order[first[by_agent ? t->run[i].agent : t->run[i].home]++] = (int32_t)i;
    for (int32_t b = keys; b > 0; b--)
        first[b] = first[b - 1];
    first[0] = 0;
}

void mb_route_bucket_agents(struct mb_route *r)
{
    bucket(r, mb_cut_near(&r->cut), true, 0);
}

/* Stable counting sort of the taken rows that are to be sorted, which lie in from[] or by runs, by one byte
 * of their tags. */
static void sort_by_byte(const struct mb_route *r, const int32_t *from, int32_t *to, int shift)
{
    const struct mb_takes *t = &r->take;
    int64_t at[257] = {0}, n = t->n - t->first_row;

    for (int64_t i = t->first_row; i < t->n; i++)
        at[(mb_meta_tag(r, t->row[i].meta) >> shift & 255) + 1]++;
    for (int b = 0; b < 256; b++)
        at[b + 1] += at[b];
    for (int64_t i = 0; from != NULL && i < n; i++)
        to[at[mb_meta_tag(r, t->row[from[i]].meta) >> shift & 255]++] = from[i];
    for (int64_t q = 0; from == NULL && q < t->runs - t->first_run; q++) {
        const struct mb_run *run = &t->run[t->order[q]];
        for (int32_t i = run[0].first; i < run[1].first; i++)
            to[at[mb_meta_tag(r, t->row[i].meta) >> shift & 255]++] = i;
    }
}

/* Gives the hits of taken rows [i, end) their places. idx: of the place 0. */
static inline void place_rows(struct mb_takes *t, int32_t i, int32_t end, int32_t *idx)
{
    struct mb_hit *hit = t->hit + t->row[i].hit;
    int64_t *fill = t->fill, first = t->first;

    for (; i < end; i++)
        for (const struct mb_hit *last = t->hit + t->row[i + 1].hit; hit < last; hit++) {
            int64_t to = fill[hit->row]++;
            hit->row = (int32_t)(first + to);
            idx[to] = i;
        }
}

int64_t mb_route_sort(struct mb_route *r, int32_t *idx)
{
    struct mb_takes *t = &r->take;
    int64_t runs = t->runs - t->first_run, rows = t->n - t->first_row, n = t->hits - t->first;
    int32_t own = r->owners.n;

    bucket(r, r->cut.n, false, t->first_run);
    for (int32_t e = 0; e < own; e++)
        t->begin[e + 1] += t->begin[e];
    memcpy(t->fill, t->begin, (size_t)own * sizeof *t->fill);
    if (r->tagged) {
        sort_by_byte(r, NULL, t->by_tag, 0);
        sort_by_byte(r, t->by_tag, t->order, 8);
    }
    for (int64_t i = 0; r->tagged && i < rows; i++)
        place_rows(t, t->order[i], t->order[i] + 1, idx);
    for (int64_t i = 0; !r->tagged && i < runs; i++)
        place_rows(t, t->run[t->order[i]].first, t->run[t->order[i] + 1].first, idx);
    for (int64_t i = 0; r->tagged && i < n; i++)
        t->tag[t->first + i] = mb_meta_tag(r, t->row[idx[i]].meta);
    return n;
}

int64_t mb_route_sort_own(struct mb_route *r, int32_t *idx)
{
    struct mb_takes *t = &r->take;
    int64_t n = mb_route_sort(r, idx);
    size_t size = ((size_t)r->owners.n + 1) * sizeof *t->begin;

    memcpy(t->begin_own, t->begin, size);
    memset(t->begin, 0, size);
    t->first = t->hits;
    t->first_row = t->n;
    t->first_run = t->runs;
    return n;
}
