/* The masks of a step: which tokens of the vocabulary a row may draw, by the grammar of its request. Each has
 * a slot, which it keeps as long as nobody else needs it, so that the rank that samples is given a mask once;
 * rows carry the slot. Of the leader; what is fresh travels with the step header. Local. */
#ifndef MB_ENGINE_MASKS_H
#define MB_ENGINE_MASKS_H
#include "guide/guide.h"

#define MB_MASK_HINTS 4096
struct mb_mask_slot {
    uint64_t number; /* guide.h; 0: empty */
    int64_t used;    /* the last step with it */
};
struct mb_mask_list {
    struct mb_mem *mem;
    int32_t slots, words;      /* words of a mask */
    int32_t *hint;             /* [MB_MASK_HINTS] by number: where a mask may be */
    struct mb_mask_slot *slot; /* [slots]; made when the first mask comes */
    int64_t step;
    int32_t n_fresh, cap_fresh;
    int32_t *fresh;       /* [n_fresh] slots that this step fills ... */
    uint32_t *fresh_bits; /* [n_fresh][words] ... with this */
};
void mb_masks_init(struct mb_mem *mem, int32_t slots, int32_t words, struct mb_mask_list *m);
void mb_masks_fini(struct mb_mask_list *m);
/* A new step: nothing is fresh. */
void mb_masks_clear(struct mb_mask_list *m);
/* The slot of a mask that this step uses. At most `slots` times in a step. Errors: MB_NO_MEMORY,
 * MB_BUG. */
enum mb_status mb_masks_put(struct mb_mask_list *m, const struct mb_guide_mask *mask, int32_t *slot);
/* Room for n fresh ones: the caller sets fresh and fresh_bits. Errors: MB_NO_MEMORY. */
enum mb_status mb_masks_room(struct mb_mask_list *m, int32_t n);
#endif
