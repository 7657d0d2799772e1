/* Inside the emulator of CUDA's runtime.
 *
 *   emu_memory.c   device and pinned memory: each allocation in pages of its own between closed ones; closed
 * to the host emu_stream.c   streams and events: operations are queued, and run when somebody waits for them
 *   emu_block.c    a block's threads as fibres: barriers, warps, orders
 *   emu_access.c   every load and store of a kernel: may it, and does it race with another thread's
 *   emu_report.c   mistakes, injected failures, settings
 *   emu_device.c   what a device says of itself
 *
 * The host may have several threads: one lock is held while anything here runs. */
#ifndef MB_EMU_H
#define MB_EMU_H
#include <stdbool.h>
#include <stdint.h>
#include "emu_calls.h"

/* ---------------------------------------------------------------- emu_report.c */
void mb_emu_lock(void);
void mb_emu_unlock(void);
/* Says what is wrong (with kernel, block and thread if one runs) and ends the process. */
void mb_emu_mistake(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* Whether this call of a kind is the one that MB_EMU_FAIL names. */
bool mb_emu_fails(const char *kind);
uint64_t mb_emu_setting(const char *name, uint64_t otherwise);
/* Keeps the error for cudaGetLastError, and returns it. */
cudaError_t mb_emu_error(cudaError_t e);
/* What a failed kernel leaves: every later call that waits fails too. */
void mb_emu_break(cudaError_t e);
cudaError_t mb_emu_broken(void);

/* ---------------------------------------------------------------- emu_memory.c */
enum mb_emu_side { MB_EMU_PAGEABLE, MB_EMU_PINNED, MB_EMU_MAPPED, MB_EMU_DEVICE };
struct mb_emu_memory {
    unsigned char *p; /* as given out */
    size_t bytes;
    enum mb_emu_side side;
    bool live, open;
    unsigned char *map; /* with its guards */
    size_t map_bytes;
    uint64_t serial;
    struct mb_emu_cell *cells; /* emu_access.c: one a byte, or NULL */
};
/* The allocation in whose pages p lies, live or not; NULL: none of ours. */
struct mb_emu_memory *mb_emu_memory_at(const void *p);
/* A mistake unless [p, p + bytes) is inside a live device allocation, or on the host. */
void mb_emu_want_device(const char *call, const void *p, size_t bytes);
void mb_emu_want_host(const char *call, const void *p, size_t bytes);
enum mb_emu_side mb_emu_side_of(const void *p);
/* Device memory may be touched between these two. */
void mb_emu_memory_enter(void);
void mb_emu_memory_leave(void);

/* ---------------------------------------------------------------- emu_block.c */
/* Runs all blocks of a launch. */
void mb_emu_run(const struct mb_emu_call *call);
/* The fibre that runs; NULL outside kernels. */
struct mb_emu_fibre {
    const unsigned char *stack, *stack_end;
    uint32_t thread, warp; /* in the block */
    uint32_t serial;       /* of the thread in the launch */
    uint32_t epoch;        /* barriers of the block passed << 16 | barriers of the warp since */
};
extern struct mb_emu_fibre *mb_emu_fibre;
extern const struct mb_emu_call *mb_emu_call;
extern uint32_t mb_emu_launch_serial, mb_emu_block_serial;
extern unsigned char *mb_emu_dynamic; /* dynamic shared memory of the block: call->shared bytes */
enum { MB_EMU_SHARED_MOST = 232448, MB_EMU_SHARED_PLAIN = 49152 };

/* ---------------------------------------------------------------- emu_access.c */
void mb_emu_access_begin(void); /* of a launch */
void mb_emu_access_block(uint64_t index);
/* atomic: by a function of the emulator */
void mb_emu_access(const void *p, size_t bytes, bool write, bool atomic, const void *from);
void mb_emu_cells_free(struct mb_emu_memory *m);

/* ---------------------------------------------------------------- emu_device.c */
/* The launch's limits: threads, grid, shared memory. */
cudaError_t mb_emu_check_launch(const struct mb_emu_call *call);
#endif
