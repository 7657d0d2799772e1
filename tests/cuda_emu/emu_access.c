/* Every load and store of a kernel. Kernels are compiled with -fsanitize=thread, but these functions take the
 * place of its library: an access has to lie in device memory, shared memory, the thread's own stack or
 * (loads) its arguments and the program's constants; it has to be aligned; and it must not race. For each
 * byte a cell knows who wrote and read it last. Two threads' accesses of which one is a store are in order
 * only if a barrier is between them: of the block, or of the warp that both are in. Shuffles and votes are
 * none. Bytes of shared memory that nobody in the block wrote may not be loaded. */
#include "emu.h"

#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ATOMIC = 1, WARP_READ = 2, BLOCK_READ = 4, GRID_READ = 8 };

/* What is known of a word of four bytes; masks have a bit for each. Where threads share a word without
 * sharing a byte, the last one is known: races may be missed there, none is invented. */
struct mb_emu_cell {
    uint32_t stamp; /* the launch, or of shared memory the block: what is older does not count */
    uint8_t flags, ever, wrote, read; /* bytes that somebody wrote; that `writer` did, and `reader` read */
    uint32_t writer, write_epoch;
    uint32_t reader, read_epoch;
};

static struct {
    bool on, known, all;
    bool live;                              /* the block that runs is looked at */
    const unsigned char *image, *image_end; /* the program: code, constants, variables */
    const unsigned char *tls, *tls_end;     /* static shared memory */
    struct mb_emu_cell *tls_cells, *dynamic_cells;
    struct mb_emu_memory *last; /* allocation of the last access */
} a;

extern const char __executable_start[], _end[];

/* ---------------------------------------------------------------- where things are */
static _Thread_local char mark;

/* The program's own thread-local block, as this thread has it. */
static int find_tls(struct dl_phdr_info *info, size_t size, void *arg)
{
    const unsigned char *start = NULL;

    (void)size;
    (void)arg;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS)
            start = info->dlpi_tls_data;
    for (int i = 0; start != NULL && i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS) {
            a.tls = start;
            a.tls_end = start + info->dlpi_phdr[i].p_memsz;
        }
    return 1; /* the first one is the program */
}

static size_t words(size_t bytes)
{
    return bytes / 4 + 2;
}
static void *cells(size_t bytes)
{
    void *p = mmap(NULL, words(bytes) * sizeof(struct mb_emu_cell), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        mb_emu_mistake("no memory for what is known of %zu bytes", bytes);
    return p;
}

void mb_emu_cells_free(struct mb_emu_memory *m)
{
    if (m->cells != NULL)
        munmap(m->cells, words(m->bytes) * sizeof *m->cells);
    m->cells = NULL;
    a.last = NULL;
}

void mb_emu_access_begin(void)
{
    if (!a.known) {
        a.known = true;
        a.on = mb_emu_setting("MB_EMU_CHECK", 1) != 0;
        a.all = mb_emu_setting("MB_EMU_CHECK", 1) > 1;
        a.image = (const unsigned char *)__executable_start;
        a.image_end = (const unsigned char *)_end;
        a.dynamic_cells = cells(MB_EMU_SHARED_MOST);
    }
    mark = 0; /* the block of this thread exists */
    const unsigned char *before = a.tls;
    dl_iterate_phdr(find_tls, NULL);
    if (a.tls_cells == NULL && a.tls_end > a.tls)
        a.tls_cells = cells((size_t)(a.tls_end - a.tls));
    if (before != a.tls && a.tls_cells != NULL)
        memset(a.tls_cells, 0, words((size_t)(a.tls_end - a.tls)) * sizeof *a.tls_cells);
    a.last = NULL;
}

/* The first blocks of a launch, and some of the others. */
void mb_emu_access_block(uint64_t index)
{
    a.live = a.on && (a.all || index < 4 || index * 0x9e3779b97f4a7c15u >> 60 == 0);
}

/* ---------------------------------------------------------------- races */
static bool ordered(uint32_t thread, uint32_t epoch)
{
    const struct mb_emu_fibre *f = mb_emu_fibre;

    if (thread == f->serial)
        return true;
    if (thread >> 10 != f->serial >> 10)
        return false; /* another block */
    if (epoch >> 16 != f->epoch >> 16)
        return true;
    return thread >> 5 == f->serial >> 5 && epoch != f->epoch;
}

/* Bytes that an access is about. */
struct target {
    struct mb_emu_cell *cell;
    uint32_t stamp;
    const char *memory;
    unsigned long long serial; /* of an allocation */
    ptrdiff_t byte;
    bool write, atomic, shared;
};

static const char *verb(const struct target *t)
{
    return t->write ? "stores to" : "loads";
}

static void race(const struct target *t, uint32_t thread)
{
    if (thread >> 10 != mb_emu_fibre->serial >> 10)
        mb_emu_mistake("race: %s byte %td of %s %llu, and so does a thread of another block", verb(t),
                       t->byte, t->memory, t->serial);
    mb_emu_mistake("race: %s byte %td of %s %llu, and so does thread %u, without a barrier between them",
                   verb(t), t->byte, t->memory, t->serial, thread & 1023);
}

static void read_cell(struct mb_emu_cell *c, uint8_t mask)
{
    const struct mb_emu_fibre *f = mb_emu_fibre;
    uint8_t many = c->flags & GRID_READ, both = c->read & mask;

    if (c->reader == f->serial && c->read_epoch == f->epoch && c->read != 0) {
        c->read |= mask;
        return;
    }
    if (both == 0)
        many = 0;
    else if (c->reader >> 10 != f->serial >> 10)
        many |= GRID_READ;
    else if (c->read_epoch >> 16 == f->epoch >> 16) {
        many |= c->flags & BLOCK_READ;
        if (c->reader >> 5 != f->serial >> 5)
            many |= BLOCK_READ;
        else if (c->read_epoch == f->epoch)
            many |= c->reader != f->serial ? WARP_READ : c->flags & WARP_READ;
    }
    c->flags = (uint8_t)((c->flags & ATOMIC) | many);
    c->read = many != 0 ? both : mask;
    c->reader = f->serial;
    c->read_epoch = f->epoch;
}

/* Whether what was read before is in order with a store now. */
static bool reads_ordered(const struct mb_emu_cell *c)
{
    const struct mb_emu_fibre *f = mb_emu_fibre;

    if (c->flags & GRID_READ || c->reader >> 10 != f->serial >> 10)
        return false;
    if (c->read_epoch >> 16 != f->epoch >> 16)
        return true;
    if (c->flags & BLOCK_READ)
        return false;
    if (c->flags & WARP_READ && c->read_epoch == f->epoch)
        return false;
    return ordered(c->reader, c->read_epoch);
}

static void write_cell(struct mb_emu_cell *c, uint8_t mask, bool atomic)
{
    const struct mb_emu_fibre *f = mb_emu_fibre;

    c->wrote = c->writer == f->serial && c->write_epoch == f->epoch ? c->wrote | mask : mask;
    c->ever |= mask;
    c->read &= (uint8_t)~mask;
    c->flags = atomic ? ATOMIC : 0;
    c->writer = f->serial;
    c->write_epoch = f->epoch;
}

static void touch(struct mb_emu_cell *c, const struct target *t, uint8_t mask)
{
    if (c->stamp != t->stamp)
        *c = (struct mb_emu_cell){.stamp = t->stamp};
    if (t->shared && mask & ~c->ever && (!t->write || t->atomic))
        mb_emu_mistake("loads byte %td of %s, which nobody in the block wrote", t->byte, t->memory);
    if (c->wrote & mask && !(t->atomic && c->flags & ATOMIC) && !ordered(c->writer, c->write_epoch))
        race(t, c->writer);
    if (!t->write) {
        read_cell(c, mask);
        return;
    }
    if (c->read & mask && !reads_ordered(c))
        race(t, c->reader);
    write_cell(c, mask, t->atomic);
}

/* p: where the bytes are; base: what the cells begin with. */
static void touch_all(struct target *t, const unsigned char *p, const unsigned char *base, size_t n)
{
    struct mb_emu_cell *c = t->cell + (((uintptr_t)p >> 2) - ((uintptr_t)base >> 2));
    unsigned skip = (unsigned)((uintptr_t)p & 3);

    t->byte = p - base;
    while (n > 0) {
        size_t here = 4 - skip < n ? 4 - skip : n;
        touch(c++, t, (uint8_t)(((1u << here) - 1) << skip));
        t->byte += (ptrdiff_t)here;
        n -= here;
        skip = 0;
    }
}

/* ---------------------------------------------------------------- one access */
static void global_memory(const unsigned char *p, size_t bytes, struct target *t)
{
    struct mb_emu_memory *m = a.last;

    if (m == NULL || p < m->map || p >= m->map + m->map_bytes)
        m = a.last = mb_emu_memory_at(p);
    if (m == NULL || m->side == MB_EMU_PAGEABLE || m->side == MB_EMU_PINNED)
        mb_emu_mistake("%s %p, which is no memory of the device", verb(t), (const void *)p);
    if (!m->live)
        mb_emu_mistake("use after free: %s byte %td of device memory %llu", verb(t), p - m->p,
                       (unsigned long long)m->serial);
    if (p < m->p || p + bytes > m->p + m->bytes)
        mb_emu_mistake("out of bounds: %s byte %td of device memory %llu, which has %zu", verb(t), p - m->p,
                       (unsigned long long)m->serial, m->bytes);
    if (m->cells == NULL)
        m->cells = cells(m->bytes);
    t->cell = m->cells;
    t->stamp = mb_emu_launch_serial;
    t->memory = "device memory";
    t->serial = m->serial;
    touch_all(t, p, m->p, bytes);
}

static void shared_memory(const unsigned char *p, size_t bytes, struct target *t)
{
    bool dynamic = p >= mb_emu_dynamic && p < mb_emu_dynamic + MB_EMU_SHARED_MOST;

    t->shared = true;
    t->stamp = mb_emu_block_serial;
    t->memory = dynamic ? "dynamic shared memory" : "static shared memory";
    t->cell = dynamic ? a.dynamic_cells : a.tls_cells;
    t->byte = p - (dynamic ? mb_emu_dynamic : a.tls);
    if (dynamic && (size_t)t->byte + bytes > mb_emu_call->shared)
        mb_emu_mistake("out of bounds: %s byte %td of dynamic shared memory, which has %zu", verb(t), t->byte,
                       mb_emu_call->shared);
    touch_all(t, p, dynamic ? mb_emu_dynamic : a.tls, bytes);
}

static bool is_argument(const unsigned char *p)
{
    const unsigned char *args = mb_emu_call->args;
    return p >= args && p < args + mb_emu_call->args_bytes;
}

void mb_emu_access(const void *at, size_t bytes, bool write, bool atomic, const void *from)
{
    const unsigned char *p = at;
    const struct mb_emu_fibre *f = mb_emu_fibre;

    (void)from;
    if (f == NULL || !a.live || (p >= f->stack && p < f->stack_end))
        return;
    struct target t = {.write = write, .atomic = atomic};
    if ((p >= mb_emu_dynamic && p < mb_emu_dynamic + MB_EMU_SHARED_MOST) || (p >= a.tls && p < a.tls_end))
        shared_memory(p, bytes, &t);
    else if (!is_argument(p) && !(p >= a.image && p < a.image_end))
        global_memory(p, bytes, &t);
    else if (write)
        mb_emu_mistake("stores to its arguments or to a variable of the program");
}

static void aligned(const void *p, size_t bytes, bool write, const void *from)
{
    if (mb_emu_fibre != NULL && a.live && ((uintptr_t)p & (bytes - 1)) != 0 &&
        !((const unsigned char *)p >= mb_emu_fibre->stack &&
          (const unsigned char *)p < mb_emu_fibre->stack_end))
        mb_emu_mistake("misaligned: %s %zu bytes at %p", write ? "stores" : "loads", bytes, p);
    mb_emu_access(p, bytes, write, false, from);
}

/* ---------------------------------------------------------------- what the compiler calls */
#define FROM __builtin_return_address(0)
#define ACCESS(bytes)                                                                                        \
    void __tsan_read##bytes(void *p);                                                                        \
    void __tsan_read##bytes(void *p)                                                                         \
    {                                                                                                        \
        aligned(p, bytes, false, FROM);                                                                      \
    }                                                                                                        \
    void __tsan_write##bytes(void *p);                                                                       \
    void __tsan_write##bytes(void *p)                                                                        \
    {                                                                                                        \
        aligned(p, bytes, true, FROM);                                                                       \
    }                                                                                                        \
    void __tsan_unaligned_read##bytes(void *p);                                                              \
    void __tsan_unaligned_read##bytes(void *p)                                                               \
    {                                                                                                        \
        mb_emu_access(p, bytes, false, false, FROM);                                                         \
    }                                                                                                        \
    void __tsan_unaligned_write##bytes(void *p);                                                             \
    void __tsan_unaligned_write##bytes(void *p)                                                              \
    {                                                                                                        \
        mb_emu_access(p, bytes, true, false, FROM);                                                          \
    }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)

void __tsan_read_range(void *p, size_t bytes);
void __tsan_read_range(void *p, size_t bytes)
{
    mb_emu_access(p, bytes, false, false, FROM);
}
void __tsan_write_range(void *p, size_t bytes);
void __tsan_write_range(void *p, size_t bytes)
{
    mb_emu_access(p, bytes, true, false, FROM);
}
void *__tsan_memcpy(void *to, const void *from, size_t bytes);
void *__tsan_memcpy(void *to, const void *from, size_t bytes)
{
    mb_emu_access(from, bytes, false, false, FROM);
    mb_emu_access(to, bytes, true, false, FROM);
    return memcpy(to, from, bytes);
}
void *__tsan_memset(void *to, int value, size_t bytes);
void *__tsan_memset(void *to, int value, size_t bytes)
{
    mb_emu_access(to, bytes, true, false, FROM);
    return memset(to, value, bytes);
}
void *__tsan_memmove(void *to, const void *from, size_t bytes);
void *__tsan_memmove(void *to, const void *from, size_t bytes)
{
    mb_emu_access(from, bytes, false, false, FROM);
    mb_emu_access(to, bytes, true, false, FROM);
    return memmove(to, from, bytes);
}
void __tsan_init(void);
void __tsan_init(void)
{
}
void __tsan_func_entry(void *p);
void __tsan_func_entry(void *p)
{
    (void)p;
}
void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}

/* ---------------------------------------------------------------- atomics */
static uint64_t apply(enum mb_emu_atomic op, int bytes, uint64_t old, uint64_t v, uint64_t compare)
{
    int64_t x = bytes == 4 ? (int32_t)old : (int64_t)old, y = bytes == 4 ? (int32_t)v : (int64_t)v;

    switch (op) {
    case MB_EMU_A_ADD:
        return old + v;
    case MB_EMU_A_EXCH:
        return v;
    case MB_EMU_A_CAS:
        return old == compare ? v : old;
    case MB_EMU_A_AND:
        return old & v;
    case MB_EMU_A_OR:
        return old | v;
    case MB_EMU_A_XOR:
        return old ^ v;
    case MB_EMU_A_MIN:
        return x < y ? old : v;
    case MB_EMU_A_MAX:
        return x > y ? old : v;
    case MB_EMU_A_UMIN:
        return old < v ? old : v;
    default:
        return old > v ? old : v;
    }
}

uint64_t mb_emu_atomic(enum mb_emu_atomic op, void *p, int bytes, uint64_t value, uint64_t compare)
{
    uint64_t old = 0, new;

    if ((bytes != 4 && bytes != 8) || ((uintptr_t)p & (uintptr_t)(bytes - 1)) != 0)
        mb_emu_mistake("an atomic operation on %d bytes at %p", bytes, p);
    mb_emu_access(p, (size_t)bytes, true, true, FROM);
    memcpy(&old, p, (size_t)bytes);
    new = apply(op, bytes, old, value, compare);
    memcpy(p, &new, (size_t)bytes);
    return old;
}
