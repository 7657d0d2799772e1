/* config.json: the indexer of sparse attention. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "model/load.h"

enum { MAX_INDEX_WIDTH = 1 << 14, MAX_INDEX_HEADS = 4096, MAX_INDEX_TOPK = 1 << 24 };

static enum mb_status need(const struct mb_cfg *c, const char *key, int64_t hi, int32_t *out)
{
    int64_t x;

    MB_TRY(mb_cfg_need_int(c, key, 1, hi, &x));
    *out = (int32_t)x;
    return MB_OK;
}

/* Entry l of a list of "full" and "shared", or of a pattern "FSS…" (a list of such letters, too). */
static enum mb_status entry(const struct mb_cfg *c, const char *key, const json_t *v, int32_t l, uint8_t *shares)
{
    char letter[2] = {0, 0}, text[96];
    const char *s = json_is_array(v) ? json_string_value(json_array_get(v, (size_t)l)) : letter;

    if (json_is_string(v))
        letter[0] = json_string_value(v)[l];
    bool shared = s != NULL && (strcmp(s, "shared") == 0 || strcmp(s, "S") == 0);
    if (!shared && (s == NULL || (strcmp(s, "full") != 0 && strcmp(s, "F") != 0)))
        return mb_error(MB_MODEL, "%s: %s: expected full or shared for layer %d, found %s", c->path, key, l,
                        mb_cfg_text(json_is_array(v) ? json_array_get(v, (size_t)l) : v, text, sizeof text));
    *shares = shared;
    return MB_OK;
}

static enum mb_status by_list(struct mb_model *m, const struct mb_cfg *c, bool *found)
{
    static const char keys[] = "indexer_types|index_topk_pattern";
    char key[64], text[96];
    const json_t *v;

    MB_TRY(mb_cfg_get(c, keys, &v, key, sizeof key));
    *found = v != NULL;
    if (v == NULL)
        return MB_OK;
    size_t n = json_is_array(v) ? json_array_size(v) : json_is_string(v) ? json_string_length(v) : 0;
    if (n != (size_t)m->layers)
        return mb_error(MB_MODEL, "%s: %s: expected %d layers, found %s", c->path, key, m->layers, mb_cfg_text(v, text, sizeof text));
    for (int32_t l = 0; l < m->layers; l++)
        MB_TRY(entry(c, key, v, l, &m->indexer.shares[l]));
    if (m->indexer.shares[0])
        return mb_error(MB_MODEL, "%s: %s: expected full for layer 0 (there is none before it), found shared", c->path, key);
    return MB_OK;
}

static enum mb_status load_shares(struct mb_model *m, const struct mb_cfg *c)
{
    int64_t freq = 1, offset = 2;
    bool found;

    MB_TRY(by_list(m, c, &found));
    if (found)
        return MB_OK;
    MB_TRY(mb_cfg_int(c, "index_topk_freq", 1, INT32_MAX, &freq, NULL));
    MB_TRY(mb_cfg_int(c, "index_skip_topk_offset", 0, INT32_MAX, &offset, NULL));
    for (int32_t l = 1; l < m->layers; l++) {
        int64_t at = l - offset + 1;
        m->indexer.shares[l] = (at > 0 ? at : 0) % freq != 0;
    }
    return MB_OK;
}

enum mb_status mb_load_indexer(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    struct mb_indexer *x = &m->indexer;

    MB_TRY(need(c, "index_topk", MAX_INDEX_TOPK, &x->topk));
    MB_TRY(need(c, "index_n_heads", MAX_INDEX_HEADS, &x->heads));
    MB_TRY(need(c, "index_head_dim", MAX_INDEX_WIDTH, &x->width));
    if (m->q_lora == 0)
        return mb_error(MB_MODEL, "%s: q_lora_rank: expected a width (the indexer reads the compressed query), found none", c->path);
    if (x->width < m->rope_mla)
        return mb_error(MB_MODEL, "%s: index_head_dim: expected at least qk_rope_head_dim %d, found %d", c->path, m->rope_mla, x->width);
    if ((int64_t)x->heads * x->width > 1 << 20)
        return mb_error(MB_MODEL, "%s: index_n_heads: expected heads x width of at most %d, found %d x %d", c->path, 1 << 20, x->heads,
                        x->width);
    x->rope = a->index_rope;
    x->shares = calloc((size_t)m->layers + 1, 1);
    if (x->shares == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d layers", m->layers);
    return load_shares(m, c);
}
