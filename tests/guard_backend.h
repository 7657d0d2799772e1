/* The guard backend: the CPU's operations on buffers that live in pages of their own, which only an operation
 * may touch. Between operations the pages are closed (PROT_NONE), and a closed page lies before and after
 * each buffer, so that a host pointer into device memory ends the process where it is used, as it would with
 * a GPU. */
#ifndef TESTS_GUARD_BACKEND_H
#define TESTS_GUARD_BACKEND_H
#include "device/ops.h"

extern const struct mb_ops guard_ops; /* name "guard" */
#endif
