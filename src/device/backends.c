/* A program without GPUs. */
#include "device/registry.h"

const int mb_backend_count = 1;
const struct mb_ops *const mb_backends[] = {&mb_cpu_ops};
int32_t (*const mb_backend_devices[])(void) = {NULL};
