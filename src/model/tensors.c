/* From names in the files to tensors by role: every pattern of the architecture is looked up for each layer and expert it
 * applies to, its stored shape compared, its place computed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "model/load.h"
#include "model/packed_bind.h"

#define MAX_TENSORS ((int64_t)1 << 21) /* six of each expert, and the layers: config_moe.c has the limit of experts */

struct binder {
    struct mb_model *m;
    const char *outer; /* what stands before names of the text part, "" if nothing */
    const char *inner; /* what stands between "model." and the rest of a name */
    struct mb_shards *s;
    const struct mb_quant *q;
    int64_t cap, packed_cap;
};

/* layer -1: a tensor of no layer */
static bool applies(const struct mb_model *m, const struct mb_pattern *p, int32_t layer)
{
    unsigned have = (m->tied ? 0 : N_UNTIED) | (m->head_bias ? N_HEAD_B : 0) | (m->qkv_bias ? N_QKV_B : 0) |
                    (m->o_bias ? N_O_B : 0) | (m->mlp_bias ? N_MLP_B : 0) | (m->q_lora > 0 ? N_QLORA : N_NO_QLORA) |
                    (m->shared_ffn > 0 ? N_SHARED : 0) | (m->qk_norm != MB_QKNORM_NONE ? N_QK_NORM : 0);
    if (layer >= 0)
        have |= (m->is_moe[layer] ? N_MOE : N_DENSE) | (layer == m->layers ? N_MTP : 0) |
                (m->indexer.topk > 0 && !m->indexer.shares[layer] ? N_INDEX : 0) | (mb_is_linear(m, layer) ? N_LINEAR : N_FULL);
    return (p->when & ~have) == 0;
}

/* One alternative of the name with {l} and {e} filled in. */
static void format_name(const char *pattern, size_t n, int32_t layer, int32_t expert, char *out, size_t cap)
{
    size_t at = 0;

    for (size_t i = 0; i < n && at + 12 < cap; i++) {
        if (pattern[i] == '{') {
            at += (size_t)snprintf(out + at, cap - at, "%d", pattern[i + 1] == 'l' ? layer : expert);
            i += 2;
        } else {
            out[at++] = pattern[i];
        }
    }
    out[at] = 0;
}

/* The entry of a name of the text part. Files of a model with parts for images have it below another one. name (cap bytes) gets the
 * whole one. */
static struct mb_st_entry *find_text(const struct binder *b, char *name, size_t cap)
{
    char whole[MB_ST_MAX_NAME + 1];
    bool below = strncmp(name, "model.", 6) == 0 && b->inner[0] != 0;

    if (below || b->outer[0] != 0) {
        snprintf(whole, sizeof whole, "%s%s%s%.900s", b->outer, below ? "model." : "", below ? b->inner : "", below ? name + 6 : name);
        snprintf(name, cap, "%s", whole);
    }
    return mb_shards_find(b->s, name);
}

/* The entry under any of the pattern's names; name gets the one found, else the first. */
static struct mb_st_entry *find_entry(const struct binder *b, const struct mb_pattern *p, int32_t layer, int32_t expert,
                                      char *name, size_t cap)
{
    for (const char *alt = p->name; *alt != 0;) {
        size_t n = strcspn(alt, "|");
        format_name(alt, n, layer, expert, name, cap);
        struct mb_st_entry *e = find_text(b, name, cap);
        if (e != NULL)
            return e;
        alt += n + (alt[n] == '|');
    }
    format_name(p->name, strcspn(p->name, "|"), layer, expert, name, cap);
    return NULL;
}

static enum mb_status check_shape(const struct binder *b, const struct mb_pattern *p, const struct mb_st_entry *e,
                                  const char *name)
{
    int64_t want[4];
    int rank = 0;
    char ta[128], tb[256];

    if (p->shape[0] == D_END) {
        if (p->n != D_ONE)
            want[rank++] = mb_dim_value(b->m, p->n);
        want[rank++] = mb_dim_value(b->m, p->k);
    }
    for (int i = 0; i < 4 && p->shape[i] != D_END; i++)
        want[rank++] = mb_dim_value(b->m, p->shape[i]);
    bool same = rank == e->rank;
    for (int i = 0; i < rank && same; i++)
        same = want[i] == e->shape[i];
    if (same)
        return MB_OK;
    mb_st_shape_text(want, rank, ta, sizeof ta);
    mb_st_shape_text(e->shape, e->rank, tb, sizeof tb);
    return mb_error(MB_MODEL, "%s/%s: %s: shape: expected %s from config.json, found %s", b->s->dir, b->s->files[e->file], name,
                    ta, tb);
}

/* Strides and offset of the logical [n, k]. */
static void place(const struct binder *b, const struct mb_pattern *p, const struct mb_st_entry *e, int32_t expert,
                  struct mb_tensor *t)
{
    int64_t every = p->layout & (L_EVEN | L_ODD) ? 2 : 1, of = p->layout & L_HALVES ? 2 : every, start;
    bool transposed = (p->layout & L_TRANSPOSED) != 0;

    t->n = mb_dim_value(b->m, p->n);
    t->k = mb_dim_value(b->m, p->k);
    t->stride_n = transposed ? every : t->k * every;
    t->stride_k = transposed ? t->n * of : p->n == D_ONE ? every : 1;
    start = mb_dim_value(b->m, p->start) * (transposed || p->n == D_ONE ? 1 : t->k);
    if (p->layout & L_STACKED)
        start += expert * t->n * t->k * of;
    if (p->layout & L_ODD)
        start += 1;
    t->storage = (uint8_t)mb_st_storage(e->dtype);
    t->file = (uint16_t)e->file;
    t->offset = e->offset + (uint64_t)start * (uint64_t)mb_storage_size((enum mb_storage)t->storage);
}

/* The scale's blocks: as the config says, or one for each row, or one for all. False: the shape is none of these. */
static bool scale_blocks(const struct mb_quant *q, const struct mb_st_entry *e, const struct mb_st_entry *se, struct mb_tensor *t)
{
    int64_t rows = e->shape[0], cols = e->shape[1], n = 1;

    for (int i = 0; i < se->rank; i++)
        n = se->shape[i] > rows * cols ? 0 : n * se->shape[i]; /* no product of hostile sizes */
    t->block_n = q->block_n;
    t->block_k = q->block_k;
    if (q->block_n > 0 && se->rank == 2 && se->shape[0] == (rows + q->block_n - 1) / q->block_n &&
        se->shape[1] == (cols + q->block_k - 1) / q->block_k) {
        t->scale_stride = (int32_t)se->shape[1];
        return true;
    }
    t->scale_stride = 1;
    t->block_k = (int32_t)cols;
    t->block_n = n == 1 ? (int32_t)rows : 1;
    return n == 1 || (n == rows && (se->rank == 1 || (se->rank == 2 && se->shape[0] == rows)));
}

static enum mb_status place_scale(const struct binder *b, const struct mb_pattern *p, const struct mb_st_entry *e,
                                  const char *name, struct mb_tensor *t)
{
    char scale_name[MB_ST_MAX_NAME + 16], shape[256];
    const char *file = b->s->files[e->file], *dtype = mb_st_dtype_name(e->dtype);

    if (!b->q->fp8)
        return mb_error(MB_MODEL, "%s/%s: %s: dtype: expected F32, F16 or BF16 (config.json has no fp8 quantization_config), found "
                        "%s", b->s->dir, file, name, dtype);
    if (e->rank != 2 || p->layout != L_PLAIN)
        return mb_error(MB_MODEL, "%s/%s: %s: dtype: expected F32, F16 or BF16 for a tensor of this layout, found %s",
                        b->s->dir, file, name, dtype);
    snprintf(scale_name, sizeof scale_name, "%s_scale_inv", name);
    struct mb_st_entry *se = mb_shards_find(b->s, scale_name);
    if (se == NULL) {
        snprintf(scale_name, sizeof scale_name, "%s_scale", name);
        se = mb_shards_find(b->s, scale_name);
    }
    if (se == NULL)
        return mb_error(MB_MODEL, "%s/%s: %s_scale_inv or %s_scale: expected one of them with %s, found neither", b->s->dir, file, name,
                        name, name);
    mb_st_shape_text(se->shape, se->rank, shape, sizeof shape);
    int storage = mb_st_storage(se->dtype);
    bool widens = storage == MB_STORE_F32 || storage == MB_STORE_F16 || storage == MB_STORE_BF16;
    if (!widens || !scale_blocks(b->q, e, se, t))
        return mb_error(MB_MODEL, "%s/%s: %s: shape: expected [%lld, %lld] of F32, F16 or BF16, one of each row, or one, found %s of %s",
                        b->s->dir, b->s->files[se->file], scale_name,
                        (long long)(b->q->block_n > 0 ? (e->shape[0] + b->q->block_n - 1) / b->q->block_n : e->shape[0]),
                        (long long)(b->q->block_k > 0 ? (e->shape[1] + b->q->block_k - 1) / b->q->block_k : 1), shape,
                        mb_st_dtype_name(se->dtype));
    se->used = true;
    t->scale_offset = se->offset;
    t->scale_bytes = se->bytes;
    t->scale_file = (uint16_t)se->file;
    t->scale_storage = (uint8_t)storage;
    t->scale_n0 = mb_dim_value(b->m, p->start);
    return MB_OK;
}

static enum mb_status push(struct binder *b, const struct mb_tensor *t)
{
    struct mb_model *m = b->m;

    if (m->n_tensors == b->cap) {
        int64_t cap = b->cap == 0 ? 256 : 2 * b->cap;
        if (cap > MAX_TENSORS)
            return mb_error(MB_MODEL, "%s: tensors: expected at most %lld, found more", m->dir, (long long)MAX_TENSORS);
        void *p = realloc(m->tensors, (size_t)cap * sizeof *m->tensors);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "%s: no memory for %lld tensors", m->dir, (long long)cap);
        m->tensors = p;
        b->cap = cap;
    }
    memcpy(m->tensors + m->n_tensors++, t, sizeof *t); /* with its zero padding: tables are compared and hashed as bytes */
    return MB_OK;
}

/* What the files of this config would hold. FP8 checkpoints quantise the matrices of attention and FFN only. */
static enum mb_status push_expected(struct binder *b, const struct mb_pattern *p, int32_t layer, int32_t expert)
{
    struct mb_tensor t;
    bool matrix = p->n != D_ONE && p->layout == L_PLAIN && p->role != MB_T_EMBED && p->role != MB_T_HEAD &&
                  p->role != MB_T_ROUTER && p->role != MB_T_MTP_PROJ;

    memset(&t, 0, sizeof t);
    t.role = p->role;
    t.layer = layer;
    t.expert = expert;
    t.file = UINT16_MAX;
    t.n = mb_dim_value(b->m, p->n);
    t.k = t.stride_n = mb_dim_value(b->m, p->k);
    t.stride_k = 1;
    t.storage = (uint8_t)b->q->storage;
    if (b->q->fp8 && matrix) {
        t.storage = MB_STORE_F8E4M3;
        t.block_n = b->q->block_n > 0 ? b->q->block_n : b->q->by_row ? 1 : (int32_t)t.n;
        t.block_k = b->q->block_n > 0 ? b->q->block_k : (int32_t)t.k;
        t.scale_stride = (int32_t)((t.k + t.block_k - 1) / t.block_k);
        t.scale_bytes = 4 * (uint64_t)t.scale_stride * (uint64_t)((t.n + t.block_n - 1) / t.block_n);
    }
    return push(b, &t);
}

/* Appends to the table of packed weights; *index gets 1 + its place. */
static enum mb_status push_packed(struct binder *b, const struct mb_packed *p, int32_t *index)
{
    struct mb_model *m = b->m;

    if (m->n_packed == b->packed_cap) {
        int64_t cap = b->packed_cap == 0 ? 256 : 2 * b->packed_cap;
        void *more = realloc(m->packed, (size_t)cap * sizeof *m->packed);
        if (more == NULL)
            return mb_error(MB_NO_MEMORY, "%s: no memory for %lld packed weights", m->dir, (long long)cap);
        m->packed = more;
        b->packed_cap = cap;
    }
    memcpy(m->packed + m->n_packed++, p, sizeof *p);
    *index = (int32_t)m->n_packed; /* MAX_TENSORS bounds it */
    return MB_OK;
}

/* A weight in one of the packed formats, under any of the pattern's names; *found false: there is none. */
static enum mb_status bind_packed(struct binder *b, const struct mb_pattern *p, int32_t layer, int32_t expert, bool *found)
{
    const char *tail = ".weight";
    char name[MB_ST_MAX_NAME + 1];
    struct mb_tensor t;
    struct mb_packed k;
    bool stacked = (p->layout & L_STACKED) != 0;

    *found = false;
    if (p->n == D_ONE || p->start != D_END || (p->layout & L_HALVES) || (stacked ? !(p->layout & L_TRANSPOSED) : p->layout != L_PLAIN))
        return MB_OK;
    for (const char *alt = p->name; *alt != 0 && !*found;) {
        size_t n = strcspn(alt, "|");
        format_name(alt, n, layer, expert, name, sizeof name);
        (void)find_text(b, name, sizeof name); /* packed files have no such tensor, but the name is where its parts are */
        size_t len = strlen(name), cut = strlen(tail);
        bool weight = len > cut && strcmp(name + len - cut, tail) == 0;
        struct mb_packed_want w = {.s = b->s, .q = b->q, .name = name,
                                   .module = (int)(weight ? len - cut : len), .n = (int32_t)mb_dim_value(b->m, p->n),
                                   .k = (int32_t)mb_dim_value(b->m, p->k), .stacked = stacked, .expert = expert,
                                   .experts = b->m->router.experts, .row0 = (p->layout & L_ODD) != 0,
                                   .row_step = p->layout & (L_EVEN | L_ODD) ? 2 : 1};
        if (weight || stacked)
            MB_TRY(mb_packed_bind(&w, &k, found));
        alt += n + (alt[n] == '|');
    }
    if (!*found)
        return MB_OK;
    memset(&t, 0, sizeof t);
    t.role = p->role;
    t.layer = layer;
    t.expert = expert;
    t.storage = MB_STORE_F32;
    t.file = k.code.file;
    t.offset = k.code.offset;
    t.n = k.n;
    t.k = t.stride_n = k.k;
    t.stride_k = 1;
    MB_TRY(push_packed(b, &k, &t.packed));
    return push(b, &t);
}

static enum mb_status bind_one(struct binder *b, const struct mb_pattern *p, int32_t layer, int32_t expert)
{
    char name[MB_ST_MAX_NAME + 1];
    struct mb_tensor t;
    struct mb_st_entry *e;
    bool packed = false;

    if (b->s == NULL)
        return p->layout & L_UNUSED ? MB_OK : push_expected(b, p, layer, expert);
    if (!(p->layout & L_UNUSED))
        MB_TRY(bind_packed(b, p, layer, expert, &packed));
    if (packed)
        return MB_OK;
    e = find_entry(b, p, layer, expert, name, sizeof name);
    if (p->layout & L_UNUSED) {
        if (e != NULL)
            e->used = true;
        return MB_OK;
    }
    if (e == NULL)
        return mb_error(MB_MODEL, "%s: %s: expected this tensor, found none of that name", b->s->dir, name);
    e->used = true;
    MB_TRY(check_shape(b, p, e, name));
    if (mb_st_storage(e->dtype) < 0)
        return mb_error(MB_MODEL, "%s/%s: %s: dtype: expected F32, F16, BF16, F8_E4M3 or F8_E5M2, found %s", b->s->dir,
                        b->s->files[e->file], name, mb_st_dtype_name(e->dtype));
    memset(&t, 0, sizeof t);
    t.role = p->role;
    t.layer = layer;
    t.expert = expert;
    place(b, p, e, expert, &t);
    if (mb_storage_fp8((enum mb_storage)t.storage))
        MB_TRY(place_scale(b, p, e, name, &t));
    return push(b, &t);
}

static enum mb_status bind_pattern(struct binder *b, const struct mb_pattern *p)
{
    struct mb_model *m = b->m;
    bool per_layer = strstr(p->name, "{l}") != NULL;
    bool per_expert = strstr(p->name, "{e}") != NULL || (p->layout & L_STACKED) != 0;

    if (!per_layer)
        return applies(m, p, -1) ? bind_one(b, p, -1, -1) : MB_OK;
    for (int32_t l = 0; l < m->layers + m->mtp_layers; l++) {
        if (!applies(m, p, l))
            continue;
        if (!per_expert)
            MB_TRY(bind_one(b, p, l, -1));
        for (int32_t e = 0; per_expert && e < m->router.experts; e++)
            MB_TRY(bind_one(b, p, l, e));
    }
    return MB_OK;
}

static int by_role(const void *pa, const void *pb)
{
    const struct mb_tensor *a = pa, *b = pb;
    if (a->role != b->role)
        return a->role < b->role ? -1 : 1;
    if (a->layer != b->layer)
        return a->layer < b->layer ? -1 : 1;
    return (a->expert > b->expert) - (a->expert < b->expert);
}

/* Published checkpoints sometimes come without the MTP module their config speaks of; the model works without it. */
static void drop_missing_mtp(struct binder *b, const struct mb_arch *a)
{
    char name[MB_ST_MAX_NAME + 1];

    for (int t = 0; b->m->mtp_layers > 0 && t < MB_ARCH_TABLES && a->tables[t] != NULL; t++) {
        for (const struct mb_pattern *p = a->tables[t]; p->name != NULL; p++) {
            if (p->role != MB_T_MTP_PROJ || find_entry(b, p, b->m->layers, -1, name, sizeof name) != NULL)
                continue;
            mb_warn("%s: num_nextn_predict_layers is 1, but there is no %s: going on without the MTP module", b->s->dir, name);
            b->m->mtp_layers = 0;
            b->m->is_moe[b->m->layers] = 0;
        }
    }
}

/* Scales for quantising activations and keys and values: nothing of that kind is quantised here. */
static bool is_activation_scale(const char *name)
{
    static const char *const tails[] = {".input_scale", ".input_global_scale", ".k_scale", ".v_scale", ".kv_scale", ".output_scale"};
    size_t n = strlen(name);

    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        size_t t = strlen(tails[i]);
        if (n > t && strcmp(name + n - t, tails[i]) == 0)
            return true;
    }
    return false;
}

static void warn_activations(const struct mb_shards *s)
{
    int64_t n = 0;

    for (int64_t i = 0; i < s->n_entries; i++) {
        struct mb_st_entry *e = s->entries + i;
        if (e->used || !is_activation_scale(mb_st_name(s, e)))
            continue;
        e->used = true;
        n++;
    }
    if (n > 0)
        mb_warn("%s: %lld scales are for quantised activations, keys or values and are ignored: here only weights are quantised",
                s->dir, (long long)n);
}

/* Parts of the files that are of no use here. */
static void skip_parts(const struct mb_shards *s, const char *skip)
{
    for (int64_t i = 0; skip != NULL && i < s->n_entries; i++) {
        const char *name = mb_st_name(s, s->entries + i);
        for (const char *p = skip; *p != 0;) {
            size_t n = strcspn(p, "|");
            s->entries[i].used |= strncmp(name, p, n) == 0;
            p += n + (p[n] == '|');
        }
    }
}

/* Whether the files have experts fused that others have one by one. */
static bool has_fused(const struct binder *b, const struct mb_arch *a)
{
    char name[MB_ST_MAX_NAME + 1];
    int32_t l = 0;

    while (l < b->m->layers && !b->m->is_moe[l])
        l++;
    for (const struct mb_pattern *p = a->fused; p != NULL && b->s != NULL && l < b->m->layers && p->name != NULL; p++) {
        if (p->role == MB_T_E_GATE)
            return find_entry(b, p, l, 0, name, sizeof name) != NULL;
    }
    return false;
}

static void warn_unused(const struct mb_shards *s)
{
    const struct mb_st_entry *first = NULL;
    int64_t n = 0;

    for (int64_t i = 0; i < s->n_entries; i++) {
        const struct mb_st_entry *e = s->entries + i;
        if (e->used)
            continue;
        first = n++ == 0 ? e : first;
    }
    if (n > 0)
        mb_warn("%s: %lld tensors have no meaning under this config.json and are ignored, the first is %s", s->dir, (long long)n,
                mb_st_name(s, first));
}

/* Where the text part's names lie. */
static void find_prefix(struct binder *b)
{
    static const char *const places[][2] = {{"", ""}, {"language_model.", ""}, {"", "language_model."}, {"model.language_model.", ""}};
    static const char *const embeds[] = {"model.embed_tokens.weight", "model.word_embeddings.weight"};
    char name[128];

    b->outer = b->inner = "";
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        for (size_t j = 0; j < 2; j++) {
            struct binder at = {.s = b->s, .outer = places[i][0], .inner = places[i][1]};
            snprintf(name, sizeof name, "%s", embeds[j]);
            if (find_text(&at, name, sizeof name) == NULL)
                continue;
            b->outer = at.outer;
            b->inner = at.inner;
            return;
        }
    }
}

/* A model whose head is tied by the config may have one of its own all the same. */
static enum mb_status untie(struct binder *b, const struct mb_arch *a)
{
    char name[MB_ST_MAX_NAME + 1];
    struct mb_st_entry *embed = NULL, *head = NULL;
    bool own = false;

    for (int t = 0; b->m->tied && t < MB_ARCH_TABLES && a->tables[t] != NULL; t++) {
        for (const struct mb_pattern *p = a->tables[t]; p->name != NULL; p++) {
            if (p->role == MB_T_EMBED && embed == NULL)
                embed = find_entry(b, p, -1, -1, name, sizeof name);
            if (p->role == MB_T_HEAD && head == NULL)
                head = find_entry(b, p, -1, -1, name, sizeof name);
        }
    }
    if (head == NULL || embed == NULL)
        return MB_OK;
    head->used = true;
    MB_TRY(mb_compare_head(b->s, embed, head, &own));
    b->m->tied = !own;
    return MB_OK;
}

enum mb_status mb_load_tensors(struct mb_model *m, const struct mb_arch *a, struct mb_shards *s, const struct mb_quant *q)
{
    struct binder b = {.m = m, .outer = "", .inner = "", .s = s, .q = q};

    if (s != NULL) {
        find_prefix(&b);
        drop_missing_mtp(&b, a);
        MB_TRY(untie(&b, a));
    }
    bool fused = has_fused(&b, a);
    for (int t = 0; t < MB_ARCH_TABLES && a->tables[t] != NULL; t++) {
        for (const struct mb_pattern *p = fused && a->tables[t] == a->split ? a->fused : a->tables[t]; p->name != NULL; p++)
            MB_TRY(bind_pattern(&b, p));
    }
    qsort(m->tensors, (size_t)m->n_tensors, sizeof *m->tensors, by_role);
    if (s != NULL) {
        warn_activations(s);
        skip_parts(s, a->skip);
        warn_unused(s);
    }
    return MB_OK;
}

bool mb_model_plus_one(const struct mb_model *m, enum mb_role role)
{
    return m->norm_plus_one && (role == MB_T_FINAL_NORM || role == MB_T_ATTN_NORM || role == MB_T_FFN_NORM || role == MB_T_Q_NORM ||
                                role == MB_T_K_NORM);
}

const struct mb_tensor *mb_model_tensor(const struct mb_model *m, enum mb_role role, int32_t layer, int32_t expert)
{
    struct mb_tensor key = {.role = (uint8_t)role, .layer = layer, .expert = expert};
    if (m->n_tensors == 0)
        return NULL;
    return bsearch(&key, m->tensors, (size_t)m->n_tensors, sizeof key, by_role);
}

uint64_t mb_tensor_span(const struct mb_tensor *t)
{
    if (t->n == 0 || t->k == 0)
        return 0;
    return (uint64_t)((t->n - 1) * t->stride_n + (t->k - 1) * t->stride_k + 1) *
           (uint64_t)mb_storage_size((enum mb_storage)t->storage);
}
