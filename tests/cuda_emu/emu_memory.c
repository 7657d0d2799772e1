/* Memory of a device and pinned memory of the host. Each allocation has pages of its own between closed ones
 * and ends where its last page does (but for the alignment of 256 that CUDA promises), so that what reaches
 * behind it is found even where accesses are not looked at one by one. Pages of a device are closed to
 * everybody; a kernel's or copy's first touch opens an allocation, and all are closed again when nothing
 * runs. Addresses of freed memory are not given out again soon. */
#include "emu.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ALIGN = 256, KEEP_FREED = 4096 };

static struct {
    struct mb_emu_memory *at; /* ascending */
    size_t n, room, freed;
    uint64_t serial, used;
    bool entered;
} all;

static size_t page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}
static size_t up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* ---------------------------------------------------------------- the table */
/* First allocation whose map begins behind p. */
static size_t behind(const void *p)
{
    size_t lo = 0, hi = all.n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if ((const unsigned char *)p < all.at[mid].map)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

struct mb_emu_memory *mb_emu_memory_at(const void *p)
{
    size_t i = behind(p);
    if (i == 0 || (const unsigned char *)p >= all.at[i - 1].map + all.at[i - 1].map_bytes)
        return NULL;
    return &all.at[i - 1];
}

static bool insert(const struct mb_emu_memory *m)
{
    size_t i = behind(m->map);

    if (all.n == all.room) {
        size_t room = all.room ? 2 * all.room : 256;
        struct mb_emu_memory *at = realloc(all.at, room * sizeof *at);
        if (at == NULL)
            return false;
        all.at = at;
        all.room = room;
    }
    memmove(all.at + i + 1, all.at + i, (all.n - i) * sizeof *all.at);
    all.at[i] = *m;
    all.n++;
    return true;
}

static void drop_oldest(void)
{
    size_t oldest = all.n;

    for (size_t i = 0; i < all.n; i++)
        if (!all.at[i].live && (oldest == all.n || all.at[i].serial < all.at[oldest].serial))
            oldest = i;
    munmap(all.at[oldest].map, all.at[oldest].map_bytes);
    memmove(all.at + oldest, all.at + oldest + 1, (all.n - oldest - 1) * sizeof *all.at);
    all.n--;
    all.freed--;
}

/* ---------------------------------------------------------------- touching closed pages */
static const char *what(const struct mb_emu_memory *m)
{
    return m->side == MB_EMU_DEVICE ? "device" : "pinned";
}

/* Where p lies, for people, and the end. */
static void complain(const char *who, const struct mb_emu_memory *m, const unsigned char *p)
{
    if (!m->live)
        mb_emu_mistake("%s: use after free: byte %td of %s allocation %llu (%zu bytes)", who, p - m->p,
                       what(m), (unsigned long long)m->serial, m->bytes);
    mb_emu_mistake("%s: out of bounds: byte %td of %s allocation %llu (%zu bytes)", who, p - m->p, what(m),
                   (unsigned long long)m->serial, m->bytes);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    const unsigned char *p = info->si_addr;
    struct mb_emu_memory *m = mb_emu_memory_at(p);

    (void)context;
    if (m == NULL) {
        if (mb_emu_fibre != NULL)
            mb_emu_mistake("kernel: address %p is no memory of the device", info->si_addr);
        signal(sig, SIG_DFL); /* not ours: the instruction fails again */
        return;
    }
    bool inside = m->live && p >= m->map + page() && p < m->map + m->map_bytes - page();
    if (inside && m->side == MB_EMU_DEVICE && !all.entered)
        mb_emu_mistake("host: touches byte %td of device allocation %llu", p - m->p,
                       (unsigned long long)m->serial);
    if (!inside || m->open)
        complain(mb_emu_fibre != NULL ? "kernel" : all.entered ? "copy" : "host", m, p);
    m->open = true;
    mprotect(m->map + page(), m->map_bytes - 2 * page(), PROT_READ | PROT_WRITE);
}

/* Others (test libraries, MPI) have handlers too, and come after us. */
static void watch(void)
{
    struct sigaction act = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER}, old;

    sigaction(SIGSEGV, NULL, &old);
    if (old.sa_sigaction == on_fault)
        return;
    sigaction(SIGSEGV, &act, NULL);
    sigaction(SIGBUS, &act, NULL);
}

void mb_emu_memory_enter(void)
{
    all.entered = true;
    watch();
}
void mb_emu_memory_leave(void)
{
    all.entered = false;
    for (size_t i = 0; i < all.n; i++)
        if (all.at[i].open && all.at[i].side == MB_EMU_DEVICE) {
            mprotect(all.at[i].map + page(), all.at[i].map_bytes - 2 * page(), PROT_NONE);
            all.at[i].open = false;
        }
}

/* ---------------------------------------------------------------- sides of addresses */
enum mb_emu_side mb_emu_side_of(const void *p)
{
    const struct mb_emu_memory *m = mb_emu_memory_at(p);
    return m == NULL ? MB_EMU_PAGEABLE : m->side;
}

void mb_emu_want_device(const char *call, const void *p, size_t bytes)
{
    const struct mb_emu_memory *m = mb_emu_memory_at(p);

    if (bytes == 0)
        return;
    if (m == NULL || m->side != MB_EMU_DEVICE)
        mb_emu_mistake("%s: %p is memory of the host, wanted of the device", call, p);
    if (!m->live || (const unsigned char *)p < m->p)
        complain(call, m, p);
    if ((const unsigned char *)p + bytes > m->p + m->bytes)
        complain(call, m, m->p + m->bytes);
}

void mb_emu_want_host(const char *call, const void *p, size_t bytes)
{
    const struct mb_emu_memory *m = mb_emu_memory_at(p);

    if (bytes == 0 || m == NULL)
        return;
    if (m->side == MB_EMU_DEVICE)
        mb_emu_mistake("%s: %p is memory of the device, wanted of the host", call, p);
    if (!m->live || (const unsigned char *)p < m->p)
        complain(call, m, p);
    if ((const unsigned char *)p + bytes > m->p + m->bytes)
        complain(call, m, m->p + m->bytes);
}

/* ---------------------------------------------------------------- allocation */
static uint64_t device_bytes(void)
{
    return mb_emu_setting("MB_EMU_MEMORY", (uint64_t)4 << 30);
}

static cudaError_t allocate(void **out, size_t bytes, enum mb_emu_side side)
{
    size_t body = up(bytes, page());
    struct mb_emu_memory m = {.bytes = bytes, .side = side, .live = true, .map_bytes = body + 2 * page()};

    if (out == NULL)
        return cudaErrorInvalidValue;
    *out = NULL;
    if (bytes == 0)
        return cudaSuccess;
    m.map = mmap(NULL, m.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m.map == MAP_FAILED || mprotect(m.map + page(), body, PROT_READ | PROT_WRITE) != 0)
        return cudaErrorMemoryAllocation;
    m.p = m.map + page() + body - up(bytes, ALIGN);
    memset(m.p, 0xff, bytes); /* NaN: nobody said what it holds */
    m.serial = ++all.serial;
    if (side == MB_EMU_DEVICE)
        mprotect(m.map + page(), body, PROT_NONE);
    else
        m.open = true;
    if (!insert(&m))
        return cudaErrorMemoryAllocation;
    watch();
    *out = m.p;
    return cudaSuccess;
}

static cudaError_t release(const char *call, void *p, bool device)
{
    struct mb_emu_memory *m = mb_emu_memory_at(p);

    if (m == NULL || m->p != p || (m->side == MB_EMU_DEVICE) != device)
        mb_emu_mistake("%s: %p is none of its allocations", call, p);
    if (!m->live)
        mb_emu_mistake("%s: allocation %llu is freed twice", call, (unsigned long long)m->serial);
    mb_emu_cells_free(m);
    all.used -= device ? m->bytes : 0;
    m->live = m->open = false;
    mmap(m->map, m->map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (++all.freed > KEEP_FREED)
        drop_oldest();
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    cudaError_t e;

    mb_emu_lock();
    if (mb_emu_fails("malloc") || all.used + bytes > device_bytes())
        e = cudaErrorMemoryAllocation;
    else
        e = allocate(out, bytes, MB_EMU_DEVICE);
    if (e == cudaSuccess)
        all.used += bytes;
    mb_emu_unlock();
    return mb_emu_error(e);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags)
{
    cudaError_t e = cudaErrorMemoryAllocation;

    mb_emu_lock();
    if (!mb_emu_fails("host"))
        e = allocate(out, bytes, flags & cudaHostAllocMapped ? MB_EMU_MAPPED : MB_EMU_PINNED);
    mb_emu_unlock();
    return mb_emu_error(e);
}
cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    return cudaHostAlloc(out, bytes, cudaHostAllocDefault);
}
cudaError_t cudaHostGetDevicePointer(void **out, void *host, unsigned flags)
{
    if (flags != 0 || mb_emu_side_of(host) != MB_EMU_MAPPED)
        return mb_emu_error(cudaErrorInvalidValue);
    *out = host;
    return cudaSuccess;
}

/* Both wait for the whole device first, as CUDA does. */
cudaError_t cudaFree(void *p)
{
    cudaError_t e = p == NULL ? cudaSuccess : cudaDeviceSynchronize();

    mb_emu_lock();
    if (p != NULL)
        release("cudaFree", p, true);
    mb_emu_unlock();
    return mb_emu_error(e);
}
cudaError_t cudaFreeHost(void *p)
{
    cudaError_t e = p == NULL ? cudaSuccess : cudaDeviceSynchronize();

    mb_emu_lock();
    if (p != NULL)
        release("cudaFreeHost", p, false);
    mb_emu_unlock();
    return mb_emu_error(e);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    mb_emu_lock();
    *total = device_bytes();
    *available = *total - all.used;
    mb_emu_unlock();
    return cudaSuccess;
}
