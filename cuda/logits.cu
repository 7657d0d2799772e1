/* Operations on whole rows of logits: log-softmax statistics, log-probabilities, the n largest. */
#include "cuda/vocab.h"
#include "cuda/select.h"

namespace {

enum { STATS_THREADS = MB_VOCAB_LEAVES * MB_WARP, THREADS = 256, WARPS = THREADS / MB_WARP };

/* A block a row, a warp a leaf. */
__global__ void __launch_bounds__(STATS_THREADS) stats_kernel(struct mb_mat stats, struct mb_mat best, struct mb_mat bad, struct mb_mat z)
{
    __shared__ struct mb_leaf leaf[MB_VOCAB_LEAVES];
    int64_t row = blockIdx.x;
    struct mb_leaf l = mb_leaf_of(mb_row_f32(z, row), z.cols, mb_warp());

    if (mb_lane() == 0)
        leaf[mb_warp()] = l;
    __syncthreads();
    if (mb_warp() > 0)
        return;
    struct mb_osm all = mb_vocab_tree(leaf[mb_lane() % MB_VOCAB_LEAVES].s);
    if (mb_lane() > 0)
        return;
    int32_t at = 0, odd = 0;
    for (int i = 0; i < MB_VOCAB_LEAVES; i++) {
        odd |= !leaf[i].finite;
        if (leaf[i].s.present && leaf[i].s.m > leaf[at].s.m)
            at = i;
    }
    mb_row_f32(stats, row)[0] = all.m;
    mb_row_f32(stats, row)[1] = all.l;
    *mb_row_i32(best, row) = leaf[at].best < z.cols ? leaf[at].best : 0;
    *mb_row_i32(bad, row) = odd;
}

MB_DEVICE float log_prob(float z, const float *stats)
{
    return (z - stats[0]) - mb_logf_inl(stats[1]);
}

__global__ void __launch_bounds__(THREADS) logprob_kernel(struct mb_mat out, struct mb_mat z, struct mb_mat stats, struct mb_mat ids,
                                                          struct mb_flag flag)
{
    int64_t row = mb_grid_thread();

    if (row >= z.rows)
        return;
    int32_t id = mb_index(*mb_row_i32(ids, row), z.cols, flag);
    *mb_row_f32(out, row) = log_prob(mb_row_f32(z, row)[id], mb_row_f32(stats, row));
}

/* One after the other: the best of those behind the last one in the order (value descending, id ascending). Rows are in the L2 cache,
 * and few are asked for. */
__global__ void __launch_bounds__(THREADS) top_kernel(struct mb_mat ids, struct mb_mat logprobs, struct mb_mat z, struct mb_mat stats)
{
    __shared__ struct mb_best room[WARPS];
    int64_t row = blockIdx.x;
    const float *p = mb_row_f32(z, row);
    struct mb_best last = {INFINITY, -1};

    for (int64_t j = 0; j < ids.cols; j++) {
        struct mb_best b = {0, -1};
        for (int64_t i = threadIdx.x; i < z.cols; i += THREADS) {
            struct mb_best c = {p[i], static_cast<int32_t>(i)};
            if (c.v < last.v || (c.v == last.v && c.at > last.at))
                b = mb_better(b, c);
        }
        b = mb_block_best(b, room, WARPS);
        if (b.at < 0) { /* NaN among them: an error row, any id will do */
            b.at = static_cast<int32_t>(j);
            b.v = p[j];
        }
        last = b;
        if (threadIdx.x == 0) {
            mb_row_i32(ids, row)[j] = b.at;
            mb_row_f32(logprobs, row)[j] = log_prob(p[b.at], mb_row_f32(stats, row));
        }
    }
}

} // namespace

extern "C" cudaError_t mb_k_logit_stats(cudaStream_t s, struct mb_mat stats, struct mb_mat best, struct mb_mat bad, struct mb_mat z)
{
    if (z.rows == 0)
        return cudaSuccess;
    return MB_LAUNCH(stats_kernel, dim3(static_cast<uint32_t>(z.rows)), dim3(STATS_THREADS), 0, s, stats, best, bad, z);
}

extern "C" cudaError_t mb_k_logprob(cudaStream_t s, struct mb_mat out, struct mb_mat z, struct mb_mat stats, struct mb_mat ids,
                                    struct mb_flag flag)
{
    if (z.rows == 0)
        return cudaSuccess;
    return MB_LAUNCH(logprob_kernel, dim3(static_cast<uint32_t>((z.rows + THREADS - 1) / THREADS)), dim3(THREADS), 0, s, out, z, stats,
                     ids, flag);
}

extern "C" cudaError_t mb_k_top(cudaStream_t s, struct mb_mat ids, struct mb_mat logprobs, struct mb_mat z, struct mb_mat stats)
{
    if (z.rows == 0 || ids.cols == 0)
        return cudaSuccess;
    return MB_LAUNCH(top_kernel, dim3(static_cast<uint32_t>(z.rows)), dim3(THREADS), 0, s, ids, logprobs, z, stats);
}
