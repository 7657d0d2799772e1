/* The CPU's limits: chains of one instruction in registers, and reads of more memory than caches hold. */
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#include "base/clock.h"
#include "device/cpu_amx.h"
#include "device/cpu.h"
#include "device/cpu_isa.h"
#include "device/limits.h"

enum { CHAINS = 12, ROUNDS = 20000, ITEMS = 64, PIECE = 1 << 20 };

/* Twelve chains hide the latency of an instruction that two units start every cycle. The empty assembly keeps
 * the compiler from seeing what is in them. */
#define RUN_CHAINS(V, CONSTRAINT, STEP)                                                                      \
    V s[CHAINS];                                                                                             \
    memset(s, 0, sizeof s);                                                                                  \
    V s0 = s[0], s1 = s[1], s2 = s[2], s3 = s[3], s4 = s[4], s5 = s[5], s6 = s[6], s7 = s[7], s8 = s[8],     \
      s9 = s[9], sa = s[10], sb = s[11];                                                                     \
    for (int i = 0; i < ROUNDS; i++) {                                                                       \
        s0 = STEP(s0), s1 = STEP(s1), s2 = STEP(s2), s3 = STEP(s3), s4 = STEP(s4), s5 = STEP(s5);            \
        s6 = STEP(s6), s7 = STEP(s7), s8 = STEP(s8), s9 = STEP(s9), sa = STEP(sa), sb = STEP(sb);            \
        __asm__ volatile(""                                                                                  \
                         : CONSTRAINT(s0), CONSTRAINT(s1), CONSTRAINT(s2), CONSTRAINT(s3), CONSTRAINT(s4),   \
                           CONSTRAINT(s5), CONSTRAINT(s6), CONSTRAINT(s7), CONSTRAINT(s8), CONSTRAINT(s9),   \
                           CONSTRAINT(sa), CONSTRAINT(sb));                                                  \
    }

__attribute__((target("avx2,fma"))) static void chains_avx2(void)
{
    __m256 a = _mm256_set1_ps(0.5f), b = _mm256_set1_ps(1);
#define STEP(s) _mm256_fmadd_ps(s, a, b)
    RUN_CHAINS(__m256, "+x", STEP)
#undef STEP
}

__attribute__((target("avx512f"))) static void chains_avx512(void)
{
    __m512 a = _mm512_set1_ps(0.5f), b = _mm512_set1_ps(1);
#define STEP(s) _mm512_fmadd_ps(s, a, b)
    RUN_CHAINS(__m512, "+v", STEP)
#undef STEP
}

__attribute__((target("avx512f,avx512bf16"))) static void chains_bf16(void)
{
    __m512i one = _mm512_set1_epi32(0x3f803f80);
    __m512bh a = (__m512bh)one;
#define STEP(s) _mm512_dpbf16_ps(s, a, a)
    RUN_CHAINS(__m512, "+v", STEP)
#undef STEP
}

__attribute__((target("avx512f,avx512vnni"))) static void chains_vnni(void)
{
    __m512i a = _mm512_set1_epi32(0x01010101);
#define STEP(s) _mm512_dpbusd_epi32(s, a, a)
    RUN_CHAINS(__m512i, "+v", STEP)
#undef STEP
}

/* ---------------------------------------------------------------- tiles */
#define AMX static __attribute__((target("amx-tile,amx-bf16,amx-int8")))
AMX void tiles_begin(void)
{
    mb_amx_begin();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
}

/* Four sums of two by two tiles, as a kernel has them. */
AMX void tiles_bf16(void)
{
    tiles_begin();
    for (int i = 0; i < ROUNDS / 8; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
}

AMX void tiles_int8(void)
{
    tiles_begin();
    for (int i = 0; i < ROUNDS / 8; i++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
}

static bool has_amx_int8(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 25 & 1) != 0;
}

/* ---------------------------------------------------------------- reading */
__attribute__((target("avx2"))) static uint64_t read_avx2(const unsigned char *p, int64_t bytes)
{
    __m256i x = _mm256_setzero_si256(), y = x, z = x, w = x;

    for (int64_t i = 0; i < bytes; i += 128, p += 128) {
        x = _mm256_xor_si256(x, _mm256_load_si256((const void *)p));
        y = _mm256_xor_si256(y, _mm256_load_si256((const void *)(p + 32)));
        z = _mm256_xor_si256(z, _mm256_load_si256((const void *)(p + 64)));
        w = _mm256_xor_si256(w, _mm256_load_si256((const void *)(p + 96)));
    }
    x = _mm256_xor_si256(_mm256_xor_si256(x, y), _mm256_xor_si256(z, w));
    return (uint64_t)_mm256_extract_epi64(x, 0) ^ (uint64_t)_mm256_extract_epi64(x, 2);
}

static uint64_t read_portable(const unsigned char *p, int64_t bytes)
{
    uint64_t x[4] = {0}, v[4];

    for (int64_t i = 0; i < bytes; i += (int64_t)sizeof v) {
        memcpy(v, p + i, sizeof v);
        for (int j = 0; j < 4; j++)
            x[j] ^= v[j];
    }
    return x[0] ^ x[1] ^ x[2] ^ x[3];
}

/* ---------------------------------------------------------------- the measurement */
struct work {
    void (*chains)(void);
    uint64_t (*read)(const unsigned char *p, int64_t bytes);
    unsigned char *memory;
    _Atomic uint64_t seen; /* so that what was read is needed */
};

static void run_chains(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct work *w = arg;

    (void)thread;
    for (int64_t i = begin; i < end; i++)
        w->chains();
}

static void touch(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    struct work *w = arg;

    memset(w->memory + begin * PIECE, 1 + thread, (size_t)(end - begin) * PIECE);
}

static void run_read(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    struct work *w = arg;

    (void)thread;
    w->seen ^= w->read(w->memory + begin * PIECE, (end - begin) * PIECE);
}

/* What one call of a chain function computes, or NULL where the CPU lacks it. */
struct chain {
    void (*fn)(void);
    double ops;
};

static struct chain chain_of(enum mb_limit l)
{
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"),
         wide = __builtin_cpu_supports("avx512f");
    bool tiles = mb_isa_detect() == MB_ISA_AMX;
    double vectors = (double)CHAINS * ROUNDS, products = ROUNDS / 8 * 4.0 * 16 * 16;

    switch (l) {
    case MB_LIMIT_F32:
        if (wide)
            return (struct chain){chains_avx512, vectors * 32};
        return avx2 ? (struct chain){chains_avx2, vectors * 16} : (struct chain){0};
    case MB_LIMIT_BF16:
        return wide && __builtin_cpu_supports("avx512bf16") ? (struct chain){chains_bf16, vectors * 64}
                                                            : (struct chain){0};
    case MB_LIMIT_INT8:
        return wide && __builtin_cpu_supports("avx512vnni") ? (struct chain){chains_vnni, vectors * 128}
                                                            : (struct chain){0};
    case MB_LIMIT_BF16_TILE:
        return tiles ? (struct chain){tiles_bf16, products * 64} : (struct chain){0};
    case MB_LIMIT_INT8_TILE:
        return tiles && has_amx_int8() ? (struct chain){tiles_int8, products * 128} : (struct chain){0};
    default:
        return (struct chain){0};
    }
}

static void measure_chain(const struct mb_device *dev, enum mb_limit l, struct mb_limits *out)
{
    struct chain c = chain_of(l);
    struct work w = {.chains = c.fn};
    int64_t items = (int64_t)dev->threads * ITEMS;

    if (c.fn == NULL)
        return;
    mb_cpu_run(dev, dev->threads, 1, run_chains, &w);
    for (int r = 0; r < out->repeats; r++) {
        double t = mb_now();
        mb_cpu_run(dev, items, 1, run_chains, &w);
        out->rate[l][r] = c.ops * (double)items / (mb_now() - t);
    }
}

static enum mb_status measure_read(const struct mb_device *dev, struct mb_mem *mem, uint64_t bytes,
                                   struct mb_limits *out)
{
    int64_t pieces = (int64_t)(bytes / PIECE);
    struct work w = {.read = __builtin_cpu_supports("avx2") ? read_avx2 : read_portable,
                     .memory = mb_alloc(mem, MB_MEM_OTHER, (size_t)pieces, PIECE)};

    if (w.memory == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to read %lld MiB; give a smaller --buffer",
                        (long long)pieces);
    mb_cpu_run(dev, pieces, 1, touch, &w);
    for (int r = 0; r < out->repeats; r++) {
        double t = mb_now();
        mb_cpu_run(dev, pieces, 1, run_read, &w);
        out->rate[MB_LIMIT_READ][r] = (double)pieces * PIECE / (mb_now() - t);
    }
    mb_free(w.memory);
    return MB_OK;
}

enum mb_status mb_limits_measure(struct mb_device *dev, struct mb_mem *mem, uint64_t read_bytes, int repeats,
                                 struct mb_limits *out)
{
    if (mb_device_ops(dev)->gemm != mb_cpu_ops.gemm)
        return mb_error(MB_LAYOUT, "the limits of a device of kind %s can't be measured; use --backend cpu",
                        mb_device_ops(dev)->name);
    memset(out, 0, sizeof *out);
    out->repeats = repeats < 1 ? 1 : repeats > MB_LIMIT_REPEATS ? MB_LIMIT_REPEATS : repeats;
    __builtin_cpu_init();
    for (int l = MB_LIMIT_F32; l < MB_LIMIT_COUNT; l++)
        measure_chain(dev, (enum mb_limit)l, out);
    return measure_read(dev, mem, read_bytes < PIECE ? PIECE : read_bytes, out);
}

/* ---------------------------------------------------------------- what was measured */
const char *mb_limit_name(enum mb_limit l)
{
    static const char *const names[MB_LIMIT_COUNT] = {"read",     "f32 FMA",   "bf16 vdpbf16ps",
                                                      "bf16 AMX", "int8 VNNI", "int8 AMX"};
    return (unsigned)l < MB_LIMIT_COUNT ? names[l] : "?";
}

double mb_limit_best(const struct mb_limits *l, enum mb_limit which)
{
    double best = 0;

    for (int r = 0; r < l->repeats; r++)
        best = l->rate[which][r] > best ? l->rate[which][r] : best;
    return best;
}

double mb_limit_peak(const struct mb_limits *l, enum mb_dtype type, enum mb_limit *which)
{
    static const enum mb_limit of_bf16[] = {MB_LIMIT_BF16, MB_LIMIT_BF16_TILE};
    double peak = mb_limit_best(l, MB_LIMIT_F32);

    *which = MB_LIMIT_F32;
    for (int i = 0; i < 2 && type == MB_BF16; i++) {
        double rate = mb_limit_best(l, of_bf16[i]);
        if (rate > peak) {
            peak = rate;
            *which = of_bf16[i];
        }
    }
    return peak;
}
