/* The steps of mb_model_open, in order. Each fills part of a zeroed model; on failure the caller destroys it. Local. */
#ifndef MB_MODEL_LOAD_H
#define MB_MODEL_LOAD_H
#include "model/arch.h"
#include "model/cfg.h"
#include "model/model.h"
#include "model/safetensors.h"

#define MB_MAX_CONFIG_BYTES (16u << 20)

enum mb_quant_method {
    MB_QUANT_NONE, MB_QUANT_MXFP4, MB_QUANT_COMPRESSED, MB_QUANT_AWQ, MB_QUANT_GPTQ, MB_QUANT_GPTQ_V2, MB_QUANT_MODELOPT
};

/* Storage as config.json describes it. fp8: matrices may be; its blocks: block_n 0: scales are of whole rows or whole tensors.
 * storage: of unquantised tensors, where no file says. group_size: columns that share a scale, as many sizes as the config names. */
#define MB_QUANT_SIZES 8
struct mb_quant {
    enum mb_quant_method method; /* of packed formats */
    int32_t group_size[MB_QUANT_SIZES], n_sizes;
    bool fp8, by_row;
    bool desc_act; /* GPTQ: columns are in the order in which they were quantised */
    int32_t block_n, block_k;
    enum mb_storage storage;
};

/* Shapes, mechanisms and ids from config.json. */
enum mb_status mb_load_config(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c, struct mb_quant *q);
/* quantization_config (quant.c). Errors: MB_MODEL: a format or a version of it that is not read, by name. */
enum mb_status mb_load_quant(const struct mb_cfg *c, struct mb_quant *q);
/* Gated DeltaNet: its sizes, and which layers have it (config_delta.c). After the shapes. */
enum mb_status mb_load_delta(struct mb_model *m, const struct mb_cfg *c);
/* Rotary embedding: inv_freq, factors, and the attention scale that depends on them. After the shapes. */
enum mb_status mb_load_rope(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c);
/* Router, shared expert, which layers have experts. After the shapes. */
enum mb_status mb_load_moe(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c, int32_t k_override);
/* Sparse attention's indexer, of architectures that have one (config_index.c). After the shapes. */
enum mb_status mb_load_indexer(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c);
/* Token ids: bos and eos; then generation_config.json of dir, if there is one. */
enum mb_status mb_load_ids(struct mb_model *m, const struct mb_cfg *c);
enum mb_status mb_load_generation(struct mb_model *m, const char *dir);
/* The tensor table from names and shapes; marks what it uses in s. s NULL: shapes and storage as the config lets expect. */
enum mb_status mb_load_tensors(struct mb_model *m, const struct mb_arch *a, struct mb_shards *s, const struct mb_quant *q);
/* A stored LM head of a model whose config ties it to the embedding (entries of s, checked shapes not needed): warns if it differs.
 * Of large matrices a sample is compared. *own: it is to be used, because it differs or may differ outside the sample. Errors: MB_MODEL, MB_IO, MB_NO_MEMORY. */
enum mb_status mb_compare_head(const struct mb_shards *s, const struct mb_st_entry *embed, const struct mb_st_entry *head, bool *own);
/* A size of the model (enum mb_dim). */
int64_t mb_dim_value(const struct mb_model *m, uint8_t d);
#endif
