#include "plan/sim_routes.h"

#include <math.h>
#include <stdbool.h>
#include "base/rng.h"

/* Numbers below n, one after another. */
struct draws {
    uint32_t word[4], ctr[4];
    uint64_t seed;
    int at;
};

static uint64_t next_below(struct draws *d, uint64_t n)
{
    if (d->at == 4) {
        mb_philox4x32(d->ctr, d->seed, d->word);
        d->ctr[3]++;
        d->at = 0;
    }
    uint64_t x = d->word[d->at++];
    return x * (n >> 32) + (x * (n & UINT32_MAX) >> 32);
}

/* A whole number, so that sums are exact and the same everywhere once it is. */
static uint64_t weight_of(double exponent, int32_t rank)
{
    double w = 1099511627776.0 * pow((double)rank + 1, -exponent);

    return w < 1 ? 1 : (uint64_t)w;
}

void mb_sim_popularity_make(struct mb_sim_popularity *p, double exponent, uint64_t seed, int32_t layer)
{
    struct draws d = {.ctr = {0, 0, (uint32_t)layer, 0}, .seed = seed ^ 0x706f70, .at = 4};

    for (int32_t e = 0; e < p->experts; e++) { /* a shuffled order */
        int32_t to = (int32_t)next_below(&d, (uint64_t)e + 1);
        p->order[e] = p->order[to];
        p->order[to] = e;
    }
    for (int32_t i = 0; i < p->experts; i++)
        p->sum[p->order[i]] = weight_of(exponent, i);
    for (int32_t e = 1; e < p->experts; e++)
        p->sum[e] += p->sum[e - 1];
    for (int32_t i = 0, e = 0; i < MB_SIM_GUIDE; i++) {
        while (p->sum[e] <= p->sum[p->experts - 1] / MB_SIM_GUIDE * (uint64_t)i)
            e++;
        p->guide[i] = e;
    }
}

/* The expert at a place below the whole sum. */
static int32_t find(const struct mb_sim_popularity *p, uint64_t x)
{
    uint64_t i = x / (p->sum[p->experts - 1] / MB_SIM_GUIDE);
    int32_t e = p->guide[i < MB_SIM_GUIDE ? i : MB_SIM_GUIDE - 1];

    while (p->sum[e] <= x)
        e++;
    return e;
}

static bool listed(const int32_t *ids, int32_t n, int32_t e)
{
    for (int32_t i = 0; i < n; i++) {
        if (ids[i] == e)
            return true;
    }
    return false;
}

void mb_sim_draw(const struct mb_sim_popularity *p, int32_t k, uint64_t seed, const uint32_t key[3],
                 int32_t *out)
{
    struct draws d = {.ctr = {key[0], key[1], key[2], 0}, .seed = seed, .at = 4};

    for (int32_t n = 0; n < k; n++) {
        int32_t e, tries = 0, to = n;
        do
            e = find(p, next_below(&d, p->sum[p->experts - 1]));
        while (listed(out, n, e) && tries++ < 1000);
        while (listed(out, n, e)) /* those that are left are drawn about never */
            e = (e + 1) % p->experts;
        for (; to > 0 && out[to - 1] > e; to--)
            out[to] = out[to - 1];
        out[to] = e;
    }
}
