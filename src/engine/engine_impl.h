/* What engine.c and run.c share. */
#ifndef MB_ENGINE_ENGINE_IMPL_H
#define MB_ENGINE_ENGINE_IMPL_H
#include "engine/step.h"
#include "engine/zero.h"

struct mb_engine {
    struct mb_context c;
    struct mb_tally tally;
    struct mb_sched sched; /* of a leader */
    struct mb_step step;   /* its pass is made of what follows */
    struct mb_batch batch;
    struct mb_work work;
    struct mb_found found;
    int64_t end_step; /* the step in which all agreed to end; -1: not yet */
    bool apart;       /* the run ended here, and the others can't know */
};
#endif
