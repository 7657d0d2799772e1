/* Weights of the int8 path, and grouped GEMMs over them. */
#include "cuda/s8.h"

#include <inttypes.h>
#include <string.h>
#include "cuda/weight.h"

/* ---------------------------------------------------------------- weights */
enum mb_status mb_cuda_s8_check(const struct mb_weight_desc *d)
{
    for (int32_t l = 0; l < d->leaves; l++)
        if (d->leaf[l + 1] - d->leaf[l] > MB_S8_MOST_K)
            return mb_error(MB_LAYOUT, "a sum of %" PRId64 " products of signed bytes does not fit into 32 bits; use --dtype bf16",
                            d->leaf[l + 1] - d->leaf[l]);
    if (d->form.groups != d->leaves)
        return mb_error(MB_BUG, "weight_create: %d scales for %d leaves", d->form.groups, d->leaves);
    return MB_OK;
}

/* Rows [row, row + n) of m, as codes with their scales or as numbers that become such on the device. */
static enum mb_status put_rows(struct mb_weight *w, int64_t n0, const struct mb_host_matrix *m, bool codes, int64_t row, int64_t n)
{
    struct mb_device *dev = w->dev;
    cudaStream_t s = dev->setup->s;
    int64_t k = m->k, scales_at = (n * k + 15) / 16 * 16;
    uint64_t bytes = codes ? (uint64_t)(scales_at + n * w->groups * 4) : (uint64_t)(n * k * 4);
    void *host, *device;

    MB_TRY(mb_cuda_stage_begin(dev, bytes, &host, &device));
    for (int64_t i = 0; i < n; i++) {
        int64_t at = m->scale_n0 + row + i;
        if (!codes) {
            mb_host_row(m, row + i, 0, k, (float *)host + i * k);
            continue;
        }
        memcpy((char *)host + i * k, m->codes.code + at * m->codes.code_stride, (size_t)k);
        memcpy((char *)host + scales_at + i * w->groups * 4, (const char *)m->codes.scale + at * w->groups * 4, (size_t)w->groups * 4);
    }
    MB_TRY(mb_cuda_stage_send(dev, bytes));
    if (codes) {
        MB_TRY(mb_cuda_call("weight_put", mb_k_pack_codes(s, w->there, 8, n0 + row, n, 0, k, device, k, 0)));
        MB_TRY(mb_cuda_call("weight_put", mb_k_pack_table(s, w->there, w->k.scale_at, 4, n0 + row, n, 0, (int32_t)w->groups,
                                                          (char *)device + scales_at, 0)));
    } else {
        MB_TRY(mb_cuda_call("weight_put", mb_k_s8_pack(s, w->there, n0 + row, n, w->desc.leaves, device, k)));
    }
    return mb_cuda_stage_end(dev);
}

enum mb_status mb_cuda_s8_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m)
{
    bool codes = m->storage == MB_STORE_CODES && m->codes.form.code == MB_CODE_S8;
    int64_t each = MB_CUDA_STAGE / (m->k > 0 ? m->k * 4 : 1);
    enum mb_status st = MB_OK;

    if (k0 != 0 || m->k != w->desc.k || (codes && (m->codes.groups != w->groups || m->scale_k0 != 0)))
        return mb_error(MB_BUG, "weight_put: signed bytes are made of whole rows, with the leaves of the weight");
    MB_TRY(mb_host_check(m));
    each = each < 1 ? 1 : each;
    uint32_t mode = mb_fp_enter();
    for (int64_t i = 0; i < m->n && st == MB_OK; i += each)
        st = put_rows(w, n0, m, codes, i, m->n - i < each ? m->n - i : each);
    mb_fp_restore(mode);
    return st == MB_OK ? mb_cuda_wait(w->dev->setup) : st;
}

/* ---------------------------------------------------------------- GEMM */
enum { MOST_JOBS = MB_CUDA_ARGS / (int)sizeof(struct mb_k_s8_job) };

struct launch {
    struct mb_k_s8_job *job;
    int32_t jobs, items, rows, most_rows;
    int64_t words, scales;
};

static enum mb_status add_job(struct launch *l, const struct mb_gemm_group *g)
{
    struct mb_k_s8_job *j = &l->job[l->jobs++];
    int64_t tiles = (g->rows - 1) / MB_S8_ROWS + 1;

    if (g->w->panels * tiles > INT32_MAX - l->items || g->rows > INT32_MAX - l->rows)
        return mb_error(MB_BUG, "gemm: a group of %lld rows and %lld columns", (long long)g->rows, (long long)g->w->desc.n);
    *j = (struct mb_k_s8_job){.job = {.w = g->w->there,
                                      .bias = mb_has_view(g->bias) ? mb_cuda_mat(g->bias).p : NULL,
                                      .row0 = g->row0,
                                      .x_col = g->x_col,
                                      .out_col = g->out_col,
                                      .rows = (int32_t)g->rows,
                                      .item0 = l->items,
                                      .row_tiles = (int32_t)tiles},
                              .words = l->words,
                              .scales = l->scales,
                              .quantise0 = l->rows};
    l->items += (int32_t)(g->w->panels * tiles);
    l->rows += (int32_t)g->rows;
    l->words += g->rows * g->w->k.blocks * 8;
    l->scales += g->rows * g->w->desc.leaves;
    l->most_rows = j->job.rows > l->most_rows ? j->job.rows : l->most_rows;
    return MB_OK;
}

static enum mb_status run(struct mb_stream *s, struct mb_view out, struct mb_view x, const struct mb_gemm_group *groups, int32_t n,
                          int32_t *next)
{
    struct launch l = {0};
    void *host, *device, *room;
    int32_t jobs = 0;

    for (int32_t i = *next; i < n && jobs < MOST_JOBS; i++)
        jobs += groups[i].rows > 0;
    if (jobs == 0) {
        *next = n;
        return MB_OK;
    }
    MB_TRY(mb_cuda_args(s, (uint64_t)jobs * sizeof *l.job, &host, &device));
    l.job = host;
    for (; *next < n && l.jobs < jobs; ++*next)
        if (groups[*next].rows > 0)
            MB_TRY(add_job(&l, &groups[*next]));
    MB_TRY(mb_cuda_scratch(s, (uint64_t)(l.words + l.scales) * 4, &room));
    float *scales = (float *)room + l.words;
    MB_TRY(mb_cuda_args_send(s, host, device, (uint64_t)jobs * sizeof *l.job));
    MB_TRY(mb_cuda_call("gemm", mb_k_s8_quantise(s->s, mb_cuda_mat(x), device, l.jobs, l.rows, room, scales)));
    return mb_cuda_call("gemm", mb_k_s8_gemm(s->s, mb_cuda_mat(out), device, l.jobs, l.items, l.most_rows, room, scales));
}

enum mb_status mb_cuda_gemm_s8(struct mb_stream *s, struct mb_view out, struct mb_view x, const struct mb_gemm_group *groups, int32_t n)
{
    MB_TRY(mb_want("gemm", "x", x, -1, -1, MB_F32));
    for (int32_t next = 0; next < n;)
        MB_TRY(run(s, out, x, groups, n, &next));
    return MB_OK;
}
