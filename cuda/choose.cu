/* The choice of sparse attention: index scores of keys that a row sees, and the highest of them; of all keys
 * at once, or of those of some segments and then of all lists. */
#include "cuda/stage.h"

namespace
{

enum { KEYS = MB_KV_BLOCK, V = 4, CHOOSERS = 256, WARPS = CHOOSERS / MB_WARP };

/* ---------------------------------------------------------------- the keys of a row, numbered in the order
 * of positions */
/* Segments listed for a row: first of them and how many; a list that is none is told, and empty. */
MB_DEVICE int32_t listed(const struct mb_choose_task &t, int64_t row, const int32_t **first)
{
    int32_t at = mb_row_i32(t.item_off, row)[0], end = mb_row_i32(t.item_off, row + 1)[0];

    *first = nullptr;
    if (at < 0 || end < at || end > t.item_seg.rows) {
        mb_index(-1, 1, t.flag);
        return 0;
    }
    *first = end > at ? mb_row_i32(t.item_seg, at) : nullptr;
    return end - at;
}

/* Whether a row's list ascends up to its position. */
MB_DEVICE bool ascends(const struct mb_choose_task &t, const int32_t *seg, int32_t n, int32_t pos)
{
    for (int32_t j = 0; j < n; j++)
        if (seg[j * t.item_seg.stride] < (j > 0 ? seg[(j - 1) * t.item_seg.stride] + 1 : 0) ||
            seg[j * t.item_seg.stride] > pos / t.segment)
            return false;
    return true;
}

/* The keys of a row at position pos: all up to it, or those of its segments, of which only the last may end
 * in the middle. */
struct keys {
    const int32_t *seg;
    int64_t stride;
    int32_t segment, n;

    __device__ __forceinline__ keys(const struct mb_choose_task &t, int64_t row, int32_t pos)
        : seg(nullptr), stride(t.item_seg.stride), segment(t.segment), n(pos + 1)
    {
        if (t.item_off.p == nullptr)
            return;
        int32_t segments = listed(t, row, &seg);
        n = 0;
        if (segments == 0)
            return;
        if (!ascends(t, seg, segments, pos)) {
            mb_index(-1, 1, t.flag);
            return;
        }
        int32_t left = pos + 1 - seg[(segments - 1) * stride] * segment;
        n = (segments - 1) * segment + (left < segment ? left : segment);
    }
    /* The position of key i. */
    __device__ __forceinline__ int32_t at(int32_t i) const
    {
        return seg != nullptr ? seg[i / segment * stride] * segment + i % segment : i;
    }
};

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
    struct keys k(t, row, pos);
    if (block * KEYS >= k.n)
        return;
    int32_t seq = mb_seq_of(t.seq, t.page_table, row, t.flag);
    int32_t page = mb_page_of(t.kv, t.page_table, seq, k.at(block * KEYS) / KEYS, t.flag);
    S keys(t.kv, reinterpret_cast<uint32_t *>(q + t.heads * t.kv.k_stride));
    load_q(t, row, q);
    keys.load_keys(mb_page_keys(t.kv, page, 0), 0, KEYS - 1);
    __syncthreads();
    t.score[r * t.keys + static_cast<int64_t>(block) * KEYS + key] = score_of(t, row, q, keys, key);
}

/* ---------------------------------------------------------------- the highest: a block of threads a row */
/* Larger scores have larger numbers; a NaN is below all, and 0 is nothing. */
MB_DEVICE uint32_t rank_of(float x)
{
    uint32_t u = mb_bits_of(x == 0.0f ? 0.0f : x);
    if (x != x)
        return 1;
    return u >> 31 ? ~u : u | 0x80000000u;
}

/* The k-th largest of n numbers get(i), byte by byte from the top; *above: how many are larger. In all
 * threads. */
template <class F> MB_DEVICE uint32_t kth(int32_t n, int32_t k, int32_t *above, F get)
{
    __shared__ int32_t count[256];
    uint32_t found = 0, known = 0;

    *above = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
        count[threadIdx.x] = 0;
        __syncthreads();
        for (int32_t i = static_cast<int32_t>(threadIdx.x); i < n; i += CHOOSERS) {
            uint32_t x = get(i);
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

/* take(i, place) for the k highest of n >= k numbers, places in order of i; of equal ones the lower i. */
template <class F, class G> MB_DEVICE void take_highest(int32_t n, int32_t k, F get, G take)
{
    __shared__ int32_t room[WARPS];
    int32_t above, larger = 0, equals = 0;
    uint32_t least = kth(n, k, &above, get);
    int32_t equal = k - above; /* how many of those that are equal to the least */

    for (int32_t base = 0; base < n; base += CHOOSERS) {
        int32_t i = base + static_cast<int32_t>(threadIdx.x), all_larger, all_equal;
        uint32_t x = i < n ? get(i) : 0;
        bool is_larger = i < n && x > least, is_equal = i < n && x == least;
        int32_t g = larger + before_me(is_larger, room, &all_larger);
        int32_t e = equals + before_me(is_equal, room, &all_equal);
        if (is_larger || (is_equal && e < equal))
            take(i, g + (e < equal ? e : equal));
        larger += all_larger;
        equals += all_equal;
    }
}

/* out[from .. topk] = -1 */
MB_DEVICE void none_from(int32_t *out, int32_t from, int32_t topk)
{
    for (int32_t i = from + static_cast<int32_t>(threadIdx.x); i <= topk; i += CHOOSERS)
        out[i] = -1;
}

__global__ void __launch_bounds__(CHOOSERS) choose_kernel(struct mb_choose_task t)
{
    int64_t r = blockIdx.x, row = t.row0 + r;
    int32_t pos = mb_pos_of(t.pos, t.page_table, row, t.flag), *out = mb_row_i32(t.out, row);
    const float *score = t.score + r * t.keys;

    if (pos < t.topk) { /* all */
        none_from(out, 0, t.topk);
        return;
    }
    struct keys keys(t, row, pos);
    int32_t k = t.topk < keys.n ? t.topk : keys.n;
    float *scores = t.scores.p != nullptr ? mb_row_f32(t.scores, row) : nullptr;
    if (threadIdx.x == 0)
        out[0] = k;
    none_from(out, 1 + k, t.topk);
    if (k == 0)
        return;
    take_highest(
        keys.n, k, [=](int32_t i) { return rank_of(score[i]); },
        [=](int32_t i, int32_t place) {
            out[1 + place] = keys.at(i);
            if (scores != nullptr)
                scores[place] = score[i];
        });
}

/* ---------------------------------------------------------------- lists of all ranks */
/* The items of a row that chooses; too few are told, and none. */
MB_DEVICE int32_t items_of(const struct mb_choose_join_task &t, int64_t row, int32_t topk, int32_t *first)
{
    int32_t end = mb_row_i32(t.item_off, row + 1)[0];

    *first = mb_row_i32(t.item_off, row)[0];
    if (*first >= 0 && end - *first >= topk && end <= t.key.rows)
        return end - *first;
    mb_index(-1, 1, t.flag);
    return 0;
}

/* The highest of a row's items, of equal ones those of lower positions: `equal` of them have a key below the
 * bound. Their keys go to a list in any order; a key's place is how many of the list are lower. */
__global__ void __launch_bounds__(CHOOSERS) join_lists_kernel(struct mb_choose_join_task t)
{
    int64_t row = blockIdx.x;
    int32_t topk = static_cast<int32_t>(t.out.cols) - 1, pos = mb_row_i32(t.pos, row)[0],
            *out = mb_row_i32(t.out, row), first, above;
    int32_t *list = t.list + row * topk;

    none_from(out, 0, topk);
    if (pos < topk)
        return;
    int32_t n = items_of(t, row, topk, &first);
    if (n == 0)
        return;
    struct mb_choose_join_task u = t;
    auto key = [=](int32_t i) {
        return mb_index(mb_row_i32(u.key, first + i)[0], static_cast<int64_t>(pos) + 1, u.flag);
    };
    auto rank = [=](int32_t i) { return rank_of(mb_row_f32(u.item_score, first + i)[0]); };
    uint32_t least = kth(n, topk, &above, rank);
    auto low = [=](int32_t i) { return rank(i) == least ? ~static_cast<uint32_t>(key(i)) : 0u; };
    uint32_t bound = kth(n, topk - above, &above, low);
    auto mark = [=](int32_t i) { return rank(i) > least || (rank(i) == least && low(i) >= bound) ? 1u : 0u; };
    __syncthreads();
    take_highest(n, topk, mark, [=](int32_t i, int32_t place) { list[place] = key(i); });
    __syncthreads();
    if (threadIdx.x == 0)
        out[0] = topk;
    for (int32_t j = static_cast<int32_t>(threadIdx.x); j < topk; j += CHOOSERS) {
        int32_t mine = list[j], place = 0;
        for (int32_t i = 0; i < topk; i++)
            place += list[i] < mine;
        out[1 + place] = mine;
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

extern "C" cudaError_t mb_k_choose_join(cudaStream_t s, const struct mb_choose_join_task *t)
{
    return MB_LAUNCH(join_lists_kernel, dim3(static_cast<unsigned>(t->out.rows)), dim3(CHOOSERS), 0, s, *t);
}
