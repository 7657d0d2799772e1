/* Grouped GEMMs: groups become jobs of a launch, by the kernel that suits their rows. Which one it is changes no bit. */
#include <inttypes.h>
#include "cuda/weight.h"

/* FEW: as fast as weights are read. Above, a tile reads them once for 32 or 64 rows. */
enum shape { FEW, NARROW, TILE, SHAPES };
enum { NARROW_ROWS = MB_TILE_ROWS / 2, KINDS = MB_KIND_CODES_BF16 + 1, MOST_JOBS = MB_CUDA_ARGS / (int)sizeof(struct mb_k_job) };

static enum shape shape_of(int64_t rows)
{
    return rows <= MB_FEW_ROWS ? FEW : rows <= NARROW_ROWS ? NARROW : TILE;
}

static enum mb_weight_kind kind_of(const struct mb_weight *w)
{
    bool half = w->desc.dtype == MB_BF16;

    if (mb_form_stored(&w->desc.form))
        return half ? MB_KIND_CODES_BF16 : MB_KIND_CODES_F32;
    return half ? MB_KIND_BF16 : MB_KIND_F32;
}

/* ---------------------------------------------------------------- checks */
static enum mb_status check_group(const struct mb_gemm_group *g, struct mb_view out, struct mb_view x)
{
    if (g->w == NULL)
        return mb_error(MB_BUG, "gemm: a group without a weight");
    int64_t n = g->w->desc.n, k = g->w->desc.k;
    bool ok = g->row0 >= 0 && g->rows >= 0 && g->row0 <= x.rows - g->rows && g->row0 <= out.rows - g->rows && g->x_col >= 0 &&
              g->out_col >= 0 && g->x_col <= x.cols - k && g->out_col <= out.cols - n && g->rows <= INT32_MAX;
    if (!ok)
        return mb_error(MB_BUG, "gemm: a group of %lld x %lld lies outside its rows or columns", (long long)n, (long long)k);
    return mb_has_view(g->bias) ? mb_want("gemm", "bias", g->bias, 1, n, MB_F32) : MB_OK;
}

/* ---------------------------------------------------------------- launches */
struct launch {
    struct mb_stream *s;
    struct mb_view out, x;
    enum mb_weight_kind kind;
    enum shape shape;
    struct mb_k_job *job; /* on the host's side */
    int32_t jobs, items, most_rows;
};

static bool takes(const struct launch *l, const struct mb_gemm_group *g)
{
    return g->rows > 0 && shape_of(g->rows) == l->shape && kind_of(g->w) == l->kind;
}

static enum mb_status add_job(struct launch *l, const struct mb_gemm_group *g)
{
    int32_t tile = l->shape == FEW ? MB_FEW_ROWS : l->shape == NARROW ? NARROW_ROWS : MB_TILE_ROWS;
    int64_t panels = l->shape == FEW ? g->w->panels : (g->w->panels - 1) / MB_TILE_PANELS + 1;
    struct mb_k_job *j = &l->job[l->jobs++];

    *j = (struct mb_k_job){.w = g->w->there,
                           .bias = mb_has_view(g->bias) ? mb_cuda_mat(g->bias).p : NULL,
                           .row0 = g->row0,
                           .x_col = g->x_col,
                           .out_col = g->out_col,
                           .rows = (int32_t)g->rows,
                           .item0 = l->items,
                           .row_tiles = (int32_t)((g->rows - 1) / tile + 1)};
    if (panels * j->row_tiles > INT32_MAX - l->items)
        return mb_error(MB_BUG, "gemm: a group of %lld rows and %lld columns", (long long)g->rows, (long long)g->w->desc.n);
    l->items += (int32_t)panels * j->row_tiles;
    l->most_rows = j->rows > l->most_rows ? j->rows : l->most_rows;
    return MB_OK;
}

/* Jobs of the groups from *next on that suit the launch. */
static enum mb_status run(struct launch *l, const struct mb_gemm_group *groups, int32_t n, int32_t *next)
{
    void *host, *device;
    int32_t jobs = 0;

    for (int32_t i = *next; i < n && jobs < MOST_JOBS; i++)
        jobs += takes(l, &groups[i]);
    if (jobs == 0) {
        *next = n;
        return MB_OK;
    }
    uint64_t bytes = (uint64_t)jobs * sizeof *l->job;
    MB_TRY(mb_cuda_args(l->s, bytes, &host, &device));
    l->job = host;
    l->jobs = l->items = l->most_rows = 0;
    for (; *next < n && l->jobs < jobs; ++*next)
        if (takes(l, &groups[*next]))
            MB_TRY(add_job(l, &groups[*next]));
    MB_TRY(mb_cuda_args_send(l->s, host, device, bytes));
    struct mb_mat out = mb_cuda_mat(l->out), x = mb_cuda_mat(l->x);
    if (l->shape == FEW)
        return mb_cuda_call("gemm",
                            mb_k_gemm_few(l->s->s, out, x, device, l->jobs, l->items, (int32_t)l->kind, l->most_rows));
    return mb_cuda_call("gemm", mb_k_gemm_tile(l->s->s, out, x, device, l->jobs, l->items, (int32_t)l->kind, l->shape == NARROW));
}

enum mb_status mb_cuda_gemm(struct mb_stream *s, struct mb_view out, struct mb_view x, const struct mb_gemm_group *groups,
                            int32_t n_groups)
{
    bool used[KINDS][SHAPES] = {{false}};
    int32_t s8 = 0;

    MB_TRY(mb_want_float("gemm", "x", x, -1, -1));
    MB_TRY(mb_want_float("gemm", "out", out, -1, -1));
    for (int32_t i = 0; i < n_groups; i++) {
        MB_TRY(check_group(&groups[i], out, x));
        s8 += groups[i].w->desc.form.code == MB_CODE_S8;
        if (groups[i].rows > 0)
            used[kind_of(groups[i].w)][shape_of(groups[i].rows)] = true;
    }
    if (s8 != 0)
        return s8 == n_groups ? mb_cuda_gemm_s8(s, out, x, groups, n_groups)
                              : mb_error(MB_BUG, "gemm: %d of %d weights are of signed bytes", s8, n_groups);
    for (int kind = 0; kind < KINDS; kind++)
        for (int shape = 0; shape < SHAPES; shape++) {
            struct launch l = {.s = s, .out = out, .x = x, .kind = (enum mb_weight_kind)kind, .shape = (enum shape)shape};
            for (int32_t next = 0; used[kind][shape] && next < n_groups;)
                MB_TRY(run(&l, groups, n_groups, &next));
        }
    return MB_OK;
}
