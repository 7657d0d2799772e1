/* LD_PRELOAD: the FAIL_AT-th call of FAIL_CALL (write, fsync, rename, mkdir) on a file below FAIL_DIR fails with FAIL_ERRNO, and with
 * FAIL_ON all later ones, too. Each such call is a line in FAIL_LOG: "n path", "failed" behind it where it did. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long calls;

static void note(long n, const char *path, int failed)
{
    char line[PATH_MAX + 64];
    int len = snprintf(line, sizeof line, "%ld %s%s\n", n, path, failed ? " failed" : "");
    int fd = (int)syscall(SYS_openat, AT_FDCWD, getenv("FAIL_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd >= 0 && len > 0 && syscall(SYS_write, fd, line, (size_t)len) < 0)
        abort();
    if (fd >= 0)
        syscall(SYS_close, fd);
}

/* Whether this call of `name` on `path` is to fail; errno is then set. */
static int fails(const char *name, const char *path)
{
    const char *call = getenv("FAIL_CALL"), *dir = getenv("FAIL_DIR"), *at = getenv("FAIL_AT"), *err = getenv("FAIL_ERRNO");
    if (call == NULL || dir == NULL || at == NULL || err == NULL || strcmp(call, name) != 0 || strncmp(path, dir, strlen(dir)) != 0)
        return 0;
    long n = atomic_fetch_add(&calls, 1) + 1, want = atol(at);
    int failed = n == want || (want > 0 && n > want && getenv("FAIL_ON") != NULL);
    note(n, path, failed);
    errno = failed ? atoi(err) : errno;
    return failed;
}

static int fails_fd(const char *name, int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return n > 0 && fails(name, path);
}

#define REAL(type, f) ((type)dlsym(RTLD_NEXT, #f))
typedef ssize_t (*write_f)(int, const void *, size_t);
typedef ssize_t (*pwrite_f)(int, const void *, size_t, off_t);
typedef int (*fd_f)(int);
typedef int (*rename_f)(const char *, const char *);
typedef int (*renameat2_f)(int, const char *, int, const char *, unsigned);
typedef int (*mkdir_f)(const char *, mode_t);

ssize_t write(int fd, const void *p, size_t n)
{
    return fails_fd("write", fd) ? -1 : REAL(write_f, write)(fd, p, n);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    return fails_fd("write", fd) ? -1 : REAL(pwrite_f, pwrite)(fd, p, n, at);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off_t at)
{
    return fails_fd("write", fd) ? -1 : REAL(pwrite_f, pwrite64)(fd, p, n, at);
}
int fsync(int fd)
{
    return fails_fd("fsync", fd) ? -1 : REAL(fd_f, fsync)(fd);
}
int fdatasync(int fd)
{
    return fails_fd("fsync", fd) ? -1 : REAL(fd_f, fdatasync)(fd);
}
int rename(const char *a, const char *b)
{
    return fails("rename", a) ? -1 : REAL(rename_f, rename)(a, b);
}
int renameat2(int da, const char *a, int db, const char *b, unsigned flags)
{
    return fails("rename", a) ? -1 : REAL(renameat2_f, renameat2)(da, a, db, b, flags);
}
int mkdir(const char *p, mode_t mode)
{
    return fails("mkdir", p) ? -1 : REAL(mkdir_f, mkdir)(p, mode);
}
