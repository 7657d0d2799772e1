#include "text/vocab.h"

#include <string.h>
#include "base/hash.h"
#include "base/log.h"
#include "base/grow.h"

static enum mb_status rehash(struct mb_vocab *v, uint64_t slots)
{
    int32_t *slot = malloc(slots * sizeof *slot);
    if (slot == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a vocabulary of %lld tokens", (long long)v->count);
    memset(slot, 0xff, slots * sizeof *slot);
    for (int32_t id = 0; id < v->size; id++) {
        if (!v->token[id].present)
            continue;
        uint64_t at = mb_hash64(v->text.data + v->token[id].off, v->token[id].len) & (slots - 1);
        while (slot[at] >= 0)
            at = (at + 1) & (slots - 1);
        slot[at] = id;
    }
    free(v->slot);
    v->slot = slot;
    v->mask = slots - 1;
    return MB_OK;
}

int32_t mb_vocab_find(const struct mb_vocab *v, const char *s, size_t n)
{
    if (v->slot == NULL)
        return -1;
    for (uint64_t at = mb_hash64(s, n) & v->mask; v->slot[at] >= 0; at = (at + 1) & v->mask) {
        const struct mb_vocab_token *t = &v->token[v->slot[at]];
        if (t->len == n && (n == 0 || memcmp(v->text.data + t->off, s, n) == 0))
            return v->slot[at];
    }
    return -1;
}

const char *mb_vocab_text(const struct mb_vocab *v, int32_t id, size_t *n)
{
    if (id < 0 || id >= v->size || !v->token[id].present)
        return NULL;
    *n = v->token[id].len;
    return (const char *)v->text.data + v->token[id].off;
}

const char *mb_vocab_shown(const struct mb_vocab *v, int32_t id, size_t *n)
{
    const char *s = mb_vocab_text(v, id, n);
    if (s == NULL || !v->token[id].differs)
        return s;
    *n = v->token[id].shown_len;
    return (const char *)v->text.data + v->token[id].shown_off;
}

enum mb_status mb_vocab_show(struct mb_vocab *v, int32_t id, const char *s, size_t n)
{
    struct mb_vocab_token *t = &v->token[id];
    t->shown_off = v->text.len;
    t->shown_len = (uint32_t)n;
    t->differs = true;
    return mb_bytes_put(&v->text, s, n);
}

static enum mb_status widen(struct mb_vocab *v, int32_t size)
{
    if (size <= v->size)
        return MB_OK;
    MB_TRY(mb_grow_to(&v->token, &v->cap, (size_t)size, sizeof *v->token));
    memset(v->token + v->size, 0, (size_t)(size - v->size) * sizeof *v->token);
    v->size = size;
    return MB_OK;
}

enum mb_status mb_vocab_add(struct mb_vocab *v, int64_t id, const char *s, size_t n, int64_t max,
                            const char *what)
{
    if (id < 0 || id >= max || id >= INT32_MAX)
        return mb_error(MB_MODEL, "%s: token \"%.*s\": id %lld lies outside 0 to %lld", what,
                        (int)(n < 40 ? n : 40), s, (long long)id, (long long)max - 1);
    if (n > UINT32_MAX / 2)
        return mb_error(MB_MODEL, "%s: token %lld: %zu bytes are too long", what, (long long)id, n);
    if (mb_vocab_find(v, s, n) >= 0)
        return mb_error(MB_MODEL, "%s: token \"%.*s\" occurs twice", what, (int)(n < 40 ? n : 40), s);
    MB_TRY(widen(v, (int32_t)id + 1));
    struct mb_vocab_token *t = &v->token[id];
    if (t->present)
        return mb_error(MB_MODEL, "%s: id %lld is given to \"%.*s\" and to another token", what,
                        (long long)id, (int)(n < 40 ? n : 40), s);
    uint64_t off = v->text.len;
    MB_TRY(mb_bytes_reserve(&v->text, n + 1)); /* so that even an empty text has an address */

    MB_TRY(mb_bytes_put(&v->text, s, n));
    *t = (struct mb_vocab_token){.off = off, .len = (uint32_t)n, .present = true};
    v->count++;
    if (v->slot == NULL || (uint64_t)v->count * 2 > v->mask)
        return rehash(v, v->slot == NULL ? 64 : (v->mask + 1) * 2);
    uint64_t at = mb_hash64(s, n) & v->mask;
    while (v->slot[at] >= 0)
        at = (at + 1) & v->mask;
    v->slot[at] = (int32_t)id;
    return MB_OK;
}

void mb_vocab_fini(struct mb_vocab *v)
{
    mb_bytes_fini(&v->text);
    free(v->token);
    free(v->slot);
    *v = (struct mb_vocab){0};
}
