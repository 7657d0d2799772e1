/* Values of options: from text, checked against their row, and back to text. */
#ifndef MB_CONF_VALUE_H
#define MB_CONF_VALUE_H
#include "conf/table.h"

/* Where a value came from, for messages and precedence. */
enum mb_source { MB_FROM_DEFAULT, MB_FROM_DECK, MB_FROM_ENV, MB_FROM_LINE };

/* A configuration being filled. */
struct mb_filling {
    struct mb_conf *c;
    unsigned char *from; /* [mb_n_opts] enum mb_source of each option's present value */
};

/* Checks text against the row and stores it if the command has the option and nothing of higher rank set it
 * before. name: how the user wrote the option ("--threads", "deck.yaml:3: threads"), for messages. Errors:
 * MB_INPUT from a deck, else MB_USAGE, logged; MB_NO_MEMORY. */
enum mb_status mb_value_set(struct mb_filling *f, const struct mb_opt *o, const char *text,
                            enum mb_source from, const char *name);
/* The effective value as text that mb_value_set reads back to the same value. Returns buf, or the string
 * itself. */
#define MB_VALUE_CAP 40
const char *mb_value_text(const struct mb_conf *c, const struct mb_opt *o, char buf[MB_VALUE_CAP]);

/* Rules between options; what a command needs. check.c. */
enum mb_status mb_conf_check(struct mb_conf *c);
/* Reads a deck file into f. deck.c. */
enum mb_status mb_deck_read(struct mb_filling *f, const char *path);
#endif
