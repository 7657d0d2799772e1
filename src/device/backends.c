/* A program without GPUs. */
#include "device/registry.h"

const int mb_backend_count = 1;
const struct mb_ops *const mb_backends[] = {&mb_cpu_ops};
const struct mb_backend_probe mb_backend_probes[] = {{NULL, NULL}};
