/* Speed of GEMM and attention beside what the machine can do, measured in the same run:
 *   bench_gemm [threads [isa [gemm|stored|attention]]]
 * stored: weights kept as files store them, beside bf16; "read" is of the stored bytes, "bf16" the time of the same GEMM
 * on bf16 weights over its own (above 1: faster).
 * peak: f32 FMA in registers; read: a plain sweep over 256 MB. A GEMM with few rows is bound by reading its
 * weights (column "read"), one with many by FMA (column "peak"). Best of several runs; with one thread its
 * CPU time counts, so that other load disturbs little. */
#include <immintrin.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include "base/clock.h"
#include "device/ops.h"

enum { REPEATS = 5, READ_BYTES = 256 << 20 };
struct bench {
    const struct mb_ops *ops;
    struct mb_device *dev;
    struct mb_stream *s;
    int threads;
    double peak, read; /* flop/s, bytes/s */
};

static double now(const struct bench *b)
{
    return mb_clock_of(b->threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC);
}

static void die(const char *what)
{
    fprintf(stderr, "bench_gemm: %s\n", what);
    exit(1);
}

/* ---------------------------------------------------------------- the machine */
/* 12 independent chains of FMA; named variables, so that they stay in registers */
#define FMA_CHAINS(V, SET1, FMA, CONSTRAINT)                                                                 \
    V a = SET1(0.999f), b = SET1(0.001f), s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a,    \
      s8 = a, s9 = a, sa = a, sb = a;                                                                        \
    for (long k = 0; k < n; k++) {                                                                           \
        s0 = FMA(s0, a, b), s1 = FMA(s1, a, b), s2 = FMA(s2, a, b), s3 = FMA(s3, a, b), s4 = FMA(s4, a, b);  \
        s5 = FMA(s5, a, b), s6 = FMA(s6, a, b), s7 = FMA(s7, a, b), s8 = FMA(s8, a, b), s9 = FMA(s9, a, b);  \
        sa = FMA(sa, a, b), sb = FMA(sb, a, b);                                                              \
        __asm__ volatile(""                                                                                  \
                         : CONSTRAINT(s0), CONSTRAINT(s1), CONSTRAINT(s2), CONSTRAINT(s3), CONSTRAINT(s4),   \
                           CONSTRAINT(s5), CONSTRAINT(s6), CONSTRAINT(s7), CONSTRAINT(s8), CONSTRAINT(s9),   \
                           CONSTRAINT(sa), CONSTRAINT(sb));                                                  \
    }                                                                                                        \
    return 2.0 * 12 * (double)n * (double)(sizeof(V) / 4)
__attribute__((target("avx2,fma"))) static double fma_avx2(long n)
{
    FMA_CHAINS(__m256, _mm256_set1_ps, _mm256_fmadd_ps, "+x");
}
__attribute__((target("avx512f"))) static double fma_avx512(long n)
{
    FMA_CHAINS(__m512, _mm512_set1_ps, _mm512_fmadd_ps, "+v");
}

__attribute__((target("avx2"))) static double read_part(const unsigned char *p, size_t bytes)
{
    __m256i x = _mm256_setzero_si256(), y = x, z = x, w = x;
    for (size_t i = 0; i < bytes; i += 128, p += 128) {
        x = _mm256_xor_si256(x, _mm256_load_si256((const void *)p));
        y = _mm256_xor_si256(y, _mm256_load_si256((const void *)(p + 32)));
        z = _mm256_xor_si256(z, _mm256_load_si256((const void *)(p + 64)));
        w = _mm256_xor_si256(w, _mm256_load_si256((const void *)(p + 96)));
    }
    return _mm256_extract_epi32(_mm256_xor_si256(_mm256_xor_si256(x, y), _mm256_xor_si256(z, w)), 0);
}

static void measure_machine(struct bench *b)
{
    unsigned char *mem = aligned_alloc(64, READ_BYTES);
    if (mem == NULL)
        die("no memory");
    memset(mem, 1, READ_BYTES);
    volatile double sink = 0;
    for (int r = 0; r < REPEATS; r++) {
        double flops = 0, t = now(b);
#pragma omp parallel num_threads(b->threads) reduction(+ : flops)
        flops += __builtin_cpu_supports("avx512f") ? fma_avx512(1000000) : fma_avx2(1000000);
        double rate = flops / (now(b) - t);
        b->peak = rate > b->peak ? rate : b->peak;
        double sum = 0;
        t = now(b);
#pragma omp parallel num_threads(b->threads) reduction(+ : sum)
        {
#ifdef _OPENMP
            size_t part = READ_BYTES / (size_t)omp_get_num_threads() / 128 * 128;
            sum += read_part(mem + part * (size_t)omp_get_thread_num(), part);
#else
            sum += read_part(mem, READ_BYTES);
#endif
        }
        rate = READ_BYTES / (now(b) - t);
        sink = sink + sum;
        b->read = rate > b->read ? rate : b->read;
    }
    free(mem);
}

/* ---------------------------------------------------------------- GEMM */
static struct mb_weight *weight(const struct bench *b, int64_t n, int64_t k, enum mb_dtype t,
                                const float *values)
{
    struct mb_weight_desc d = {
        .n = n, .k = k, .dtype = t, .leaves = 1, .leaf = {0, k}, .cat = MB_MEM_WEIGHTS};
    struct mb_host_matrix m = {.base = values, .n = n, .k = k, .stride_n = k, .stride_k = 1};
    struct mb_weight *w;
    if (b->ops->weight_create(b->dev, &d, &w) != MB_OK || b->ops->weight_put(w, 0, 0, &m) != MB_OK)
        die("no weight");
    return w;
}

static struct mb_view view(const struct bench *b, int64_t rows, int64_t cols, enum mb_dtype t)
{
    struct mb_buf *buf;
    if (b->ops->buf_alloc(b->dev, MB_MEM_ACTIVATIONS, (uint64_t)(rows * cols * mb_dtype_size(t)), &buf) !=
        MB_OK)
        die("no buffer");
    return mb_view_of(buf, 0, rows, cols, t);
}

/* `copies` sets of weights used in turn, so that weights come from memory as in a model */
static void gemm(const struct bench *b, int64_t m, int64_t n, int64_t k, int experts, enum mb_dtype t)
{
    enum { MOST = 64 };
    int copies = (int)((256 << 20) / (n * k * experts * mb_dtype_size(t)));
    copies = copies < 1 ? 1 : copies * experts > MOST ? MOST / experts : copies;
    float *values = malloc((size_t)(n * k) * sizeof *values);
    for (int64_t i = 0; i < n * k; i++)
        values[i] = (float)(i * 7919 % 1021) / 512 - 1;
    struct mb_gemm_group group[MOST];
    for (int i = 0; i < copies * experts; i++)
        group[i] = (struct mb_gemm_group){weight(b, n, k, t, values), i % experts * m, m, 0, 0, MB_NO_VIEW};
    struct mb_view x = view(b, m * experts, k, t), out = view(b, m * experts, n, MB_F32);
    double best = 1e9;
    for (int r = 0; r < REPEATS; r++)
        for (int c = 0; c < copies; c++) {
            double s = now(b);
            if (b->ops->gemm(b->s, out, x, group + c * experts, experts) != MB_OK)
                die("gemm failed");
            s = now(b) - s;
            best = s < best ? s : best;
        }
    double flops = 2.0 * (double)(m * n * k * experts), bytes = (double)(n * k * experts * mb_dtype_size(t));
    printf("%5" PRId64 " %5" PRId64 " %5" PRId64 " %7d  %-4s %9.1f %7.2f %9.2f %7.2f\n", m, n, k, experts,
           t == MB_F32 ? "f32" : "bf16", flops / best / 1e9, flops / best / b->peak, bytes / best / 1e9,
           bytes / best / b->read);
    for (int i = 0; i < copies * experts; i++)
        b->ops->weight_free((struct mb_weight *)group[i].w);
    b->ops->buf_free(x.buf);
    b->ops->buf_free(out.buf);
    free(values);
}

/* ---------------------------------------------------------------- weights kept as stored */
static const struct stored_form {
    const char *name;
    struct mb_form f;
} forms[] = {
    {"bf16", {0}},
    {"mxfp4", {.code = MB_CODE_FP4, .bits = 4, .scale = MB_SCALE_E8M0, .group = 32}},
    {"int4 g128", {.code = MB_CODE_INT, .bits = 4, .scale = MB_STORE_BF16, .zero_add = 8, .group = 128}},
    {"int4 g32", {.code = MB_CODE_INT, .bits = 4, .scale = MB_STORE_BF16, .zero_add = 8, .group = 32}},
    {"awq g128", {.code = MB_CODE_INT, .bits = 4, .scale = MB_STORE_F16, .zeros = 1, .group = 128}},
    {"act-order", {.code = MB_CODE_INT, .bits = 4, .scale = MB_STORE_F16, .zeros = 1, .g_idx = 1, .group = 128}},
    {"nvfp4", {.code = MB_CODE_FP4, .bits = 4, .scale = MB_STORE_F8E4M3, .whole = MB_WHOLE_TIMES, .group = 16}},
    {"fp8 block", {.code = MB_CODE_E4M3, .bits = 8, .scale = MB_STORE_F32, .group = 128}},
    {"fp8 row", {.code = MB_CODE_E4M3, .bits = 8, .scale = MB_STORE_F32, .group = 1 << 20}},
    {"int8 row", {.code = MB_CODE_INT, .bits = 8, .scale = MB_STORE_BF16, .zero_add = 128, .group = 1 << 20}},
};

/* Codes as they may come, scales near 1/64. */
static void fill_blob(const struct mb_form *f, int64_t n, int64_t k, unsigned char *blob)
{
    struct mb_blob b = mb_form_blob(f, n, k);
    uint16_t half = f->scale == MB_STORE_F16 ? 0x2400 : 0x3c80;
    float s = 1.0f / 64;
    for (int64_t i = 0; i < b.bytes; i++) /* FP8: few small ones, no NaN */
        blob[i] = (unsigned char)(f->bits == 8 && f->code == MB_CODE_E4M3 ? 0x30 + i * 7919 % 61 : i * 7919 % 251);
    for (int64_t i = 0; i < n * mb_form_groups(f, k); i++)
        memcpy(blob + b.scale + i * mb_form_scale_size(f),
               f->scale == MB_STORE_F32                                   ? (void *)&s
               : f->scale == MB_SCALE_E8M0 || f->scale == MB_STORE_F8E4M3 ? (void *)&(uint8_t){0x70}
                                                                          : (void *)&half,
               (size_t)mb_form_scale_size(f));
    for (int64_t i = b.zero; i < b.code; i++)
        blob[i] = 7;
    for (int64_t i = 0; i < n && f->whole; i++)
        memcpy(blob + b.whole + 4 * i, &s, 4);
    for (int64_t j = 0; j < k && f->g_idx; j++)
        memcpy(blob + b.g_idx + 4 * j, &(int32_t){(int32_t)(j * 7919 % f->groups)}, 4);
}

static struct mb_weight *stored_weight(const struct bench *b, int64_t n, int64_t k, struct mb_form f)
{
    f.groups = f.group > k ? 1 : (int32_t)((k + f.group - 1) / f.group);
    struct mb_weight_desc d = {.n = n, .k = k, .dtype = MB_BF16, .leaves = 1, .leaf = {0, k}, .cat = MB_MEM_WEIGHTS, .form = f};
    unsigned char *blob = malloc((size_t)mb_form_blob(&f, n, k).bytes);
    struct mb_weight *w;
    fill_blob(&f, n, k, blob);
    struct mb_host_matrix m = mb_host_stored(&f, n, k, blob);
    if (b->ops->weight_create(b->dev, &d, &w) != MB_OK || b->ops->weight_put(w, 0, 0, &m) != MB_OK)
        die("no weight");
    free(blob);
    return w;
}

/* Seconds of the best of several GEMMs of m rows on weights that are used in turn. */
static double stored_time(const struct bench *b, int64_t m, int64_t n, int64_t k, const struct stored_form *f, double *bytes)
{
    enum { MOST = 64 };
    const struct mb_weight *w[MOST];
    float *values = calloc((size_t)(n * k), sizeof *values);
    int copies = 0;
    do
        w[copies++] = f->f.code == MB_CODE_NONE ? weight(b, n, k, MB_BF16, values) : stored_weight(b, n, k, f->f);
    while (copies < (m > 16 ? 2 : MOST) && copies * b->ops->weight_bytes(w[0]) < 96 << 20);
    free(values);
    *bytes = (double)b->ops->weight_bytes(w[0]);
    struct mb_view x = view(b, m, k, MB_BF16), out = view(b, m, n, MB_F32);
    double best = 1e9;
    for (int r = 0; r < REPEATS; r++) {
        double s = now(b);
        for (int c = 0; c < copies; c++)
            if (b->ops->gemm(b->s, out, x, &(struct mb_gemm_group){w[c], 0, m, 0, 0, MB_NO_VIEW}, 1) != MB_OK)
                die("gemm failed");
        s = (now(b) - s) / copies;
        best = s < best ? s : best;
    }
    for (int c = 0; c < copies; c++)
        b->ops->weight_free((struct mb_weight *)w[c]);
    b->ops->buf_free(x.buf);
    b->ops->buf_free(out.buf);
    return best;
}

static void storeds(const struct bench *b)
{
    enum { N = 2048, K = 2048, MS = 4 };
    static const int64_t ms[MS] = {1, 4, 16, 192};
    printf("\nstored        M   us a GEMM     GB/s   /read  GFLOP/s   /peak    bf16   size\n");
    double wide[MS];
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        for (int j = 0; j < MS; j++) {
            double bytes, t = stored_time(b, ms[j], N, K, &forms[i], &bytes), flops = 2.0 * (double)ms[j] * N * K;
            wide[j] = i == 0 ? t : wide[j];
            printf("%-10s %4" PRId64 "  %10.1f %8.2f %7.2f %8.1f %7.2f %7.2f %6.3f\n", forms[i].name, ms[j], t * 1e6,
                   bytes / t / 1e9, bytes / t / b->read, flops / t / 1e9, flops / t / b->peak, wide[j] / t, bytes / (2.0 * N * K));
        }
}

/* ---------------------------------------------------------------- attention */
static void attention(const struct bench *b, int seqs, int rows, int context, int heads, int kv_heads, int d,
                      int dv, bool v_in_k, enum mb_dtype t)
{
    int pages = (context + 63) / 64;
    struct mb_kv_desc desc = {seqs * pages, kv_heads, d, dv, v_in_k, t};
    struct mb_kv *kv;
    if (b->ops->kv_create(b->dev, &desc, &kv) != MB_OK)
        die("no pages");
    struct mb_view pos = view(b, seqs * rows, 1, MB_I32), seq = view(b, seqs * rows, 1, MB_I32);
    struct mb_view table = view(b, seqs, pages, MB_I32);
    int32_t *ints = malloc((size_t)(seqs * (rows + pages)) * sizeof *ints);
    for (int i = 0; i < seqs * rows; i++)
        ints[i] = context - rows + i % rows;
    b->ops->copy_in(b->s, pos, ints);
    for (int i = 0; i < seqs * rows; i++)
        ints[i] = i / rows;
    b->ops->copy_in(b->s, seq, ints);
    for (int i = 0; i < seqs * pages; i++)
        ints[i] = i;
    b->ops->copy_in(b->s, table, ints);
    free(ints);
    struct mb_attn_args a = {
        .kv = kv, .pos = pos, .seq = seq, .page_table = table, .heads = heads, .scale = 0.1f};
    a.segment = MB_KV_SEGMENT;
    a.q = view(b, seqs * rows, (int64_t)heads * d, t);
    struct mb_view out = view(b, seqs * rows, (int64_t)heads * dv, t);
    double best = 1e9;
    for (int r = 0; r < REPEATS; r++) {
        double s = now(b);
        if (b->ops->attention(b->s, out, &a) != MB_OK)
            die("attention failed");
        s = now(b) - s;
        best = s < best ? s : best;
    }
    double keys = (double)rows * context - 0.5 * (double)rows * (rows - 1);
    double flops = 2.0 * seqs * keys * heads * (d + dv);
    double bytes = (double)seqs * context * kv_heads * (d + (v_in_k ? 0 : dv)) * (double)mb_dtype_size(t);
    printf("%5d %5d %7d %5d %3d %4d %4d  %-4s %9.1f %7.2f %9.2f %7.2f\n", seqs, rows, context, heads,
           kv_heads, d, dv, t == MB_F32 ? "f32" : "bf16", flops / best / 1e9, flops / best / b->peak,
           bytes / best / 1e9, bytes / best / b->read);
    struct mb_view views[] = {pos, seq, table, a.q, out};
    for (int i = 0; i < 5; i++)
        b->ops->buf_free(views[i].buf);
    b->ops->kv_free(kv);
}

static void gemms(const struct bench *b)
{
    printf("    M     N     K experts  type   GFLOP/s /peak      GB/s   /read\n");
    static const int64_t ms[] = {1, 4, 8, 16, 64, 512};
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < 6; i++) {
            gemm(b, ms[i], 2048, 2048, 1, (enum mb_dtype)t);
            gemm(b, ms[i], 1024, 2816, 1, (enum mb_dtype)t);
            if (ms[i] < 64)
                gemm(b, ms[i], 1024, 1024, 8, (enum mb_dtype)t);
        }
}

static void attentions(const struct bench *b)
{
    printf("\n seqs  rows context heads  kv    d   dv  type   GFLOP/s /peak      GB/s   /read\n");
    for (int t = 0; t < 2; t++) {
        attention(b, 16, 1, 1000, 16, 16, 128, 128, false, (enum mb_dtype)t);
        attention(b, 16, 1, 1000, 32, 8, 128, 128, false, (enum mb_dtype)t);
        attention(b, 16, 1, 60, 32, 8, 128, 128, false, (enum mb_dtype)t);
        attention(b, 1, 256, 1000, 32, 8, 128, 128, false, (enum mb_dtype)t);
        attention(b, 8, 1, 1000, 16, 1, 576, 512, true, (enum mb_dtype)t);
    }
}

int main(int argc, char **argv)
{
    struct bench b = {.ops = mb_ops_find("cpu"), .threads = argc > 1 ? atoi(argv[1]) : 1};
    struct mb_mem mem = {0};
    struct mb_device_options o = {
        .threads = b.threads, .isa = argc > 2 ? argv[2] : "auto", .mem = &mem, .path = MB_F32};
    struct mb_device_info info;
    if (b.ops->open(&o, &b.dev) != MB_OK || b.ops->stream_create(b.dev, &b.s) != MB_OK)
        return 1;
    b.ops->info(b.dev, &info);
    measure_machine(&b);
    printf("kernels: %s; peak %.1f GFLOP/s, read %.1f GB/s\n\n", info.isa, b.peak / 1e9, b.read / 1e9);
    const char *only = argc > 3 ? argv[3] : "";
    if (only[0] == 0 || strcmp(only, "gemm") == 0)
        gemms(&b);
    if (only[0] == 0 || strcmp(only, "stored") == 0)
        storeds(&b);
    if (only[0] == 0 || strcmp(only, "attention") == 0)
        attentions(&b);
    b.ops->stream_destroy(b.s);
    b.ops->close(b.dev);
    return 0;
}
