/* Signals. The flag is one of app's few mutable globals: a handler has no other place. */
#ifndef MB_APP_SIGNALS_H
#define MB_APP_SIGNALS_H
#include <signal.h>
#include <stdbool.h>

/* TERM, INT, USR1 and USR2 ask the job to stop: the flag is set, the lane finishes its step. First thing in
 * main. PIPE is ignored. Local. */
void mb_signals_install(void);
/* The same as it was last asked for, also by mb_signals_tool: after MPI_Init, which may install handlers of
 * its own. Local. */
void mb_signals_again(void);
const volatile sig_atomic_t *mb_signals_stop(void);
/* Asks for a stop as this signal would; 0: for another reason (time limit). */
void mb_signals_ask(int sig);
/* The signal that asked first; 0: none has. */
int mb_signals_number(void);
/* Name of the signal that asked first, or NULL. */
const char *mb_signals_name(void);
/* For commands that are no job, once it is known which it is. Without files to write (writes false) a signal
 * ends the process, and so does a write to a closed pipe. With files the first signal sets the flag, so that
 * nothing half written stays, and a second one ends the process. Local. */
void mb_signals_tool(bool writes);
#endif
