/* Configurations that were met, with their numbers, where each byte leads, and masks. Forgets everything when
 * it is full: what it says is the same. Local. */
#ifndef MB_GUIDE_STATES_H
#define MB_GUIDE_STATES_H
#include "guide/guide.h"
#include "guide/vocab.h"

#define MB_STATES_MAX 16384

struct mb_guide_states_mask {
    uint32_t *bits; /* NULL: not made */
    uint64_t number;
    int32_t tokens;
    bool ends;
};
struct mb_guide_states {
    struct mb_mem *mem;
    struct mb_acceptor *m;
    int32_t n, cap;
    int64_t *at; /* [n + 1] words of configuration i: word[at[i] .. at[i + 1]) */
    int32_t cap_at;
    uint32_t *word;
    int32_t cap_words;
    int32_t *next; /* [n][256]; -1: refused, -2: not known */
    struct mb_guide_states_mask *mask;
    int32_t *slot; /* [2 * MB_STATES_MAX], -1: free */
    int64_t bytes, most;
    bool full;
    struct mb_config outline, tmp, *way; /* way: [MB_TREE_DEPTH + 1] configurations that have no number */
};
/* most: bytes at most, but for what one more mask needs. */
enum mb_status mb_guide_states_create(struct mb_mem *mem, struct mb_acceptor *m, int64_t most,
                                struct mb_guide_states **out);
void mb_guide_states_destroy(struct mb_guide_states *t); /* NULL ok */
void mb_guide_states_forget(struct mb_guide_states *t);
/* The mask behind a configuration; words: of a mask. *made: it was not there. */
enum mb_status mb_guide_states_mask(struct mb_guide_states *t, const struct mb_tree *tree, const struct mb_config *c,
                              int32_t words, bool *made, struct mb_guide_states_mask **out);
#endif
