/* What every kernel source includes first: the CUDA runtime (nvcc's own, or that of tests/cuda_emu on the CPU), how kernels are
 * launched, and the program's numeric headers as device code. Kernels are plain C++ for both compilers: no <<<>>>, no libm and
 * no CUDA function in a row's arithmetic but fmaf, and sqrtf and / as IEEE has them (nvcc -fmad=false -ftz=true -prec-div=true
 * -prec-sqrt=true).
 *
 * MB_LAUNCH(kernel, grid, block, shared, stream, args...) -> cudaError_t. MB_SHARED(T, name): T *name, the block's dynamic
 * shared memory, aligned to 16 bytes. */
#ifndef CUDA_LAUNCH_H
#define CUDA_LAUNCH_H
#include <cuda_runtime.h>

#define MB_INLINE static __host__ __device__ __forceinline__
#define MB_DEVICE static __device__ __forceinline__

#ifdef MB_CUDA_EMU
#define MB_LAUNCH(kernel, grid, block, shared, stream, ...)                                                  \
    mb_emu_launch(kernel, grid, block, shared, stream, __VA_ARGS__)
#define MB_SHARED(type, name) type *const name = static_cast<type *>(mb_emu_shared())
#define MB_UNROLL
#define MB_UNROLL_BY(n)
#else
#define MB_LAUNCH(kernel, grid, block, shared, stream, ...)                                                  \
    mb_launch(kernel, grid, block, shared, stream, __VA_ARGS__)
#define MB_SHARED(type, name)                                                                                \
    extern __shared__ __align__(16) unsigned char mb_shared_bytes[];                                         \
    type *const name = reinterpret_cast<type *>(mb_shared_bytes)
#define MB_UNROLL _Pragma("unroll")
#define MB_PRAGMA(x) _Pragma(#x)
#define MB_UNROLL_BY(n) MB_PRAGMA(unroll n)

template <class... P, class... A>
static inline cudaError_t mb_launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                                    cudaStream_t stream, A... args)
{
    cudaLaunchConfig_t c = {};

    c.gridDim = grid;
    c.blockDim = block;
    c.dynamicSmemBytes = shared;
    c.stream = stream;
    return cudaLaunchKernelEx(&c, kernel, static_cast<P>(args)...);
}
#endif

#include "base/mb_math_inl.h"
#include "base/numerics_inl.h"
#include "cuda/kernels.h"

enum { MB_WARP = 32 };
#define MB_ALL 0xffffffffu
#endif
