/* The text of one generated row while it grows, in bytes as the tokens give them and with the text of special tokens, and the
 * search for stop strings in it, across tokens. Local. */
#ifndef MB_IO_STOPS_H
#define MB_IO_STOPS_H
#include <stdbool.h>
#include "base/mem.h"
#include "job/request.h"
#include "text/tokenizer.h"

/* Zero-initialise. */
struct mb_stops {
    struct mb_decoder *decoder;
    struct mb_bytes text;
    size_t lead;      /* bytes in front that belong to a character which the prompt began */
    size_t held;      /* what ends at or before this place does not count: min_tokens */
    struct mb_span {
        size_t from, to;
    } *special;       /* places of special tokens, ascending */
    size_t n_special, cap_special;
    bool found;
    size_t begin, end; /* the match: the earliest beginning; among equal ones the string given first */
};
/* r: of kind generate; it and the tokenizer are borrowed. */
enum mb_status mb_stops_begin(struct mb_stops *s, const struct mb_tokenizer *t, const struct mb_request *r);
/* The token at output place index. Sets found, begin and end. */
enum mb_status mb_stops_put(struct mb_stops *s, const struct mb_tokenizer *t, const struct mb_request *r, int64_t index, int32_t id);
/* Appends the text up to the match (with it under include_stop), without special tokens unless the request keeps them. */
enum mb_status mb_stops_text(const struct mb_stops *s, const struct mb_request *r, struct mb_bytes *out);
void mb_stops_fini(struct mb_stops *s);
#endif
