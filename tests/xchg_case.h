/* A case of an exchange: sizes, placement and everybody's rows, all from a seed, so that every rank knows
 * every rank's rows. */
#ifndef MB_TESTS_XCHG_CASE_H
#define MB_TESTS_XCHG_CASE_H
#include <string.h>
#include "base/mb_math.h"
#include "comm/xchg.h"

#define MAX_M 60
#define MAX_K 32
#define MAX_N 16

static inline uint64_t mix(uint64_t z)
{
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

struct rng {
    uint64_t s;
};
static inline uint32_t draw(struct rng *r, uint32_t n)
{
    return (uint32_t)(mix(r->s++) % n);
}

struct kase {
    int32_t size; /* members */
    int64_t hidden;
    int32_t k, experts;
    enum mb_dtype xt, yt;
    enum mb_alltoall algorithm;
    int32_t nodes, per_node[MAX_N];
    uint64_t shm, eager;
    int placement; /* 0 uniform, 1 scattered, 2 random, 3 all on one, 4 random over half of the ranks */
    int rows;      /* 0 random, 1 none anywhere, 2 only the last rank has rows, 3 all MAX_M */
    bool tagged;
    int32_t layers, steps;
    uint64_t seed;
};

/* One member's rows of one exchange. */
struct input {
    int32_t m, experts[MAX_M * MAX_K];
    float weights[MAX_M * MAX_K];
    uint16_t tags[MAX_M];
};

static inline void make_input(const struct kase *q, int32_t member, int64_t step, int32_t layer,
                              struct input *in)
{
    struct rng r = {mix(q->seed ^ (uint64_t)member << 40 ^ (uint64_t)step << 20 ^ (uint64_t)layer)};
    uint8_t used[1024];

    in->m = q->rows == 1 || (q->rows == 2 && member != q->size - 1) ? 0
            : q->rows == 3                                          ? MAX_M
                                                                    : (int32_t)draw(&r, MAX_M + 1);
    for (int32_t m = 0; m < in->m; m++) {
        static const uint16_t tags[] = {0, 1, 3, 256, 65535};
        in->tags[m] = q->tagged ? tags[draw(&r, 5)] : 0;
        memset(used, 0, sizeof used);
        for (int32_t j = 0; j < q->k; j++) {
            int32_t e = (int32_t)draw(&r, (uint32_t)q->experts);
            while (used[e])
                e = (e + 1) % q->experts;
            used[e] = 1;
            in->experts[m * q->k + j] = e;
            in->weights[m * q->k + j] = (float)(draw(&r, 2001)) / 1000.0f - 0.7f;
        }
    }
}

/* Row m's value in column col: the first three columns name home, row and step, so order and contents are
 * checked at once. */
static inline float x_value(const struct kase *q, int32_t home, int32_t m, int64_t step, int64_t col)
{
    float v = col == 0   ? (float)home
              : col == 1 ? (float)m
              : col == 2
                  ? (float)step
                  : (float)(mix(q->seed + (uint64_t)(home * 1000 + m) * 131 + (uint64_t)col) % 4096) / 777.0f;
    return q->xt == MB_BF16 ? mb_bf16_float(mb_bf16_of(v)) : v;
}

/* What the test takes for an expert: rounded to y's type. */
static inline float y_value(const struct kase *q, int32_t expert, float x, int64_t col)
{
    float v =
        x * (1.0f + (float)((expert * 37 + 11) % 97) / 31.0f) + (float)(expert % 13) - 0.01f * (float)col;
    return q->yt == MB_BF16 ? mb_bf16_float(mb_bf16_of(v)) : v;
}
#endif
