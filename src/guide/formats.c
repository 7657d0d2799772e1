/* The formats that are checked, as regular expressions of the whole string. A few let less through than their
 * definitions do: what is written is always right, and what is left out is said here. */
#include <stddef.h>
#include <string.h>
#include "guide/compile.h"

#define YEAR "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define LEAP "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
#define DATE                                                                                                 \
    "(?:" YEAR "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-" \
               "(?:0[1-9]|1[0-9]|2[0-8]))"                                                                   \
    "|" LEAP "-02-29)"
/* a leap second only at the end of the day in UTC */
#define TIME                                                                                                 \
    "(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][" \
    "0-9])"                                                                                                  \
    "|23:59:60(?:\\.[0-9]{1,9})?[Zz])"
#define N "[0-9]{1,9}"
#define CLOCK "T(?:" N "H(?:" N "M(?:" N "S)?)?|" N "M(?:" N "S)?|" N "S)"
#define DURATION                                                                                             \
    "P(?:" N "W|(?:" N "D|" N "M(?:" N "D)?|" N "Y(?:" N "M(?:" N "D)?)?)(?:" CLOCK ")?|" CLOCK ")"
/* no "--", so no punycode; no longer than a label, 63 */
#define HOST "[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*(?:\\.[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*)*"
#define BYTE "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define IPV4 BYTE "(?:\\." BYTE "){3}"
#define H "[0-9A-Fa-f]{1,4}"
#define IPV6                                                                                                 \
    "(?:(?:" H ":){7}" H "|(?:" H ":){1,7}:|(?:" H ":){1,6}:" H "|(?:" H ":){1,5}(?::" H "){1,2}|(?:" H      \
    ":){1,4}(?::" H "){1,3}|(?:" H ":){1,3}(?::" H "){1,4}|(?:" H ":){1,2}(?::" H "){1,5}|" H ":(?::" H      \
    "){1,6}|:(?::" H "){1,7}|::"                                                                             \
    "|(?:" H ":){6}" IPV4 "|::(?:[Ff]{4}:)?" IPV4 ")"
#define ATOM "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
/* no quoted names, no addresses in brackets */
#define EMAIL ATOM "(?:\\." ATOM ")*@" HOST
#define X "[0-9A-Fa-f]"
#define UUID X "{8}-" X "{4}-" X "{4}-" X "{4}-" X "{12}"
#define PCHAR "(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%" X "{2})"
#define NAME "(?:[A-Za-z0-9._~!$&'()*+,;=-]|%" X "{2})"
#define USER "(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%" X "{2})"
#define URI                                                                                                  \
    "[A-Za-z][A-Za-z0-9+.-]*:(?://(?:" USER "*@)?(?:" NAME "*|\\[" IPV6 "\\])(?::[0-9]{0,5})?(?:/" PCHAR     \
    "*)*|/(?:" PCHAR "+(?:/" PCHAR "*)*)?|" PCHAR "+(?:/" PCHAR "*)*)?(?:\\?(?:" PCHAR                       \
    "|[/?])*)?(?:#(?:" PCHAR "|[/?])*)?"

static const struct {
    const char *name, *regex; /* NULL: says nothing of the text */
    const char *longest;      /* that this matches, too; NULL: of any length */
} formats[] = {
    {"date", DATE, NULL},
    {"time", TIME, NULL},
    {"date-time", DATE "[Tt]" TIME, NULL},
    {"duration", DURATION, NULL},
    {"email", EMAIL, NULL},
    {"hostname", HOST, "[^]{1,63}"},
    {"ipv4", IPV4, NULL},
    {"ipv6", IPV6, NULL},
    {"uuid", UUID, NULL},
    {"uri", URI, NULL},
    {"json-pointer", "(?:/(?:[^/~]|~[01])*)*", NULL},
    {"int32", NULL, NULL},
    {"int64", NULL, NULL},
    {"float", NULL, NULL},
    {"double", NULL, NULL},
    {"byte", NULL, NULL},
    {"binary", NULL, NULL},
    {"password", NULL, NULL},
    {"path", NULL, NULL},
    {"file-path", NULL, NULL},
    {"directory-path", NULL, NULL},
};

const char *mb_format_regex(const char *name, bool *checked, const char **longest)
{
    *checked = true;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(name, formats[i].name) != 0)
            continue;
        *checked = formats[i].regex != NULL;
        *longest = formats[i].longest;
        return formats[i].regex;
    }
    return NULL;
}
