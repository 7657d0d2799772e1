/* The watchdog: a thread that calls no MPI and watches one call that has no nonblocking form (MPI_Init, duplicating a
 * communicator, HDF5, MPI_Finalize). Past the deadline it says which call, runs on_lost and ends the process with 75.
 * Only time in which the process itself ran is counted: a suspended job does not fail. All functions Local. */
#ifndef MB_COMM_WATCHDOG_H
#define MB_COMM_WATCHDOG_H
#include "base/status.h"

struct mb_watchdog;

/* deadline in seconds. MB_NO_MEMORY or MB_BUG (no thread) logged. */
enum mb_status mb_watchdog_create(double deadline, struct mb_watchdog **out);
void mb_watchdog_destroy(struct mb_watchdog *d); /* NULL ok */
/* What is called before the process ends (once per process and watchdog); must not call MPI. NULL: nothing. */
void mb_watchdog_on_lost(struct mb_watchdog *d, void (*fn)(void *), void *arg);
/* Runs on_lost unless it was run before. */
void mb_watchdog_run_lost(struct mb_watchdog *d);
/* what is copied. Calls do not nest. */
void mb_watchdog_begin(struct mb_watchdog *d, const char *what);
void mb_watchdog_end(struct mb_watchdog *d);
#endif
