/* Special token ids and the defaults of generation_config.json. */
#include <math.h>
#include <stdlib.h>
#include "base/fs.h"
#include "base/log.h"
#include "model/load.h"

/* An id or a list of ids; absent: *n untouched. */
static enum mb_status read_eos(const struct mb_cfg *c, int32_t vocab, int32_t *eos, int32_t *n)
{
    const json_t *v;
    int64_t ids[MB_MAX_EOS];
    size_t count = 1;

    MB_TRY(mb_cfg_get(c, "eos_token_id", &v, NULL, 0));
    if (v == NULL)
        return MB_OK;
    if (json_is_array(v))
        MB_TRY(mb_cfg_ints(c, "eos_token_id", 0, vocab - 1, ids, MB_MAX_EOS, &count));
    else
        MB_TRY(mb_cfg_int(c, "eos_token_id", 0, vocab - 1, ids, NULL));
    for (size_t i = 0; i < count; i++)
        eos[i] = (int32_t)ids[i];
    *n = (int32_t)count;
    return MB_OK;
}

enum mb_status mb_model_add_eos(struct mb_model *m, int32_t id)
{
    for (int32_t i = 0; i < m->n_eos; i++)
        if (m->eos[i] == id)
            return MB_OK;
    if (id < 0 || id >= m->vocab)
        return MB_OK;
    if (m->n_eos == MB_MAX_EOS)
        return mb_error(MB_MODEL, "%s: more than %d ids that end a text", m->dir, MB_MAX_EOS);
    m->eos[m->n_eos++] = id;
    return MB_OK;
}

static enum mb_status read_bos(const struct mb_cfg *c, int32_t vocab, int32_t *bos)
{
    int64_t x = *bos;

    MB_TRY(mb_cfg_int(c, "bos_token_id", 0, vocab - 1, &x, NULL));
    *bos = (int32_t)x;
    return MB_OK;
}

enum mb_status mb_load_ids(struct mb_model *m, const struct mb_cfg *c)
{
    m->bos = -1;
    MB_TRY(read_bos(c, m->vocab, &m->bos));
    return read_eos(c, m->vocab, m->eos, &m->n_eos);
}

static enum mb_status read_sampling(struct mb_model *m, const struct mb_cfg *c)
{
    double t = NAN, p = NAN, min = NAN, rep = NAN;
    int64_t k = -1;
    bool sample = false;
    const json_t *v;

    MB_TRY(mb_cfg_real(c, "temperature", 0, 1e6, &t, NULL));
    MB_TRY(mb_cfg_real(c, "top_p", 0, 1e6, &p, NULL));
    MB_TRY(mb_cfg_real(c, "min_p", 0, 1, &min, NULL));
    MB_TRY(mb_cfg_real(c, "repetition_penalty", 1e-6, 1e6, &rep, NULL));
    MB_TRY(mb_cfg_int(c, "top_k", 0, INT32_MAX, &k, NULL));
    MB_TRY(mb_cfg_bool(c, "do_sample", &sample));
    MB_TRY(mb_cfg_get(c, "do_sample", &v, NULL, 0));
    m->gen_temperature = (float)t;
    m->gen_top_p = (float)p;
    m->gen_min_p = (float)min;
    m->gen_repetition = (float)rep;
    m->gen_top_k = (int32_t)k;
    m->gen_do_sample = v == NULL ? -1 : sample;
    return MB_OK;
}

/* generation_config.json overrides the ids of config.json, as it does for the models' own library. */
static enum mb_status read_generation(struct mb_model *m, const struct mb_cfg *c)
{
    if (!json_is_object(c->root))
        return mb_error(MB_MODEL, "%s: expected an object, found %s", c->path, mb_json_type(c->root));
    if (m->bos < 0)
        MB_TRY(read_bos(c, m->vocab, &m->bos));
    MB_TRY(read_eos(c, m->vocab, m->eos, &m->n_eos));
    return read_sampling(m, c);
}

static void no_sampling(struct mb_model *m)
{
    m->gen_temperature = m->gen_top_p = m->gen_min_p = m->gen_repetition = NAN;
    m->gen_top_k = m->gen_do_sample = -1;
}

enum mb_status mb_model_generation(struct mb_model *m, const char *path)
{
    json_t *root = NULL;

    no_sampling(m);
    if (path == NULL)
        return MB_OK;
    MB_TRY(mb_json_load(path, MB_MAX_CONFIG_BYTES, MB_MODEL, &root));
    enum mb_status st = json_is_object(root) ? read_sampling(m, &(struct mb_cfg){root, path, ""})
                                             : mb_error(MB_MODEL, "%s: expected an object, found %s", path, mb_json_type(root));
    json_decref(root);
    return st;
}

enum mb_status mb_load_generation(struct mb_model *m, const char *dir)
{
    json_t *root = NULL;
    enum mb_status st = MB_OK;
    char *path = mb_path_join(dir, "generation_config.json");

    no_sampling(m);
    if (path == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    if (mb_path_exists(path)) {
        st = mb_json_load(path, MB_MAX_CONFIG_BYTES, MB_MODEL, &root);
        if (st == MB_OK)
            st = read_generation(m, &(struct mb_cfg){root, path, ""});
    }
    json_decref(root);
    free(path);
    return st;
}
