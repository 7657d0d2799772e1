#include "comm/comm.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/log.h"
#include "comm/impl.h"
#include "comm/wait.h"

#define PIECE ((uint64_t)1 << 30) /* lengths of messages are ints */
#define DEADLINE_DEFAULT 600.0

_Noreturn void mb_comm_end(struct mb_comm *c, enum mb_status st)
{
    /* The other ranks reach the end of their deadlines at about the same time; the first abort kills them, so each gives
     * the others a moment to write their journals. */
    struct timespec grace = {0, 200000000};

    mb_log_say_held();
    mb_watchdog_run_lost(c->dog);
    nanosleep(&grace, NULL);
    const struct mb_comm *world = c->sub ? c->root : c;
    int code = world->end != NULL ? world->end(world->end_arg, st) : mb_status_exit_begun(st);
    mb_watchdog_begin(c->dog, "MPI_Abort");
    MPI_Abort(MPI_COMM_WORLD, code); /* on_lost has brought the journal to disk */
    _Exit(code);
}

void mb_mpi_check(struct mb_comm *c, int rc, const char *call)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;

    if (rc == MPI_SUCCESS)
        return;
    MPI_Error_string(rc, text, &n);
    mb_error(MB_PEER, "%s: %s; a rank or the network is gone, the job ends with exit 75 and can be resumed", call, text);
    mb_comm_end(c, MB_PEER);
}

static void library_line(struct mb_comm *c)
{
    char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int n = 0;

    MPI_Get_library_version(text, &n);
    text[strcspn(text, "\n")] = '\0';
    memcpy(c->library, text, strnlen(text, sizeof c->library - 1));
}

static void free_parts(struct mb_comm *c)
{
    mb_ctl_fini(c);
    if (!c->sub)
        mb_watchdog_destroy(c->dog);
    if (!c->sub)
        mb_free(c->host);
    mb_free(c->present);
    mb_free(c->world);
    mb_free(c->swap);
    free(c);
}

/* Errors come back as return codes, so that the journal is written before the job ends. */
static void duplicate(struct mb_comm *c)
{
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    mb_watchdog_begin(c->dog, "duplicating the communicator");
    mb_mpi_check(c, MPI_Comm_dup(MPI_COMM_WORLD, &c->mpi), "MPI_Comm_dup");
    mb_mpi_check(c, MPI_Comm_dup(MPI_COMM_WORLD, &c->ctl.mpi), "MPI_Comm_dup");
    for (int r = 0; r < c->size; r++)
        c->world[r] = r;
    mb_watchdog_end(c->dog);
    MPI_Comm_set_errhandler(c->mpi, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(c->ctl.mpi, MPI_ERRORS_RETURN);
}

/* Who sits where, for messages about ranks that do not come. */
static enum mb_status share_hosts(struct mb_comm *c)
{
    char own[MB_HOST_NAME] = "";

    if (gethostname(own, sizeof own - 1) != 0)
        snprintf(own, sizeof own, "unknown");
    own[strcspn(own, ".")] = '\0';
    return mb_comm_allgather(c, own, sizeof own, c->host, "host names");
}

static bool alloc_tables(struct mb_comm *c)
{
    c->present = mb_zalloc(c->mem, MB_MEM_OTHER, (size_t)c->size, sizeof c->present[0]);
    c->world = mb_zalloc(c->mem, MB_MEM_OTHER, (size_t)c->size, sizeof c->world[0]);
    c->swap = mb_zalloc(c->mem, MB_MEM_OTHER, 2 * (size_t)c->size, sizeof c->swap[0]);
    if (!c->sub)
        c->host = mb_zalloc(c->mem, MB_MEM_OTHER, (size_t)c->size, sizeof c->host[0]);
    return c->present != NULL && c->world != NULL && c->swap != NULL && c->host != NULL;
}

/* The others are on their way into the first collective call, which this rank will not reach. */
static _Noreturn void end_before(struct mb_watchdog *dog, enum mb_status st)
{
    if (dog != NULL)
        mb_watchdog_begin(dog, "MPI_Abort");
    MPI_Abort(MPI_COMM_WORLD, mb_status_exit(st));
    _Exit(mb_status_exit(st));
}

enum mb_status mb_comm_create(const struct mb_comm_options *opt, struct mb_comm **out)
{
    struct mb_comm *c = calloc(1, sizeof *c);

    if (c == NULL)
        end_before(NULL, mb_error(MB_NO_MEMORY, "no memory for the communicator"));
    mb_ctl_init(c);
    c->deadline = opt->deadline > 0 ? opt->deadline : DEADLINE_DEFAULT;
    c->mem = opt->mem;
    c->name = "world";
    c->piece = opt->piece > 0 && opt->piece < PIECE ? opt->piece : PIECE;
    MPI_Comm_rank(MPI_COMM_WORLD, &c->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &c->size);
    library_line(c);
    enum mb_status st = mb_watchdog_create(c->deadline, &c->dog);
    if (st == MB_OK) {
        if (!alloc_tables(c))
            st = mb_error(MB_NO_MEMORY, "no memory for the table of %d ranks", c->size);
    }
    if (st != MB_OK)
        end_before(c->dog, st);
    mb_comm_on_lost(c, opt->on_lost, opt->on_lost_arg);
    duplicate(c);
    MB_TRY(share_hosts(c));
    *out = c;
    return MB_OK;
}

/* ---------------------------------------------------------------- the registry */
static void enter(struct mb_comm *s)
{
    s->older = s->root->made;
    s->root->made = s;
}

static void strike_out(struct mb_comm *s)
{
    struct mb_comm **at = &s->root->made;

    while (*at != s)
        at = &(*at)->older;
    *at = s->older;
}

const struct mb_comm *mb_comm_part(const struct mb_comm *world, int i)
{
    const struct mb_comm *s = world->made;

    for (; i > 0 && s != NULL; i--)
        s = s->older;
    return s;
}

const char *mb_comm_name(const struct mb_comm *c)
{
    return c->name;
}

/* Those that two ranks share were made in one order. */
void mb_comm_destroy_parts(struct mb_comm *world)
{
    while (world->made != NULL)
        mb_comm_destroy(world->made);
}

void mb_comm_destroy(struct mb_comm *c)
{
    if (c == NULL)
        return;
    if (c->sub)
        strike_out(c);
    /* Whoever waits here also takes in what others still send, so all messages leave. */
    mb_ctl_flush(c);
    mb_comm_posted_flush(c);
    mb_comm_barrier(c, "end");
    mb_ctl_progress(c);
    mb_ctl_end(c);
    mb_watchdog_begin(c->dog, "freeing the communicator");
    MPI_Comm_free(&c->ctl.mpi);
    MPI_Comm_free(&c->mpi);
    mb_watchdog_end(c->dog);
    free_parts(c);
}

/* The new communicator's own parts, once MPI has it. */
static enum mb_status adopt(struct mb_comm *c, struct mb_comm *s)
{
    MPI_Comm_set_errhandler(s->mpi, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(s->ctl.mpi, MPI_ERRORS_RETURN);
    MPI_Comm_rank(s->mpi, &s->rank);
    MPI_Comm_size(s->mpi, &s->size);
    memcpy(s->library, c->library, sizeof s->library);
    if (!alloc_tables(s))
        return mb_error(MB_NO_MEMORY, "no memory for the table of %d ranks", s->size);
    return MB_OK;
}

enum mb_status mb_comm_split(struct mb_comm *c, const char *name, int color, int key, struct mb_comm **out)
{
    struct mb_comm *s = calloc(1, sizeof *s);
    enum mb_status st = s == NULL ? mb_error(MB_NO_MEMORY, "no memory for a communicator") : MB_OK;
    bool in = color >= 0;

    MB_TRY(mb_comm_agree(c, st, "communicators"));
    mb_ctl_init(s);
    s->sub = true;
    s->name = name;
    s->host = c->host; /* by world ranks: the root's */
    s->root = c->root != NULL ? c->root : c;
    s->dog = c->dog;
    s->deadline = c->deadline;
    s->piece = c->piece;
    s->mem = c->mem;
    mb_watchdog_begin(c->dog, "splitting a communicator");
    mb_mpi_check(c, MPI_Comm_split(c->mpi, in ? color : MPI_UNDEFINED, key, &s->mpi), "MPI_Comm_split");
    if (in)
        mb_mpi_check(c, MPI_Comm_dup(s->mpi, &s->ctl.mpi), "MPI_Comm_dup");
    mb_watchdog_end(c->dog);
    if (in)
        st = adopt(c, s);
    st = mb_comm_agree(c, st, "communicators");
    if (st == MB_OK && in)
        st = mb_comm_allgather(s, &c->world[c->rank], sizeof(int), s->world, "world ranks");
    if (st != MB_OK || !in) {
        free_parts(s);
        s = NULL;
    }
    if (s != NULL)
        enter(s);
    if (st == MB_OK)
        *out = s;
    return st;
}

int mb_comm_world_rank(const struct mb_comm *c, int rank)
{
    return c->world[rank];
}

int mb_comm_rank(const struct mb_comm *c)
{
    return c->rank;
}

int mb_comm_size(const struct mb_comm *c)
{
    return c->size;
}

void mb_comm_on_lost(struct mb_comm *c, void (*fn)(void *), void *arg)
{
    mb_watchdog_on_lost(c->dog, fn, arg);
}

void mb_comm_on_end(struct mb_comm *c, int (*end)(void *, enum mb_status), void *arg)
{
    c->end = end;
    c->end_arg = arg;
}

const void *mb_comm_mpi(const struct mb_comm *c)
{
    return (const void *)c->mpi; /* Open MPI's handle is a pointer */
}

const char *mb_comm_library(const struct mb_comm *c)
{
    return c->library;
}

void mb_watch_begin(struct mb_comm *c, const char *what)
{
    mb_watchdog_begin(c->dog, what);
}

void mb_watch_end(struct mb_comm *c)
{
    mb_watchdog_end(c->dog);
}
