/* What the files of the scheduler share. */
#ifndef MB_ENGINE_SCHED_IMPL_H
#define MB_ENGINE_SCHED_IMPL_H
#include "engine/sched.h"
#include "plan/grid.h"
#include "plan/parts.h"

/* A batch being made, and its flight. */
struct mb_making {
    struct mb_batch *b;
    struct mb_flight *f;
};

/* A copy of the request's id for its record. */
enum mb_status mb_sched_copy_id(const struct mb_request *r, struct mb_record *rec);
/* The part that keeps page number `page` of a sequence. */
static inline int32_t mb_sched_part_of(const struct mb_sched *s, int64_t page)
{
    return mb_layout_part(s->o.parts, page * MB_KV_BLOCK / s->o.segment);
}
static inline int64_t mb_sched_pages_for(int64_t positions)
{
    return (positions + MB_KV_BLOCK - 1) / MB_KV_BLOCK;
}
/* The rows that have the same bits where their ids and positions are the same: of one adapter and rotation.
 */
static inline int32_t mb_sched_kind(const struct mb_seq *q)
{
    return 2 * (q->kind.adapter + 1) + q->kind.rope_long;
}

/* ---------------------------------------------------------------- sched_fit.c */

/* Of the first n pages of a sequence, those that a part keeps. */
int64_t mb_sched_pages_of(const struct mb_sched *s, int32_t part, int64_t n);
/* Whether the pages will do if the sequence runs beside those that do, going by how long others became.
 * Always if nobody else has pages. */
bool mb_sched_fits(const struct mb_sched *s, const struct mb_seq *q);

/* ---------------------------------------------------------------- sched_pages.c */

/* The sequence gives its pages back, and leaves the tree. */
void mb_sched_release(struct mb_sched *s, struct mb_seq *q);
/* Page k of a sequence is from now on this one, which others have, too. */
void mb_sched_hold(struct mb_sched *s, struct mb_seq *q, int32_t k, int32_t page);
/* How many of the next `rows` rows of q there are pages for, made room for by whoever may give way: what is
 * kept for later, then the youngest sequences behind it. A page that others have is copied by the batch
 * first. */
int64_t mb_sched_room(struct mb_sched *s, struct mb_batch *b, struct mb_seq *q, int64_t rows);

/* How many of n rows behind the next one of q there are pages for without anybody giving way. */
int32_t mb_sched_spare(struct mb_sched *s, struct mb_seq *q, int32_t n);

/* ---------------------------------------------------------------- sched_share.c */

/* A sequence without rows: where its text begins in the tree. */
void mb_sched_stand(const struct mb_sched *s, struct mb_seq *q);
/* Rows of a sequence that others have computed, or compute in this batch, become its own: n_sched moves on.
 * Returns whether it is served by them in this batch, so that it has no rows of its own. */
bool mb_sched_share(struct mb_sched *s, struct mb_making *k, struct mb_seq *q);
/* Rows of q at positions [pos, pos + n), from row `row` of the batch on (-1: of an older one), are in their pages from now on. */
void mb_sched_enter(struct mb_sched *s, struct mb_seq *q, int64_t pos, int64_t n, int32_t row);
/* How many ids at the front of a sequence that does not run the tree has in pages that others hold. */
int64_t mb_sched_common(const struct mb_sched *s, const struct mb_seq *q);
/* What the tree has is not to be used by anybody else. */
void mb_sched_forget(struct mb_sched *s);

/* ---------------------------------------------------------------- sched_draft.c */

/* Before a batch is made: how many guesses it has room for, and what they have to bring. */
void mb_sched_draft_begin(struct mb_sched *s);
/* Ids guessed behind the last known one of q, for whose row there is a page: *n <= room of them, each with a page. */
enum mb_status mb_sched_draft(struct mb_sched *s, struct mb_seq *q, int32_t room, int32_t *n);
/* Before the results of a flight are used: which guesses were right. Afterwards: they are rows like others, the rest is gone. */
void mb_sched_judge(struct mb_sched *s, const struct mb_flight *f, const struct mb_found *found);
void mb_sched_settle(struct mb_sched *s, const struct mb_flight *f);

/* ---------------------------------------------------------------- sched_batch.c */

/* Whether q waits for nothing but the row of the id drawn last. */
bool mb_sched_decodes(const struct mb_seq *q);

/* q wants results of a row; at: the place of its id. */
void mb_sched_ask(struct mb_sched *s, struct mb_seq *q, int32_t row, int64_t at, bool again);
/* Whether a row's logits are results of q, or lead to them. */
bool mb_sched_wants(const struct mb_sched *s, const struct mb_seq *q, int64_t at);
#endif
