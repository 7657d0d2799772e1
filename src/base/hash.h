/* XXH3 over byte ranges (xxHash), and the field form of the result digest. Local. */
#ifndef MB_BASE_HASH_H
#define MB_BASE_HASH_H
#include <stdint.h>
#include <stddef.h>

struct mb_hash128 {
    uint64_t lo, hi;
};
struct mb_hasher; /* streaming XXH3, 64 and 128 bits of the same bytes */

uint64_t mb_hash64(const void *data, size_t n);
struct mb_hash128 mb_hash128_of(const void *data, size_t n);

/* NULL without memory. */
struct mb_hasher *mb_hasher_create(void);
void mb_hasher_destroy(struct mb_hasher *h);
void mb_hasher_reset(struct mb_hasher *h);
void mb_hasher_put(struct mb_hasher *h, const void *data, size_t n);
/* u64 little-endian byte length, then the bytes: one field of a row hash. */
void mb_hasher_field(struct mb_hasher *h, const void *data, size_t n);
uint64_t mb_hasher_64(const struct mb_hasher *h);
struct mb_hash128 mb_hasher_128(const struct mb_hasher *h);
/* 32 hexadecimal digits, high half first, and a NUL: XXH3's canonical form (the same as Python's hexdigest). */
void mb_hash128_hex(struct mb_hash128 h, char out[33]);
#endif
