/* moebatch bench gemm: what this machine can do, and how near to it the GEMMs of a model come. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/bench.h"
#include "app/setup.h"
#include "base/clock.h"
#include "base/log.h"
#include "device/limits.h"

#define SAMPLE_SECONDS 0.004 /* a sample calls a GEMM so often that it lasts this long */
#define MOST_CALLS 1000
#define MOST_ROWS 65536
#define MOST_WEIGHTS 4096

static const char formula[] = "GFLOP/s of min(peak, read * FLOPs / bytes of the weights), peak: the best "
                              "sample of the instruction named by the field limit, "
                              "read: that of reading memory";

struct bench {
    const struct mb_conf *c;
    struct mb_model *m;
    struct mb_mem mem;
    const struct mb_ops *ops;
    struct mb_device *dev;
    struct mb_stream *s;
    struct mb_limits limits;
    struct mb_bench *out;
    enum mb_dtype type;
    int repeats;
    int64_t *rows;
    int n_rows;
};

/* A GEMM of the model: [rows, k] x [k, n]. experts > 0: a grouped one over experts of which each token has
 * topk. unit: of the leaves of its sum (0: one leaf). */
struct shape {
    const char *name;
    int64_t n, k, unit;
    int32_t experts, topk;
    bool r32;
};

/* Weights of one shape, used in turn so that they come from memory as in a model, and room for the most rows.
 */
struct pool {
    const struct shape *f;
    struct mb_weight *w[MOST_WEIGHTS];
    int n, next;
    struct mb_buf *x, *out, *table;
    struct mb_gemm_group group[MOST_WEIGHTS];
};

/* ---------------------------------------------------------------- what a model needs */
static int shapes_of(const struct mb_model *m, struct shape *f)
{
    const struct mb_router *r = &m->router;
    int64_t H = m->hidden, q = (int64_t)m->heads * m->head_dim, o = (int64_t)m->heads * m->v_dim;
    int n = 0;

    if (m->mla && m->q_lora > 0)
        f[n++] = (struct shape){.name = "attention.q_a", .n = m->q_lora, .k = H};
    if (m->mla) {
        f[n++] = (struct shape){.name = "attention.q", .n = q, .k = m->q_lora > 0 ? m->q_lora : H};
        f[n++] = (struct shape){.name = "attention.kv_a", .n = (int64_t)m->kv_lora + m->rope_mla, .k = H};
    } else {
        f[n++] = (struct shape){
            .name = "attention.qkv", .n = q + (int64_t)m->kv_heads * (m->head_dim + m->v_dim), .k = H};
    }
    f[n++] = (struct shape){.name = "attention.o", .n = H, .k = o, .unit = m->v_dim};
    if (m->moe_layers > 0) {
        int64_t i = m->expert_ffn, unit = mb_k_unit(i);
        f[n++] = (struct shape){.name = "router", .n = r->experts, .k = H, .r32 = true};
        f[n++] = (struct shape){.name = "expert.gate_up", .n = 2 * i, .k = H};
        f[n++] = (struct shape){.name = "expert.down", .n = H, .k = i, .unit = unit};
        f[n++] = (struct shape){
            .name = "experts.gate_up", .n = 2 * i, .k = H, .experts = r->experts, .topk = r->k};
        f[n++] = (struct shape){
            .name = "experts.down", .n = H, .k = i, .unit = unit, .experts = r->experts, .topk = r->k};
    }
    if (m->shared_ffn > 0) {
        f[n++] = (struct shape){.name = "shared.gate_up", .n = 2 * (int64_t)m->shared_ffn, .k = H};
        f[n++] = (struct shape){
            .name = "shared.down", .n = H, .k = m->shared_ffn, .unit = mb_k_unit(m->shared_ffn)};
    }
    if (m->moe_layers < m->layers && m->ffn > 0) {
        f[n++] = (struct shape){.name = "dense.gate_up", .n = 2 * (int64_t)m->ffn, .k = H};
        f[n++] = (struct shape){.name = "dense.down", .n = H, .k = m->ffn, .unit = mb_k_unit(m->ffn)};
    }
    f[n++] = (struct shape){.name = "head", .n = m->vocab, .k = H};
    return n;
}
#define MOST_SHAPES 16

/* Rows of a batch of `tokens` go evenly to the experts they reach; of these as many are computed as there are
 * weights. */
static void spread(const struct pool *p, int64_t tokens, int64_t *rows, int *groups)
{
    const struct shape *f = p->f;
    int64_t pairs = tokens * f->topk, reached = pairs < f->experts ? pairs : f->experts;

    *rows = tokens;
    *groups = 1;
    if (f->experts == 0)
        return;
    *rows = (pairs + reached - 1) / reached;
    *groups = (int)(reached < p->n ? reached : p->n);
}

/* ---------------------------------------------------------------- weights and rows */
static void pool_fini(const struct bench *b, struct pool *p)
{
    for (int i = 0; i < p->n; i++)
        b->ops->weight_free(p->w[i]);
    b->ops->buf_free(p->x);
    b->ops->buf_free(p->out);
    b->ops->buf_free(p->table);
    free(p);
}

static float *values(int64_t n)
{
    float *v = malloc((size_t)n * sizeof *v);

    for (int64_t i = 0; v != NULL && i < n; i++)
        v[i] = (float)(i * 7919 % 1021) / 512 - 1;
    return v;
}

static enum mb_status add_weight(const struct bench *b, struct pool *p, const float *v)
{
    const struct shape *f = p->f;
    struct mb_weight_desc d = {
        .n = f->n, .k = f->k, .dtype = b->type, .leaves = 1, .leaf = {0, f->k}, .cat = MB_MEM_WEIGHTS};
    struct mb_host_matrix m = {
        .base = v, .storage = MB_STORE_F32, .n = f->n, .k = f->k, .stride_n = f->k, .stride_k = 1};

    if (f->unit > 0)
        d.leaves = mb_k_leaves(f->k, f->unit, d.leaf);
    MB_TRY(b->ops->weight_create(b->dev, &d, &p->w[p->n]));
    p->n++;
    return b->ops->weight_put(p->w[p->n - 1], 0, 0, &m);
}

static enum mb_status fill(const struct bench *b, struct pool *p, int64_t most_rows, const float *v)
{
    const struct shape *f = p->f;
    int64_t bytes = f->n * f->k * mb_dtype_size(b->type), want = b->c->buffer / bytes, rows = most_rows;

    want = want < 1 ? 1 : want > MOST_WEIGHTS ? MOST_WEIGHTS : want;
    if (f->r32) {
        MB_TRY(b->ops->buf_alloc(b->dev, MB_MEM_WEIGHTS, (uint64_t)(f->n * f->k) * sizeof(float), &p->table));
        MB_TRY(b->ops->copy_in(b->s, mb_view_of(p->table, 0, f->n, f->k, MB_F32), v));
    }
    while (!f->r32 && p->n < want)
        MB_TRY(add_weight(b, p, v));
    if (f->experts > 0)
        rows = most_rows * f->topk + f->experts;
    enum mb_dtype t = f->r32 ? MB_F32 : b->type;
    MB_TRY(b->ops->buf_alloc(b->dev, MB_MEM_ACTIVATIONS, (uint64_t)(rows * f->k * mb_dtype_size(t)), &p->x));
    return b->ops->buf_alloc(b->dev, MB_MEM_ACTIVATIONS, (uint64_t)(rows * f->n) * sizeof(float), &p->out);
}

static enum mb_status pool_create(const struct bench *b, const struct shape *f, struct pool **out)
{
    int64_t most = 1;
    struct pool *p = calloc(1, sizeof *p);
    float *v = values(f->n * f->k);
    enum mb_status st = p == NULL || v == NULL ? mb_error(MB_NO_MEMORY, "no memory for a weight") : MB_OK;

    for (int i = 0; i < b->n_rows; i++)
        most = b->rows[i] > most ? b->rows[i] : most;
    if (st == MB_OK) {
        p->f = f;
        st = fill(b, p, most, v);
    }
    free(v);
    if (st == MB_OK)
        *out = p;
    else if (p != NULL)
        pool_fini(b, p);
    return st;
}

/* ---------------------------------------------------------------- one size */
static enum mb_status call(const struct bench *b, struct pool *p, int64_t rows, int groups)
{
    const struct shape *f = p->f;
    enum mb_dtype t = f->r32 ? MB_F32 : b->type;
    struct mb_view x = mb_view_of(p->x, 0, rows * groups, f->k, t),
                   out = mb_view_of(p->out, 0, rows * groups, f->n, MB_F32);

    if (f->r32)
        return b->ops->gemm_r32(b->s, out, x, mb_view_of(p->table, 0, f->n, f->k, MB_F32), MB_NO_VIEW);
    for (int i = 0; i < groups; i++) {
        p->group[i] =
            (struct mb_gemm_group){.w = p->w[p->next], .row0 = i * rows, .rows = rows, .bias = MB_NO_VIEW};
        p->next = (p->next + 1) % p->n;
    }
    return b->ops->gemm(b->s, out, x, p->group, groups);
}

/* Seconds of a call, b->repeats samples. */
static enum mb_status time_calls(const struct bench *b, struct pool *p, int64_t rows, int groups,
                                 double *samples)
{
    double t = mb_now();
    MB_TRY(call(b, p, rows, groups));
    MB_TRY(b->ops->sync(b->s));
    double once = mb_now() - t;
    int calls = once >= SAMPLE_SECONDS                ? 1
                : once <= SAMPLE_SECONDS / MOST_CALLS ? MOST_CALLS
                                                      : (int)ceil(SAMPLE_SECONDS / once);

    for (int r = 0; r < b->repeats; r++) {
        t = mb_now();
        for (int i = 0; i < calls; i++)
            MB_TRY(call(b, p, rows, groups));
        MB_TRY(b->ops->sync(b->s));
        samples[r] = (mb_now() - t) / calls;
    }
    return MB_OK;
}

/* One measurement; *seconds: its median. */
static enum mb_status measure(const struct bench *b, struct pool *p, int64_t tokens, double *seconds)
{
    const struct shape *f = p->f;
    double samples[MB_LIMIT_REPEATS];
    int64_t rows;
    int groups;
    char name[64];
    enum mb_limit limit;

    spread(p, tokens, &rows, &groups);
    MB_TRY(time_calls(b, p, rows, groups, samples));
    *seconds = mb_bench_median(samples, b->repeats);
    enum mb_dtype t = f->r32 ? MB_F32 : b->type;
    double flops = 2.0 * (double)(rows * groups) * (double)f->n * (double)f->k,
           bytes = (double)groups * (double)(f->n * f->k) * (double)mb_dtype_size(t);
    double peak = mb_limit_peak(&b->limits, t, &limit), read = mb_limit_best(&b->limits, MB_LIMIT_READ),
           bound = peak;
    if (peak > 0 && read * flops / bytes < peak) {
        bound = read * flops / bytes;
        limit = MB_LIMIT_READ;
    }
    for (int r = 0; r < b->repeats; r++)
        samples[r] = flops / samples[r] / 1e9;
    snprintf(name, sizeof name, "gemm/%s/M=%lld", f->name, (long long)tokens);
    mb_bench_add(b->out,
                 &(struct mb_measured){
                     .name = name,
                     .unit = "GFLOP/s",
                     .samples = samples,
                     .n = b->repeats,
                     .bound = bound / 1e9,
                     .formula = formula,
                     .fields = json_pack("{s:s, s:I, s:I, s:I, s:I, s:i, s:s, s:s, s:f, s:f}", "gemm",
                                         f->name, "m", (json_int_t)tokens, "n", (json_int_t)f->n, "k",
                                         (json_int_t)f->k, "rows", (json_int_t)(rows * groups), "groups",
                                         groups, "type", t == MB_F32 ? "f32" : "bf16", "limit",
                                         mb_limit_name(limit), "seconds", *seconds, "weight_bytes", bytes)});
    return MB_OK;
}

/* The size that costs most beside the mean of its neighbours, among numbers of rows that follow each other.
 */
static void add_cliff(const struct bench *b, const struct shape *f, const double *seconds)
{
    double worst = 0;
    int64_t at = 0;
    char name[64];

    for (int i = 1; i + 1 < b->n_rows; i++) {
        if (b->rows[i - 1] + 1 != b->rows[i] || b->rows[i] + 1 != b->rows[i + 1])
            continue;
        double x = seconds[i] / ((seconds[i - 1] + seconds[i + 1]) / 2);
        if (x > worst) {
            worst = x;
            at = b->rows[i];
        }
    }
    if (worst <= 0)
        return;
    snprintf(name, sizeof name, "cliff/%s", f->name);
    mb_bench_add(b->out, &(struct mb_measured){
                             .name = name,
                             .unit = "x neighbours",
                             .less = true,
                             .samples = &worst,
                             .n = 1,
                             .fields = json_pack("{s:s, s:I}", "gemm", f->name, "m", (json_int_t)at)});
}

static enum mb_status run_shape(const struct bench *b, const struct shape *f)
{
    struct pool *p = NULL;
    double *seconds = calloc((size_t)b->n_rows + 1, sizeof *seconds);
    enum mb_status st =
        seconds == NULL ? mb_error(MB_NO_MEMORY, "no memory for times") : pool_create(b, f, &p);

    for (int i = 0; i < b->n_rows && st == MB_OK; i++)
        st = measure(b, p, b->rows[i], &seconds[i]);
    if (st == MB_OK)
        add_cliff(b, f, seconds);
    if (p != NULL)
        pool_fini(b, p);
    free(seconds);
    return st;
}

/* ---------------------------------------------------------------- the whole */
void mb_bench_add_limits(struct mb_bench *out, const struct mb_limits *l)
{
    for (int i = 0; i < MB_LIMIT_COUNT; i++) {
        double v[MB_LIMIT_REPEATS];
        char name[48];
        if (l->rate[i][0] <= 0)
            continue;
        for (int r = 0; r < l->repeats; r++)
            v[r] = l->rate[i][r] / 1e9;
        snprintf(name, sizeof name, "limit/%s", mb_limit_name((enum mb_limit)i));
        mb_bench_add(out, &(struct mb_measured){.name = name,
                                                .unit = i == MB_LIMIT_READ ? "GB/s" : "GFLOP/s",
                                                .samples = v,
                                                .n = l->repeats});
    }
}

static enum mb_status open_machine(struct bench *b)
{
    struct mb_topo_local here;
    struct mb_device_info info;

    MB_TRY(mb_topo_discover(NULL, &here, NULL));
    int32_t asked = b->c->threads > 0 ? (int32_t)b->c->threads : mb_app_environment_threads(b->c);
    struct mb_device_options o = {.threads = asked > 0 ? asked : mb_cpus_count(&here.allowed),
                                  .isa = b->c->isa,
                                  .mem = &b->mem,
                                  .path = b->type};
    b->ops = mb_ops_find(b->c->backend);
    if (b->ops == NULL)
        return mb_error(MB_USAGE, "--backend %s: this build has no such backend", b->c->backend);
    MB_TRY(b->ops->open(&o, &b->dev));
    MB_TRY(b->ops->stream_create(b->dev, &b->s));
    b->ops->info(b->dev, &info);
    mb_bench_fact(b->out, "host", json_string(here.host));
    mb_bench_fact(b->out, "cpu", json_string(here.cpu_model));
    mb_bench_fact(b->out, "threads", json_integer(info.threads));
    mb_bench_fact(b->out, "device", json_string(info.isa));
    return MB_OK;
}

static enum mb_status run(struct bench *b)
{
    struct shape shapes[MOST_SHAPES];

    MB_TRY(open_machine(b));
    MB_TRY(mb_limits_measure(b->dev, &b->mem, (uint64_t)b->c->buffer, b->repeats, &b->limits));
    mb_bench_add_limits(b->out, &b->limits);
    int n = b->m == NULL ? 0 : shapes_of(b->m, shapes);
    for (int i = 0; i < n; i++)
        MB_TRY(run_shape(b, &shapes[i]));
    return mb_bench_print(b->out, stdout, mb_bench_form_of(b->c), b->c->output);
}

enum mb_status mb_bench_gemm(const struct mb_conf *c)
{
    struct bench b = {.c = c, .type = MB_BF16, .repeats = (int)c->repeats};
    enum mb_status st = mb_bench_create("gemm", &b.out);

    if (st == MB_OK)
        st = mb_bench_list(c->rows, "--rows", 1, MOST_ROWS, &b.rows, &b.n_rows);
    if (st == MB_OK && c->model[0] != '\0') {
        st = mb_app_open_shapes(c->model, (int32_t)c->k, &b.m);
        b.type = st == MB_OK ? mb_app_path(c, b.m) : b.type;
        mb_bench_fact(b.out, "model", json_string(c->model));
    }
    if (st == MB_OK)
        st = run(&b);
    if (b.s != NULL)
        b.ops->stream_destroy(b.s);
    if (b.dev != NULL)
        b.ops->close(b.dev);
    mb_model_destroy(b.m);
    free(b.rows);
    mb_bench_destroy(b.out);
    return st;
}
