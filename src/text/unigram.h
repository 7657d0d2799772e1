/* The unigram model: the segmentation with the highest sum of scores (Kudo, 2018), by Viterbi over a trie.
 * Immutable once built. Local. */
#ifndef MB_TEXT_UNIGRAM_H
#define MB_TEXT_UNIGRAM_H
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "text/piece.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

struct mb_best {
    double score;
    size_t from; /* where the last piece of the best path begins; SIZE_MAX: not reached */
    int32_t id;
};
struct mb_unigram_edge {
    int32_t node, child; /* node < 0: empty slot */
    uint8_t byte;
};
struct mb_unigram {
    struct mb_unigram_edge *edge; /* open addressing by (node, byte) */
    uint64_t mask, edges;
    int32_t nodes;
    int32_t *token; /* [nodes]: id or -1 */
    size_t token_cap;
    double *score; /* [size of the vocabulary], by id */
    double unk_score;
    int32_t unk; /* or -1 */
    int32_t byte_id[256];
    bool byte_fallback;
    bool single; /* scores are added in f32, as sentencepiece does; else in f64, as HF does */
};
/* Longest piece: a longer one is MB_MODEL (it would make the search quadratic). */
#define MB_UNIGRAM_MAX 1024
enum mb_status mb_unigram_insert(struct mb_unigram *u, const char *s, size_t n, int32_t id, const char *what);
void mb_unigram_fini(struct mb_unigram *u);
/* Appends the ids of s[0 .. n). Errors: MB_REQUEST (something has no token and there is no unknown token). */
enum mb_status mb_unigram_word(const struct mb_unigram *u, const struct mb_vocab *v, const char *s, size_t n,
                               struct mb_work *w, struct mb_ids *out);
#endif
