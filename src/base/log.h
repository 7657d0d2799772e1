/* The logger: one of the two places with mutable file-scope state (the other is app). Lines go to stderr, whole, in one
 * write, so that lines of several ranks do not mix. Thread-safe. All functions Local. */
#ifndef MB_BASE_LOG_H
#define MB_BASE_LOG_H

#include <stdbool.h>
#include "base/status.h"

/* Before this the logger speaks as "moebatch:"; afterwards as "moebatch: rank R:" if world > 1. */
void mb_log_set_rank(int rank, int world);

/* quiet: errors and warnings that every rank detects alike (bad options, a bad model) are printed by rank 0 only.
 * true on the other ranks while configuration and model are checked. Warnings are dropped; errors are held until it is known
 * whether another rank has said the same. false drops what is held. */
void mb_log_set_quiet(bool quiet);
/* Prints the errors that are held: this rank alone has them to say. */
void mb_log_say_held(void);
/* Forgets them: what they were about was mended, or is said by another rank. */
void mb_log_drop_held(void);

/* One plain line (no prefix): header block, progress, result block. Printed whatever quiet says. */
void mb_print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void mb_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void mb_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A warning that is this rank's alone: printed whatever quiet says. */
void mb_warn_alone(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Logs an error (cause; remedy) and returns st, so that "return mb_error(MB_IO, ...)" is the whole failure path. */
enum mb_status mb_error(enum mb_status st, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
