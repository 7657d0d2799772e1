/* KV pages in device memory, and the kernels over them: appending, attention, its parts and their joining,
 * the choice of keys; and the states of linear attention. Between cuda/kv.c, cuda/attn.c, cuda/delta.c and
 * the .cu files, as cuda/kernels.h is.
 *
 * A page has a piece for each head: 64 keys, then 64 values (none under v_in_k), each row after row, a key's
 * row filled with zeros to a multiple of 32 elements (blocks of the dot rule), a value's to a multiple of 16.
 * Pages of bytes: codes in the same places, and the 64 scales behind keys and behind values. */
#ifndef CUDA_KV_H
#define CUDA_KV_H
#include "cuda/kernels.h"

struct mb_pages {
    unsigned char *data;
    int64_t page_bytes, head_bytes, value_at; /* value_at: of a head's piece, where its values begin */
    int32_t pages, heads, d, dv;
    int32_t k_stride, v_stride; /* elements of a row; under v_in_k a value is the begin of a key */
    int32_t v_in_k;
    int32_t dtype; /* enum mb_dtype of what is stored */
};

/* One call of attention. A block of threads takes `tile` neighbouring rows, the `part`-th piece of the query
 * heads that share a KV head, and a chunk of 2^chunk_shift segments: what lies between is a node of the tree.
 */
struct mb_attn_task {
    struct mb_mat q, pos, seq, page_table, sinks, chosen;
    struct mb_mat
        out; /* rows as attention gives them (chunks == 1), else states [M * heads * chunks, dv + 2] */
    struct mb_pages kv;
    int32_t heads, group; /* query heads, and how many share a KV head */
    int32_t parts, part;  /* pieces of a group, and heads of one at most */
    int32_t tile;
    int32_t window, chunked, per; /* per: blocks of 64 in a segment */
    int32_t chunks, chunk_shift;
    float scale, softcap;
    float *open; /* outputs of open nodes: [blocks][levels][tile * part][dv] */
    int32_t levels;
    struct mb_mat item_off, item_seg; /* attention_parts: out is its state, an item is a segment of a row */
    struct mb_flag flag;
};
/* Vectors of a block (tile * part), its threads, open nodes; bytes of shared memory beside what
 * mb_k_attention_shared counts. */
enum { MB_ATTN_MOST = 16, MB_ATTN_THREADS = 128, MB_ATTN_LEVELS = 24, MB_ATTN_STATIC = 6144 };

struct mb_join_task {
    struct mb_mat out, state, item_off, src, pos, sinks;
    int32_t heads, dv, finish;
    int32_t
        chunks; /* 0: items as listed; else states of attention in chunks, of which absent ones have l < 0 */
    struct mb_flag flag;
};
struct mb_choose_task {
    struct mb_mat out, q, w, pos, seq, page_table;
    struct mb_pages kv;
    int32_t heads, topk;
    float scale;
    float *score; /* [rows][keys] */
    int64_t row0, rows, keys;
    struct mb_mat scores, item_off, item_seg; /* choose_parts; else none */
    int32_t segment;
    struct mb_flag flag;
};
struct mb_choose_join_task {
    struct mb_mat out, pos, item_off, key, item_score;
    int32_t *list; /* [rows][topk] */
    struct mb_flag flag;
};
struct mb_conv_task {
    struct mb_mat out, x, w, state, slot, pos;
    struct mb_flag flag;
};
struct mb_delta_task {
    struct mb_mat out, x, z, b, a, a_log, dt, norm, state, slot, pos;
    int32_t key_heads, value_heads, dk, dv, per, first;
    float eps, scale;
    float *rate;   /* [M][value heads][2]: decay, beta */
    int32_t *runs; /* where runs of rows begin: n, then n + 1 places */
    int32_t processors;
    struct mb_flag flag;
};

#ifdef __cplusplus
extern "C" {
#endif
/* kv.cu */
cudaError_t mb_k_kv_append(cudaStream_t s, const struct mb_pages *kv, struct mb_mat k, struct mb_mat v,
                           struct mb_mat slot, struct mb_flag flag);
/* attn.cu: bytes of shared memory that a block of the task needs, with the pages' rows in it or not; blocks:
 * at most as many */
int64_t mb_k_attention_shared(const struct mb_attn_task *t, int staged);
cudaError_t mb_k_attention(cudaStream_t s, const struct mb_attn_task *t, int staged, int64_t blocks);
/* attn_join.cu */
cudaError_t mb_k_attention_join(cudaStream_t s, const struct mb_join_task *t);
/* choose.cu */
int64_t mb_k_choose_shared(const struct mb_choose_task *t);
cudaError_t mb_k_choose(cudaStream_t s, const struct mb_choose_task *t);
cudaError_t mb_k_choose_join(cudaStream_t s, const struct mb_choose_join_task *t);
/* delta.cu */
cudaError_t mb_k_conv(cudaStream_t s, const struct mb_conv_task *t);
cudaError_t mb_k_delta(cudaStream_t s, const struct mb_delta_task *t);
#ifdef __cplusplus
}
#endif
#endif
