/* Grouped GEMMs of many rows: bound by products, so a block of threads keeps a tile of 64 (or 32) rows by 64 columns in registers, 8
 * (or 4) rows by 4 columns a thread. A 32-block of both operands lies in shared memory as f32, k by k, and the next one is on its way
 * from memory while it is multiplied: 3 loads of 16 bytes for 32 products. */
#include "cuda/gemm_read.h"

namespace {

enum {
    THREADS = 128,
    COLS = MB_TILE_PANELS * MB_PANEL,
    PER_ROW = 16,  /* k that a thread fetches of a row */
    LEVELS = 4     /* open nodes of a tree over 16 leaves */
};
static_assert(COLS == 64 && THREADS == 2 * MB_TILE_ROWS, "the threads' places");

/* Rows of x at k: four floats more, so that rows of two k begin at other banks. */
template <int ROWS> struct stage {
    float x[MB_BLOCK][ROWS + 4];
    float w[MB_BLOCK][COLS];
};

struct tile {
    const struct mb_k_job *job;
    int64_t row; /* of x and out */
    int32_t rows, panel, panels; /* panels of the weight from the first one of the tile on */
};

/* What a thread fetches of a block: 16 k of a row of x, and a quad of a weight that is no codes. */
template <int KIND> struct fetched {
    float x[PER_ROW];
    struct mb_quad<mb_kind<KIND>::bf16> w;
};

/* A row's k of a block, two threads a row; 16 bytes at a time where they lie so. */
MB_DEVICE void fetch_row(float *v, const struct mb_mat &x, int64_t row, int64_t col, int32_t valid)
{
    if (x.dtype == MB_BF16) {
        const uint16_t *p = mb_row_bf16(x, row) + col;
        if (valid >= PER_ROW && reinterpret_cast<uintptr_t>(p) % 16 == 0) {
            MB_UNROLL
            for (int i = 0; i < PER_ROW; i += 8) {
                uint4 u = *reinterpret_cast<const uint4 *>(p + i);
                v[i] = mb_low(u.x), v[i + 1] = mb_high(u.x), v[i + 2] = mb_low(u.y), v[i + 3] = mb_high(u.y);
                v[i + 4] = mb_low(u.z), v[i + 5] = mb_high(u.z), v[i + 6] = mb_low(u.w), v[i + 7] = mb_high(u.w);
            }
            return;
        }
        MB_UNROLL
        for (int i = 0; i < PER_ROW; i++)
            v[i] = i < valid ? mb_bf16_float(p[i]) : 0;
        return;
    }
    const float *p = mb_row_f32(x, row) + col;
    MB_UNROLL
    for (int i = 0; i < PER_ROW; i++)
        v[i] = i < valid ? p[i] : 0;
}

/* Places of a thread: row of x it fetches (rows beyond 2 x threads: none), its quad. */
struct place {
    int row, half;           /* of x */
    int panel, q, p, t;      /* of w */
    int row0, col0;          /* first of its outputs */
};
template <int ROWS> MB_DEVICE struct place place_of(void)
{
    int i = static_cast<int>(threadIdx.x), lane = i % MB_WARP, warp = i / MB_WARP;
    struct place p;

    p.row = i % ROWS;
    p.half = i / ROWS;
    p.panel = warp;
    p.q = lane % 8 / 2;
    p.p = lane % 2;
    p.t = lane / 8;
    p.row0 = (warp / 2 * 4 + lane / 8) * (ROWS / 8);
    p.col0 = (warp % 2 * 8 + lane % 8) * 4;
    return p;
}

template <int KIND, int ROWS>
MB_DEVICE void fetch(struct fetched<KIND> &f, const struct mb_mat &x, const struct tile &t, const struct place &me, int32_t block)
{
    const struct mb_k_weight &w = *t.job->w;
    int32_t valid, k = mb_block_k(&w, block, &valid);

    if (me.half < 2) {
        int32_t left = valid - me.half * PER_ROW;
        fetch_row(f.x, x, t.row + me.row, t.job->x_col + k + me.half * PER_ROW, me.row < t.rows ? left : 0);
    }
    if constexpr (!mb_kind<KIND>::codes)
        if (me.panel < t.panels)
            mb_quad_load<mb_kind<KIND>::bf16>(f.w, w.data + (t.panel + me.panel) * w.panel_bytes + static_cast<int64_t>(block) * w.block_bytes,
                                          me.t, me.q * 2 + me.p);
}

/* A quad of codes, as numbers to the stage. Not inlined: it is long, and rare beside the products. */
template <int ROWS>
static __device__ __noinline__ void put_codes(struct stage<ROWS> &s, const struct mb_k_weight &w, int32_t panel, int32_t block, int t,
                                              int q, int p, int col, const float *numbers)
{
    const uint8_t *from = w.data + panel * w.panel_bytes;
    int32_t valid, k = mb_block_k(&w, block, &valid);

    for (int i = 0; i < 4; i++) {
        int m = 4 * t + i;
        *reinterpret_cast<float4 *>(&s.w[2 * m + p][col]) =
            2 * m + p < valid ? mb_code_values(w, from, from + static_cast<int64_t>(block) * w.block_bytes,
                                               static_cast<int64_t>(panel) * MB_PANEL + q * 4, k + 2 * m + p, m, q, p, numbers)
                              : make_float4(0, 0, 0, 0);
    }
}

template <int KIND, int ROWS>
MB_DEVICE void put(struct stage<ROWS> &s, const struct fetched<KIND> &f, const struct tile &t, const struct place &me, int32_t block,
                   const float *numbers)
{
    int col = me.panel * MB_PANEL + me.q * 4;
    float v[4][4] = {};

    if (me.half < 2) {
        MB_UNROLL
        for (int i = 0; i < PER_ROW; i++)
            s.x[me.half * PER_ROW + i][me.row] = f.x[i];
    }
    if constexpr (mb_kind<KIND>::codes) {
        if (me.panel < t.panels) {
            put_codes<ROWS>(s, *t.job->w, t.panel + me.panel, block, me.t, me.q, me.p, col, numbers);
            return;
        }
    } else if (me.panel < t.panels) {
        mb_quad_values<mb_kind<KIND>::bf16>(f.w, v);
    }
    MB_UNROLL
    for (int i = 0; i < 4; i++)
        *reinterpret_cast<float4 *>(&s.w[8 * me.t + 2 * i + me.p][col]) = make_float4(v[i][0], v[i][1], v[i][2], v[i][3]);
}

/* One chain of a block: k = first, first + 2, ... */
template <int ROWS>
MB_DEVICE void chain(float (&sum)[ROWS / 8][4], const struct stage<ROWS> &s, const struct place &me, int first)
{
    enum { EACH = ROWS / 8 };

    MB_UNROLL_BY(4)
    for (int k = first; k < MB_BLOCK; k += 2) {
        float a[EACH];
        const float4 b = *reinterpret_cast<const float4 *>(&s.w[k][me.col0]);
        MB_UNROLL
        for (int r = 0; r < EACH; r += 4) {
            const float4 v = *reinterpret_cast<const float4 *>(&s.x[k][me.row0 + r]);
            a[r] = v.x, a[r + 1] = v.y, a[r + 2] = v.z, a[r + 3] = v.w;
        }
        MB_UNROLL
        for (int r = 0; r < EACH; r++) {
            sum[r][0] = fmaf(a[r], b.x, sum[r][0]);
            sum[r][1] = fmaf(a[r], b.y, sum[r][1]);
            sum[r][2] = fmaf(a[r], b.z, sum[r][2]);
            sum[r][3] = fmaf(a[r], b.w, sum[r][3]);
        }
    }
}

/* c = c + (e + o) */
template <int ROWS>
MB_DEVICE void multiply(float (&c)[ROWS / 8][4], const struct stage<ROWS> &s, const struct place &me)
{
    float e[ROWS / 8][4] = {}, o[ROWS / 8][4] = {};

    chain<ROWS>(e, s, me, 0);
    chain<ROWS>(o, s, me, 1);
    MB_UNROLL
    for (int i = 0; i < ROWS / 2; i++)
        c[i / 4][i % 4] = c[i / 4][i % 4] + (e[i / 4][i % 4] + o[i / 4][i % 4]);
}

/* Leaf l is done: c joins the nodes whose right half it ends, and waits in `open`, in local memory on purpose: it is touched
 * once a leaf. */
template <int ROWS> MB_DEVICE void end_leaf(float (&c)[ROWS / 8][4], float (*open)[ROWS / 8][4], int32_t l, bool last)
{
    int level = 0;

    for (; (l >> level & 1) != 0; level++)
        for (int i = 0; i < ROWS / 2; i++)
            c[i / 4][i % 4] = open[level][i / 4][i % 4] + c[i / 4][i % 4];
    if (last) { /* nodes without a right half */
        for (int32_t more = (l + 1) >> level & ~1; more != 0; more &= more - 1) {
            int at = level + __ffs(more) - 1;
            for (int i = 0; i < ROWS / 2; i++)
                c[i / 4][i % 4] = open[at][i / 4][i % 4] + c[i / 4][i % 4];
        }
        return;
    }
    for (int i = 0; i < ROWS / 2; i++) {
        open[level][i / 4][i % 4] = c[i / 4][i % 4];
        c[i / 4][i % 4] = 0;
    }
}

template <int ROWS>
MB_DEVICE void store(const struct mb_mat &out, const struct tile &t, const struct place &me, const float (&c)[ROWS / 8][4])
{
    const struct mb_k_weight &w = *t.job->w;

    MB_UNROLL
    for (int i = 0; i < ROWS / 2; i++) {
        int32_t r = me.row0 + i / 4, col = t.panel * MB_PANEL + me.col0 + i % 4;
        if (r >= t.rows || col >= w.n)
            continue;
        float v = c[i / 4][i % 4];
        if (t.job->bias != nullptr)
            v = v + t.job->bias[col];
        mb_put(out, t.row + r, t.job->out_col + col, v);
    }
}

template <int KIND, int ROWS>
__global__ void __launch_bounds__(THREADS, 3)
    tile_kernel(struct mb_mat out, struct mb_mat x, const struct mb_k_job *jobs, int32_t n_jobs)
{
    __shared__ struct stage<ROWS> shared[2];
    __shared__ float numbers[mb_kind<KIND>::codes ? MB_NUMBERS : 1];
    int32_t item = static_cast<int32_t>(blockIdx.x);
    const struct mb_k_job *job = mb_job_of(jobs, n_jobs, item);
    const struct mb_k_weight &w = *job->w;
    int32_t row = (item - job->item0) % job->row_tiles * ROWS, left = job->rows - row;
    int32_t panel = (item - job->item0) / job->row_tiles * MB_TILE_PANELS, panels = (w.n + MB_PANEL - 1) / MB_PANEL - panel;
    struct tile t = {job, job->row0 + row, left < ROWS ? left : ROWS, panel, panels};
    struct place me = place_of<ROWS>();
    struct fetched<KIND> f;
    float c[ROWS / 8][4] = {}, open[LEVELS][ROWS / 8][4];
    int32_t leaf = 0;

    if constexpr (mb_kind<KIND>::codes) {
        mb_numbers(numbers, w, static_cast<int>(threadIdx.x), THREADS);
        __syncthreads();
    }
    fetch<KIND, ROWS>(f, x, t, me, 0);
    for (int32_t block = 0; block < w.blocks; block++) {
        struct stage<ROWS> &s = shared[block % 2];
        put<KIND, ROWS>(s, f, t, me, block, numbers);
        __syncthreads(); /* who is here has left the other stage, too */
        if (block + 1 < w.blocks)
            fetch<KIND, ROWS>(f, x, t, me, block + 1);
        multiply<ROWS>(c, s, me);
        if (block + 1 == w.block[leaf + 1] && w.leaves > 1) {
            end_leaf<ROWS>(c, open, leaf, leaf + 1 == w.leaves);
            leaf++;
        }
    }
    store<ROWS>(out, t, me, c);
}

template <int KIND>
cudaError_t by_width(cudaStream_t s, struct mb_mat out, struct mb_mat x, const struct mb_k_job *jobs, int32_t n_jobs, int32_t items,
                     int32_t narrow)
{
    dim3 grid(static_cast<uint32_t>(items)), block(THREADS);

    if (narrow)
        return MB_LAUNCH((tile_kernel<KIND, MB_TILE_ROWS / 2>), grid, block, 0, s, out, x, jobs, n_jobs);
    return MB_LAUNCH((tile_kernel<KIND, MB_TILE_ROWS>), grid, block, 0, s, out, x, jobs, n_jobs);
}

} // namespace

extern "C" cudaError_t mb_k_gemm_tile(cudaStream_t s, struct mb_mat out, struct mb_mat x, const struct mb_k_job *jobs,
                                      int32_t n_jobs, int32_t items, int32_t kind, int32_t narrow)
{
    switch (kind) {
    case MB_KIND_F32:
        return by_width<MB_KIND_F32>(s, out, x, jobs, n_jobs, items, narrow);
    case MB_KIND_BF16:
        return by_width<MB_KIND_BF16>(s, out, x, jobs, n_jobs, items, narrow);
    case MB_KIND_CODES_F32:
        return by_width<MB_KIND_CODES_F32>(s, out, x, jobs, n_jobs, items, narrow);
    default:
        return by_width<MB_KIND_CODES_BF16>(s, out, x, jobs, n_jobs, items, narrow);
    }
}
