/* Where requests come from. Implemented in io, used by engine, handed over by app. */
#ifndef MB_JOB_SOURCE_H
#define MB_JOB_SOURCE_H
#include "job/request.h"

enum mb_source_state {
    MB_SOURCE_SOME, /* *n requests were given (more may follow) */
    MB_SOURCE_WAIT, /* none now: a lease is under way */
    MB_SOURCE_END   /* none ever again */
};

struct mb_source;
struct mb_source_ops {
    /* Up to room requests into out[0..room); the caller owns them. Never blocks. Local (may exchange small control
     * messages with rank 0, never waiting for them). */
    enum mb_status (*next)(struct mb_source *s, int32_t room, struct mb_request **out, int32_t *n,
                           enum mb_source_state *state);
};
struct mb_source {
    const struct mb_source_ops *ops;
};
#endif
