/* Stored codes to bf16 with AVX2. In a group a column has at most 16 values for a half byte: they are
 * computed once, rounded, and kept as two tables of bytes, which pshufb looks up for 16 k of two columns at a
 * time; then the 4 x 4 pairs of four columns are transposed. Of FP8 the table holds the values of the lower
 * half byte, whose exponent the upper one raises: rounding does not depend on the exponent, as long as
 * nothing over- or underflows. What does not fit these rules (scales that are not finite, NaN codes, groups
 * that end inside a half block) goes the portable way. Also used with AVX-512 and AMX. */
#include "device/cpu_unpack_avx2.h"

enum { AHEAD = 2048 }; /* bytes of codes that are fetched ahead: hardware stops at the end of a page */

/* ---------------------------------------------------------------- tables */
/* Columns a and b (= a + 4) of a pair side by side: the lower bytes of 16 values of each, and the upper ones.
 * va, vb: 16 values as bf16. */
FN void store_tables(__m256i va, __m256i vb, uint8_t *low, uint8_t *high)
{
    const __m256i byte = _mm256_set1_epi16(0xff);
    __m256i l = _mm256_packus_epi16(_mm256_and_si256(va, byte), _mm256_and_si256(vb, byte)),
            h = _mm256_packus_epi16(_mm256_srli_epi16(va, 8), _mm256_srli_epi16(vb, 8));
    _mm256_store_si256((void *)low, _mm256_permute4x64_epi64(l, 0xd8));
    _mm256_store_si256((void *)high, _mm256_permute4x64_epi64(h, 0xd8));
}

/* 16 numbers less z, times s, as bf16. q[0] holds the even ones, q[1] the odd ones. */
FN __m256i products(const __m256 q[2], __m256 z, bool zeros, __m256 s)
{
    __m256 even = zeros ? _mm256_sub_ps(q[0], z) : q[0], odd = zeros ? _mm256_sub_ps(q[1], z) : q[1];
    __m256i a = rounded(_mm256_mul_ps(even, s)), b = rounded(_mm256_mul_ps(odd, s));
    return _mm256_blend_epi16(_mm256_srli_epi32(a, 16), b, 0xaa);
}

/* Tables of all columns from 16 numbers. */
FN void tables_from(const struct unpack *u, int64_t group, const __m256 q[2], bool zeros, const float *s,
                    uint8_t *low, uint8_t *high)
{
    for (int64_t p = 0; p < MB_PANEL / 2; p++) {
        int64_t a = p / 4 * 8 + p % 4, b = a + 4;
        __m256 za = _mm256_setzero_ps(), zb = za;
        if (zeros) {
            za = _mm256_set1_ps((float)mb_stored_zero(u->w, u->panel, group, a));
            zb = _mm256_set1_ps((float)mb_stored_zero(u->w, u->panel, group, b));
        }
        store_tables(products(q, za, zeros, _mm256_broadcast_ss(&s[a])),
                     products(q, zb, zeros, _mm256_broadcast_ss(&s[b])), low + 32 * p, high + 32 * p);
    }
}

BIG struct sizes sizes_of(const struct mb_form *f)
{
    bool ints = f->code == MB_CODE_INT;
    float q[8] __attribute__((aligned(32)));
    uint8_t at[32] __attribute__((aligned(32))), sign[32] __attribute__((aligned(32)));
    for (int i = 0; i < 8; i++)
        q[i] = ints ? (float)(i + 1) : mb_fp4_float((uint8_t)i);
    for (int c = 0; c < 16; c++) {
        int size = ints ? (c < 8 ? 8 - c : c - 8) - 1 : c & 7;
        at[c] = (uint8_t)(size < 0 ? 128 : 2 * size);
        at[c + 16] = (uint8_t)(size < 0 ? 128 : 2 * size + 1);
        sign[c] = sign[c + 16] = ints ? (c < 8 ? 128 : 0) : (c & 8 ? 128 : 0);
    }
    return (struct sizes){_mm256_load_ps(q), _mm256_load_si256((const void *)at),
                          _mm256_load_si256((const void *)sign)};
}

FN void tables_from_sizes(const struct sizes *z, const float *s, uint8_t *low, uint8_t *high)
{
    for (int64_t p = 0; p < MB_PANEL / 2; p++) {
        int64_t a = p / 4 * 8 + p % 4, b = a + 4;
        __m256i va = rounded(_mm256_mul_ps(z->q, _mm256_broadcast_ss(&s[a]))),
                vb = rounded(_mm256_mul_ps(z->q, _mm256_broadcast_ss(&s[b])));
        __m256i v = _mm256_blend_epi16(_mm256_srli_epi32(va, 16), vb, 0xaa); /* a0 b0 a1 b1 ... */
        v = _mm256_packus_epi16(_mm256_and_si256(v, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(v, 8));
        v = _mm256_permute4x64_epi64(v, 0xd8); /* lower bytes | upper bytes */
        __m256i l = _mm256_shuffle_epi8(_mm256_permute2x128_si256(v, v, 0x00), z->at),
                h = _mm256_shuffle_epi8(_mm256_permute2x128_si256(v, v, 0x11), z->at);
        _mm256_store_si256((void *)(low + 32 * p), l);
        _mm256_store_si256((void *)(high + 32 * p), _mm256_xor_si256(h, z->sign));
    }
}

/* Numbers of the 16 half bytes; sub: FP8's whose upper half byte is 0, as they are. */
BIG void numbers(const struct mb_form *f, bool sub, __m256 q[2])
{
    float v[16] __attribute__((aligned(32)));
    for (int i = 0; i < 16; i++) {
        bool e4m3 = f->code == MB_CODE_E4M3;
        int mantissa = e4m3 ? i & 7 : i & 3, at = i % 2 * 8 + i / 2;
        v[at] = f->bits == 4 || sub ? mb_form_number(f, (uint8_t)i, 0)
                                    : mb_form_number(f, (uint8_t)((e4m3 ? 0x38 : 0x3c) + mantissa), 0) *
                                          (e4m3 ? (i & 8 ? 0x1p-6f : 0x1p-7f)
                                                : mb_float_of((uint32_t)(127 - 15 + i / 4) << 23));
    }
    q[0] = _mm256_load_ps(v);
    q[1] = _mm256_load_ps(v + 8);
}

BIG bool make_tables(struct unpack *u, struct tables *t, int64_t group)
{
    const struct mb_form *f = &u->w->desc.form;
    bool fp8 = f->bits == 8;
    __m256 sv[2];

    t->group = -1;
    t->sub = false;
    if (load_scales(u->w, u->panel, group, fp8 ? 0x1p-110f : 0, fp8 ? 0x1p110f : 0x1.fffffep127f, sv) &
        u->real)
        return false;
    _mm256_store_ps(t->s, sv[0]);
    _mm256_store_ps(t->s + 8, sv[1]);
    if (u->by_size)
        tables_from_sizes(&u->sizes, t->s, t->low, t->high);
    else if (f->zeros)
        tables_from(u, group, u->q, true, t->s, t->low, t->high);
    else
        tables_from(u, group, u->q, false, t->s, t->low, t->high);
    t->group = group;
    return true;
}

/* FP8's small numbers are seldom asked for. */
BIG void make_sub(const struct unpack *u, struct tables *t)
{
    __m256 q[2];

    numbers(&u->w->desc.form, true, q);
    tables_from(u, t->group, q, false, t->s, t->sub_low, t->sub_high);
    t->sub = true;
}

FN __m256i two(const uint8_t *a, const uint8_t *b)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_load_si128((const void *)a)),
                                   _mm_load_si128((const void *)b), 1);
}

/* MXFP4: the tables of every exponent are the device's. Written in the width in which they are read. */
FN void copy_tables(struct unpack *u, struct tables *t, int64_t group)
{
    const uint8_t *e = u->panel + u->w->scale_at + group * MB_PANEL;
    const struct mb_mx_table *mx = u->w->dev->mx;

    UNROLL for (int p = 0; p < MB_PANEL / 2; p++)
    {
        const struct mb_mx_table *a = &mx[e[p / 4 * 8 + p % 4]], *b = &mx[e[p / 4 * 8 + p % 4 + 4]];
        _mm256_store_si256((void *)(t->low + 32 * p), two(a->low, b->low));
        _mm256_store_si256((void *)(t->high + 32 * p), two(a->high, b->high));
    }
    t->group = group;
}

/* NULL: this group has none. */
FN struct tables *tables_of(struct unpack *u, int64_t group)
{
    if (u->t[u->last].group == group)
        return &u->t[u->last];
    u->last ^= 1;
    struct tables *t = &u->t[u->last];
    if (t->group == group)
        return t;
    if (u->w->desc.form.scale == MB_SCALE_E8M0) {
        copy_tables(u, t, group);
        return t;
    }
    return make_tables(u, t, group) ? t : NULL;
}

/* ---------------------------------------------------------------- looking up */
/* v[j]: pairs of k (two bf16) of columns j | j + 4. Rows of pairs: row[i] has pair i of eight columns. */
FN void rows_of(const __m256i v[4], __m256i row[4])
{
    __m256i a = _mm256_unpacklo_epi32(v[0], v[1]), b = _mm256_unpacklo_epi32(v[2], v[3]),
            c = _mm256_unpackhi_epi32(v[0], v[1]), d = _mm256_unpackhi_epi32(v[2], v[3]);
    row[0] = _mm256_unpacklo_epi64(a, b);
    row[1] = _mm256_unpackhi_epi64(a, b);
    row[2] = _mm256_unpacklo_epi64(c, d);
    row[3] = _mm256_unpackhi_epi64(c, d);
}

FN __m256i at32(const uint8_t *p)
{
    return _mm256_load_si256((const void *)p);
}

/* 16 k of the eight columns of half h of a panel, as eight rows of pairs. upper: the codes' upper half bytes.
 */
FN void look_up4(const unsigned char *codes, int h, bool upper, const struct tables *t, __m256i row[8])
{
    const __m256i low4 = _mm256_set1_epi8(15);
    __m256i a[4], b[4];
    UNROLL for (int j = 0; j < 4; j++)
    {
        int at = (4 * h + j) * 32;
        __m256i v = at32(codes + at);
        v = _mm256_and_si256(upper ? _mm256_srli_epi16(v, 4) : v, low4);
        __m256i lo = _mm256_shuffle_epi8(at32(t->low + at), v),
                hi = _mm256_shuffle_epi8(at32(t->high + at), v);
        a[j] = _mm256_unpacklo_epi8(lo, hi);
        b[j] = _mm256_unpackhi_epi8(lo, hi);
    }
    rows_of(a, row);
    rows_of(b, row + 4);
}

FN void look_up8(const struct unpack *u, const unsigned char *codes, int h, bool e4m3, struct tables *t,
                 __m256i row[8])
{
    const __m256i low4 = _mm256_set1_epi8(15), sign = _mm256_set1_epi8((char)0x80);
    const __m256i up4 = _mm256_broadcastsi128_si256(
        e4m3 ? _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -128, -127, -126, -125, -124, -123, -122, -121)
             : _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, -128, -126, -124, -122, -120, -118, -116, -114));
    __m256i a[4], b[4];
    UNROLL for (int j = 0; j < 4; j++)
    {
        int at = (4 * h + j) * 32;
        __m256i v = at32(codes + at), low = _mm256_and_si256(v, low4),
                up = _mm256_and_si256(_mm256_srli_epi16(v, 4), low4);
        __m256i lo = _mm256_shuffle_epi8(at32(t->low + at), low),
                hi = _mm256_add_epi8(_mm256_shuffle_epi8(at32(t->high + at), low),
                                     _mm256_shuffle_epi8(up4, up));
        __m256i sub = _mm256_cmpeq_epi8(_mm256_andnot_si256(sign, _mm256_andnot_si256(low4, v)),
                                        _mm256_setzero_si256());
        if (!_mm256_testz_si256(sub, sub)) {
            if (!t->sub)
                make_sub(u, t);
            lo = _mm256_blendv_epi8(lo, _mm256_shuffle_epi8(at32(t->sub_low + at), low), sub);
            hi = _mm256_blendv_epi8(
                hi,
                _mm256_xor_si256(_mm256_shuffle_epi8(at32(t->sub_high + at), low), _mm256_and_si256(v, sign)),
                sub);
        }
        a[j] = _mm256_unpacklo_epi8(lo, hi);
        b[j] = _mm256_unpackhi_epi8(lo, hi);
    }
    rows_of(a, row);
    rows_of(b, row + 4);
}

/* 16 k (half `half` of a block) of eight columns; four: codes of 4 bits. */
FN void look_up(const struct unpack *u, const unsigned char *codes, int half, int h, bool four,
                struct tables *t, __m256i row[8])
{
    if (!four)
        look_up8(u, codes + 256 * half, h, u->w->desc.form.code == MB_CODE_E4M3, t, row);
    else if (half == 0)
        look_up4(codes, h, false, t, row);
    else
        look_up4(codes, h, true, t, row);
}

/* ---------------------------------------------------------------- blocks */
/* The tables of both halves; false: a half has none. */
FN bool tables_of_block(struct unpack *u, int64_t block, struct tables *t[2])
{
    const struct mb_run *r = &u->run[block];

    t[0] = tables_of(u, r->group[0]);
    t[1] = t[0] == NULL ? NULL : tables_of(u, r->group[1]);
    return t[1] != NULL;
}

FN void store_block(const struct unpack *u, const unsigned char *codes, bool four, struct tables *t[2],
                    uint16_t *dst)
{
    UNROLL for (int half = 0; half < 2; half++)
    {
        UNROLL for (int h = 0; h < 2; h++)
        {
            __m256i row[8];
            look_up(u, codes, half, h, four, t[half], row);
            UNROLL for (int p = 0; p < 8; p++)
                _mm256_store_si256((void *)(dst + (8 * half + p) * 2 * MB_PANEL + 16 * h), row[p]);
        }
    }
}

BIG bool block_of_tables(struct unpack *u, int64_t block, uint16_t *dst)
{
    const unsigned char *codes = u->panel + block * u->w->code_block;
    struct tables *t[2];

    if (!tables_of_block(u, block, t))
        return false;
    if (u->w->desc.form.bits == 4)
        store_block(u, codes, true, t, dst);
    else
        store_block(u, codes, false, t, dst);
    return true;
}

/* c = c + (even + odd) of a block for R rows, without a buffer between. x: [32][R] */
FN void dot_block(const struct unpack *u, const unsigned char *codes, bool four, struct tables *t[2],
                  const float *x, const int R, float *c)
{
    const __m256i upper = _mm256_set1_epi32((int)0xffff0000);
    __m256 even[2][MB_DOT_ROWS], odd[2][MB_DOT_ROWS];
    UNROLL for (int i = 0; i < 2 * R; i++) even[i / R][i % R] = odd[i / R][i % R] = _mm256_setzero_ps();
    UNROLL for (int half = 0; half < 2; half++)
    {
        __m256i row[2][8];
        look_up(u, codes, half, 0, four, t[half], row[0]);
        look_up(u, codes, half, 1, four, t[half], row[1]);
        UNROLL for (int p = 0; p < 8; p++)
        {
            const float *xk = x + (16 * half + 2 * p) * R;
            UNROLL for (int h = 0; h < 2; h++)
            {
                __m256 a = _mm256_castsi256_ps(_mm256_slli_epi32(row[h][p], 16)),
                       b = _mm256_castsi256_ps(_mm256_and_si256(row[h][p], upper));
                UNROLL for (int r = 0; r < R; r++)
                {
                    even[h][r] = _mm256_fmadd_ps(_mm256_broadcast_ss(xk + r), a, even[h][r]);
                    odd[h][r] = _mm256_fmadd_ps(_mm256_broadcast_ss(xk + R + r), b, odd[h][r]);
                }
            }
        }
    }
    UNROLL for (int i = 0; i < 2 * R; i++)
    {
        float *at = c + i / 2 * MB_PANEL + 8 * (i % 2);
        __m256 sum = _mm256_add_ps(even[i % 2][i / 2], odd[i % 2][i / 2]);
        _mm256_store_ps(at, _mm256_add_ps(_mm256_load_ps(at), sum));
    }
}

#define DOT(R)                                                                                               \
    BIG bool dot_of_tables##R(struct unpack *u, int64_t block, const float *x, float *c)                     \
    {                                                                                                        \
        const unsigned char *codes = u->panel + block * u->w->code_block;                                    \
        struct tables *t[2];                                                                                 \
        if (!tables_of_block(u, block, t))                                                                   \
            return false;                                                                                    \
        if (u->w->desc.form.bits == 4)                                                                       \
            dot_block(u, codes, true, t, x, R, c);                                                           \
        else                                                                                                 \
            dot_block(u, codes, false, t, x, R, c);                                                          \
        return true;                                                                                         \
    }
DOT(1)
DOT(2)

static void clear_tail(uint16_t *dst, int64_t valid)
{
    for (int64_t k = valid; k < MB_BLOCK; k++)
        for (int64_t c = 0; c < MB_PANEL; c++)
            dst[(k / 2 * MB_PANEL + c) * 2 + k % 2] = 0;
}

/* What a call has in common for its blocks. */
BIG void begin(struct unpack *u, const struct mb_weight *w, const unsigned char *panel)
{
    const struct mb_form *f = &w->desc.form;
    int64_t columns = w->desc.n - (panel - w->data) / w->panel_bytes * MB_PANEL;

    u->w = w;
    u->panel = panel;
    u->last = 0;
    u->real = columns >= MB_PANEL ? 0xffff : (1 << columns) - 1;
    u->t[0].group = u->t[1].group = -1;
    u->by_size = f->code == MB_CODE_FP4 || (f->code == MB_CODE_INT && !f->zeros && f->zero_add == 8);
    if (u->by_size && f->scale != MB_SCALE_E8M0)
        u->sizes = sizes_of(f);
    else if (!u->by_size)
        numbers(f, false, u->q);
    u->list = mb_stored_list(w, panel, 0);
    u->run = w->run + u->list * w->block[w->desc.leaves];
    u->one_list = true;
    for (int64_t c = 1; c < MB_PANEL && c < columns && w->list_of != NULL; c++)
        u->one_list &= mb_stored_list(w, panel, c) == u->list;
}

FN void fetch(const struct unpack *u, int64_t block)
{
    const char *p = (const char *)u->panel + block * u->w->code_block + AHEAD;

    for (int64_t i = 0; i < u->w->code_block; i += 64)
        _mm_prefetch(p + i, _MM_HINT_T0);
}

/* Whether the block's values can be looked up. */
FN bool has_tables(const struct unpack *u, int64_t block)
{
    const struct mb_form *f = &u->w->desc.form;
    const struct mb_run *r = &u->run[block];

    return u->one_list && r->group[0] >= 0 && r->group[1] >= 0 && !(f->code == MB_CODE_INT && f->bits == 8) &&
           !atomic_load_explicit(&u->w->odd, memory_order_relaxed);
}

BIG void widen_block(struct unpack *u, int64_t b, uint16_t *dst)
{
    bool done = has_tables(u, b)
                    ? block_of_tables(u, b, dst)
                    : u->one_list && u->w->desc.form.code == MB_CODE_INT && mb_widen_ints_avx2(u, b, dst);

    if (!done)
        mb_widen_portable(u->w, u->panel, b, dst);
    else if (u->run[b].valid < MB_BLOCK)
        clear_tail(dst, u->run[b].valid);
}

__attribute__((target("avx2,fma,f16c"))) void
mb_widen_avx2(const struct mb_weight *w, const unsigned char *panel, int64_t b, int64_t e, uint16_t *dst)
{
    struct unpack u;

    begin(&u, w, panel);
    for (; b < e; b++, dst += MB_BLOCK * MB_PANEL) {
        fetch(&u, b);
        widen_block(&u, b, dst);
    }
}

__attribute__((target("avx2,fma,f16c"))) void mb_dot_avx2(const struct mb_weight *w,
                                                          const unsigned char *panel, int64_t b, int64_t e,
                                                          const struct mb_tile *tile)
{
    static bool (*const dots[MB_DOT_ROWS])(struct unpack *, int64_t, const float *,
                                           float *) = {dot_of_tables1, dot_of_tables2};
    struct unpack u;
    struct mb_tile one = *tile;
    uint16_t room[MB_BLOCK * MB_PANEL] __attribute__((aligned(64)));

    begin(&u, w, panel);
    one.w = room;
    one.blocks = one.panels = 1;
    one.add = true;
    if (!tile->add)
        memset(tile->c, 0, (size_t)tile->rows * MB_PANEL * sizeof *tile->c);
    for (; b < e; b++, one.x = (const float *)one.x + MB_BLOCK * tile->rows) {
        fetch(&u, b);
        if (u.run[b].valid == MB_BLOCK && has_tables(&u, b) && dots[tile->rows - 1](&u, b, one.x, one.c))
            continue;
        widen_block(&u, b, room);
        mb_tile_avx2.fn[MB_BF16](&one);
    }
}
