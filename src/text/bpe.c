#include "text/bpe.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"
#include "base/grow.h"
#include "base/utf8.h"

#define WORD_MAX (1u << 30)

static uint64_t slot_of(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

const struct mb_bpe_merge *mb_bpe_find(const struct mb_bpe *b, int32_t left, int32_t right)
{
    if (b->slot == NULL)
        return NULL;
    for (uint64_t at = slot_of(left, right) & b->mask; b->slot[at].left >= 0; at = (at + 1) & b->mask) {
        if (b->slot[at].left == left && b->slot[at].right == right)
            return &b->slot[at];
    }
    return NULL;
}

static void insert(struct mb_bpe_merge *slot, uint64_t mask, struct mb_bpe_merge m)
{
    uint64_t at = slot_of(m.left, m.right) & mask;
    while (slot[at].left >= 0)
        at = (at + 1) & mask;
    slot[at] = m;
}

static enum mb_status widen(struct mb_bpe *b)
{
    uint64_t slots = b->slot == NULL ? 1024 : (b->mask + 1) * 2;
    struct mb_bpe_merge *slot = malloc(slots * sizeof *slot);
    if (slot == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %llu merges", (unsigned long long)b->count);
    for (uint64_t i = 0; i < slots; i++)
        slot[i].left = -1;
    for (uint64_t i = 0; b->slot != NULL && i <= b->mask; i++) {
        if (b->slot[i].left >= 0)
            insert(slot, slots - 1, b->slot[i]);
    }
    free(b->slot);
    b->slot = slot;
    b->mask = slots - 1;
    return MB_OK;
}

enum mb_status mb_bpe_add(struct mb_bpe *b, int32_t left, int32_t right, int32_t made, uint32_t rank)
{
    struct mb_bpe_merge *old = (struct mb_bpe_merge *)mb_bpe_find(b, left, right);
    struct mb_bpe_merge m = {left, right, made, rank};
    if (old != NULL) {
        *old = m;
        return MB_OK;
    }
    if (b->slot == NULL || (b->count + 1) * 2 > b->mask)
        MB_TRY(widen(b));
    insert(b->slot, b->mask, m);
    b->count++;
    return MB_OK;
}

void mb_bpe_byte_ids(const struct mb_vocab *v, int32_t byte_id[256])
{
    char name[8];
    for (unsigned i = 0; i < 256; i++) {
        snprintf(name, sizeof name, "<0x%02X>", i);
        byte_id[i] = mb_vocab_find(v, name, 6);
    }
}

void mb_bpe_index(struct mb_bpe *b, const struct mb_vocab *v)
{
    char c[4];
    for (uint32_t i = 0; i < MB_BPE_CHARS; i++)
        b->char_id[i] = mb_vocab_find(v, c, (size_t)mb_utf8_put(i, c));
    mb_bpe_byte_ids(v, b->byte_id);
}

void mb_bpe_fini(struct mb_bpe *b)
{
    free(b->slot);
    b->slot = NULL;
}

enum mb_status mb_ids_put(struct mb_ids *ids, int32_t id)
{
    if (ids->n == ids->cap) {
        size_t cap = (size_t)ids->cap;
        MB_TRY(mb_grow_to(&ids->v, &cap, cap + 1, sizeof *ids->v));
        ids->cap = (int64_t)cap;
    }
    ids->v[ids->n++] = id;
    return MB_OK;
}

/* ------------------------------------------------------------------ merging */

enum mb_status mb_bpe_symbol(struct mb_work *w, int32_t id, uint32_t len)
{
    if (w->nsym == w->sym_cap)
        MB_TRY(mb_grow_to(&w->sym, &w->sym_cap, w->nsym + 1, sizeof *w->sym));
    int32_t i = (int32_t)w->nsym++;
    w->sym[i] = (struct mb_symbol){id, i - 1, -1, len};
    if (i > 0)
        w->sym[i - 1].next = i;
    return MB_OK;
}

static enum mb_status heap_put(struct mb_work *w, struct mb_merge_try m)
{
    if (w->nheap == w->heap_cap)
        MB_TRY(mb_grow_to(&w->heap, &w->heap_cap, w->nheap + 1, sizeof *w->heap));
    size_t i = w->nheap++;
    while (i > 0 && w->heap[(i - 1) / 2].key > m.key) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = m;
    return MB_OK;
}

static struct mb_merge_try heap_take(struct mb_work *w)
{
    struct mb_merge_try top = w->heap[0], last = w->heap[--w->nheap];
    size_t i = 0, n = w->nheap;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n)
            break;
        if (c + 1 < n && w->heap[c + 1].key < w->heap[c].key)
            c++;
        if (w->heap[c].key >= last.key)
            break;
        w->heap[i] = w->heap[c];
        i = c;
    }
    w->heap[i] = last;
    return top;
}

static enum mb_status try_pair(const struct mb_bpe *b, struct mb_work *w, int32_t at)
{
    int32_t next = at < 0 ? -1 : w->sym[at].next;
    if (next < 0)
        return MB_OK;
    int32_t left = w->sym[at].id, right = w->sym[next].id;
    const struct mb_bpe_merge *m = mb_bpe_find(b, left, right);
    if (m == NULL)
        return MB_OK;
    return heap_put(w, (struct mb_merge_try){(uint64_t)m->rank << 32 | (uint32_t)at, left, right, m->made});
}

enum mb_status mb_bpe_merge_all(const struct mb_bpe *b, struct mb_work *w)
{
    w->nheap = 0;
    for (size_t i = 0; i + 1 < w->nsym; i++)
        MB_TRY(try_pair(b, w, (int32_t)i));
    while (w->nheap > 0) {
        struct mb_merge_try m = heap_take(w);
        int32_t at = (int32_t)(uint32_t)m.key;
        struct mb_symbol *s = &w->sym[at];
        /* An entry is stale if its place or neighbour has been merged since. */
        if (s->len == 0 || s->next < 0 || s->id != m.left || w->sym[s->next].id != m.right)
            continue;
        struct mb_symbol *r = &w->sym[s->next];
        s->id = m.made;
        s->len += r->len;
        s->next = r->next;
        r->len = 0;
        if (s->next >= 0)
            w->sym[s->next].prev = at;
        MB_TRY(try_pair(b, w, s->prev));
        MB_TRY(try_pair(b, w, at));
    }
    return MB_OK;
}

/* ------------------------------------------------------------------ a word */

bool mb_bpe_has_bytes(const int32_t byte_id[256], const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (byte_id[(uint8_t)s[i]] < 0)
            return false;
    }
    return true;
}

/* A character's token, with the prefix and suffix that the vocabulary may ask for. */
static enum mb_status char_token(const struct mb_bpe *b, const struct mb_vocab *v, const char *s, size_t k,
                                 uint32_t cp, bool first, bool last, struct mb_work *w, int32_t *id)
{
    bool prefix = b->prefix != NULL && !first, suffix = b->suffix != NULL && last;
    if (!prefix && !suffix) {
        *id = cp < MB_BPE_CHARS ? b->char_id[cp] : mb_vocab_find(v, s, k);
        return MB_OK;
    }
    struct mb_bytes *t = &w->tmp[0];
    t->len = 0;
    if (prefix)
        MB_TRY(mb_bytes_put(t, b->prefix->data, b->prefix->len));
    MB_TRY(mb_bytes_put(t, s, k));
    if (suffix)
        MB_TRY(mb_bytes_put(t, b->suffix->data, b->suffix->len));
    *id = mb_vocab_find(v, (const char *)t->data, t->len);
    return MB_OK;
}

/* Adds a character without a token: its bytes, or an unknown token that is held back so that neighbours can
 * join it. A byte fallback does not release a held unknown: so does the reference. */
static enum mb_status no_token(const struct mb_bpe *b, const char *s, uint32_t k, struct mb_work *w,
                               uint32_t *held)
{
    if (b->byte_fallback && mb_bpe_has_bytes(b->byte_id, s, k)) {
        for (uint32_t i = 0; i < k; i++)
            MB_TRY(mb_bpe_symbol(w, b->byte_id[(uint8_t)s[i]], 1));
        return MB_OK;
    }
    if (b->unk < 0)
        return MB_OK;
    if (*held > 0 && !b->fuse_unk) {
        MB_TRY(mb_bpe_symbol(w, b->unk, *held));
        *held = 0;
    }
    *held += k;
    return MB_OK;
}

static enum mb_status symbols_of(const struct mb_bpe *b, const struct mb_vocab *v, const char *s, size_t n,
                                 struct mb_work *w)
{
    uint32_t held = 0;
    w->nsym = 0;
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        int32_t id;
        uint32_t k = (uint32_t)mb_utf8_next(s + i, &cp);
        MB_TRY(char_token(b, v, s + i, k, cp, i == 0, i + k == n, w, &id));
        if (id < 0) {
            MB_TRY(no_token(b, s + i, k, w, &held));
        } else {
            if (held > 0)
                MB_TRY(mb_bpe_symbol(w, b->unk, held));
            held = 0;
            MB_TRY(mb_bpe_symbol(w, id, k));
        }
        i += k;
    }
    return held > 0 ? mb_bpe_symbol(w, b->unk, held) : MB_OK;
}

enum mb_status mb_bpe_word(const struct mb_bpe *b, const struct mb_vocab *v, const char *s, size_t n,
                           struct mb_work *w, struct mb_ids *out)
{
    if (n > WORD_MAX)
        return MB_REQUEST;
    if (b->ignore_merges) {
        int32_t id = mb_vocab_find(v, s, n);
        if (id >= 0)
            return mb_ids_put(out, id);
    }
    MB_TRY(symbols_of(b, v, s, n, w));
    if (w->nsym == 0)
        return MB_OK;
    MB_TRY(mb_bpe_merge_all(b, w));
    for (int32_t i = 0; i >= 0; i = w->sym[i].next)
        MB_TRY(mb_ids_put(out, w->sym[i].id));
    return MB_OK;
}
