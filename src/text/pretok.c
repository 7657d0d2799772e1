#include "text/pretok.h"

#include <string.h>
#include "base/utf8.h"

void mb_pre_fini(struct mb_pre *s)
{
    mb_pattern_fini(&s->pattern);
}

/* The bytes that stand for themselves: 33-126, 161-172, 174-255; the other 68 follow from U+0100 in order. */
static bool own_char(unsigned b)
{
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

uint32_t mb_byte_char(uint8_t b)
{
    if (own_char(b))
        return b;
    if (b <= 32)
        return 256u + b;
    return b == 173 ? 256u + 67 : 256u + 33 + (b - 127u);
}

int mb_char_byte(uint32_t cp)
{
    if (cp < 256)
        return own_char(cp) ? (int)cp : -1;
    cp -= 256;
    return cp <= 32 ? (int)cp : cp < 67 ? (int)(127 + cp - 33) : cp == 67 ? 173 : -1;
}

/* Cutting one piece: its segments come in order, each a match or not; they leave merged as the behaviour
 * says. */
struct cut {
    const struct mb_pre *step;
    struct mb_piece piece; /* the piece that is being cut */
    struct mb_pieces *out;
    bool any, last_match; /* a segment is held back; what the last one was */
    size_t from, to;      /* the held segment */
};

static enum mb_status flush(struct cut *c)
{
    if (!c->any)
        return MB_OK;
    c->any = false;
    bool first = c->piece.first && c->from == 0;
    return mb_pieces_push(c->out, (struct mb_piece){c->piece.off + c->from, c->to - c->from, -1, first});
}

static enum mb_status segment(struct cut *c, size_t from, size_t to, bool match)
{
    match = match != c->step->invert;
    bool join = false;
    switch (c->step->behavior) {
    case MB_SPLIT_REMOVED:
        MB_TRY(flush(c));
        if (match)
            return MB_OK;
        break;
    case MB_SPLIT_ISOLATED:
        break;
    case MB_SPLIT_CONTIGUOUS:
        join = match == c->last_match;
        break;
    case MB_SPLIT_MERGED_WITH_PREVIOUS:
        join = match && !c->last_match;
        break;
    case MB_SPLIT_MERGED_WITH_NEXT:
        join = c->last_match && !match;
        break;
    }
    c->last_match = match;
    if (join && c->any) {
        c->to = to;
        return MB_OK;
    }
    MB_TRY(flush(c));
    c->any = true;
    c->from = from;
    c->to = to;
    return MB_OK;
}

static enum mb_status cut_by_pattern(struct cut *c, const char *s, struct mb_work *w)
{
    struct mb_search f = {&c->step->pattern, s, c->piece.len, 0, SIZE_MAX};
    size_t done = 0, from, to;
    for (;;) {
        bool found;
        MB_TRY(mb_search_next(&f, w, &found, &from, &to));
        if (!found)
            break;
        if (done != from)
            MB_TRY(segment(c, done, from, false));
        MB_TRY(segment(c, from, to, true));
        done = to;
    }
    return done != c->piece.len ? segment(c, done, c->piece.len, false) : MB_OK;
}

static enum mb_status cut_by_class(struct cut *c, const char *s)
{
    size_t done = 0;
    for (size_t i = 0; i < c->piece.len;) {
        uint32_t cp;
        size_t k = (size_t)mb_utf8_next(s + i, &cp);
        if (c->step->is_in != NULL ? c->step->is_in(cp) : cp == c->step->cp) {
            if (done != i)
                MB_TRY(segment(c, done, i, false));
            MB_TRY(segment(c, i, i + k, true));
            done = i + k;
        }
        i += k;
    }
    return done != c->piece.len ? segment(c, done, c->piece.len, false) : MB_OK;
}

/* str.isspace */
static bool is_blank(uint32_t cp)
{
    return mb_is_space(cp) || (cp >= 0x1c && cp <= 0x1f);
}

static enum mb_status cut_by_run(struct cut *c, const char *s)
{
    size_t done = 0, k;
    int64_t run = 0, all = 0;
    bool blank = false;
    for (size_t i = 0; i < c->piece.len; i += k, all++) {
        uint32_t cp;
        k = (size_t)mb_utf8_next(s + i, &cp);
        bool now = is_blank(cp), begins = all == c->step->text_max;
        if (begins || (run == c->step->run_max && now == blank)) {
            MB_TRY(segment(c, done, i, false));
            done = i;
            run = 0;
        }
        all = begins ? 0 : all;
        run = run > 0 && now == blank ? run + 1 : 1;
        blank = now;
    }
    return done != c->piece.len ? segment(c, done, c->piece.len, false) : MB_OK;
}

static enum mb_status cut_all(const struct mb_pre *step, struct mb_work *w)
{
    for (size_t i = 0; i < w->cur.n; i++) {
        struct cut c = {.step = step, .piece = w->cur.v[i], .out = &w->next};
        const char *s = mb_text_at(&w->cur.text, c.piece.off);
        if (c.piece.id >= 0)
            MB_TRY(mb_pieces_push(&w->next, c.piece));
        else if (step->kind == MB_PRE_SPLIT)
            MB_TRY(cut_by_pattern(&c, s, w));
        else if (step->kind == MB_PRE_RUNS)
            MB_TRY(cut_by_run(&c, s));
        else
            MB_TRY(cut_by_class(&c, s));
        MB_TRY(flush(&c));
    }
    mb_work_flip_pieces(w);
    return MB_OK;
}

static enum mb_status put_bytes_as_chars(const char *s, size_t n, struct mb_bytes *out)
{
    MB_TRY(mb_bytes_reserve(out, n * 2));
    char *to = (char *)out->data + out->len;
    for (size_t i = 0; i < n; i++)
        to += mb_utf8_put(mb_byte_char((uint8_t)s[i]), to);
    out->len = (size_t)(to - (char *)out->data);
    return MB_OK;
}

static enum mb_status put_metaspace(const struct mb_pre *t, const char *s, size_t n, bool first,
                                    struct mb_bytes *out)
{
    bool has =
        n > 0 && (s[0] == ' ' || (n >= (size_t)t->mark_len && memcmp(s, t->mark, (size_t)t->mark_len) == 0));
    if (!has && (t->prepend == MB_PREPEND_ALWAYS || (t->prepend == MB_PREPEND_FIRST && first)))
        MB_TRY(mb_bytes_put(out, t->mark, (size_t)t->mark_len));
    size_t done = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] != ' ')
            continue;
        MB_TRY(mb_bytes_put(out, s + done, i - done));
        MB_TRY(mb_bytes_put(out, t->mark, (size_t)t->mark_len));
        done = i + 1;
    }
    return mb_bytes_put(out, s + done, n - done);
}

static enum mb_status rewrite_all(const struct mb_pre *t, struct mb_work *w)
{
    struct mb_bytes *out = &w->next.text;
    for (size_t i = 0; i < w->cur.n; i++) {
        struct mb_piece p = w->cur.v[i];
        const char *s = mb_text_at(&w->cur.text, p.off);
        size_t off = out->len;
        if (p.id >= 0) {
            MB_TRY(mb_pieces_push(&w->next, (struct mb_piece){off, 0, p.id, false}));
            continue;
        }
        if (t->kind == MB_PRE_BYTES) {
            MB_TRY(put_bytes_as_chars(s, p.len, out));
        } else if (t->kind == MB_PRE_METASPACE) {
            MB_TRY(put_metaspace(t, s, p.len, p.first, out));
        } else {
            if (s[0] != ' ')
                MB_TRY(mb_bytes_put(out, " ", 1));
            MB_TRY(mb_bytes_put(out, s, p.len));
        }
        MB_TRY(mb_pieces_push(&w->next, (struct mb_piece){off, out->len - off, -1, p.first}));
    }
    mb_work_flip(w);
    return MB_OK;
}

enum mb_status mb_pre_apply(const struct mb_pre *steps, int n, struct mb_work *w)
{
    for (int i = 0; i < n; i++) {
        bool cuts = steps[i].kind == MB_PRE_SPLIT || steps[i].kind == MB_PRE_CLASS || steps[i].kind == MB_PRE_RUNS;
        mb_pieces_clear(&w->next);
        MB_TRY(cuts ? cut_all(&steps[i], w) : rewrite_all(&steps[i], w));
    }
    return MB_OK;
}
