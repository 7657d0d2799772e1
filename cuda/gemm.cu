/* Grouped GEMMs of few rows: as fast as weights can be read. The 32-blocks of the dot rule are independent of each other, so a block
 * of threads takes 16 of them at a time, four a warp, and leaves e + o of each in shared memory, where one thread per output adds
 * them in order. A thread has a quarter of the columns of one parity: an instruction each for a product, about two more for each weight.
 *
 * Shared memory: rows of the warp's 4 blocks as f32 [row][t][block][p][4] (what the 8 groups of lanes read at a time is 128 bytes in a
 * row: no bank is asked twice), and e + o [block][row][16]. */
#include "cuda/gemm_read.h"
#include "cuda/tree.h"

namespace {

enum {
    THREADS = 128,
    WARPS = THREADS / MB_WARP,
    WARP_BLOCKS = 4,
    ROUND = WARPS * WARP_BLOCKS, /* blocks that are under way together */
    PLAIN_SHARED = 48 << 10
};

/* The rows of a tile, and where they lie. */
struct tile {
    const struct mb_k_job *job;
    int64_t row; /* of x and out */
    int32_t rows;
    int32_t panel;
};

/* Floats of a warp's blocks of decoded weights. */
template <int KIND> struct code_room {
    static const int floats = mb_kind<KIND>::codes ? WARP_BLOCKS * (mb_kind<KIND>::bf16 ? 256 : 512) : 0;
};

/* A warp's share of shared memory, and the block's table of numbers. */
struct room {
    float *x, *numbers;
    uint8_t *codes;
};

/* One lane for each k of a block. */
template <int R>
MB_DEVICE void stage_rows(const struct mb_mat &x, const struct tile &t, const struct mb_k_weight &w, int32_t block0, float *xs)
{
    int lane = mb_lane(), place = lane / 8 * 32 + lane % 2 * 4 + lane / 2 % 4;

    for (int b = 0; b < WARP_BLOCKS; b++) {
        int32_t valid = 0, k = block0 + b < w.blocks ? mb_block_k(&w, block0 + b, &valid) : 0;
        int64_t col = t.job->x_col + k + lane;
        MB_UNROLL
        for (int r = 0; r < R; r++)
            xs[r * 128 + place + b * 8] = lane < valid && r < t.rows ? mb_get(x, t.row + r, col) : 0;
    }
}

/* e and o of the lane's block, added: each lane of a pair gives the other two of its four columns. */
template <int R> MB_DEVICE void join_chains(const float (&sum)[R][4], int p, int q, float *part)
{
    MB_UNROLL
    for (int r = 0; r < R; r++) {
        float keep0 = p ? sum[r][2] : sum[r][0], keep1 = p ? sum[r][3] : sum[r][1];
        float give0 = p ? sum[r][0] : sum[r][2], give1 = p ? sum[r][1] : sum[r][3];
        float2 s;
        s.x = keep0 + __shfl_xor_sync(MB_ALL, give0, 1);
        s.y = keep1 + __shfl_xor_sync(MB_ALL, give1, 1);
        *reinterpret_cast<float2 *>(part + r * MB_PANEL + q * 4 + p * 2) = s;
    }
}

/* The chains of R rows over the warp's blocks block0 .. block0 + 3. */
template <int KIND, int R>
MB_DEVICE void run_blocks(const struct mb_mat &x, const struct tile &t, const struct mb_k_weight &w, int32_t block0,
                          const struct room &room, float *part)
{
    enum { BF16 = mb_kind<KIND>::bf16, CODES = mb_kind<KIND>::codes, BYTES = BF16 ? 1024 : 2048 };
    int lane = mb_lane(), b = lane / 8, q = lane / 2 % 4, p = lane % 2;
    bool there = block0 + b < w.blocks;
    const uint8_t *from = CODES ? room.codes + b * BYTES : w.data + t.panel * w.panel_bytes + static_cast<int64_t>(block0 + b) * BYTES;
    struct mb_quad<BF16> quad[4];
    float sum[R][4], *xs = room.x;

    if constexpr (CODES) {
        mb_decode<BF16>(room.codes, w, t.panel, block0, WARP_BLOCKS, lane, MB_WARP, room.numbers);
        __syncwarp();
    }
    MB_UNROLL
    for (int i = 0; i < 4; i++)
        if (there)
            mb_quad_load<BF16>(quad[i], from, i, q * 2 + p);
    stage_rows<R>(x, t, w, block0, xs);
    __syncwarp();
    MB_UNROLL
    for (int r = 0; r < R; r++)
        sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = 0;
    if (there) {
        MB_UNROLL
        for (int i = 0; i < 4; i++) {
            float v[4][4];
            mb_quad_values<BF16>(quad[i], v);
            MB_UNROLL
            for (int r = 0; r < R; r++) {
                const float4 a = *reinterpret_cast<const float4 *>(xs + r * 128 + i * 32 + b * 8 + p * 4);
                MB_UNROLL
                for (int j = 0; j < 4; j++) {
                    sum[r][j] = fmaf(a.x, v[0][j], sum[r][j]);
                    sum[r][j] = fmaf(a.y, v[1][j], sum[r][j]);
                    sum[r][j] = fmaf(a.z, v[2][j], sum[r][j]);
                    sum[r][j] = fmaf(a.w, v[3][j], sum[r][j]);
                }
            }
        }
    }
    __syncwarp(); /* the room is written again */
    join_chains<R>(sum, p, q, part + b * R * MB_PANEL);
}

/* Adds the round's blocks in order. */
template <int R>
MB_DEVICE void add_round(struct mb_total &t, const struct mb_k_weight &w, int32_t block0, const float *part, int32_t &leaf)
{
    for (int b = 0; b < ROUND && block0 + b < w.blocks; b++) {
        t.c = t.c + part[b * R * MB_PANEL];
        if (block0 + b + 1 == w.block[leaf + 1])
            mb_end_leaf(t, leaf++);
    }
}

template <int R>
MB_DEVICE void store(const struct mb_mat &out, const struct tile &t, const struct mb_k_weight &w, int output, const struct mb_total &sum)
{
    int r = output / MB_PANEL, c = output % MB_PANEL, col = t.panel * MB_PANEL + c;

    if (r >= t.rows || col >= w.n)
        return;
    float v = mb_root_of(sum, w.leaves);
    if (t.job->bias != nullptr)
        v = v + t.job->bias[col];
    mb_put(out, t.row + r, t.job->out_col + col, v);
}

template <int KIND, int R>
MB_DEVICE void run_tile(const struct mb_mat &out, const struct mb_mat &x, const struct tile &t, float *shared)
{
    const struct mb_k_weight &w = *t.job->w;
    enum { OUTPUTS = R * MB_PANEL, EACH = (OUTPUTS + THREADS - 1) / THREADS };
    float *codes = shared + WARPS * R * 128 + ROUND * OUTPUTS, *part = shared + WARPS * R * 128;
    struct room room = {shared + mb_warp() * R * 128, codes + WARPS * code_room<KIND>::floats,
                        reinterpret_cast<uint8_t *>(codes + mb_warp() * code_room<KIND>::floats)};
    struct mb_total sum[EACH] = {};
    int32_t leaf = 0;

    if constexpr (mb_kind<KIND>::codes) {
        mb_numbers(room.numbers, w, static_cast<int>(threadIdx.x), THREADS);
        __syncthreads();
    }

    for (int32_t block0 = 0; block0 < w.blocks; block0 += ROUND) {
        run_blocks<KIND, R>(x, t, w, block0 + mb_warp() * WARP_BLOCKS, room, part + mb_warp() * WARP_BLOCKS * OUTPUTS);
        __syncthreads();
        int32_t at = leaf;
        MB_UNROLL
        for (int i = 0; i < EACH; i++) {
            int output = static_cast<int>(threadIdx.x) + i * THREADS;
            at = leaf;
            if (output < OUTPUTS)
                add_round<R>(sum[i], w, block0, part + output, at);
        }
        leaf = at;
        __syncthreads();
    }
    MB_UNROLL
    for (int i = 0; i < EACH; i++) {
        int output = static_cast<int>(threadIdx.x) + i * THREADS;
        if (output < OUTPUTS)
            store<R>(out, t, w, output, sum[i]);
    }
}

/* MOST: most rows of a tile in this launch. Four blocks on a multiprocessor keep 64 KiB of weights on their way, more than memory
 * can have; sums of 16 rows need the registers of three;
 * decoding, a call that sums are kept over, those of one more. */
template <int KIND, int MOST>
__global__ void __launch_bounds__(THREADS, (MOST > 8 ? 3 : 4) - (mb_kind<KIND>::codes ? 1 : 0))
    few_kernel(struct mb_mat out, struct mb_mat x, const struct mb_k_job *jobs, int32_t n_jobs)
{
    MB_SHARED(float, shared);
    int32_t item = static_cast<int32_t>(blockIdx.x);
    const struct mb_k_job *job = mb_job_of(jobs, n_jobs, item);
    int32_t row = (item - job->item0) % job->row_tiles * MB_FEW_ROWS, left = job->rows - row;
    struct tile t = {job, job->row0 + row, left < MB_FEW_ROWS ? left : MB_FEW_ROWS, (item - job->item0) / job->row_tiles};

    if (MOST > 8 && t.rows > 8)
        run_tile<KIND, MOST>(out, x, t, shared);
    else if (MOST > 4 && t.rows > 4)
        run_tile<KIND, MOST < 8 ? MOST : 8>(out, x, t, shared);
    else if (t.rows > 2)
        run_tile<KIND, 4>(out, x, t, shared);
    else if (t.rows > 1)
        run_tile<KIND, 2>(out, x, t, shared);
    else
        run_tile<KIND, 1>(out, x, t, shared);
}

template <int KIND, int MOST>
cudaError_t launch(cudaStream_t s, struct mb_mat out, struct mb_mat x, const struct mb_k_job *jobs, int32_t n_jobs, int32_t items)
{
    size_t shared = sizeof(float) * (MOST * (WARPS * 128 + ROUND * MB_PANEL) +
                                     (mb_kind<KIND>::codes ? WARPS * code_room<KIND>::floats + MB_NUMBERS : 0));
    cudaError_t e = cudaSuccess;

    if (shared > PLAIN_SHARED) /* more than a kernel has unasked: 16 rows and decoded blocks */
        e = cudaFuncSetAttribute(few_kernel<KIND, MOST>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (e != cudaSuccess)
        return e;
    return MB_LAUNCH((few_kernel<KIND, MOST>), dim3(static_cast<uint32_t>(items)), dim3(THREADS), shared, s, out, x, jobs, n_jobs);
}

template <int KIND>
cudaError_t by_rows(cudaStream_t s, struct mb_mat out, struct mb_mat x, const struct mb_k_job *jobs, int32_t n_jobs, int32_t items,
                    int32_t most)
{
    if (most <= 4)
        return launch<KIND, 4>(s, out, x, jobs, n_jobs, items);
    return launch<KIND, 16>(s, out, x, jobs, n_jobs, items);
}

} // namespace

extern "C" cudaError_t mb_k_gemm_few(cudaStream_t s, struct mb_mat out, struct mb_mat x, const struct mb_k_job *jobs,
                                     int32_t n_jobs, int32_t items, int32_t kind, int32_t most_rows)
{
    switch (kind) {
    case MB_KIND_F32:
        return by_rows<MB_KIND_F32>(s, out, x, jobs, n_jobs, items, most_rows);
    case MB_KIND_BF16:
        return by_rows<MB_KIND_BF16>(s, out, x, jobs, n_jobs, items, most_rows);
    case MB_KIND_CODES_F32:
        return by_rows<MB_KIND_CODES_F32>(s, out, x, jobs, n_jobs, items, most_rows);
    default:
        return by_rows<MB_KIND_CODES_BF16>(s, out, x, jobs, n_jobs, items, most_rows);
    }
}
