/* Packed weights by the names that their formats give the tensors. */
#include "model/packed_bind.h"

#include <stdio.h>
#include <string.h>
#include "base/log.h"

#define MX_GROUP 32
#define NV_GROUP 16

static int64_t up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Tensor MODULE + suffix; NULL: none. */
static struct mb_st_entry *part(const struct mb_packed_want *w, const char *suffix)
{
    char name[MB_ST_MAX_NAME + 32];

    snprintf(name, sizeof name, "%.*s%s", w->module, w->name, suffix);
    return mb_shards_find(w->s, name);
}

static bool is(const struct mb_st_entry *e, const char *dtype)
{
    return e != NULL && strcmp(mb_st_dtype_name(e->dtype), dtype) == 0;
}

/* A part that must be there, of this type and shape (rank 1 or 2; b 0: rank 1). One element may also have
 * shape []. */
static enum mb_status need(const struct mb_packed_want *w, const char *suffix, const char *dtype, int64_t a,
                           int64_t b, struct mb_packed_bytes *out)
{
    struct mb_st_entry *e = part(w, suffix);
    const int64_t want[2] = {a, b};
    int rank = b > 0 ? 2 : 1;
    char ta[64], tb[256];

    if (e == NULL)
        return mb_error(MB_MODEL, "%s: %.*s%s: expected beside the packed weight, found nothing", w->s->dir,
                        w->module, w->name, suffix);
    bool same = e->rank == rank && e->shape[0] == a && (rank == 1 || e->shape[1] == b);
    same = same || (a == 1 && b == 0 && e->rank == 0);
    mb_st_shape_text(want, rank, ta, sizeof ta);
    mb_st_shape_text(e->shape, e->rank, tb, sizeof tb);
    if (!same || (dtype != NULL && !is(e, dtype)))
        return mb_error(MB_MODEL, "%s/%s: %.*s%s: expected %s of %s, found %s of %s", w->s->dir,
                        w->s->files[e->file], w->module, w->name, suffix, ta,
                        dtype != NULL ? dtype : "a float type", tb, mb_st_dtype_name(e->dtype));
    e->used = true;
    *out = (struct mb_packed_bytes){.offset = e->offset, .bytes = e->bytes, .file = (uint16_t)e->file};
    return MB_OK;
}

static void optional(const struct mb_packed_want *w, const char *suffix)
{
    struct mb_st_entry *e = part(w, suffix);
    if (e != NULL)
        e->used = true;
}

/* Scales [rows, groups] or, by columns, [groups, n]: how many groups, from their shape. */
static enum mb_status take_scales(const struct mb_packed_want *w, const char *suffix, struct mb_packed *p)
{
    struct mb_st_entry *e = part(w, suffix);
    bool by_rows = mb_packed_by_rows(p);
    int axis = by_rows ? 1 : 0;

    if (e == NULL || e->rank != 2 || e->shape[1 - axis] != w->n || e->shape[axis] < 1 ||
        e->shape[axis] > w->k)
        return mb_error(
            MB_MODEL, "%s: %.*s%s: expected a scale for each of %d rows and each group of columns, found %s",
            w->s->dir, w->module, w->name, suffix, w->n, e == NULL ? "nothing" : "another shape");
    if (mb_st_storage(e->dtype) < 0)
        return mb_error(MB_MODEL, "%s: %.*s%s: dtype: expected a float type, found %s", w->s->dir, w->module,
                        w->name, suffix, mb_st_dtype_name(e->dtype));
    e->used = true;
    p->scale_storage = (uint8_t)mb_st_storage(e->dtype);
    p->scale = (struct mb_packed_bytes){.offset = e->offset, .bytes = e->bytes, .file = (uint16_t)e->file};
    p->groups = (int32_t)e->shape[axis];
    p->group = (int32_t)up(w->k, p->groups);
    return MB_OK;
}

/* The size of a group is the config's, of which the number of groups must follow. */
static enum mb_status check_group(const struct mb_packed_want *w, struct mb_packed *p)
{
    if (p->groups == 1)
        return MB_OK;
    for (int32_t i = 0; i < w->q->n_sizes; i++) {
        if (up(w->k, w->q->group_size[i]) != p->groups)
            continue;
        p->group = w->q->group_size[i];
        return MB_OK;
    }
    return mb_error(MB_MODEL,
                    "%s: %.*s: scales: expected groups of quantization_config's group_size, found %d groups "
                    "of %d columns",
                    w->s->dir, w->module, w->name, p->groups, w->k);
}

/* ---------------------------------------------------------------- formats */

static enum mb_status bind_mxfp4(const struct mb_packed_want *w, struct mb_packed *p)
{
    static const char *const suffix[2] = {"_blocks", "_scales"};
    int64_t rows = (int64_t)w->n * w->row_step, blocks = w->k / MX_GROUP;
    struct mb_packed_bytes *place[2] = {&p->code, &p->scale};

    if (w->k % MX_GROUP != 0)
        return mb_error(MB_MODEL, "%s: %s_blocks: expected a width of whole blocks of 32, found %d",
                        w->s->dir, w->name, w->k);
    for (int i = 0; i < 2; i++) {
        struct mb_st_entry *e = part(w, suffix[i]);
        const int64_t want[4] = {w->experts, rows, blocks, MX_GROUP / 2};
        int rank = 4 - i;
        char ta[128], tb[256];
        bool same = e != NULL && e->rank == rank && is(e, "U8");
        for (int d = 0; same && d < rank; d++)
            same = e->shape[d] == want[d];
        if (!same) {
            mb_st_shape_text(want, rank, ta, sizeof ta);
            if (e != NULL)
                mb_st_shape_text(e->shape, e->rank, tb, sizeof tb);
            return mb_error(MB_MODEL, "%s: %s%s: expected %s of U8 from config.json, found %s", w->s->dir,
                            w->name, suffix[i], ta, e != NULL ? tb : "nothing");
        }
        uint64_t each = e->bytes / (uint64_t)w->experts;
        e->used = true;
        *place[i] = (struct mb_packed_bytes){e->offset + (uint64_t)w->expert * each, each, (uint16_t)e->file};
    }
    p->packing = MB_PACK_MXFP4;
    p->group = MX_GROUP;
    p->groups = (int32_t)blocks;
    return MB_OK;
}

static enum mb_status bind_ints(const struct mb_packed_want *w, const struct mb_st_entry *e,
                                struct mb_packed *p)
{
    p->packing = MB_PACK_INTS;
    p->bits = e->rank == 2 && e->shape[1] == up(w->k, 4) ? 8 : 4;
    MB_TRY(need(w, ".weight_packed", "I32", w->n, up(w->k, mb_packed_word(p)), &p->code));
    MB_TRY(take_scales(w, ".weight_scale", p));
    if (part(w, ".weight_g_idx") != NULL)
        MB_TRY(need(w, ".weight_g_idx", "I32", w->k, 0, &p->g_idx));
    p->shuffled = p->g_idx.bytes > 0;
    if (part(w, ".weight_zero_point") != NULL)
        MB_TRY(need(w, ".weight_zero_point", "I32", up(w->n, mb_packed_word(p)), p->groups, &p->zero));
    optional(w, ".weight_shape");
    return check_group(w, p);
}

static enum mb_status bind_i8(const struct mb_packed_want *w, struct mb_packed *p)
{
    p->packing = MB_PACK_I8;
    p->bits = 8;
    MB_TRY(need(w, ".weight", "I8", w->n, w->k, &p->code));
    MB_TRY(take_scales(w, ".weight_scale", p));
    if (part(w, ".weight_zero_point") != NULL)
        return mb_error(MB_MODEL,
                        "%s: %.*s.weight_zero_point: expected none beside plain int8 weights, found one",
                        w->s->dir, w->module, w->name);
    return check_group(w, p);
}

static enum mb_status bind_nvfp4(const struct mb_packed_want *w, const char *codes, const char *whole,
                                 bool divides, struct mb_packed *p)
{
    if (w->k % NV_GROUP != 0)
        return mb_error(MB_MODEL, "%s: %.*s%s: expected a width of whole blocks of 16, found %d", w->s->dir,
                        w->module, w->name, codes, w->k);
    p->packing = MB_PACK_NVFP4;
    p->divides = divides;
    MB_TRY(need(w, codes, "U8", w->n, w->k / 2, &p->code));
    MB_TRY(need(w, ".weight_scale", "F8_E4M3", w->n, w->k / NV_GROUP, &p->scale));
    MB_TRY(need(w, whole, "F32", 1, 0, &p->tensor_scale));
    p->scale_storage = MB_STORE_F8E4M3;
    p->group = NV_GROUP;
    p->groups = w->k / NV_GROUP;
    return MB_OK;
}

/* MXFP4 with a tensor for each expert: two codes a byte, exponents as bytes. */
static enum mb_status bind_mx(const struct mb_packed_want *w, struct mb_packed *p)
{
    struct mb_st_entry *e = part(w, ".weight_scale");

    if (w->k % MX_GROUP != 0)
        return mb_error(MB_MODEL, "%s: %.*s.weight_packed: expected a width of whole blocks of 32, found %d", w->s->dir, w->module,
                        w->name, w->k);
    p->packing = MB_PACK_MXFP4;
    MB_TRY(need(w, ".weight_packed", "U8", w->n, w->k / 2, &p->code));
    MB_TRY(need(w, ".weight_scale", is(e, "F8_E8M0") ? "F8_E8M0" : "U8", w->n, w->k / MX_GROUP, &p->scale));
    p->group = MX_GROUP;
    p->groups = w->k / MX_GROUP;
    return MB_OK;
}

static enum mb_status bind_by_columns(const struct mb_packed_want *w, const struct mb_st_entry *e,
                                      struct mb_packed *p)
{
    bool awq = w->q->method == MB_QUANT_AWQ;

    if (!awq && w->q->method != MB_QUANT_GPTQ && w->q->method != MB_QUANT_GPTQ_V2)
        return mb_error(
            MB_MODEL,
            "%s: %.*s.qweight: expected a quantization_config of AWQ or GPTQ in config.json, found none",
            w->s->dir, w->module, w->name);
    p->packing = awq ? MB_PACK_AWQ : MB_PACK_GPTQ;
    p->bits = !awq && e->rank == 2 && e->shape[0] == up(w->k, 4) ? 8 : 4;
    p->zero_add = w->q->method == MB_QUANT_GPTQ;
    int64_t f = mb_packed_word(p);
    MB_TRY(take_scales(w, ".scales", p));
    MB_TRY(awq ? need(w, ".qweight", "I32", w->k, up(w->n, f), &p->code)
               : need(w, ".qweight", "I32", up(w->k, f), w->n, &p->code));
    MB_TRY(need(w, ".qzeros", "I32", p->groups, up(w->n, f), &p->zero));
    if (!awq && part(w, ".g_idx") != NULL)
        MB_TRY(need(w, ".g_idx", "I32", w->k, 0, &p->g_idx));
    p->shuffled = p->g_idx.bytes > 0 && w->q->desc_act; /* without it g_idx counts groups as they come */
    return check_group(w, p);
}

enum mb_status mb_packed_bind(const struct mb_packed_want *w, struct mb_packed *out, bool *found)
{
    struct mb_packed p;
    struct mb_st_entry *e = NULL;
    enum mb_status st = MB_OK;

    *found = true;
    memset(&p, 0, sizeof p); /* with its padding: tables are hashed as bytes */
    p.bits = 4;
    p.n = w->n;
    p.k = w->k;
    p.row0 = w->row0;
    p.row_step = w->row_step;
    if (w->stacked)
        st = part(w, "_blocks") != NULL ? bind_mxfp4(w, &p) : (*found = false, MB_OK);
    else if ((e = part(w, ".weight_packed")) != NULL)
        st = !is(e, "U8")                                       ? bind_ints(w, e, &p)
             : part(w, ".weight_global_scale") == NULL &&
                     (is(part(w, ".weight_scale"), "U8") ||
                      is(part(w, ".weight_scale"), "F8_E8M0")) ? bind_mx(w, &p)
                                                                : bind_nvfp4(w, ".weight_packed", ".weight_global_scale", true, &p);
    else if ((e = part(w, ".qweight")) != NULL)
        st = bind_by_columns(w, e, &p);
    else if (is(e = part(w, ".weight"), "U8"))
        st = bind_nvfp4(w, ".weight", ".weight_scale_2", false, &p);
    else if (is(e, "I8"))
        st = bind_i8(w, &p);
    else
        *found = false;
    if (st == MB_OK && *found && !mb_packed_fits(&p, w->s->file_bytes, w->s->n_files))
        st = mb_error(MB_BUG, "%s: the packed parts of %s do not fit each other", w->s->dir, w->name);
    if (st == MB_OK && *found)
        *out = p;
    return st;
}
