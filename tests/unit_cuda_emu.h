/* Kernels of the emulator's own test (tests/cuda_emu/kernels.cu), launched by name. p: device memory of n
 * words. */
#ifndef MB_TESTS_UNIT_CUDA_EMU_H
#define MB_TESTS_UNIT_CUDA_EMU_H
#include <cuda_runtime.h>
#ifdef __cplusplus
extern "C" {
#endif
/* One block of `threads` (or `blocks` of them) on a stream; MB_EMU's error. An unknown name is
 * cudaErrorUnknown. */
cudaError_t emu_kernel(const char *name, int blocks, int threads, size_t shared, cudaStream_t s, int *p,
                       int n);
#ifdef __cplusplus
}
#endif
#endif
