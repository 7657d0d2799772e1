/* Random numbers of tests: the same in every run. */
#ifndef MB_TESTS_DRAW_H
#define MB_TESTS_DRAW_H
#include <stdint.h>

static uint64_t state_of_draw;

/* From 0 to n - 1. */
static inline int32_t draw(int32_t n)
{
    uint64_t z = (state_of_draw += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    return (int32_t)((z >> 33) % (uint64_t)n);
}
#endif
