/* Clocks. Seconds as f64. Local. */
#ifndef MB_BASE_CLOCK_H
#define MB_BASE_CLOCK_H
#include <time.h>

static inline double mb_clock_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
/* Monotonic wall time: for durations. */
static inline double mb_now(void)
{
    return mb_clock_of(CLOCK_MONOTONIC);
}
/* Seconds since 1970: for what people read. */
static inline double mb_utc(void)
{
    return mb_clock_of(CLOCK_REALTIME);
}
#endif
