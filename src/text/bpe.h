/* Byte pair encoding: the symbols of a word are merged pair by pair, lowest rank first, leftmost on ties
 * (Sennrich et al., 2016). O(n log n) in the length of the word. Immutable once built. Local. */
#ifndef MB_TEXT_BPE_H
#define MB_TEXT_BPE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "text/piece.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

struct mb_bpe_merge {
    int32_t left, right; /* left < 0: empty slot */
    int32_t made;
    uint32_t rank;
};
#define MB_BPE_CHARS 0x800
struct mb_bpe {
    struct mb_bpe_merge *slot; /* open addressing by (left, right) */
    uint64_t mask, count;
    int32_t byte_id[256];          /* of <0x00> ... <0xFF>, or -1 */
    int32_t char_id[MB_BPE_CHARS]; /* of the characters below U+0800, or -1 */
    int32_t unk;                   /* or -1: what has no token is dropped */
    bool byte_fallback, fuse_unk, ignore_merges;
    const struct mb_bytes *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix; NULL: none */
};
/* Adds (or replaces) a merge. */
enum mb_status mb_bpe_add(struct mb_bpe *b, int32_t left, int32_t right, int32_t made, uint32_t rank);
/* Fills the tables of single characters and bytes from the vocabulary. */
void mb_bpe_index(struct mb_bpe *b, const struct mb_vocab *v);
void mb_bpe_fini(struct mb_bpe *b);
const struct mb_bpe_merge *mb_bpe_find(const struct mb_bpe *b, int32_t left, int32_t right);

/* Appends the ids of the word s[0 .. n), n >= 1. Errors: MB_REQUEST (more than 2^30 bytes), MB_NO_MEMORY. */
enum mb_status mb_bpe_word(const struct mb_bpe *b, const struct mb_vocab *v, const char *s, size_t n,
                           struct mb_work *w, struct mb_ids *out);

/* The symbols of a word in w->sym, and their merging; afterwards the live ones are linked from 0 by next (-1:
 * end). */
enum mb_status mb_bpe_symbol(struct mb_work *w, int32_t id, uint32_t len);
enum mb_status mb_bpe_merge_all(const struct mb_bpe *b, struct mb_work *w);
/* Ids of the bytes of s by the vocabulary's <0xXX>, or none (-1 in the table): whether all exist. */
bool mb_bpe_has_bytes(const int32_t byte_id[256], const char *s, size_t n);
void mb_bpe_byte_ids(const struct mb_vocab *v, int32_t byte_id[256]);

enum mb_status mb_ids_put(struct mb_ids *ids, int32_t id);
#endif
