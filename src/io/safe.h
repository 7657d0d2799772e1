/* Texts of requests and models on a terminal. Local. */
#ifndef MB_IO_SAFE_H
#define MB_IO_SAFE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Control characters (newlines, escapes of terminals) as \xNN, a backslash as two. lines: newlines and tabs
 * stay what they are. */
void mb_put_safe(FILE *out, const char *s, size_t n, bool lines);
#endif
