#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int log_rank;
static int log_world = 1;
static bool log_quiet;

void mb_log_set_rank(int rank, int world)
{
    log_rank = rank;
    log_world = world;
}

void mb_log_set_quiet(bool quiet)
{
    log_quiet = quiet;
}

static void emit(const char *prefix, const char *fmt, va_list ap)
{
    char line[4096];
    int saved = errno;
    int n = snprintf(line, sizeof line, "%s", prefix);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    size_t len = m < 0 ? (size_t)n : (size_t)n + (size_t)m;

    if (len > sizeof line - 2)
        len = sizeof line - 2;
    line[len++] = '\n';
    ssize_t done = write(STDERR_FILENO, line, len);
    (void)done; /* a closed stderr must not stop a job */
    errno = saved;
}

static void emit_ranked(const char *level, const char *fmt, va_list ap)
{
    char prefix[64];

    if (log_world > 1)
        snprintf(prefix, sizeof prefix, "moebatch: rank %d: %s", log_rank, level);
    else
        snprintf(prefix, sizeof prefix, "moebatch: %s", level);
    emit(prefix, fmt, ap);
}

void mb_print(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit("", fmt, ap);
    va_end(ap);
}

void mb_info(const char *fmt, ...)
{
    va_list ap;
    if (log_quiet)
        return;
    va_start(ap, fmt);
    emit_ranked("", fmt, ap);
    va_end(ap);
}

void mb_warn(const char *fmt, ...)
{
    va_list ap;
    if (log_quiet)
        return;
    va_start(ap, fmt);
    emit_ranked("warning: ", fmt, ap);
    va_end(ap);
}

enum mb_status mb_error(enum mb_status st, const char *fmt, ...)
{
    va_list ap;
    if (log_quiet)
        return st;
    va_start(ap, fmt);
    emit_ranked("error: ", fmt, ap);
    va_end(ap);
    return st;
}
