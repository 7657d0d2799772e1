#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/log.h"

static enum mb_status io_status(int err)
{
    return mb_status_of_errno(err);
}

char *mb_path_join(const char *dir, const char *name)
{
    char *out;
    size_t n = strlen(dir);
    const char *slash = n > 0 && dir[n - 1] == '/' ? "" : "/";
    if (asprintf(&out, "%s%s%s", dir, slash, name) < 0)
        return NULL;
    return out;
}

bool mb_path_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

enum mb_status mb_pread_all(int fd, void *dst, size_t n, uint64_t off, const char *path, enum mb_status st_bad)
{
    char *p = dst;
    while (n > 0) {
        ssize_t got = pread(fd, p, n, (off_t)off);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return mb_error(MB_IO, "%s: reading at byte %llu: %s", path, (unsigned long long)off, strerror(errno));
        if (got == 0)
            return mb_error(st_bad, "%s: ends at byte %llu, %zu bytes short", path, (unsigned long long)off, n);
        p += got;
        n -= (size_t)got;
        off += (uint64_t)got;
    }
    return MB_OK;
}

enum mb_status mb_file_read(const char *path, uint64_t max, enum mb_status st_bad, struct mb_bytes *out)
{
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return mb_error(st_bad, "%s: %s", path, strerror(errno));
    enum mb_status st = MB_OK;
    if (fstat(fd, &sb) != 0 || !S_ISREG(sb.st_mode))
        st = mb_error(st_bad, "%s: not a regular file", path);
    else if ((uint64_t)sb.st_size > max)
        st = mb_error(st_bad, "%s: %lld bytes, more than the %llu that such a file may have", path,
                      (long long)sb.st_size, (unsigned long long)max);
    if (st == MB_OK)
        st = mb_bytes_reserve(out, (size_t)sb.st_size + 1);
    if (st == MB_OK)
        st = mb_pread_all(fd, out->data + out->len, (size_t)sb.st_size, 0, path, st_bad);
    if (st == MB_OK)
        out->len += (size_t)sb.st_size;
    close(fd);
    return st;
}

enum mb_status mb_write_all(int fd, const void *src, size_t n, const char *path)
{
    const char *p = src;
    while (n > 0) {
        ssize_t put = write(fd, p, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return mb_error(io_status(errno), "%s: writing: %s", path, strerror(errno));
        p += put;
        n -= (size_t)put;
    }
    return MB_OK;
}

enum mb_status mb_pwrite_all(int fd, const void *src, size_t n, uint64_t off, const char *path)
{
    const char *p = src;
    while (n > 0) {
        ssize_t put = pwrite(fd, p, n, (off_t)off);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return mb_error(io_status(errno), "%s: writing at byte %llu: %s", path, (unsigned long long)off,
                            strerror(errno));
        p += put;
        n -= (size_t)put;
        off += (uint64_t)put;
    }
    return MB_OK;
}

enum mb_status mb_dir_sync(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return mb_error(MB_IO, "%s: %s", dir, strerror(errno));
    /* some network file systems refuse fsync on directories; that is their answer, not an error of ours */
    if (fsync(fd) != 0 && errno != EINVAL && errno != EROFS) {
        int err = errno;
        close(fd);
        return mb_error(io_status(err), "%s: fsync: %s", dir, strerror(err));
    }
    close(fd);
    return MB_OK;
}

static enum mb_status sync_parent(const char *path)
{
    char *dir = strdup(path);
    if (dir == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    char *slash = strrchr(dir, '/');
    if (slash == dir)
        slash[1] = 0;
    else if (slash != NULL)
        *slash = 0;
    enum mb_status st = mb_dir_sync(slash == NULL ? "." : dir);
    free(dir);
    return st;
}

enum mb_status mb_file_replace(const char *path, const void *src, size_t n, bool sync)
{
    char *tmp;
    if (asprintf(&tmp, "%s.tmp.%ld", path, (long)getpid()) < 0)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    enum mb_status st = MB_OK;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        st = mb_error(io_status(errno), "%s: %s", tmp, strerror(errno));
    if (st == MB_OK)
        st = mb_write_all(fd, src, n, tmp);
    if (st == MB_OK && sync && fsync(fd) != 0)
        st = mb_error(io_status(errno), "%s: fsync: %s", tmp, strerror(errno));
    if (fd >= 0 && close(fd) != 0 && st == MB_OK)
        st = mb_error(io_status(errno), "%s: close: %s", tmp, strerror(errno));
    if (st == MB_OK && rename(tmp, path) != 0)
        st = mb_error(io_status(errno), "%s: rename from %s: %s", path, tmp, strerror(errno));
    if (st != MB_OK && fd >= 0)
        unlink(tmp);
    free(tmp);
    return st == MB_OK && sync ? sync_parent(path) : st;
}

enum mb_status mb_mkdirs(const char *path)
{
    char *p = strdup(path);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    enum mb_status st = MB_OK;
    for (char *s = p + 1; st == MB_OK; s++) {
        char c = *s;
        if (c != '/' && c != 0)
            continue;
        *s = 0;
        if (mkdir(p, 0777) != 0 && errno != EEXIST)
            st = mb_error(io_status(errno), "%s: mkdir: %s", p, strerror(errno));
        *s = c;
        if (c == 0)
            break;
    }
    free(p);
    return st;
}

static enum mb_status remove_at(int dirfd, const char *name, const char *shown)
{
    if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
        return MB_OK;
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return mb_error(MB_IO, "%s: cannot remove: %s", shown, strerror(errno));
    DIR *d = fdopendir(fd);
    if (d == NULL) {
        close(fd);
        return mb_error(MB_NO_MEMORY, "%s: cannot list", shown);
    }
    enum mb_status st = MB_OK;
    for (struct dirent *e = readdir(d); e != NULL && st == MB_OK; e = readdir(d)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            st = remove_at(fd, e->d_name, shown);
    }
    closedir(d);
    if (st == MB_OK && unlinkat(dirfd, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        st = mb_error(MB_IO, "%s: cannot remove: %s", shown, strerror(errno));
    return st;
}

enum mb_status mb_remove_tree(const char *path)
{
    return remove_at(AT_FDCWD, path, path);
}
