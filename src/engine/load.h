/* Loading: rows of tensors, from the file or by broadcast, into device vectors and packed weights. Of weights.c and lora.c
 * only. A tensor that every rank holds is read by one rank (they take turns) and broadcast; all ranks call the same functions
 * in the same order for such tensors. */
#ifndef MB_ENGINE_LOAD_H
#define MB_ENGINE_LOAD_H
#include "engine/weights.h"
#include "model/reader.h"

struct mb_loader {
    const struct mb_engine_options *o;
    const struct mb_team *t;
    struct mb_comm *c; /* who shares a shared tensor; NULL: nothing shared is read here */
    struct mb_stream *s;
    struct mb_weights *w; /* whose bytes are counted */
    struct mb_reader *reader;
    uint8_t *pack; /* of a chunk or one row, whichever is more */
    float *f32;    /* NULL, or room for rows of a vector in f32 */
    int64_t elements, f32_bytes; /* read at once (0: MB_LOAD_CHUNK / 4); of f32 */
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
/* Buffers of these sizes: window, f32, and pack bytes for a chunk as it is in the file. */
enum mb_status mb_load_reserve(struct mb_loader *L, const struct mb_load_sizes *n, int64_t pack);
/* Room for rows in transit. */
enum mb_status mb_load_room(struct mb_loader *L, uint64_t bytes);
/* Hands a tensor to take() in chunks of rows; n0: first row of the chunk. */
typedef enum mb_status (*mb_take_fn)(struct mb_loader *L, void *arg, int64_t n0, const struct mb_host_matrix *m);
enum mb_status mb_load_each(struct mb_loader *L, const struct mb_tensor *t, bool shared, mb_take_fn take, void *arg);
/* The same for rows [n0, n1); a shared tensor comes whole, for others may need other rows. */
enum mb_status mb_load_rows(struct mb_loader *L, const struct mb_tensor *t, bool shared, int64_t n0, int64_t n1, mb_take_fn take,
                            void *arg);

/* Rows [n0, n1) and columns [k0, k1) of a tensor. */
struct mb_part {
    int64_t n0, n1, k0, k1;
};
static inline struct mb_part mb_part_whole(const struct mb_tensor *t)
{
    return (struct mb_part){0, t->n, 0, t->k};
}

/* Vectors: f32 (or bf16) [rows, cols]. put: a part of t at (row0, col0). mb_load_vec: a whole tensor of the model, mb_load_vec_cols
 * some columns of it; absent ones leave the vector empty. */
enum mb_status mb_load_vec_create(struct mb_loader *L, int64_t rows, int64_t cols, enum mb_dtype t, struct mb_vec *v);
enum mb_status mb_load_vec_put(struct mb_loader *L, const struct mb_tensor *t, bool shared, struct mb_part part, struct mb_vec *v,
                               int64_t row0, int64_t col0);
enum mb_status mb_load_vec_cols(struct mb_loader *L, enum mb_role role, int32_t layer, int64_t k0, int64_t k1, struct mb_vec *v);
enum mb_status mb_load_vec(struct mb_loader *L, enum mb_role role, int32_t layer, struct mb_vec *v);

/* Packed weights [n, k]. put: a part of t into rows n0... stack: rows [from[i], to[i]) of several shared tensors one below the other,
 * with the same elements of their biases (bias NULL: none). */
enum mb_status mb_load_mat_create(struct mb_loader *L, int64_t n, int64_t k, enum mb_mem_cat cat, struct mb_weight **out);
enum mb_status mb_load_mat_create_as(struct mb_loader *L, int64_t n, int64_t k, struct mb_form form, enum mb_mem_cat cat,
                                     struct mb_weight **out); /* kept as stored */
enum mb_status mb_load_mat_put(struct mb_loader *L, const struct mb_tensor *t, bool shared, struct mb_part part, struct mb_weight *w,
                               int64_t n0);
/* Rows [from, from + n) of a shared tensor become rows to.. of the weight. */
struct mb_rows_to {
    int64_t from, n, to;
};
enum mb_status mb_load_mat_rows(struct mb_loader *L, const struct mb_tensor *t, const struct mb_rows_to *r, int32_t n,
                                struct mb_weight *w);
struct mb_stack {
    enum mb_role role, bias; /* bias: looked up only with has_bias */
    int64_t from, to;        /* to < 0: all rows */
};
enum mb_status mb_load_mat_stack(struct mb_loader *L, int32_t layer, const struct mb_stack *part, int32_t n, bool has_bias,
                                 struct mb_weight **w, struct mb_vec *b);
/* Share r of s of a row-parallel weight whose leaves are made of units: made, filled, or both. */
enum mb_status mb_load_rowpar_create(struct mb_loader *L, const struct mb_tensor *t, int64_t unit, int32_t r, int32_t s,
                                     enum mb_mem_cat cat, struct mb_rowpar *out);
enum mb_status mb_load_rowpar_put(struct mb_loader *L, const struct mb_tensor *t, bool shared, struct mb_rowpar *w);
enum mb_status mb_load_rowpar(struct mb_loader *L, const struct mb_tensor *t, bool shared, int64_t unit, int32_t r, int32_t s,
                              enum mb_mem_cat cat, struct mb_rowpar *out);

/* weights_delta.c: attention whose queries have gates, and gated DeltaNet, of the own heads. */
enum mb_status mb_load_gated(struct mb_loader *L, int32_t layer, struct mb_layer *y);
enum mb_status mb_load_delta_layer(struct mb_loader *L, int32_t layer, struct mb_layer *y);

/* One routed expert of this rank, its slice if experts are sliced: made, and filled from the files. */
enum mb_status mb_load_expert_create(struct mb_loader *L, int32_t layer, int32_t e, struct mb_ffn *f);
enum mb_status mb_load_expert_fill(struct mb_loader *L, int32_t layer, int32_t e, struct mb_ffn *f);
#endif
