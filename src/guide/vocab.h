/* The tokens of a vocabulary as a tree of their bytes, laid out in the order in which it is walked.
 * Immutable. Local. */
#ifndef MB_GUIDE_VOCAB_H
#define MB_GUIDE_VOCAB_H
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"

#define MB_TREE_DEPTH 512 /* bytes; longer tokens are in no tree */

struct mb_tree {
    int32_t nodes, tokens, deepest;
    uint8_t *byte;     /* [nodes] that leads to it */
    uint16_t *depth;   /* [nodes] bytes so far */
    int32_t *end;      /* [nodes] behind all below it */
    int32_t *token_at; /* [nodes + 1]: tokens that end here are token[token_at[i] .. token_at[i + 1]) */
    int32_t *token;    /* [tokens] ids */
};
/* Token i of n is the bytes text[at[i] .. at[i + 1]); without bytes it is in no tree. Errors: MB_NO_MEMORY.
 */
enum mb_status mb_tree_create(struct mb_mem *mem, const uint8_t *text, const int64_t *at, int32_t n,
                              struct mb_tree *out);
void mb_tree_fini(struct mb_tree *t);
#endif
