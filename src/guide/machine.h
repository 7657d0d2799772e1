/* The automaton behind a guided request, byte by byte. Its configuration is a list of words: of each value
 * that is open what is known of it and of the nodes of the schema that look at it, the innermost last; so the
 * reader of JSON is a stack, and all that a schema says (also oneOf, not, if) is followed at once, without
 * going back. A node's verdict is false, open or true; a byte that makes the schema as a whole false is
 * refused. What is written is JSON without white space but for one space that may follow a comma or a colon;
 * numbers that a schema limits have no exponent. Local. */
#ifndef MB_GUIDE_MACHINE_H
#define MB_GUIDE_MACHINE_H
#include "guide/schema.h"

#define MB_CONFIG_MAX 16384 /* words */
#define MB_CONFIG_DEPTH 64  /* values in each other */

struct mb_config {
    uint32_t *w;
    int32_t n, cap;
};
/* Borrows the schema, or the automaton of a text (dfa); has scratch memory, so one thread at a time. */
struct mb_acceptor {
    const struct mb_schema *s;
    const struct mb_dfa *dfa;
    uint8_t *val;    /* [nodes] verdicts of the value looked at */
    uint32_t *stamp; /* [nodes] */
    uint32_t mark;
    uint32_t list[MB_SCHEMA_MAX_UNITS * 8]; /* scratch */
    bool walking; /* tokens are being tried: names are not kept, and one that is there already is refused */
    bool failed;  /* no memory: what was said since counts for nothing */
};
/* Errors: MB_NO_MEMORY. */
enum mb_status mb_acceptor_create(const struct mb_schema *s, const struct mb_dfa *dfa,
                                  struct mb_acceptor **out);
void mb_acceptor_destroy(struct mb_acceptor *m); /* NULL ok */
/* The configuration before the first byte; false: nothing can be written (or no memory). */
bool mb_acceptor_start(struct mb_acceptor *m, struct mb_config *c);
/* c after one byte more; false: the byte is refused, and c is worth nothing. */
bool mb_acceptor_step(struct mb_acceptor *m, struct mb_config *c, uint8_t byte);
/* What of a configuration matters to tokens of up to `deepest` bytes; others that are the same in this lead
 * to the same masks. false: no memory. */
bool mb_config_outline(const struct mb_acceptor *m, const struct mb_config *c, int32_t deepest,
                       struct mb_config *out);
/* Whether the text may end here. Leaves c alone. */
bool mb_acceptor_ends(struct mb_acceptor *m, const struct mb_config *c);

bool mb_config_copy(const struct mb_config *from, struct mb_config *to); /* false: no memory */
void mb_config_fini(struct mb_config *c);
#endif
