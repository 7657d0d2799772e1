#include "text/unicode_class.h"

#include <stdio.h>
#include <string.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include "text/unicode_new.h"

static const char *find(const char *const (*of)[2], size_t count, const char *name, size_t n)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(of[i][0]) == n && memcmp(of[i][0], name, n) == 0)
            return of[i][1];
    return "";
}

const char *mb_class_added(const char *name, size_t n)
{
    return find(unicode_new, sizeof unicode_new / sizeof *unicode_new, name, n);
}

const char *mb_class_gone(const char *name, size_t n)
{
    return find(unicode_gone, sizeof unicode_gone / sizeof *unicode_gone, name, n);
}

bool mb_class_is_script(const char *name, size_t n)
{
    char text[80];
    int err;
    PCRE2_SIZE at;
    if (n < 3 || n > 60) /* categories have one or two letters */
        return false;
    int len = snprintf(text, sizeof text, "\\p{sc:%.*s}", (int)n, name);
    pcre2_code_8 *re = pcre2_compile_8((PCRE2_SPTR8)text, (PCRE2_SIZE)len, PCRE2_UTF, &err, &at, NULL);
    pcre2_code_free_8(re);
    return re != NULL;
}
