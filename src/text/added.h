/* Added tokens: contents that are cut out of a text before anything else happens to it. A trie over the
 * contents finds the longest one at each place, leftmost first. Built once, then immutable. Local. */
#ifndef MB_TEXT_ADDED_H
#define MB_TEXT_ADDED_H
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "text/piece.h"

struct mb_added_token {
    int32_t id;
    bool single_word, lstrip, rstrip;
};
struct mb_added_node {
    int32_t child, sibling; /* node numbers, 0: none */
    int32_t token;          /* index into token, or -1 */
    uint8_t byte;
};
struct mb_added {
    struct mb_added_node *node; /* [nodes], 0 is the root */
    size_t nodes, node_cap;
    struct mb_added_token *token;
    size_t tokens, token_cap;
    int32_t root_child[256]; /* the root's children by byte */
};
/* Content: 1 to MB_ADDED_MAX bytes (a longer one is MB_MODEL: it would make the search quadratic). Of two
 * equal contents the first stays. */
#define MB_ADDED_MAX 1024
enum mb_status mb_added_insert(struct mb_added *a, const char *s, size_t n, struct mb_added_token token,
                               const char *what);
/* The longest token that begins at s[i], i < n: its index in token and its end, or -1. */
int32_t mb_added_longest(const struct mb_added *a, const char *s, size_t i, size_t n, size_t *end);
void mb_added_fini(struct mb_added *a);
/* Cuts the text piece p of w->cur; its parts are appended to w->next (the text is not touched). */
enum mb_status mb_added_cut(const struct mb_added *a, const struct mb_bytes *text, struct mb_piece p,
                            struct mb_pieces *out);
#endif
