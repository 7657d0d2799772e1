/* Regular expressions: text -> a graph of nodes that read code points (Thompson's construction). The dialect
 * is the common part of ECMAScript's and Python's: literals, ., classes, \d \w \s (ASCII) and their
 * negations, escapes, groups (captures count for nothing), |, * + ? {m,n} (lazy forms match the same texts),
 * ^ and $ (ends of the text only). What is not regular or not supported is refused by name: look-around, back
 * references, word boundaries, \p, flags. Local. */
#ifndef MB_GUIDE_REGEX_H
#define MB_GUIDE_REGEX_H
#include "guide/chars.h"

#define MB_REGEX_MAX_NODES 30000
#define MB_REGEX_MAX_COUNT 10000 /* in {m,n} */

enum mb_nfa_kind {
    MB_NFA_READ,  /* a code point of set, then a */
    MB_NFA_SPLIT, /* a or b */
    MB_NFA_BEGIN, /* a, at the beginning of the text */
    MB_NFA_END,   /* a, at its end */
    MB_NFA_MATCH,
};
struct mb_nfa_node {
    enum mb_nfa_kind kind;
    int32_t a, b, set;
};
struct mb_nfa {
    struct mb_nfa_node *node;
    int32_t n, cap, start;
    struct mb_set *set; /* settled; equal ones once */
    int32_t n_sets, cap_sets;
    bool search; /* the text may go on before and behind the match */
};
/* search: the expression may match anywhere in the text (JSON Schema's pattern), else all of it. Errors:
 * MB_REQUEST with the reason in err[0..cap), not logged; MB_NO_MEMORY. */
enum mb_status mb_nfa_of_regex(const char *s, size_t n, bool search, struct mb_nfa *out, char *err,
                               size_t cap);
void mb_nfa_fini(struct mb_nfa *a);
#endif
