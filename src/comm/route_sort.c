/* Rows that are taken to their experts: by expert, tag, home and row. */
#include <string.h>
#include "comm/route.h"

void mb_route_bucket(struct mb_route *r, int32_t keys, bool by_agent, int64_t from)
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
    struct mb_hit *hit = t->hit + t->row[i].hit, *last = t->hit + t->row[end].hit;
    int64_t *fill = t->fill;
    int32_t first = (int32_t)t->first;

    for (; hit < last; hit++) {
        int64_t to = fill[hit->row]++;
        hit->row = (int32_t)to + first;
        idx[to] = hit->taken;
    }
}

int64_t mb_route_sort(struct mb_route *r, int32_t *idx)
{
    struct mb_takes *t = &r->take;
    int64_t runs = t->runs - t->first_run, rows = t->n - t->first_row, n = t->hits - t->first;
    int32_t own = r->owners.n;

    mb_route_bucket(r, r->cut.n, false, t->first_run);
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
