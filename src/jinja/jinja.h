/* The Jinja of chat templates: lexer, parser and evaluator of the language that published templates use, with
 * the settings of HF transformers (trim_blocks, lstrip_blocks, no autoescape, immutable sandbox, loop
 * controls). A template is compiled once and immutable; a rendering owns an arena that holds all its values.
 * Templates are untrusted: steps, depth, memory and output are limited. Behaviour as documented by Jinja 3.1.
 * Local. */
#ifndef MB_JINJA_H
#define MB_JINJA_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"

struct mb_jtemplate;
#define MB_JSOURCE_MAX (1u << 20) /* bytes of a template */

/* Compiles. what: name for messages. Errors: MB_MODEL with what, line and reason in err (cap bytes; nothing
 * is logged): syntax, an unknown tag, an unknown filter or test that no condition guards (as in Jinja, one in
 * a branch is an error when it is reached); MB_NO_MEMORY. */
enum mb_status mb_jinja_compile(const char *source, size_t n, const char *what, char *err, size_t cap,
                                struct mb_jtemplate **out);
/* NULL ok. */
void mb_jinja_destroy(struct mb_jtemplate *t);

/* What a template's tree says of the messages that it expects. */
struct mb_jinja_wants {
    bool walks_content; /* it has a for over the content of a message, or over a name that has it */
    bool asks_none;     /* it asks whether the content of a message is none */
};
struct mb_jinja_wants mb_jinja_wants(const struct mb_jtemplate *t);

/* vars: an object whose members become variables. On failure err (cap bytes) has the reason and the status is
 * MB_REQUEST (or MB_NO_MEMORY). */
enum mb_status mb_jinja_render(const struct mb_jtemplate *t, const json_t *vars, int64_t now, char *err,
                               size_t cap, struct mb_bytes *out);

/* Length of s[0 .. n) without the white space at its end, as str.rstrip has it; *begin: where the rest begins
 * without that at its front (str.lstrip), or NULL: it is kept. */
size_t mb_jinja_strip(const char *s, size_t n, const char **begin);
#endif
