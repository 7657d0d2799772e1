/* Row kernels of gated attention and gated DeltaNet (device/ops.h: gate_by, conv, delta); a part of
 * cpu_vec_body.h. */
#define PANEL (MB_DELTA_COLS / LANES)

FN void gate(float *out, const float *g, const float *x, int64_t n)
{
    SIMD for (int64_t i = 0; i < n; i++) out[i] = mb_sigmoidf_inl(g[i]) * x[i];
}

FN void conv(float *out, const float *const *in, const float *w, int64_t w_stride, int32_t taps, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = 0;
    for (int32_t j = 0; j < taps; j++) {
        const float *x = in[j], *c = w + j * w_stride;
        SIMD for (int64_t i = 0; i < n; i++) out[i] = fmaf(c[i], x[i], out[i]);
    }
    SIMD for (int64_t i = 0; i < n; i++) out[i] = mb_silu_inl(out[i]);
}

/* The dot rule over the rows of the state, 32 at a time: one chain over even rows, one over odd ones. */
#define COLS UNROLL for (int r = 0; r < PANEL; r++)
#define DOT_RULE(sum, dk, TERM)                                                                              \
    COLS sum[r] = v_zero();                                                                                  \
    for (int64_t b = 0; b < (dk); b += 32) {                                                                 \
        vec even[PANEL], odd[PANEL];                                                                         \
        int64_t end = (dk) < b + 32 ? (dk) : b + 32, i = b;                                                  \
        COLS even[r] = odd[r] = v_zero();                                                                    \
        for (; i + 2 <= end; i += 2) {                                                                       \
            COLS TERM(even, i);                                                                              \
            COLS TERM(odd, i + 1);                                                                           \
        }                                                                                                    \
        if (i < end)                                                                                         \
            COLS TERM(even, i);                                                                              \
        COLS sum[r] = v_add(sum[r], v_add(even[r], odd[r]));                                                 \
    }

/* One position. The decayed state is computed twice instead of being written in between. */
FN void delta_row(float *s, const float *q, const float *k, float *v, float decay, float beta, int64_t dk)
{
    vec sum[PANEL], d[PANEL], g = v_set1(decay);

#define READ(acc, i) acc[r] = v_fma(v_mul(g, v_load(s + (i)*MB_DELTA_COLS + r * LANES)), v_set1(k[i]), acc[r])
    DOT_RULE(sum, dk, READ)
    COLS d[r] = v_mul(v_set1(beta), v_sub(v_load(v + r * LANES), sum[r]));
#define WRITE(acc, i)                                                                                        \
    {                                                                                                        \
        float *at = s + (i)*MB_DELTA_COLS + r * LANES;                                                       \
        vec x = v_fma(v_set1(k[i]), d[r], v_mul(g, v_load(at)));                                             \
        v_store(at, x);                                                                                      \
        acc[r] = v_fma(x, v_set1(q[i]), acc[r]);                                                             \
    }
    DOT_RULE(sum, dk, WRITE)
    COLS v_store(v + r * LANES, sum[r]);
}

FN void delta(const struct mb_delta_panel *p)
{
    for (int64_t t = 0; t < p->rows; t++) {
        const float *q = p->q + t * p->stride, *k = p->k + t * p->stride,
                    *rate = p->rate + t * p->rate_stride;
        float *v = p->v + t * p->stride, part[MB_DELTA_COLS] = {0};
        if (p->cols == MB_DELTA_COLS) {
            delta_row(p->s, q, k, v, rate[0], rate[1], p->dk);
            continue;
        }
        for (int32_t i = 0; i < p->cols; i++)
            part[i] = v[i];
        delta_row(p->s, q, k, part, rate[0], rate[1], p->dk);
        for (int32_t i = 0; i < p->cols; i++)
            v[i] = part[i];
    }
}
