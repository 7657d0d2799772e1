/* What the files of the scheduler share. */
#ifndef MB_ENGINE_SCHED_IMPL_H
#define MB_ENGINE_SCHED_IMPL_H
#include "engine/sched.h"
#include "plan/grid.h"
#include "plan/parts.h"

/* A copy of the request's id for its record. */
enum mb_status mb_sched_copy_id(const struct mb_request *r, struct mb_record *rec);
/* The part that keeps page number `page` of a sequence. */
static inline int32_t mb_sched_part_of(const struct mb_sched *s, int64_t page)
{
    return mb_layout_part(s->o.parts, page * MB_KV_BLOCK / s->o.segment);
}
#endif
