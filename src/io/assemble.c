#include "io/assemble.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/publish.h"
#include "io/asm.h"
#include "io/describe.h"
#include "io/seal.h"

#define ROUND_BYTES ((uint64_t)16 << 20)

/* ---------------------------------------------------------------- the file */
/* Numbers. Collectively by all ranks; or, with one owner, by rank 0 with the serial driver, while the others only take part
 * in the rounds, so that nobody waits for longer than a round takes. */
static enum mb_status write_numbers(struct mb_asm *a, const char *tmp)
{
    struct mb_h5 *h = NULL;
    bool serial = a->owners == 1;
    enum mb_status st = serial && a->g.rank != 0 ? MB_OK : mb_h5_new(tmp, &h);
    st = mb_group_agree(&a->g, st, "creating the results"); /* what comes is collective inside HDF5 */
    mb_group_watch(&a->g, "creating the results (HDF5)");
    if (st == MB_OK && h != NULL)
        st = mb_h5_begin(h, serial ? NULL : mb_comm_mpi(a->g.comm));
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

/* fsync of a large file may take longer than ranks wait for each other, so rank 0 leaves it to a thread (which calls no MPI)
 * and all ranks meet every half second until it is done. */
struct syncing {
    struct mb_publish *file; /* rank 0 */
    enum mb_status st;
    atomic_bool done;
};

static void *sync_thread(void *arg)
{
    struct syncing *s = arg;
    s->st = mb_publish_sync(s->file);
    atomic_store(&s->done, true);
    return NULL;
}

static enum mb_status sync_together(struct mb_group *g, struct mb_publish *file)
{
    struct syncing s = {.file = file, .st = MB_OK};
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

/* Rank 0: the finished files take their names, results first: whoever finds them complete can make the lines from them. */
static enum mb_status publish(struct mb_asm *a, const struct mb_asm_target *t, struct mb_publish **file)
{
    struct mb_lock lock = {0};
    struct mb_publish *results = *file;
    mb_fault("assembled");
    if (t->lock != NULL)
        MB_TRY(mb_rundir_lock(t->lock, &lock));
    *file = NULL;
    enum mb_status st = mb_publish_commit(results, t->may, t->may_arg);
    mb_lock_release(&lock, st != MB_OK); /* after a refusal it would be the only thing left of a job */
    if (st != MB_OK || a->openai_file == NULL)
        return st;
    struct mb_publish *lines = a->openai_file;
    a->openai_file = NULL;
    return mb_publish_commit(lines, NULL, NULL);
}

/* The temporary file, whose name rank 0 makes; *name is everybody's. */
static enum mb_status begin(struct mb_asm *a, const struct mb_asm_target *t, struct mb_publish **file, struct mb_bytes *name)
{
    enum mb_status st = MB_OK;
    if (a->g.rank == 0)
        st = mb_publish_open(t->path, t->prefix, t->flags | MB_PUBLISH_BY_NAME, file);
    if (*file != NULL)
        st = mb_bytes_put(name, (*file)->tmp, strlen((*file)->tmp) + 1);
    MB_TRY(mb_group_agree(&a->g, st, "creating the results"));
    return mb_group_bcast(&a->g, name, "name of the results");
}

static enum mb_status seal(void *arg)
{
    return mb_seal_write(arg);
}

/* Rank 0 reads the file back: its digests and checksums go into it. Entries have served. */
static enum mb_status seal_alone(struct mb_asm *a, const char *tmp)
{
    struct mb_assembled totals = a->totals;
    mb_asm_forget(a);
    a->totals = totals;
    return mb_group_alone(&a->g, seal, (void *)(uintptr_t)tmp, "digest of the results");
}

static enum mb_status write_whole(struct mb_asm *a, const char *tmp, uint64_t input_lines, const struct mb_identity *identity,
                                  const struct mb_extras *extras)
{
    struct mb_h5 *h = NULL;
    bool first = a->g.rank == 0;
    MB_TRY(mb_group_agree(&a->g, write_numbers(a, tmp), "numbers of the results"));
    enum mb_status st = mb_group_agree(&a->g, first ? mb_h5_open(tmp, true, &h) : MB_OK, "strings of the results");
    if (st == MB_OK)
        st = mb_asm_text(a, h);
    if (st == MB_OK && first)
        st = mb_asm_finish(a, h, input_lines, identity, extras);
    if (st == MB_OK && first && a->more != NULL)
        st = a->more(a->more_arg, h);
    if (st == MB_OK && first)
        st = mb_describe(h);
    enum mb_status closed = mb_h5_close(h);
    st = mb_group_agree(&a->g, st != MB_OK ? st : closed, "strings of the results");
    if (st == MB_OK && a->openai != NULL)
        st = mb_asm_openai(a);
    return st == MB_OK ? seal_alone(a, tmp) : st;
}

enum mb_status mb_asm_write(struct mb_asm *a, const struct mb_asm_target *t, uint64_t input_lines,
                            const struct mb_identity *identity, const struct mb_extras *extras)
{
    struct mb_publish *file = NULL;
    struct mb_bytes name = {0};
    enum mb_status st = begin(a, t, &file, &name);
    if (st == MB_OK)
        st = write_whole(a, (const char *)name.data, input_lines, identity, extras);
    if (st == MB_OK)
        st = mb_group_agree(&a->g, sync_together(&a->g, file), "fsync of the results");
    if (st == MB_OK && a->g.rank == 0)
        st = publish(a, t, &file);
    mb_publish_drop(file);
    mb_publish_drop(a->openai_file);
    a->openai_file = NULL;
    mb_bytes_fini(&name);
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

static enum mb_status newest(void *dir)
{
    return mb_rundir_newest(dir);
}

enum mb_status mb_assemble(const struct mb_assemble_options *o, struct mb_assembled *out)
{
    struct mb_asm a = {.g = mb_group_of(o->comm), .mem = o->mem, .first_line = o->first_line, .lines = o->lines,
                       .requests = o->requests, .partial = o->partial, .pending = o->pending, .shape = o->shape, .openai = o->openai,
                       .openai_path = o->openai_path, .openai_replace = o->openai_replace, .stop = o->stop, .show = o->show,
                       .show_arg = o->show_arg};
    struct mb_asm_target t = {.path = o->dir->results, .lock = o->dir, .may = o->may != NULL ? o->may : newest,
                              .may_arg = o->may != NULL ? o->may_arg : (void *)(uintptr_t)o->dir};
    char *prefix = mb_path_join(o->dir->dir, MB_RUNDIR_ASSEMBLING);
    t.prefix = prefix;
    a.round_bytes = o->round_bytes ? o->round_bytes : ROUND_BYTES;
    a.owners = owners_of(o, a.g.size);
    enum mb_status st = mb_rows_journal(o->dir->dir, o->pending, &a.rows);
    if (st == MB_OK && prefix == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for a path");
    st = mb_group_agree(&a.g, st, "assembly");
    if (st == MB_OK)
        st = gather(&a, o);
    if (st == MB_OK)
        st = mb_asm_write(&a, &t, o->input_lines, o->identity, o->extras);
    if (st == MB_OK)
        *out = a.totals;
    mb_asm_fini(&a);
    free(prefix);
    return st;
}
