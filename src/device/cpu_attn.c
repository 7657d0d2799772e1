/* Paged attention by the numeric contract. An item is a few neighbouring rows of one sequence times the query
 * heads that share a KV head: together they are the rows ("vectors" here) of two small GEMMs per block of 64
 * keys, scores and values, around an online softmax. Blocks fold in order inside a segment; segments join by
 * the tree over their positions. */
#include "device/cpu_attn.h"

#include <string.h>

enum {
    VECTORS = 48, /* most vectors of an item */
    DEPTH = 34    /* most open nodes of the tree over segments (31-bit positions) */
};

/* Neighbouring rows of one sequence. */
struct rows {
    int64_t row;
    int32_t rows;
    int32_t seq, first, last; /* blocks of 64 keys that any of them sees */
};
struct attn {
    struct mb_view out;
    const struct mb_attn_args *a;
    const struct mb_kv *kv;
    const struct mb_tile_kernels *k;
    const struct mb_attn_vec *vec;
    int32_t group, head_parts; /* query heads per KV head; items they are cut into */
    struct rows *rows;
    int64_t n_rows;
    int32_t depth;
    uint64_t floats; /* scratch of a thread */
    float *scratch;
};

/* One thread's item. Arrays over vectors v = row * heads + head. */
struct item {
    const struct attn *t;
    const struct rows *r;
    int32_t kv_head, head, heads, n; /* n vectors: rows * heads */
    struct mb_cut cut;
    float *q, *s, *p, *pv,
        *o;               /* packed q; scores [4][n][16]; packed p; pv [panels][n][16]; o: depth of those */
    void *values;         /* a block's values where they can't be read in place */
    struct mb_osm *state; /* [depth][n] */
    int32_t first[VECTORS], last[VECTORS];
    float alpha[VECTORS]; /* < 0: the block has nothing for this vector */
    bool fresh[VECTORS];  /* the vector's first block of the segment */
};

/* ---------------------------------------------------------------- checks and cutting */
static enum mb_status check(struct mb_view out, const struct mb_attn_args *a)
{
    const struct mb_kv_desc *d = &a->kv->desc;
    if (a->heads < 1 || a->heads % d->heads != 0 || a->segment < MB_KV_BLOCK ||
        a->segment % MB_KV_BLOCK != 0 || a->window < 0)
        return mb_error(MB_BUG, "attention: %d heads on %d KV heads, segment %d, window %d do not fit",
                        a->heads, d->heads, a->segment, a->window);
    MB_TRY(mb_cpu_want_float("attention", "q", a->q, -1, (int64_t)a->heads * d->d));
    MB_TRY(mb_cpu_want_float("attention", "out", out, a->q.rows, (int64_t)a->heads * d->dv));
    MB_TRY(mb_cpu_want("attention", "pos", a->pos, a->q.rows, 1, MB_I32));
    MB_TRY(mb_cpu_want("attention", "seq", a->seq, a->q.rows, 1, MB_I32));
    MB_TRY(mb_cpu_want("attention", "page_table", a->page_table, -1, -1, MB_I32));
    return mb_has_view(a->sinks) ? mb_cpu_want("attention", "sinks", a->sinks, 1, a->heads, MB_F32) : MB_OK;
}

/* First position that a row at pos sees. */
static int32_t lowest(const struct mb_attn_args *a, int32_t pos)
{
    return a->window > 0 && pos >= a->window ? pos - a->window + 1 : 0;
}

/* Pages that the rows read lie inside the pool. */
static enum mb_status check_pages(const struct mb_attn_args *a, const struct rows *r)
{
    if (r->seq < 0 || r->seq >= a->page_table.rows || r->last >= a->page_table.cols)
        return mb_error(MB_BUG, "attention: sequence %d, block %d lies outside the page table", r->seq,
                        r->last);
    const int32_t *page = mb_row_i32(a->page_table, r->seq);
    for (int32_t b = r->first; b <= r->last; b++)
        if (page[b] < 0 || page[b] >= a->kv->desc.pages)
            return mb_error(MB_BUG, "attention: page %d of sequence %d, block %d lies outside %d pages",
                            page[b], r->seq, b, a->kv->desc.pages);
    return MB_OK;
}

/* Cuts the M rows into t->rows: neighbours of one sequence, at most `most` of them. */
static enum mb_status cut_rows(struct attn *t, int32_t most)
{
    const struct mb_attn_args *a = t->a;
    for (int64_t i = 0; i < a->q.rows; i++) {
        int32_t pos = mb_at_i32(a->pos, i), seq = mb_at_i32(a->seq, i);
        if (pos < 0)
            return mb_error(MB_BUG, "attention: row %lld has position %d", (long long)i, pos);
        int32_t first = lowest(a, pos) / MB_KV_BLOCK, last = pos / MB_KV_BLOCK;
        struct rows *r = t->n_rows > 0 ? &t->rows[t->n_rows - 1] : NULL;
        if (r == NULL || r->seq != seq || r->rows == most) {
            t->rows[t->n_rows++] = (struct rows){i, 1, seq, first, last};
            continue;
        }
        r->rows++;
        r->first = first < r->first ? first : r->first;
        r->last = last > r->last ? last : r->last;
    }
    for (int64_t i = 0; i < t->n_rows; i++)
        MB_TRY(check_pages(a, &t->rows[i]));
    return MB_OK;
}

/* ---------------------------------------------------------------- values of a block */
/* keys outside [first, last] become zero */
static void zero_keys(void *values, enum mb_dtype t, int64_t panels, int32_t first, int32_t last)
{
    for (int64_t p = 0; p < panels; p++)
        for (int32_t k = 0; k < MB_KV_BLOCK; k++) {
            if (k >= first && k <= last)
                continue;
            int64_t at = mb_packed_at(t, MB_KV_BLOCK / MB_BLOCK, k, p * MB_PANEL);
            if (t == MB_F32)
                memset((float *)values + at, 0, MB_PANEL * sizeof(float));
            else
                for (int32_t c = 0; c < MB_PANEL; c++)
                    ((uint16_t *)values)[at + 2 * c] = 0;
        }
}

/* Values that are the first dv columns of the keys: 16 x 16 transpositions between the two packed forms. */
static void transpose_f32(float *to, const float *from)
{
    for (int32_t key = 0; key < MB_PANEL; key++)
        for (int32_t c = 0; c < MB_PANEL; c++)
            to[key * MB_PANEL + c] = from[c * MB_PANEL + key];
}
/* words are pairs: from (c, c + 1) of a key to (key, key + 1) of a column */
static void transpose_bf16(uint32_t *to, const uint32_t *from)
{
    for (int32_t key = 0; key < MB_PANEL; key += 2)
        for (int32_t c = 0; c < MB_PANEL; c += 2) {
            uint32_t a = from[c / 2 * MB_PANEL + key], b = from[c / 2 * MB_PANEL + key + 1];
            to[key / 2 * MB_PANEL + c] = (a & 0xffff) | b << 16;
            to[key / 2 * MB_PANEL + c + 1] = a >> 16 | (b & 0xffff0000u);
        }
}
static void values_of_keys(const struct mb_kv *kv, void *to, const void *keys)
{
    for (int64_t p = 0; p < kv->v_panels; p++)
        for (int64_t key = 0; key < MB_KV_BLOCK; key += MB_PANEL) {
            int64_t at = mb_packed_at(kv->desc.dtype, MB_KV_BLOCK / MB_BLOCK, key, p * MB_PANEL);
            int64_t from = mb_packed_at(kv->desc.dtype, kv->k_blocks, p * MB_PANEL, key);
            if (kv->desc.dtype == MB_F32)
                transpose_f32((float *)to + at, (const float *)keys + from);
            else
                transpose_bf16((uint32_t *)to + at / 2, (const uint32_t *)keys + from / 2);
        }
}

static bool all_finite(const void *values, enum mb_dtype t, int64_t n)
{
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad |= t == MB_F32 ? (((const uint32_t *)values)[i] & 0x7f800000u) == 0x7f800000u
                           : (((const uint16_t *)values)[i] & 0x7f80u) == 0x7f80u;
    return bad == 0;
}

/* The block's values with every key outside [first, last] zero: in place if all are seen. */
static const void *block_values(const struct item *it, int32_t page, int32_t first, int32_t last)
{
    const struct mb_kv *kv = it->t->kv;
    if (kv->desc.v_in_k)
        values_of_keys(kv, it->values, mb_kv_keys(kv, page, it->kv_head));
    else if (first == 0 && last == MB_KV_BLOCK - 1)
        return mb_kv_values(kv, page, it->kv_head);
    else
        memcpy(it->values, mb_kv_values(kv, page, it->kv_head), (size_t)kv->v_bytes);
    zero_keys(it->values, kv->desc.dtype, kv->v_panels, first, last);
    return it->values;
}

/* ---------------------------------------------------------------- one block of keys */
/* next: what will be read after w */
static void run_tiles(const struct item *it, const float *x, int64_t x_floats, enum mb_dtype t, const void *w,
                      int64_t blocks, int64_t panels, float *c, const void *next)
{
    for (int64_t i = 0; i < it->cut.tiles; i++) {
        int64_t r = mb_cut_begin(it->t->k, it->cut, i);
        struct mb_tile tile = {
            .x = x + r * x_floats,
            .w = w,
            .w_panel = blocks * MB_BLOCK * MB_PANEL * mb_dtype_size(t),
            .ahead = i == 0 ? (const char *)next - (const char *)w : 0,
            .c = c + r * MB_PANEL,
            .c_panel = (int64_t)it->n * MB_PANEL,
            .blocks = blocks,
            .panels = (int32_t)panels,
            .rows = (int32_t)(mb_cut_begin(it->t->k, it->cut, i + 1) - r),
            .add = false,
        };
        it->t->k->fn[t](&tile);
    }
}

/* Where element k of vector v lies in rows packed over n elements. */
static int64_t packed_row(const struct item *it, int32_t v, int64_t n, int64_t *step)
{
    int64_t i = 0;
    while (mb_cut_begin(it->t->k, it->cut, i + 1) <= v)
        i++;
    int64_t begin = mb_cut_begin(it->t->k, it->cut, i);
    *step = mb_cut_begin(it->t->k, it->cut, i + 1) - begin;
    return begin * n + v - begin;
}

/* What each vector sees of the block at position base; *first, *last: what any sees. False: nobody sees
 * anything. */
static bool see(struct item *it, int64_t base, int32_t *first, int32_t *last)
{
    *first = MB_KV_BLOCK;
    *last = -1;
    for (int32_t v = 0; v < it->n; v++) {
        int32_t pos = mb_at_i32(it->t->a->pos, it->r->row + v / it->heads);
        int64_t lo = lowest(it->t->a, pos) - base, hi = pos - base;
        it->first[v] = lo > 0 ? (int32_t)(lo < MB_KV_BLOCK ? lo : MB_KV_BLOCK) : 0;
        it->last[v] = hi < MB_KV_BLOCK ? (int32_t)(hi > -1 ? hi : -1) : MB_KV_BLOCK - 1;
        if (it->first[v] > it->last[v])
            continue;
        *first = it->first[v] < *first ? it->first[v] : *first;
        *last = it->last[v] > *last ? it->last[v] : *last;
    }
    return *last >= 0;
}

/* Scores of every vector become its packed probabilities; state advances. */
static void soften(struct item *it, struct mb_osm *state)
{
    const struct attn *t = it->t;
    for (int32_t v = 0; v < it->n; v++) {
        it->alpha[v] = -1.0f;
        if (it->first[v] > it->last[v])
            continue;
        struct mb_attn_block b = {it->first[v], it->last[v], t->a->scale,     t->a->softcap,
                                  state[v].m,   state[v].l,  state[v].present};
        float s[MB_KV_BLOCK] __attribute__((aligned(64)));
        for (int32_t p = 0; p < MB_KV_PANELS; p++)
            memcpy(s + p * MB_PANEL, it->s + (p * it->n + v) * MB_PANEL, MB_PANEL * sizeof *s);
        it->fresh[v] = !b.present;
        it->alpha[v] = t->vec->softmax(&b, s);
        state[v] = (struct mb_osm){b.m, b.l, true};
        if (t->kv->desc.dtype == MB_BF16)
            t->vec->round(s);
        int64_t step, at = packed_row(it, v, MB_KV_BLOCK, &step);
        for (int32_t k = 0; k < MB_KV_BLOCK; k++)
            it->p[at + k * step] = s[k];
    }
}

/* A NaN or infinity among values that some vector does not see may not touch it: one by one, unseen values as
 * zero. */
static void weigh_one_by_one(const struct item *it, const void *values)
{
    enum mb_dtype t = it->t->kv->desc.dtype;
    for (int32_t v = 0; v < it->n; v++) {
        float p[MB_KV_BLOCK], x[MB_KV_BLOCK];
        int64_t step, at = packed_row(it, v, MB_KV_BLOCK, &step);
        for (int32_t k = 0; k < MB_KV_BLOCK; k++)
            p[k] = k >= it->first[v] && k <= it->last[v] ? it->p[at + k * step] : 0.0f;
        for (int64_t c = 0; c < it->t->kv->v_panels * MB_PANEL; c++) {
            for (int32_t k = 0; k < MB_KV_BLOCK; k++) {
                int64_t e = mb_packed_at(t, MB_KV_BLOCK / MB_BLOCK, k, c);
                bool seen = k >= it->first[v] && k <= it->last[v];
                x[k] = !seen         ? 0.0f
                       : t == MB_F32 ? ((const float *)values)[e]
                                     : mb_bf16_float(((const uint16_t *)values)[e]);
            }
            it->pv[(c / MB_PANEL * it->n + v) * MB_PANEL + c % MB_PANEL] = mb_dot(p, x, MB_KV_BLOCK);
        }
    }
}

static void weigh(const struct item *it, int32_t page, int32_t first, int32_t last, const void *next)
{
    const struct mb_kv *kv = it->t->kv;
    const void *values = block_values(it, page, first, last);
    bool same = true;
    for (int32_t v = 0; v < it->n; v++)
        same = same && it->first[v] == first && it->last[v] == last;
    if (!same && !all_finite(values, kv->desc.dtype, kv->v_panels * MB_PANEL * MB_KV_BLOCK))
        weigh_one_by_one(it, values);
    else
        run_tiles(it, it->p, MB_KV_BLOCK, kv->desc.dtype, values, MB_KV_BLOCK / MB_BLOCK, kv->v_panels,
                  it->pv, next);
}

static void run_block(struct item *it, int32_t block, struct mb_osm *state, float *o)
{
    const struct attn *t = it->t;
    const struct mb_kv *kv = t->kv;
    const int32_t *pages = mb_row_i32(t->a->page_table, it->r->seq);
    int32_t first, last, page = pages[block], next = pages[block < it->r->last ? block + 1 : block];
    if (!see(it, (int64_t)block * MB_KV_BLOCK, &first, &last))
        return;
    run_tiles(it, it->q, kv->k_blocks * MB_BLOCK, kv->desc.dtype, mb_kv_keys(kv, page, it->kv_head),
              kv->k_blocks, MB_KV_PANELS, it->s, mb_kv_values(kv, page, it->kv_head));
    soften(it, state);
    weigh(it, page, first, last, mb_kv_keys(kv, next, it->kv_head));
    for (int64_t p = 0; p < kv->v_panels; p++)
        for (int32_t v = 0; v < it->n; v++) {
            int64_t at = (p * it->n + v) * MB_PANEL;
            if (it->alpha[v] < 0.0f)
                continue;
            if (it->fresh[v])
                memcpy(o + at, it->pv + at, MB_PANEL * sizeof *o);
            else
                t->vec->fold(o + at, it->pv + at, it->alpha[v]);
        }
}

/* ---------------------------------------------------------------- one item */
static void pack_q(const struct item *it)
{
    const struct mb_attn_args *a = it->t->a;
    int64_t d = it->t->kv->desc.d, n = it->t->kv->k_blocks * MB_BLOCK;
    for (int32_t v = 0; v < it->n; v++) {
        int64_t step, at = packed_row(it, v, n, &step);
        const char *q = mb_row(a->q, it->r->row + v / it->heads);
        q += (it->head + v % it->heads) * d * mb_dtype_size(a->q.dtype);
        mb_pack_row(it->t->k, it->q + at, (int32_t)step, 0, q, a->q.dtype, d);
    }
}

/* left = left (+) right for every vector. */
static void join(const struct item *it, struct mb_osm *left, float *o1, const struct mb_osm *right,
                 const float *o2)
{
    for (int32_t v = 0; v < it->n; v++) {
        if (!right[v].present)
            continue;
        bool copy = !left[v].present;
        float e1, e2;
        left[v] = mb_osm_join(left[v], right[v], &e1, &e2);
        for (int64_t p = 0; p < it->t->kv->v_panels; p++) {
            int64_t at = (p * it->n + v) * MB_PANEL;
            if (copy)
                memcpy(o1 + at, o2 + at, MB_PANEL * sizeof *o1);
            else
                it->t->vec->join(o1 + at, o2 + at, e1, e2);
        }
    }
}

/* Segments in order on a stack of open tree nodes. Between segments s - 1 and s the tree splits at bit
 * ctz(s): a node ends where a later split is higher. The root is left at level 0. */
static void run_segments(struct item *it)
{
    const struct attn *t = it->t;
    int32_t per = t->a->segment / MB_KV_BLOCK, split[DEPTH], top = 0;
    int64_t o_size = t->kv->v_panels * it->n * MB_PANEL;
    for (int32_t seg = it->r->first / per; seg <= it->r->last / per; seg++) {
        int32_t bit = seg > 0 ? __builtin_ctz((unsigned)seg) : 32;
        for (; top > 1 && split[top - 1] < bit; top--)
            join(it, it->state + (top - 2) * it->n, it->o + (top - 2) * o_size, it->state + (top - 1) * it->n,
                 it->o + (top - 1) * o_size);
        struct mb_osm *state = it->state + top * it->n;
        for (int32_t v = 0; v < it->n; v++)
            state[v] = (struct mb_osm){0.0f, 0.0f, false};
        int32_t begin = seg * per > it->r->first ? seg * per : it->r->first;
        for (int32_t b = begin; b <= it->r->last && b / per == seg; b++)
            run_block(it, b, state, it->o + top * o_size);
        split[top++] = bit;
    }
    for (; top > 1; top--)
        join(it, it->state + (top - 2) * it->n, it->o + (top - 2) * o_size, it->state + (top - 1) * it->n,
             it->o + (top - 1) * o_size);
}

/* sinks, then o / l */
static void finish(const struct item *it)
{
    const struct attn *t = it->t;
    int64_t dv = t->kv->desc.dv;
    for (int32_t v = 0; v < it->n; v++) {
        int64_t row = it->r->row + v / it->heads, head = it->head + v % it->heads;
        struct mb_osm s = it->state[v];
        float e1 = 1.0f, e2 = 0.0f;
        bool sink = mb_has_view(t->a->sinks);
        if (sink)
            s = mb_osm_join(s, (struct mb_osm){mb_row_f32(t->a->sinks, 0)[head], 1.0f, true}, &e1, &e2);
        for (int64_t c = 0; c < dv; c += MB_PANEL) {
            const float zero[MB_PANEL] = {0};
            float *o = it->o + (c / MB_PANEL * it->n + v) * MB_PANEL;
            if (sink)
                t->vec->join(o, zero, e1, e2);
            for (int32_t i = 0; i < MB_PANEL; i++)
                o[i] = o[i] / s.l;
            mb_store_row(t->out, row, head * dv + c, o, dv - c < MB_PANEL ? dv - c : MB_PANEL);
        }
    }
}

/* Scratch of a thread, in floats; sets the pointers of it if base is given. Every part is a multiple of 64
 * bytes. */
static uint64_t lay_out(const struct attn *t, struct item *it, float *base, int64_t n)
{
    const struct mb_kv *kv = t->kv;
    int64_t o = kv->v_panels * n * MB_PANEL,
            states = mb_ceil_div(t->depth * n * (int64_t)sizeof(struct mb_osm), 64) * 16;
    int64_t q = n * kv->k_blocks * MB_BLOCK, s = n * MB_KV_BLOCK,
            values = kv->v_panels * MB_PANEL * MB_KV_BLOCK;
    if (base != NULL) {
        it->q = base;
        it->s = it->q + q;
        it->p = it->s + s;
        it->pv = it->p + s;
        it->o = it->pv + o;
        it->values = it->o + t->depth * o;
        it->state = (struct mb_osm *)(void *)((float *)it->values + values);
    }
    return (uint64_t)(q + 2 * s + o + t->depth * o + values + states);
}

static void run_items(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct attn *t = arg;
    for (int64_t i = begin; i < end; i++) {
        int32_t part = (int32_t)(i % t->head_parts),
                kv_head = (int32_t)(i / t->head_parts % t->kv->desc.heads);
        int32_t h0 = t->group * part / t->head_parts, h1 = t->group * (part + 1) / t->head_parts;
        struct item it = {.t = t, .r = &t->rows[i / t->head_parts / t->kv->desc.heads], .kv_head = kv_head};
        it.head = kv_head * t->group + h0;
        it.heads = h1 - h0;
        it.n = it.r->rows * it.heads;
        it.cut = mb_cut_rows(t->k, it.n);
        lay_out(t, &it, t->scratch + (uint64_t)thread * t->floats, it.n);
        pack_q(&it);
        run_segments(&it);
        finish(&it);
    }
}

/* ---------------------------------------------------------------- the operation */
static enum mb_status run(struct mb_stream *s, struct attn *t)
{
    int32_t segments = 1;
    for (int64_t i = 0; i < t->n_rows; i++) {
        int32_t n = t->rows[i].last / (t->a->segment / MB_KV_BLOCK) + 1;
        segments = n > segments ? n : segments;
    }
    t->depth = 34 - __builtin_clz((unsigned)segments);
    t->floats = lay_out(t, NULL, NULL, VECTORS);
    t->scratch = mb_cpu_scratch(s, t->floats * sizeof(float) * (uint64_t)s->dev->threads);
    if (t->scratch == NULL)
        return MB_NO_MEMORY;
    mb_cpu_run(s->dev, t->n_rows * t->kv->desc.heads * t->head_parts, 1, run_items, t);
    return MB_OK;
}

enum mb_status mb_cpu_attention(struct mb_stream *s, struct mb_view out, const struct mb_attn_args *a)
{
    MB_TRY(check(out, a));
    if (a->q.rows == 0)
        return MB_OK;
    enum mb_isa isa = s->dev->isa == MB_ISA_AMX ? MB_ISA_AVX512 : s->dev->isa;
    struct attn t = {.out = out, .a = a, .kv = a->kv, .k = mb_tile_kernels(isa), .vec = mb_attn_vec_of(isa)};
    t.group = a->heads / a->kv->desc.heads;
    t.head_parts = (int32_t)mb_ceil_div(t.group, VECTORS);
    t.rows = mb_alloc(s->dev->mem, MB_MEM_OTHER, (size_t)a->q.rows, sizeof *t.rows);
    if (t.rows == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for attention over %lld rows", (long long)a->q.rows);
    enum mb_status st = cut_rows(&t, t.group < VECTORS ? VECTORS / t.group : 1);
    if (st == MB_OK)
        st = run(s, &t);
    mb_free(t.rows);
    return st;
}
