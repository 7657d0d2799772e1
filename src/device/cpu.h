/* Inside the CPU backend: what its files share. Operations run at once on the device's team of threads
 * and are done when they return, so a stream is only a place for scratch memory. Nothing outside src/device
 * includes this file.
 *
 * Portable C is the definition of every result; an ISA only changes how fast the same bits appear. */
#ifndef MB_DEVICE_CPU_H
#define MB_DEVICE_CPU_H

#include "base/log.h"
#include "base/mb_math.h"
#include "base/mem.h"
#include "device/check.h"
#include "device/ops.h"
#include "device/view.h"

/* From the narrowest to the widest. Those behind MB_ISA_AVX512 are for GEMMs of bf16 by bf16; all else runs as there. */
enum mb_isa { MB_ISA_PORTABLE, MB_ISA_AVX2, MB_ISA_AVX512, MB_ISA_BF16, MB_ISA_AMX, MB_ISA_COUNT };
/* The set for what is no GEMM of bf16 by bf16. */
static inline enum mb_isa mb_isa_plain(enum mb_isa isa)
{
    return isa > MB_ISA_AVX512 ? MB_ISA_AVX512 : isa;
}

/* The 16 values of an FP4 code under one power of two, as bytes of bf16. */
struct mb_mx_table {
    uint8_t low[16], high[16];
};

struct mb_device {
    const struct mb_ops *ops; /* first member of every backend's device: mb_device_ops() reads it */
    struct mb_mem *mem;
    int32_t threads;
    enum mb_isa isa;    /* the widest kernels in use */
    enum mb_dtype path; /* type of GEMM inputs */
    struct mb_cpu_team *team;
    struct mb_mx_table *mx; /* [256] exponents */
    const struct mb_s8_kernels *s8; /* of the int8 path */
};
struct mb_buf {
    struct mb_device *dev;
    uint64_t bytes;
    unsigned char *data; /* 64-byte aligned */
};
struct mb_stream {
    struct mb_device *dev;
    void *scratch; /* see mb_cpu_scratch */
    uint64_t scratch_bytes;
    void (*meanwhile)(void *arg); /* NULL: none */
    void *meanwhile_arg;
    double polled; /* when */
};

extern const struct mb_ops mb_cpu_ops;

/* ---------------------------------------------------------------- views */
/* First element of row r. Only after mb_want. */
static inline void *mb_row(struct mb_view v, int64_t r)
{
    return v.buf->data + v.off + (uint64_t)(r * v.stride * mb_dtype_size(v.dtype));
}
static inline float *mb_row_f32(struct mb_view v, int64_t r)
{
    return mb_row(v, r);
}
static inline uint16_t *mb_row_bf16(struct mb_view v, int64_t r)
{
    return mb_row(v, r);
}
static inline int32_t *mb_row_i32(struct mb_view v, int64_t r)
{
    return mb_row(v, r);
}
/* Element (r, 0) of an I32 [M, 1] view. */
static inline int32_t mb_at_i32(struct mb_view v, int64_t r)
{
    return *mb_row_i32(v, r);
}
/* n floats to elements c.. of row r of v, rounded to the view's type (MB_F32 or MB_BF16). */
void mb_store_row(struct mb_view v, int64_t r, int64_t c, const float *src, int64_t n);

/* ---------------------------------------------------------------- threads */
/* Runs fn over items [0, n): threads take pieces of `grain` items (0: n / threads) in any order until none is
 * left. Work of one piece or less, or one thread: in the caller without a team. Every thread has the
 * contract's floating-point mode inside fn; the caller's own mode is restored. thread: 0 .. dev->threads - 1,
 * for scratch. fn's results may not depend on how the items are cut. */
typedef void (*mb_cpu_fn)(void *arg, int64_t begin, int64_t end, int32_t thread);
void mb_cpu_run(const struct mb_device *dev, int64_t n, int64_t grain, mb_cpu_fn fn, void *arg);

/* At least `bytes` of scratch (64-byte aligned, contents undefined), valid until the next call on this
 * stream; NULL without memory (logged). */
void *mb_cpu_scratch(struct mb_stream *s, uint64_t bytes);

/* ---------------------------------------------------------------- operations (contracts: device/ops.h) */
/* cpu_copy.c */
enum mb_status mb_cpu_copy_in(struct mb_stream *s, struct mb_view dst, const void *src);
enum mb_status mb_cpu_copy_out(struct mb_stream *s, void *dst, struct mb_view src);
enum mb_status mb_cpu_copy(struct mb_stream *s, struct mb_view dst, struct mb_view src);
enum mb_status mb_cpu_zero(struct mb_stream *s, struct mb_view dst);
/* cpu_weight.c */
enum mb_status mb_cpu_weight_create(struct mb_device *dev, const struct mb_weight_desc *d,
                                    struct mb_weight **out);
enum mb_status mb_cpu_weight_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m);
enum mb_status mb_cpu_weight_get(const struct mb_weight *w, int64_t n0, int64_t n, void *dst);
uint64_t mb_cpu_weight_bytes(const struct mb_weight *w);
void mb_cpu_weight_free(struct mb_weight *w);
/* cpu_unpack.c: of mb_device.mx; NULL without memory. */
struct mb_mx_table *mb_cpu_mx_tables(struct mb_mem *mem);
/* cpu_kv.c */
enum mb_status mb_cpu_kv_create(struct mb_device *dev, const struct mb_kv_desc *d, struct mb_kv **out);
uint64_t mb_cpu_kv_page_bytes(const struct mb_kv_desc *d);
void mb_cpu_kv_free(struct mb_kv *kv);
enum mb_status mb_cpu_kv_append(struct mb_stream *s, struct mb_kv *kv, struct mb_view k, struct mb_view v,
                                struct mb_view slot);
enum mb_status mb_cpu_kv_copy(struct mb_stream *s, struct mb_kv *kv, const int32_t *from, const int32_t *to, int32_t n);
/* cpu_choose.c */
enum mb_status mb_cpu_choose_keys(struct mb_stream *s, struct mb_view out, const struct mb_choose_args *a);
enum mb_status mb_cpu_choose_parts(struct mb_stream *s, struct mb_view out, struct mb_view score, const struct mb_choose_args *a,
                                   struct mb_view item_off, struct mb_view item_seg);
enum mb_status mb_cpu_choose_join(struct mb_stream *s, struct mb_view out, const struct mb_choose_lists *a);
/* cpu_attn.c, cpu_attn_parts.c, cpu_attn_join.c */
enum mb_status mb_cpu_attention(struct mb_stream *s, struct mb_view out, const struct mb_attn_args *a);
enum mb_status mb_cpu_attention_parts(struct mb_stream *s, struct mb_view state, const struct mb_attn_args *a,
                                      struct mb_view item_off, struct mb_view item_seg);
enum mb_status mb_cpu_attention_join(struct mb_stream *s, struct mb_view out, struct mb_view state,
                                     const struct mb_join_args *a);
/* cpu_gemm.c */
enum mb_status mb_cpu_gemm(struct mb_stream *s, struct mb_view out, struct mb_view x,
                           const struct mb_gemm_group *groups, int32_t n_groups);
/* cpu_rows.c: row by row, no sums */
enum mb_status mb_cpu_embed(struct mb_stream *s, struct mb_view x, struct mb_view table, struct mb_view ids,
                            float scale);
enum mb_status mb_cpu_add(struct mb_stream *s, struct mb_view out, struct mb_view a, struct mb_view b);
enum mb_status mb_cpu_scale(struct mb_stream *s, struct mb_view x, float c);
enum mb_status mb_cpu_clamp(struct mb_stream *s, struct mb_view x, float c);
enum mb_status mb_cpu_scale_rows(struct mb_stream *s, struct mb_view x, struct mb_view c, struct mb_view at);
enum mb_status mb_cpu_rope(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view cos,
                           struct mb_view sin, struct mb_view pos, int32_t heads, int32_t first,
                           int32_t rot, enum mb_rope_style style);
enum mb_status mb_cpu_act(struct mb_stream *s, struct mb_view out, struct mb_view gu, enum mb_act_kind kind,
                          float limit);
enum mb_status mb_cpu_gate(struct mb_stream *s, struct mb_view y, struct mb_view gate);
enum mb_status mb_cpu_gather(struct mb_stream *s, struct mb_view out, struct mb_view src, struct mb_view idx);
/* cpu_norm.c */
enum mb_status mb_cpu_norm(struct mb_stream *s, struct mb_view out, struct mb_view raw, struct mb_view x,
                           struct mb_view w, struct mb_view b, enum mb_norm_kind kind, float eps,
                           int32_t groups, int32_t leaves);
enum mb_status mb_cpu_square(struct mb_stream *s, struct mb_view out, struct mb_view x);
enum mb_status mb_cpu_norm_sums(struct mb_stream *s, struct mb_view x, struct mb_view sums, struct mb_view w,
                                int64_t n, float eps);
enum mb_status mb_cpu_gemm_r32(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                               struct mb_view bias);
/* cpu_route.c, cpu_fold.c */
enum mb_status mb_cpu_route(struct mb_stream *s, struct mb_view experts, struct mb_view weights,
                            struct mb_view bad, struct mb_view z, struct mb_view bias,
                            const struct mb_router *r);
enum mb_status mb_cpu_fold(struct mb_stream *s, struct mb_view out, const struct mb_fold_args *a);
/* cpu_delta.c */
enum mb_status mb_cpu_gate_by(struct mb_stream *s, struct mb_view out, struct mb_view g, struct mb_view x);
enum mb_status mb_cpu_conv(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                           struct mb_view state, struct mb_view slot, struct mb_view pos);
enum mb_status mb_cpu_delta(struct mb_stream *s, struct mb_view out, const struct mb_delta_args *a);
/* cpu_logits.c */
enum mb_status mb_cpu_logit_stats(struct mb_stream *s, struct mb_view stats, struct mb_view best,
                                  struct mb_view bad, struct mb_view z);
enum mb_status mb_cpu_logprob(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats,
                              struct mb_view ids);
enum mb_status mb_cpu_top(struct mb_stream *s, struct mb_view ids, struct mb_view logprobs, struct mb_view z,
                          struct mb_view stats);
/* cpu_sample.c */
enum mb_status mb_cpu_sample(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats,
                             struct mb_view rows, struct mb_view adjust, struct mb_view masks);
#endif
