#include "base/mem.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/log.h"

#define ALIGN 64
#define HUGE ((size_t)4 << 20) /* blocks of this size and more are asked for in huge pages */

struct head {
    struct mb_mem *mem;
    size_t bytes;
    void *block; /* what free() takes */
    int cat;
};
_Static_assert(sizeof(struct head) <= ALIGN, "the head must fit before an aligned block");

static const char *const names[MB_MEM_COUNT] = {
    "weights", "experts", "kv", "activations", "exchange", "staging", "requests", "index", "other",
};

const char *mb_mem_name(enum mb_mem_cat cat)
{
    return (unsigned)cat < MB_MEM_COUNT ? names[cat] : "unknown";
}

int64_t mb_mem_total(const struct mb_mem *mem)
{
    int64_t sum = 0;
    for (int i = 0; i < MB_MEM_COUNT; i++)
        sum += atomic_load(&((struct mb_mem *)mem)->now[i]);
    return sum;
}

void mb_mem_restart(struct mb_mem *mem)
{
    for (int i = 0; i < MB_MEM_COUNT; i++)
        mem->peak[i] = mem->now[i];
}

void mb_mem_resident(int64_t *now, int64_t *peak)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    long long kib;

    *now = *peak = 0;
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "VmRSS: %lld", &kib) == 1)
            *now = kib * 1024;
        else if (sscanf(line, "VmHWM: %lld", &kib) == 1)
            *peak = kib * 1024;
    }
    if (f != NULL)
        fclose(f);
}

void mb_mem_note(struct mb_mem *mem, enum mb_mem_cat cat, int64_t bytes)
{
    if (mem == NULL)
        return;
    int64_t now = atomic_fetch_add(&mem->now[cat], bytes) + bytes;
    int64_t peak = atomic_load(&mem->peak[cat]);
    while (now > peak && !atomic_compare_exchange_weak(&mem->peak[cat], &peak, now))
        ;
}

static struct head *head_of(void *p)
{
    return (struct head *)((char *)p - ALIGN);
}

/* Before the first touch, or it changes little: what streams through weights and pages saves most of its TLB
 * misses. The pages at both ends are asked for too: a mapping that is partly advised is two to the kernel, which moves
 * only one at once (mremap, for mb_grow). */
static void ask_huge(char *block, size_t all)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)block / page * page,
              end = ((uintptr_t)block + all + page - 1) / page * page;

    if (all >= HUGE)
        (void)madvise((void *)begin, end - begin,
                      MADV_HUGEPAGE); /* a wish: kernels without it lose nothing */
}

/* block: of bytes + 2 * ALIGN bytes; NULL ok */
static void *take(struct mb_mem *mem, enum mb_mem_cat cat, char *block, size_t bytes)
{
    if (block == NULL)
        return NULL;
    char *p = block + ALIGN + (ALIGN - (uintptr_t)block % ALIGN) % ALIGN;
    ask_huge(block, bytes + 2 * ALIGN);
    *head_of(p) = (struct head){mem, bytes, block, (int)cat};
    mb_mem_note(mem, cat, (int64_t)bytes);
    return p;
}

static bool size_of(size_t n, size_t size, uint64_t *bytes, uint64_t *all)
{
    return mb_mul_ok(n, size, bytes) && mb_add_ok(*bytes, 2 * ALIGN, all) && *all <= PTRDIFF_MAX;
}

void *mb_alloc(struct mb_mem *mem, enum mb_mem_cat cat, size_t n, size_t size)
{
    uint64_t bytes, all;
    return size_of(n, size, &bytes, &all) ? take(mem, cat, malloc((size_t)all), (size_t)bytes) : NULL;
}

/* calloc leaves fresh pages of the kernel untouched: who writes first has them on its memory node, and what
 * is never written costs nothing. */
void *mb_zalloc(struct mb_mem *mem, enum mb_mem_cat cat, size_t n, size_t size)
{
    uint64_t bytes, all;
    return size_of(n, size, &bytes, &all) ? take(mem, cat, calloc(1, (size_t)all), (size_t)bytes) : NULL;
}

void *mb_grow(struct mb_mem *mem, enum mb_mem_cat cat, void *p, size_t n, size_t size)
{
    if (p == NULL)
        return mb_alloc(mem, cat, n, size);
    const struct head was = *head_of(p);
    uint64_t bytes, all;
    if (!size_of(n, size, &bytes, &all))
        return NULL;
    ptrdiff_t at = (char *)p - (char *)was.block;
    char *block = realloc(was.block, (size_t)all); /* a large one moves without being there twice */
    if (block == NULL)
        return NULL;
    mb_mem_note(was.mem, (enum mb_mem_cat)was.cat, -(int64_t)was.bytes);
    char *q = block + ALIGN + (ALIGN - (uintptr_t)block % ALIGN) % ALIGN;
    if (q != block + at)
        memmove(q, block + at, bytes < was.bytes ? (size_t)bytes : was.bytes);
    return take(was.mem, (enum mb_mem_cat)was.cat, block, (size_t)bytes);
}

void mb_free(void *p)
{
    if (p == NULL)
        return;
    struct head *h = head_of(p);
    mb_mem_note(h->mem, (enum mb_mem_cat)h->cat, -(int64_t)h->bytes);
    free(h->block);
}

enum mb_status mb_bytes_reserve(struct mb_bytes *b, size_t more)
{
    uint64_t need;
    if (!mb_add_ok(b->len, more, &need) || need > PTRDIFF_MAX / 2)
        return mb_error(MB_NO_MEMORY, "a buffer would grow beyond the address space");
    if (need <= b->cap)
        return MB_OK;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    uint8_t *p = realloc(b->data, cap);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a buffer of %zu bytes", cap);
    b->data = p;
    b->cap = cap;
    return MB_OK;
}

enum mb_status mb_bytes_put(struct mb_bytes *b, const void *src, size_t n)
{
    MB_TRY(mb_bytes_reserve(b, n));
    if (n > 0)
        memcpy(b->data + b->len, src, n);
    b->len += n;
    return MB_OK;
}

void mb_bytes_fini(struct mb_bytes *b)
{
    free(b->data);
    *b = (struct mb_bytes){0};
}
