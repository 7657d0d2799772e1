/* The CPU backend's table, devices, buffers, streams, checks and threads. */
#include "device/cpu.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "base/clock.h"
#include "device/cpu_isa.h"
#include "device/cpu_s8.h"
#include "device/cpu_team.h"
#include "device/view.h"

_Static_assert(MB_BUF_HEAD_OK, "mb_want reads the head of a buffer");

/* ---------------------------------------------------------------- threads */
struct pieces {
    mb_cpu_fn fn;
    void *arg;
    int64_t n, grain;
    _Atomic int64_t next;
};

static void work(void *arg, int32_t thread)
{
    struct pieces *t = arg;
    uint32_t old = mb_fp_enter();
    for (;;) {
        int64_t begin = atomic_fetch_add_explicit(&t->next, t->grain, memory_order_relaxed);
        if (begin >= t->n)
            break;
        t->fn(t->arg, begin, begin + t->grain < t->n ? begin + t->grain : t->n, thread);
    }
    mb_fp_restore(old);
}

void mb_cpu_run(const struct mb_device *dev, int64_t n, int64_t grain, mb_cpu_fn fn, void *arg)
{
    if (n <= 0)
        return;
    if (grain <= 0)
        grain = (n + dev->threads - 1) / dev->threads;
    struct pieces t = {fn, arg, n, grain, 0};
    int64_t count = (n - 1) / grain + 1;
    int32_t threads = count < dev->threads ? (int32_t)count : dev->threads;
    if (threads > 1)
        mb_cpu_team_run(dev->team, threads, work, &t);
    else
        work(&t, 0);
}

void *mb_cpu_scratch(struct mb_stream *s, uint64_t bytes)
{
    if (s->scratch != NULL && bytes <= s->scratch_bytes)
        return s->scratch;
    mb_free(s->scratch);
    s->scratch_bytes = 0;
    s->scratch = mb_alloc(s->dev->mem, MB_MEM_OTHER, bytes, 1);
    if (s->scratch == NULL) {
        mb_error(MB_NO_MEMORY,
                 "no %" PRIu64 " bytes of scratch memory; lower --max-num-seqs or use fewer ranks a node",
                 bytes);
        return NULL;
    }
    s->scratch_bytes = bytes;
    return s->scratch;
}

/* ---------------------------------------------------------------- devices, buffers, streams */
static enum mb_status cpu_open(const struct mb_device_options *opt, struct mb_device **out)
{
    if (opt->path != MB_F32 && opt->path != MB_BF16)
        return mb_error(MB_BUG, "cpu: path type %d is neither f32 nor bf16", (int)opt->path);
    enum mb_isa isa;
    MB_TRY(mb_isa_choose(opt->isa, &isa));
    struct mb_device *dev = mb_zalloc(opt->mem, MB_MEM_OTHER, 1, sizeof *dev);
    if (dev == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the device");
    *dev = (struct mb_device){.ops = &mb_cpu_ops,
                              .mem = opt->mem,
                              .threads = opt->threads > 0 ? opt->threads : 1,
                              .isa = isa,
                              .path = opt->path};
    dev->s8 = mb_s8_choose(isa);
    dev->mx = mb_cpu_mx_tables(opt->mem);
    enum mb_status st = dev->mx == NULL ? mb_error(MB_NO_MEMORY, "no memory for the device")
                                        : mb_cpu_team_create(dev->threads, &dev->team);
    if (st == MB_OK) {
        *out = dev;
        return MB_OK;
    }
    mb_free(dev->mx);
    mb_free(dev);
    return st;
}

static void cpu_close(struct mb_device *dev)
{
    if (dev == NULL)
        return;
    mb_cpu_team_destroy(dev->team);
    mb_free(dev->mx);
    mb_free(dev);
}

static void cpu_info(const struct mb_device *dev, struct mb_device_info *out)
{
    *out = (struct mb_device_info){.threads = dev->threads};
    snprintf(out->name, sizeof out->name, "cpu");
    snprintf(out->isa, sizeof out->isa, "%s, %d thread%s", mb_isa_name(dev->isa), dev->threads,
             dev->threads == 1 ? "" : "s");
}

static enum mb_status cpu_buf_alloc(struct mb_device *dev, enum mb_mem_cat cat, uint64_t bytes,
                                    struct mb_buf **out)
{
    struct mb_buf *b = mb_zalloc(dev->mem, MB_MEM_OTHER, 1, sizeof *b);
    unsigned char *data = b != NULL ? mb_zalloc(dev->mem, cat, bytes, 1) : NULL;
    if (data == NULL) {
        mb_free(b);
        return mb_error(MB_NO_MEMORY, "no %" PRIu64 " bytes for %s; use more ranks or a smaller batch", bytes,
                        mb_mem_name(cat));
    }
    *b = (struct mb_buf){dev, bytes, data};
    *out = b;
    return MB_OK;
}

static void cpu_buf_free(struct mb_buf *buf)
{
    if (buf == NULL)
        return;
    mb_free(buf->data);
    mb_free(buf);
}

static enum mb_status cpu_stream_create(struct mb_device *dev, struct mb_stream **out)
{
    struct mb_stream *s = mb_zalloc(dev->mem, MB_MEM_OTHER, 1, sizeof *s);
    if (s == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a stream");
    s->dev = dev;
    *out = s;
    return MB_OK;
}

static void cpu_stream_destroy(struct mb_stream *s)
{
    if (s == NULL)
        return;
    mb_free(s->scratch);
    mb_free(s);
}

static enum mb_status cpu_sync(struct mb_stream *s)
{
    (void)s; /* every operation is done when it returns */
    return MB_OK;
}

static void cpu_meanwhile(struct mb_stream *s, void (*fn)(void *), void *arg)
{
    s->meanwhile = fn;
    s->meanwhile_arg = arg;
    s->polled = mb_now();
}

static enum mb_status cpu_host_alloc(struct mb_device *dev, uint64_t bytes, void **out)
{
    void *p = mb_zalloc(dev->mem, MB_MEM_STAGING, bytes, 1);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no %" PRIu64 " bytes of staging memory", bytes);
    *out = p;
    return MB_OK;
}

static void cpu_host_free(struct mb_device *dev, void *p)
{
    (void)dev;
    mb_free(p);
}

const struct mb_ops mb_cpu_ops = {
    .name = "cpu",
    .help = "x86-64 CPU: portable C, AVX2, AVX-512, AMX, chosen at run time; the same bits on all",
    .open = cpu_open,
    .close = cpu_close,
    .info = cpu_info,
    .buf_alloc = cpu_buf_alloc,
    .buf_free = cpu_buf_free,
    .stream_create = cpu_stream_create,
    .stream_destroy = cpu_stream_destroy,
    .sync = cpu_sync,
    .meanwhile = cpu_meanwhile,
    .host_alloc = cpu_host_alloc,
    .host_free = cpu_host_free,
    .copy_in = mb_cpu_copy_in,
    .copy_out = mb_cpu_copy_out,
    .copy = mb_cpu_copy,
    .zero = mb_cpu_zero,
    .weight_create = mb_cpu_weight_create,
    .weight_put = mb_cpu_weight_put,
    .weight_get = mb_cpu_weight_get,
    .weight_bytes = mb_cpu_weight_bytes,
    .weight_free = mb_cpu_weight_free,
    .kv_create = mb_cpu_kv_create,
    .kv_page_bytes = mb_cpu_kv_page_bytes,
    .kv_free = mb_cpu_kv_free,
    .embed = mb_cpu_embed,
    .norm = mb_cpu_norm,
    .square = mb_cpu_square,
    .norm_sums = mb_cpu_norm_sums,
    .add = mb_cpu_add,
    .scale = mb_cpu_scale,
    .clamp = mb_cpu_clamp,
    .scale_rows = mb_cpu_scale_rows,
    .rope = mb_cpu_rope,
    .kv_append = mb_cpu_kv_append,
    .kv_copy = mb_cpu_kv_copy,
    .choose_keys = mb_cpu_choose_keys,
    .choose_parts = mb_cpu_choose_parts,
    .choose_join = mb_cpu_choose_join,
    .attention = mb_cpu_attention,
    .attention_parts = mb_cpu_attention_parts,
    .attention_join = mb_cpu_attention_join,
    .gemm = mb_cpu_gemm,
    .gemm_r32 = mb_cpu_gemm_r32,
    .act = mb_cpu_act,
    .gate = mb_cpu_gate,
    .gate_by = mb_cpu_gate_by,
    .conv = mb_cpu_conv,
    .delta = mb_cpu_delta,
    .route = mb_cpu_route,
    .gather = mb_cpu_gather,
    .fold = mb_cpu_fold,
    .logit_stats = mb_cpu_logit_stats,
    .logprob = mb_cpu_logprob,
    .top = mb_cpu_top,
    .sample = mb_cpu_sample,
};
