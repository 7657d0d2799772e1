#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/fs.h"
#include "base/log.h"
#include "model/foreign.h"
#include "model/load.h"

void mb_model_destroy(struct mb_model *m)
{
    if (m == NULL)
        return;
    for (int32_t i = 0; m->files != NULL && i < m->n_files; i++)
        free(m->files[i]);
    free(m->files);
    free(m->file_bytes);
    free(m->dir);
    free(m->is_moe);
    free(m->window);
    free(m->still);
    free(m->indexer.shares);
    free(m->linear);
    free(m->inv_freq);
    free(m->inv_freq_long);
    free(m->tensors);
    free(m->packed);
    free(m);
}

/* ---------------------------------------------------------------- which architecture */
static enum mb_status list_known(const char *path, const char *key, const char *found)
{
    char known[1024];
    size_t at = 0;
    int n;
    const struct mb_arch *all = mb_arch_all(&n);

    known[0] = 0;
    for (int i = 0; i < n && at < sizeof known; i++)
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%.*s", i > 0 ? ", " : "", (int)strcspn(all[i].model_types, "|"),
                               all[i].model_types);
    return mb_error(MB_MODEL, "%s: %s: expected one of %s, found %s", path, key, known, found);
}

static enum mb_status find_arch(const struct mb_cfg *c, const struct mb_arch **out)
{
    const char *type = NULL, *cls = NULL;
    const json_t *list;
    char text[96];

    MB_TRY(mb_cfg_str(c, "model_type", &type, NULL));
    MB_TRY(mb_cfg_get(c, "architectures", &list, NULL, 0));
    if (list != NULL && json_is_array(list))
        cls = json_string_value(json_array_get(list, 0));
    *out = mb_arch_find(type, cls);
    if (*out != NULL)
        return MB_OK;
    const char *why = type != NULL ? mb_arch_refusal(type) : NULL;
    if (why != NULL)
        return mb_error(MB_MODEL, "%s: model_type: %s: %s", c->path, type, why);
    snprintf(text, sizeof text, "%.90s", type != NULL ? type : cls != NULL ? cls : "nothing");
    return list_known(c->path, type == NULL && cls != NULL ? "architectures" : "model_type", text);
}

/* ---------------------------------------------------------------- totals */
#define MAX_PARAMS (1ll << 58)

static enum mb_status count_params(struct mb_model *m, const struct mb_cfg *c)
{
    bool f8 = false, half = false;

    m->params_total = m->params_active = 0;
    for (int64_t i = 0; i < m->n_tensors; i++) {
        const struct mb_tensor *t = m->tensors + i;
        f8 = f8 || mb_storage_fp8((enum mb_storage)t->storage);
        half = half || t->storage == MB_STORE_BF16 || t->storage == MB_STORE_F16 || t->packed > 0;
        if (t->layer >= m->layers)
            continue; /* the MTP module is not part of the model's size */
        if (t->k > (MAX_PARAMS - m->params_total) / t->n)
            return mb_error(MB_MODEL, "%s: sizes: expected at most %lld parameters, found more", c->path, MAX_PARAMS);
        m->params_total += t->n * t->k;
        if (t->expert < m->router.k)
            m->params_active += t->n * t->k; /* all experts have one size: the first k stand for the chosen ones */
    }
    m->auto_path = f8 ? MB_PATH_FP8 : half ? MB_PATH_BF16 : MB_PATH_F32;
    return MB_OK;
}

/* The model takes over the list of files. */
static void take_files(struct mb_model *m, struct mb_shards *s)
{
    m->n_files = s->n_files;
    m->files = s->files;
    m->file_bytes = s->file_bytes;
    s->n_files = 0;
    s->files = NULL;
    s->file_bytes = NULL;
}

static enum mb_status load_files(struct mb_model *m, const struct mb_arch *a, const struct mb_quant *q)
{
    struct mb_shards s = {0};

    MB_TRY(mb_shards_open(m->dir, "model", &s));
    enum mb_status st = mb_load_tensors(m, a, &s, q);
    if (st == MB_OK)
        take_files(m, &s);
    mb_shards_fini(&s);
    return st;
}

/* A model with parts for images or sound: the text part's settings, and what it lacks from beside them. New reference, or NULL
 * without memory. */
static json_t *text_part(json_t *root)
{
    json_t *text = json_object_get(root, "text_config"), *own, *part;

    if (!json_is_object(text))
        return json_incref(root);
    part = json_copy(text);
    own = json_copy(root);
    if (part != NULL && own != NULL) {
        json_object_del(own, "text_config");
        if (json_object_get(part, "model_type") != NULL)
            json_object_del(own, "architectures");
        if (json_object_update_missing(part, own) != 0) {
            json_decref(part);
            part = NULL;
        }
    }
    json_decref(own);
    return part;
}

static enum mb_status load_all(struct mb_model *m, const struct mb_cfg *c, bool alone, int32_t k_override)
{
    const struct mb_arch *a;
    struct mb_quant q = {0};

    if (!json_is_object(c->root))
        return mb_error(MB_MODEL, "%s: expected an object, found %s", c->path, mb_json_type(c->root));
    MB_TRY(find_arch(c, &a));
    snprintf(m->arch, sizeof m->arch, "%s", a->name);
    MB_TRY(mb_load_config(m, a, c, &q));
    MB_TRY(mb_load_moe(m, a, c, k_override));
    MB_TRY(mb_load_rope(m, a, c));
    MB_TRY(mb_load_ids(m, c));
    MB_TRY(mb_load_generation(m, m->dir));
    MB_TRY(alone ? mb_load_tensors(m, a, NULL, &q) : load_files(m, a, &q));
    mb_model_keep(m, MB_KEEP_AUTO);
    return count_params(m, c);
}

enum mb_status mb_model_open(const char *dir, int32_t k_override, struct mb_model **out)
{
    struct stat sb;
    bool alone = stat(dir, &sb) == 0 && S_ISREG(sb.st_mode);
    json_t *root = NULL;
    struct mb_model *m = calloc(1, sizeof *m);
    char *path = alone ? strdup(dir) : mb_path_join(dir, "config.json");
    enum mb_status st = MB_OK;

    if (m != NULL)
        m->dir = strdup(dir);
    if (m == NULL || path == NULL || m->dir == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for a model");
    const char *kind = st == MB_OK ? mb_foreign_file(path) : NULL;
    if (kind != NULL)
        st = mb_error(MB_MODEL, "%s: expected a model directory or a config.json, found %s", path, kind);
    if (st == MB_OK)
        st = mb_json_load(path, MB_MAX_CONFIG_BYTES, MB_MODEL, &root);
    json_t *text = st == MB_OK ? text_part(root) : NULL;
    if (st == MB_OK && text == NULL)
        st = mb_error(MB_NO_MEMORY, "no memory for %s", path);
    if (st == MB_OK)
        st = load_all(m, &(struct mb_cfg){text, path, ""}, alone, k_override);
    json_decref(text);
    json_decref(root);
    free(path);
    if (st == MB_OK)
        *out = m;
    else
        mb_model_destroy(m);
    return st;
}
