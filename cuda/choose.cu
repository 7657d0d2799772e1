/* The choice of sparse attention: index scores of every key that a row sees, and the highest of them. */
#include "cuda/stage.h"

namespace
{

enum { KEYS = MB_KV_BLOCK, V = 4, CHOOSERS = 256, WARPS = CHOOSERS / MB_WARP };

/* ---------------------------------------------------------------- scores: a block of 64 keys, a thread a key
 */
/* q of all heads as f32, filled up with zeros. */
MB_DEVICE void load_q(const struct mb_choose_task &t, int64_t row, float *q)
{
    for (int32_t i = static_cast<int32_t>(threadIdx.x); i < t.heads * t.kv.k_stride; i += KEYS) {
        int32_t h = i / t.kv.k_stride, k = i % t.kv.k_stride;
        q[i] = k < t.kv.d ? mb_get(t.q, row, static_cast<int64_t>(h) * t.kv.d + k) : 0.0f;
    }
}

/* Head by head in order. */
template <class S>
MB_DEVICE float score_of(const struct mb_choose_task &t, int64_t row, const float *q, const S &keys,
                         int32_t key)
{
    const float *w = mb_row_f32(t.w, row);
    float sum = 0;

    for (int32_t h = 0; h < t.heads; h += V) {
        float c[V];
        mb_dots<V>(c, q, h, t.heads, keys, key, t.kv.k_stride);
        MB_UNROLL
        for (int u = 0; u < V; u++)
            if (h + u < t.heads) {
                float x = c[u] * t.scale;
                sum = fmaf(w[h + u], x > 0.0f ? x : 0.0f, sum);
            }
    }
    return sum;
}

template <class S> __global__ void __launch_bounds__(KEYS) score_kernel(struct mb_choose_task t)
{
    MB_SHARED(float, q);
    int64_t r = blockIdx.x, row = t.row0 + r;
    int32_t block = static_cast<int32_t>(blockIdx.y), pos = mb_pos_of(t.pos, t.page_table, row, t.flag),
            key = static_cast<int32_t>(threadIdx.x);

    if (block > pos / KEYS || pos < t.topk)
        return; /* not seen, or all are chosen */
    int32_t page = mb_page_of(t.kv, t.page_table, mb_seq_of(t.seq, t.page_table, row, t.flag), block, t.flag);
    S keys(t.kv, reinterpret_cast<uint32_t *>(q + t.heads * t.kv.k_stride));
    load_q(t, row, q);
    keys.load_keys(mb_page_keys(t.kv, page, 0), 0, KEYS - 1);
    __syncthreads();
    t.score[r * t.keys + static_cast<int64_t>(block) * KEYS + key] = score_of(t, row, q, keys, key);
}

/* ---------------------------------------------------------------- the highest: a block of threads a row */
/* Larger scores have larger numbers; a NaN is below all. */
MB_DEVICE uint32_t rank_of(float x)
{
    uint32_t u = mb_bits_of(x == 0.0f ? 0.0f : x);
    if (x != x)
        return 0;
    return u >> 31 ? ~u : u | 0x80000000u;
}

/* The k-th largest of n numbers, byte by byte from the top; *above: how many are larger. In all threads. */
MB_DEVICE uint32_t kth(const float *score, int32_t n, int32_t k, int32_t *above)
{
    __shared__ int32_t count[256];
    uint32_t found = 0, known = 0;

    *above = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        count[threadIdx.x] = 0;
        __syncthreads();
        for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n; i += CHOOSERS) {
            uint32_t x = rank_of(score[i]);
            if ((x & known) == found)
                atomicAdd(&count[x >> shift & 255], 1);
        }
        __syncthreads();
        uint32_t byte = 255;
        for (; byte > 0 && *above + count[byte] < k; byte--)
            *above += count[byte];
        found |= byte << shift;
        known |= 255u << shift;
        __syncthreads();
    }
    return found;
}

/* How many threads before this one have the mark, and in *all how many have it: two barriers. */
MB_DEVICE int32_t before_me(bool mark, int32_t *room, int32_t *all)
{
    uint32_t lanes = __ballot_sync(MB_ALL, mark);
    int32_t n = __popc(lanes & ((1u << mb_lane()) - 1));

    if (mb_lane() == 0)
        room[mb_warp()] = __popc(lanes);
    __syncthreads();
    *all = 0;
    for (int w = 0; w < WARPS; w++) {
        n += w < mb_warp() ? room[w] : 0;
        *all += room[w];
    }
    __syncthreads();
    return n;
}

__global__ void __launch_bounds__(CHOOSERS) choose_kernel(struct mb_choose_task t)
{
    __shared__ int32_t room[WARPS];
    int64_t r = blockIdx.x, row = t.row0 + r;
    int32_t n = mb_pos_of(t.pos, t.page_table, row, t.flag) + 1, *out = mb_row_i32(t.out, row), above,
            larger = 0, equals = 0;
    const float *score = t.score + r * t.keys;

    if (n <= t.topk) {
        for (int32_t i = static_cast<int32_t>(threadIdx.x); i <= t.topk; i += CHOOSERS)
            out[i] = -1;
        return;
    }
    uint32_t least = kth(score, n, t.topk, &above);
    int32_t equal = t.topk - above; /* of those that are equal to the least, the lower positions */
    if (threadIdx.x == 0)
        out[0] = t.topk;
    for (int32_t base = 0; base < n; base += CHOOSERS) {
        int32_t i = base + static_cast<int32_t>(threadIdx.x), all_larger, all_equal;
        uint32_t x = i < n ? rank_of(score[i]) : 0;
        bool is_larger = i < n && x > least, is_equal = i < n && x == least;
        int32_t g = larger + before_me(is_larger, room, &all_larger),
                e = equals + before_me(is_equal, room, &all_equal);
        if (is_larger || (is_equal && e < equal))
            out[1 + g + (e < equal ? e : equal)] = i;
        larger += all_larger;
        equals += all_equal;
    }
}

template <class S> cudaError_t choose(cudaStream_t s, const struct mb_choose_task *t)
{
    int64_t shared = mb_k_choose_shared(t);
    cudaError_t e = cudaFuncSetAttribute(score_kernel<S>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(shared));

    if (e == cudaSuccess && t->page_table.cols > 0)
        e = MB_LAUNCH(score_kernel<S>,
                      dim3(static_cast<unsigned>(t->rows), static_cast<unsigned>(t->page_table.cols)),
                      dim3(KEYS), static_cast<size_t>(shared), s, *t);
    if (e != cudaSuccess)
        return e;
    return MB_LAUNCH(choose_kernel, dim3(static_cast<unsigned>(t->rows)), dim3(CHOOSERS), 0, s, *t);
}

} /* namespace */

extern "C" int64_t mb_k_choose_shared(const struct mb_choose_task *t)
{
    return static_cast<int64_t>(4) * t->heads * t->kv.k_stride + mb_stage_bytes(t->kv);
}

extern "C" cudaError_t mb_k_choose(cudaStream_t s, const struct mb_choose_task *t)
{
    if (t->kv.dtype == MB_U8)
        return choose<mb_stage_codes>(s, t);
    return t->kv.dtype == MB_BF16 ? choose<mb_stage_bf16>(s, t) : choose<mb_stage_f32>(s, t);
}
