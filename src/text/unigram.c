#include "text/unigram.h"

#include <string.h>
#include "base/log.h"
#include "text/bpe.h"
#include "base/grow.h"
#include "base/utf8.h"

static uint64_t slot_of(int32_t node, uint8_t byte)
{
    uint64_t h = ((uint64_t)(uint32_t)node << 8 | byte) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static int32_t child_of(const struct mb_unigram *u, int32_t node, uint8_t byte)
{
    if (u->edge == NULL)
        return -1;
    for (uint64_t at = slot_of(node, byte) & u->mask; u->edge[at].node >= 0; at = (at + 1) & u->mask) {
        if (u->edge[at].node == node && u->edge[at].byte == byte)
            return u->edge[at].child;
    }
    return -1;
}

static void put_edge(struct mb_unigram_edge *edge, uint64_t mask, struct mb_unigram_edge e)
{
    uint64_t at = slot_of(e.node, e.byte) & mask;
    while (edge[at].node >= 0)
        at = (at + 1) & mask;
    edge[at] = e;
}

static enum mb_status widen(struct mb_unigram *u)
{
    uint64_t slots = u->edge == NULL ? 1024 : (u->mask + 1) * 2;
    struct mb_unigram_edge *edge = malloc(slots * sizeof *edge);
    if (edge == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a trie of %d nodes", u->nodes);
    for (uint64_t i = 0; i < slots; i++)
        edge[i].node = -1;
    for (uint64_t i = 0; u->edge != NULL && i <= u->mask; i++) {
        if (u->edge[i].node >= 0)
            put_edge(edge, slots - 1, u->edge[i]);
    }
    free(u->edge);
    u->edge = edge;
    u->mask = slots - 1;
    return MB_OK;
}

static enum mb_status new_node(struct mb_unigram *u, int32_t *out)
{
    if (u->nodes >= INT32_MAX / 2)
        return mb_error(MB_MODEL, "the pieces of a unigram vocabulary are too long");
    MB_TRY(mb_grow_to(&u->token, &u->token_cap, (size_t)u->nodes + 1, sizeof *u->token));
    u->token[u->nodes] = -1;
    *out = u->nodes++;
    return MB_OK;
}

enum mb_status mb_unigram_insert(struct mb_unigram *u, const char *s, size_t n, int32_t id, const char *what)
{
    int32_t at = 0, next;
    if (n == 0 || n > MB_UNIGRAM_MAX)
        return mb_error(MB_MODEL, "%s: piece %d has %zu bytes (1 to %d are possible)", what, id, n,
                        MB_UNIGRAM_MAX);
    if (u->nodes == 0)
        MB_TRY(new_node(u, &next));
    for (size_t i = 0; i < n; i++, at = next) {
        next = child_of(u, at, (uint8_t)s[i]);
        if (next >= 0)
            continue;
        if (u->edge == NULL || (u->edges + 1) * 2 > u->mask)
            MB_TRY(widen(u));
        MB_TRY(new_node(u, &next));
        put_edge(u->edge, u->mask, (struct mb_unigram_edge){at, next, (uint8_t)s[i]});
        u->edges++;
    }
    u->token[at] = id;
    return MB_OK;
}

void mb_unigram_fini(struct mb_unigram *u)
{
    free(u->edge);
    free(u->token);
    free(u->score);
    *u = (struct mb_unigram){0};
}

/* The first path to a place stays on ties. */
static void offer(const struct mb_unigram *u, struct mb_best *to, double score, size_t from, int32_t id)
{
    if (u->single)
        score = (double)(float)score;
    if (to->from == SIZE_MAX || score > to->score)
        *to = (struct mb_best){score, from, id};
}

static enum mb_status search(const struct mb_unigram *u, const char *s, size_t n, struct mb_best *best)
{
    for (size_t i = 0; i <= n; i++)
        best[i] = (struct mb_best){0, SIZE_MAX, -1};
    for (size_t i = 0; i < n;) {
        uint32_t cp;
        size_t k = (size_t)mb_utf8_next(s + i, &cp);
        bool single = false;
        int32_t at = 0;
        for (size_t j = i; j < n; j++) {
            at = child_of(u, at, (uint8_t)s[j]);
            if (at < 0)
                break;
            int32_t id = u->token[at];
            if (id < 0)
                continue;
            offer(u, &best[j + 1], u->score[id] + best[i].score, i, id);
            single = single || j + 1 - i == k;
        }
        if (!single && u->unk < 0)
            return MB_REQUEST;
        if (!single)
            offer(u, &best[i + k], u->unk_score + best[i].score, i, u->unk);
        i += k;
    }
    return MB_OK;
}

/* Appends one piece of the path; unknown ones in a row have been joined. Where the text of such a run is
 * itself a token (a literal "<unk>"), it is that token, as HF has it. */
static enum mb_status put_piece(const struct mb_unigram *u, const struct mb_vocab *v, const char *s, size_t n,
                                int32_t id, struct mb_ids *out)
{
    if (id != u->unk)
        return mb_ids_put(out, id);
    int32_t whole = u->single ? -1 : mb_vocab_find(v, s, n);
    if (whole >= 0 || !u->byte_fallback || !mb_bpe_has_bytes(u->byte_id, s, n))
        return mb_ids_put(out, whole >= 0 ? whole : id);
    for (size_t i = 0; i < n; i++)
        MB_TRY(mb_ids_put(out, u->byte_id[(uint8_t)s[i]]));
    return MB_OK;
}

enum mb_status mb_unigram_word(const struct mb_unigram *u, const struct mb_vocab *v, const char *s, size_t n,
                               struct mb_work *w, struct mb_ids *out)
{
    MB_TRY(mb_grow_to(&w->best, &w->best_cap, n + 1, sizeof *w->best));
    struct mb_best *best = w->best;
    MB_TRY(search(u, s, n, best));
    /* Walk back and turn the links round: each place then holds the piece that begins there. */
    struct mb_best piece = best[n];
    for (size_t end = n; end > 0;) {
        size_t from = piece.from;
        struct mb_best before = best[from];
        best[from] = (struct mb_best){0, end, piece.id};
        piece = before;
        end = from;
    }
    for (size_t i = 0; i < n;) {
        size_t to = best[i].from;
        while (best[i].id == u->unk && to < n && best[to].id == u->unk)
            to = best[to].from;
        MB_TRY(put_piece(u, v, s + i, to - i, best[i].id, out));
        i = to;
    }
    return MB_OK;
}
