/* The communicators of a job and small messages over them. The only room that calls MPI besides app (which owns
 * MPI_Init and MPI_Finalize). Every wait goes through the one waiting function (wait.h): test, then yield, then short
 * sleeps, with a deadline that counts only time in which the waiter itself ran. No blocking MPI call; calls without a
 * nonblocking form run under the watchdog.
 *
 * Collectives here are for setup, assembly and the end; in the loop status rides on the exchange (xchg.h). */
#ifndef MB_COMM_COMM_H
#define MB_COMM_COMM_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"
#include "topo/topo.h"

struct mb_comm_options {
    double deadline;  /* seconds; 0: 600 */
    struct mb_mem *mem;
    uint64_t piece;   /* bytes of a message between two ranks of a group, at most: longer ones go in pieces. 0: 1 GiB */
    /* Called once, when a communicator is lost (deadline, dead peer) and before MPI_Abort(75): writes and fsyncs the
     * journal. Must not call MPI. May be NULL. */
    void (*on_lost)(void *arg);
    void *on_lost_arg;
};

struct mb_comm;

/* Duplicates MPI_COMM_WORLD. A rank that cannot have its parts ends the job with the exit code of its status: the others are
 * on their way into a collective call. Collective over world. */
enum mb_status mb_comm_create(const struct mb_comm_options *opt, struct mb_comm **out);
void mb_comm_destroy(struct mb_comm *c); /* Collective over c; NULL ok; one that was split off goes first */
/* A communicator of the ranks that give the same color (>= 0), in the order of key; color < 0: this rank is in none, *out is NULL.
 * name: for messages and the registry, a word that stays.
 * Everything below works on it as on world, with its own ranks. Collective over c. */
enum mb_status mb_comm_split(struct mb_comm *c, const char *name, int color, int key, struct mb_comm **out);
/* Destroys what has been split off from a world and is still there, the newest first: all of them have a place in world's registry.
 * Collective over world. */
void mb_comm_destroy_parts(struct mb_comm *world);
/* The registry: communicator i of those that are there, the newest first, and its name; NULL: there are no more. Local. */
const struct mb_comm *mb_comm_part(const struct mb_comm *world, int i);
const char *mb_comm_name(const struct mb_comm *c);
int mb_comm_rank(const struct mb_comm *c); /* own rank in it. Local */
int mb_comm_size(const struct mb_comm *c);
int mb_comm_world_rank(const struct mb_comm *c, int rank); /* of a rank of c. Local */
/* on_lost may be set late, when the journal exists. Local */
void mb_comm_on_lost(struct mb_comm *c, void (*fn)(void *), void *arg);

/* --- collective over c; what: a word for messages ("model table") --- */
enum mb_status mb_comm_bcast(struct mb_comm *c, void *data, uint64_t n, int root, const char *what); /* any n, in pieces */
/* Root's bytes replace b's contents on the others. */
enum mb_status mb_comm_bcast_bytes(struct mb_comm *c, struct mb_bytes *b, int root, const char *what);
/* out[size][n] = every rank's in[n]. */
enum mb_status mb_comm_allgather(struct mb_comm *c, const void *in, uint64_t n, void *out, const char *what);
/* The most severe status of all ranks (largest enum value but MB_OK smallest): every rank returns the same. If rank 0 was fine
 * itself it logs which rank was not; that rank says what it held back (base/log.h). */
enum mb_status mb_comm_agree(struct mb_comm *c, enum mb_status mine, const char *what);
enum mb_status mb_comm_barrier(struct mb_comm *c, const char *what);
/* Each rank sends send[off[r] .. off[r+1]) to rank r and gets the pieces in rank order in *recv (mb_alloc'd, category
 * exchange) with recv_off[size + 1]. */
enum mb_status mb_comm_alltoallv(struct mb_comm *c, const uint8_t *send, const uint64_t *off, uint8_t **recv,
                                 uint64_t *recv_off, const char *what);
enum mb_status mb_comm_max_i64(struct mb_comm *c, int64_t *v, int32_t n, const char *what);
enum mb_status mb_comm_sum_i64(struct mb_comm *c, int64_t *v, int32_t n, const char *what);

/* Work of some ranks (me) that the others need: one table read by rank 0, files copied by one rank a node. Every other rank waits
 * for its end, however long it takes: the workers say all the time that they are alive. All ranks return the worst status of
 * the workers, so no worker can leave by itself. work runs in a thread of its own: it must call no MPI, and nothing of this room.
 * Collective over c. */
enum mb_status mb_comm_alone(struct mb_comm *c, bool me, enum mb_status (*work)(void *arg), void *arg, const char *what);
/* Tells the others, now and then, that this rank is at work on something that they wait for; their deadlines begin anew. Cheap,
 * to be called in loops that may take long between two collective operations. Local. */
void mb_comm_alive(struct mb_comm *c);
/* fn(arg) is called about ten times a second while this rank waits in world or for its own work in mb_comm_alone. It must not
 * wait itself. NULL: nothing. Local. */
void mb_comm_on_idle(struct mb_comm *c, void (*fn)(void *arg), void *arg);

/* Which ranks share memory: same_node[r] = lowest world rank of r's node. Ranks share a node if they have one hostname and
 * have mapped one common shared segment (tried, not assumed). same_node: [size]. Collective over world. */
enum mb_status mb_comm_same_node(struct mb_comm *c, int32_t *same_node);

/* end(arg, st) says with which exit code this rank ends the job in mb_comm_end, after on_lost; it must not call MPI. NULL: with that
 * of st. world. Local. */
void mb_comm_on_end(struct mb_comm *c, int (*end)(void *arg, enum mb_status st), void *arg);
/* Ends the job with the exit code of st, or what on_end says: runs on_lost (once), gives the other ranks a moment to do the same, MPI_Abort. For
 * a rank that has failed alone while the others may be waiting for it. Local. */
_Noreturn void mb_comm_end(struct mb_comm *c, enum mb_status st);

/* --- small control messages, point to point, never blocking --- */
enum mb_ctl_tag { MB_CTL_LEASE_ASK = 1, MB_CTL_LEASE, MB_CTL_TICK, MB_CTL_COMMAND, MB_CTL_USER };
/* Copies data; the message leaves in the background (polls drive it). n <= 1 MiB. Local. */
enum mb_status mb_ctl_send(struct mb_comm *c, int to, enum mb_ctl_tag tag, const void *data, uint32_t n);
/* One waiting message with this tag, or *got false. data is appended to out (reset first). Local. */
enum mb_status mb_ctl_poll(struct mb_comm *c, enum mb_ctl_tag tag, int *from, struct mb_bytes *out, bool *got);
/* Waits until every sent message has left (with the deadline). Local. */
enum mb_status mb_ctl_flush(struct mb_comm *c);
void mb_ctl_counts(const struct mb_comm *c, int64_t *bytes, int64_t *messages);

/* The MPI_Comm itself (Open MPI's handle is a pointer) for parallel HDF5: (MPI_Comm)mb_comm_mpi(c). Local. */
const void *mb_comm_mpi(const struct mb_comm *c);
/* Library version line of MPI, for provenance. Local. */
const char *mb_comm_library(const struct mb_comm *c);

/* Watchdog: between begin and end a thread that calls no MPI counts; past the deadline it logs what and rank, calls
 * on_lost and ends the process with 75. For init, split, HDF5 and finalize. Local. */
void mb_watch_begin(struct mb_comm *c, const char *what);
void mb_watch_end(struct mb_comm *c);
#endif
