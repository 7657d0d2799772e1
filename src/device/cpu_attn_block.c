/* Attention's items: their scratch, and the fold of one block of 64 keys into the states of an item's
 * vectors. Nothing here knows of segments. */
#include <math.h>
#include <string.h>
#include "device/cpu_attn_item.h"

/* ---------------------------------------------------------------- values of a block */
/* keys that are not in `seen` become zero */
static void zero_keys(void *values, enum mb_dtype t, int64_t panels, uint64_t seen)
{
    for (int64_t p = 0; p < panels; p++)
        for (int32_t k = 0; k < MB_KV_BLOCK; k++) {
            if (seen >> k & 1)
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
            int64_t at = mb_packed_at(kv->type, MB_KV_BLOCK / MB_BLOCK, key, p * MB_PANEL);
            int64_t from = mb_packed_at(kv->type, kv->k_blocks, p * MB_PANEL, key);
            if (kv->type == MB_F32)
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

/* The block's values with every key that is not in `seen` zero: in place if all are seen. */
static const void *block_values(const struct mb_attn_item *it, int32_t page, uint64_t seen)
{
    const struct mb_kv *kv = it->t->kv;
    if (kv->desc.v_in_k)
        values_of_keys(kv, it->values, mb_kv_bytes(kv) ? it->keys : (const void *)mb_kv_keys(kv, page, it->kv_head));
    else if (mb_kv_bytes(kv))
        mb_kv_widen_values(kv, mb_kv_values(kv, page, it->kv_head), it->values);
    else if (seen == UINT64_MAX)
        return mb_kv_values(kv, page, it->kv_head);
    else
        memcpy(it->values, mb_kv_values(kv, page, it->kv_head), (size_t)kv->v_bytes);
    zero_keys(it->values, kv->type, kv->v_panels, seen);
    return it->values;
}

/* ---------------------------------------------------------------- one block of keys */
/* next: what will be read after w */
static void run_tiles(const struct mb_attn_item *it, const float *x, int64_t x_floats, enum mb_dtype t,
                      const void *w, int64_t blocks, int64_t panels, float *c, const void *next)
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
static int64_t packed_row(const struct mb_attn_item *it, int32_t v, int64_t n, int64_t *step)
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
static bool see(struct mb_attn_item *it, int64_t base, int32_t *first, int32_t *last)
{
    *first = MB_KV_BLOCK;
    *last = -1;
    for (int32_t v = 0; v < it->n; v++) {
        int32_t pos = mb_at_i32(it->t->a->pos, it->r->row + v / it->heads);
        int64_t lo = mb_attn_lowest(it->t->a, pos) - base, hi = pos - base;
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
static void soften(struct mb_attn_item *it, struct mb_osm *state)
{
    const struct mb_attn *t = it->t;
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
        if (t->kv->type == MB_BF16)
            t->vec->round(s);
        int64_t step, at = packed_row(it, v, MB_KV_BLOCK, &step);
        for (int32_t k = 0; k < MB_KV_BLOCK; k++)
            it->p[at + k * step] = s[k];
    }
}

/* A NaN or infinity among values that some vector does not see may not touch it: one by one, unseen values as
 * zero. */
static void weigh_one_by_one(const struct mb_attn_item *it, const void *values)
{
    enum mb_dtype t = it->t->kv->type;
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

/* The bits first .. last. */
static uint64_t bits_between(int32_t first, int32_t last)
{
    return UINT64_MAX >> (63 - (last - first)) << first;
}

/* chosen: keys of the block that the item's row chose; all without a choice */
static void weigh(const struct mb_attn_item *it, int32_t page, int32_t first, int32_t last, uint64_t chosen, const void *next)
{
    const struct mb_kv *kv = it->t->kv;
    const void *values = block_values(it, page, bits_between(first, last) & chosen);
    bool same = true;
    for (int32_t v = 0; v < it->n; v++)
        same = same && it->first[v] == first && it->last[v] == last;
    if (!same && !all_finite(values, kv->type, kv->v_panels * MB_PANEL * MB_KV_BLOCK))
        weigh_one_by_one(it, values);
    else
        run_tiles(it, it->p, MB_KV_BLOCK, kv->type, values, MB_KV_BLOCK / MB_BLOCK, kv->v_panels,
                  it->pv, next);
}

/* The keys of a block that the item's row chose. */
static uint64_t take_chosen(struct mb_attn_item *it, int32_t block)
{
    uint64_t seen = 0;
    if (it->chosen == NULL)
        return UINT64_MAX;
    while (it->chosen < it->chosen_end && *it->chosen < block * MB_KV_BLOCK)
        it->chosen++;
    while (it->chosen < it->chosen_end && *it->chosen < (block + 1) * MB_KV_BLOCK)
        seen |= (uint64_t)1 << *it->chosen++ % MB_KV_BLOCK;
    return seen;
}

/* The scores of keys that were not chosen become -inf: no maximum, and +0 as probabilities. */
static void hide_scores(const struct mb_attn_item *it, uint64_t seen)
{
    for (int32_t k = 0; k < MB_KV_BLOCK; k++)
        for (int32_t v = 0; !(seen >> k & 1) && v < it->n; v++)
            it->s[(k / MB_PANEL * it->n + v) * MB_PANEL + k % MB_PANEL] = -INFINITY;
}

void mb_attn_dots(const struct mb_attn_item *it, int32_t block, const void *next)
{
    const struct mb_kv *kv = it->t->kv;
    const void *keys = mb_kv_keys(kv, mb_row_i32(it->t->a->page_table, it->r->seq)[block], it->kv_head);
    if (mb_kv_bytes(kv)) { /* what is multiplied lies in the cache */
        mb_kv_widen_keys(kv, keys, it->keys);
        keys = next = it->keys;
    }
    run_tiles(it, it->q, kv->k_blocks * MB_BLOCK, kv->type, keys, kv->k_blocks, MB_KV_PANELS, it->s, next);
}

void mb_attn_fold_block(struct mb_attn_item *it, int32_t block, int32_t next, struct mb_osm *state, float *o)
{
    const struct mb_attn *t = it->t;
    const struct mb_kv *kv = t->kv;
    const int32_t *pages = mb_row_i32(t->a->page_table, it->r->seq);
    int32_t first, last, page = pages[block];
    uint64_t chosen = take_chosen(it, block);
    if (chosen == 0 || !see(it, (int64_t)block * MB_KV_BLOCK, &first, &last))
        return;
    mb_attn_dots(it, block, mb_kv_values(kv, page, it->kv_head));
    if (chosen != UINT64_MAX)
        hide_scores(it, chosen);
    soften(it, state);
    weigh(it, page, first, last, chosen, mb_kv_bytes(kv) ? it->values : mb_kv_keys(kv, pages[next], it->kv_head));
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
static void pack_q(const struct mb_attn_item *it)
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

/* Scratch of a thread, in floats; sets the pointers of it if base is given. Every part is a multiple of 64
 * bytes. */
static uint64_t lay_out(const struct mb_attn *t, struct mb_attn_item *it, float *base, int64_t n)
{
    const struct mb_kv *kv = t->kv;
    int64_t o = kv->v_panels * n * MB_PANEL,
            states = mb_ceil_div(t->depth * n * (int64_t)sizeof(struct mb_osm), 64) * 16;
    int64_t q = n * kv->k_blocks * MB_BLOCK, s = n * MB_KV_BLOCK,
            values = kv->v_panels * MB_PANEL * MB_KV_BLOCK, keys = mb_kv_bytes(kv) ? kv->k_blocks * MB_BLOCK * MB_KV_BLOCK / 2 : 0;
    if (base != NULL) {
        it->q = base;
        it->s = it->q + q;
        it->p = it->s + s;
        it->pv = it->p + s;
        it->o = it->pv + o;
        it->values = it->o + t->depth * o;
        it->keys = (float *)it->values + values;
        it->state = (struct mb_osm *)(void *)((float *)it->keys + keys);
    }
    return (uint64_t)(q + 2 * s + o + t->depth * o + values + keys + states);
}

enum mb_status mb_attn_scratch(struct mb_attn *t, struct mb_stream *s, uint64_t extra)
{
    t->floats = lay_out(t, NULL, NULL, MB_ATTN_VECTORS) + extra;
    t->scratch = mb_cpu_scratch(s, t->floats * sizeof(float) * (uint64_t)s->dev->threads);
    return t->scratch != NULL ? MB_OK : MB_NO_MEMORY;
}

void mb_attn_item(struct mb_attn_item *it, const struct mb_attn *t, const struct mb_attn_rows *r,
                  int32_t kv_head, int32_t part, int32_t thread)
{
    int32_t h0 = t->group * part / t->head_parts, h1 = t->group * (part + 1) / t->head_parts;
    it->t = t;
    it->r = r;
    it->kv_head = kv_head;
    it->head = kv_head * t->group + h0;
    it->heads = h1 - h0;
    it->n = r->rows * it->heads;
    it->chosen = it->chosen_end = NULL;
    it->cut = mb_cut_rows(t->k, it->n);
    lay_out(t, it, t->scratch + (uint64_t)thread * t->floats, it->n);
    pack_q(it);
}

void mb_attn_clear(const struct mb_attn_item *it, struct mb_osm *state)
{
    for (int32_t v = 0; v < it->n; v++)
        state[v] = (struct mb_osm){0.0f, 0.0f, false};
}
