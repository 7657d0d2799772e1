#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

struct mb_hasher {
    XXH3_state_t *s64;
    XXH3_state_t *s128;
};

uint64_t mb_hash64(const void *data, size_t n)
{
    return XXH3_64bits(data, n);
}

struct mb_hash128 mb_hash128_of(const void *data, size_t n)
{
    XXH128_hash_t h = XXH3_128bits(data, n);
    return (struct mb_hash128){h.low64, h.high64};
}

struct mb_hasher *mb_hasher_create(void)
{
    struct mb_hasher *h = calloc(1, sizeof *h);
    if (h == NULL)
        return NULL;
    h->s64 = XXH3_createState();
    h->s128 = XXH3_createState();
    if (h->s64 == NULL || h->s128 == NULL) {
        mb_hasher_destroy(h);
        return NULL;
    }
    mb_hasher_reset(h);
    return h;
}

void mb_hasher_destroy(struct mb_hasher *h)
{
    if (h == NULL)
        return;
    XXH3_freeState(h->s64);
    XXH3_freeState(h->s128);
    free(h);
}

void mb_hasher_reset(struct mb_hasher *h)
{
    XXH3_64bits_reset(h->s64);
    XXH3_128bits_reset(h->s128);
}

void mb_hasher_put(struct mb_hasher *h, const void *data, size_t n)
{
    if (n == 0)
        return;
    XXH3_64bits_update(h->s64, data, n);
    XXH3_128bits_update(h->s128, data, n);
}

void mb_hasher_field(struct mb_hasher *h, const void *data, size_t n)
{
    uint64_t len = n; /* x86-64 only: little-endian as it is */
    mb_hasher_put(h, &len, sizeof len);
    mb_hasher_put(h, data, n);
}

uint64_t mb_hasher_64(const struct mb_hasher *h)
{
    return XXH3_64bits_digest(h->s64);
}

struct mb_hash128 mb_hasher_128(const struct mb_hasher *h)
{
    XXH128_hash_t d = XXH3_128bits_digest(h->s128);
    return (struct mb_hash128){d.low64, d.high64};
}

void mb_hash128_hex(struct mb_hash128 h, char out[33])
{
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)h.hi, (unsigned long long)h.lo);
}
