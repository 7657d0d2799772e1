/* Inside quantise_*.c: what becomes of each tensor of a directory. */
#ifndef MB_MODEL_QUANTISE_IMPL_H
#define MB_MODEL_QUANTISE_IMPL_H
#include "model/quantise_dir.h"
#include "model/reader.h"
#include "model/safetensors.h"

enum mb_fate {
    MB_FATE_COPY,  /* byte for byte */
    MB_FATE_DROP,  /* a part of a matrix that is written anew, or of no use without it */
    MB_FATE_CODES, /* quantised: MODULE.weight... */
    MB_FATE_STACK, /* quantised: MODULE_blocks and MODULE_scales of all experts */
    MB_FATE_WIDEN  /* was quantised, becomes bf16 */
};

/* A tensor of the files. */
struct mb_recast {
    uint8_t fate;         /* enum mb_fate */
    bool linear;          /* a matrix of a layer, whether or not it is quantised */
    int32_t module;       /* bytes of its name before the suffix */
    int64_t first, count; /* in mb_recasts.by_entry: the matrices in it */
    uint64_t at[3]; /* where its new tensors begin in the file: codes (or what is copied), scales, shape */
};
struct mb_recasts {
    struct mb_model *m;
    struct mb_shards s;
    struct mb_recast *v; /* [s.n_entries] */
    int64_t *by_entry;   /* [m->n_tensors]: numbers of matrices, those of one entry together */
    int64_t quantised;   /* matrices */
};

/* quantise_plan.c */
enum mb_status mb_recasts_make(const struct mb_quantise_options *o, struct mb_quantise_result *out,
                               struct mb_recasts *p);
void mb_recasts_fini(struct mb_recasts *p);
/* Place of row 0 of a matrix among the rows of a MB_FATE_STACK tensor, and from row to row. */
void mb_recast_rows(const struct mb_recasts *p, const struct mb_recast *e, const struct mb_tensor *t,
                    int64_t *row0, int64_t *step);
/* Rows of all experts in such a tensor, of one of them. */
int64_t mb_recast_expert_rows(const struct mb_recasts *p, const struct mb_recast *e);

/* quantise_write.c: weight files and index. */
enum mb_status mb_recasts_write(const struct mb_quantise_options *o, struct mb_recasts *p,
                                struct mb_quantise_result *out);
/* quantise_files.c: config.json, and the other files of the directory. */
enum mb_status mb_recasts_config(const struct mb_quantise_options *o, const struct mb_recasts *p,
                                 const struct mb_quantise_result *r);
enum mb_status mb_recasts_texts(const struct mb_quantise_options *o);

/* MODULE of an entry, malloc'd; NULL without memory. */
char *mb_recast_module(const struct mb_recasts *p, int64_t entry);
static inline enum mb_status mb_recast_stop(const struct mb_quantise_options *o, enum mb_status (*say)(void))
{
    return o->stop != NULL && *o->stop != 0 ? say() : MB_OK;
}
#endif
