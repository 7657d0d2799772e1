#include "base/publish.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"

#define LOCKED ".tmp-"
#define UNLOCKED ".part-"
#define DIGITS 12
#define STALE_SECONDS 3600

/* ---------------------------------------------------------------- errors */
static const struct {
    int err;
    const char *remedy;
} causes[] = {
    {ENOSPC, "make room on that file system, then go on with --resume"},
    {EDQUOT, "raise the quota or remove files that count against it, then go on with --resume"},
    {EFBIG, "raise the limit on file sizes (ulimit -f), then go on with --resume"},
    {EROFS, "choose a place that can be written"},
    {EACCES, "choose a place that you may write to"},
    {EPERM, "choose a place that you may write to"},
    {ENOENT, "make the directory, or name another"},
    {ENOTDIR, "name a path below a directory"},
    {EIO, "the disk or its server reports a failure: look at the system's log before going on with --resume"},
};

enum mb_status mb_file_error(int err, const char *path, const char *doing)
{
    for (size_t i = 0; i < sizeof causes / sizeof *causes; i++) {
        if (causes[i].err == err)
            return mb_error(mb_status_of_errno(err), "%s: %s: %s; %s", path, doing, strerror(err), causes[i].remedy);
    }
    return mb_error(mb_status_of_errno(err), "%s: %s: %s", path, doing, strerror(err));
}

static enum mb_status failed(const struct mb_publish *p, int err, const char *path, const char *doing)
{
    if (!(p->flags & MB_PUBLISH_ADVISORY))
        return mb_file_error(err, path, doing);
    if (!(p->flags & MB_PUBLISH_SILENT))
        mb_warn("%s: %s: %s; the job goes on without it", path, doing, strerror(err));
    return mb_status_of_errno(err);
}

/* ---------------------------------------------------------------- syncing */
static enum mb_status synced(int result, int fd, const char *path)
{
    /* a pipe or device (/dev/stdout) has nothing to sync, and some network file systems refuse it for directories: their answer,
     * no error of ours */
    if (result == 0 || errno == EINVAL || errno == EROFS || errno == ENOTSUP)
        return MB_OK;
    (void)fd;
    return mb_file_error(errno, path, "fsync");
}

enum mb_status mb_sync_data(int fd, const char *path)
{
    return fd < 0 ? MB_OK : synced(fdatasync(fd), fd, path);
}

enum mb_status mb_sync_file(int fd, const char *path)
{
    return synced(fsync(fd), fd, path);
}

enum mb_status mb_dir_sync(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return mb_file_error(errno, dir, "open");
    enum mb_status st = mb_sync_file(fd, dir);
    close(fd);
    return st;
}

/* malloc'd; "." for a bare name. */
static char *dir_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return strdup(".");
    return strndup(path, slash == path ? 1 : (size_t)(slash - path));
}

enum mb_status mb_dir_sync_of(const char *path)
{
    char *dir = dir_of(path);
    enum mb_status st = dir == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : mb_dir_sync(dir);
    free(dir);
    return st;
}

/* ---------------------------------------------------------------- leftovers */
static bool random_tail(const char *s)
{
    return strlen(s) == DIGITS && strspn(s, "0123456789abcdef") == DIGITS;
}

/* Nobody has it open as its writer. */
static bool abandoned(int dir, const char *name, bool locked)
{
    struct stat sb;
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool gone = fd >= 0 && fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (gone && !locked)
        gone = time(NULL) - sb.st_mtime > STALE_SECONDS;
    if (fd >= 0)
        close(fd);
    return gone;
}

void mb_publish_sweep(const char *path)
{
    const char *base = strrchr(path, '/');
    base = base == NULL ? path : base + 1;
    size_t n = strlen(base);
    char *dir = dir_of(path);
    DIR *d = dir == NULL ? NULL : opendir(dir);
    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d)) {
        const char *tail = e->d_name + n;
        if (strncmp(e->d_name, base, n) != 0)
            continue;
        bool locked = strncmp(tail, LOCKED, strlen(LOCKED)) == 0, part = strncmp(tail, UNLOCKED, strlen(UNLOCKED)) == 0;
        if ((locked && random_tail(tail + strlen(LOCKED))) || (part && random_tail(tail + strlen(UNLOCKED)))) {
            if (abandoned(dirfd(d), e->d_name, locked))
                (void)unlinkat(dirfd(d), e->d_name, 0);
        }
    }
    if (d != NULL)
        closedir(d);
    free(dir);
}

/* ---------------------------------------------------------------- the temporary file */
static char *random_name(const char *prefix, const char *kind)
{
    unsigned char r[DIGITS / 2];
    char *out;
    if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
        return NULL;
    if (asprintf(&out, "%s%s%02x%02x%02x%02x%02x%02x", prefix, kind, r[0], r[1], r[2], r[3], r[4], r[5]) < 0)
        return NULL;
    return out;
}

static void publish_free(struct mb_publish *p)
{
    if (p->fd >= 0)
        close(p->fd);
    free(p->path);
    free(p->tmp);
    free(p);
}

static enum mb_status make_tmp(struct mb_publish *p, const char *prefix)
{
    bool by_name = p->flags & MB_PUBLISH_BY_NAME;
    for (int i = 0; i < 100; i++) {
        free(p->tmp);
        p->tmp = random_name(prefix, by_name ? UNLOCKED : LOCKED);
        if (p->tmp == NULL)
            return failed(p, ENOMEM, p->path, "a temporary name");
        p->fd = open(p->tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (p->fd < 0 && errno == EEXIST)
            continue;
        if (p->fd < 0)
            return failed(p, errno, p->path, "a temporary file beside it can't be made");
        if (!by_name)
            (void)flock(p->fd, LOCK_EX | LOCK_NB); /* without locks a leftover stays, that is all */
        return MB_OK;
    }
    return failed(p, EEXIST, p->tmp, "open");
}

enum mb_status mb_publish_open(const char *path, const char *prefix, unsigned flags, struct mb_publish **out)
{
    struct mb_publish *p = calloc(1, sizeof *p);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to write %s", path);
    p->fd = -1;
    p->flags = flags;
    p->path = strdup(path);
    enum mb_status st = p->path == NULL ? mb_error(MB_NO_MEMORY, "no memory to write %s", path) : MB_OK;
    if (st == MB_OK && !(flags & MB_PUBLISH_ADVISORY))
        mb_publish_sweep(prefix != NULL ? prefix : path);
    if (st == MB_OK)
        st = make_tmp(p, prefix != NULL ? prefix : path);
    if (st != MB_OK)
        publish_free(p);
    else
        *out = p;
    return st;
}

enum mb_status mb_publish_write(struct mb_publish *p, const void *src, size_t n)
{
    const char *at = src;
    while (n > 0) {
        ssize_t put = write(p->fd, at, n);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return failed(p, errno, p->path, "writing");
        at += put;
        n -= (size_t)put;
    }
    return MB_OK;
}

enum mb_status mb_publish_sync(struct mb_publish *p)
{
    if (fsync(p->fd) != 0)
        return failed(p, errno, p->path, "fsync");
    p->synced = true;
    return MB_OK;
}

void mb_publish_drop(struct mb_publish *p)
{
    if (p == NULL)
        return;
    unlink(p->tmp);
    publish_free(p);
}

/* ---------------------------------------------------------------- the moment */
/* Another program has not put its own file under our temporary name. */
static enum mb_status still_ours(const struct mb_publish *p)
{
    struct stat a, b;
    if (fstat(p->fd, &a) != 0 || lstat(p->tmp, &b) != 0)
        return failed(p, errno, p->tmp, "the temporary file is gone");
    if (a.st_dev != b.st_dev || a.st_ino != b.st_ino)
        return failed(p, ESTALE, p->tmp, "the temporary file was replaced");
    return MB_OK;
}

/* A name that nobody has yet: in one step, or by a second name for the same file. */
static int rename_new(const char *tmp, const char *path)
{
    if (renameat2(AT_FDCWD, tmp, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP)
        return -1;
    if (link(tmp, path) != 0)
        return -1;
    unlink(tmp);
    return 0;
}

static enum mb_status take_name(const struct mb_publish *p)
{
    bool new = p->flags & MB_PUBLISH_NEW;
    MB_TRY(still_ours(p));
    if ((new ? rename_new(p->tmp, p->path) : rename(p->tmp, p->path)) == 0)
        return MB_OK;
    if (new && errno == EEXIST)
        return mb_error(MB_INPUT, "%s exists by now and stays as it is: move it away, or name another file", p->path);
    return failed(p, errno, p->path, "rename");
}

enum mb_status mb_publish_commit(struct mb_publish *p, enum mb_status (*may)(void *arg), void *arg)
{
    bool durable = !(p->flags & MB_PUBLISH_ADVISORY);
    enum mb_status st = durable && !p->synced ? mb_publish_sync(p) : MB_OK;
    if (st == MB_OK && may != NULL)
        st = may(arg);
    if (st == MB_OK)
        st = take_name(p);
    if (st != MB_OK) {
        mb_publish_drop(p);
        return st;
    }
    if (durable)
        st = mb_dir_sync_of(p->path);
    publish_free(p);
    return st;
}

enum mb_status mb_publish_probe(const char *path)
{
    struct stat sb;
    char *tmp = NULL;
    if (stat(path, &sb) == 0 && S_ISDIR(sb.st_mode))
        return mb_error(MB_INPUT, "%s is a directory; name a file", path);
    tmp = random_name(path, LOCKED);
    if (tmp == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    int err = errno;
    if (fd >= 0) {
        close(fd);
        unlink(tmp);
    }
    free(tmp);
    if (fd < 0)
        return mb_error(mb_status_of_errno(err), "%s can't be written: %s; name a file in a directory that you may write to", path,
                        strerror(err));
    return MB_OK;
}

enum mb_status mb_publish_bytes(const char *path, const void *src, size_t n, unsigned flags)
{
    struct mb_publish *p = NULL;
    MB_TRY(mb_publish_open(path, NULL, flags, &p));
    enum mb_status st = mb_publish_write(p, src, n);
    if (st == MB_OK)
        return mb_publish_commit(p, NULL, NULL);
    mb_publish_drop(p);
    return st;
}

enum mb_status mb_publish_symlink(const char *target, const char *path)
{
    char *tmp = random_name(path, LOCKED);
    enum mb_status st = MB_OK;
    if (tmp == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    if (symlink(target, tmp) != 0)
        st = mb_file_error(errno, path, "symlink");
    else if (rename(tmp, path) != 0) {
        st = mb_file_error(errno, path, "rename");
        unlink(tmp);
    }
    free(tmp);
    return st == MB_OK ? mb_dir_sync_of(path) : st;
}

/* ---------------------------------------------------------------- directories */
/* One that a killed process was filling. A very young and empty one may not have its lock yet. */
static bool abandoned_dir(const char *path)
{
    struct stat sb;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool gone = fd >= 0 && fstat(fd, &sb) == 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && time(NULL) - sb.st_mtime > 2;
    if (fd >= 0)
        close(fd);
    return gone;
}

static void sweep_dirs(const char *path)
{
    const char *base = strrchr(path, '/');
    base = base == NULL ? path : base + 1;
    size_t n = strlen(base), t = strlen(LOCKED);
    char *dir = dir_of(path);
    DIR *d = dir == NULL ? NULL : opendir(dir);
    for (struct dirent *e = d == NULL ? NULL : readdir(d); e != NULL; e = readdir(d)) {
        if (strncmp(e->d_name, base, n) != 0 || strncmp(e->d_name + n, LOCKED, t) != 0 || !random_tail(e->d_name + n + t))
            continue;
        char *whole = mb_path_join(dir, e->d_name);
        if (whole != NULL && abandoned_dir(whole))
            (void)mb_remove_tree(whole);
        free(whole);
    }
    if (d != NULL)
        closedir(d);
    free(dir);
}

static void dir_free(struct mb_publish_dir *d)
{
    if (d->fd >= 0)
        close(d->fd);
    free(d->path);
    free(d->tmp);
    free(d);
}

void mb_publish_dir_drop(struct mb_publish_dir *d)
{
    if (d == NULL)
        return;
    if (d->fd >= 0)
        (void)mb_remove_tree(d->tmp);
    dir_free(d);
}

static enum mb_status taken(const char *path)
{
    return mb_error(MB_INPUT, "%s exists and stays as it is: move it away, or name another directory", path);
}

static enum mb_status make_dir(struct mb_publish_dir *d)
{
    struct stat sb;
    if (lstat(d->path, &sb) == 0)
        return taken(d->path);
    sweep_dirs(d->path);
    d->tmp = random_name(d->path, LOCKED);
    if (d->tmp == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    if (mkdir(d->tmp, 0777) != 0)
        return mb_file_error(errno, d->path, "a temporary directory beside it can't be made");
    d->fd = open(d->tmp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (d->fd < 0) {
        enum mb_status st = mb_file_error(errno, d->tmp, "open");
        (void)mb_remove_tree(d->tmp);
        return st;
    }
    (void)flock(d->fd, LOCK_EX | LOCK_NB); /* without locks a leftover stays, that is all */
    return MB_OK;
}

enum mb_status mb_publish_dir_open(const char *path, struct mb_publish_dir **out)
{
    struct mb_publish_dir *d = calloc(1, sizeof *d);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    if (d != NULL) {
        d->fd = -1;
        d->path = strndup(path, n);
    }
    enum mb_status st = d == NULL || d->path == NULL ? mb_error(MB_NO_MEMORY, "no memory to write %s", path) : make_dir(d);
    if (st == MB_OK)
        *out = d;
    else if (d != NULL)
        dir_free(d);
    return st;
}

/* Where the file system cannot refuse a name that is taken, a directory with files in it is not replaced either. */
static enum mb_status take_dir_name(const struct mb_publish_dir *d)
{
    int r = renameat2(AT_FDCWD, d->tmp, AT_FDCWD, d->path, RENAME_NOREPLACE);
    if (r != 0 && (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP))
        r = rename(d->tmp, d->path);
    if (r == 0)
        return MB_OK;
    return errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR ? taken(d->path) : mb_file_error(errno, d->path, "rename");
}

enum mb_status mb_publish_dir_commit(struct mb_publish_dir *d)
{
    enum mb_status st = mb_sync_file(d->fd, d->tmp);
    if (st == MB_OK)
        st = take_dir_name(d);
    if (st != MB_OK) {
        mb_publish_dir_drop(d);
        return st;
    }
    st = mb_dir_sync_of(d->path);
    dir_free(d);
    return st;
}

/* ---------------------------------------------------------------- locks */
static bool no_locks(int err)
{
    return err == ENOLCK || err == ENOSYS || err == ENOTSUP || err == EINVAL || err == EBADF;
}

/* Whether fd is still what path names: whoever held the lock may have removed the file. */
static bool same_file(int fd, const char *path)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

enum mb_status mb_lock_take(const char *path, struct mb_lock *out)
{
    const struct timespec moment = {.tv_nsec = 20000000};
    for (int tries = 0; tries < 3000; tries++) {
        int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
        if (fd < 0)
            return mb_file_error(errno, path, "open");
        bool got = flock(fd, LOCK_EX | LOCK_NB) == 0 || no_locks(errno);
        if (got && same_file(fd, path)) {
            out->fd = fd;
            out->path = strdup(path);
            if (out->path != NULL)
                return MB_OK;
            close(fd);
            return mb_error(MB_NO_MEMORY, "no memory for a path");
        }
        close(fd);
        nanosleep(&moment, NULL);
    }
    return mb_error(MB_INPUT, "%s is held by another moebatch for more than a minute; try again when it has ended", path);
}

void mb_lock_release(struct mb_lock *l, bool remove)
{
    if (l->path == NULL)
        return;
    if (remove)
        unlink(l->path);
    close(l->fd);
    free(l->path);
    l->path = NULL;
}

int mb_file_unnamed(const char *dir)
{
    char *path = NULL;
    if (asprintf(&path, "%s/moebatch-XXXXXX", dir) < 0) {
        errno = ENOMEM;
        return -1;
    }
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        (void)unlink(path);
    free(path);
    return fd;
}
