/* Errors, waiting, device and pinned memory, and views in it. */
#include <inttypes.h>
#include <string.h>
#include "cuda/cuda.h"
#include "device/view.h"

enum { ALIGN = 256 }; /* of what kernels share an allocation for: a row of sectors */

/* ---------------------------------------------------------------- errors */
enum mb_status mb_cuda_call(const char *what, cudaError_t e)
{
    if (e == cudaSuccess)
        return MB_OK;
    (void)cudaGetLastError(); /* it is told here: later calls are not to find it again */
    if (e == cudaErrorMemoryAllocation)
        return mb_error(MB_NO_MEMORY, "%s: the GPU has no memory left; use more ranks, a smaller batch or --gpu-memory-utilization",
                        what);
    return mb_error(MB_DEVICE, "%s: CUDA says \"%s\"; see the kernel's log (dmesg) for faults of the GPU", what,
                    cudaGetErrorString(e));
}

static const char *const op_name[MB_CUDA_OPS] = {
    [MB_CUDA_NO_OP] = "no operation",
    [MB_CUDA_EMBED] = "embed",
    [MB_CUDA_GATHER] = "gather",
    [MB_CUDA_SCALE_ROWS] = "scale_rows",
    [MB_CUDA_ROPE] = "rope",
    [MB_CUDA_FOLD] = "fold",
    [MB_CUDA_LOGPROB] = "logprob",
    [MB_CUDA_SAMPLE] = "sample",
    [MB_CUDA_KV_APPEND] = "kv_append",
    [MB_CUDA_ATTENTION] = "attention",
    [MB_CUDA_ATTENTION_PARTS] = "attention_parts",
    [MB_CUDA_ATTENTION_JOIN] = "attention_join",
    [MB_CUDA_CHOOSE_KEYS] = "choose_keys",
    [MB_CUDA_CONV] = "conv",
    [MB_CUDA_DELTA] = "delta",
};

enum mb_status mb_cuda_wait(struct mb_stream *s)
{
    MB_TRY(mb_cuda_call("waiting for the GPU", cudaMemcpyAsync(s->flag_host, s->flag, sizeof *s->flag,
                                                               cudaMemcpyDeviceToHost, s->s)));
    MB_TRY(mb_cuda_call("waiting for the GPU", cudaStreamSynchronize(s->s)));
    int32_t op = *s->flag_host;
    if (op == MB_CUDA_NO_OP)
        return MB_OK;
    MB_TRY(mb_cuda_call("waiting for the GPU", cudaMemsetAsync(s->flag, 0, sizeof *s->flag, s->s)));
    return mb_error(MB_BUG, "%s: an index is outside of what it is for",
                    op > 0 && op < MB_CUDA_OPS ? op_name[op] : "an operation");
}

/* ---------------------------------------------------------------- memory */
enum mb_status mb_cuda_alloc(struct mb_device *dev, enum mb_mem_cat cat, uint64_t bytes, void **out)
{
    void *p = NULL;

    if (bytes > INT64_MAX / 2)
        return mb_error(MB_NO_MEMORY, "no %" PRIu64 " bytes of GPU memory for %s", bytes, mb_mem_name(cat));
    MB_TRY(mb_cuda_call("choosing the GPU", cudaSetDevice(dev->gpu)));
    MB_TRY(mb_cuda_call(mb_mem_name(cat), cudaMalloc(&p, bytes > 0 ? (size_t)bytes : 1)));
    mb_mem_note(dev->mem, cat, (int64_t)bytes);
    *out = p;
    return MB_OK;
}

void mb_cuda_free(struct mb_device *dev, enum mb_mem_cat cat, uint64_t bytes, void *p)
{
    if (p == NULL)
        return;
    (void)cudaFree(p);
    mb_mem_note(dev->mem, cat, -(int64_t)bytes);
}

enum mb_status mb_cuda_scratch(struct mb_stream *s, uint64_t bytes, void **out)
{
    if (s->scratch == NULL || bytes > s->scratch_bytes) {
        void *p = NULL;
        MB_TRY(mb_cuda_wait(s)); /* kernels may still use the old one */
        mb_cuda_free(s->dev, MB_MEM_OTHER, s->scratch_bytes, s->scratch);
        s->scratch = NULL;
        s->scratch_bytes = 0;
        MB_TRY(mb_cuda_alloc(s->dev, MB_MEM_OTHER, bytes, &p));
        s->scratch = p;
        s->scratch_bytes = bytes;
    }
    *out = s->scratch;
    return MB_OK;
}

enum mb_status mb_cuda_args(struct mb_stream *s, uint64_t bytes, void **host, void **device)
{
    if (bytes > MB_CUDA_ARGS)
        return mb_error(MB_BUG, "a kernel's table of %" PRIu64 " bytes", bytes);
    if (s->args_used + bytes > MB_CUDA_ARGS) { /* around: what lies there may still be on its way */
        MB_TRY(mb_cuda_wait(s));
        s->args_used = 0;
    }
    *host = s->args_host + s->args_used;
    *device = s->args + s->args_used;
    s->args_used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return MB_OK;
}

enum mb_status mb_cuda_args_send(struct mb_stream *s, const void *host, void *device, uint64_t bytes)
{
    return mb_cuda_call("a kernel's table",
                        cudaMemcpyAsync(device, host, (size_t)bytes, cudaMemcpyHostToDevice, s->s));
}

enum mb_status mb_cuda_buf_alloc(struct mb_device *dev, enum mb_mem_cat cat, uint64_t bytes, struct mb_buf **out)
{
    struct mb_buf *b = mb_zalloc(dev->mem, MB_MEM_OTHER, 1, sizeof *b);
    void *data = NULL;
    enum mb_status st = b == NULL ? mb_error(MB_NO_MEMORY, "no memory for a buffer") : MB_OK;

    if (st == MB_OK)
        st = mb_cuda_alloc(dev, cat, bytes, &data);
    if (st == MB_OK && bytes > 0)
        st = mb_cuda_call("a new buffer", cudaMemsetAsync(data, 0, (size_t)bytes, dev->setup->s));
    if (st == MB_OK)
        st = mb_cuda_wait(dev->setup);
    if (st != MB_OK) {
        mb_cuda_free(dev, cat, bytes, data);
        mb_free(b);
        return st;
    }
    *b = (struct mb_buf){dev, bytes, data, cat};
    *out = b;
    return MB_OK;
}

void mb_cuda_buf_free(struct mb_buf *buf)
{
    if (buf == NULL)
        return;
    mb_cuda_free(buf->dev, buf->cat, buf->bytes, buf->data);
    mb_free(buf);
}

/* Pinned memory begins with its size, so that it can be given back to the account. */
struct pinned {
    uint64_t bytes;
    char room[ALIGN - sizeof(uint64_t)];
};

enum mb_status mb_cuda_host_alloc(struct mb_device *dev, uint64_t bytes, void **out)
{
    void *p = NULL;

    if (bytes > INT64_MAX / 2)
        return mb_error(MB_NO_MEMORY, "no %" PRIu64 " bytes of staging memory", bytes);
    cudaError_t e = cudaMallocHost(&p, (size_t)bytes + sizeof(struct pinned));
    if (e != cudaSuccess) {
        (void)cudaGetLastError();
        return mb_error(MB_NO_MEMORY, "no %" PRIu64 " bytes of pinned memory for staging (%s); raise ulimit -l or use fewer ranks a node",
                        bytes, cudaGetErrorString(e));
    }
    ((struct pinned *)p)->bytes = bytes;
    memset((char *)p + sizeof(struct pinned), 0, (size_t)bytes);
    mb_mem_note(dev->mem, MB_MEM_STAGING, (int64_t)bytes);
    *out = (char *)p + sizeof(struct pinned);
    return MB_OK;
}

void mb_cuda_host_free(struct mb_device *dev, void *p)
{
    if (p == NULL)
        return;
    struct pinned *head = (struct pinned *)(void *)((char *)p - sizeof *head);
    mb_mem_note(dev->mem, MB_MEM_STAGING, -(int64_t)head->bytes);
    (void)cudaFreeHost(head);
}

/* ---------------------------------------------------------------- views */
_Static_assert(MB_BUF_HEAD_OK, "mb_want reads the head of a buffer");

struct mb_mat mb_cuda_mat(struct mb_view v)
{
    return (struct mb_mat){v.buf != NULL ? v.buf->data + v.off : NULL, v.stride, v.rows, v.cols, v.dtype};
}
