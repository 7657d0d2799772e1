/* What an encoding works on: a text cut into pieces, each either still text or already an added token; and
 * the scratch memory of one encoding. Local. */
#ifndef MB_TEXT_PIECE_H
#define MB_TEXT_PIECE_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"

struct mb_piece {
    size_t off, len; /* bytes of the text */
    int32_t id;      /* an added token's id, or -1: text */
    bool first;      /* begins where the whole input began (Metaspace "first" asks) */
};
struct mb_pieces {
    struct mb_bytes text; /* valid UTF-8 */
    struct mb_piece *v;
    size_t n, cap;
};
/* The text at an offset; there may be no text at all (NULL) where only added tokens are left. */
static inline const char *mb_text_at(const struct mb_bytes *text, size_t off)
{
    return text->data == NULL ? "" : (const char *)text->data + off;
}
/* Empty text pieces are not kept. */
enum mb_status mb_pieces_push(struct mb_pieces *p, struct mb_piece piece);
void mb_pieces_clear(struct mb_pieces *p);
void mb_pieces_fini(struct mb_pieces *p);

/* A symbol of a word that is being merged, and a possible merge. */
struct mb_symbol {
    int32_t id, prev, next;
    uint32_t len; /* bytes; 0: swallowed */
};
struct mb_merge_try {
    uint64_t key; /* rank << 32 | position: lowest rank first, leftmost on ties */
    int32_t left, right, made;
};
/* A word that has been encoded before in the same text: where it stands, and where its ids stand in the
 * output. */
struct mb_seen {
    size_t off, len; /* len 0: empty */
    int64_t ids, count;
};
struct mb_work {
    struct mb_pieces cur, next;
    struct mb_bytes tmp[2];
    struct pcre2_real_match_data_8 *match; /* created at the first search */
    struct pcre2_real_match_context_8 *limits;
    uint64_t spent; /* steps of searches in this text beyond the few that each place has */
    struct mb_symbol *sym;
    size_t nsym, sym_cap;
    struct mb_merge_try *heap;
    size_t nheap, heap_cap;
    struct mb_seen *seen; /* [seen_mask + 1], by the word's hash */
    size_t seen_mask;
    struct mb_best *best; /* unigram: best path to each byte */
    size_t best_cap;
};
void mb_work_fini(struct mb_work *w);
/* cur takes next's pieces and text; next is emptied. */
void mb_work_flip(struct mb_work *w);
/* cur takes next's pieces only: the text stays. */
void mb_work_flip_pieces(struct mb_work *w);
#endif
