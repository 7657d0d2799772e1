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
#include "base/publish.h"

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

static bool same_directory(const char *a, const char *b)
{
    const char *x = strrchr(a, '/'), *y = strrchr(b, '/');
    char *da = x == NULL ? strdup(".") : strndup(a, (size_t)(x - a) + 1);
    char *db = y == NULL ? strdup(".") : strndup(b, (size_t)(y - b) + 1);
    struct stat p, q;
    bool same = da != NULL && db != NULL && stat(da, &p) == 0 && stat(db, &q) == 0 && p.st_dev == q.st_dev && p.st_ino == q.st_ino;
    free(da);
    free(db);
    return same && strcmp(x == NULL ? a : x + 1, y == NULL ? b : y + 1) == 0;
}

bool mb_same_file(const char *a, const char *b)
{
    struct stat p, q;
    bool is_a = stat(a, &p) == 0, is_b = stat(b, &q) == 0;
    if (is_a && is_b)
        return p.st_dev == q.st_dev && p.st_ino == q.st_ino;
    return !is_a && !is_b && same_directory(a, b);
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
            return mb_file_error(errno, path, "writing");
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
            return mb_file_error(errno, path, "writing");
        p += put;
        n -= (size_t)put;
        off += (uint64_t)put;
    }
    return MB_OK;
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
        if (mkdir(p, 0777) == 0)
            st = mb_dir_sync_of(p);
        else if (errno != EEXIST)
            st = mb_file_error(errno, p, "mkdir");
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

enum mb_status mb_remove_file(const char *path)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return MB_OK;
    return mb_file_error(errno, path, "cannot remove");
}

void mb_remove_empty(const char *dir)
{
    (void)rmdir(dir);
}

enum mb_status mb_remove_tree(const char *path)
{
    return remove_at(AT_FDCWD, path, path);
}
