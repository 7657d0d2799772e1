/* Helpers of the device tests: a device per ISA and thread count, buffers filled from the host, a small
 * generator. */
#ifndef MB_TESTS_DEVICE_HELP_H
#define MB_TESTS_DEVICE_HELP_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/mb_math.h"
#include "device/ops.h"

/* What this machine can run: asked for by name, refused where the machine lacks it. */
static const char *const isa_names[] = {"portable", "avx2", "avx512", "avx512bf16", "amx"};
enum { ISAS = 5 };
#ifndef FIRST_ISA /* with stand-ins: those alone */
#define FIRST_ISA 0
#endif

#ifdef RIG_EMU /* a block's threads are fibres, and each load is looked at: fewer cases */
#define RIG_FEW(n) (((n) + 5) / 6)
#define RIG_STEP 3
#else
#define RIG_FEW(n) (n)
#define RIG_STEP 1
#endif

#ifndef RIG_BACKEND
#define RIG_BACKEND "cpu"
#endif

struct rig {
    const struct mb_ops *ops;
    struct mb_mem mem;
    struct mb_device *dev;
    struct mb_stream *s;
    uint64_t random;
};

static inline bool rig_open(struct rig *g, const char *isa, int32_t threads, enum mb_dtype path)
{
#ifdef RIG_EMU /* each number of threads is another order of the emulator's */
    static const char *const order[] = {"forward", "reverse", "shuffled"};
    setenv("MB_EMU_ORDER", order[(threads + 2) % 3], 1);
#endif
    *g = (struct rig){.ops = mb_ops_find(RIG_BACKEND), .random = 1};
    struct mb_device_options o = {.threads = threads, .isa = isa, .mem = &g->mem, .path = path};
    if (g->ops->open(&o, &g->dev) != MB_OK) {
        assert_false(FIRST_ISA > 0 && strcmp(RIG_BACKEND, "cpu") == 0); /* stand-ins are there */
        return false;
    }
    assert_int_equal(g->ops->stream_create(g->dev, &g->s), MB_OK);
    return true;
}

/* Closes and checks that everything was given back. */
/* What became of an operation that returned st: a device may only find out while it runs. */
static inline enum mb_status rig_done(struct rig *g, enum mb_status st)
{
    enum mb_status late = g->ops->sync(g->s);
    return st != MB_OK ? st : late;
}
static inline void rig_close(struct rig *g)
{
    g->ops->stream_destroy(g->s);
    g->ops->close(g->dev);
    assert_int_equal(mb_mem_total(&g->mem), 0);
}

static inline uint32_t rig_random(struct rig *g)
{
    g->random = g->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(g->random >> 32);
}
/* A value of ordinary size with all mantissa bits; half: exact in bf16. */
static inline float rig_value(struct rig *g, bool half)
{
    uint32_t u = rig_random(g), e = 127 - 6 + rig_random(g) % 8;
    float v = mb_float_of((u & 0x80000000u) | e << 23 | (u & 0x7fffffu));
    return half ? mb_bf16_float(mb_bf16_of(v)) : v;
}

/* A view of a new buffer with rows x cols of type t from host floats v (row by row), stride >= cols. */
static inline struct mb_view rig_floats(struct rig *g, const float *v, int64_t rows, int64_t cols,
                                        int64_t stride, enum mb_dtype t)
{
    struct mb_buf *b;
    uint64_t size = (uint64_t)mb_dtype_size(t);
    assert_int_equal(g->ops->buf_alloc(g->dev, MB_MEM_ACTIVATIONS, (uint64_t)(rows * stride) * size + 64, &b),
                     MB_OK);
    struct mb_view view = {b, 64, rows, cols, stride, t};
    unsigned char *host = malloc((size_t)(rows * cols) * 4 + 1);
    for (int64_t i = 0; v != NULL && i < rows * cols; i++)
        if (t == MB_F32)
            ((float *)(void *)host)[i] = v[i];
        else
            ((uint16_t *)(void *)host)[i] = mb_bf16_of(v[i]);
    if (v != NULL)
        assert_int_equal(g->ops->copy_in(g->s, view, host), MB_OK);
    free(host);
    return view;
}
static inline struct mb_view rig_ints(struct rig *g, const int32_t *v, int64_t rows, int64_t cols)
{
    struct mb_buf *b;
    assert_int_equal(g->ops->buf_alloc(g->dev, MB_MEM_ACTIVATIONS, (uint64_t)(rows * cols) * 4 + 4, &b),
                     MB_OK);
    struct mb_view view = mb_view_of(b, 0, rows, cols, MB_I32);
    assert_int_equal(g->ops->copy_in(g->s, view, v), MB_OK);
    return view;
}
/* The view's values as floats, row by row; the caller frees. */
static inline float *rig_read(struct rig *g, struct mb_view v)
{
    int64_t n = v.rows * v.cols;
    float *out = malloc((size_t)n * 4 + 4);
    assert_int_equal(g->ops->copy_out(g->s, out, v), MB_OK);
    if (v.dtype == MB_BF16)
        for (int64_t i = n - 1; i >= 0; i--) {
            uint16_t h;
            memcpy(&h, (char *)out + 2 * i, 2);
            out[i] = mb_bf16_float(h);
        }
    return out;
}
static inline void rig_free(struct rig *g, struct mb_view v)
{
    g->ops->buf_free(v.buf);
}
#endif
