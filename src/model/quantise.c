/* From numbers to codes. A group's scale is the best of a few: less clipped, or finer. */
#include "model/quantise.h"

#include <math.h>
#include <string.h>
#include "base/mb_math.h"

#define FP8_MOST 448.0f
#define LEAST 0x1p-126f /* smaller scales are zero to who reads them */
#define TRIES 9

static const char *const names[MB_QUANTISED_COUNT] = {"int8", "fp8", "mxfp4", "int4"};

int mb_quantised_find(const char *name)
{
    for (int i = 0; i < MB_QUANTISED_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return -1;
}

const char *mb_quantised_name(enum mb_quantised q)
{
    return names[q];
}

void mb_loss_add(struct mb_loss *to, const struct mb_loss *more)
{
    to->square += more->square;
    to->lost += more->lost;
    to->worst = more->worst > to->worst ? more->worst : to->worst;
    to->bad += more->bad;
}

double mb_loss_part(const struct mb_loss *l)
{
    return l->square > 0 ? sqrt(l->lost / l->square) : 0;
}

static int64_t up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

int64_t mb_quantised_row(const struct mb_quantiser *q, int64_t k)
{
    switch (q->to) {
    case MB_QUANTISED_INT8:
        return 4 * up(k, 4);
    case MB_QUANTISED_INT4:
        return 4 * up(k, 8);
    case MB_QUANTISED_MXFP4:
        return k / 2;
    default:
        return k;
    }
}

int64_t mb_quantised_scales(const struct mb_quantiser *q, int64_t k)
{
    int64_t size = q->to == MB_QUANTISED_FP8 ? 4 : q->to == MB_QUANTISED_MXFP4 ? 1 : 2;
    return size * up(k, mb_quantised_columns(q, k));
}

bool mb_quantised_fits(const struct mb_quantiser *q, int64_t k)
{
    bool whole = q->to == MB_QUANTISED_INT4 || q->to == MB_QUANTISED_MXFP4;
    return k >= 1 && (!whole || k % mb_quantised_columns(q, k) == 0);
}

/* ---------------------------------------------------------------- a number */
/* The nearest of a list of magnitudes, ties to the even code. */
static uint8_t nearest(const float *values, int n, float x)
{
    float a = fabsf(x);
    int lo = 0, hi = n - 1;

    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (values[mid] <= a)
            lo = mid;
        else
            hi = mid;
    }
    float below = a - values[lo], above = values[hi] - a;
    return (uint8_t)(above < below || (above == below && lo % 2 != 0) ? hi : lo);
}

static uint8_t to_fp4(float x)
{
    static const float v[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    return (uint8_t)(nearest(v, 8, x) | (signbit(x) ? 8 : 0));
}

static float fp4(uint8_t code)
{
    static const float v[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    return code & 8 ? -v[code & 7] : v[code & 7];
}

/* E4M3: three bits behind the point from 2^-6 on, steps of 2^-9 below. */
static uint8_t to_fp8(float x)
{
    float a = fabsf(x) > FP8_MOST ? FP8_MOST : fabsf(x);
    uint8_t sign = signbit(x) ? 0x80 : 0;
    int e;

    if (a < 0x1p-6f)
        return (uint8_t)(sign | (uint8_t)rintf(a * 0x1p9f));
    (void)frexpf(a, &e);                                   /* a = m * 2^e, m in [0.5, 1) */
    int code = (int)rintf(ldexpf(a, 4 - e)) + (e + 5) * 8; /* 8 to 16 eighths; 16 carries into the exponent */
    return (uint8_t)(sign | (code > 0x7e ? 0x7e : code));
}

static float clamped(float x, float lo, float hi)
{
    x = rintf(x);
    return x < lo ? lo : x > hi ? hi : x;
}

/* ---------------------------------------------------------------- a group */
static float largest(const float *w, int64_t n)
{
    float m = 0;

    for (int64_t i = 0; i < n; i++)
        m = fabsf(w[i]) > m ? fabsf(w[i]) : m;
    return m;
}

/* What n numbers lose under a scale; code: NULL, or gets them as they are to be stored. */
static double integers(const float *w, int64_t n, float s, float lo, float hi, uint8_t *code)
{
    double lost = 0;

    for (int64_t i = 0; i < n; i++) {
        float q = s > 0 ? clamped(w[i] / s, lo, hi) : 0;
        double d = (double)w[i] - (double)(q * s);
        lost += d * d;
        if (code != NULL)
            code[i] = (uint8_t)((int)q + (hi > 7 ? 128 : 8));
    }
    return lost;
}

/* bf16 scales between the largest number's own and what clips it: the best. */
static float best_scale(const float *w, int64_t n, float lo, float hi, int tries)
{
    float most = largest(w, n), best = 0;
    double least = INFINITY;

    for (int t = 0; t < tries; t++) {
        float s = mb_bf16_float(mb_bf16_of(most * (1.0f - 0.05f * (float)t) / hi));
        double lost = s >= LEAST ? integers(w, n, s, lo, hi, NULL) : INFINITY;
        if (lost < least) {
            least = lost;
            best = s;
        }
    }
    return best;
}

static double floats4(const float *w, int64_t n, int e, uint8_t *code)
{
    double lost = 0;

    for (int64_t i = 0; i < n; i++) {
        uint8_t c = to_fp4(ldexpf(w[i], -e));
        double d = (double)w[i] - (double)ldexpf(fp4(c), e);
        lost += d * d;
        if (code != NULL)
            code[i] = c;
    }
    return lost;
}

/* The power of two by which the largest number fits, or nearly does. */
static int best_power(const float *w, int64_t n)
{
    float most = largest(w, n);
    int e;

    if (most < 0x1p-120f)
        return -127 + 8;
    (void)frexpf(most, &e); /* most is in [2^(e-1), 2^e): 4 to 8 times 2^(e-3) */
    return floats4(w, n, e - 3, NULL) <= floats4(w, n, e - 2, NULL) ? e - 3 : e - 2;
}

/* ---------------------------------------------------------------- rows */
static void note(struct mb_loss *loss, float w, float is)
{
    double d = fabs((double)w - (double)is);

    loss->square += (double)w * (double)w;
    loss->lost += d * d;
    loss->worst = d > loss->worst ? d : loss->worst;
}

static void put_ints(const struct mb_quantiser *q, const float *w, int64_t k, uint8_t *to, uint16_t *scale,
                     struct mb_loss *loss)
{
    bool wide = q->to == MB_QUANTISED_INT8;
    float lo = wide ? -127 : -8, hi = wide ? 127 : 7;
    int64_t group = mb_quantised_columns(q, k);
    uint8_t code[256];

    memset(to, 0, (size_t)mb_quantised_row(q, k));
    for (int64_t g = 0; g * group < k; g++) {
        int64_t n = k - g * group < group ? k - g * group : group;
        const float *x = w + g * group;
        float s = best_scale(x, n, lo, hi, wide ? 1 : TRIES);
        scale[g] = mb_bf16_of(s);
        for (int64_t b = 0; b < n; b += (int64_t)sizeof code) {
            int64_t part = n - b < (int64_t)sizeof code ? n - b : (int64_t)sizeof code;
            (void)integers(x + b, part, s, lo, hi, code);
            for (int64_t i = 0; i < part; i++) {
                int64_t at = g * group + b + i;
                note(loss, x[b + i], (float)((int)code[i] - (wide ? 128 : 8)) * s);
                to[wide ? at : at / 2] |= (uint8_t)(wide || at % 2 == 0 ? code[i] : code[i] << 4);
            }
        }
    }
}

static void put_mx(const float *w, int64_t k, uint8_t *to, uint8_t *scale, struct mb_loss *loss)
{
    uint8_t code[32];

    for (int64_t g = 0; g < k / 32; g++) {
        const float *x = w + 32 * g;
        int e = best_power(x, 32);
        scale[g] = (uint8_t)(e + 127);
        (void)floats4(x, 32, e, code);
        for (int i = 0; i < 32; i++)
            note(loss, x[i], ldexpf(fp4(code[i]), e));
        for (int i = 0; i < 16; i++)
            to[16 * g + i] = (uint8_t)(code[2 * i] | code[2 * i + 1] << 4);
    }
}

/* Up to 128 rows: a row of blocks. */
static void put_fp8(const float *w, int64_t n, int64_t k, uint8_t *to, float *scale, struct mb_loss *loss)
{
    for (int64_t b = 0; b * MB_FP8_BLOCK < k; b++) {
        int64_t k0 = b * MB_FP8_BLOCK, width = k - k0 < MB_FP8_BLOCK ? k - k0 : MB_FP8_BLOCK;
        float most = 0;
        for (int64_t i = 0; i < n; i++) {
            float m = largest(w + i * k + k0, width);
            most = m > most ? m : most;
        }
        float s = most / FP8_MOST < LEAST ? 1 : most / FP8_MOST;
        scale[b] = s;
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = k0; j < k0 + width; j++) {
                to[i * k + j] = to_fp8(w[i * k + j] / s);
                note(loss, w[i * k + j], mb_fp8_float(to[i * k + j]) * s);
            }
        }
    }
}

void mb_quantise(const struct mb_quantiser *q, const float *w, int64_t n, int64_t k, void *codes,
                 void *scales, struct mb_loss *loss)
{
    int64_t row = mb_quantised_row(q, k), cells = mb_quantised_scales(q, k);
    uint8_t *to = codes, *scale = scales;

    for (int64_t i = 0; i < n * k; i++)
        loss->bad += !isfinite(w[i]);
    if (loss->bad > 0) { /* nothing of it will be used */
        memset(codes, 0, (size_t)(n * row));
        return;
    }
    if (q->to == MB_QUANTISED_FP8) {
        for (int64_t i = 0; i < n; i += MB_FP8_BLOCK, scale += cells)
            put_fp8(w + i * k, n - i < MB_FP8_BLOCK ? n - i : MB_FP8_BLOCK, k, to + i * k,
                    (float *)(void *)scale, loss);
        return;
    }
    for (int64_t i = 0; i < n; i++, to += row, scale += cells) {
        if (q->to == MB_QUANTISED_MXFP4)
            put_mx(w + i * k, k, to, scale, loss);
        else
            put_ints(q, w + i * k, k, to, (uint16_t *)(void *)scale, loss);
    }
}
