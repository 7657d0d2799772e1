/* What becomes of each tensor of a directory that is quantised. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "model/quantise_impl.h"

static bool is_expert(uint8_t role)
{
    return role == MB_T_E_GATE || role == MB_T_E_UP || role == MB_T_E_DOWN;
}

/* Which matrices a form is for. What is wide in published models stays so: embedding, head, router, gates of
 * shared experts, kv_b of latent attention, the MTP module's own projection. */
static bool wanted(enum mb_quantised to, uint8_t role)
{
    static const enum mb_role roles[] = {MB_T_Q,       MB_T_K,     MB_T_V,      MB_T_O,  MB_T_Q_A,
                                         MB_T_Q_BPROJ, MB_T_KV_A,  MB_T_GATE,   MB_T_UP, MB_T_DOWN,
                                         MB_T_SH_GATE, MB_T_SH_UP, MB_T_SH_DOWN};

    if (is_expert(role))
        return true;
    for (size_t i = 0; to != MB_QUANTISED_MXFP4 && i < sizeof roles / sizeof roles[0]; i++)
        if (role == roles[i])
            return true;
    return false;
}

/* ---------------------------------------------------------------- names */
static bool ends(const char *name, size_t n, const char *tail)
{
    size_t t = strlen(tail);
    return n > t && strcmp(name + n - t, tail) == 0;
}

/* Bytes of a name before what says which part of a matrix it is. */
static int32_t module_of(const char *name)
{
    static const char *const tails[] = {".weight", ".weight_packed", ".qweight", "_blocks"};
    size_t n = strlen(name);

    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (ends(name, n, tails[i]))
            return (int32_t)(n - strlen(tails[i]));
    return (int32_t)n;
}

char *mb_recast_module(const struct mb_recasts *p, int64_t entry)
{
    return strndup(mb_st_name(&p->s, p->s.entries + entry), (size_t)p->v[entry].module);
}

/* ---------------------------------------------------------------- matrices and entries */
static int64_t find_entry(const struct mb_recasts *p, const int64_t *sorted, const struct mb_tensor *t)
{
    int64_t lo = 0, hi = p->s.n_entries;

    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        const struct mb_st_entry *e = p->s.entries + sorted[mid];
        if (e->file < t->file || (e->file == t->file && e->offset <= t->offset))
            lo = mid;
        else
            hi = mid;
    }
    return sorted[lo];
}

static int by_place(const void *pa, const void *pb, void *arg)
{
    const struct mb_st_entry *v = arg, *a = v + *(const int64_t *)pa, *b = v + *(const int64_t *)pb;

    if (a->file != b->file)
        return a->file < b->file ? -1 : 1;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return (a->bytes > b->bytes) - (a->bytes < b->bytes); /* empty ones first: nothing lies in them */
}

/* Which matrices each entry has. */
static enum mb_status map(struct mb_recasts *p)
{
    int64_t n = p->s.n_entries, at = 0, *sorted = calloc((size_t)n + 1, sizeof *sorted);
    int64_t *entry = calloc((size_t)p->m->n_tensors + 1, sizeof *entry);

    p->v = calloc((size_t)n + 1, sizeof *p->v);
    p->by_entry = calloc((size_t)p->m->n_tensors + 1, sizeof *p->by_entry);
    if (sorted == NULL || entry == NULL || p->v == NULL || p->by_entry == NULL) {
        free(sorted);
        free(entry);
        return mb_error(MB_NO_MEMORY, "no memory for %lld tensors", (long long)n);
    }
    for (int64_t i = 0; i < n; i++)
        sorted[i] = i;
    qsort_r(sorted, (size_t)n, sizeof *sorted, by_place, p->s.entries);
    for (int64_t i = 0; i < p->m->n_tensors; i++) {
        entry[i] = find_entry(p, sorted, p->m->tensors + i);
        p->v[entry[i]].count++;
    }
    for (int64_t i = 0; i < n; at += p->v[i].count, p->v[i++].count = 0) {
        p->v[i].first = at;
        p->v[i].module = module_of(mb_st_name(&p->s, p->s.entries + i));
    }
    for (int64_t i = 0; i < p->m->n_tensors; i++) {
        struct mb_recast *e = p->v + entry[i];
        p->by_entry[e->first + e->count++] = i;
    }
    free(sorted);
    free(entry);
    return MB_OK;
}

static const struct mb_tensor *matrix(const struct mb_recasts *p, const struct mb_recast *e, int64_t i)
{
    return p->m->tensors + p->by_entry[e->first + i];
}

/* ---------------------------------------------------------------- fates */
static bool packed(const struct mb_tensor *t)
{
    return t->packed > 0 || t->scale_bytes > 0;
}

/* One matrix, alone, by its rows, under a name of its own. */
static bool alone(const struct mb_recasts *p, int64_t i)
{
    const struct mb_recast *e = p->v + i;
    const struct mb_st_entry *s = p->s.entries + i;
    const struct mb_tensor *t = matrix(p, e, 0);
    const char *name = mb_st_name(&p->s, s);

    if (e->count != 1 || ends(name, strlen(name), "_blocks"))
        return false;
    if (t->packed > 0)
        return true;
    return ends(name, strlen(name), ".weight") && s->rank == 2 && s->shape[0] == t->n &&
           s->shape[1] == t->k && t->stride_k == 1 && t->stride_n == t->k;
}

/* All experts of a layer as gpt-oss has them: gate and up take turns, inputs before outputs. */
static bool stack(const struct mb_recasts *p, int64_t i)
{
    const struct mb_recast *e = p->v + i;
    const struct mb_st_entry *s = p->s.entries + i;
    const struct mb_tensor *t = matrix(p, e, 0);
    const char *name = mb_st_name(&p->s, s);
    bool down = t->role == MB_T_E_DOWN;

    if (!is_expert(t->role) || e->count != (down ? 1 : 2) * (int64_t)p->m->router.experts)
        return false;
    if (t->packed > 0)
        return ends(name, strlen(name), "_blocks");
    return s->rank == 3 && s->shape[0] == p->m->router.experts && s->shape[1] == t->k &&
           s->shape[2] == t->n * (down ? 1 : 2) && t->stride_n == (down ? 1 : 2) &&
           t->stride_k == s->shape[2];
}

int64_t mb_recast_expert_rows(const struct mb_recasts *p, const struct mb_recast *e)
{
    const struct mb_tensor *t = matrix(p, e, 0);
    return t->role == MB_T_E_DOWN ? t->n : 2 * t->n;
}

void mb_recast_rows(const struct mb_recasts *p, const struct mb_recast *e, const struct mb_tensor *t,
                    int64_t *row0, int64_t *step)
{
    *step = t->role == MB_T_E_DOWN ? 1 : 2;
    *row0 = t->expert * mb_recast_expert_rows(p, e) + (t->role == MB_T_E_UP);
}

static enum mb_status no_place(const struct mb_recasts *p, int64_t i, enum mb_quantised to)
{
    const struct mb_st_entry *s = p->s.entries + i;
    return mb_error(MB_MODEL,
                    "%s/%s: %s: expected a tensor for each expert, found one for all of a layer; there is no "
                    "published form of %s for "
                    "it%s",
                    p->s.dir, p->s.files[s->file], mb_st_name(&p->s, s), mb_quantised_name(to),
                    stack(p, i) ? "; --format mxfp4 has one" : "");
}

static void drop(struct mb_recasts *p, int64_t i, const char *const *tails, size_t n)
{
    char name[MB_ST_MAX_NAME + 32];

    for (size_t k = 0; k < n; k++) {
        snprintf(name, sizeof name, "%.*s%s", (int)p->v[i].module, mb_st_name(&p->s, p->s.entries + i),
                 tails[k]);
        const struct mb_st_entry *e = mb_shards_find(&p->s, name);
        if (e != NULL && e != p->s.entries + i)
            p->v[e - p->s.entries].fate = MB_FATE_DROP;
    }
}

/* The other parts of a matrix that was packed go with it. */
static void drop_parts(struct mb_recasts *p, int64_t i)
{
    static const char *const tails[] = {".weight_scale_inv",
                                        ".weight_scale",
                                        ".weight_scale_2",
                                        ".weight_global_scale",
                                        ".weight_shape",
                                        ".weight_zero_point",
                                        ".weight_g_idx",
                                        ".scales",
                                        ".qzeros",
                                        ".g_idx",
                                        "_scales"};
    drop(p, i, tails, sizeof tails / sizeof tails[0]);
}

static enum mb_status set_fate(struct mb_recasts *p, int64_t i, const struct mb_quantise_options *o,
                               struct mb_quantise_result *out)
{
    struct mb_recast *e = p->v + i;
    const struct mb_tensor *t = matrix(p, e, 0);
    bool want = wanted(o->q.to, t->role), own = alone(p, i),
         all = o->q.to == MB_QUANTISED_MXFP4 && stack(p, i);

    if (want && !own && !all && is_expert(t->role))
        return no_place(p, i, o->q.to);
    if (want && (own || all) && !mb_quantised_fits(&o->q, t->k)) {
        out->uneven += e->count;
        want = false;
    }
    e->linear = t->n > 1 && t->role != MB_T_EMBED;
    if (want && (own || all)) {
        e->fate = all ? MB_FATE_STACK : MB_FATE_CODES;
        p->quantised += e->count;
        out->stacked |= all;
    } else if (packed(t)) {
        if (!own)
            return no_place(p, i, o->q.to);
        e->fate = MB_FATE_WIDEN;
    }
    if (packed(t))
        drop_parts(p, i);
    return MB_OK;
}

/* Scales of activations, keys and values belong to the form that was. */
static bool of_activations(const char *name)
{
    static const char *const tails[] = {".input_scale", ".input_global_scale", ".k_scale",
                                        ".v_scale",     ".kv_scale",           ".output_scale"};

    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
        if (ends(name, strlen(name), tails[i]))
            return true;
    return false;
}

static enum mb_status add_wide(const struct mb_recasts *p, int64_t i, struct mb_quantise_result *out)
{
    out->wide[out->n_wide] = mb_recast_module(p, i);
    if (out->wide[out->n_wide] == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a name");
    out->n_wide++;
    return MB_OK;
}

/* Matrices that stay wide, which readers of the directory must know. */
static enum mb_status list_wide(const struct mb_recasts *p, struct mb_quantise_result *out)
{
    out->wide = calloc((size_t)p->s.n_entries + 2, sizeof *out->wide);
    if (out->wide == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for names");
    for (int64_t i = 0; i < p->s.n_entries; i++) {
        const struct mb_recast *e = p->v + i;
        const char *name = mb_st_name(&p->s, p->s.entries + i);
        bool unknown = e->count == 0 && p->s.entries[i].rank == 2;
        if ((e->fate == MB_FATE_COPY || e->fate == MB_FATE_WIDEN) && (e->linear || unknown) &&
            e->module < (int32_t)strlen(name))
            MB_TRY(add_wide(p, i, out));
    }
    if (p->m->tied) {
        out->wide[out->n_wide] = strdup("lm_head");
        if (out->wide[out->n_wide] == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for a name");
        out->n_wide++;
    }
    return MB_OK;
}

enum mb_status mb_recasts_make(const struct mb_quantise_options *o, struct mb_quantise_result *out,
                               struct mb_recasts *p)
{
    MB_TRY(mb_model_open(o->from, 0, &p->m));
    if (p->m->n_files == 0)
        return mb_error(
            MB_MODEL,
            "%s: expected a model directory, found a config.json alone: there are no weights to quantise",
            o->from);
    MB_TRY(mb_shards_open(o->from, "model", &p->s));
    MB_TRY(map(p));
    for (int64_t i = 0; i < p->s.n_entries; i++)
        if (of_activations(mb_st_name(&p->s, p->s.entries + i)))
            p->v[i].fate = MB_FATE_DROP;
    for (int64_t i = 0; i < p->s.n_entries; i++)
        if (p->v[i].count > 0)
            MB_TRY(set_fate(p, i, o, out));
    if (p->quantised == 0)
        return mb_error(MB_MODEL, "%s: no matrix can be stored as %s%s", o->from, mb_quantised_name(o->q.to),
                        out->uneven == 0 ? ""
                        : o->q.to == MB_QUANTISED_INT4
                            ? ": no width is a multiple of the groups; --group-size 32 may do"
                            : ": no width is a multiple of 32");
    return list_wide(p, out);
}

void mb_recasts_fini(struct mb_recasts *p)
{
    mb_model_destroy(p->m);
    mb_shards_fini(&p->s);
    free(p->v);
    free(p->by_entry);
}
