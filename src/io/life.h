/* Whether the process that owns a job is alive, from what it left in RESULTS.h5.d, and the beat by which it says so. Local. */
#ifndef MB_IO_LIFE_H
#define MB_IO_LIFE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/json.h"
#include "base/status.h"

/* A living owner's status.json is never older than MB_LIFE_BEAT; one that is older than MB_LIFE_FRESH belongs to a dead one. */
#define MB_LIFE_BEAT 5
#define MB_LIFE_FRESH 60

struct mb_life {
    bool known; /* there is an owner */
    bool alive;
    bool certain; /* its process was looked up on this machine, not judged by the age of its files */
    int32_t run;
    int64_t pid, age; /* age: seconds since its last sign */
    char host[256];
};
/* The newest owner of dir. On its machine its process is looked up (by number and start, so that a number that went to another
 * process is no life); elsewhere the age of status.json tells. An owner that said it had ended, that Slurm has started again, or
 * that is this process, is not alive. Nothing is logged. */
void mb_life_look(const char *dir, struct mb_life *out);
/* "pid 17 on node3, last sign 4 s ago" */
void mb_life_text(const struct mb_life *l, char out[384]);

/* Into owner.json: who this process is, for the above. 0, or -1 without memory. */
int mb_life_sign(json_t *owner);

/* Touches a file every MB_LIFE_BEAT seconds from a thread of its own, also while the main thread is busy for long. */
struct mb_beat;
enum mb_status mb_beat_start(const char *path, struct mb_beat **out);
void mb_beat_stop(struct mb_beat *b); /* NULL ok */
#endif
