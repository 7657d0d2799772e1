/* Checked allocation, accounted by category. Every block remembers its account and its size, so mb_free() needs only
 * the pointer. Blocks are 64-byte aligned. Small strings and JSON trees may use malloc; whatever grows with model,
 * batch or input goes through here. All functions Local and thread-safe. */
#ifndef MB_BASE_MEM_H
#define MB_BASE_MEM_H

#include <stdatomic.h>
#include <stdint.h>
#include <stddef.h>
#include "base/status.h"

enum mb_mem_cat {
    MB_MEM_WEIGHTS,     /* resident model weights except experts */
    MB_MEM_EXPERTS,     /* resident routed experts */
    MB_MEM_KV,          /* KV pages */
    MB_MEM_ACTIVATIONS, /* rows of a step, logits */
    MB_MEM_EXCHANGE,    /* send, receive and shared-memory buffers */
    MB_MEM_STAGING,     /* host buffers for reading weights and copying to and from a device */
    MB_MEM_REQUESTS,    /* requests, sequences, records */
    MB_MEM_INDEX,       /* what grows with the input (rank 0 only) */
    MB_MEM_OTHER,
    MB_MEM_COUNT
};

/* One account per process, owned by app (tests make their own). Zero-initialise. Bytes. */
struct mb_mem {
    _Atomic int64_t now[MB_MEM_COUNT];
    _Atomic int64_t peak[MB_MEM_COUNT];
};

const char *mb_mem_name(enum mb_mem_cat cat);
int64_t mb_mem_total(const struct mb_mem *mem);
/* Peaks are those from here on: what is allocated now, and what follows. */
void mb_mem_restart(struct mb_mem *mem);

/* Resident memory of this process, now and at most so far, as the kernel counts it; 0 where it does not say. */
void mb_mem_resident(int64_t *now, int64_t *peak);

/* Adjusts an account for memory that is not allocated here (mmap, shared memory); bytes may be negative. */
void mb_mem_note(struct mb_mem *mem, enum mb_mem_cat cat, int64_t bytes);

/* Allocates n * size bytes (overflow-checked; 0 gives a valid pointer); NULL without memory, not logged. mem may be
 * NULL (not accounted). mb_zalloc zeroes. mb_grow keeps the contents of p (NULL: like mb_alloc) and its account. */
void *mb_alloc(struct mb_mem *mem, enum mb_mem_cat cat, size_t n, size_t size) __attribute__((malloc));
void *mb_zalloc(struct mb_mem *mem, enum mb_mem_cat cat, size_t n, size_t size) __attribute__((malloc));
void *mb_grow(struct mb_mem *mem, enum mb_mem_cat cat, void *p, size_t n, size_t size);
void mb_free(void *p);

/* a*b and a+b that say whether they fit; the result is set only when they do. */
static inline int mb_mul_ok(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline int mb_add_ok(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* Growable byte string. Zero-initialise; owner calls mb_bytes_fini. Not accounted. */
struct mb_bytes {
    uint8_t *data;
    size_t len, cap;
};
enum mb_status mb_bytes_reserve(struct mb_bytes *b, size_t more);            /* logs */
enum mb_status mb_bytes_put(struct mb_bytes *b, const void *src, size_t n); /* logs */
void mb_bytes_fini(struct mb_bytes *b);

#endif
