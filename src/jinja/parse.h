/* What the two halves of Jinja's parser share: expressions (parse.c) and statements (stmt.c). */
#ifndef MB_JINJA_PARSE_H
#define MB_JINJA_PARSE_H
#include "jinja/own.h"

struct mb_jparser {
    struct mb_jtemplate *t;
    size_t at; /* the token at hand */
    int depth, loops;
};
const struct mb_jtoken *mb_jp_peek(const struct mb_jparser *p);
const struct mb_jtoken *mb_jp_next(struct mb_jparser *p); /* returns the one at hand and steps over it */
bool mb_jp_is_op(const struct mb_jparser *p, int op);
bool mb_jp_skip_op(struct mb_jparser *p, int op);
bool mb_jp_is_name(const struct mb_jparser *p, const char *name);
bool mb_jp_skip_name(struct mb_jparser *p, const char *name);
enum mb_status mb_jp_expect(struct mb_jparser *p, int op);
/* Notes why, with file, line and the token at hand. */
enum mb_status mb_jp_bad(const struct mb_jparser *p, const char *why);

enum mb_status mb_jp_node(struct mb_jparser *p, enum mb_jnode_kind kind, struct mb_jnode **out);
enum mb_status mb_jp_push(struct mb_jparser *p, struct mb_jlistn *l, struct mb_jnode *n);
enum mb_status mb_jp_push_kw(struct mb_jparser *p, struct mb_jnode *n, struct mb_jstr name,
                             struct mb_jnode *value);
enum mb_status mb_jp_intern(struct mb_jparser *p, struct mb_jstr s, int32_t *out);

enum mb_status mb_jp_expr(struct mb_jparser *p, struct mb_jnode **out);
enum mb_status mb_jp_expr_plain(struct mb_jparser *p, struct mb_jnode **out); /* without "a if b" */
/* a or a, b, ... */
enum mb_status mb_jp_tuple(struct mb_jparser *p, bool with_condition, struct mb_jnode **out);
enum mb_status mb_jp_args(struct mb_jparser *p, struct mb_jnode *n);
enum mb_status mb_jp_filter(struct mb_jparser *p, struct mb_jnode **node); /* behind the | */
#endif
