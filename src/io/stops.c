#include "io/stops.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/utf8.h"

enum mb_status mb_stops_begin(struct mb_stops *s, const struct mb_tokenizer *t, const struct mb_request *r)
{
    MB_TRY(mb_decoder_create(t, &s->decoder));
    mb_decoder_mode(s->decoder, true, true);
    MB_TRY(mb_decoder_context(s->decoder, r->prompt, r->n_prompt));
    MB_TRY(mb_decoder_begun(s->decoder, &s->text));
    s->lead = s->text.len;
    return MB_OK;
}

static enum mb_status note_special(struct mb_stops *s, size_t from)
{
    if (s->n_special == s->cap_special) {
        size_t cap = s->cap_special ? 2 * s->cap_special : 8;
        void *p = realloc(s->special, cap * sizeof *s->special);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for a text");
        s->special = p;
        s->cap_special = cap;
    }
    s->special[s->n_special++] = (struct mb_span){from, s->text.len};
    return MB_OK;
}

/* Only what ends behind `old` can be new. */
static void search(struct mb_stops *s, const struct mb_request *r, size_t old)
{
    for (int32_t i = 0; i < r->n_stop; i++) {
        size_t len = r->stop[i].len, from = old + 1 > len ? old + 1 - len : 0;
        if (len == 0 || s->text.len < from + len)
            continue;
        const uint8_t *hit = memmem(s->text.data + from, s->text.len - from, r->stop[i].data, len);
        size_t at = hit != NULL ? (size_t)(hit - s->text.data) : 0;
        if (hit == NULL || (s->found && at >= s->begin))
            continue;
        s->found = true;
        s->begin = at;
        s->end = at + len;
    }
}

enum mb_status mb_stops_put(struct mb_stops *s, const struct mb_tokenizer *t, const struct mb_request *r,
                            int64_t index, int32_t id)
{
    size_t old = s->text.len;
    MB_TRY(mb_decoder_put(s->decoder, id, &s->text));
    if (mb_tokenizer_special(t, id) && s->text.len > old)
        MB_TRY(note_special(s, old));
    if (index < r->sampling.min_tokens)
        s->held = s->text.len;
    else
        search(s, r, old > s->held ? old : s->held);
    return MB_OK;
}

enum mb_status mb_stops_text(const struct mb_stops *s, const struct mb_request *r, struct mb_bytes *out)
{
    size_t at = 0, end = r->include_stop ? s->end : s->begin;
    struct mb_bytes kept = {0};
    enum mb_status st = MB_OK;
    uint32_t cp;
    bool cut;
    /* a character that the prompt began and the output did not end was U+FFFD in the prompt already */
    int first = s->lead > 0 && end > 0 ? mb_utf8_step(s->text.data, end, &cp, &cut) : 0;
    if (first < 0)
        at = (size_t)-first;
    for (size_t i = 0; i < s->n_special && !r->keep_special && st == MB_OK; i++) {
        size_t from = s->special[i].from < end ? s->special[i].from : end;
        if (from > at)
            st = mb_bytes_put(&kept, s->text.data + at, from - at);
        if (s->special[i].to > at)
            at = s->special[i].to;
    }
    if (st == MB_OK && at < end)
        st = mb_bytes_put(&kept, s->text.data + at, end - at);
    if (st == MB_OK)
        st = mb_utf8_repair((const char *)kept.data, kept.len, true, out);
    mb_bytes_fini(&kept);
    return st;
}

void mb_stops_fini(struct mb_stops *s)
{
    mb_decoder_destroy(s->decoder);
    mb_bytes_fini(&s->text);
    free(s->special);
    *s = (struct mb_stops){0};
}
