/* ZeRO-inference: the experts of an exchange come to the ranks that serve them, if they aren't there, before
 * the rows do. What every member has rows for and keeps is said to all (one small allgather), the plan is a
 * pure function of it (plan/fetch.h), and the experts travel between members in rounds, or are read from the
 * files. */
#ifndef MB_ENGINE_ZERO_H
#define MB_ENGINE_ZERO_H
#include "engine/context.h"
#include "engine/count.h"

/* What is counted for each MoE layer. */
enum mb_zero_count {
    MB_ZERO_HITS,     /* experts that were needed and there */
    MB_ZERO_PEER,     /* came from another rank */
    MB_ZERO_FILE,     /* were read */
    MB_ZERO_EXPECTED, /* of these, announced by the prefetch */
    MB_ZERO_KEPT,     /* own (row, expert) pairs that a copy here served, and its owner elsewhere did not */
    MB_ZERO_SENT,     /* own pairs that went to another rank */
    MB_ZERO_COUNTS
};
_Static_assert(MB_ZERO_COUNTS == MB_ENGINE_ZERO_COUNTS, "engine.h says how many there are");

struct mb_zero;
/* Room for one piece of an expert each way: MB_SB_PIECE_OUT and _IN; NULL where no other rank has any. */
struct mb_zero_pieces {
    uint8_t *out, *in;
};
/* Makes and fills the cache if the plan has one; *out may be half-made where it fails. Borrows c, x, tally and what the pieces point to. Collective over
 * the engine's communicator. */
enum mb_status mb_zero_create(struct mb_context *c, struct mb_xchg *x, const struct mb_zero_pieces *pieces,
                              struct mb_tally *tally, struct mb_zero **out);
void mb_zero_destroy(struct mb_zero *z); /* NULL ok */
/* Before the dispatch of exchange j of a step: ids [rows * k] of this rank's rows. Fetches what comes from other ranks
 * and sets *v to who serves what. Errors: MB_IO, MB_MODEL, MB_BUG; the members still took part in everything,
 * so the status can travel with the dispatch, which must follow with *v. Collective over the exchange's
 * group.
 */
enum mb_status mb_zero_step(struct mb_zero *z, int64_t step, int32_t j, const int32_t *ids, int64_t n,
                            const struct mb_serve **v);
/* Before the experts of a round are computed: how many dispatched rows each has in it, begin [experts here + 1]. Local. */
void mb_zero_round(struct mb_zero *z, const int64_t *begin);
/* Marks in mb_zero_served()->pick which experts are computed next: those that were here when the round
 * began, then one by one those that had to be read, for which the ones already computed make room. false:
 * all are done, or *st says what failed. Local. */
bool mb_zero_pick(struct mb_zero *z, enum mb_status *st);
/* Experts that the exchange finds here. Valid until the next step. */
const struct mb_served *mb_zero_served(const struct mb_zero *z);
/* [layers of the model that have experts][MB_ZERO_COUNTS]; NULL without a cache. */
const int64_t *mb_zero_counts(const struct mb_zero *z);
#endif
