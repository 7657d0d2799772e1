/* The computing threads of a device: one team that lives as long as the device, so that an operation costs a
 * wake-up and not a thread. The caller is thread 0. Threads inherit the CPU mask of the thread that creates
 * the team. Local. */
#ifndef MB_DEVICE_CPU_TEAM_H
#define MB_DEVICE_CPU_TEAM_H
#include <stdint.h>
#include "base/status.h"

struct mb_cpu_team;
typedef void (*mb_cpu_team_fn)(void *arg, int32_t thread);

/* threads >= 1, with the caller. Errors: MB_NO_MEMORY (memory, or the system starts no more threads; none is
 * left). */
enum mb_status mb_cpu_team_create(int32_t threads, struct mb_cpu_team **out);
/* Ends and joins the threads. NULL ok. */
void mb_cpu_team_destroy(struct mb_cpu_team *t);
/* fn(arg, i) on threads i = 0 .. n - 1, 1 <= n <= threads, at once; returns when all have returned, and what
 * they wrote is then seen. Only from the thread that created the team; fn must not call it. */
void mb_cpu_team_run(struct mb_cpu_team *t, int32_t n, mb_cpu_team_fn fn, void *arg);
#endif
