#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int log_rank;
static int log_world = 1;
static bool log_quiet;
/* Whole lines of errors that wait for mb_log_say_held. */
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;
static char held[8192];
static size_t held_len;

void mb_log_set_rank(int rank, int world)
{
    log_rank = rank;
    log_world = world;
}

static void put(const char *text, size_t n)
{
    ssize_t done = write(STDERR_FILENO, text, n);
    (void)done; /* a closed stderr must not stop a job */
}

void mb_log_drop_held(void)
{
    pthread_mutex_lock(&held_lock);
    held_len = 0;
    pthread_mutex_unlock(&held_lock);
}

void mb_log_say_held(void)
{
    pthread_mutex_lock(&held_lock);
    if (held_len > 0)
        put(held, held_len);
    held_len = 0;
    pthread_mutex_unlock(&held_lock);
}

void mb_log_set_quiet(bool quiet)
{
    log_quiet = quiet;
    if (!quiet)
        mb_log_drop_held();
}

/* The first ones are the cause: what no longer fits is left out. */
static void hold(const char *line, size_t n)
{
    pthread_mutex_lock(&held_lock);
    if (n <= sizeof held - held_len) {
        memcpy(held + held_len, line, n);
        held_len += n;
    }
    pthread_mutex_unlock(&held_lock);
}

static void emit(void (*to)(const char *, size_t), const char *prefix, const char *fmt, va_list ap)
{
    char line[4096];
    int saved = errno;
    int n = snprintf(line, sizeof line, "%s", prefix);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    size_t len = m < 0 ? (size_t)n : (size_t)n + (size_t)m;

    if (len > sizeof line - 2)
        len = sizeof line - 2;
    line[len++] = '\n';
    to(line, len);
    errno = saved;
}

static void emit_ranked(void (*to)(const char *, size_t), const char *level, const char *fmt, va_list ap)
{
    char prefix[64];

    if (log_world > 1)
        snprintf(prefix, sizeof prefix, "moebatch: rank %d: %s", log_rank, level);
    else
        snprintf(prefix, sizeof prefix, "moebatch: %s", level);
    emit(to, prefix, fmt, ap);
}

void mb_print(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(put, "", fmt, ap);
    va_end(ap);
}

void mb_info(const char *fmt, ...)
{
    va_list ap;
    if (log_quiet)
        return;
    va_start(ap, fmt);
    emit_ranked(put, "", fmt, ap);
    va_end(ap);
}

void mb_warn(const char *fmt, ...)
{
    va_list ap;
    if (log_quiet)
        return;
    va_start(ap, fmt);
    emit_ranked(put, "warning: ", fmt, ap);
    va_end(ap);
}

void mb_warn_alone(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit_ranked(put, "warning: ", fmt, ap);
    va_end(ap);
}

enum mb_status mb_error(enum mb_status st, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit_ranked(log_quiet ? hold : put, "error: ", fmt, ap);
    va_end(ap);
    return st;
}
