/* Little-endian fields in byte strings: what journals, leases and indexes are made of. Reading is checked: past the end
 * a reader turns bad, stays bad and gives zeros, so that one test at the end suffices. Local. */
#ifndef MB_BASE_WIRE_H
#define MB_BASE_WIRE_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "base/mem.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fields are copied as they lie in memory");

struct mb_wire {
    const uint8_t *p;
    size_t n; /* bytes left */
    bool bad;
};

static inline struct mb_wire mb_wire_of(const void *data, size_t n)
{
    return (struct mb_wire){data, n, false};
}
/* The next n bytes, or NULL. */
static inline const uint8_t *mb_wire_skip(struct mb_wire *w, size_t n)
{
    const uint8_t *at = w->p;
    if (w->bad || w->n < n) {
        w->bad = true;
        return NULL;
    }
    w->p += n;
    w->n -= n;
    return at;
}
static inline void mb_wire_get(struct mb_wire *w, void *dst, size_t n)
{
    const uint8_t *at = mb_wire_skip(w, n);
    if (at == NULL)
        memset(dst, 0, n);
    else if (n > 0)
        memcpy(dst, at, n);
}
static inline uint8_t mb_wire_u8(struct mb_wire *w)
{
    uint8_t v;
    mb_wire_get(w, &v, sizeof v);
    return v;
}
static inline uint32_t mb_wire_u32(struct mb_wire *w)
{
    uint32_t v;
    mb_wire_get(w, &v, sizeof v);
    return v;
}
static inline int32_t mb_wire_i32(struct mb_wire *w)
{
    return (int32_t)mb_wire_u32(w);
}
static inline uint64_t mb_wire_u64(struct mb_wire *w)
{
    uint64_t v;
    mb_wire_get(w, &v, sizeof v);
    return v;
}
static inline int64_t mb_wire_i64(struct mb_wire *w)
{
    return (int64_t)mb_wire_u64(w);
}
static inline double mb_wire_f64(struct mb_wire *w)
{
    double v;
    mb_wire_get(w, &v, sizeof v);
    return v;
}

/* Appending: the first failure stays in st. */
struct mb_wire_out {
    struct mb_bytes *b;
    enum mb_status st;
};
static inline void mb_wire_put(struct mb_wire_out *o, const void *src, size_t n)
{
    if (o->st == MB_OK)
        o->st = mb_bytes_put(o->b, src, n);
}
static inline void mb_wire_put_u8(struct mb_wire_out *o, uint8_t v)
{
    mb_wire_put(o, &v, sizeof v);
}
static inline void mb_wire_put_u32(struct mb_wire_out *o, uint32_t v)
{
    mb_wire_put(o, &v, sizeof v);
}
static inline void mb_wire_put_i32(struct mb_wire_out *o, int32_t v)
{
    mb_wire_put(o, &v, sizeof v);
}
static inline void mb_wire_put_u64(struct mb_wire_out *o, uint64_t v)
{
    mb_wire_put(o, &v, sizeof v);
}
static inline void mb_wire_put_i64(struct mb_wire_out *o, int64_t v)
{
    mb_wire_put(o, &v, sizeof v);
}
static inline void mb_wire_put_f64(struct mb_wire_out *o, double v)
{
    mb_wire_put(o, &v, sizeof v);
}
#endif
