#include "io/assemble.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/asm.h"

#define ROUND_BYTES ((uint64_t)16 << 20)

/* ---------------------------------------------------------------- the file */
/* Numbers. Collectively by all ranks; or, with one owner, by rank 0 with the serial driver, while the others only take part
 * in the rounds, so that nobody waits for longer than a round takes. */
static enum mb_status write_numbers(struct mb_asm *a, const char *tmp)
{
    struct mb_h5 *h = NULL;
    bool serial = a->owners == 1;
    enum mb_status st = MB_OK;
    mb_group_watch(&a->g, "creating the results (HDF5)");
    if (!serial || a->g.rank == 0)
        st = mb_h5_create(tmp, serial ? NULL : mb_comm_mpi(a->g.comm), &h);
    mb_group_watch_end(&a->g);
    st = mb_group_agree(&a->g, st, "creating the results");
    if (st == MB_OK)
        st = mb_asm_numbers(a, h);
    if (st == MB_OK)
        st = mb_asm_bulk(a, h);
    mb_group_watch(&a->g, "closing the results (HDF5)");
    enum mb_status closed = mb_h5_close(h);
    mb_group_watch_end(&a->g);
    return st != MB_OK ? st : closed;
}

static enum mb_status sync_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return mb_error(MB_IO, "%s: %s", path, strerror(errno));
    enum mb_status st = MB_OK;
    if (fsync(fd) != 0)
        st = mb_error(errno == ENOSPC || errno == EDQUOT ? MB_NO_SPACE : MB_IO, "%s: fsync: %s", path, strerror(errno));
    close(fd);
    return st;
}

static enum mb_status sync_dir_of(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    char *slash = strrchr(copy, '/');
    if (slash != NULL)
        slash[slash == copy] = 0;
    enum mb_status st = mb_dir_sync(slash == NULL ? "." : copy);
    free(copy);
    return st;
}

/* fsync of a large file may take longer than ranks wait for each other, so rank 0 leaves it to a thread (which calls no MPI)
 * and all ranks meet every half second until it is done. */
struct syncing {
    const char *path;
    enum mb_status st;
    atomic_bool done;
};

static void *sync_thread(void *arg)
{
    struct syncing *s = arg;
    s->st = sync_path(s->path);
    atomic_store(&s->done, true);
    return NULL;
}

static enum mb_status sync_together(struct mb_group *g, const char *tmp)
{
    struct syncing s = {.path = tmp, .st = MB_OK};
    const struct timespec half = {0, 500000000}, little = {0, 1000000};
    pthread_t thread;
    bool first = g->rank == 0, started = first && g->comm != NULL && pthread_create(&thread, NULL, sync_thread, &s) == 0;
    int64_t left = 1; /* the other ranks ask at least once */
    enum mb_status st = MB_OK;
    if (first && !started)
        (void)sync_thread(&s);
    while (st == MB_OK && left != 0) {
        for (int i = 0; i < 20 && first && !atomic_load(&s.done); i++)
            nanosleep(&little, NULL); /* small files are soon done */
        if (first && !atomic_load(&s.done))
            nanosleep(&half, NULL);
        left = first && !atomic_load(&s.done);
        st = mb_group_max(g, &left, 1, "fsync of the results");
    }
    if (started)
        pthread_join(thread, NULL);
    return st != MB_OK ? st : s.st;
}

/* Rank 0: the finished file takes its name. */
static enum mb_status publish(const char *tmp, const char *path, const struct mb_rundir *newest)
{
    mb_fault("assembled");
    if (newest != NULL)
        MB_TRY(mb_rundir_newest(newest));
    if (rename(tmp, path) != 0)
        return mb_error(MB_IO, "%s: rename from %s: %s", path, tmp, strerror(errno));
    return sync_dir_of(path);
}

enum mb_status mb_asm_write(struct mb_asm *a, const char *tmp, const char *path, uint64_t input_lines,
                            const struct mb_identity *identity, const struct mb_extras *extras,
                            const struct mb_rundir *newest)
{
    struct mb_h5 *h = NULL;
    bool first = a->g.rank == 0;
    enum mb_status st = mb_group_agree(&a->g, write_numbers(a, tmp), "numbers of the results");
    if (st == MB_OK)
        st = mb_group_agree(&a->g, first ? mb_h5_open(tmp, true, &h) : MB_OK, "strings of the results");
    if (st == MB_OK)
        st = mb_asm_text(a, h);
    if (st == MB_OK && first)
        st = mb_asm_finish(a, h, input_lines, identity, extras);
    if (st == MB_OK && first && a->more != NULL)
        st = a->more(a->more_arg, h);
    enum mb_status closed = mb_h5_close(h);
    st = mb_group_agree(&a->g, st != MB_OK ? st : closed, "strings of the results");
    if (st == MB_OK && a->openai != NULL)
        st = mb_asm_openai(a); /* before the results are there: complete results have all their files */
    if (st == MB_OK)
        st = mb_group_agree(&a->g, sync_together(&a->g, tmp), "fsync of the results");
    if (st == MB_OK && first)
        st = publish(tmp, path, newest);
    if (st != MB_OK && first)
        unlink(tmp);
    return mb_group_agree(&a->g, st, "publishing the results");
}

/* ---------------------------------------------------------------- from journals */
static bool any_bulk(const struct mb_shape *s)
{
    return s->routing || s->logits || s->hidden || s->mtp;
}

static int owners_of(const struct mb_assemble_options *o, int size)
{
    /* Only rank 0 may hold what grows with the number of requests. Bulk data is worth several writers, and then rows are few
     * enough. */
    if (o->min_lines == 0 && !any_bulk(o->shape))
        return 1;
    uint64_t least = o->min_lines ? o->min_lines : 1;
    uint64_t n = o->lines / least;
    return n < 1 ? 1 : n > (uint64_t)size ? size : (int)n;
}

/* Whether the file could outgrow the disk (or the limit on file sizes). */
static bool tight(const char *dir, uint64_t bytes)
{
    struct statvfs fs;
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < bytes)
        return true;
    return statvfs(dir, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize < bytes;
}

/* Entries of all rows at their owners. When a disk fills up under a collective write of compressed data, HDF5 1.10.8 does not
 * come back (measured), while a serial write fails in good order: where room is tight, rank 0 alone writes. */
static enum mb_status gather(struct mb_asm *a, const struct mb_assemble_options *o)
{
    MB_TRY(mb_asm_gather(a, o->dir->dir, o->identity));
    MB_TRY(mb_asm_settle(a));
    int64_t is_tight = a->owners > 1 && a->g.rank == 0 && tight(o->dir->dir, mb_asm_bound(a));
    MB_TRY(mb_group_max(&a->g, &is_tight, 1, "room for the results"));
    if (is_tight == 0)
        return MB_OK;
    if (a->g.rank == 0)
        mb_warn("%s may not have room for results of up to %llu MiB: rank 0 writes them alone", o->dir->dir,
                (unsigned long long)(mb_asm_bound(a) >> 20));
    mb_asm_forget(a);
    a->owners = 1;
    MB_TRY(mb_asm_gather(a, o->dir->dir, o->identity));
    return mb_asm_settle(a);
}

enum mb_status mb_assemble(const struct mb_assemble_options *o, struct mb_assembled *out)
{
    struct mb_asm a = {.g = mb_group_of(o->comm), .mem = o->mem, .first_line = o->first_line, .lines = o->lines,
                       .requests = o->requests, .partial = o->partial, .pending = o->pending, .shape = o->shape, .openai = o->openai,
                       .openai_path = o->openai_path};
    char *tmp = NULL;
    a.round_bytes = o->round_bytes ? o->round_bytes : ROUND_BYTES;
    a.owners = owners_of(o, a.g.size);
    enum mb_status st = mb_rows_journal(o->dir->dir, o->pending, &a.rows);
    if (st == MB_OK && asprintf(&tmp, "%s/assembling-%04d.h5", o->dir->dir, o->dir->number) < 0) {
        tmp = NULL;
        st = mb_error(MB_NO_MEMORY, "no memory for a path");
    }
    st = mb_group_agree(&a.g, st, "assembly");
    if (st == MB_OK)
        st = gather(&a, o);
    if (st == MB_OK)
        st = mb_asm_write(&a, tmp, o->dir->results, o->input_lines, o->identity, o->extras,
                          o->dir->number > 0 ? o->dir : NULL);
    if (st == MB_OK)
        *out = a.totals;
    mb_asm_fini(&a);
    free(tmp);
    return st;
}
