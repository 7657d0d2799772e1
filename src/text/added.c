#include "text/added.h"

#include <string.h>
#include "base/log.h"
#include "base/grow.h"
#include "text/unicode_rust.h"
#include "base/utf8.h"

static enum mb_status new_node(struct mb_added *a, uint8_t byte, int32_t sibling, int32_t *out)
{
    if (a->nodes >= INT32_MAX / 2)
        return mb_error(MB_MODEL, "too many added tokens");
    MB_TRY(mb_grow_to(&a->node, &a->node_cap, a->nodes + 1, sizeof *a->node));
    a->node[a->nodes] = (struct mb_added_node){.sibling = sibling, .token = -1, .byte = byte};
    *out = (int32_t)a->nodes++;
    return MB_OK;
}

static int32_t child_of(const struct mb_added *a, int32_t node, uint8_t byte)
{
    int32_t c = a->node[node].child;
    if (node == 0)
        return a->root_child[byte];
    while (c != 0 && a->node[c].byte != byte)
        c = a->node[c].sibling;
    return c;
}

enum mb_status mb_added_insert(struct mb_added *a, const char *s, size_t n, struct mb_added_token token,
                               const char *what)
{
    int32_t at = 0, next;
    if (n == 0)
        return MB_OK;
    if (n > MB_ADDED_MAX)
        return mb_error(MB_MODEL, "%s: an added token of %zu bytes (at most %d are possible)", what, n,
                        MB_ADDED_MAX);
    if (a->nodes == 0)
        MB_TRY(new_node(a, 0, 0, &next));
    for (size_t i = 0; i < n; i++, at = next) {
        next = child_of(a, at, (uint8_t)s[i]);
        if (next != 0)
            continue;
        MB_TRY(new_node(a, (uint8_t)s[i], a->node[at].child, &next));
        a->node[at].child = next;
        if (at == 0)
            a->root_child[(uint8_t)s[i]] = next;
    }
    if (a->node[at].token >= 0)
        return MB_OK;
    MB_TRY(mb_grow_to(&a->token, &a->token_cap, a->tokens + 1, sizeof *a->token));
    a->node[at].token = (int32_t)a->tokens;
    a->token[a->tokens++] = token;
    return MB_OK;
}

void mb_added_fini(struct mb_added *a)
{
    free(a->node);
    free(a->token);
    *a = (struct mb_added){0};
}

int32_t mb_added_longest(const struct mb_added *a, const char *s, size_t i, size_t n, size_t *end)
{
    int32_t best = -1;
    if (a->nodes == 0)
        return -1;
    for (int32_t at = 0; i < n;) {
        at = child_of(a, at, (uint8_t)s[i++]);
        if (at == 0)
            break;
        if (a->node[at].token >= 0) {
            best = a->node[at].token;
            *end = i;
        }
    }
    return best;
}

static bool word_before(const char *s, size_t at)
{
    uint32_t cp;
    if (at == 0)
        return false;
    mb_utf8_next(s + mb_utf8_back(s, at), &cp);
    return mb_rust_word(cp);
}

static bool word_after(const char *s, size_t at, size_t n)
{
    uint32_t cp;
    if (at == n)
        return false;
    mb_utf8_next(s + at, &cp);
    return mb_rust_word(cp);
}

/* Spaces before `from` down to `floor`, and after `to`. */
static size_t space_left(const char *s, size_t from, size_t floor)
{
    while (from > floor) {
        uint32_t cp;
        size_t back = mb_utf8_back(s, from);
        mb_utf8_next(s + back, &cp);
        if (!mb_is_space(cp))
            break;
        from = back;
    }
    return from;
}

static size_t space_right(const char *s, size_t to, size_t n)
{
    while (to < n) {
        uint32_t cp;
        int k = mb_utf8_next(s + to, &cp);
        if (!mb_is_space(cp))
            break;
        to += (size_t)k;
    }
    return to;
}

enum mb_status mb_added_cut(const struct mb_added *a, const struct mb_bytes *text, struct mb_piece p,
                            struct mb_pieces *out)
{
    const char *s = mb_text_at(text, p.off);
    size_t done = 0, n = p.len;
    for (size_t i = 0; i < n && a->tokens > 0;) {
        size_t end = 0;
        int32_t k = a->root_child[(uint8_t)s[i]] == 0 ? -1 : mb_added_longest(a, s, i, n, &end);
        if (k < 0) {
            i++;
            continue;
        }
        const struct mb_added_token *t = &a->token[k];
        size_t from = i, to = end;
        i = end; /* matches do not overlap, whether they count or not */
        if (t->single_word && (word_before(s, from) || word_after(s, to, n)))
            continue;
        if (t->lstrip)
            from = space_left(s, from, done < from ? done : from);
        if (t->rstrip)
            to = space_right(s, to, n);
        if (done < from)
            MB_TRY(
                mb_pieces_push(out, (struct mb_piece){p.off + done, from - done, -1, p.first && done == 0}));
        MB_TRY(mb_pieces_push(out, (struct mb_piece){p.off + from, to - from, t->id, false}));
        done = to;
    }
    if (done < n)
        MB_TRY(mb_pieces_push(out, (struct mb_piece){p.off + done, n - done, -1, p.first && done == 0}));
    return MB_OK;
}
