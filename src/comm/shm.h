/* Shared segments of a node: shm_open and posix_fallocate (a full /dev/shm is a status, not a later SIGBUS), names drawn
 * at random (a name left behind by a killed job is never met again), unlinked as soon as everybody has mapped it. */
#ifndef MB_COMM_SHM_H
#define MB_COMM_SHM_H
#include <stdint.h>
#include "comm/comm.h"

struct mb_shm {
    uint8_t *base; /* NULL: none */
    uint64_t bytes;
};

/* What a segment's maker tells the others. Plain bytes, gathered as they are. */
struct mb_shm_offer {
    char name[40]; /* empty: it could not be made */
    uint32_t reason; /* then the errno */
    uint32_t pad;
    uint64_t nonce[2]; /* first 16 bytes of the segment: proves that it is this one */
};

/* Makes a segment of `bytes` (at least 16) zeroed bytes, all of them allocated, with the nonce at its start. Not logged, for
 * callers can do without: MB_NO_SPACE (full), MB_IO; offer->reason has the errno. Local. */
enum mb_status mb_shm_make(uint64_t bytes, struct mb_shm_offer *offer, struct mb_shm *out);
/* Maps a segment that another rank offers; MB_IO, not logged, if there is none of this name here or it is another one. */
enum mb_status mb_shm_map(const struct mb_shm_offer *offer, uint64_t bytes, struct mb_shm *out);
void mb_shm_unlink(const struct mb_shm_offer *offer); /* Local */
void mb_shm_unmap(struct mb_shm *s);                  /* Local; an empty one is ok */

/* One segment per group of ranks, made by the group's leader (a world rank; leader == own rank: makes it). Collective over
 * world; bytes > 0 must be equal inside a group, bytes 0: this rank needs none. On MB_OK every rank has its segment, and
 * no name is left. Otherwise every rank returns the same status and has none, and why says which rank has which reason (not
 * logged, for callers can do without). */
#define MB_SHM_WHY 128
enum mb_status mb_shm_share(struct mb_comm *c, int leader, uint64_t bytes, struct mb_shm *out, char why[MB_SHM_WHY]);
#endif
