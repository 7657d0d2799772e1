/* Shares of heads, widths, columns and tree nodes. */
#include "plan/parts.h"

/* Of heads with outputs of dv each, `group` of them on a KV head. */
static struct mb_part_heads share_heads(int32_t heads, int32_t dv, int32_t group, int32_t r, int32_t of)
{
    int64_t leaf[MB_MAX_LEAVES + 1];
    int32_t S = mb_k_leaves((int64_t)heads * dv, dv, leaf);
    struct mb_part_heads h;

    h.head0 = (int32_t)(leaf[mb_share(S, r, of)] / dv);
    h.heads = (int32_t)(leaf[mb_share(S, r + 1, of)] / dv) - h.head0;
    h.kv0 = h.head0 / group;
    h.kv_heads = (h.head0 + h.heads - 1) / group + 1 - h.kv0;
    return h;
}

struct mb_part_heads mb_part_heads(const struct mb_model *m, int32_t r, int32_t of)
{
    return share_heads(m->heads, m->v_dim, m->heads / m->kv_heads, r, of);
}

struct mb_part_heads mb_part_delta(const struct mb_model *m, int32_t r, int32_t of)
{
    const struct mb_delta_shape *d = &m->delta;

    if (m->linear_layers == 0)
        return (struct mb_part_heads){0};
    return share_heads(d->value_heads, d->dv, d->value_heads / d->key_heads, r, of);
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

/* Leaves of a sum over K inputs that rank r of `of` has, in inputs. */
static void share_of_leaves(int64_t K, int64_t unit, int32_t r, int32_t of, int64_t *a, int64_t *b)
{
    int64_t leaf[MB_MAX_LEAVES + 1];
    int32_t S = mb_k_leaves(K, unit, leaf);

    *a = leaf[mb_share(S, r, of)];
    *b = leaf[mb_share(S, r + 1, of)];
}

struct mb_part_matrix mb_part_matrix(const struct mb_model *m, enum mb_role role, int64_t n, int64_t k,
                                     int32_t r, int32_t of)
{
    struct mb_part_matrix p = {0, n, 0, k, 0};
    struct mb_part_heads h = mb_part_heads(m, r, of);
    int64_t first = h.head0, heads = h.heads, each = m->head_dim;

    switch (role) {
    case MB_T_O:
        p.unit = m->v_dim;
        share_of_leaves(k, p.unit, r, of, &p.k0, &p.k1);
        return p;
    case MB_T_DOWN:
    case MB_T_SH_DOWN:
    case MB_T_E_DOWN:
        p.unit = mb_k_unit(k);
        share_of_leaves(k, p.unit, r, of, &p.k0, &p.k1);
        return p;
    case MB_T_GATE:
    case MB_T_UP:
    case MB_T_SH_GATE:
    case MB_T_SH_UP:
    case MB_T_E_GATE:
    case MB_T_E_UP:
        share_of_leaves(n, mb_k_unit(n), r, of, &p.n0, &p.n1);
        return p;
    case MB_T_K:
    case MB_T_V:
        first = h.kv0;
        heads = h.kv_heads;
        each = role == MB_T_V ? m->v_dim : m->head_dim;
        break;
    case MB_T_Q:
    case MB_T_Q_BPROJ:
        break;
    case MB_T_KV_B:
        each = m->nope + m->v_dim;
        break;
    default:
        return p;
    }
    p.n0 = first * each;
    p.n1 = p.n0 + heads * each;
    return p;
}
