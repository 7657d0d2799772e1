/* What the files of this room share: the inside of struct mb_comm. Not for other rooms. */
#ifndef MB_COMM_IMPL_H
#define MB_COMM_IMPL_H
#include <mpi.h>
#include <stdatomic.h>
#include "comm/comm.h"
#include "comm/watchdog.h"

/* Messages on the control communicator that are not the caller's. */
#define MB_CTL_PRESENT (MB_CTL_USER + 1) /* "I have reached collective operation n" (wait.c) */
#define MB_CTL_TAGS (MB_CTL_USER + 1)

struct mb_ctl_msg {
    struct mb_ctl_msg *next;
    MPI_Request rq;
    int from;
    uint32_t n;
    uint8_t data[];
};
struct mb_ctl_queue {
    struct mb_ctl_msg *head, *tail;
};
struct mb_ctl {
    MPI_Comm mpi;
    struct mb_ctl_queue sent;              /* owned copies still under way */
    struct mb_ctl_queue recv[MB_CTL_TAGS]; /* arriving or arrived, per tag in order */
    int64_t bytes, messages;               /* the caller's, sent */
};

#define MB_HOST_NAME 64

struct mb_comm {
    MPI_Comm mpi; /* duplicate of world */
    int rank, size;
    double deadline;
    struct mb_mem *mem;
    struct mb_watchdog *dog; /* one for all communicators of the job: world's */
    bool sub;                /* split off from another */
    struct mb_comm *root;    /* of a split one: world's */
    const char *name;        /* of it, for messages */
    struct mb_comm *made;    /* world: those that were split off, the newest first */
    struct mb_comm *older;   /* the next of these */
    int *world;              /* [size] world rank of each rank */
    char (*host)[MB_HOST_NAME]; /* [world size] by world rank; world's */
    MPI_Request *swap;       /* [2 size] of a swap (group.c) */
    struct mb_posted *posted; /* under way (group.c) */
    uint64_t piece;           /* bytes of one message of a group, at most; below 2 GiB */
    int64_t moved_bytes, moved_messages;
    struct mb_ctl ctl;
    uint64_t op;       /* collective operations and exchanges this rank has begun: the same count on every rank */
    uint64_t *present; /* [size] the highest count each rank has told us (only filled when a wait takes long) */
    uint64_t alive;    /* how often others have said that they are at work alone (alone.c) */
    double last_alive; /* when this rank said so */
    void (*idle)(void *arg); /* world: while this rank waits; NULL: nothing */
    void *idle_arg;
    int (*end)(void *arg, enum mb_status st); /* world: the exit code of a rank that ends the job; NULL: that of st */
    void *end_arg;
    char library[160];
};

/* An MPI call's return code: anything but success means a peer or the network is gone, and the communicator is lost. */
void mb_mpi_check(struct mb_comm *c, int rc, const char *call);

void mb_ctl_init(struct mb_comm *c);
void mb_ctl_end(struct mb_comm *c);  /* once all others have flushed, before the communicator goes */
void mb_ctl_fini(struct mb_comm *c); /* after mb_ctl_flush */
/* Tests what was sent and takes in what has arrived. Never blocks. MB_NO_MEMORY where a message had to be left to MPI. */
enum mb_status mb_ctl_progress(struct mb_comm *c);
/* Presence, see wait.c: tells rank `to` how far this rank is, asks it the same, or says that it is at work alone. */
enum mb_presence { MB_PRESENT_ANSWER, MB_PRESENT_ASK, MB_PRESENT_ALIVE };
void mb_ctl_present(struct mb_comm *c, int to, enum mb_presence kind);
/* Calls what mb_comm_on_idle has set. */
void mb_comm_idle(struct mb_comm *c);
/* Waits until everything that was posted has left (group.c). */
void mb_comm_posted_flush(struct mb_comm *c);
#endif
