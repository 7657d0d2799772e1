/* A block: its threads are fibres, of which one runs until it has to wait for others (or ends). Where all
 * threads of a block, or the lanes of a warp that a mask names, have come to the same place, they go on.
 * Whoever waits for a thread that does not come is a mistake of the kernel. */
#include "emu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xmmintrin.h>

enum { MOST = 1024, LANES = 32, STACK = 256 * 1024 };
enum state { READY, AT_BARRIER, AT_WARP, DONE };

struct fibre {
    struct mb_emu_fibre is;
    void *sp;
    enum state state;
    struct mb_emu_dim thread;
    int kind; /* of what it waits at */
    const char *file;
    int line;
    int predicate, result;
    unsigned mask, arg;
    int width;
    uint64_t value;
};

struct mb_emu_now mb_emu_now;
struct mb_emu_fibre *mb_emu_fibre;
const struct mb_emu_call *mb_emu_call;
uint32_t mb_emu_launch_serial, mb_emu_block_serial;
unsigned char *mb_emu_dynamic;

static struct {
    struct fibre fibre[MOST];
    unsigned char *stacks;
    void *sp; /* of the scheduler */
    struct fibre *self;
    uint32_t n, epoch, done;
    uint32_t warp_epoch[MOST / LANES];
    uint32_t order[MOST];
} b;

/* ---------------------------------------------------------------- switching */
/* Keeps what a function must keep on the stack of the one that runs, and goes on with the other. */
void mb_emu_switch(void **from, void *to);
__asm__(".text\n"
        ".globl mb_emu_switch\n"
        ".type mb_emu_switch, @function\n"
        "mb_emu_switch:\n"
        "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "movq %rsp, (%rdi)\n"
        "movq %rsi, %rsp\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n"
        "ret\n"
        ".size mb_emu_switch, .-mb_emu_switch\n");

static void begin(void)
{
    mb_emu_call->run(mb_emu_call->args);
    b.self->state = DONE;
    b.done++;
    mb_emu_switch(&b.self->sp, b.sp);
    abort();
}

static void make_stacks(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    if (b.stacks != NULL)
        return;
    b.stacks = mmap(NULL, (size_t)MOST * STACK, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    mb_emu_dynamic =
        mmap(NULL, MB_EMU_SHARED_MOST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b.stacks == MAP_FAILED || mb_emu_dynamic == MAP_FAILED)
        mb_emu_mistake("no memory for the fibres of a block");
    for (size_t i = 0; i < MOST; i++)
        mprotect(b.stacks + i * STACK, page, PROT_NONE);
}

static void start(uint32_t i)
{
    struct fibre *f = &b.fibre[i];
    const struct mb_emu_dim *size = &mb_emu_call->block;
    void **top = (void **)(void *)(b.stacks + (size_t)(i + 1) * STACK);

    *--top = NULL; /* where begin would return to; and the stack is aligned as behind a call */
    *--top = (void *)begin;
    top -= 6;
    memset(top, 0, 6 * sizeof *top);
    *f = (struct fibre){.sp = top, .state = READY};
    f->thread = (struct mb_emu_dim){i % size->x, i / size->x % size->y, i / size->x / size->y};
    f->is = (struct mb_emu_fibre){.stack = b.stacks + (size_t)i * STACK,
                                  .stack_end = b.stacks + (size_t)(i + 1) * STACK,
                                  .thread = i,
                                  .warp = i / LANES,
                                  .serial = (mb_emu_block_serial << 10) + i};
}

static void go_on(struct fibre *f)
{
    b.self = f;
    mb_emu_fibre = &f->is;
    mb_emu_now.thread = f->thread;
    f->is.epoch = b.epoch << 16 | (b.warp_epoch[f->is.warp] & 0xffff);
    mb_emu_switch(&b.sp, f->sp);
    mb_emu_fibre = NULL;
}

static void wait_as(enum state state, int kind, const char *file, int line)
{
    struct fibre *f = b.self;

    f->state = state;
    f->kind = kind;
    f->file = file;
    f->line = line;
    mb_emu_switch(&f->sp, b.sp);
}

/* ---------------------------------------------------------------- the block */
int mb_emu_barrier(enum mb_emu_barrier kind, int predicate, const char *file, int line)
{
    struct fibre *f = b.self;

    f->predicate = predicate;
    wait_as(AT_BARRIER, (int)kind, file, line);
    return f->result;
}

/* Whether all wait at one barrier; they are let go. */
static bool end_barrier(void)
{
    int count = 0;

    for (uint32_t i = 0; i < b.n; i++) {
        if (b.fibre[i].state != AT_BARRIER)
            return false;
        if (b.fibre[i].line != b.fibre[0].line || strcmp(b.fibre[i].file, b.fibre[0].file) != 0)
            mb_emu_mistake("barrier divergence: thread 0 waits in line %d, thread %u in line %d of %s",
                           b.fibre[0].line, i, b.fibre[i].line, b.fibre[i].file);
        count += b.fibre[i].predicate;
    }
    b.epoch++;
    memset(b.warp_epoch, 0, sizeof b.warp_epoch);
    for (uint32_t i = 0; i < b.n; i++) {
        b.fibre[i].state = READY;
        b.fibre[i].result = count;
    }
    return true;
}

static const char *const places[] = {"could run", "waits at a barrier", "waits for its warp", "has ended"};

/* Nobody can go on. */
static void complain(void)
{
    uint32_t i = 0, j = 0;

    while (i < b.n && b.fibre[i].state == DONE)
        i++;
    while (j < b.n && b.fibre[j].state == b.fibre[i].state && b.fibre[j].line == b.fibre[i].line)
        j++;
    const struct fibre *f = &b.fibre[i], *g = &b.fibre[j < b.n ? j : i];
    bool barrier = f->state == AT_BARRIER || g->state == AT_BARRIER;
    mb_emu_mistake("%s: thread %u %s (line %d of %s, mask %08x), thread %u %s (line %d)",
                   barrier ? "barrier divergence" : "a warp waits for lanes that do not come", i,
                   places[f->state], f->line, f->file, f->state == AT_WARP ? f->mask : 0,
                   (unsigned)(g - b.fibre), places[g->state], g->line);
}

/* ---------------------------------------------------------------- warps */
/* Lanes that the warp has. */
static unsigned lanes_of(uint32_t warp)
{
    uint32_t left = b.n - warp * LANES;
    return left >= LANES ? 0xffffffffu : (1u << left) - 1;
}

/* Lanes that have not ended. */
unsigned mb_emu_active(void)
{
    uint32_t warp = b.self->is.warp;
    unsigned mask = lanes_of(warp);

    for (uint32_t i = 0; i < LANES && warp * LANES + i < b.n; i++)
        if (b.fibre[warp * LANES + i].state == DONE)
            mask &= ~(1u << i);
    return mask;
}

static int source_lane(const struct fibre *f, int lane)
{
    int first = lane & ~(f->width - 1), last = first + f->width - 1, from = lane, arg = (int)f->arg;

    switch (f->kind) {
    case MB_EMU_SHFL:
        return first + (arg & (f->width - 1));
    case MB_EMU_SHFL_UP:
        from = lane - arg;
        return from < first ? lane : from;
    case MB_EMU_SHFL_DOWN:
        from = lane + arg;
        return from > last ? lane : from;
    default:
        from = lane ^ arg;
        return from > last ? lane : from;
    }
}

static uint64_t combine(int kind, uint32_t x, uint32_t y)
{
    switch (kind) {
    case MB_EMU_ADD:
        return x + y;
    case MB_EMU_MIN:
        return (int32_t)y < (int32_t)x ? y : x;
    case MB_EMU_MAX:
        return (int32_t)y > (int32_t)x ? y : x;
    case MB_EMU_MIN_U:
        return y < x ? y : x;
    case MB_EMU_MAX_U:
        return y > x ? y : x;
    case MB_EMU_AND:
        return x & y;
    case MB_EMU_OR:
        return x | y;
    default:
        return x ^ y;
    }
}

/* What a lane gets. came: lanes that are together. */
static uint64_t result_of(const struct fibre *warp, int lane, unsigned came)
{
    const struct fibre *f = &warp[lane];
    uint64_t r = 0;
    bool first = true;

    if (f->kind == MB_EMU_WARP_SYNC)
        return 0;
    if (f->kind <= MB_EMU_SHFL_XOR) {
        int from = source_lane(f, lane);
        if (from > 31 || !(came >> from & 1))
            mb_emu_mistake(
                "lane %d reads a value of lane %d, which is not with it (line %d of %s, mask %08x)", lane,
                from, f->line, f->file, f->mask);
        return warp[from].value;
    }
    for (int i = 0; i < LANES; i++) {
        if (!(came >> i & 1))
            continue;
        if (f->kind == MB_EMU_BALLOT)
            r |= warp[i].value != 0 ? (uint64_t)1 << i : 0;
        else if (f->kind == MB_EMU_MATCH)
            r |= warp[i].value == f->value ? (uint64_t)1 << i : 0;
        else
            r = first ? warp[i].value : combine(f->kind, (uint32_t)r, (uint32_t)warp[i].value);
        first = false;
    }
    return r;
}

/* The lanes of mask are let go if all have come. CUDA allows a mask that names lanes which have ended; here
 * nobody may count on that. */
static void end_warp(struct fibre *f)
{
    uint32_t begin = f->is.warp * LANES;
    unsigned came = f->mask & lanes_of(f->is.warp);
    struct fibre *warp = &b.fibre[begin];
    uint64_t result[LANES];

    for (int i = 0; i < LANES; i++) {
        if (!(came >> i & 1))
            continue;
        if (warp[i].state != AT_WARP)
            return;
        if (warp[i].mask != f->mask || warp[i].kind != f->kind || warp[i].line != f->line ||
            warp[i].width != f->width)
            mb_emu_mistake("lanes of one mask are not together: lane %d in line %d with mask %08x, lane %u "
                           "in line %d with %08x",
                           i, warp[i].line, warp[i].mask, f->is.thread % LANES, f->line, f->mask);
    }
    for (int i = 0; i < LANES; i++)
        if (came >> i & 1)
            result[i] = result_of(warp, i, came);
    b.warp_epoch[f->is.warp] += f->kind == MB_EMU_WARP_SYNC;
    for (int i = 0; i < LANES; i++)
        if (came >> i & 1) {
            warp[i].value = result[i];
            warp[i].state = READY;
        }
}

uint64_t mb_emu_warp(enum mb_emu_warp op, unsigned mask, uint64_t value, unsigned arg, int width,
                     const char *file, int line)
{
    struct fibre *f = b.self;

    if (width < 1 || width > LANES || (width & (width - 1)) != 0)
        mb_emu_mistake("a width of %d in line %d of %s", width, line, file);
    if (!(mask >> f->is.thread % LANES & 1))
        mb_emu_mistake("lane %u is not in its own mask %08x (line %d of %s)", f->is.thread % LANES, mask,
                       line, file);
    f->mask = mask;
    f->value = value;
    f->arg = arg;
    f->width = width;
    f->state = AT_WARP;
    f->kind = (int)op;
    f->file = file;
    f->line = line;
    end_warp(f);
    if (f->state == AT_WARP)
        mb_emu_switch(&f->sp, b.sp);
    f->is.epoch = b.epoch << 16 | (b.warp_epoch[f->is.warp] & 0xffff);
    return f->value;
}

/* ---------------------------------------------------------------- orders */
static uint64_t mix(uint64_t *s)
{
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* out = an order of 0 .. n - 1 by MB_EMU_ORDER. */
static void make_order(uint32_t *out, uint32_t n)
{
    static uint64_t seed;
    const char *want = getenv("MB_EMU_ORDER");
    bool reverse = want != NULL && strcmp(want, "reverse") == 0;

    for (uint32_t i = 0; i < n; i++)
        out[i] = reverse ? n - 1 - i : i;
    if (want == NULL || strncmp(want, "shuffled", 8) != 0)
        return;
    if (seed == 0)
        seed = 1 + (want[8] == ':' ? strtoull(want + 9, NULL, 10) : 0);
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)(mix(&seed) % i), x = out[i - 1];
        out[i - 1] = out[j];
        out[j] = x;
    }
}

/* ---------------------------------------------------------------- a launch */
/* Every thread that can run does. */
static bool pass(void)
{
    bool ran = false;

    for (uint32_t i = 0; i < b.n; i++) {
        struct fibre *f = &b.fibre[b.order[i]];
        while (f->state == READY) {
            go_on(f);
            ran = true;
        }
    }
    return ran;
}

static void run_block(uint64_t index)
{
    const struct mb_emu_dim *grid = &mb_emu_call->grid;

    mb_emu_now.block = (struct mb_emu_dim){(unsigned)(index % grid->x), (unsigned)(index / grid->x % grid->y),
                                           (unsigned)(index / grid->x / grid->y)};
    mb_emu_block_serial++;
    mb_emu_access_block(index);
    b.epoch = b.done = 0;
    memset(b.warp_epoch, 0, sizeof b.warp_epoch);
    make_order(b.order, b.n);
    for (uint32_t i = 0; i < b.n; i++)
        start(i);
    while (b.done < b.n) {
        if (!pass() && !end_barrier())
            complain();
    }
}

void mb_emu_run(const struct mb_emu_call *call)
{
    uint64_t blocks = (uint64_t)call->grid.x * call->grid.y * call->grid.z;
    uint32_t *order = malloc((blocks < UINT32_MAX ? blocks : 1) * sizeof *order);
    unsigned mode = _mm_getcsr();

    if (order == NULL)
        mb_emu_mistake("no memory for the order of %llu blocks", (unsigned long long)blocks);
    make_stacks();
    _mm_setcsr(0x9fc0); /* to nearest, FTZ, DAZ */
    b.n = call->block.x * call->block.y * call->block.z;
    mb_emu_call = call;
    mb_emu_launch_serial++;
    mb_emu_now.block_size = call->block;
    mb_emu_now.grid_size = call->grid;
    mb_emu_access_begin();
    make_order(order, (uint32_t)blocks);
    for (uint64_t i = 0; i < blocks; i++)
        run_block(order[i]);
    mb_emu_call = NULL;
    _mm_setcsr(mode);
    free(order);
}

void *mb_emu_shared(void)
{
    return mb_emu_dynamic;
}
void mb_emu_trap(const char *file, int line)
{
    mb_emu_mistake("a kernel gave up in line %d of %s", line, file);
}
