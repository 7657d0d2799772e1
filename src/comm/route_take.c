/* Rows that arrive, as far as this member has experts of theirs. */
#include <string.h>
#include "comm/route.h"

/* The first of k ascending ids that is not below lo, from a guess on, which is a place: its place, or k. */
static inline int64_t first_from(const uint16_t *id, int64_t k, int64_t guess, int32_t lo)
{
    int64_t j = guess;

    if (id[j] < lo) {
        for (j++; j < k && id[j] < lo; j++)
            continue;
        return j;
    }
    while (j > 0 && id[j - 1] >= lo)
        j--;
    return j;
}

/* Takes rows [i, end), for which there is room, where the ids served here are a range: those of a row are
 * neighbours. */
static void take_range(struct mb_route *r, const uint8_t *meta, int64_t i, int64_t end)
{
    struct mb_takes *t = &r->take;
    const int64_t k = r->k, bytes = r->meta_bytes;
    const int32_t lo = r->owners.own[0];
    const int64_t guess = (int64_t)lo * k / r->ids;
    const uint32_t most = (uint32_t)r->owners.n;
    struct mb_hit *hit = t->hit;
    struct mb_taken *row = t->row;
    int64_t *count = t->begin + 1, n = t->n, h = t->hits;
    int32_t *at = t->order;

    for (meta += i * bytes; i < end; i++, meta += bytes) {
        const uint16_t *id = (const uint16_t *)(meta + 4 * k);
        int64_t j = first_from(id, k, guess, lo);
        uint32_t s;
        if (j == k || (s = (uint32_t)(id[j] - lo)) >= most)
            continue;
        row[n] = (struct mb_taken){meta, h};
        at[n] = (int32_t)i;
        do {
            hit[h++] = (struct mb_hit){(int32_t)s, (int32_t)n, (int32_t)j};
            count[s]++;
        } while (++j < k && (s = (uint32_t)(id[j] - lo)) < most);
        n++;
    }
    t->hits = h;
    t->n = n;
}

/* Whether one of rows [i, end) has an expert here. */
static bool any_wanted(const struct mb_route *r, const uint8_t *meta, int64_t i, int64_t end)
{
    for (; i < end; i++) {
        const uint16_t *id = mb_meta_id(r, meta + i * r->meta_bytes);
        int64_t j = first_from(id, r->k, 0, r->owners.own[0]);
        if (j < r->k && id[j] - r->owners.own[0] < r->owners.n)
            return true;
    }
    return false;
}

/* As many rows at a time as there is certainly room for. */
static void take_ranges(struct mb_route *r, const uint8_t *meta, int64_t rows)
{
    struct mb_takes *t = &r->take;

    for (int64_t i = 0, n; i < rows; i += n) {
        int64_t hits = (t->hits_room - t->hits) / r->k, room = t->rows_room - t->n;
        n = rows - i < room ? rows - i : room;
        n = n < hits ? n : hits;
        if (n <= 0) {
            r->full |= any_wanted(r, meta, i, rows);
            return;
        }
        take_range(r, meta, i, i + n);
    }
}

/* The same for any ids. False: one is none. */
static bool take_any(struct mb_route *r, const uint16_t *region, const uint8_t *meta, int64_t rows)
{
    struct mb_takes *t = &r->take;
    const int32_t *slot = r->owners.slot, k = r->k, ids = r->ids;
    int64_t *count = t->begin + 1;

    for (int32_t i = 0; i < rows; i++, meta += r->meta_bytes) {
        const uint16_t *id = mb_meta_id(r, meta);
        int64_t first = t->hits;
        if (first + k > t->hits_room || t->n == t->rows_room) {
            r->full = true;
            break;
        }
        for (int32_t j = 0; j < k; j++) {
            if (id[j] >= ids)
                return false;
            if (region[id[j]] != 0)
                continue;
            t->hit[t->hits++] = (struct mb_hit){slot[id[j]], (int32_t)t->n, j};
            count[slot[id[j]]]++;
        }
        if (t->hits == first)
            continue;
        t->order[t->n] = i;
        t->row[t->n++] = (struct mb_taken){meta, first};
    }
    return true;
}

/* Of rows that say which copies serve them. */
static bool take_chosen(struct mb_route *r, const uint8_t *meta, int64_t rows)
{
    struct mb_takes *t = &r->take;
    const int32_t *slot = r->owners.slot, k = r->k, ids = r->ids, me = r->cut.me;
    int64_t *count = t->begin + 1;

    for (int32_t i = 0; i < rows; i++, meta += r->meta_bytes) {
        const uint16_t *id = mb_meta_id(r, meta);
        const uint8_t *copy = mb_meta_copy(r, id);
        int64_t first = t->hits;
        if (first + k > t->hits_room || t->n == t->rows_room) {
            r->full = true;
            break;
        }
        for (int32_t j = 0; j < k; j++) {
            int32_t by = id[j] < ids ? mb_route_chosen(r, id[j], copy[j]) : -1;
            if (by < 0)
                return false;
            if (by != me)
                continue;
            t->hit[t->hits++] = (struct mb_hit){slot[id[j]], (int32_t)t->n, j};
            count[slot[id[j]]]++;
        }
        if (t->hits == first)
            continue;
        t->order[t->n] = i;
        t->row[t->n++] = (struct mb_taken){meta, first};
    }
    return true;
}

bool mb_route_take_rows(struct mb_route *r, int32_t home, int32_t agent, const uint8_t *meta, int64_t rows)
{
    int64_t from = r->take.n;
    bool good = true;

    if (rows == 0 || r->owners.n == 0)
        return true;
    if (r->chosen)
        good = take_chosen(r, meta, rows);
    else if (r->owners.range)
        take_ranges(r, meta, rows);
    else
        good = take_any(r, mb_owners_of(&r->owners, home), meta, rows);
    mb_route_end_run(&r->take, home, agent, from);
    return good;
}

int64_t mb_route_hold(struct mb_route *r, int32_t j, int32_t home, int64_t rows, const uint8_t *meta)
{
    struct mb_helds *h = &r->held;
    struct mb_block *b = &h->block[h->n];
    int64_t n = r->take.n;

    if (rows < 0 || rows > h->room - h->rows)
        return -1;
    *b = (struct mb_block){home, rows, h->rows, meta, n, n, h->values, h->values, 0};
    bool alone = mb_cut_near(&r->cut) == 1;
    if (rows > 0 &&
        !(alone ? mb_route_take_rows(r, home, mb_cut_place(&r->cut), meta, rows) : mb_route_walk(r, b)))
        return -1;
    b->taken_end = r->take.n;
    h->source[j] = h->n++;
    h->rows += rows;
    return b->taken_end - b->taken;
}

/* The integers of rows taken from number `from` on, whose memory does not last. A term that stands alone
 * needs none. */
static void copy_metas(struct mb_route *r, int64_t from)
{
    struct mb_takes *t = &r->take;
    int64_t each = r->meta_bytes;

    if (t->n > t->copied_room) {
        r->full = true;
        return;
    }
    for (int64_t i = from; i < t->n; i++) {
        if (t->row[i + 1].hit - t->row[i].hit == 1 && !r->tagged) {
            t->row[i].meta = NULL;
            continue;
        }
        memcpy(t->copied + i * each, t->row[i].meta, (size_t)each);
        t->row[i].meta = t->copied + i * each;
    }
}

int64_t mb_route_take(struct mb_route *r, int32_t home, int32_t agent, const uint8_t *meta, int64_t rows)
{
    int64_t from = r->take.n;

    if (!mb_route_take_rows(r, home, agent, meta, rows))
        return -1;
    copy_metas(r, from);
    return r->take.n - from;
}
