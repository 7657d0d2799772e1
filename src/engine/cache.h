/* The experts that a rank keeps under ZeRO-inference: a fixed number of slots, made once. The one that was
 * not used for longest leaves first, but each exchange of a step keeps some of its own: a step meets the
 * exchanges in turn, so that the plain order would evict every expert just before it is needed again. Local.
 */
#ifndef MB_ENGINE_CACHE_H
#define MB_ENGINE_CACHE_H
#include "engine/weights.h"

struct mb_slot {
    struct mb_ffn f;
    int32_t exchange, id; /* -1: empty */
    int64_t used;         /* when, in uses */
    int64_t keep;         /* exchange (counted over the run) in which it must not leave */
};

struct mb_cache {
    int32_t n;
    struct mb_slot *slot;
    int32_t exchanges, ids, stay; /* stay: experts that do not leave for those of other exchanges, in all */
    int32_t *at;                   /* [exchanges][ids] slot, or -1 */
    int32_t *held;                 /* [exchanges] */
    int64_t uses;
};
/* The slots are empty shells: the caller makes their weights. Errors: MB_NO_MEMORY. */
enum mb_status mb_cache_create(struct mb_cache *c, int32_t n, int32_t exchanges, int32_t ids);
void mb_cache_fini(struct mb_cache *c, const struct mb_ops *ops); /* half-made ok */
static inline int32_t mb_cache_at(const struct mb_cache *c, int32_t exchange, int32_t id)
{
    return c->at[(int64_t)exchange * c->ids + id];
}
/* Of these, the experts of one exchange. */
static inline int32_t mb_cache_least(int32_t stay, int32_t exchanges, int32_t exchange)
{
    return stay / exchanges + (exchange < stay % exchanges);
}
/* The expert is used in this exchange of the run, and stays through it. */
void mb_cache_use(struct mb_cache *c, int32_t slot, int64_t now);
/* Gives an expert a slot, whose weights are then another's or none's. -1: everything must stay. */
int32_t mb_cache_claim(struct mb_cache *c, int32_t exchange, int32_t id, int64_t now);
/* Its weights did not come. */
void mb_cache_drop(struct mb_cache *c, int32_t slot);
#endif
