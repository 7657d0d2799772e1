/* Between device code (C++) and the emulator (C): what a thread may call, and what a launch is. */
#ifndef MB_EMU_CALLS_H
#define MB_EMU_CALLS_H
#include <stddef.h>
#include <stdint.h>
#include "cuda_runtime.h"
#ifdef __cplusplus
extern "C" {
#endif

struct mb_emu_dim {
    unsigned x, y, z;
};
struct mb_emu_now { /* the fibre that runs */
    struct mb_emu_dim thread, block, block_size, grid_size;
};
extern struct mb_emu_now mb_emu_now;

enum mb_emu_barrier { MB_EMU_SYNC, MB_EMU_SYNC_COUNT };
enum mb_emu_warp {
    MB_EMU_WARP_SYNC,
    MB_EMU_SHFL,
    MB_EMU_SHFL_UP,
    MB_EMU_SHFL_DOWN,
    MB_EMU_SHFL_XOR,
    MB_EMU_BALLOT,
    MB_EMU_MATCH,
    MB_EMU_ADD,
    MB_EMU_MIN,
    MB_EMU_MAX,
    MB_EMU_MIN_U,
    MB_EMU_MAX_U,
    MB_EMU_AND,
    MB_EMU_OR,
    MB_EMU_XOR
};
enum mb_emu_atomic {
    MB_EMU_A_ADD,
    MB_EMU_A_EXCH,
    MB_EMU_A_CAS,
    MB_EMU_A_AND,
    MB_EMU_A_OR,
    MB_EMU_A_XOR,
    MB_EMU_A_MIN,
    MB_EMU_A_MAX,
    MB_EMU_A_UMIN,
    MB_EMU_A_UMAX
};

/* All threads of the block; returns how many came with a predicate that is not 0. */
int mb_emu_barrier(enum mb_emu_barrier kind, int predicate, const char *file, int line);
/* All lanes of mask; arg and width as in CUDA's function of that name. */
uint64_t mb_emu_warp(enum mb_emu_warp op, unsigned mask, uint64_t value, unsigned arg, int width, const char *file, int line);
unsigned mb_emu_active(void);
void *mb_emu_shared(void); /* dynamic shared memory of the block */
uint64_t mb_emu_atomic(enum mb_emu_atomic op, void *p, int bytes, uint64_t value, uint64_t compare);
void mb_emu_trap(const char *file, int line);

struct mb_emu_call {
    const char *name;
    const void *kernel;
    struct mb_emu_dim grid, block;
    size_t shared;
    void (*run)(const void *args); /* one thread of the kernel */
    void (*destroy)(void *args);
    void *args;
    size_t args_bytes;
};
/* Takes args over. */
cudaError_t mb_emu_launch_queue(const struct mb_emu_call *call, cudaStream_t stream);
#ifdef __cplusplus
}
#endif
#endif
