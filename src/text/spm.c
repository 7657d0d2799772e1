#include "text/spm.h"

#include <stdlib.h>
#include <string.h>
#include "text/tok.h"
#include "base/utf8.h"

void mb_spm_fini(struct mb_spm *s)
{
    mb_charsmap_fini(&s->map);
    mb_added_fini(&s->user);
    mb_vocab_fini(&s->pieces);
    free(s->type);
    mb_bytes_fini(&s->unk_text);
}

/* ------------------------------------------------------------------ normaliser */

/* What the text at s begins with, and what it becomes: a user-defined symbol stays, else the longest key of
 * the map, else a character. Returns the bytes consumed. */
static size_t next_part(const struct mb_spm *m, const char *s, size_t n, const char **to, size_t *to_len)
{
    size_t end = 0;
    uint32_t cp;
    *to = s;
    if (mb_added_longest(&m->user, s, 0, n, &end) >= 0)
        return *to_len = end;
    if (m->has_map) {
        end = mb_charsmap_longest(&m->map, s, n, to, to_len);
        if (end > 0)
            return end;
    }
    *to = s;
    return *to_len = (size_t)mb_utf8_next(s, &cp);
}

static enum mb_status put_space(const struct mb_spm *m, struct mb_bytes *out)
{
    return m->escape_spaces ? mb_bytes_put(out, MB_SPM_SPACE, 3) : mb_bytes_put(out, " ", 1);
}

static enum mb_status put_part(const struct mb_spm *m, const char *s, size_t n, struct mb_bytes *out)
{
    for (size_t i = 0; i < n; i++)
        MB_TRY(s[i] == ' ' ? put_space(m, out) : mb_bytes_put(out, s + i, 1));
    return MB_OK;
}

static void strip_end(const struct mb_spm *m, size_t from, struct mb_bytes *out)
{
    const char *space = m->escape_spaces ? MB_SPM_SPACE : " ";
    size_t k = strlen(space);
    while (out->len - from >= k && memcmp(out->data + out->len - k, space, k) == 0)
        out->len -= k;
}

enum mb_status mb_spm_normalize(const struct mb_spm *m, const char *s, size_t n, bool first, struct mb_bytes *out)
{
    size_t at = 0, k, start = out->len;
    const char *to = s;
    while (m->strip_spaces && at < n) {
        size_t used = next_part(m, s + at, n - at, &to, &k);
        if (k != 1 || *to != ' ')
            break;
        at += used;
    }
    if (at == n)
        return MB_OK;
    if (m->dummy_prefix && !m->suffix_space && (first || !m->first_only))
        MB_TRY(put_space(m, out));
    for (bool after_space = m->strip_spaces; at < n;) {
        at += next_part(m, s + at, n - at, &to, &k);
        for (; after_space && k > 0 && *to == ' '; k--)
            to++;
        MB_TRY(put_part(m, to, k, out));
        if (k > 0)
            after_space = m->strip_spaces && to[k - 1] == ' ';
    }
    if (m->strip_spaces)
        strip_end(m, start, out);
    return m->dummy_prefix && m->suffix_space ? put_space(m, out) : MB_OK;
}

/* ------------------------------------------------------------------ merging */

/* Symbols that never merge. */
#define FROZEN INT32_MAX

static enum mb_status symbols_of(const struct mb_spm *m, const char *s, size_t n, struct mb_work *w)
{
    w->nsym = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        uint32_t cp;
        int32_t id = FROZEN;
        if (mb_added_longest(&m->user, s, i, n, &end) < 0) {
            end = i + (size_t)mb_utf8_next(s + i, &cp);
            id = mb_vocab_find(&m->pieces, s + i, end - i);
            id = id < 0 ? FROZEN : id;
        }
        MB_TRY(mb_bpe_symbol(w, id, (uint32_t)(end - i)));
        i = end;
    }
    return MB_OK;
}

/* One unknown piece: its bytes, or an unknown token for a whole run of such. */
static enum mb_status put_unknown(const struct mb_tokenizer *t, const char *s, size_t n, bool after_unknown,
                                  struct mb_ids *out)
{
    if (t->spm.byte_fallback) {
        for (size_t i = 0; i < n; i++)
            MB_TRY(mb_ids_put(out, t->bpe.byte_id[(uint8_t)s[i]]));
        return MB_OK;
    }
    return after_unknown ? MB_OK : mb_ids_put(out, t->spm.unk);
}

enum mb_status mb_spm_word(const struct mb_tokenizer *t, const char *s, size_t n, struct mb_work *w,
                           struct mb_ids *out)
{
    if (n > 1u << 30)
        return MB_REQUEST;
    MB_TRY(symbols_of(&t->spm, s, n, w));
    MB_TRY(mb_bpe_merge_all(&t->bpe, w));
    size_t at = 0;
    bool after_unknown = false;
    for (int32_t i = n > 0 ? 0 : -1; i >= 0; i = w->sym[i].next) {
        size_t len = w->sym[i].len;
        int32_t id = mb_vocab_find(&t->vocab, s + at, len);
        bool unknown = id < 0 || id == t->spm.unk;
        MB_TRY(unknown ? put_unknown(t, s + at, len, after_unknown, out) : mb_ids_put(out, id));
        after_unknown = unknown;
        at += len;
    }
    return MB_OK;
}
