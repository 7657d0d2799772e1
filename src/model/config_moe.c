/* config.json: experts, router, shared expert, dense layers. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "model/load.h"

enum { MAX_EXPERTS = 65535, MAX_FFN = 1 << 22, MAX_ALL_EXPERTS = 1 << 18 }; /* four times those of the largest model known */

#define EXPERT_KEYS "num_local_experts|num_experts|n_routed_experts|moe_num_experts|ffn_config.moe_num_experts"
#define K_KEYS "num_experts_per_tok|experts_per_token|moe_k|moe_topk|ffn_config.moe_top_k"

static enum mb_status load_k(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c, int32_t k_override)
{
    int64_t k;

    MB_TRY(mb_cfg_need_int_each(c, K_KEYS, 1, MAX_EXPERTS, m->layers, &k));
    if (k > m->router.experts)
        return mb_error(MB_MODEL, "%s: num_experts_per_tok: expected at most the %d experts, found %lld", c->path,
                        m->router.experts, (long long)k);
    if (k_override != 0 && (k_override < 1 || k_override > m->router.experts))
        return mb_error(MB_LAYOUT, "--k: expected 1 to the %d experts of %s, found %d", m->router.experts, c->path, k_override);
    if (k_override != 0)
        k = k_override;
    if (a->k_fixed != 0 && k != a->k_fixed)
        return mb_error(k_override != 0 ? MB_LAYOUT : MB_MODEL, "%s: %s: expected %d (the router of %s picks so many), found %lld",
                        c->path, k_override != 0 ? "--k" : "num_experts_per_tok", a->k_fixed, a->name, (long long)k);
    m->router.k = (int32_t)k;
    return MB_OK;
}

static enum mb_status need_word(const struct mb_cfg *c, const char *key, const char *want)
{
    const char *word = NULL;

    if (want == NULL)
        return MB_OK;
    MB_TRY(mb_cfg_str(c, key, &word, NULL));
    if (word != NULL && !mb_arch_lists(want, word))
        return mb_error(MB_MODEL, "%s: %s: expected %s, found \"%.60s\"", c->path, key, want, word);
    return MB_OK;
}

static enum mb_status load_method(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    const char *method = "greedy";

    m->router.kind = a->router;
    MB_TRY(need_word(c, "topk_method", a->method));
    MB_TRY(need_word(c, "scoring_func|score_function", a->scoring));
    if (!a->by_method)
        return MB_OK;
    MB_TRY(mb_cfg_str(c, "topk_method", &method, NULL));
    if (strcmp(method, "group_limited_greedy") == 0)
        m->router.kind = MB_ROUTER_SOFTMAX_GROUPED;
    else if (strcmp(method, "greedy") != 0)
        return mb_error(MB_MODEL, "%s: topk_method: expected greedy or group_limited_greedy, found \"%.60s\"", c->path, method);
    return MB_OK;
}

static enum mb_status load_groups(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c, int32_t k_override)
{
    struct mb_router *r = &m->router;
    int64_t g = a->groups_default, tg = a->groups_default;

    r->groups = r->topk_groups = 1;
    if (!mb_router_grouped(r->kind))
        return MB_OK;
    MB_TRY(g > 0 ? mb_cfg_int(c, "n_group", 1, MAX_EXPERTS, &g, NULL) : mb_cfg_need_int(c, "n_group", 1, MAX_EXPERTS, &g));
    MB_TRY(tg > 0 ? mb_cfg_int(c, "topk_group", 1, MAX_EXPERTS, &tg, NULL)
                  : mb_cfg_need_int(c, "topk_group", 1, MAX_EXPERTS, &tg));
    if (r->experts % g != 0)
        return mb_error(MB_MODEL, "%s: n_group: expected a divisor of the %d experts, found %lld", c->path, r->experts,
                        (long long)g);
    if (tg > g)
        return mb_error(MB_MODEL, "%s: topk_group: expected at most the %lld groups, found %lld", c->path, (long long)g,
                        (long long)tg);
    if (r->kind != MB_ROUTER_SOFTMAX_GROUPED && g > 1 && r->experts / g < 2)
        return mb_error(MB_MODEL, "%s: n_group: expected groups of at least 2 of the %d experts (a group's score is the sum of its "
                        "2 largest), found %lld groups", c->path, r->experts, (long long)g);
    if (r->k > tg * (r->experts / g))
        return mb_error(k_override != 0 ? MB_LAYOUT : MB_MODEL, "%s: %s: expected at most the %lld experts of %lld groups, found %d",
                        c->path, k_override != 0 ? "--k" : "num_experts_per_tok", (long long)(tg * (r->experts / g)),
                        (long long)tg, r->k);
    r->groups = (int32_t)g;
    r->topk_groups = (int32_t)tg;
    return MB_OK;
}

static enum mb_status load_weights_rule(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    struct mb_router *r = &m->router;
    bool on = a->renorm_if.value;
    double scale = a->scaling_default, p = 1, eps = 0.01, least = 1e-12;

    if (a->renorm_if.key != NULL)
        MB_TRY(mb_cfg_bool(c, a->renorm_if.key, &on));
    if (a->pnorm_key != NULL) {
        const json_t *v;
        struct mb_cfg ffn = {json_object_get(c->root, "ffn_config"), c->path, ""};
        MB_TRY(mb_cfg_real(c, a->pnorm_key, 1e-3, 1e3, &p, NULL));
        v = json_object_get(ffn.root, strrchr(a->pnorm_key, '.') + 1);
        on = on && !(v != NULL && json_is_null(v)); /* null: not normalised; absent: p = 1 */
    }
    if (a->scaled)
        MB_TRY(mb_cfg_real(c, "routed_scaling_factor|router_scaling_factor", 1e-6, 1e6, &scale, NULL));
    if (r->kind == MB_ROUTER_SPARSEMIXER)
        MB_TRY(mb_cfg_real(c, "router_jitter_noise", 0, 1, &eps, NULL));
    if (a->renorm == MB_RENORM_SUM_MIN)
        MB_TRY(mb_cfg_real(c, "moe_norm_min", 0, 1, &least, NULL));
    r->least = a->renorm == MB_RENORM_SUM_MIN ? (float)least : 0;
    r->renorm = on ? a->renorm : MB_RENORM_NONE;
    r->p = (float)p;
    r->scale = a->scaled ? (float)scale : 1;
    r->eps = r->kind == MB_ROUTER_SPARSEMIXER ? (float)eps : 0;
    return MB_OK;
}

static enum mb_status load_widths(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    int64_t x, shared = a->shared_default;

    MB_TRY(mb_cfg_need_int_each(c, a->width_key, 1, MAX_FFN, m->layers, &x));
    m->expert_ffn = (int32_t)x;
    if (a->shared_key == NULL)
        return MB_OK;
    MB_TRY(mb_cfg_int_each(c, a->shared_key, 0, a->shared_count ? 1024 : MAX_FFN, m->layers, &shared, NULL));
    if (a->shared_count)
        shared *= m->expert_ffn;
    if (shared > MAX_FFN)
        return mb_error(MB_MODEL, "%s: %s: expected a shared width of at most %d, found %lld", c->path, a->shared_key, MAX_FFN,
                        (long long)shared);
    m->shared_ffn = (int32_t)shared;
    m->shared_gate = a->shared_gate && shared > 0;
    return MB_OK;
}

/* ---------------------------------------------------------------- which layers have experts */
static enum mb_status layers_by_step(struct mb_model *m, const struct mb_cfg *c)
{
    int64_t step = 1;
    size_t n;
    int64_t *only = malloc(((size_t)m->layers + 1) * sizeof *only);

    if (only == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d layers", m->layers);
    enum mb_status st = mb_cfg_int(c, "decoder_sparse_step", 1, INT32_MAX, &step, NULL);
    if (st == MB_OK)
        st = mb_cfg_ints(c, "mlp_only_layers", 0, m->layers - 1, only, (size_t)m->layers, &n);
    if (st == MB_OK) {
        for (int32_t l = 0; l < m->layers; l++)
            m->is_moe[l] = (l + 1) % step == 0;
        for (size_t i = 0; i < n; i++)
            m->is_moe[only[i]] = 0;
    }
    free(only);
    return st;
}

/* "dense" or "sparse" of each layer; *found false: no such list. */
static enum mb_status layers_by_type(struct mb_model *m, const struct mb_cfg *c, bool *found)
{
    const json_t *v;
    char text[96];

    MB_TRY(mb_cfg_get(c, "mlp_layer_types", &v, NULL, 0));
    *found = v != NULL;
    if (v == NULL)
        return MB_OK;
    if (!json_is_array(v) || json_array_size(v) != (size_t)m->layers)
        return mb_error(MB_MODEL, "%s: mlp_layer_types: expected a list of %d, found %s", c->path, m->layers,
                        mb_cfg_text(v, text, sizeof text));
    for (int32_t l = 0; l < m->layers; l++) {
        const json_t *x = json_array_get(v, (size_t)l);
        const char *s = json_is_string(x) ? json_string_value(x) : "";
        m->is_moe[l] = strcmp(s, "sparse") == 0;
        if (!m->is_moe[l] && strcmp(s, "dense") != 0)
            return mb_error(MB_MODEL, "%s: mlp_layer_types: expected dense or sparse, found %s", c->path,
                            mb_cfg_text(x, text, sizeof text));
    }
    return MB_OK;
}

static enum mb_status layers_in_range(struct mb_model *m, const struct mb_cfg *c)
{
    int64_t start = 1, end = -1, every = 1;

    MB_TRY(mb_cfg_int_each(c, "moe_layer_start_index", 0, INT32_MAX, 1, &start, NULL));
    MB_TRY(mb_cfg_int_each(c, "moe_layer_end_index", -1, INT32_MAX, 1, &end, NULL));
    MB_TRY(mb_cfg_int(c, "moe_layer_interval", 1, INT32_MAX, &every, NULL));
    end = end < 0 ? m->layers - 1 : end;
    for (int32_t l = 0; l < m->layers; l++)
        m->is_moe[l] = (l + 1) % every == 0 && l >= start && l <= end;
    return MB_OK;
}

static enum mb_status layers_interleaved(struct mb_model *m, const struct mb_cfg *c)
{
    int64_t step = 1, *list = malloc(((size_t)m->layers + 1) * sizeof *list);
    const json_t *v = NULL;
    size_t n = 0;

    if (list == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d layers", m->layers);
    enum mb_status st = mb_cfg_get(c, "moe_layers", &v, NULL, 0);
    if (st == MB_OK)
        st = mb_cfg_ints(c, "moe_layers", 0, m->layers - 1, list, (size_t)m->layers, &n);
    if (st == MB_OK)
        st = mb_cfg_int(c, "interleave_moe_layer_step", 1, INT32_MAX, &step, NULL);
    for (int32_t l = 0; st == MB_OK && v == NULL && l < m->layers; l++)
        m->is_moe[l] = (l + 1) % step == 0;
    for (size_t i = 0; st == MB_OK && i < n; i++)
        m->is_moe[list[i]] = 1;
    free(list);
    return st;
}

static enum mb_status layers_after_dense(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    int64_t dense = a->dense_default, freq = 1;
    bool typed;

    MB_TRY(mb_cfg_int(c, "first_k_dense_replace", 0, m->layers, &dense, NULL));
    MB_TRY(mb_cfg_int(c, "moe_layer_freq", 1, 1, &freq, NULL));
    MB_TRY(layers_by_type(m, c, &typed));
    for (int32_t l = 0; !typed && l < m->layers; l++)
        m->is_moe[l] = l >= dense;
    return MB_OK;
}

static enum mb_status load_layers(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    int64_t mtp = 0;

    if (a->mtp)
        MB_TRY(mb_cfg_int(c, "num_nextn_predict_layers|num_mtp_layers", 0, 1, &mtp, NULL));
    m->mtp_layers = (int32_t)mtp;
    switch (a->moe) {
    case MOE_NONE:
        break;
    case MOE_ALL:
        memset(m->is_moe, 1, (size_t)m->layers);
        break;
    case MOE_STEP:
        MB_TRY(layers_by_step(m, c));
        break;
    case MOE_FIRST_DENSE:
        MB_TRY(layers_after_dense(m, a, c));
        break;
    case MOE_RANGE:
        MB_TRY(layers_in_range(m, c));
        break;
    case MOE_INTERLEAVED:
        MB_TRY(layers_interleaved(m, c));
        break;
    }
    for (int32_t l = 0; l < m->layers; l++)
        m->moe_layers += m->is_moe[l];
    m->is_moe[m->layers] = mtp > 0;
    return MB_OK;
}

enum mb_status mb_load_moe(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c, int32_t k_override)
{
    int64_t x;

    m->is_moe = calloc((size_t)m->layers + 1, 1);
    if (m->is_moe == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d layers", m->layers);
    m->router.groups = m->router.topk_groups = 1;
    m->router.scale = 1;
    m->weight_inside = a->weight_inside;
    MB_TRY(load_layers(m, a, c));
    if (m->moe_layers < m->layers) {
        MB_TRY(mb_cfg_need_int(c, a->dense_key != NULL ? a->dense_key : "intermediate_size", 1, MAX_FFN, &x));
        m->ffn = (int32_t)x;
    }
    if (a->moe == MOE_NONE && k_override != 0)
        return mb_error(MB_LAYOUT, "--k: expected a model with experts, found %s, which is dense", a->name);
    if (m->moe_layers + m->mtp_layers == 0)
        return MB_OK;
    MB_TRY(mb_cfg_need_int(c, EXPERT_KEYS, 1, MAX_EXPERTS, &x));
    m->router.experts = (int32_t)x;
    if (x * (m->moe_layers + m->mtp_layers) > MAX_ALL_EXPERTS)
        return mb_error(MB_MODEL, "%s: num_experts: expected at most %d experts in all layers, found %lld x %d", c->path,
                        MAX_ALL_EXPERTS, (long long)x, m->moe_layers + m->mtp_layers);
    MB_TRY(load_k(m, a, c, k_override));
    MB_TRY(load_method(m, a, c));
    MB_TRY(load_groups(m, a, c, k_override));
    MB_TRY(load_weights_rule(m, a, c));
    return load_widths(m, a, c);
}
