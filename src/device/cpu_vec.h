/* Row kernels of the CPU backend: what runs inside one row (or a piece of one) of the operations that are not
 * dot-rule GEMMs. One source, cpu_vec_body.h, is compiled once per ISA; lanes are elements, so every set has
 * the same bits. They expect the contract's floating-point mode. Pointers may alias only as whole rows (out
 * == x). */
#ifndef MB_DEVICE_CPU_VEC_H
#define MB_DEVICE_CPU_VEC_H
#include "device/cpu.h"

/* Columns of a state of the gated delta rule that go through the positions together, and the positions. */
struct mb_delta_panel {
    float *s;            /* [dk][MB_DELTA_COLS] */
    const float *q, *k;  /* of the first position: dk each */
    float *v;            /* of these columns; becomes the output */
    const float *rate;   /* decay, beta */
    int64_t stride;      /* from a position's q, k and v to the next one's */
    int64_t rate_stride; /* the same of rate */
    int64_t rows, dk;
    int32_t cols; /* of v; further ones of s are zeros */
};

struct mb_vec {
    /* out = a + b; out = x * c; x clamped to [-c, c]; bf16 to f32, and times c; f32 to bf16 */
    void (*add)(float *out, const float *a, const float *b, int64_t n);
    void (*mul)(float *out, const float *x, float c, int64_t n);
    void (*div)(float *out, const float *x, float c, int64_t n);
    void (*clamp)(float *x, float c, int64_t n);
    /* out = fmaf(a, ca, b * cb) */
    void (*mix)(float *out, const float *a, float ca, const float *b, float cb, int64_t n);
    void (*mul_bf16)(float *out, const uint16_t *x, float c, int64_t n);
    void (*round)(uint16_t *out, const float *x, int64_t n);

    /* out = act(g) * u, by enum mb_act_kind */
    void (*act[4])(float *out, const float *g, const float *u, float limit, int64_t n);
    /* pairs to (a cos - b sin, b cos + a sin); half: rows a and b apart, interleaved: x[2i], x[2i + 1] */
    void (*rope_half)(float *out_a, float *out_b, const float *a, const float *b, const float *cos,
                      const float *sin, int64_t n);
    void (*rope_interleaved)(float *out, const float *x, const float *cos, const float *sin, int64_t n);
    /* out = exp(x - c) / l; out = sigmoid(x) */
    void (*exp_div)(float *out, const float *x, float c, float l, int64_t n);
    void (*sigmoid)(float *out, const float *x, int64_t n);

    /* R32 sums: x; x*w; (x - c)^2; exp(x - c) */
    float (*r32_sum)(const float *x, int64_t n);
    float (*r32_dot)(const float *x, const float *w, int64_t n);
    float (*r32_dev)(const float *x, float c, int64_t n);
    float (*r32_exp)(const float *x, float c, int64_t n);
    /* out[j] = R32 dot of x and row j of w, m rows */
    void (*r32_dots)(float *out, const float *x, const float *w, int64_t w_stride, int64_t m, int64_t n);
    /* out = ((x - c) * r) * w + b; b may be NULL; rms: (x * r) * w */
    void (*norm_layer)(float *out, const float *x, float c, float r, const float *w, const float *b,
                       int64_t n);
    void (*norm_rms)(float *out, const float *x, float r, const float *w, int64_t n);

    /* largest value (never -0; NaN skipped; -inf of nothing), whether all are finite; first index of value m
     * (n: none) */
    float (*max)(const float *x, int64_t n, bool *finite);
    int64_t (*find)(const float *x, float m, int64_t n);
    /* out[b] = largest of x[32 b .. 32 b + 32), the last block may be short; NaN skipped */
    void (*block_max)(float *out, const float *x, int64_t n);
    /* x = Philox words of ids [4*quad, 4*quad + 64) at a position; bit i of the result: mb_gumbel_of(x[i])
     * may be >= c */
    uint64_t (*noise64)(uint32_t *x, uint64_t key, int64_t position, uint32_t quad, float c);
    /* out[i] = mb_exp((double)x[i] - (double)c) */
    void (*exp64)(double *out, const float *x, float c, int64_t n);

    /* out = sigmoid(g) * x */
    void (*gate)(float *out, const float *g, const float *x, int64_t n);
    /* out[i] = silu of the chain fmaf(w[j * w_stride + i], in[j][i], .) over j = 0 .. taps - 1 from +0 */
    void (*conv)(float *out, const float *const *in, const float *w, int64_t w_stride, int32_t taps,
                 int64_t n);
    /* The gated delta rule for MB_DELTA_COLS columns of a head's state over some positions (cpu_vec_delta.h) */
    void (*delta)(const struct mb_delta_panel *p);
};
const struct mb_vec *mb_vec_of(const struct mb_device *dev);
extern const struct mb_vec mb_vec_portable, mb_vec_avx2, mb_vec_avx512;

/* Columns that pass through a stack buffer at a time where a result is rounded to bf16. */
#define MB_CHUNK 512
/* Most leaves of a whole-vector norm (heads of a model with such a norm). */
/* Row grain for work of one element's cost `cost`: pieces big enough to be worth a thread. */
static inline int64_t mb_grain(int64_t cols, int64_t cost)
{
    int64_t work = cols * cost;
    return work >= 32768 ? 1 : 1 + 32768 / (work > 0 ? work : 1);
}
#endif
