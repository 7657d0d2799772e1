/* In which form weights are kept in memory. */
#include <stdio.h>
#include <string.h>
#include "base/numerics.h"
#include "model/model.h"

/* 0: a routed expert's gate or up, 1: down, -1: neither */
static int expert_part(const struct mb_tensor *t)
{
    return t->role == MB_T_E_GATE || t->role == MB_T_E_UP ? 0 : t->role == MB_T_E_DOWN ? 1 : -1;
}

/* Matrices that GEMMs read as they are. kv_b is cut into heads and turned, embedding rows are looked up. */
static bool gemm_role(enum mb_role r)
{
    static const enum mb_role roles[] = {MB_T_Q,       MB_T_K,     MB_T_V,       MB_T_O,    MB_T_Q_A,
                                         MB_T_Q_BPROJ, MB_T_KV_A,  MB_T_GATE,    MB_T_UP,   MB_T_DOWN,
                                         MB_T_SH_GATE, MB_T_SH_UP, MB_T_SH_DOWN, MB_T_HEAD, MB_T_MTP_PROJ,
                                         MB_T_QG,      MB_T_L_QKVZ, MB_T_L_BA,   MB_T_L_QKV, MB_T_L_Z,
                                         MB_T_L_B,     MB_T_L_A,    MB_T_L_OUT};

    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (roles[i] == r)
            return true;
    return false;
}

/* Leaves of K: of one that tensor ranks share. */
static int32_t leaves_of(const struct mb_model *m, const struct mb_tensor *t)
{
    int64_t begin[MB_MAX_LEAVES + 1];

    switch ((enum mb_role)t->role) {
    case MB_T_O:
        return mb_k_leaves(t->k, m->v_dim, begin);
    case MB_T_L_OUT:
        return mb_k_leaves(t->k, m->delta.dv, begin);
    case MB_T_DOWN:
    case MB_T_SH_DOWN:
    case MB_T_E_DOWN:
        return mb_k_leaves(t->k, mb_k_unit(t->k), begin);
    default:
        return 1;
    }
}

static struct mb_form stored_form(const struct mb_model *m, const struct mb_tensor *t)
{
    struct mb_form f = {0};

    if (m->keep == MB_KEEP_INT8 && (expert_part(t) >= 0 || gemm_role((enum mb_role)t->role) || t->role == MB_T_EMBED))
        return mb_form_s8(leaves_of(m, t)); /* the embedding: as a head */
    if (m->keep == MB_KEEP_INT8 || m->keep == MB_KEEP_WIDE || (expert_part(t) < 0 && !gemm_role((enum mb_role)t->role)))
        return f;
    if (t->packed > 0)
        mb_packed_form(&m->packed[t->packed - 1], &f);
    else if (mb_storage_fp8((enum mb_storage)t->storage) && t->scale_bytes > 0 && t->stride_k == 1)
        f = (struct mb_form){.code = t->storage == MB_STORE_F8E4M3 ? MB_CODE_E4M3 : MB_CODE_E5M2,
                             .bits = 8,
                             .scale = MB_STORE_F32, /* as they are read */
                             .group = t->block_k,
                             .groups = t->scale_stride,
                             .k0 = t->scale_k0};
    /* what costs more time than its memory is worth */
    if (m->keep == MB_KEEP_AUTO && ((f.code == MB_CODE_INT && f.bits == 8) || (t->packed > 0 && m->packed[t->packed - 1].shuffled)))
        return (struct mb_form){0};
    return f;
}

enum mb_keep mb_keep_of(const char *name, const char *dtype)
{
    if (strcmp(dtype, "int8") == 0)
        return MB_KEEP_INT8;
    return strcmp(name, "wide") == 0     ? MB_KEEP_WIDE
           : strcmp(name, "stored") == 0 ? MB_KEEP_STORED
                                         : MB_KEEP_AUTO;
}

void mb_model_keep(struct mb_model *m, enum mb_keep keep)
{
    bool seen[2] = {false, false};

    m->keep = keep;
    memset(m->expert_form, 0, sizeof m->expert_form);
    for (int64_t i = 0; i < m->n_tensors; i++) {
        int part = expert_part(&m->tensors[i]);
        if (part < 0)
            continue;
        struct mb_form f = stored_form(m, &m->tensors[i]);
        if (!seen[part])
            m->expert_form[part] = f;
        else if (!mb_form_equal(&f, &m->expert_form[part]))
            memset(&m->expert_form[part], 0, sizeof f);
        seen[part] = true;
    }
}

struct mb_form mb_model_form(const struct mb_model *m, const struct mb_tensor *t, int64_t k0)
{
    int part = expert_part(t);
    struct mb_form f = {0};

    f = part >= 0 ? m->expert_form[part] : stored_form(m, t);
    if (mb_form_stored(&f))
        f.k0 += k0;
    return f;
}

struct mb_form mb_model_form_of(const struct mb_model *m, const struct mb_tensor *const *t, int n)
{
    struct mb_form f = {0};

    for (int i = 0; i < n; i++) {
        struct mb_form g = mb_model_form(m, t[i], 0);
        if (i > 0 && !mb_form_equal(&f, &g))
            return (struct mb_form){0};
        f = g;
    }
    f.g_idx = (uint8_t)(f.g_idx * n);
    return f;
}

/* ---------------------------------------------------------------- for people */

static const char *form_name(const struct mb_form *f)
{
    if (f->code == MB_CODE_FP4)
        return f->scale == MB_SCALE_E8M0 ? "mxfp4" : "nvfp4";
    return f->code == MB_CODE_INT    ? (f->bits == 8 ? "int8" : "int4")
           : f->code == MB_CODE_E4M3 ? "fp8"
                                     : "fp8 e5m2";
}

/* Names of the forms of experts, or of all other matrices: "mxfp4", "int4 and int8"; "": none. */
static void names_of(const struct mb_model *m, bool experts, char *text, size_t size)
{
    text[0] = 0;
    for (int64_t i = 0; i < m->n_tensors; i++) {
        const struct mb_tensor *t = &m->tensors[i];
        if (experts ? expert_part(t) < 0 : !gemm_role((enum mb_role)t->role))
            continue;
        struct mb_form f = mb_model_form(m, t, 0);
        if (f.code == MB_CODE_NONE || strstr(text, form_name(&f)) != NULL)
            continue;
        size_t n = strlen(text);
        snprintf(text + n, size - n, "%s%s", n > 0 ? " and " : "", form_name(&f));
    }
}

void mb_model_kept(const struct mb_model *m, enum mb_dtype type, char *text, size_t size)
{
    char experts[64], rest[64];
    const char *wide = type == MB_F32 ? "f32" : "bf16";

    if (m->keep == MB_KEEP_INT8) {
        snprintf(text, size, "int8, a scale for each column and leaf%s", m->mla ? "; kv_b bf16" : "");
        return;
    }
    names_of(m, true, experts, sizeof experts);
    names_of(m, false, rest, sizeof rest);
    if (experts[0] == 0 && rest[0] == 0)
        snprintf(text, size, "%s", wide);
    else if (strcmp(experts, rest) == 0)
        snprintf(text, size, "%s as stored, others %s", experts, wide);
    else if (experts[0] != 0 && rest[0] != 0)
        snprintf(text, size, "experts %s, projections %s as stored, others %s", experts, rest, wide);
    else
        snprintf(text, size, "%s %s as stored, others %s", experts[0] != 0 ? "experts" : "projections",
                 experts[0] != 0 ? experts : rest, wide);
}
