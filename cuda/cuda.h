/* Inside the CUDA backend: what its C files share. The backend implements struct mb_ops (device/ops.h) with kernels that have
 * the CPU's bits: the numeric contract on the GPU's FMA units. X.c checks what an operation was given and launches kernels of
 * X.cu by the functions of cuda/kernels.h; nothing outside cuda/ includes this file.
 *
 * Operations are queued on a stream and done in its order. Host data pass through pinned memory of the stream; what kernels
 * find wrong with indices in device memory is told by a word that the host reads when it next waits (mb_cuda_wait). */
#ifndef CUDA_CUDA_H
#define CUDA_CUDA_H
#include <cuda_runtime.h>
#include "base/log.h"
#include "base/mb_math.h"
#include "base/mem.h"
#include "cuda/kernels.h"
#include "device/check.h"
#include "device/ops.h"
#include "device/view.h"

struct mb_device {
    const struct mb_ops *ops; /* first member of every backend's device */
    struct mb_mem *mem;
    int32_t gpu;        /* number of the device, of those CUDA shows to this process */
    enum mb_dtype path; /* type of GEMM inputs */
    int32_t processors; /* streaming multiprocessors */
    int32_t shared;     /* bytes of shared memory that a block may ask for */
    char name[96];
    struct mb_stream *setup; /* what is synchronous (allocation, weights) runs here */
    struct mb_cuda_stage *stage; /* NULL until a weight is filled (cuda/weight.h) */
};
struct mb_buf {
    struct mb_device *dev;
    uint64_t bytes;
    unsigned char *data; /* device memory */
    enum mb_mem_cat cat;
};
struct mb_stream {
    struct mb_device *dev;
    cudaStream_t s;
    unsigned char *scratch; /* device memory: mb_cuda_scratch */
    uint64_t scratch_bytes;
    unsigned char *args_host, *args; /* a ring in pinned and in device memory: mb_cuda_args */
    uint64_t args_used;
    int32_t *flag, *flag_host; /* see mb_flag */
};
extern const struct mb_ops mb_cuda_ops;

/* ---------------------------------------------------------------- errors, waiting (memory.c) */
/* What CUDA says as a status, logged: MB_NO_MEMORY, MB_DEVICE. */
enum mb_status mb_cuda_call(const char *what, cudaError_t e);
/* Waits for all that was queued. MB_BUG: a kernel was given an index outside of what it is for. */
enum mb_status mb_cuda_wait(struct mb_stream *s);

/* ---------------------------------------------------------------- memory (memory.c) */
/* Device memory, accounted; undefined contents. mb_cuda_free: NULL ok. */
enum mb_status mb_cuda_alloc(struct mb_device *dev, enum mb_mem_cat cat, uint64_t bytes, void **out);
void mb_cuda_free(struct mb_device *dev, enum mb_mem_cat cat, uint64_t bytes, void *p);
/* At least `bytes` of device memory (aligned to 256) for the kernels queued next on this stream, until the next call. */
enum mb_status mb_cuda_scratch(struct mb_stream *s, uint64_t bytes, void **out);
/* Room for a table of a kernel, at most MB_CUDA_ARGS bytes: the caller fills *host, and mb_cuda_args_send queues its way to
 * *device. Kernels that read it must be queued before the next call. */
enum { MB_CUDA_ARGS = 1 << 20 };
enum mb_status mb_cuda_args(struct mb_stream *s, uint64_t bytes, void **host, void **device);
enum mb_status mb_cuda_args_send(struct mb_stream *s, const void *host, void *device, uint64_t bytes);

/* ---------------------------------------------------------------- views (memory.c) */
/* The view as kernels take it; MB_NO_VIEW: p NULL. */
struct mb_mat mb_cuda_mat(struct mb_view v);
static inline struct mb_flag mb_cuda_flag(const struct mb_stream *s, enum mb_cuda_op op)
{
    return (struct mb_flag){s->flag, op};
}

/* ---------------------------------------------------------------- operations (contracts: device/ops.h) */
/* device.c */
enum mb_status mb_cuda_stream_create(struct mb_device *dev, struct mb_stream **out);
void mb_cuda_stream_destroy(struct mb_stream *s);
/* memory.c */
enum mb_status mb_cuda_buf_alloc(struct mb_device *dev, enum mb_mem_cat cat, uint64_t bytes, struct mb_buf **out);
void mb_cuda_buf_free(struct mb_buf *buf);
enum mb_status mb_cuda_host_alloc(struct mb_device *dev, uint64_t bytes, void **out);
void mb_cuda_host_free(struct mb_device *dev, void *p);
/* copy.c */
enum mb_status mb_cuda_copy_in(struct mb_stream *s, struct mb_view dst, const void *src);
enum mb_status mb_cuda_copy_out(struct mb_stream *s, void *dst, struct mb_view src);
enum mb_status mb_cuda_copy(struct mb_stream *s, struct mb_view dst, struct mb_view src);
enum mb_status mb_cuda_zero(struct mb_stream *s, struct mb_view dst);
/* rows.c */
enum mb_status mb_cuda_embed(struct mb_stream *s, struct mb_view x, struct mb_view table, struct mb_view ids, float scale);
enum mb_status mb_cuda_gather(struct mb_stream *s, struct mb_view out, struct mb_view src, struct mb_view idx);
enum mb_status mb_cuda_add(struct mb_stream *s, struct mb_view out, struct mb_view a, struct mb_view b);
enum mb_status mb_cuda_scale(struct mb_stream *s, struct mb_view x, float c);
enum mb_status mb_cuda_clamp(struct mb_stream *s, struct mb_view x, float c);
enum mb_status mb_cuda_scale_rows(struct mb_stream *s, struct mb_view x, struct mb_view c, struct mb_view at);
enum mb_status mb_cuda_rope(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view cos,
                            struct mb_view sin, struct mb_view pos, int32_t heads, int32_t first, int32_t rot,
                            enum mb_rope_style style);
enum mb_status mb_cuda_act(struct mb_stream *s, struct mb_view out, struct mb_view gu, enum mb_act_kind kind, float limit);
enum mb_status mb_cuda_gate(struct mb_stream *s, struct mb_view y, struct mb_view gate);
enum mb_status mb_cuda_gate_by(struct mb_stream *s, struct mb_view out, struct mb_view g, struct mb_view x);
/* norm.c */
enum mb_status mb_cuda_norm(struct mb_stream *s, struct mb_view out, struct mb_view raw, struct mb_view x, struct mb_view w,
                            struct mb_view b, enum mb_norm_kind kind, float eps, int32_t groups, int32_t leaves);
enum mb_status mb_cuda_square(struct mb_stream *s, struct mb_view out, struct mb_view x);
enum mb_status mb_cuda_norm_sums(struct mb_stream *s, struct mb_view x, struct mb_view sums, struct mb_view w, int64_t n,
                                 float eps);
enum mb_status mb_cuda_gemm_r32(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                                struct mb_view bias);
/* weight.c */
enum mb_status mb_cuda_weight_create(struct mb_device *dev, const struct mb_weight_desc *d, struct mb_weight **out);
enum mb_status mb_cuda_weight_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m);
enum mb_status mb_cuda_weight_get(const struct mb_weight *w, int64_t n0, int64_t n, void *dst);
uint64_t mb_cuda_weight_bytes(const struct mb_weight *w);
void mb_cuda_weight_free(struct mb_weight *w);
/* gemm.c */
enum mb_status mb_cuda_gemm(struct mb_stream *s, struct mb_view out, struct mb_view x, const struct mb_gemm_group *groups,
                            int32_t n_groups);
/* select.c */
enum mb_status mb_cuda_fold(struct mb_stream *s, struct mb_view out, const struct mb_fold_args *a);
enum mb_status mb_cuda_route(struct mb_stream *s, struct mb_view experts, struct mb_view weights, struct mb_view bad,
                             struct mb_view z, struct mb_view bias, const struct mb_router *r);
enum mb_status mb_cuda_logit_stats(struct mb_stream *s, struct mb_view stats, struct mb_view best, struct mb_view bad,
                                   struct mb_view z);
enum mb_status mb_cuda_logprob(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats, struct mb_view ids);
enum mb_status mb_cuda_top(struct mb_stream *s, struct mb_view ids, struct mb_view logprobs, struct mb_view z, struct mb_view stats);
enum mb_status mb_cuda_sample(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats, struct mb_view rows,
                              struct mb_view adjust, struct mb_view masks);
#endif
