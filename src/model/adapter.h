/* A LoRA adapter in PEFT layout (adapter_config.json, adapter_model.safetensors) as pairs of matrices by
 * role. What a module of the checkpoint is called is known here only. Immutable after mb_adapter_open. Local.
 *
 * y = W x + scale * B (A x), A [r, in], B [out, r] (LoRA, Hu et al. 2021); scale = lora_alpha / r, or
 * lora_alpha / sqrt(r) with use_rslora. One module that is several tensors of ours (DBRX's Wqkv) gives
 * several pairs with the same A. */
#ifndef MB_MODEL_ADAPTER_H
#define MB_MODEL_ADAPTER_H
#include "model/model.h"

struct mb_lora {
    struct mb_tensor a,
        b; /* a [r, in], b [out, r]; role, layer and expert are those of the weight they add to */
};

struct mb_adapter {
    struct mb_model files; /* only dir, n_files, files and file_bytes are set: what mb_reader_create needs */
    int32_t rank;
    float scale;           /* f64 rounded to f32 */
    struct mb_lora *loras; /* sorted by (role, layer, expert) */
    int64_t n_loras;
};

/* Reads and checks an adapter directory against a model. Everything that would change the result and is not
 * supported (DoRA, biases, rank patterns, saved modules, embeddings, routers, norms) is refused. Errors:
 * MB_MODEL, naming file, key, expected and found, before any weight is read. m must outlive nothing: it is
 * not kept. */
enum mb_status mb_adapter_open(const char *dir, const struct mb_model *m, struct mb_adapter **out);
void mb_adapter_destroy(struct mb_adapter *a); /* NULL and half-built ok */

/* NULL: the adapter leaves this weight alone. layer, expert: -1 where the role has none. O(log n). */
const struct mb_lora *mb_adapter_find(const struct mb_adapter *a, enum mb_role role, int32_t layer,
                                      int32_t expert);

/* Whether the role is a weight of routed experts, and whether an adapter has terms on such weights. */
bool mb_role_of_expert(enum mb_role role);
bool mb_adapter_on_experts(const struct mb_adapter *a);

/* Flat form for broadcast, as mb_model_pack and mb_model_unpack. */
enum mb_status mb_adapter_pack(const struct mb_adapter *a, struct mb_bytes *out);
enum mb_status mb_adapter_unpack(const void *data, size_t n, struct mb_adapter **out);

/* Hash of the adapter's identity: bytes of adapter_config.json, file names and sizes, headers. */
enum mb_status mb_adapter_identity(const char *dir, struct mb_hash128 *out);
#endif
