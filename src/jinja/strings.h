/* What string methods and filters share. */
#ifndef MB_JINJA_STRINGS_H
#define MB_JINJA_STRINGS_H
#include "jinja/own.h"

enum mb_jcase {
    MB_JLOWER,
    MB_JUPPER,
    MB_JTITLE,
};
/* Without white space, or without characters of a set, at its ends. */
struct mb_jstr mb_jstrip(struct mb_jstr s, bool left, bool right);
bool mb_jstrip_of(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr chars, bool left, bool right,
                  struct mb_jstr *out);
bool mb_jrecase(struct mb_jctx *c, struct mb_jstr s, enum mb_jcase first, enum mb_jcase rest, bool words,
                struct mb_jval *out);
/* split.c. s.split(sep, maxsplit), right: s.rsplit; s.splitlines(keepends): lists of strings. */
bool mb_jsplit(struct mb_jctx *c, struct mb_jstr s, bool right, const struct mb_jcall *a,
               struct mb_jval *out);
bool mb_jsplitlines(struct mb_jctx *c, struct mb_jstr s, const struct mb_jcall *a, struct mb_jval *out);
/* s.partition(sep), right: s.rpartition: the three parts. */
bool mb_jpartition(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr sep, bool right, struct mb_jval *out);
/* The last place of sub, which is not empty, in s, or NULL. */
bool mb_jfind_last(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr sub, const char **out);
/* str.isspace: White_Space and the separators U+001C to U+001F. */
bool mb_jis_space(uint32_t cp);
bool mb_jjoin(struct mb_jctx *c, struct mb_jstr sep, const struct mb_jlist *l, bool strict,
              struct mb_jval *out);
/* max -1: all */
bool mb_jreplace(struct mb_jctx *c, struct mb_jstr s, struct mb_jstr old, struct mb_jstr new, int64_t max,
                 struct mb_jval *out);
bool mb_jall_case(struct mb_jstr s, bool upper);
/* Python's s % values and s.format(...) (format.c). */
bool mb_jpercent(struct mb_jctx *c, struct mb_jstr s, struct mb_jval values, struct mb_jval *out);
bool mb_jformat(struct mb_jctx *c, struct mb_jstr s, const struct mb_jcall *a, struct mb_jval *out);
bool mb_jis_string_method(struct mb_jstr name);
#endif
