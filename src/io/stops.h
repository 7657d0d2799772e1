/* Text of one generated row while it grows, and the search for stop strings in it, across tokens. Local. */
#ifndef MB_IO_STOPS_H
#define MB_IO_STOPS_H
#include <stdbool.h>
#include "base/mem.h"
#include "job/request.h"

/* Zero-initialise. Looks only at what may be new: bytes before `searched` hold no beginning of a stop string that could
 * still be completed. *at: where the text ends (the earliest place at which a stop string begins) if *found. */
struct mb_stops {
    size_t searched;
};
void mb_stops_search(struct mb_stops *s, const struct mb_text *stops, int32_t n, const struct mb_bytes *text, bool *found,
                     size_t *at);
#endif
