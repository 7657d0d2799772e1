/* Helpers of the attention tests: attention written naively from the numeric contract, and a page pool whose
 * sequences lie in shuffled pages. */
#ifndef MB_TESTS_ATTN_HELP_H
#define MB_TESTS_ATTN_HELP_H
#include <math.h>
#include "device_help.h"

struct shape {
    int32_t heads, kv_heads, d, dv, window, segment;
    bool chunked;
    bool v_in_k, sinks;
    float softcap;
    enum mb_dtype q, page, out;
    const unsigned char *chosen; /* [positions]: keys that are seen; NULL: all */
};

static inline bool attn_sees(const struct shape *s, int64_t key, int64_t lo, int64_t hi)
{
    return key >= lo && key <= hi && (s->chosen == NULL || s->chosen[key]);
}

/* The first key that position pos sees. */
static inline int64_t attn_first(const struct shape *s, int32_t pos)
{
    int64_t lo = 0;
    while (s->window > 0 && (s->chunked ? lo / s->window != pos / s->window : pos - lo >= s->window))
        lo++;
    return lo;
}

/* ---------------------------------------------------------------- the contract, naively */
/* keys and values of one sequence as stored: [position][kv head][width] */
struct sequence {
    int32_t length;
    float *k, *v;
};
/* a partial state; o: room for dv */
struct state {
    float m, l, *o;
    bool present;
};

static inline float dot(const float *x, const float *w, int64_t n)
{
    float c = 0;
    for (int64_t b = 0; b < n; b += 32) {
        float e = 0, o = 0;
        for (int64_t k = b; k < b + 32; k += 2) {
            e = fmaf(k < n ? x[k] : 0, k < n ? w[k] : 0, e);
            o = fmaf(k + 1 < n ? x[k + 1] : 0, k + 1 < n ? w[k + 1] : 0, o);
        }
        float s = e + o;
        c = c + s;
    }
    return c;
}

static inline float r32(const float *p, int n)
{
    float t[32] = {0};
    for (int i = 0; i < n; i++)
        t[i % 32] = t[i % 32] + p[i];
    for (int h = 16; h > 0; h /= 2)
        for (int j = 0; j < h; j++)
            t[j] = t[j] + t[j + h];
    return t[0];
}

/* a = a (+) b */
static inline void join(struct state *a, const struct state *b, int32_t dv)
{
    if (!b->present)
        return;
    if (!a->present) {
        memcpy(a->o, b->o, (size_t)dv * sizeof *a->o);
        a->m = b->m;
        a->l = b->l;
        a->present = true;
        return;
    }
    float m = a->m > b->m ? a->m : b->m, e1 = mb_expf(a->m - m), e2 = mb_expf(b->m - m);
    float l2 = b->l * e2;
    a->l = fmaf(a->l, e1, l2);
    for (int32_t c = 0; c < dv; c++) {
        float o2 = b->o[c] * e2;
        a->o[c] = fmaf(a->o[c], e1, o2);
    }
    a->m = m;
}

/* one block of 64 keys at base, of which lo..hi (positions) are visible */
static inline void fold_block(struct state *st, const struct shape *s, const struct sequence *q,
                              const float *query, int32_t head, int64_t base, int64_t lo, int64_t hi,
                              float scale)
{
    float sc[64], p[64] = {0}, pr[64] = {0}, x[64], max = -INFINITY;
    int64_t kw = (int64_t)s->kv_heads * s->d, vw = (int64_t)s->kv_heads * s->dv;
    int32_t kh = head / (s->heads / s->kv_heads);
    for (int64_t i = lo; i <= hi; i++) {
        if (!attn_sees(s, i, lo, hi))
            continue;
        float v = dot(query, q->k + i * kw + kh * s->d, s->d) * scale;
        sc[i - base] = s->softcap != 0 ? mb_softcap(v, s->softcap) : v;
        max = sc[i - base] > max ? sc[i - base] : max;
    }
    float m = st->present && st->m > max ? st->m : max;
    for (int64_t i = lo - base; i <= hi - base; i++) {
        if (!attn_sees(s, base + i, lo, hi))
            continue;
        p[i] = mb_expf(sc[i] - m);
        pr[i] = s->page == MB_BF16 ? mb_bf16_float(mb_bf16_of(p[i])) : p[i];
    }
    float alpha = st->present ? mb_expf(st->m - m) : 0, sum = r32(p, 64);
    st->l = st->present ? fmaf(st->l, alpha, sum) : sum;
    for (int32_t c = 0; c < s->dv; c++) {
        for (int64_t i = 0; i < 64; i++) {
            bool seen = attn_sees(s, base + i, lo, hi);
            x[i] = !seen       ? 0
                   : s->v_in_k ? q->k[(base + i) * kw + kh * s->d + c]
                               : q->v[(base + i) * vw + kh * s->dv + c];
        }
        float pv = dot(pr, x, 64);
        st->o[c] = st->present ? fmaf(st->o[c], alpha, pv) : pv;
    }
    st->m = m;
    st->present = true;
}

/* node [first, first + size) of segments */
static inline struct state node(const struct shape *s, const struct sequence *q, const float *query,
                                int32_t head, int64_t lo, int64_t hi, float scale, int64_t first,
                                int64_t size)
{
    struct state st = {.o = calloc((size_t)s->dv, sizeof(float))};
    int64_t begin = first * s->segment, end = (first + size) * s->segment - 1;
    if (begin > hi || end < lo)
        return st;
    if (size > 1) {
        struct state right = node(s, q, query, head, lo, hi, scale, first + size / 2, size / 2);
        free(st.o);
        st = node(s, q, query, head, lo, hi, scale, first, size / 2);
        join(&st, &right, s->dv);
        free(right.o);
        return st;
    }
    for (int64_t b = begin; b <= end; b += 64) {
        int64_t from = b > lo ? b : lo, to = b + 63 < hi ? b + 63 : hi, n = 0;
        for (int64_t i = from; i <= to; i++)
            n += attn_sees(s, i, lo, hi);
        if (n > 0)
            fold_block(&st, s, q, query, head, b, from, to, scale);
    }
    return st;
}

static inline void naive(float *out, const struct shape *s, const struct sequence *q, const float *query,
                         int32_t head, int32_t pos, float scale, const float *sinks)
{
    int64_t lo = attn_first(s, pos), size = 1;
    while (size * s->segment <= pos)
        size *= 2;
    struct state st = node(s, q, query, head, lo, pos, scale, 0, size);
    if (s->sinks) {
        struct state sink = {sinks[head], 1, calloc((size_t)s->dv, sizeof(float)), true};
        join(&st, &sink, s->dv);
        free(sink.o);
    }
    for (int32_t c = 0; c < s->dv; c++) {
        float v = st.o[c] / st.l;
        out[c] = s->out == MB_BF16 ? mb_bf16_float(mb_bf16_of(v)) : v;
    }
    free(st.o);
}

/* ---------------------------------------------------------------- a pool with sequences in shuffled pages */
enum { SEQS = 3 };
struct pool {
    struct mb_kv *kv;
    struct sequence seq[SEQS];
    int32_t pages, *table; /* of a sequence; [SEQS][pages] */
};

static inline float as_stored(enum mb_dtype t, float v)
{
    return t == MB_BF16 ? mb_bf16_float(mb_bf16_of(v)) : v;
}

static inline void append(struct rig *g, const struct shape *s, struct pool *p, int32_t seq, int32_t from,
                          int32_t to)
{
    int64_t n = to - from, kw = (int64_t)s->kv_heads * s->d, vw = (int64_t)s->kv_heads * s->dv;
    float *k = malloc((size_t)(n * kw) * sizeof *k), *v = malloc((size_t)(n * vw) * sizeof *v);
    int32_t *slot = malloc((size_t)n * sizeof *slot);
    for (int64_t i = 0; i < n * kw; i++) {
        k[i] = rig_value(g, false);
        p->seq[seq].k[from * kw + i] = as_stored(s->page, k[i]);
    }
    for (int64_t i = 0; i < n * vw; i++) {
        v[i] = rig_value(g, false);
        p->seq[seq].v[from * vw + i] = as_stored(s->page, v[i]);
    }
    for (int64_t i = 0; i < n; i++)
        slot[i] = p->table[seq * p->pages + (from + i) / 64] * 64 + (from + (int32_t)i) % 64;
    struct mb_view kv = rig_floats(g, k, n, kw, kw, MB_F32), vv = rig_floats(g, v, n, vw, vw + 3, MB_F32);
    struct mb_view sv = rig_ints(g, slot, n, 1);
    assert_int_equal(g->ops->kv_append(g->s, p->kv, kv, s->v_in_k ? MB_NO_VIEW : vv, sv), MB_OK);
    rig_free(g, kv);
    rig_free(g, vv);
    rig_free(g, sv);
    free(k);
    free(v);
    free(slot);
}

/* Pages are first filled with NaN, as a request that went wrong may have left them. */
static inline void poison(struct rig *g, const struct shape *s, struct mb_kv *kv, int32_t pages)
{
    int64_t n = 64 * pages, kw = (int64_t)s->kv_heads * s->d, vw = (int64_t)s->kv_heads * s->dv;
    float *nan = malloc((size_t)(n * (kw > vw ? kw : vw)) * sizeof *nan);
    int32_t *slot = malloc((size_t)n * sizeof *slot);
    for (int64_t i = 0; i < n * (kw > vw ? kw : vw); i++)
        nan[i] = NAN;
    for (int32_t i = 0; i < n; i++)
        slot[i] = i;
    struct mb_view k = rig_floats(g, nan, n, kw, kw, MB_F32), v = rig_floats(g, nan, n, vw, vw, MB_F32);
    struct mb_view sv = rig_ints(g, slot, n, 1);
    assert_int_equal(g->ops->kv_append(g->s, kv, k, s->v_in_k ? MB_NO_VIEW : v, sv), MB_OK);
    rig_free(g, k);
    rig_free(g, v);
    rig_free(g, sv);
    free(nan);
    free(slot);
}

static inline void pool_make(struct rig *g, const struct shape *s, struct pool *p, const int32_t length[SEQS])
{
    int32_t longest = 0;
    for (int32_t i = 0; i < SEQS; i++)
        longest = length[i] > longest ? length[i] : longest;
    p->pages = longest / 64 + 5;
    p->table = calloc((size_t)(SEQS * p->pages), sizeof *p->table);
    struct mb_kv_desc d = {SEQS * p->pages, s->kv_heads, s->d, s->dv, s->v_in_k, s->page};
    assert_int_equal(g->ops->kv_create(g->dev, &d, &p->kv), MB_OK);
    int64_t width = (int64_t)s->kv_heads * (s->d + (s->v_in_k ? 0 : s->dv)) * mb_dtype_size(s->page);
    assert_true(g->ops->kv_page_bytes(&d) >= (uint64_t)(64 * width));
    poison(g, s, p->kv, d.pages);
    for (int32_t i = 0; i < d.pages; i++) {
        int32_t k = (int32_t)(rig_random(g) % (uint32_t)(i + 1));
        p->table[i] = p->table[k];
        p->table[k] = i;
    }
    for (int32_t i = 0; i < SEQS; i++) {
        p->seq[i].length = length[i];
        p->seq[i].k = calloc((size_t)(length[i] * s->kv_heads * s->d), sizeof(float));
        p->seq[i].v = calloc((size_t)(length[i] * s->kv_heads * s->dv), sizeof(float));
        append(g, s, p, i, 0, length[i] / 2);
        append(g, s, p, i, length[i] / 2, length[i]);
    }
}

static inline void pool_free(struct rig *g, struct pool *p)
{
    g->ops->kv_free(p->kv);
    for (int32_t i = 0; i < SEQS; i++) {
        free(p->seq[i].k);
        free(p->seq[i].v);
    }
    free(p->table);
}
#endif
