/* For tests of the device operations: one context per backend, ISA and thread count, and views with odd
 * offsets and strides. Everything uploaded is freed by ops_reset. */
#ifndef TESTS_OPS_HELP_H
#define TESTS_OPS_HELP_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdbool.h>
#include "base/mb_math.h"
#include "base/mem.h"
#include "device/ops.h"

struct ops_ctx {
    const struct mb_ops *ops;
    struct mb_device *dev;
    struct mb_stream *s;
    struct mb_mem mem;
    enum mb_dtype path;
    struct mb_buf *buf[64];
    int bufs;
    uint64_t seed;
};

/* Runs fn on every backend of the registry, the CPU with every ISA this machine has, with 1 and 3 threads and
 * both path types; the calling thread has the contract's floating-point mode. */
void ops_each(void (*fn)(struct ops_ctx *));
void ops_reset(struct ops_ctx *c);

uint32_t ops_rnd(struct ops_ctx *c);
float ops_rnd_float(struct ops_ctx *c); /* about +-4, sometimes 0 */
void ops_fill(struct ops_ctx *c, float *x, int64_t n);

/* A view of new device memory with the packed host data in it (data NULL: random bytes that are no NaN). */
struct mb_view ops_up(struct ops_ctx *c, const void *data, int64_t rows, int64_t cols, enum mb_dtype t);
void ops_down(struct ops_ctx *c, void *dst, struct mb_view v);
/* The view equals want (f32) rounded to the view's type, element by element with ==. */
void ops_equal(struct ops_ctx *c, struct mb_view v, const float *want);
void ops_equal_i32(struct ops_ctx *c, struct mb_view v, const int32_t *want);

/* R32 by its words: kind 0 sum, 1 products. */
float naive_r32(const float *x, const float *w, int64_t n, int kind);
/* The tree rule by its words, over positions [lo, lo + size); false: nothing present. */
bool naive_tree(const float *v, const int32_t *pos, int n, int64_t lo, int64_t size, float *out);
/* (max, sum of exp) of a row of logits by its 16 leaves; a leaf of nothing above -inf is absent. */
void naive_stats(const float *z, int V, float out[2]);
#endif
