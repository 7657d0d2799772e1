/* What of a configuration matters to the next token: the same for far more places in far more answers than
 * the configuration is. */
#include "guide/level.h"

/* Where each level begins, from the bottom; returns how many. */
static int32_t levels(const struct mb_config *c, int32_t at[MB_CONFIG_DEPTH + 2])
{
    int32_t n = 0;

    for (int32_t end = c->n; end > 0; end = at[n++])
        at[n] = end - (int32_t)c->w[end - 1];
    for (int32_t i = 0; i < n / 2; i++) {
        int32_t swap = at[i];
        at[i] = at[n - 1 - i];
        at[n - 1 - i] = swap;
    }
    return n;
}

static void put(struct mb_config *out, const void *p, int32_t n)
{
    if (n > 0)
        memcpy(out->w + out->n, p, 4 * (size_t)n);
    out->n += n;
}

/* Names that are there already matter while one is written that may become them. */
static uint32_t put_others(const struct mb_view *v, struct mb_config *out)
{
    uint32_t words = 0;

    for (uint32_t i = 0, n; i < v->h->n_others; i += n) {
        n = 1 + (v->others[i] & ~MB_OTHER_OPEN);
        if (!(v->others[i] & MB_OTHER_OPEN))
            continue;
        put(out, v->others + i, (int32_t)n);
        words += n;
    }
    return words;
}

/* How long a string is does not matter to a token that cannot reach its limit. */
static uint32_t count_of(const struct mb_acceptor *m, const struct mb_view *v, int32_t deepest)
{
    int64_t least = 0;

    for (uint32_t i = 0; i < v->h->n_units; i++) {
        const struct mb_node_text *t = &mb_unit_node(m, &v->unit[i])->text;
        if (v->unit[i].own != MB_V_OPEN)
            continue;
        if (t->dfa != NULL || v->h->count < t->min || (t->max >= 0 && t->max - v->h->count <= deepest))
            return v->h->count;
        least = t->min > least ? t->min : least;
    }
    return (uint32_t)least;
}

static void put_level(const struct mb_acceptor *m, const struct mb_view *v, int32_t deepest, bool top,
                      struct mb_config *out)
{
    int32_t at = out->n;
    struct mb_level h = *v->h;

    if (top && h.kind == MB_L_STRING)
        h.count = count_of(m, v, deepest);
    out->n += MB_LEVEL_WORDS;
    put(out, v->unit, 3 * (int32_t)h.n_units + 2 * (int32_t)h.n_roots + (int32_t)h.n_seen);
    h.n_others = top && h.kind == MB_L_OBJECT && h.phase == MB_P_KEY ? put_others(v, out) : 0;
    h.n_text = 0;
    h.name_chars = h.n_others > 0 ? h.name_chars : 0;
    put(out, v->key, (int32_t)(h.n_key + h.n_child));
    memcpy(out->w + at, &h, sizeof h);
    out->w[out->n] = (uint32_t)(out->n + 1 - at);
    out->n++;
}

bool mb_config_outline(const struct mb_acceptor *m, const struct mb_config *c, int32_t deepest,
                       struct mb_config *out)
{
    int32_t at[MB_CONFIG_DEPTH + 2], n = levels(c, at);

    out->n = 0;
    if (mb_guide_room((void **)&out->w, &out->cap, c->n, 4) != MB_OK)
        return false;
    for (int32_t i = 0; i < n; i++) {
        struct mb_view v = mb_view_at(c, at[i]);
        put_level(m, &v, deepest, i == n - 1, out);
    }
    return true;
}
