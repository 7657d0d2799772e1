#include "fake_tokenizer.h"

#include <stdlib.h>

static enum mb_status put(struct mb_ids *ids, int32_t id)
{
    if (ids->n == ids->cap) {
        ids->cap = ids->cap ? 2 * ids->cap : 8;
        int32_t *v = realloc(ids->v, (size_t)ids->cap * sizeof *v);
        if (v == NULL)
            return MB_NO_MEMORY;
        ids->v = v;
    }
    ids->v[ids->n++] = id;
    return MB_OK;
}

enum mb_status mb_tokenizer_encode(const struct mb_tokenizer *t, const char *text, size_t n, bool special,
                                   struct mb_ids *out)
{
    if (special && t->front)
        MB_TRY(put(out, FAKE_BOS));
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == 1)
            return MB_REQUEST;
        if (c == 'x' && i + 1 < n && text[i + 1] == 'y') {
            MB_TRY(put(out, FAKE_XY));
            i++;
        } else {
            MB_TRY(put(out, c == '~' ? FAKE_BEYOND : c));
        }
    }
    return MB_OK;
}

bool mb_tokenizer_adds_front(const struct mb_tokenizer *t, int32_t id)
{
    return t->front && id == FAKE_BOS;
}

enum mb_status mb_tokenizer_decode(const struct mb_tokenizer *t, const int32_t *ids, int64_t n, bool skip_special,
                                   struct mb_bytes *out)
{
    (void)t;
    for (int64_t i = 0; i < n; i++) {
        char c = (char)ids[i];
        if (ids[i] == FAKE_BOS) {
            if (!skip_special)
                MB_TRY(mb_bytes_put(out, "<s>", 3));
        } else if (ids[i] == FAKE_XY) {
            MB_TRY(mb_bytes_put(out, "xy", 2));
        } else if (ids[i] < 128) {
            MB_TRY(mb_bytes_put(out, &c, 1));
        } else {
            MB_TRY(mb_bytes_put(out, "\xef\xbf\xbd", 3));
        }
    }
    return MB_OK;
}

/* In the mode that is used here: each id gives its bytes, special tokens their text. */
struct mb_decoder {
    int unused;
};

enum mb_status mb_decoder_create(const struct mb_tokenizer *t, struct mb_decoder **out)
{
    (void)t;
    *out = calloc(1, sizeof **out);
    return *out != NULL ? MB_OK : MB_NO_MEMORY;
}

void mb_decoder_destroy(struct mb_decoder *d)
{
    free(d);
}

void mb_decoder_mode(struct mb_decoder *d, bool keep_special, bool bytes)
{
    (void)d, (void)keep_special, (void)bytes;
}

enum mb_status mb_decoder_context(struct mb_decoder *d, const int32_t *ids, int64_t n)
{
    (void)d, (void)ids, (void)n;
    return MB_OK;
}

enum mb_status mb_decoder_put(struct mb_decoder *d, int32_t id, struct mb_bytes *out)
{
    char c = (char)id;
    (void)d;
    if (id == FAKE_BOS)
        return mb_bytes_put(out, "<s>", 3);
    return id == FAKE_XY ? mb_bytes_put(out, "xy", 2) : mb_bytes_put(out, &c, 1);
}

enum mb_status mb_decoder_finish(struct mb_decoder *d, struct mb_bytes *out)
{
    (void)d, (void)out;
    return MB_OK;
}
