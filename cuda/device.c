/* Devices and streams, and the table of operations. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cuda/cuda.h"
#include "cuda/cuda_kv.h"
#include "cuda/present.h"
#include "cuda/weight.h"

int32_t mb_cuda_present(void)
{
    int n = 0;

    if (cudaGetDeviceCount(&n) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    return n;
}

/* Asked of the properties: a context on each GPU, which cudaMemGetInfo would make, takes memory of it. */
int64_t mb_cuda_memory(void)
{
    const int64_t own = 768ll << 20; /* a context, kernels, local memory */
    int64_t least = 0;

    for (int32_t i = 0; i < mb_cuda_present(); i++) {
        struct cudaDeviceProp p;
        if (cudaGetDeviceProperties(&p, i) != cudaSuccess)
            continue;
        int64_t bytes = (int64_t)p.totalGlobalMem > own ? (int64_t)p.totalGlobalMem - own : 1;
        least = least == 0 || bytes < least ? bytes : least;
    }
    return least;
}

/* ---------------------------------------------------------------- streams */
void mb_cuda_stream_destroy(struct mb_stream *s)
{
    if (s == NULL)
        return;
    if (s->s != NULL) {
        (void)cudaStreamSynchronize(s->s);
        (void)cudaStreamDestroy(s->s);
    }
    mb_cuda_free(s->dev, MB_MEM_OTHER, s->scratch_bytes, s->scratch);
    mb_cuda_free(s->dev, MB_MEM_OTHER, MB_CUDA_ARGS, s->args);
    mb_cuda_free(s->dev, MB_MEM_OTHER, sizeof *s->flag, s->flag);
    mb_cuda_host_free(s->dev, s->args_host);
    mb_cuda_host_free(s->dev, s->flag_host);
    mb_free(s);
}

static enum mb_status fill_stream(struct mb_stream *s)
{
    void *args = NULL, *flag = NULL, *args_host = NULL, *flag_host = NULL;

    MB_TRY(mb_cuda_alloc(s->dev, MB_MEM_OTHER, MB_CUDA_ARGS, &args));
    s->args = args;
    MB_TRY(mb_cuda_alloc(s->dev, MB_MEM_OTHER, sizeof *s->flag, &flag));
    s->flag = flag;
    MB_TRY(mb_cuda_host_alloc(s->dev, MB_CUDA_ARGS, &args_host));
    s->args_host = args_host;
    MB_TRY(mb_cuda_host_alloc(s->dev, sizeof *s->flag_host, &flag_host));
    s->flag_host = flag_host;
    /* not bound to the default stream, which nothing here uses */
    MB_TRY(mb_cuda_call("a stream", cudaStreamCreateWithFlags(&s->s, cudaStreamNonBlocking)));
    return mb_cuda_call("a stream", cudaMemsetAsync(s->flag, 0, sizeof *s->flag, s->s));
}

enum mb_status mb_cuda_stream_create(struct mb_device *dev, struct mb_stream **out)
{
    struct mb_stream *s = mb_zalloc(dev->mem, MB_MEM_OTHER, 1, sizeof *s);

    if (s == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a stream");
    s->dev = dev;
    enum mb_status st = fill_stream(s);
    if (st != MB_OK) {
        mb_cuda_stream_destroy(s);
        return st;
    }
    *out = s;
    return MB_OK;
}

static enum mb_status cuda_sync(struct mb_stream *s)
{
    return mb_cuda_wait(s);
}

static void cuda_meanwhile(struct mb_stream *s, void (*fn)(void *), void *arg)
{
    (void)s; /* a GEMM does not keep the caller */
    (void)fn;
    (void)arg;
}

/* ---------------------------------------------------------------- devices */
static void cuda_close(struct mb_device *dev)
{
    if (dev == NULL)
        return;
    mb_cuda_stage_destroy(dev);
    mb_cuda_stream_destroy(dev->setup);
    mb_free(dev);
}

static enum mb_status look_at(struct mb_device *dev)
{
    struct cudaDeviceProp p;

    MB_TRY(mb_cuda_call("choosing the GPU", cudaSetDevice(dev->gpu)));
    MB_TRY(mb_cuda_call("looking at the GPU", cudaGetDeviceProperties(&p, dev->gpu)));
    if (p.major < 8)
        return mb_error(MB_LAYOUT, "GPU %d (%s) has compute capability %d.%d; 8.0 (A100) or later is needed, or --backend cpu",
                        dev->gpu, p.name, p.major, p.minor);
    dev->processors = p.multiProcessorCount;
    dev->shared = (int32_t)p.sharedMemPerBlockOptin;
    snprintf(dev->name, sizeof dev->name, "%.60s (sm_%d%d, %.0f GiB)", p.name, p.major, p.minor,
             (double)p.totalGlobalMem / (1024.0 * 1024 * 1024));
    return MB_OK;
}

static enum mb_status cuda_open(const struct mb_device_options *opt, struct mb_device **out)
{
    int32_t gpus = mb_cuda_present();

    if (opt->path != MB_F32 && opt->path != MB_BF16)
        return mb_error(MB_BUG, "cuda: path type %d is neither f32 nor bf16", (int)opt->path);
    if (gpus < 1)
        return mb_error(MB_LAYOUT, "CUDA finds no GPU here (nvidia-smi shows what the driver sees); use --backend cpu");
    struct mb_device *dev = mb_zalloc(opt->mem, MB_MEM_OTHER, 1, sizeof *dev);
    if (dev == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the device");
    *dev = (struct mb_device){.ops = &mb_cuda_ops, .mem = opt->mem, .path = opt->path};
    dev->gpu = opt->gpu > 0 ? opt->gpu % gpus : 0;
    enum mb_status st = look_at(dev);
    if (st == MB_OK)
        st = mb_cuda_stream_create(dev, &dev->setup);
    if (st != MB_OK) {
        cuda_close(dev);
        return st;
    }
    *out = dev;
    return MB_OK;
}

static void cuda_info(const struct mb_device *dev, struct mb_device_info *out)
{
    *out = (struct mb_device_info){.threads = 1};
    snprintf(out->name, sizeof out->name, "cuda");
    snprintf(out->isa, sizeof out->isa, "GPU %d: %s", dev->gpu, dev->name);
}

const struct mb_ops mb_cuda_ops = {
    .name = "cuda",
    .help = "NVIDIA GPUs: kernels on FMA units, with the CPU's bits",
    .open = cuda_open,
    .close = cuda_close,
    .info = cuda_info,
    .buf_alloc = mb_cuda_buf_alloc,
    .buf_free = mb_cuda_buf_free,
    .stream_create = mb_cuda_stream_create,
    .stream_destroy = mb_cuda_stream_destroy,
    .sync = cuda_sync,
    .meanwhile = cuda_meanwhile,
    .host_alloc = mb_cuda_host_alloc,
    .host_free = mb_cuda_host_free,
    .copy_in = mb_cuda_copy_in,
    .copy_out = mb_cuda_copy_out,
    .copy = mb_cuda_copy,
    .zero = mb_cuda_zero,
    .weight_create = mb_cuda_weight_create,
    .weight_put = mb_cuda_weight_put,
    .weight_get = mb_cuda_weight_get,
    .weight_bytes = mb_cuda_weight_bytes,
    .weight_free = mb_cuda_weight_free,
    .kv_create = mb_cuda_kv_create,
    .kv_page_bytes = mb_cuda_kv_page_bytes,
    .kv_free = mb_cuda_kv_free,
    .embed = mb_cuda_embed,
    .norm = mb_cuda_norm,
    .square = mb_cuda_square,
    .norm_sums = mb_cuda_norm_sums,
    .add = mb_cuda_add,
    .scale = mb_cuda_scale,
    .clamp = mb_cuda_clamp,
    .scale_rows = mb_cuda_scale_rows,
    .rope = mb_cuda_rope,
    .gemm = mb_cuda_gemm,
    .kv_append = mb_cuda_kv_append,
    .kv_copy = mb_cuda_kv_copy,
    .choose_keys = mb_cuda_choose_keys,
    .choose_parts = mb_cuda_choose_parts,
    .choose_join = mb_cuda_choose_join,
    .attention = mb_cuda_attention,
    .attention_parts = mb_cuda_attention_parts,
    .attention_join = mb_cuda_attention_join,
    .gemm_r32 = mb_cuda_gemm_r32,
    .act = mb_cuda_act,
    .gate = mb_cuda_gate,
    .gate_by = mb_cuda_gate_by,
    .conv = mb_cuda_conv,
    .delta = mb_cuda_delta,
    .gather = mb_cuda_gather,
    .route = mb_cuda_route,
    .fold = mb_cuda_fold,
    .logit_stats = mb_cuda_logit_stats,
    .logprob = mb_cuda_logprob,
    .top = mb_cuda_top,
    .sample = mb_cuda_sample,
};
