/* A program with GPUs: takes the place of src/device/backends.c. */
#include "cuda/present.h"
#include "device/registry.h"

extern const struct mb_ops mb_cuda_ops;

const int mb_backend_count = 2;
const struct mb_ops *const mb_backends[] = {&mb_cuda_ops, &mb_cpu_ops};
const struct mb_backend_probe mb_backend_probes[] = {{mb_cuda_present, mb_cuda_memory}, {NULL, NULL}};
