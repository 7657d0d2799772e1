/* Files that appear whole or not at all, under their name, at one moment. The one place of the program that syncs, renames and
 * links: tests/check_publish.sh holds the objects against it.
 *
 * A file is written under a temporary name beside its own, "NAME.tmp-" and twelve random digits, made exclusively, so that no
 * other process, on whatever host, writes the same one. mb_publish_commit then brings it to disk, asks once more whether it may,
 * renames it and brings the directory to disk. What a killed process left behind is removed by the next one that publishes
 * there: a writer holds a lock (flock) on its temporary file as long as it lives. All Local; errors are logged, with path, cause
 * and remedy. */
#ifndef MB_BASE_PUBLISH_H
#define MB_BASE_PUBLISH_H
#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"

/* Logs "PATH: DOING: CAUSE; REMEDY" of an errno and returns its status (mb_status_of_errno). */
enum mb_status mb_file_error(int err, const char *path, const char *doing);

enum {
    MB_PUBLISH_NEW = 1,      /* commit fails with MB_INPUT if there is a file of that name, and leaves it alone */
    MB_PUBLISH_ADVISORY = 2, /* nothing depends on it: not synced, and failing is a warning */
    MB_PUBLISH_SILENT = 4,   /* with ADVISORY: not even that */
    MB_PUBLISH_BY_NAME = 8   /* others write to .tmp by its name and lock it (HDF5): it is left unlocked, its name has ".part-",
                              * and leftovers are removed once they are an hour old */
};

struct mb_publish {
    char *path, *tmp; /* tmp: what to write to */
    int fd;           /* of tmp, read and write */
    unsigned flags;
    bool synced;
};

/* Makes the temporary file; mode 0666 less the umask. prefix: what .tmp begins with instead of path (on the same file system);
 * NULL: path. *out only on MB_OK; to be given to mb_publish_commit or mb_publish_drop. */
enum mb_status mb_publish_open(const char *path, const char *prefix, unsigned flags, struct mb_publish **out);
enum mb_status mb_publish_write(struct mb_publish *p, const void *src, size_t n); /* appends */
/* Brings what is written to disk. May take long; calls nothing but the kernel, so that a thread may do it. Once it has failed,
 * nothing makes it good: drop it. */
enum mb_status mb_publish_sync(struct mb_publish *p);
/* Syncs (unless that was done), asks may(arg) (NULL: yes), renames, and syncs the directory. The file is at its place if and
 * only if the rename was done: an error after it is one of durability. Frees p in any case; without success .tmp is gone. */
enum mb_status mb_publish_commit(struct mb_publish *p, enum mb_status (*may)(void *arg), void *arg);
void mb_publish_drop(struct mb_publish *p); /* removes .tmp, frees; NULL ok */

/* Whether path could be published: makes a temporary file there and removes it. MB_INPUT for a directory, else that of
 * the errno. */
enum mb_status mb_publish_probe(const char *path);
/* The whole of it for n bytes. */
enum mb_status mb_publish_bytes(const char *path, const void *src, size_t n, unsigned flags);
/* A symbolic link path -> target, in place of whatever file or link was there. */
enum mb_status mb_publish_symlink(const char *target, const char *path);
/* path.tmp-*, path.part-* of processes that are gone. */
void mb_publish_sweep(const char *path);

/* A directory that appears whole or not at all: it is filled under a temporary name beside its own (PATH.tmp-..., held by a lock as
 * above; what killed processes left is removed by the next one), with files that who writes them syncs, and takes its name in one step.
 * open: MB_INPUT if there is anything of that name. commit: syncs the directory, renames it unless the name is taken by now (MB_INPUT),
 * and frees d in any case; without success nothing of it is left. tmp: where to write. */
struct mb_publish_dir {
    char *path, *tmp;
    int fd; /* of tmp */
};
enum mb_status mb_publish_dir_open(const char *path, struct mb_publish_dir **out);
enum mb_status mb_publish_dir_commit(struct mb_publish_dir *d);
void mb_publish_dir_drop(struct mb_publish_dir *d); /* removes tmp, frees; NULL ok */

/* Data of an open file to disk (fdatasync); fd < 0: nothing to do. */
enum mb_status mb_sync_data(int fd, const char *path);
/* File and size (fsync). */
enum mb_status mb_sync_file(int fd, const char *path);
enum mb_status mb_dir_sync(const char *dir);
enum mb_status mb_dir_sync_of(const char *path); /* the directory that path is in */

/* An exclusive lock by a file, over the short steps in which something is published or removed. Waits at most a minute, then
 * MB_INPUT. Where the file system knows no locks it holds nobody back; what is done under it asks again by itself. */
struct mb_lock {
    char *path;
    int fd;
};
enum mb_status mb_lock_take(const char *path, struct mb_lock *out);
void mb_lock_release(struct mb_lock *l, bool remove);

/* A file for reading and writing in dir that has no name: it is gone when it is closed, whatever becomes of the process. The
 * descriptor, or -1 with errno (not logged). Local. */
int mb_file_unnamed(const char *dir);
#endif
