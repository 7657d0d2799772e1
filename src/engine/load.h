/* Loading: rows of tensors, from the file or by broadcast, into device vectors and packed weights. Of weights.c and lora.c
 * only. A tensor that every rank holds is read by one rank (they take turns) and broadcast; all ranks call the same functions
 * in the same order for such tensors. */
#ifndef MB_ENGINE_LOAD_H
#define MB_ENGINE_LOAD_H
#include "engine/weights.h"
#include "model/reader.h"

#define MB_LOAD_CHUNK (16 << 20)

struct mb_loader {
    const struct mb_engine_options *o;
    struct mb_stream *s;
    struct mb_weights *w; /* whose bytes are counted */
    struct mb_reader *reader;
    uint8_t *pack; /* MB_LOAD_CHUNK or one row, whichever is more */
    uint64_t pack_bytes;
    int turn;      /* whose turn it is to read a shared tensor */
    /* What went wrong on this rank alone. It goes on taking part in the broadcasts, or its peers would wait in vain, and
     * says so at the agreement after them. */
    enum mb_status failed;
};

static inline enum mb_status mb_load_keep(struct mb_loader *L, enum mb_status st)
{
    if (st != MB_OK && L->failed == MB_OK)
        L->failed = st;
    return MB_OK;
}

const struct mb_tensor *mb_load_find(const struct mb_loader *L, enum mb_role role, int32_t layer, int32_t expert);
/* Room for rows in transit. */
enum mb_status mb_load_room(struct mb_loader *L, uint64_t bytes);
/* Hands a tensor to take() in chunks of rows; n0: first row of the chunk. */
typedef enum mb_status (*mb_take_fn)(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *m);
enum mb_status mb_load_each(struct mb_loader *L, const struct mb_tensor *t, bool shared, mb_take_fn take, void *arg);

/* Vectors: f32 (or bf16) [rows, cols]. put: t at (row0, col0). mb_load_vec: a whole tensor of the model, absent ones leave
 * the vector empty. */
enum mb_status mb_load_vec_create(struct mb_loader *L, int64_t rows, int64_t cols, enum mb_dtype t, struct mb_vec *v);
enum mb_status mb_load_vec_put(struct mb_loader *L, const struct mb_tensor *t, bool shared, struct mb_vec *v, int64_t row0,
                               int64_t col0);
enum mb_status mb_load_vec(struct mb_loader *L, enum mb_role role, int32_t layer, struct mb_vec *v);

/* Packed weights [n, k]; unit > 0: row-parallel, with K leaves. put: t into rows n0... stack: several shared tensors one below
 * the other, with their biases. */
enum mb_status mb_load_mat_create(struct mb_loader *L, int64_t n, int64_t k, int64_t unit, enum mb_mem_cat cat,
                                  struct mb_weight **out);
enum mb_status mb_load_mat_put(struct mb_loader *L, const struct mb_tensor *t, bool shared, struct mb_weight *w, int64_t n0);
enum mb_status mb_load_mat_stack(struct mb_loader *L, int32_t layer, const enum mb_role *roles, const enum mb_role *bias,
                                 int32_t n_roles, int64_t unit, struct mb_weight **w, struct mb_vec *b);
#endif
