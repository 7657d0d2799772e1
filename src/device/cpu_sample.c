/* Sampling (doc/numerics, "Sampling"). The order (value descending, id ascending) is never made whole: block
 * maxima bound what its head can hold, and only that is collected and sorted. The draw is argmax(z + Gumbel
 * noise); most noise is small, so what cannot reach the best so far is skipped before its noise is computed.
 * Neither changes a result. */
#include <math.h>
#include <string.h>
#include "device/cpu_logits.h"

#define BLOCK 32
#define PROBS 64
#define MOST_NOISE 16.7f /* above the largest value of mb_gumbel */

struct sample {
    struct mb_view out, z, stats, rows, adjust, masks;
    const struct mb_vec *vec;
    unsigned char *scratch; /* per thread: see struct draw */
    int64_t scratch_size;
};

/* One row under way. */
struct draw {
    const struct sample *t;
    struct mb_sample_row p;
    const float *z; /* [V] adjusted and divided by the temperature */
    int64_t V, blocks;
    float *work;        /* [V] */
    float *top;         /* [blocks] block maxima */
    float *select;      /* [blocks] */
    uint64_t *list;     /* [V] head of the order: see key_of */
    uint64_t *swap;     /* [V] */
    int64_t have;       /* entries of list */
    float reached;      /* every z >= reached is in list */
    float z_max, least; /* least: the min-p bound */
};

/* ---------------------------------------------------------------- adjustments */
static float adjust_one(float z, const struct mb_sample_row *p, const struct mb_sample_adjust *a)
{
    if (p->repetition != 1.0f && (a->in_prompt || a->n_out > 0))
        z = z < 0 ? z * p->repetition : z / p->repetition;
    if (a->n_out > 0) {
        z = z - p->frequency * (float)a->n_out;
        z = z - p->presence;
    }
    return z + a->bias;
}

/* -inf where the bits of a word have none: 32 values. Most words have all, none or few. */
static void mask_word(float *z, uint32_t word)
{
    float was[32];

    if (word == UINT32_MAX)
        return;
    if (__builtin_popcount(word) >= 16) {
        for (uint32_t left = ~word; left != 0; left &= left - 1)
            z[__builtin_ctz(left)] = -INFINITY;
        return;
    }
    if (word != 0)
        memcpy(was, z, sizeof was);
    for (int j = 0; j < 32; j++)
        z[j] = -INFINITY;
    for (uint32_t left = word; left != 0; left &= left - 1)
        z[__builtin_ctz(left)] = was[__builtin_ctz(left)];
}

/* -inf where the row's mask has no bit. */
static void apply_mask(const struct draw *d)
{
    const int32_t *bits = mb_row_i32(d->t->masks, d->p.mask - 1);
    int64_t whole = d->V / 32;

    for (int64_t i = 0; i < whole; i++)
        mask_word(d->work + 32 * i, (uint32_t)bits[i]);
    for (int64_t i = 32 * whole; i < d->V; i++)
        d->work[i] = (uint32_t)bits[whole] >> i % 32 & 1 ? d->work[i] : -INFINITY;
}

/* d->z from the raw row: penalties and biases on a copy, the mask, then the temperature. */
static void prepare(struct draw *d, const float *raw)
{
    const struct sample *t = d->t;
    d->z = raw;
    if (d->p.adj_end > d->p.adj_begin || d->p.only || d->p.mask) {
        for (int64_t i = 0; i < d->V && d->p.only; i++)
            d->work[i] = -INFINITY;
        if (!d->p.only)
            memcpy(d->work, raw, (size_t)d->V * sizeof *raw);
        for (int32_t j = d->p.adj_begin; j < d->p.adj_end; j++) {
            struct mb_sample_adjust a;
            memcpy(&a, mb_row(t->adjust, j), sizeof a);
            d->work[a.id] = adjust_one(raw[a.id], &d->p, &a);
        }
        if (d->p.mask)
            apply_mask(d);
        d->z = d->work;
    }
    if (d->p.temperature > 0 && d->p.temperature != 1.0f) {
        t->vec->div(d->work, d->z, d->p.temperature, d->V);
        d->z = d->work;
    }
}

/* ---------------------------------------------------------------- the head of the order */
/* Ascending keys are the order: value descending (as integers, -0 = +0), then id. */
static uint64_t key_of(float z, int64_t id)
{
    uint32_t u = mb_bits_of(z + 0.0f);
    u = u >> 31 ? u : ~u & 0x7fffffffu;
    return (uint64_t)u << 32 | (uint64_t)id;
}

static int64_t id_of(uint64_t key)
{
    return (int64_t)(key & 0xffffffffu);
}

/* Sorts by the keys' values; stable, so entries that come with ascending ids end in the order. */
static void sort_by_value(uint64_t *list, uint64_t *swap, int64_t n)
{
    for (int shift = 32; shift < 64; shift += 8) {
        int64_t at[257] = {0};
        for (int64_t i = 0; i < n; i++)
            at[(list[i] >> shift & 255) + 1]++;
        for (int d = 0; d < 256; d++)
            at[d + 1] += at[d];
        for (int64_t i = 0; i < n; i++)
            swap[at[list[i] >> shift & 255]++] = list[i];
        uint64_t *other = list;
        list = swap;
        swap = other;
    }
}

/* The k-th largest (k >= 1) of v[0 .. n), which is reordered. */
static float kth_largest(float *v, int64_t n, int64_t k)
{
    int64_t lo = 0, hi = n - 1, want = k - 1;
    while (lo < hi) {
        float pivot = v[lo + (hi - lo) / 2];
        int64_t i = lo, j = hi;
        while (i <= j) {
            while (v[i] > pivot)
                i++;
            while (v[j] < pivot)
                j--;
            if (i <= j) {
                float swap = v[i];
                v[i++] = v[j];
                v[j--] = swap;
            }
        }
        if (want <= j)
            hi = j;
        else if (want >= i)
            lo = i;
        else
            return v[want];
    }
    return v[want];
}

/* A value that at least k values of the row reach, close to the k-th largest: of the block maxima where k is
 * small against their number, else of all values. */
static float bound_of(const struct draw *d, int64_t k)
{
    bool few = k <= d->blocks / 4;
    const float *from = few ? d->top : d->z;
    int64_t n = 0, all = few ? d->blocks : d->V;
    for (int64_t i = 0; i < all; i++) /* NaN (an error row) would upset the selection */
        if (from[i] == from[i])
            d->select[n++] = from[i];
    return k <= n ? kth_largest(d->select, n, k) : -INFINITY;
}

/* Extends the list so that it holds at least k entries, or all. New entries are smaller than the old ones, so
 * sorting them alone keeps the whole in order. */
static void head(struct draw *d, int64_t k)
{
    if (d->have >= k || d->reached == -INFINITY)
        return;
    float bound = bound_of(d, k);
    int64_t old = d->have;
    for (int64_t b = 0; b < d->blocks; b++) {
        if (d->top[b] < bound)
            continue;
        int64_t end = (b + 1) * BLOCK < d->V ? (b + 1) * BLOCK : d->V;
        for (int64_t i = b * BLOCK; i < end; i++)
            if (d->z[i] >= bound && !(d->z[i] >= d->reached))
                d->list[d->have++] = key_of(d->z[i], i);
    }
    d->reached = bound;
    sort_by_value(d->list + old, d->swap, d->have - old);
}

/* Σ exp(z - z_max) over the vocabulary: of the raw logits it is known already. */
static double sum_of_all(const struct draw *d, int64_t row)
{
    if (d->z != d->work)
        return (double)mb_row_f32(d->t->stats, row)[1];
    struct mb_osm leaf[MB_VOCAB_LEAVES];
    for (int64_t k = 0; k < MB_VOCAB_LEAVES; k++)
        leaf[k] = mb_vocab_leaf_state(d->t->vec, d->z, d->V, k, NULL);
    return (double)mb_vocab_tree(leaf).l;
}

/* p of entries j .. end - 1, at most PROBS of them; returns how many. */
static int64_t probs(const struct draw *d, int64_t j, int64_t end, double *p)
{
    float z[PROBS];
    int64_t n = end - j < PROBS ? end - j : PROBS;
    for (int64_t i = 0; i < n; i++)
        z[i] = d->z[id_of(d->list[j + i])];
    d->t->vec->exp64(p, z, d->z_max, n);
    return n;
}

/* The f64 sum of the first n entries' p, in order. */
static double sum_of_first(const struct draw *d, int64_t n)
{
    double p[PROBS], sum = 0;
    for (int64_t j = 0; j < n; j += PROBS) {
        int64_t m = probs(d, j, n, p);
        for (int64_t i = 0; i < m; i++)
            sum += p[i];
    }
    return sum;
}

/* How many of the order's first `most` entries top-p keeps; at least one. */
static int64_t top_p_count(struct draw *d, int64_t most, double total)
{
    double enough = (double)d->p.top_p * total, sum = 0, p[PROBS];
    for (int64_t j = 0; j < most;) {
        if (d->have <= j)
            head(d, j < 64 ? 64 : 8 * j);
        int64_t n = probs(d, j, most < d->have ? most : d->have, p);
        for (int64_t i = 0; i < n; i++) {
            sum += p[i];
            if (sum >= enough)
                return j + i + 1;
        }
        if (n <= 0)
            return d->have;
        j += n;
    }
    return most;
}

/* Number of entries of the order that top-k and top-p keep; they are in d->list. */
static int64_t kept(struct draw *d, int64_t row)
{
    int64_t most = d->V;
    double total = 0;
    if (d->p.top_k > 0 && d->p.top_k < d->V) {
        most = d->p.top_k;
        head(d, most);
        most = most < d->have ? most : d->have;
        if (d->p.top_p < 1)
            total = sum_of_first(d, most);
    } else {
        total = sum_of_all(d, row);
    }
    return d->p.top_p < 1 ? top_p_count(d, most, total) : most;
}

/* ---------------------------------------------------------------- the draw */
struct best {
    float v;
    int64_t id;
};

static void offer(struct best *b, float v, int64_t id)
{
    if (v > b->v || (v == b->v && id < b->id))
        *b = (struct best){v, id};
}

static int64_t draw_from_list(const struct draw *d, int64_t n)
{
    int64_t first = id_of(d->list[0]);
    struct best b = {d->z[first] + mb_gumbel(d->p.key, d->p.position, (int32_t)first), first};
    for (int64_t j = 1; j < n; j++) {
        int64_t id = id_of(d->list[j]);
        if (d->z[id] >= d->least && d->z[id] + MOST_NOISE >= b.v)
            offer(&b, d->z[id] + mb_gumbel(d->p.key, d->p.position, (int32_t)id), id);
    }
    return b.id;
}

static int64_t draw_from_all(const struct draw *d, int64_t first)
{
    struct best b = {d->z[first] + mb_gumbel(d->p.key, d->p.position, (int32_t)first), first};
    for (int64_t i = 0; i < d->V; i += 64) {
        float top = d->top[i / BLOCK];
        if (i + BLOCK < d->V && d->top[i / BLOCK + 1] > top)
            top = d->top[i / BLOCK + 1];
        if (top < d->least || top + MOST_NOISE < b.v)
            continue;
        uint32_t x[64];
        float slack = 1e-5f * (fabsf(b.v) + fabsf(top)); /* of the roundings in z + g */
        uint64_t hit = d->t->vec->noise64(x, d->p.key, d->p.position, (uint32_t)(i / 4), b.v - top - slack);
        for (; hit != 0; hit &= hit - 1) {
            int64_t j = __builtin_ctzll(hit);
            if (i + j < d->V && d->z[i + j] >= d->least && d->z[i + j] + MOST_NOISE >= b.v)
                offer(&b, d->z[i + j] + mb_gumbel_of(x[j]), i + j);
        }
    }
    return b.id;
}

static int64_t draw_row(struct draw *d, int64_t row)
{
    bool finite;
    d->z_max = d->t->vec->max(d->z, d->V, &finite);
    int64_t first = d->t->vec->find(d->z, d->z_max, d->V);
    first = first < d->V ? first : 0; /* nothing but NaN: the row is an error row, any id will do */
    if (!(d->p.temperature > 0))
        return first;
    d->least = d->p.min_p > 0 ? d->z_max + mb_logf(d->p.min_p) : -INFINITY;
    d->t->vec->block_max(d->top, d->z, d->V);
    bool top_k = d->p.top_k > 0 && d->p.top_k < d->V;
    if (!top_k && !(d->p.top_p < 1))
        return draw_from_all(d, first);
    int64_t n = kept(d, row);
    return d->have > 0 ? draw_from_list(d, n) : first;
}

static void sample_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct sample *t = arg;
    unsigned char *mine = t->scratch + thread * t->scratch_size;
    int64_t V = t->z.cols, blocks = (V + BLOCK - 1) / BLOCK;
    for (int64_t i = begin; i < end; i++) {
        struct draw d = {.t = t, .V = V, .blocks = blocks, .reached = INFINITY};
        memcpy(&d.p, mb_row(t->rows, i), sizeof d.p);
        d.list = (uint64_t *)(void *)mine;
        d.swap = d.list + V;
        d.work = (float *)(void *)(d.swap + V);
        d.select = d.work + V;
        d.top = d.select + V;
        prepare(&d, mb_row_f32(t->z, i));
        *mb_row_i32(t->out, i) = (int32_t)draw_row(&d, i);
    }
}

static enum mb_status check_rows(const struct sample *t)
{
    for (int64_t i = 0; i < t->rows.rows; i++) {
        struct mb_sample_row p;
        memcpy(&p, mb_row(t->rows, i), sizeof p);
        if (p.adj_begin < 0 || p.adj_end < p.adj_begin || p.adj_end > t->adjust.rows)
            return mb_error(MB_BUG, "sample: row %lld has adjustments %d .. %d of %lld", (long long)i,
                            p.adj_begin, p.adj_end, (long long)t->adjust.rows);
        if (p.mask < 0 || p.mask > t->masks.rows)
            return mb_error(MB_BUG, "sample: row %lld has mask %d of %lld", (long long)i, p.mask, (long long)t->masks.rows);
    }
    for (int64_t j = 0; j < t->adjust.rows; j++) {
        struct mb_sample_adjust a;
        memcpy(&a, mb_row(t->adjust, j), sizeof a);
        if (a.id < 0 || a.id >= t->z.cols)
            return mb_error(MB_BUG, "sample: adjustment %lld is for token %d of %lld", (long long)j, a.id,
                            (long long)t->z.cols);
    }
    return MB_OK;
}

enum mb_status mb_cpu_sample(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats,
                             struct mb_view rows, struct mb_view adjust, struct mb_view masks)
{
    MB_TRY(mb_check_sample(out, z, stats, rows, adjust, masks));
    if (z.rows == 0)
        return MB_OK;
    struct sample t = {out, z, stats, rows, adjust, masks, mb_vec_of(s->dev), NULL, 0};
    MB_TRY(check_rows(&t));
    t.scratch_size = (z.cols * 24 + (z.cols + BLOCK - 1) / BLOCK * 4 + 63) / 64 * 64;
    t.scratch = mb_cpu_scratch(s, (uint64_t)(t.scratch_size * s->dev->threads));
    if (t.scratch == NULL)
        return MB_NO_MEMORY;
    mb_cpu_run(s->dev, z.rows, 1, sample_rows, &t);
    return MB_OK;
}
