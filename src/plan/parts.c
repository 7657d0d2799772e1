/* Shares of heads, widths, columns and tree nodes. */
#include "plan/parts.h"

struct mb_part_heads mb_part_heads(const struct mb_model *m, int32_t r, int32_t of)
{
    int64_t leaf[MB_MAX_LEAVES + 1];
    int32_t S = mb_k_leaves((int64_t)m->heads * m->v_dim, m->v_dim, leaf), group = m->heads / m->kv_heads;
    struct mb_part_heads h;

    h.head0 = (int32_t)(leaf[mb_share(S, r, of)] / m->v_dim);
    h.heads = (int32_t)(leaf[mb_share(S, r + 1, of)] / m->v_dim) - h.head0;
    h.kv0 = h.head0 / group;
    h.kv_heads = (h.head0 + h.heads - 1) / group + 1 - h.kv0;
    return h;
}

int64_t mb_part_width(int64_t ffn, int32_t r, int32_t of)
{
    int64_t leaf[MB_MAX_LEAVES + 1];

    if (ffn == 0)
        return 0;
    int32_t S = mb_k_leaves(ffn, mb_k_unit(ffn), leaf);
    return leaf[mb_share(S, r + 1, of)] - leaf[mb_share(S, r, of)];
}

void mb_part_vocab(int64_t vocab, int32_t r, int32_t of, int64_t *v0, int64_t *v1)
{
    int64_t leaf = mb_vocab_leaf(vocab), a = leaf * mb_share(16, r, of), b = leaf * mb_share(16, r + 1, of);

    *v0 = a < vocab ? a : vocab;
    *v1 = b < vocab ? b : vocab;
}

int32_t mb_part_nodes(int32_t S, int32_t r, int32_t of, int32_t first[MB_MAX_LEAVES],
                      int32_t count[MB_MAX_LEAVES])
{
    int32_t pos[MB_MAX_LEAVES];
    uint8_t held[MB_MAX_LEAVES];

    for (int32_t i = 0; i < S; i++) {
        pos[i] = i;
        held[i] = i >= mb_share(S, r, of) && i < mb_share(S, r + 1, of);
    }
    return mb_tree_maximal(pos, held, S, first, count);
}
