/* Whether there is a GPU: what the registry asks. */
#ifndef CUDA_PRESENT_H
#define CUDA_PRESENT_H
#include <stdint.h>

/* GPUs that CUDA shows to this process; 0 also without a driver. Local. */
int32_t mb_cuda_present(void);
/* Bytes of the smallest of them that the program can use: less what CUDA itself takes. Local. */
int64_t mb_cuda_memory(void);
#endif
