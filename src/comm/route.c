/* Own rows of an exchange: their integers in the order of the tree, who serves what, and the rounds. */
#include "comm/route.h"

#include <string.h>
#include "base/log.h"

void mb_route_init(struct mb_route *r, const struct mb_xchg_quota *quota, int64_t back)
{
    const struct mb_cut *c = &r->cut;
    struct mb_helds *h = &r->held;
    int32_t near = mb_cut_near(c);

    h->regions = 1 + near + c->domains;
    r->own.back = back;
    for (int32_t g = 0; g < h->regions; g++)
        r->own.domain[g] = g > near ? g - 1 - near : c->mine;
    memset(r->own.chosen, 0, ((size_t)r->ids / 64 + 1) * sizeof *r->own.chosen);
    for (int32_t m = 0; m < c->n; m++) {
        bool here = c->of[m] == c->mine;
        h->region[m] = m == c->me ? 0 : here ? 1 + m - c->first[c->mine] : -1;
        h->region_own[m] = here ? h->region[m] : 1 + near + c->of[m];
        struct mb_xchg_quota agent = here ? quota[c->me] : quota[mb_cut_agent(c, c->me, c->of[m])];
        r->own.may[m] = (struct mb_xchg_quota){quota[m].pairs, agent.rows, agent.terms};
    }
}

/* ---------------------------------------------------------------- own rows */
/* A row's choices are put in order by setting a bit for each id: up to so many ids fit a word, and as many
 * words have a bit each in another one. */
enum { WORD = 64, SPAN = WORD * WORD, SPANS = (UINT16_MAX + 1) / SPAN };

/* Lists the ids of a word from number n on, upwards, with their weights. Returns how many there are then. */
static inline int32_t list_word(const uint32_t *weight, uint64_t bits, uint32_t base, int32_t n, uint32_t *w,
                                uint16_t *id)
{
    for (; bits != 0; bits &= bits - 1, n++) {
        uint32_t e = base + (uint32_t)__builtin_ctzll(bits);
        id[n] = (uint16_t)e;
        w[n] = weight[e];
    }
    return n;
}

/* Lists all, of whose words span[] says which have bits; none has any more then. */
static inline int32_t list_spans(const struct mb_own_rows *o, const uint64_t *span, int32_t spans,
                                 uint32_t *w, uint16_t *id)
{
    int32_t n = 0;

    for (int32_t s = 0; s < spans; s++)
        for (uint64_t words = span[s]; words != 0; words &= words - 1) {
            uint32_t at = (uint32_t)s * WORD + (uint32_t)__builtin_ctzll(words);
            n = list_word(o->weight, o->chosen[at], at * WORD, n, w, id);
            o->chosen[at] = 0;
        }
    return n;
}

/* The meta of a row but its tag, and who serves each choice. one: all ids fit a word. False: an id is none,
 * is there twice or has nobody. */
static inline __attribute__((always_inline)) bool make_row(const struct mb_route *r, const int32_t *experts,
                                                           const float *weights, bool one, uint8_t *meta,
                                                           int32_t *served)
{
    const uint16_t *owner = r->owners.mine;
    const struct mb_own_rows *o = &r->own;
    const uint32_t ids = (uint32_t)r->ids;
    const int32_t k = r->k, spans = (r->ids + SPAN - 1) / SPAN;
    uint64_t bits = 0, span[SPANS];
    uint16_t *id = (uint16_t *)(meta + 4 * (int64_t)k), last = 0;
    uint32_t *weight = o->weight;

    for (int32_t s = 0; !one && s < spans; s++)
        span[s] = 0;
    for (int32_t j = 0; j < k; j++) {
        uint32_t e = (uint32_t)experts[j];
        if (e >= ids)
            return false;
        memcpy(&weight[e], weights + j, sizeof *weight);
        uint16_t who = owner[e];
        served[j] = who;
        last = who > last ? who : last; /* MB_NOBODY comes last */
        if (one) {
            bits |= (uint64_t)1 << e;
        } else {
            o->chosen[e / WORD] |= (uint64_t)1 << e % WORD;
            span[e / SPAN] |= (uint64_t)1 << e / WORD % WORD;
        }
    }
    int32_t n = one ? list_word(weight, bits, 0, 0, (uint32_t *)meta, id)
                    : list_spans(o, span, spans, (uint32_t *)meta, id);
    return n == k && last != MB_NOBODY;
}

/* The metas of all own rows. Returns the row that is wrong, or m. */
static inline __attribute__((always_inline)) int64_t
make_rows(const struct mb_route *r, const int32_t *experts, const float *weights, bool one)
{
    const int64_t m = r->own.m, bytes = r->meta_bytes, k = r->k;
    uint8_t *meta = r->own.meta;
    int32_t *served = r->own.served;
    int64_t i = 0;

    for (; i < m; i++, meta += bytes, experts += k, weights += k, served += k)
        if (!make_row(r, experts, weights, one, meta, served))
            break;
    return i;
}

/* What is behind the ids: the tag, and nothing. */
static void end_rows(const struct mb_route *r, const uint16_t *tags)
{
    int32_t n = r->k + r->tagged;

    for (int64_t i = 0; i < r->own.m && (r->tagged || n % 2 != 0); i++) {
        uint16_t *id = (uint16_t *)(r->own.meta + i * r->meta_bytes + 4 * (int64_t)r->k);
        if (n % 2 != 0)
            id[n] = 0;
        if (r->tagged)
            id[r->k] = tags != NULL ? tags[i] : 0;
    }
}

/* Chooses a copy for each of the rows' ids, by turns from this one on. */
static void choose_copies(const struct mb_route *r, int32_t from, const int32_t *experts)
{
    const struct mb_own_rows *o = &r->own;
    const struct mb_serve *v = r->owners.v;
    const int64_t k = r->k, used = 4 * k + 2 * (k + r->tagged);

    memset(o->turn, 0, (size_t)r->ids * sizeof *o->turn);
    for (int64_t i = 0; i < o->m; i++, experts += k) {
        uint8_t *meta = o->meta + i * r->meta_bytes;
        const uint16_t *id = mb_meta_id(r, meta);
        memset(meta + used, 0, (size_t)(r->meta_bytes - used));
        for (int64_t j = 0; j < k; j++) {
            int32_t e = experts[j], copy = mb_serve_turn(v, e, from + o->turn[e]++);
            o->copy[e] = (uint8_t)copy;
            o->served[i * k + j] = v->member[v->first[e] + copy];
        }
        for (int64_t j = 0; j < k; j++)
            meta[used + j] = o->copy[id[j]];
    }
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
        int32_t d = r->chosen ? mb_route_chosen(r, id[j], mb_meta_copy(r, id)[j]) : owner[id[j]], b = r->cut.of[d], i = 0;
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
    memset(r->own.rows, 0, (size_t)r->cut.domains * sizeof *r->own.rows);
    memset(r->own.terms, 0, (size_t)r->cut.domains * sizeof *r->own.terms);
}

/* No limit can be met by so few rows. */
static bool few(const struct mb_route *r, int64_t m, int64_t of)
{
    int64_t pairs = m * r->k;
    bool ok = pairs <= r->own.back || r->cut.domains == 1;

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

enum mb_status mb_route_rows(struct mb_route *r, const struct mb_serve *v, int64_t step, int64_t m, int64_t of,
                             const int32_t *experts, const float *weights, const uint16_t *tags)
{
    struct mb_own_rows *o = &r->own;

    if (v->ids != r->ids || v->members != r->cut.n)
        return mb_error(MB_BUG, "tables for %d ids and %d members: the exchange has %d and %d", v->ids,
                        v->members, r->ids, r->cut.n);
    if (r->chosen != (v->part != NULL) || (r->chosen && v->home != r->cut.me))
        return mb_error(MB_BUG, "tables with%s quotas of copies of member %d: the exchange was made for others", v->part != NULL ? "" : "out",
                        v->home);
    mb_owners_set(&r->owners, v, r->cut.me);
    o->m = m;
    int64_t made =
        r->ids <= WORD ? make_rows(r, experts, weights, true) : make_rows(r, experts, weights, false);
    if (made < m)
        return mb_error(
            MB_BUG,
            "row %lld of the dispatch has experts outside 0 .. %d, one twice, or one that nobody serves",
            (long long)made, r->ids - 1);
    end_rows(r, tags);
    if (r->chosen)
        choose_copies(r, (int32_t)(step % MB_SERVE_TURNS), experts);
    cut_rounds(r, of > m ? of : m);
    return MB_OK;
}
