#include "io/stops.h"

#include <string.h>

void mb_stops_search(struct mb_stops *s, const struct mb_text *stops, int32_t n, const struct mb_bytes *text, bool *found,
                     size_t *at)
{
    size_t longest = 0;
    *found = false;
    for (int32_t i = 0; i < n; i++) {
        const uint8_t *hit = NULL;
        if (stops[i].len == 0 || text->len < s->searched)
            continue;
        hit = memmem(text->data + s->searched, text->len - s->searched, stops[i].data, stops[i].len);
        if (stops[i].len > longest)
            longest = stops[i].len;
        if (hit == NULL)
            continue;
        size_t place = (size_t)(hit - text->data);
        if (!*found || place < *at)
            *at = place;
        *found = true;
    }
    if (longest > 0 && text->len >= longest && text->len - longest + 1 > s->searched)
        s->searched = text->len - longest + 1;
}
