/* Unicode classes by their names in patterns, where PCRE2's tables or names differ from Oniguruma's. Local,
 * pure. */
#ifndef MB_TEXT_UNICODE_CLASS_H
#define MB_TEXT_UNICODE_CLASS_H
#include <stdbool.h>
#include <stddef.h>

/* name[0 .. n): as in \p{name}. What newer versions of Unicode added to the class, and what they took from
 * it, as members of a PCRE2 class; "" where nothing. */
const char *mb_class_added(const char *name, size_t n);
const char *mb_class_gone(const char *name, size_t n);
/* Whether it is a script: PCRE2 takes that for the characters that are used in it, others for those that
 * belong to it alone. */
bool mb_class_is_script(const char *name, size_t n);
#endif
