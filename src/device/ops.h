/* The backend table: everything the program asks of a device. Mechanism enums are the parameters of operations
 * (device/kinds.h; model rows use them). One table per backend, no optional members; registry.c alone knows
 * which exist.
 *
 * Rules for callers: a device address is never a pointer outside a backend. Memory is struct mb_buf (opaque, accounted),
 * operands are struct mb_view. Operations are asynchronous on a stream, in stream order; host data passes only through
 * copy_in and copy_out (both return when the host side may be reused / read, so copy_out waits for the stream).
 * Outputs come first. Views of one call must not overlap unless the operation says so. Rows M may be 0 everywhere.
 * Shapes are checked by the backend with MB_BUG (a caller's mistake); files and requests were checked long before.
 *
 * "GEMM-input type": the view's own dtype, MB_F32 (path f32) or MB_BF16 (path bf16, RNE once, where produced). Every
 * arithmetic step follows base/numerics.h. All functions Local. */
#ifndef MB_DEVICE_OPS_H
#define MB_DEVICE_OPS_H

#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/numerics.h"
#include "base/status.h"
#include "device/form.h"
#include "device/kinds.h"

struct mb_device;
struct mb_stream;
struct mb_buf;
struct mb_weight; /* a packed GEMM weight */
struct mb_kv;     /* the KV page pool of one layer */

/* rows x cols elements at byte offset off; row r starts stride elements after row r-1. */
struct mb_view {
    struct mb_buf *buf;
    uint64_t off;
    int64_t rows, cols, stride;
    enum mb_dtype dtype;
};
static inline struct mb_view mb_view_of(struct mb_buf *buf, uint64_t off, int64_t rows, int64_t cols, enum mb_dtype t)
{
    return (struct mb_view){buf, off, rows, cols, cols, t};
}
/* Rows [r, r + n) of v. */
static inline struct mb_view mb_view_rows(struct mb_view v, int64_t r, int64_t n)
{
    v.off += (uint64_t)(r * v.stride * mb_dtype_size(v.dtype));
    v.rows = n;
    return v;
}
/* Columns [c, c + n) of v. */
static inline struct mb_view mb_view_cols(struct mb_view v, int64_t c, int64_t n)
{
    v.off += (uint64_t)(c * mb_dtype_size(v.dtype));
    v.cols = n;
    return v;
}
#define MB_NO_VIEW ((struct mb_view){0})

/* ---------------------------------------------------------------- operations' shapes */
/* A GEMM weight of N columns (outputs) and K inputs, of values of dtype. leaf[0..leaves] are the K boundaries of the tree
 * (1 leaf unless row-parallel). */
struct mb_weight_desc {
    int64_t n, k;
    enum mb_dtype dtype;
    int32_t leaves;
    int64_t leaf[MB_MAX_LEAVES + 1];
    enum mb_mem_cat cat;
    struct mb_form form; /* how it is kept: as dtype, or as a file stores it; its values are of dtype either way */
};
/* Host data for weight_put and host_convert: element (i, j) lies at base[i*stride_n + j*stride_k] (elements). FP8: scale of
 * element (i, j) is scale[((i + n0)/block_n)*scale_stride + (j + k0)/block_k], value = fl32(fp8 * scale). n0/k0: see there. */
struct mb_host_matrix {
    const void *base;
    enum mb_storage storage;
    int64_t n, k, stride_n, stride_k;
    const float *scale;
    int64_t block_n, block_k, scale_stride;
    int64_t scale_n0, scale_k0; /* matrix position of element (0, 0), for the scale look-up */
    struct mb_host_codes codes; /* MB_STORE_CODES: takes the place of base, strides, scale and blocks */
};
/* Rows [n0, n0 + n) and columns [k0, k0 + k) of m. */
static inline struct mb_host_matrix mb_host_part(const struct mb_host_matrix *m, int64_t n0, int64_t n, int64_t k0,
                                                 int64_t k)
{
    struct mb_host_matrix p = *m;

    if (m->storage != MB_STORE_CODES)
        p.base = (const uint8_t *)m->base + (n0 * m->stride_n + k0 * m->stride_k) * mb_storage_size(m->storage);
    p.n = n;
    p.k = k;
    p.scale_n0 += n0;
    p.scale_k0 += k0;
    return p;
}
/* n rows of k columns in a blob (device/form.h). */
static inline struct mb_host_matrix mb_host_stored(const struct mb_form *f, int64_t n, int64_t k, const void *blob)
{
    return (struct mb_host_matrix){
        .storage = MB_STORE_CODES, .n = n, .k = k, .codes = mb_form_view(f, n, k, blob)};
}

struct mb_kv_desc {
    int32_t pages;         /* pages of MB_KV_BLOCK positions */
    int32_t heads;         /* KV heads (MLA: 1) */
    int32_t d, dv;         /* key and value width per head */
    bool v_in_k;           /* MLA: the value is the first dv columns of the key; kv_append gets no v */
    enum mb_dtype dtype;   /* MB_F32, MB_BF16, or MB_U8: signed bytes with a scale for each position and head (one of its key, one of its
                            * value), made from the f32 values as a GEMM's rows are; read as bf16(fl32(code * scale)) */
};

/* One group of a GEMM: out[rows row0.., out_col..] = x[rows row0.., x_col..] w^T. */
struct mb_gemm_group {
    const struct mb_weight *w;
    int64_t row0, rows;
    int64_t x_col, out_col;
    struct mb_view bias; /* f32 [1, N], or MB_NO_VIEW: added once, after the tree */
};

struct mb_attn_args {
    struct mb_view q;          /* [M, heads*d] GEMM-input type, roped, not scaled */
    const struct mb_kv *kv;
    struct mb_view pos;        /* I32 [M, 1]: position of each row; it sees keys <= pos */
    struct mb_view seq;        /* I32 [M, 1]: row of page_table */
    struct mb_view page_table; /* I32 [sequences, max pages]: page number of positions 64*j .. 64*j+63 */
    int32_t heads;
    float scale;               /* f64 rounded to f32 by the caller */
    float softcap;             /* 0: none */
    int32_t window;            /* keys a row sees including itself; 0: all */
    bool chunked;              /* the window does not slide: a row sees the keys of its own run of `window` positions */
    int32_t segment;           /* positions per KV segment, a multiple of 64 */
    struct mb_view sinks;      /* f32 [1, heads] or MB_NO_VIEW */
    struct mb_view chosen;     /* what choose_keys wrote for these rows: other keys are not seen; or MB_NO_VIEW. Not with softcap */
};

/* The choice of sparse attention (doc/numerics, Indexer): score of key s <= pos[t] for row t = sum over heads h, ascending, from +0,
 * by fmaf(w[t, h], max(scale * (q[t, h] . k[s]), 0), sum). The topk highest are chosen; of equal ones the lower positions. */
struct mb_choose_args {
    struct mb_view q;  /* [M, heads*d] GEMM-input type */
    struct mb_view w;  /* f32 [M, heads] */
    const struct mb_kv *kv; /* one head, v_in_k */
    struct mb_view pos, seq, page_table; /* as in mb_attn_args */
    int32_t heads, topk;
    float scale;
    int32_t segment; /* choose_parts: positions per KV segment, a multiple of 64 */
};
/* Keys that several ranks have listed: item item_off[i] <= j < item_off[i+1] of row i is position key[j] with index score score[j]. */
struct mb_choose_lists {
    struct mb_view pos;        /* I32 [M, 1]: position of each row */
    struct mb_view item_off;   /* I32 [M+1, 1] */
    struct mb_view key, score; /* I32, f32 [items, 1]; a position is listed once */
};

/* Joins partial states of attention by the tree rule over segment numbers: out row n = tree over items
 * item_off[n] .. item_off[n+1]-1 (at least one); item j is row src[j] of the states, at position pos[j],
 * ascending: a segment, or the first segment of an inner node. */
struct mb_join_args {
    struct mb_view item_off; /* I32 [N+1, 1] */
    struct mb_view src, pos; /* I32 [items, 1] */
    struct mb_view sinks;    /* f32 [1, heads] or MB_NO_VIEW; ignored unless finish */
    int32_t heads, dv;
    bool finish;             /* see attention_join */
};

/* A tree sum of rows (rule 2): out row i = tree over items item_off[i] .. item_off[i+1]-1, ascending in item_pos. Item j's
 * value is fl32(weight[j] * y[src[j], :]) if src[j] >= 0, and the f32 row inner[-1 - src[j], :] otherwise. No item: +0. */
struct mb_fold_args {
    struct mb_view item_off; /* I32 [M+1, 1] */
    struct mb_view src, pos; /* I32 [items, 1] */
    struct mb_view weight;   /* f32 [items, 1]; ignored where src < 0 */
    struct mb_view y;        /* rounded expert outputs [*, H]: MB_F32 or MB_BF16; y and weight may be
                              * MB_NO_VIEW if every src is negative */
    struct mb_view inner;    /* f32 [*, H]; MB_NO_VIEW if no src is negative */
};

/* Gated DeltaNet (doc/numerics, Recurrent state): linear attention whose past is a state of fixed size for each sequence, f32. The
 * rows of a sequence are neighbours, positions ascending; slot names the state that is theirs, and a row at position 0 begins with
 * zeros instead. Value head h reads key head (first + h) / per. A head's state [dk, dv] is kept in panels of MB_DELTA_COLS columns:
 * element (i, c) at ((c / cols) * dk + i) * cols + c % cols. */
struct mb_delta_args {
    struct mb_view x;             /* f32 [M, 2 key_heads dk + value_heads dv]: q, k, v; undefined afterwards */
    struct mb_view z;             /* f32 [M, value_heads dv] */
    struct mb_view b, a;          /* f32 [M, value_heads] */
    struct mb_view a_log, dt;     /* f32 [1, value_heads] */
    struct mb_view norm;          /* f32 [1, dv] */
    struct mb_view state;         /* f32 [slots, value_heads * mb_delta_tile(dk, dv)] */
    struct mb_view slot, pos;     /* I32 [M, 1] */
    int32_t key_heads, value_heads, dk, dv, per, first;
    float eps; /* of the norm */
};
struct mb_device_options {
    int32_t threads;    /* computing threads; 0: one */
    const char *isa;    /* "auto", "portable", "avx2", "avx512", "amx": CPU only */
    int32_t gpu;        /* number of the rank on its machine: takes GPU gpu mod their number */
    struct mb_mem *mem; /* account; outlives the device */
    enum mb_dtype path; /* MB_F32 or MB_BF16: type of GEMM inputs */
};
struct mb_device_info {
    char name[32];  /* "cpu" */
    char isa[128];  /* what runs, for people: "avx2, 2 threads" */
    int32_t threads;
};

/* ---------------------------------------------------------------- the table */
struct mb_ops {
    const char *name;
    const char *help;

    enum mb_status (*open)(const struct mb_device_options *opt, struct mb_device **out);
    void (*close)(struct mb_device *dev); /* NULL ok; everything made from it was freed before */
    void (*info)(const struct mb_device *dev, struct mb_device_info *out);

    /* memory, zeroed; freed by buf_free (NULL ok) */
    enum mb_status (*buf_alloc)(struct mb_device *dev, enum mb_mem_cat cat, uint64_t bytes, struct mb_buf **out);
    void (*buf_free)(struct mb_buf *buf);
    enum mb_status (*stream_create)(struct mb_device *dev, struct mb_stream **out);
    void (*stream_destroy)(struct mb_stream *s); /* NULL ok */
    enum mb_status (*sync)(struct mb_stream *s);
    /* While a GEMM keeps the caller, it calls fn(arg) about once a millisecond (a backend that computes while the caller goes
     * on need not). fn must ask nothing of the device. NULL: none. */
    void (*meanwhile)(struct mb_stream *s, void (*fn)(void *arg), void *arg);
    /* pinned host memory for staging, accounted under MB_MEM_STAGING; host_free(NULL) ok */
    enum mb_status (*host_alloc)(struct mb_device *dev, uint64_t bytes, void **out);
    void (*host_free)(struct mb_device *dev, void *p);
    /* host side: rows packed without gaps */
    enum mb_status (*copy_in)(struct mb_stream *s, struct mb_view dst, const void *src);
    enum mb_status (*copy_out)(struct mb_stream *s, void *dst, struct mb_view src);
    /* dst = src, converting between MB_F32 and MB_BF16 (RNE) where the dtypes differ; same shape */
    enum mb_status (*copy)(struct mb_stream *s, struct mb_view dst, struct mb_view src);
    enum mb_status (*zero)(struct mb_stream *s, struct mb_view dst);

    /* weights: created zeroed, then filled in parts; put: w[n0 .. n0+m.n)[k0 .. k0+m.k) = m, rounded to the weight's dtype
     * (f16, bf16, fp8, codes go through f32; RNE). A weight kept as stored takes codes of its form, or FP8 with one scale for
     * each of its groups; one of S8 (path int8) whole rows of anything, which it quantises: code = RNE(w / s), s = max|w| / 127 of the
     * column's leaf; its padding has unspecified values. Synchronous. */
    enum mb_status (*weight_create)(struct mb_device *dev, const struct mb_weight_desc *d, struct mb_weight **out);
    enum mb_status (*weight_put)(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m);
    /* The reverse of put: rows [n0, n0 + n) as packed rows of k elements of the weight's dtype, on the host; of a weight kept as
     * stored: a blob of its form (with g_idx: of rows of one matrix). What put rounded comes back as it was rounded. */
    enum mb_status (*weight_get)(const struct mb_weight *w, int64_t n0, int64_t n, void *dst);
    uint64_t (*weight_bytes)(const struct mb_weight *w); /* resident bytes */
    void (*weight_free)(struct mb_weight *w);

    enum mb_status (*kv_create)(struct mb_device *dev, const struct mb_kv_desc *d, struct mb_kv **out);
    uint64_t (*kv_page_bytes)(const struct mb_kv_desc *d); /* resident bytes of one page */
    void (*kv_free)(struct mb_kv *kv);

    /* x[i, :] = table[ids[i], :] * scale (scale 1: as stored); x f32 [M, H], table [V, H] f32 or bf16, ids I32 [M, 1] */
    enum mb_status (*embed)(struct mb_stream *s, struct mb_view x, struct mb_view table, struct mb_view ids, float scale);
    /* Norm of each row of x (f32 [M, H]): out (GEMM-input type, [M, H] or MB_NO_VIEW) and raw (unrounded f32, [M, H] or
     * MB_NO_VIEW). w f32 [1, H], b f32 [1, H] or MB_NO_VIEW (LayerNorm bias). groups > 1: each row is groups vectors of
     * H/groups, normed separately with the same w [1, H/groups] (per-head q/k norm). leaves > 1: the whole row is one
     * vector whose square sum is a tree of `leaves` equal R32 leaves (OLMoE). raw may be x itself. */
    enum mb_status (*norm)(struct mb_stream *s, struct mb_view out, struct mb_view raw, struct mb_view x, struct mb_view w,
                           struct mb_view b, enum mb_norm_kind kind, float eps, int32_t groups, int32_t leaves);
    /* Whole-vector RMS norm of vectors whose columns several ranks hold, in two steps, with the bits of norm
     * with L leaves over the whole vector; L <= 512.
     * square: out f32 [M, L] = R32 sum of squares of each of the L equal leaves of row i of x f32 [M, C].
     * norm_sums: x f32 [M, C], in place, is a part of a vector of n columns whose leaves have the square
     * sums sums f32 [M, L]: x = (x * (1/sqrt(tree(sums)/n + eps))) * w, w f32 [1, C]. */
    enum mb_status (*square)(struct mb_stream *s, struct mb_view out, struct mb_view x);
    enum mb_status (*norm_sums)(struct mb_stream *s, struct mb_view x, struct mb_view sums, struct mb_view w,
                                int64_t n, float eps);
    /* out = a + b, f32, same shape, or b one row that is added to every row of a; out may be a, or b of the
     * same shape */
    enum mb_status (*add)(struct mb_stream *s, struct mb_view out, struct mb_view a, struct mb_view b);
    /* x = x * c; x = min(max(x, -c), c): f32, in place */
    enum mb_status (*scale)(struct mb_stream *s, struct mb_view x, float c);
    enum mb_status (*clamp)(struct mb_stream *s, struct mb_view x, float c);
    /* x[i, :] = x[i, :] * c[at[i]]: f32 [M, H], in place; c f32 [positions, 1], at I32 [M, 1] */
    enum mb_status (*scale_rows)(struct mb_stream *s, struct mb_view x, struct mb_view c, struct mb_view at);
    /* out (type of the view) = x (f32 [M, heads*d]) with columns [first, first + rot) of each head rotated by row pos[i] of cos
     * and sin (f32 [positions, rot/2]), the others as they are. first is d - rot in MLA's q, 0 elsewhere. out may be x. */
    enum mb_status (*rope)(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view cos, struct mb_view sin,
                           struct mb_view pos, int32_t heads, int32_t first, int32_t rot, enum mb_rope_style style);
    /* page slot[i] (= page*64 + offset) of kv gets row i of k [M, heads*d] and v [M, heads*dv] (f32, rounded to the page
     * type here); v is MB_NO_VIEW under v_in_k */
    enum mb_status (*kv_append)(struct mb_stream *s, struct mb_kv *kv, struct mb_view k, struct mb_view v,
                                struct mb_view slot);
    /* page to[i] of kv becomes a copy of page from[i], in order; host memory */
    enum mb_status (*kv_copy)(struct mb_stream *s, struct mb_kv *kv, const int32_t *from, const int32_t *to, int32_t n);
    /* out I32 [M, 1 + topk]: how many keys were chosen, then their positions, ascending, then -1; or -1 first: all that the row sees */
    enum mb_status (*choose_keys)(struct mb_stream *s, struct mb_view out, const struct mb_choose_args *a);
    /* The choice over keys that several ranks hold, with the result of choose_keys: each rank lists the highest of its keys (parts), and
     * the row's rank joins the lists (join).
     * parts: only keys of the segments item_seg listed for a row (as in attention_parts) are scored, and only their entries of page_table
     * read. out as of choose_keys, of these keys: the min(topk, their number) highest, and score f32 [M, topk] theirs, in the same order;
     * a row at a position below topk gets -1 and no scores, whatever is listed.
     * join: out of choose_keys, from lists that hold each row's topk highest keys; those of a row at a position below topk are not read. */
    enum mb_status (*choose_parts)(struct mb_stream *s, struct mb_view out, struct mb_view score, const struct mb_choose_args *a,
                                   struct mb_view item_off, struct mb_view item_seg);
    enum mb_status (*choose_join)(struct mb_stream *s, struct mb_view out, const struct mb_choose_lists *a);
    /* out [M, heads*dv] in its own type (GEMM-input type) */
    enum mb_status (*attention)(struct mb_stream *s, struct mb_view out, const struct mb_attn_args *a);
    /* Attention over keys that several ranks hold, with the bits of attention: each rank computes the states
     * of its segments (parts), joins those of each maximal tree node that it holds completely (join, not
     * finish), and the row's rank joins these (finish).
     * parts: state f32 [items, heads*(dv+2)]: item j of row i (item_off[i] <= j < item_off[i+1], possibly
     * none; item_seg ascending inside a row) holds for each head m, l, o[0 .. dv): the fold of the blocks of
     * segment item_seg[j], before any division. a->sinks is ignored. Each listed segment has a key that its
     * row sees (of a choice: that it chose). Only page_table entries of listed segments are read (others may
     * hold anything). item_off I32 [M+1, 1], item_seg I32 [items, 1]. */
    enum mb_status (*attention_parts)(struct mb_stream *s, struct mb_view state, const struct mb_attn_args *a,
                                      struct mb_view item_off, struct mb_view item_seg);
    /* join: state f32 [*, heads*(dv+2)] as of parts. Finish: out [N, heads*dv] in its own type (GEMM-input
     * type): the root, then the sink and o / l as in attention. Not finish: out f32 [N, heads*(dv+2)] is the
     * joined state. */
    enum mb_status (*attention_join)(struct mb_stream *s, struct mb_view out, struct mb_view state,
                                     const struct mb_join_args *a);

    /* groups of dot-rule GEMMs over one x (GEMM-input type) and one out (f32, or bf16: rounded after tree and bias). All weights S8,
     * or none; then x is f32, quantised here as weights are (a scale for each leaf of a row; no finite row: NaN), and a leaf is
     * fl(fl32(exact sum) * fl(row's scale * column's)) */
    enum mb_status (*gemm)(struct mb_stream *s, struct mb_view out, struct mb_view x, const struct mb_gemm_group *groups,
                           int32_t n_groups);
    /* out f32 [M, N] = R32 dot of x f32 [M, K] with rows of w f32 [N, K], + bias f32 [1, N] or MB_NO_VIEW */
    enum mb_status (*gemm_r32)(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                               struct mb_view bias);
    /* out [M, I] (GEMM-input type) = act(gu[:, 0..I)) * gu[:, I..2I), gu f32 [M, 2I] */
    enum mb_status (*act)(struct mb_stream *s, struct mb_view out, struct mb_view gu, enum mb_act_kind kind, float limit);
    /* y[i, :] = fl(sigmoid(gate[i]) * y[i, :]), f32; gate f32 [M, 1] */
    enum mb_status (*gate)(struct mb_stream *s, struct mb_view y, struct mb_view gate);

    /* out [M, N] (GEMM-input type) = fl(sigmoid(g) * x), f32 [M, N] each */
    enum mb_status (*gate_by)(struct mb_stream *s, struct mb_view out, struct mb_view g, struct mb_view x);
    /* Causal depthwise convolution and silu: out f32 [M, C] = silu of the chain y = fmaf(w[j, c], x[t - (taps - 1) + j, c], y) over
     * j = 0 .. taps - 1 from +0, w f32 [taps, C]; inputs before position 0 are zeros, those of earlier steps are in state f32
     * [slots, (taps - 1) C], the oldest first, which gets the last ones. slot, pos: see mb_delta_args. taps <= MB_MAX_TAPS. */
    enum mb_status (*conv)(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w, struct mb_view state,
                           struct mb_view slot, struct mb_view pos);
    /* The gated delta rule: out [M, value_heads dv] in its own type (GEMM-input type); steps and roundings: doc/numerics */
    enum mb_status (*delta)(struct mb_stream *s, struct mb_view out, const struct mb_delta_args *a);

    /* From router logits z f32 [M, E]: experts I32 [M, k] in top-k order, weights f32 [M, k]; bad I32 [M, 1]: 1 where a
     * logit is not finite (then experts are 0..k-1 and weights 0), else 0. bias f32 [1, E] for the sigmoid and
     * softmax-with-bias kinds (others ignore it). */
    enum mb_status (*route)(struct mb_stream *s, struct mb_view experts, struct mb_view weights, struct mb_view bad,
                            struct mb_view z, struct mb_view bias, const struct mb_router *r);
    /* out[i, :] = src[idx[i], :], same dtype; idx I32 [M, 1] */
    enum mb_status (*gather)(struct mb_stream *s, struct mb_view out, struct mb_view src, struct mb_view idx);
    enum mb_status (*fold)(struct mb_stream *s, struct mb_view out, const struct mb_fold_args *a);

    /* z f32 [M, V]: stats f32 [M, 2] = (max, sum of exp) by vocabulary leaves; best I32 [M, 1] = argmax (lowest id);
     * bad I32 [M, 1] = 1 where a logit is not finite */
    enum mb_status (*logit_stats)(struct mb_stream *s, struct mb_view stats, struct mb_view best, struct mb_view bad,
                                  struct mb_view z);
    /* logprob f32 [M, 1] of ids I32 [M, 1]: (z - max) - logf(sum) */
    enum mb_status (*logprob)(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats,
                              struct mb_view ids);
    /* the n largest: ids I32 [M, n], logprob f32 [M, n], value descending then id ascending; n <= 20 */
    enum mb_status (*top)(struct mb_stream *s, struct mb_view ids, struct mb_view logprobs, struct mb_view z,
                          struct mb_view stats);
    /* out I32 [M, 1]: the drawn token of each row. rows U8 [M, sizeof(struct mb_sample_row)], adjust U8 [n, sizeof(struct
     * mb_sample_adjust)], masks I32 [n, ceil(V / 32)]: id i is bit i % 32 of word i / 32, z is -inf where it is 0, after all
     * adjustments */
    enum mb_status (*sample)(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats,
                             struct mb_view rows, struct mb_view adjust, struct mb_view masks);
};

/* registry.c */
const struct mb_ops *mb_ops_find(const char *name); /* "auto": the best that can open; NULL: unknown */
const struct mb_ops *const *mb_ops_all(int *n);
/* Bytes that can be used of each device of a kind, and how many this machine has; 0: they are the machine's own memory. */
int64_t mb_ops_memory(const struct mb_ops *ops, int32_t *devices);
/* How a stream or device finds its table. */
const struct mb_ops *mb_device_ops(const struct mb_device *dev);
#endif
