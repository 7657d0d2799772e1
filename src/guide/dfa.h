/* Deterministic automata over code points, made whole before anything is drawn, so that what one may cost is
 * known then. States from which no end can be reached do not exist. Immutable. Local. */
#ifndef MB_GUIDE_DFA_H
#define MB_GUIDE_DFA_H
#include "guide/chars.h"

#define MB_DFA_MAX_STATES 40000
#define MB_DFA_MAX_CELLS 1000000 /* states x classes */
#define MB_DFA_ENDLESS INT32_MAX

struct mb_dfa {
    int32_t states, classes; /* state 0 is the start; states 0: it matches nothing */
    uint32_t *from;          /* [ranges] where ranges of code points begin; from[0] is 0 */
    int32_t *class_of;       /* [ranges] */
    int32_t ranges;
    int32_t ascii[128];  /* class of code points below 128 */
    int32_t *next;       /* [states][classes], -1: no match any more */
    uint8_t *accepts;    /* [states] */
    int32_t *near, *far; /* [states] code points to the nearest end and to the farthest (MB_DFA_ENDLESS) */
};

/* Errors of all: MB_REQUEST with the reason in err[0..cap), not logged; MB_NO_MEMORY. The caller destroys
 * *out. */
enum mb_status mb_dfa_of_regex(const char *s, size_t n, bool search, struct mb_dfa **out, char *err,
                               size_t cap);
struct mb_dfa_word {
    const char *s;
    size_t n;
};
/* Exactly these words of valid UTF-8, in any order; sorts v. */
enum mb_status mb_dfa_of_words(struct mb_dfa_word *v, int32_t n, struct mb_dfa **out, char *err, size_t cap);
/* What both match. */
enum mb_status mb_dfa_both(const struct mb_dfa *a, const struct mb_dfa *b, struct mb_dfa **out, char *err,
                           size_t cap);
void mb_dfa_destroy(struct mb_dfa *d); /* NULL ok */

static inline int32_t mb_dfa_class(const struct mb_dfa *d, uint32_t cp)
{
    if (cp < 128)
        return d->ascii[cp];
    int32_t lo = 0, hi = d->ranges;
    while (hi - lo > 1) {
        int32_t mid = (lo + hi) / 2;
        if (d->from[mid] <= cp)
            lo = mid;
        else
            hi = mid;
    }
    return d->class_of[lo];
}
static inline int32_t mb_dfa_step(const struct mb_dfa *d, int32_t state, uint32_t cp)
{
    return d->next[(int64_t)state * d->classes + mb_dfa_class(d, cp)];
}
/* Whether a code point of [lo, hi] leads to a state with an end that is at most `most` and can be at least
 * `least` away. */
bool mb_dfa_reaches(const struct mb_dfa *d, int32_t state, uint32_t lo, uint32_t hi, int64_t least,
                    int64_t most);

/* For the makers: next, accepts, from, class_of and states are set; cuts what leads nowhere, sets the rest.
 */
enum mb_status mb_dfa_settle(struct mb_dfa *d);
void mb_dfa_ascii(struct mb_dfa *d); /* sets ascii */
/* A table of `states` x `classes` cells of -1, grown as states come. */
struct mb_dfa *mb_dfa_new(int32_t ranges, int32_t classes);
enum mb_status mb_dfa_add_state(struct mb_dfa *d, int32_t *cap, char *err, size_t err_cap);
#endif
