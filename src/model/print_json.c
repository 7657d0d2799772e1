/* A model as JSON, for scripts. */
#include <jansson.h>
#include "model/model.h"

static json_t *layers_of(const struct mb_model *m)
{
    json_t *list = json_array();

    for (int32_t l = 0; l < m->layers; l++)
        json_array_append_new(list, json_pack("{s:b,s:i,s:b}", "moe", m->is_moe[l], "window", m->window[l], "linear", mb_is_linear(m, l)));
    return list;
}

static json_t *files_of(const struct mb_model *m)
{
    json_t *list = json_array();

    for (int32_t i = 0; i < m->n_files; i++)
        json_array_append_new(list, json_pack("{s:s,s:I}", "name", m->files[i], "bytes", (json_int_t)m->file_bytes[i]));
    return list;
}

static json_t *ids_of(const struct mb_model *m)
{
    json_t *list = json_array();

    for (int32_t i = 0; i < m->n_eos; i++)
        json_array_append_new(list, json_integer(m->eos[i]));
    return list;
}

char *mb_model_json(const struct mb_model *m)
{
    static const char *const paths[] = {"f32", "bf16", "fp8", "int8"};
    json_t *o = json_pack("{s:s,s:s,s:i,s:i,s:i,s:I,s:i,s:i,s:i,s:i,s:b}", "dir", m->dir, "family", m->arch, "layers", m->layers,
                          "hidden", m->hidden, "vocab", m->vocab, "max_positions", (json_int_t)m->max_positions, "heads", m->heads,
                          "kv_heads", m->kv_heads, "head_dim", m->head_dim, "v_dim", m->v_dim, "mla", m->mla);
    json_t *moe = json_pack("{s:i,s:i,s:i,s:i,s:i,s:i}", "experts", m->router.experts, "k", m->router.k, "moe_layers", m->moe_layers,
                            "expert_ffn", m->expert_ffn, "shared_ffn", m->shared_ffn, "ffn", m->ffn);
    json_t *rest = json_pack("{s:i,s:i,s:o,s:I,s:I,s:I,s:s,s:o,s:o}", "mtp_layers", m->mtp_layers, "bos", m->bos, "eos", ids_of(m),
                             "params_total", (json_int_t)m->params_total, "params_active", (json_int_t)m->params_active, "tensors",
                             (json_int_t)m->n_tensors, "dtype_auto", paths[m->auto_path], "layer", layers_of(m), "files", files_of(m));
    char *text = NULL;

    if (o != NULL && json_object_update(o, moe) == 0 && json_object_update(o, rest) == 0)
        text = json_dumps(o, JSON_INDENT(1));
    json_decref(o);
    json_decref(moe);
    json_decref(rest);
    return text;
}
