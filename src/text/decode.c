#include "text/decode.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "text/tok.h"
#include "base/utf8.h"

void mb_dec_fini(struct mb_dec *s)
{
    mb_pattern_fini(&s->pattern);
    mb_bytes_fini(&s->text);
}

struct mb_decoder {
    const struct mb_tokenizer *t;
    bool skip_special;
    bool bytes; /* see mb_decoder_mode */
    struct mb_dec_state state[MB_DEC_MAX];
    struct mb_work work; /* for searches */
    /* What decoding the context would still have given if it had ended there: output is dropped as long as it
     * repeats that. */
    struct mb_bytes drop;
    size_t dropped;
    struct mb_bytes *out; /* NULL: output is not wanted */
    int32_t id;           /* the token that flows through step 0 */
};

static enum mb_status emit(struct mb_decoder *d, int step, const char *s, size_t n);

/* Bytes that the Replace steps of a decoder may make of one token. */
#define DECODED_MOST mb_replace_most(16384)

/* The last bytes of a context, for mb_decoder_begun. */
static enum mb_status note_tail(struct mb_decoder *d, const char *s, size_t n)
{
    size_t most = 4, from = n > most ? n - most : 0;
    MB_TRY(mb_bytes_put(&d->drop, s + from, n - from));
    if (d->drop.len > most) {
        memmove(d->drop.data, d->drop.data + d->drop.len - most, most);
        d->drop.len = most;
    }
    return MB_OK;
}

/* The end of the chain: drops what the context had already said, character by character. */
static enum mb_status deliver(struct mb_decoder *d, const char *s, size_t n)
{
    if (d->bytes && d->out == NULL)
        return note_tail(d, s, n);
    while (!d->bytes && d->dropped < d->drop.len && n > 0) {
        uint32_t cp;
        size_t k = (size_t)mb_utf8_next(s, &cp);
        if (k > d->drop.len - d->dropped || memcmp(s, d->drop.data + d->dropped, k) != 0) {
            d->dropped = d->drop.len;
            break;
        }
        d->dropped += k;
        s += k;
        n -= k;
    }
    return d->out == NULL ? MB_OK : mb_bytes_put(d->out, s, n);
}

/* ------------------------------------------------------------------ the steps */

/* Emits what is certain of the bytes in pend; the start of a character that may still become valid stays. */
static enum mb_status settle_bytes(struct mb_decoder *d, int i, bool all)
{
    struct mb_dec_state *st = &d->state[i];
    size_t at = 0, keep = st->pend.len;
    bool singly =
        d->t->decs[i].kind == MB_DEC_SPM; /* sentencepiece replaces every byte of an invalid sequence */
    st->tmp.len = 0;
    if (d->bytes) {
        MB_TRY(mb_bytes_put(&st->tmp, st->pend.data, st->pend.len));
        at = st->pend.len;
    }
    while (at < st->pend.len) {
        uint32_t cp;
        bool cut;
        int k = mb_utf8_step(st->pend.data + at, st->pend.len - at, &cp, &cut);
        if (k < 0 && cut && !all) {
            keep = at;
            break;
        }
        MB_TRY(k > 0 ? mb_bytes_put(&st->tmp, st->pend.data + at, (size_t)k)
                     : mb_bytes_put(&st->tmp, MB_FFFD, 3));
        at += (size_t)(k > 0 ? k : singly ? 1 : -k);
    }
    st->started = st->started || st->tmp.len > 0;
    if (keep > 0)
        memmove(st->pend.data, st->pend.data + keep, st->pend.len - keep);
    st->pend.len -= keep;
    return st->tmp.len > 0 ? emit(d, i + 1, (const char *)st->tmp.data, st->tmp.len) : MB_OK;
}

/* A token with a character that stands for no byte is taken as it is. */
static enum mb_status put_bytes(struct mb_decoder *d, int i, const char *s, size_t n)
{
    struct mb_dec_state *st = &d->state[i];
    size_t before = st->pend.len;
    MB_TRY(mb_bytes_reserve(&st->pend, n + 1));
    for (size_t at = 0; at < n;) {
        uint32_t cp;
        at += (size_t)mb_utf8_next(s + at, &cp);
        int b = mb_char_byte(cp);
        if (b < 0) {
            st->pend.len = before;
            MB_TRY(mb_bytes_put(&st->pend, s, n));
            break;
        }
        st->pend.data[st->pend.len++] = (uint8_t)b;
    }
    return settle_bytes(d, i, false);
}

static enum mb_status put_replace(struct mb_decoder *d, int i, const char *s, size_t n)
{
    const struct mb_dec *t = &d->t->decs[i];
    struct mb_bytes *tmp = &d->state[i].tmp;
    struct mb_search f = {&t->pattern, s, n, 0, SIZE_MAX};
    size_t done = 0, from, to;
    tmp->len = 0;
    for (;;) {
        bool found;
        MB_TRY(mb_search_next(&f, &d->work, &found, &from, &to));
        if (!found)
            break;
        MB_TRY(mb_replace_fits(tmp->len, from - done + t->text.len, DECODED_MOST));
        MB_TRY(mb_bytes_put(tmp, s + done, from - done));
        MB_TRY(mb_bytes_put(tmp, t->text.data, t->text.len));
        done = to;
    }
    MB_TRY(mb_bytes_put(tmp, s + done, n - done));
    return emit(d, i + 1, (const char *)tmp->data, tmp->len);
}

/* One hexadecimal digit, or -1. */
static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that a token <0xXX> stands for, or -1. */
static int byte_token(const char *s, size_t n)
{
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>')
        return -1;
    int hi = s[3] == '+' ? 0 : hex(s[3]), lo = hex(s[4]); /* the reference's parser accepts a sign */
    return hi < 0 || lo < 0 ? -1 : hi << 4 | lo;
}

static enum mb_status end_run(struct mb_decoder *d, int i)
{
    struct mb_bytes *run = &d->state[i].pend;
    size_t n = run->len;
    if (n == 0)
        return MB_OK;
    run->len = 0;
    if (d->bytes || mb_utf8_valid((const char *)run->data, n))
        return emit(d, i + 1, (const char *)run->data, n);
    for (; n > 0; n--)
        MB_TRY(emit(d, i + 1, MB_FFFD, 3));
    return MB_OK;
}

static enum mb_status put_fallback(struct mb_decoder *d, int i, const char *s, size_t n)
{
    int b = byte_token(s, n);
    if (b >= 0) {
        MB_TRY(mb_bytes_put(&d->state[i].pend, (uint8_t[]){(uint8_t)b}, 1));
        return d->bytes ? end_run(d, i) : MB_OK;
    }
    MB_TRY(end_run(d, i));
    return emit(d, i + 1, s, n);
}

/* STRIP on whole tokens. */
static enum mb_status strip_token(struct mb_decoder *d, int i, const char *s, size_t n)
{
    const struct mb_dec *t = &d->t->decs[i];
    size_t from = 0;
    uint32_t cp;
    for (int64_t k = 0; k < t->start && from < n; k++) {
        int len = mb_utf8_next(s + from, &cp);
        if (cp != t->cp)
            break;
        from += (size_t)len;
    }
    for (int64_t k = 0; k < t->stop && n > from; k++) {
        size_t back = mb_utf8_back(s, n);
        mb_utf8_next(s + back, &cp);
        if (cp != t->cp)
            break;
        n = back;
    }
    return emit(d, i + 1, s + from, n - from);
}

/* STRIP on the one endless token: cuts at the start, holds back up to `stop` characters that may be the end.
 */
static enum mb_status strip_stream(struct mb_decoder *d, int i, const char *s, size_t n)
{
    const struct mb_dec *t = &d->t->decs[i];
    struct mb_dec_state *st = &d->state[i];
    char c[4];
    size_t len = (size_t)mb_utf8_put(t->cp, c);
    st->tmp.len = 0;
    for (size_t at = 0; at < n;) {
        bool cut, same = n - at >= len && memcmp(s + at, c, len) == 0;
        uint32_t cp;
        int step = mb_utf8_step((const uint8_t *)s + at, n - at, &cp, &cut); /* by bytes, it may be a part */
        size_t k = step > 0 ? (size_t)step : 1;
        if (same && !st->started && st->count < t->start) {
            st->count++;
        } else if (same && st->tail < t->stop) {
            st->started = true;
            st->tail++;
        } else {
            st->started = true;
            for (; !same && st->tail > 0; st->tail--)
                MB_TRY(mb_bytes_put(&st->tmp, c, len));
            MB_TRY(mb_bytes_put(&st->tmp, s + at, k));
        }
        at += k;
    }
    return st->tmp.len > 0 ? emit(d, i + 1, (const char *)st->tmp.data, st->tmp.len) : MB_OK;
}

/* The replacement mark becomes a space; in the first token it may vanish instead. */
static enum mb_status put_metaspace(struct mb_decoder *d, int i, const char *s, size_t n)
{
    const struct mb_dec *t = &d->t->decs[i];
    struct mb_dec_state *st = &d->state[i];
    bool vanish = st->count == 0 && t->strip_first;
    size_t done = 0, len = (size_t)t->mark_len;
    if (!t->fused)
        st->count = 1;
    st->tmp.len = 0;
    for (;;) {
        const char *hit = done < n ? memmem(s + done, n - done, t->mark, len) : NULL;
        if (hit == NULL)
            break;
        MB_TRY(mb_bytes_put(&st->tmp, s + done, (size_t)(hit - s) - done));
        if (!vanish)
            MB_TRY(mb_bytes_put(&st->tmp, " ", 1));
        done = (size_t)(hit - s) + len;
    }
    MB_TRY(mb_bytes_put(&st->tmp, s + done, n - done));
    return emit(d, i + 1, (const char *)st->tmp.data, st->tmp.len);
}

/* sentencepiece: control pieces vanish, the unknown piece has its own text, byte pieces in a row are UTF-8,
 * and one space in front is dropped (every one, if the normaliser strips spaces). count 1: a space in front
 * has been dropped. */
static enum mb_status put_spm(struct mb_decoder *d, int i, const char *s, size_t n)
{
    const struct mb_spm *m = &d->t->spm;
    struct mb_dec_state *st = &d->state[i];
    bool added = mb_vocab_text(&d->t->extra, d->id, &(size_t){0}) != NULL;
    int type = added || d->id >= d->t->vocab.size ? MB_SPM_NORMAL : m->type[d->id];
    int byte = type == MB_SPM_BYTE ? byte_token(s, n) : -1;
    if (byte >= 0) {
        MB_TRY(mb_bytes_put(&st->pend, (uint8_t[]){(uint8_t)byte}, 1));
        return settle_bytes(d, i, false);
    }
    MB_TRY(settle_bytes(d, i, true));
    if (type == MB_SPM_CONTROL)
        return MB_OK;
    bool front = !st->started && st->count == 0 && (m->dummy_prefix || m->strip_spaces);
    st->tmp.len = 0;
    if (type == MB_SPM_UNKNOWN) {
        MB_TRY(mb_bytes_put(&st->tmp, m->unk_text.data, m->unk_text.len));
        n = 0;
    } else if (front && n >= 3 && memcmp(s, MB_SPM_SPACE, 3) == 0) {
        s += 3;
        n -= 3;
        st->count = m->strip_spaces ? 0 : 1;
    }
    while (n > 0) {
        bool space = n >= 3 && memcmp(s, MB_SPM_SPACE, 3) == 0;
        MB_TRY(space ? mb_bytes_put(&st->tmp, " ", 1) : mb_bytes_put(&st->tmp, s, 1));
        s += space ? 3 : 1;
        n -= space ? 3 : 1;
    }
    st->started = st->started || st->tmp.len > 0;
    return st->tmp.len > 0 ? emit(d, i + 1, (const char *)st->tmp.data, st->tmp.len) : MB_OK;
}

static enum mb_status emit(struct mb_decoder *d, int i, const char *s, size_t n)
{
    if (n == 0)
        s = ""; /* a step before that has produced nothing yet may have no buffer */
    if (i == d->t->ndecs)
        return deliver(d, s, n);
    switch (d->t->decs[i].kind) {
    case MB_DEC_BYTES:
        return put_bytes(d, i, s, n);
    case MB_DEC_REPLACE:
        return put_replace(d, i, s, n);
    case MB_DEC_BYTE_FALLBACK:
        return put_fallback(d, i, s, n);
    case MB_DEC_FUSE:
        return emit(d, i + 1, s, n);
    case MB_DEC_STRIP:
        return d->t->decs[i].fused ? strip_stream(d, i, s, n) : strip_token(d, i, s, n);
    case MB_DEC_METASPACE:
        return put_metaspace(d, i, s, n);
    case MB_DEC_JOIN:
        if (d->state[i].count > 0)
            MB_TRY(emit(d, i + 1, " ", 1));
        d->state[i].count = 1;
        return emit(d, i + 1, s, n);
    case MB_DEC_SPM:
        return put_spm(d, i, s, n);
    }
    return MB_BUG;
}

/* ------------------------------------------------------------------ the sequence */

static enum mb_status put_id(struct mb_decoder *d, int32_t id)
{
    const struct mb_tokenizer *t = d->t;
    size_t n;
    if (id < 0 || id >= t->size || (d->skip_special && id < t->special_cap && t->special[id]))
        return MB_OK;
    const char *s = mb_vocab_shown(&t->extra, id, &n);
    if (s == NULL)
        s = mb_vocab_text(&t->vocab, id, &n);
    d->id = id;
    return s == NULL ? MB_OK : emit(d, 0, s, n);
}

/* Ends every step, first to last: what one still gives flows through the later ones. */
static enum mb_status end_steps(struct mb_decoder *d)
{
    for (int i = 0; i < d->t->ndecs; i++) {
        enum mb_dec_kind k = d->t->decs[i].kind;
        if (k == MB_DEC_BYTES || k == MB_DEC_SPM)
            MB_TRY(settle_bytes(d, i, true));
        else if (k == MB_DEC_BYTE_FALLBACK)
            MB_TRY(end_run(d, i));
    }
    return MB_OK;
}

static void reset(struct mb_decoder *d)
{
    for (int i = 0; i < MB_DEC_MAX; i++) {
        struct mb_bytes pend = d->state[i].pend, tmp = d->state[i].tmp;
        pend.len = tmp.len = 0;
        d->state[i] = (struct mb_dec_state){.pend = pend, .tmp = tmp};
    }
    d->drop.len = d->dropped = 0;
}

enum mb_status mb_decoder_create(const struct mb_tokenizer *t, struct mb_decoder **out)
{
    struct mb_decoder *d = calloc(1, sizeof *d);
    if (d == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a decoder");
    d->t = t;
    d->skip_special = true;
    *out = d;
    return MB_OK;
}

void mb_decoder_mode(struct mb_decoder *d, bool keep_special, bool bytes)
{
    d->skip_special = !keep_special;
    d->bytes = bytes;
}

void mb_decoder_destroy(struct mb_decoder *d)
{
    if (d == NULL)
        return;
    for (int i = 0; i < MB_DEC_MAX; i++) {
        mb_bytes_fini(&d->state[i].pend);
        mb_bytes_fini(&d->state[i].tmp);
    }
    mb_bytes_fini(&d->drop);
    mb_work_fini(&d->work);
    free(d);
}

enum mb_status mb_decoder_put(struct mb_decoder *d, int32_t id, struct mb_bytes *out)
{
    d->out = out;
    return put_id(d, id);
}

enum mb_status mb_decoder_finish(struct mb_decoder *d, struct mb_bytes *out)
{
    d->out = out;
    MB_TRY(end_steps(d));
    reset(d);
    return MB_OK;
}

/* What finishing now would give goes to d->drop; the state stays as it is. */
static enum mb_status note_rest(struct mb_decoder *d)
{
    struct mb_dec_state saved[MB_DEC_MAX];
    struct mb_bytes rest = {0};
    enum mb_status st = MB_OK;
    memcpy(saved, d->state, sizeof saved);
    memset(d->state, 0, sizeof d->state);
    for (int i = 0; i < MB_DEC_MAX && st == MB_OK; i++) {
        struct mb_bytes pend = d->state[i].pend;
        d->state[i] = saved[i];
        d->state[i].pend = pend;
        d->state[i].tmp = (struct mb_bytes){0};
        st = mb_bytes_put(&d->state[i].pend, saved[i].pend.data, saved[i].pend.len);
    }
    d->out = &rest;
    if (st == MB_OK)
        st = end_steps(d);
    for (int i = 0; i < MB_DEC_MAX; i++) {
        mb_bytes_fini(&d->state[i].pend);
        mb_bytes_fini(&d->state[i].tmp);
    }
    memcpy(d->state, saved, sizeof saved);
    mb_bytes_fini(&d->drop);
    d->drop = rest;
    d->dropped = 0;
    return st;
}

enum mb_status mb_decoder_context(struct mb_decoder *d, const int32_t *ids, int64_t n)
{
    reset(d);
    d->out = NULL;
    for (int64_t i = 0; i < n; i++)
        MB_TRY(put_id(d, ids[i]));
    return d->bytes ? MB_OK : note_rest(d);
}

/* The longest end of the context that is the beginning of a character. */
enum mb_status mb_decoder_begun(const struct mb_decoder *d, struct mb_bytes *out)
{
    uint32_t cp;
    bool cut = false;
    for (size_t at = 0; d->bytes && at < d->drop.len; at++) {
        size_t left = d->drop.len - at;
        if (mb_utf8_step(d->drop.data + at, left, &cp, &cut) == -(int)left && cut)
            return mb_bytes_put(out, d->drop.data + at, left);
    }
    return MB_OK;
}

enum mb_status mb_tokenizer_decode(const struct mb_tokenizer *t, const int32_t *ids, int64_t n,
                                   bool skip_special, struct mb_bytes *out)
{
    struct mb_decoder *d = NULL;
    MB_TRY(mb_decoder_create(t, &d));
    d->skip_special = skip_special;
    enum mb_status st = MB_OK;
    for (int64_t i = 0; i < n && st == MB_OK; i++)
        st = mb_decoder_put(d, ids[i], out);
    if (st == MB_OK)
        st = mb_decoder_finish(d, out);
    mb_decoder_destroy(d);
    return st;
}
