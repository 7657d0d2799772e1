/* LD_PRELOAD: writes into the file $SYNC_LOG what is on the disk for certain: "sync SIZE PATH" after each fsync or fdatasync that
 * succeeded, with the size before it, and "rename FROM\tTO". Everything beyond may be gone after a power loss. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void say(const char *line, int n)
{
    const char *log = getenv("SYNC_LOG");
    int fd = log != NULL ? open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666) : -1;

    if (fd < 0)
        return;
    if (write(fd, line, (size_t)n) != n)
        abort();
    close(fd);
}

static int synced(int fd, const char *name)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    char link[64], path[PATH_MAX], line[PATH_MAX + 64];
    struct stat s;
    int known = fstat(fd, &s), r = real(fd);

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (r == 0 && known == 0 && n > 0)
        say(line, snprintf(line, sizeof line, "sync %lld %.*s\n", (long long)s.st_size, (int)n, path));
    return r;
}

int fsync(int fd)
{
    return synced(fd, "fsync");
}

int fdatasync(int fd)
{
    return synced(fd, "fdatasync");
}

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    char a[PATH_MAX], b[PATH_MAX], line[2 * PATH_MAX + 16];
    int known = realpath(from, a) != NULL, r = real(from, to);

    if (r == 0 && known && realpath(to, b) != NULL)
        say(line, snprintf(line, sizeof line, "rename %s\t%s\n", a, b));
    return r;
}
