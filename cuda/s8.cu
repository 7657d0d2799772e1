/* Signed bytes: weights and rows quantised, and their products by dp4a, four at a time. */
#include "cuda/tree.h"
#include "cuda/gemm_read.h"
#include "cuda/s8.h"

namespace {

enum { THREADS = 128, WARPS = THREADS / MB_WARP, WARP_BLOCKS = 4, ROUND = WARPS * WARP_BLOCKS };

/* Scale of numbers whose largest magnitude has these bits: m / 127, 0 if that is no normal number, NaN if m is not finite (codes are
 * then 0, and so is nothing of what is computed with them). */
MB_DEVICE float scale_of(uint32_t largest)
{
    if (largest >= 0x7f800000u)
        return mb_float_of(0x7fc00000u);
    float s = mb_float_of(largest) / 127.0f;
    return mb_bits_of(s) < 0x00800000u ? 0 : s;
}
MB_DEVICE uint32_t code_of(float x, float scale)
{
    bool none = scale == 0 || scale != scale;
    return none ? 0 : static_cast<uint32_t>(static_cast<int32_t>(rintf(x / scale))) & 255;
}

/* The same in all lanes. */
MB_DEVICE float scale_by_warp(const float *x, int32_t n)
{
    uint32_t most = 0;

    for (int32_t i = mb_lane(); i < n; i += MB_WARP) {
        uint32_t bits = mb_bits_of(x[i]) & 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    for (int d = 16; d > 0; d /= 2) {
        uint32_t o = __shfl_xor_sync(MB_ALL, most, d);
        most = o > most ? o : most;
    }
    return scale_of(most);
}

/* A warp a leaf of a row. */
__global__ void __launch_bounds__(THREADS)
    pack_kernel(const struct mb_k_weight *weight, int64_t n0, int64_t n, int32_t leaves, const float *rows, int64_t stride)
{
    int64_t v = mb_grid_warp(), r = v / leaves, row = n0 + r;
    int32_t l = static_cast<int32_t>(v % leaves);

    if (r >= n)
        return;
    const struct mb_k_weight &w = *weight;
    const float *x = rows + r * stride + w.leaf[l];
    int32_t k = w.leaf[l + 1] - w.leaf[l], column = static_cast<int32_t>(row % MB_PANEL);
    uint8_t *panel = const_cast<uint8_t *>(w.data) + row / MB_PANEL * w.panel_bytes;
    float scale = scale_by_warp(x, k);
    if (mb_lane() == 0)
        reinterpret_cast<float *>(panel + w.scale_at)[l * MB_PANEL + column] = scale;
    for (int32_t i = mb_lane(); i < k; i += MB_WARP)
        panel[static_cast<int64_t>(w.block[l] + i / MB_BLOCK) * w.block_bytes + mb_block_place(8, true, i % MB_BLOCK, column)] =
            static_cast<uint8_t>(code_of(x[i], scale));
}

/* The job of row i of those that are quantised. */
MB_DEVICE const struct mb_k_s8_job *job_of_row(const struct mb_k_s8_job *jobs, int32_t n, int32_t i)
{
    int32_t lo = 0, hi = n;

    while (hi - lo > 1) {
        int32_t mid = (lo + hi) / 2;
        if (jobs[mid].quantise0 <= i)
            lo = mid;
        else
            hi = mid;
    }
    return jobs + lo;
}

/* A warp a row: its leaves one after the other, a word of four codes a lane. */
__global__ void __launch_bounds__(THREADS) quantise_kernel(struct mb_mat x, const struct mb_k_s8_job *jobs, int32_t n_jobs, int32_t rows,
                                                           uint32_t *words, float *scales)
{
    int32_t i = static_cast<int32_t>(mb_grid_warp());

    if (i >= rows)
        return;
    const struct mb_k_s8_job *j = job_of_row(jobs, n_jobs, i);
    const struct mb_k_weight &w = *j->job.w;
    int64_t r = i - j->quantise0;
    const float *row = mb_row_f32(x, j->job.row0 + r) + j->job.x_col;
    uint32_t *to = words + j->words + r * w.blocks * 8;
    for (int32_t l = 0; l < w.leaves; l++) {
        const float *v = row + w.leaf[l];
        int32_t n = w.leaf[l + 1] - w.leaf[l];
        float scale = scale_by_warp(v, n);
        if (mb_lane() == 0)
            scales[j->scales + r * w.leaves + l] = scale;
        for (int32_t at = mb_lane(); at < (w.block[l + 1] - w.block[l]) * 8; at += MB_WARP) {
            int32_t k = at / 8 * MB_BLOCK + at % 8 / 2 * 8 + at % 2;
            uint32_t word = 0;
            for (int c = 0; c < 4; c++)
                word |= (k + 2 * c < n ? code_of(v[k + 2 * c], scale) : 0) << (8 * c);
            to[w.block[l] * 8 + at] = word;
        }
    }
}

/* Sums of a leaf's blocks for R rows and the lane's four columns; then of the warp's lanes, to part [R][16]. */
template <int R>
MB_DEVICE void run_leaf(const struct mb_k_weight &w, const uint8_t *panel, int32_t l, const uint32_t *words, int32_t rows, int32_t *part)
{
    int lane = mb_lane(), b = lane / 8, q = lane / 2 % 4, p = lane % 2;
    int32_t sum[R][4];
    int64_t row_words = static_cast<int64_t>(w.blocks) * 8;

    MB_UNROLL
    for (int r = 0; r < R; r++)
        sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = 0;
    for (int32_t block = w.block[l] + mb_warp() * WARP_BLOCKS + b; block < w.block[l + 1]; block += ROUND)
        for (int t = 0; t < 4; t++) {
            const uint4 v = *reinterpret_cast<const uint4 *>(panel + static_cast<int64_t>(block) * w.block_bytes + (t * 8 + q * 2 + p) * 16);
            MB_UNROLL
            for (int r = 0; r < R; r++) {
                int32_t a = r < rows ? static_cast<int32_t>(words[r * row_words + block * 8 + t * 2 + p]) : 0;
                sum[r][0] = __dp4a(a, static_cast<int32_t>(v.x), sum[r][0]);
                sum[r][1] = __dp4a(a, static_cast<int32_t>(v.y), sum[r][1]);
                sum[r][2] = __dp4a(a, static_cast<int32_t>(v.z), sum[r][2]);
                sum[r][3] = __dp4a(a, static_cast<int32_t>(v.w), sum[r][3]);
            }
        }
    MB_UNROLL
    for (int r = 0; r < R; r++)
        MB_UNROLL
        for (int j = 0; j < 4; j++) {
            int32_t v = sum[r][j];
            v += __shfl_xor_sync(MB_ALL, v, 1);
            v += __shfl_xor_sync(MB_ALL, v, 8);
            v += __shfl_xor_sync(MB_ALL, v, 16);
            if (p == 0 && b == 0)
                part[r * MB_PANEL + q * 4 + j] = v;
        }
}

template <int R>
MB_DEVICE void run_tile(const struct mb_mat &out, const struct mb_k_s8_job &j, int32_t row, int32_t rows, int32_t panel,
                        const uint32_t *words, const float *scales, int32_t *part)
{
    enum { OUTPUTS = R * MB_PANEL, EACH = (OUTPUTS + THREADS - 1) / THREADS };
    const struct mb_k_weight &w = *j.job.w;
    const uint8_t *from = w.data + panel * w.panel_bytes;
    const float *columns = reinterpret_cast<const float *>(from + w.scale_at);
    struct mb_total total[EACH] = {};

    words += j.words + static_cast<int64_t>(row) * w.blocks * 8;
    scales += j.scales + static_cast<int64_t>(row) * w.leaves;
    for (int32_t l = 0; l < w.leaves; l++) {
        run_leaf<R>(w, from, l, words, rows, part + mb_warp() * OUTPUTS);
        __syncthreads();
        MB_UNROLL
        for (int i = 0; i < EACH; i++) {
            int o = static_cast<int>(threadIdx.x) + i * THREADS;
            int32_t sum = 0, r = o / MB_PANEL;
            if (o >= OUTPUTS || r >= rows)
                continue;
            for (int k = 0; k < WARPS; k++)
                sum += part[k * OUTPUTS + o];
            total[i].c = static_cast<float>(sum) * (scales[r * w.leaves + l] * columns[l * MB_PANEL + o % MB_PANEL]);
            mb_end_leaf(total[i], l);
        }
        __syncthreads();
    }
    MB_UNROLL
    for (int i = 0; i < EACH; i++) {
        int o = static_cast<int>(threadIdx.x) + i * THREADS, r = o / MB_PANEL, col = panel * MB_PANEL + o % MB_PANEL;
        if (o >= OUTPUTS || r >= rows || col >= w.n)
            continue;
        float v = mb_root_of(total[i], w.leaves);
        v = j.job.bias != nullptr ? v + j.job.bias[col] : v;
        mb_put(out, j.job.row0 + row + r, j.job.out_col + col, v);
    }
}

MB_DEVICE const struct mb_k_s8_job *job_of_item(const struct mb_k_s8_job *jobs, int32_t n, int32_t i)
{
    int32_t lo = 0, hi = n;

    while (hi - lo > 1) {
        int32_t mid = (lo + hi) / 2;
        if (jobs[mid].job.item0 <= i)
            lo = mid;
        else
            hi = mid;
    }
    return jobs + lo;
}

template <int MOST>
__global__ void __launch_bounds__(THREADS)
    gemm_kernel(struct mb_mat out, const struct mb_k_s8_job *jobs, int32_t n_jobs, const uint32_t *words, const float *scales)
{
    __shared__ int32_t part[WARPS * MOST * MB_PANEL];
    int32_t item = static_cast<int32_t>(blockIdx.x);
    const struct mb_k_s8_job *j = job_of_item(jobs, n_jobs, item);
    int32_t row = (item - j->job.item0) % j->job.row_tiles * MB_S8_ROWS, left = j->job.rows - row;
    int32_t panel = (item - j->job.item0) / j->job.row_tiles;

    run_tile<MOST>(out, *j, row, left < MB_S8_ROWS ? left : static_cast<int32_t>(MB_S8_ROWS), panel, words, scales, part);
}

dim3 warps(int64_t n)
{
    return dim3(static_cast<uint32_t>((n + WARPS - 1) / WARPS));
}

} // namespace

extern "C" cudaError_t mb_k_s8_pack(cudaStream_t s, const struct mb_k_weight *w, int64_t n0, int64_t n, int32_t leaves,
                                    const float *rows, int64_t stride)
{
    return MB_LAUNCH(pack_kernel, warps(n * leaves), dim3(THREADS), 0, s, w, n0, n, leaves, rows, stride);
}

extern "C" cudaError_t mb_k_s8_quantise(cudaStream_t s, struct mb_mat x, const struct mb_k_s8_job *jobs, int32_t n_jobs, int32_t rows,
                                        uint32_t *words, float *scales)
{
    return MB_LAUNCH(quantise_kernel, warps(rows), dim3(THREADS), 0, s, x, jobs, n_jobs, rows, words, scales);
}

extern "C" cudaError_t mb_k_s8_gemm(cudaStream_t s, struct mb_mat out, const struct mb_k_s8_job *jobs, int32_t n_jobs, int32_t items,
                                    int32_t most_rows, const uint32_t *words, const float *scales)
{
    dim3 grid(static_cast<uint32_t>(items)), block(THREADS);

    if (most_rows <= 4)
        return MB_LAUNCH(gemm_kernel<4>, grid, block, 0, s, out, jobs, n_jobs, words, scales);
    return MB_LAUNCH(gemm_kernel<MB_S8_ROWS>, grid, block, 0, s, out, jobs, n_jobs, words, scales);
}
