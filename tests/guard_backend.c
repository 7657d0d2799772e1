#include "guard_backend.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "device/cpu.h"

/* ---------------------------------------------------------------- buffers */
struct guard_buf {
    struct mb_buf cpu;  /* first member: what the CPU's operations see */
    unsigned char *map; /* closed page, pages, closed page */
    size_t page, pages; /* bytes */
    enum mb_mem_cat cat;
    pthread_mutex_t lock; /* of open */
    int open; /* operations under way that use it: nested and concurrent ones share the open pages */
};

static struct guard_buf *guard_of(struct mb_buf *b)
{
    return (struct guard_buf *)b;
}

/* Adds +1 or -1 user; the first opens the pages, the last closes them. */
static void use(struct mb_view v, int change)
{
    if (v.buf == NULL)
        return;
    struct guard_buf *g = guard_of(v.buf);
    pthread_mutex_lock(&g->lock);
    g->open += change;
    if (change > 0 ? g->open == 1 : g->open == 0)
        mprotect(g->map + g->page, g->pages, g->open > 0 ? PROT_READ | PROT_WRITE : PROT_NONE);
    pthread_mutex_unlock(&g->lock);
}

static void use_all(const struct mb_view *v, size_t n, int change)
{
    for (size_t i = 0; i < n; i++)
        use(v[i], change);
}

/* status = call, with the buffers of the given views open. */
#define DURING(call, ...)                                                                                    \
    do {                                                                                                     \
        const struct mb_view views_[] = {__VA_ARGS__};                                                       \
        use_all(views_, sizeof views_ / sizeof *views_, 1);                                                  \
        enum mb_status st_ = (call);                                                                         \
        use_all(views_, sizeof views_ / sizeof *views_, -1);                                                 \
        return st_;                                                                                          \
    } while (0)

/* The buffer ends where the closed page begins (to the 64 bytes its alignment takes). */
static enum mb_status guard_buf_alloc(struct mb_device *dev, enum mb_mem_cat cat, uint64_t bytes,
                                      struct mb_buf **out)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), tail = (size_t)(bytes + 63) / 64 * 64;
    size_t pages = (tail + page - 1) / page * page + (tail == 0 ? page : 0);
    struct guard_buf *g = mb_zalloc(dev->mem, MB_MEM_OTHER, 1, sizeof *g);
    if (g == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a buffer");
    void *map = bytes > PTRDIFF_MAX - 4 * page ? MAP_FAILED
                                               : mmap(NULL, pages + 2 * page, PROT_NONE,
                                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        mb_free(g);
        return mb_error(MB_NO_MEMORY, "no %" PRIu64 " bytes for %s", bytes, mb_mem_name(cat));
    }
    g->map = map;
    g->page = page;
    g->pages = pages;
    g->cat = cat;
    pthread_mutex_init(&g->lock, NULL);
    g->cpu = (struct mb_buf){dev, bytes, g->map + page + pages - tail};
    mb_mem_note(dev->mem, cat, (int64_t)bytes);
    *out = &g->cpu;
    return MB_OK;
}

static void guard_buf_free(struct mb_buf *buf)
{
    if (buf == NULL)
        return;
    struct guard_buf *g = guard_of(buf);
    mb_mem_note(buf->dev->mem, g->cat, -(int64_t)buf->bytes);
    munmap(g->map, g->pages + 2 * g->page);
    pthread_mutex_destroy(&g->lock);
    mb_free(g);
}

/* ---------------------------------------------------------------- device */
static enum mb_status guard_open(const struct mb_device_options *opt, struct mb_device **out)
{
    struct mb_device *dev;
    MB_TRY(mb_cpu_ops.open(opt, &dev));
    dev->ops = &guard_ops;
    *out = dev;
    return MB_OK;
}

static void guard_close(struct mb_device *dev)
{
    mb_cpu_ops.close(dev);
}

static void guard_info(const struct mb_device *dev, struct mb_device_info *out)
{
    mb_cpu_ops.info(dev, out);
    snprintf(out->name, sizeof out->name, "guard");
}

static enum mb_status guard_stream_create(struct mb_device *dev, struct mb_stream **out)
{
    return mb_cpu_ops.stream_create(dev, out);
}

static void guard_stream_destroy(struct mb_stream *s)
{
    mb_cpu_ops.stream_destroy(s);
}

static enum mb_status guard_sync(struct mb_stream *s)
{
    return mb_cpu_ops.sync(s);
}

static void guard_meanwhile(struct mb_stream *s, void (*fn)(void *), void *arg)
{
    mb_cpu_ops.meanwhile(s, fn, arg);
}

static enum mb_status guard_host_alloc(struct mb_device *dev, uint64_t bytes, void **out)
{
    return mb_cpu_ops.host_alloc(dev, bytes, out);
}

static void guard_host_free(struct mb_device *dev, void *p)
{
    mb_cpu_ops.host_free(dev, p);
}

/* ---------------------------------------------------------------- operations */
static enum mb_status guard_copy_in(struct mb_stream *s, struct mb_view dst, const void *src)
{
    DURING(mb_cpu_ops.copy_in(s, dst, src), dst);
}

static enum mb_status guard_copy_out(struct mb_stream *s, void *dst, struct mb_view src)
{
    DURING(mb_cpu_ops.copy_out(s, dst, src), src);
}

static enum mb_status guard_copy(struct mb_stream *s, struct mb_view dst, struct mb_view src)
{
    DURING(mb_cpu_ops.copy(s, dst, src), dst, src);
}

static enum mb_status guard_zero(struct mb_stream *s, struct mb_view dst)
{
    DURING(mb_cpu_ops.zero(s, dst), dst);
}

static enum mb_status guard_embed(struct mb_stream *s, struct mb_view x, struct mb_view table,
                                  struct mb_view ids, float scale)
{
    DURING(mb_cpu_ops.embed(s, x, table, ids, scale), x, table, ids);
}

static enum mb_status guard_norm(struct mb_stream *s, struct mb_view out, struct mb_view raw,
                                 struct mb_view x, struct mb_view w, struct mb_view b, enum mb_norm_kind kind,
                                 float eps, int32_t groups, int32_t leaves)
{
    DURING(mb_cpu_ops.norm(s, out, raw, x, w, b, kind, eps, groups, leaves), out, raw, x, w, b);
}

static enum mb_status guard_square(struct mb_stream *s, struct mb_view out, struct mb_view x)
{
    DURING(mb_cpu_ops.square(s, out, x), out, x);
}

static enum mb_status guard_norm_sums(struct mb_stream *s, struct mb_view x, struct mb_view sums,
                                      struct mb_view w, int64_t n, float eps)
{
    DURING(mb_cpu_ops.norm_sums(s, x, sums, w, n, eps), x, sums, w);
}

static enum mb_status guard_add(struct mb_stream *s, struct mb_view out, struct mb_view a, struct mb_view b)
{
    DURING(mb_cpu_ops.add(s, out, a, b), out, a, b);
}

static enum mb_status guard_scale(struct mb_stream *s, struct mb_view x, float c)
{
    DURING(mb_cpu_ops.scale(s, x, c), x);
}

static enum mb_status guard_clamp(struct mb_stream *s, struct mb_view x, float c)
{
    DURING(mb_cpu_ops.clamp(s, x, c), x);
}

static enum mb_status guard_scale_rows(struct mb_stream *s, struct mb_view x, struct mb_view c,
                                       struct mb_view at)
{
    DURING(mb_cpu_ops.scale_rows(s, x, c, at), x, c, at);
}

static enum mb_status guard_rope(struct mb_stream *s, struct mb_view out, struct mb_view x,
                                 struct mb_view cos, struct mb_view sin, struct mb_view pos, int32_t heads,
                                 int32_t first, int32_t rot, enum mb_rope_style style)
{
    DURING(mb_cpu_ops.rope(s, out, x, cos, sin, pos, heads, first, rot, style), out, x, cos, sin, pos);
}

static enum mb_status guard_kv_append(struct mb_stream *s, struct mb_kv *kv, struct mb_view k,
                                      struct mb_view v, struct mb_view slot)
{
    DURING(mb_cpu_ops.kv_append(s, kv, k, v, slot), k, v, slot);
}

static enum mb_status guard_kv_copy(struct mb_stream *s, struct mb_kv *kv, const int32_t *from, const int32_t *to,
                                    int32_t n)
{
    return mb_cpu_ops.kv_copy(s, kv, from, to, n);
}

static enum mb_status guard_choose_keys(struct mb_stream *s, struct mb_view out, const struct mb_choose_args *a)
{
    DURING(mb_cpu_ops.choose_keys(s, out, a), out, a->q, a->w, a->pos, a->seq, a->page_table);
}

static enum mb_status guard_choose_parts(struct mb_stream *s, struct mb_view out, struct mb_view score, const struct mb_choose_args *a,
                                         struct mb_view item_off, struct mb_view item_seg)
{
    DURING(mb_cpu_ops.choose_parts(s, out, score, a, item_off, item_seg), out, score, a->q, a->w, a->pos, a->seq, a->page_table, item_off,
           item_seg);
}

static enum mb_status guard_choose_join(struct mb_stream *s, struct mb_view out, const struct mb_choose_lists *a)
{
    DURING(mb_cpu_ops.choose_join(s, out, a), out, a->pos, a->item_off, a->key, a->score);
}

static enum mb_status guard_attention(struct mb_stream *s, struct mb_view out, const struct mb_attn_args *a)
{
    DURING(mb_cpu_ops.attention(s, out, a), out, a->q, a->pos, a->seq, a->page_table, a->sinks, a->chosen);
}

static enum mb_status guard_attention_parts(struct mb_stream *s, struct mb_view state,
                                            const struct mb_attn_args *a, struct mb_view item_off,
                                            struct mb_view item_seg)
{
    DURING(mb_cpu_ops.attention_parts(s, state, a, item_off, item_seg), state, a->q, a->pos, a->seq,
           a->page_table, a->chosen, item_off, item_seg);
}

static enum mb_status guard_attention_join(struct mb_stream *s, struct mb_view out, struct mb_view state,
                                           const struct mb_join_args *a)
{
    DURING(mb_cpu_ops.attention_join(s, out, state, a), out, state, a->item_off, a->src, a->pos, a->sinks);
}

static enum mb_status guard_gemm(struct mb_stream *s, struct mb_view out, struct mb_view x,
                                 const struct mb_gemm_group *groups, int32_t n_groups)
{
    for (int32_t i = 0; i < n_groups; i++)
        use(groups[i].bias, 1);
    use(out, 1);
    use(x, 1);
    enum mb_status st = mb_cpu_ops.gemm(s, out, x, groups, n_groups);
    use(x, -1);
    use(out, -1);
    for (int32_t i = 0; i < n_groups; i++)
        use(groups[i].bias, -1);
    return st;
}

static enum mb_status guard_gemm_r32(struct mb_stream *s, struct mb_view out, struct mb_view x,
                                     struct mb_view w, struct mb_view bias)
{
    DURING(mb_cpu_ops.gemm_r32(s, out, x, w, bias), out, x, w, bias);
}

static enum mb_status guard_act(struct mb_stream *s, struct mb_view out, struct mb_view gu,
                                enum mb_act_kind kind, float limit)
{
    DURING(mb_cpu_ops.act(s, out, gu, kind, limit), out, gu);
}

static enum mb_status guard_gate(struct mb_stream *s, struct mb_view y, struct mb_view gate)
{
    DURING(mb_cpu_ops.gate(s, y, gate), y, gate);
}

static enum mb_status guard_gate_by(struct mb_stream *s, struct mb_view out, struct mb_view g, struct mb_view x)
{
    DURING(mb_cpu_ops.gate_by(s, out, g, x), out, g, x);
}

static enum mb_status guard_conv(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view w,
                                 struct mb_view state, struct mb_view slot, struct mb_view pos)
{
    DURING(mb_cpu_ops.conv(s, out, x, w, state, slot, pos), out, x, w, state, slot, pos);
}

static enum mb_status guard_delta(struct mb_stream *s, struct mb_view out, const struct mb_delta_args *a)
{
    DURING(mb_cpu_ops.delta(s, out, a), out, a->x, a->z, a->b, a->a, a->a_log, a->dt, a->norm, a->state, a->slot,
           a->pos);
}

static enum mb_status guard_route(struct mb_stream *s, struct mb_view experts, struct mb_view weights,
                                  struct mb_view bad, struct mb_view z, struct mb_view bias,
                                  const struct mb_router *r)
{
    DURING(mb_cpu_ops.route(s, experts, weights, bad, z, bias, r), experts, weights, bad, z, bias);
}

static enum mb_status guard_gather(struct mb_stream *s, struct mb_view out, struct mb_view src,
                                   struct mb_view idx)
{
    DURING(mb_cpu_ops.gather(s, out, src, idx), out, src, idx);
}

static enum mb_status guard_fold(struct mb_stream *s, struct mb_view out, const struct mb_fold_args *a)
{
    DURING(mb_cpu_ops.fold(s, out, a), out, a->item_off, a->src, a->pos, a->weight, a->y, a->inner);
}

static enum mb_status guard_logit_stats(struct mb_stream *s, struct mb_view stats, struct mb_view best,
                                        struct mb_view bad, struct mb_view z)
{
    DURING(mb_cpu_ops.logit_stats(s, stats, best, bad, z), stats, best, bad, z);
}

static enum mb_status guard_logprob(struct mb_stream *s, struct mb_view out, struct mb_view z,
                                    struct mb_view stats, struct mb_view ids)
{
    DURING(mb_cpu_ops.logprob(s, out, z, stats, ids), out, z, stats, ids);
}

static enum mb_status guard_top(struct mb_stream *s, struct mb_view ids, struct mb_view logprobs,
                                struct mb_view z, struct mb_view stats)
{
    DURING(mb_cpu_ops.top(s, ids, logprobs, z, stats), ids, logprobs, z, stats);
}

static enum mb_status guard_sample(struct mb_stream *s, struct mb_view out, struct mb_view z,
                                   struct mb_view stats, struct mb_view rows, struct mb_view adjust,
                                   struct mb_view masks)
{
    DURING(mb_cpu_ops.sample(s, out, z, stats, rows, adjust, masks), out, z, stats, rows, adjust, masks);
}

const struct mb_ops guard_ops = {
    .name = "guard",
    .help = "the CPU's operations on memory that is closed outside them (tests)",
    .open = guard_open,
    .close = guard_close,
    .info = guard_info,
    .buf_alloc = guard_buf_alloc,
    .buf_free = guard_buf_free,
    .stream_create = guard_stream_create,
    .stream_destroy = guard_stream_destroy,
    .sync = guard_sync,
    .meanwhile = guard_meanwhile,
    .host_alloc = guard_host_alloc,
    .host_free = guard_host_free,
    .copy_in = guard_copy_in,
    .copy_out = guard_copy_out,
    .copy = guard_copy,
    .zero = guard_zero,
    .weight_create = mb_cpu_weight_create,
    .weight_put = mb_cpu_weight_put,
    .weight_get = mb_cpu_weight_get,
    .weight_bytes = mb_cpu_weight_bytes,
    .weight_free = mb_cpu_weight_free,
    .kv_create = mb_cpu_kv_create,
    .kv_page_bytes = mb_cpu_kv_page_bytes,
    .kv_free = mb_cpu_kv_free,
    .embed = guard_embed,
    .norm = guard_norm,
    .square = guard_square,
    .norm_sums = guard_norm_sums,
    .add = guard_add,
    .scale = guard_scale,
    .clamp = guard_clamp,
    .scale_rows = guard_scale_rows,
    .rope = guard_rope,
    .kv_append = guard_kv_append,
    .kv_copy = guard_kv_copy,
    .choose_keys = guard_choose_keys,
    .choose_parts = guard_choose_parts,
    .choose_join = guard_choose_join,
    .attention = guard_attention,
    .attention_parts = guard_attention_parts,
    .attention_join = guard_attention_join,
    .gemm = guard_gemm,
    .gemm_r32 = guard_gemm_r32,
    .act = guard_act,
    .gate = guard_gate,
    .gate_by = guard_gate_by,
    .conv = guard_conv,
    .delta = guard_delta,
    .route = guard_route,
    .gather = guard_gather,
    .fold = guard_fold,
    .logit_stats = guard_logit_stats,
    .logprob = guard_logprob,
    .top = guard_top,
    .sample = guard_sample,
};
