/* Search patterns of tokenizer.json: a literal string or a regular expression in Oniguruma's Ruby syntax,
 * which is rewritten for PCRE2 where the two differ in meaning. Immutable once compiled. Local. */
#ifndef MB_TEXT_PATTERN_H
#define MB_TEXT_PATTERN_H
#include <stdbool.h>
#include <stddef.h>
#include "base/status.h"
#include "text/piece.h"

struct mb_pattern {
    struct pcre2_real_code_8 *re; /* NULL: a literal */
    char *lit;
    size_t nlit;
};
/* s[0 .. n): the expression (regex) or the literal, which may not be empty. what: "file: key" for messages.
 * Errors: MB_MODEL (does not compile, or a construct whose meaning differs between the two libraries). */
enum mb_status mb_pattern_init(struct mb_pattern *p, const char *s, size_t n, bool regex, const char *what);
void mb_pattern_fini(struct mb_pattern *p);

/* Successive matches in s[0 .. n), as Oniguruma's iterator gives them: no empty match right behind a match.
 */
struct mb_search {
    const struct mb_pattern *p;
    const char *s;
    size_t n, at, last; /* where to go on; end of the last match (SIZE_MAX: none) */
};
/* *found false: no more. Errors: MB_REQUEST if the search exceeds its limits (steps, depth, memory),
 * MB_NO_MEMORY. */
enum mb_status mb_search_next(struct mb_search *f, struct mb_work *w, bool *found, size_t *from, size_t *to);
#endif
