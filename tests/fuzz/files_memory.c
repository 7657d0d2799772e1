/* Files in memory behind the calls that the program reads files with: to be linked with -Wl,--wrap=open, and so for stat,
 * fstat, pread and close. Paths that are not in the table, and descriptors below FIRST_FD, are the system's. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILES 32
#define FIRST_FD 1000000

static struct file {
    char path[1024];
    int target; /* index of the file whose bytes it has; -1: a directory */
    uint8_t *data;
    size_t n, cap;
    uint64_t size;
} files[MAX_FILES];
static int n_files;
static char root[1024]; /* the first directory made: everything below it is in memory */

int __real_open(const char *path, int flags, ...);
int __real_stat(const char *path, struct stat *sb);
int __real_fstat(int fd, struct stat *sb);
ssize_t __real_pread(int fd, void *dst, size_t n, off_t off);
int __real_close(int fd);
int __wrap_open(const char *path, int flags, ...);
int __wrap_stat(const char *path, struct stat *sb);
int __wrap_fstat(int fd, struct stat *sb);
ssize_t __wrap_pread(int fd, void *dst, size_t n, off_t off);
int __wrap_close(int fd);

static int find(const char *path)
{
    for (int i = 0; i < n_files; i++) {
        if (strcmp(files[i].path, path) == 0)
            return i;
    }
    return -1;
}

static int make(const char *path)
{
    int i = find(path);
    if (i >= 0)
        return i;
    if (n_files == MAX_FILES || strlen(path) >= sizeof files[0].path)
        abort();
    strcpy(files[n_files].path, path);
    files[n_files].target = n_files;
    return n_files++;
}

static int in_memory(const char *path)
{
    size_t n = strlen(root);
    return n > 0 && strncmp(path, root, n) == 0;
}

void fuzz_dir(const char *path)
{
    if (root[0] == 0)
        snprintf(root, sizeof root, "%s", path);
    files[make(path)].target = -1;
}

void fuzz_file(const char *path, const void *data, size_t n, uint64_t size)
{
    struct file *f = &files[make(path)];
    if (n > f->cap) {
        f->data = realloc(f->data, n);
        f->cap = n;
        if (f->data == NULL)
            abort();
    }
    if (n > 0)
        memcpy(f->data, data, n);
    f->n = n;
    f->size = size;
}

void fuzz_link(const char *from, const char *to)
{
    int i = make(from);
    files[make(to)].target = i;
}

void fuzz_files_end(void)
{
    for (int i = 0; i < n_files; i++)
        free(files[i].data);
    n_files = 0;
    root[0] = 0;
}

/* ---------------------------------------------------------------- what the program calls */
static int fill(int i, struct stat *sb)
{
    memset(sb, 0, sizeof *sb);
    sb->st_mode = files[i].target < 0 ? S_IFDIR | 0700 : S_IFREG | 0600;
    sb->st_size = files[i].target < 0 ? 0 : (off_t)files[files[i].target].size;
    return 0;
}

int __wrap_stat(const char *path, struct stat *sb)
{
    if (!in_memory(path))
        return __real_stat(path, sb);
    int i = find(path);
    if (i >= 0)
        return fill(i, sb);
    errno = ENOENT;
    return -1;
}

int __wrap_open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
    va_end(ap);
    if (!in_memory(path))
        return __real_open(path, flags, mode);
    int i = find(path);
    if (i >= 0)
        return FIRST_FD + i;
    errno = ENOENT;
    return -1;
}

int __wrap_fstat(int fd, struct stat *sb)
{
    return fd < FIRST_FD ? __real_fstat(fd, sb) : fill(fd - FIRST_FD, sb);
}

ssize_t __wrap_pread(int fd, void *dst, size_t n, off_t off)
{
    if (fd < FIRST_FD)
        return __real_pread(fd, dst, n, off);
    const struct file *f = &files[files[fd - FIRST_FD].target];
    uint64_t at = (uint64_t)off;
    if (at >= f->size)
        return 0;
    if (n > f->size - at)
        n = (size_t)(f->size - at);
    size_t have = at >= f->n ? 0 : n < f->n - at ? n : (size_t)(f->n - at);
    if (have > 0)
        memcpy(dst, f->data + at, have);
    memset((uint8_t *)dst + have, 0, n - have);
    return (ssize_t)n;
}

int __wrap_close(int fd)
{
    return fd < FIRST_FD ? __real_close(fd) : 0;
}
