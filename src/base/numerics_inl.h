/* Bodies of the expressions of base/numerics.h, for kernels that need them inside a loop or on a device; numerics.c wraps
 * these same bodies. */
#ifndef MB_BASE_NUMERICS_INL_H
#define MB_BASE_NUMERICS_INL_H
#include "base/mb_math_inl.h"
#include "base/numerics.h"
#include "base/rng.h"

MB_INLINE struct mb_osm mb_osm_join_inl(struct mb_osm a, struct mb_osm b, float *e1, float *e2)
{
    struct mb_osm r;
    if (!a.present || !b.present) {
        *e1 = a.present ? 1.0f : 0.0f;
        *e2 = b.present ? 1.0f : 0.0f;
        return a.present ? a : b;
    }
    r.m = a.m > b.m ? a.m : b.m;
    *e1 = mb_expf_inl(a.m - r.m);
    *e2 = mb_expf_inl(b.m - r.m);
    r.l = fmaf(a.l, *e1, b.l * *e2);
    r.present = true;
    return r;
}

MB_INLINE float mb_softcap_inl(float s, float cap)
{
    return cap * mb_tanhf_inl(s / cap);
}

MB_INLINE float mb_softplus_inl(float x)
{
    float t = mb_expf_inl(-fabsf(x)), w = 1.0f + t;
    float l = w == 1.0f ? t : mb_logf_inl(w) * (t / (w - 1.0f));
    return (x > 0 ? x : 0) + l;
}

MB_INLINE float mb_gumbel_of_inl(uint32_t x)
{
    float u = ((float)(x >> 9) + 0.5f) * 0x1p-23f;
    return -mb_logf_inl(-mb_logf_inl(u));
}

MB_INLINE float mb_gumbel_inl(uint64_t key, int64_t position, int32_t id)
{
    uint32_t ctr[4] = {(uint32_t)id >> 2, (uint32_t)position, (uint32_t)((uint64_t)position >> 32), 0};
    uint32_t x[4];
    mb_philox4x32(ctr, key, x);
    return mb_gumbel_of_inl(x[id & 3]);
}
#endif
