/* Sampling (doc/numerics, "Sampling"), a block a row. What top-k and top-p keep is the head of the order (value descending, id
 * ascending): its last entry is found, and the draw is argmax(z + Gumbel noise) over all that come no later. The order is never made
 * whole: pieces of it are selected by digits of their keys and sorted in shared memory, where one thread adds their probabilities in
 * order, as the contract wants. */
#include "cuda/vocab.h"
#include "cuda/select.h"

namespace {

enum { THREADS = 256, WARPS = THREADS / MB_WARP, PIECE = 1024, DIGITS = 256 };
typedef unsigned long long key_t;
#define LAST_KEY 0xffffffffffffffffull

struct shared {
    struct mb_sample_row p;
    struct mb_best room[WARPS];
    struct mb_osm leaf[MB_VOCAB_LEAVES];
    key_t key[PIECE];
    double prob[PIECE];
    int count[DIGITS];
    int n;       /* entries of key */
    int digit;   /* of the one that is looked for, and how many come before it */
    int before;
    int kept;    /* entries of a piece up to which the sum goes; -1: all */
    double sum;
    float total; /* of exp over the vocabulary */
};

/* One row under way; the same in all threads. */
struct draw {
    struct shared *s;
    const float *z; /* adjusted and divided by the temperature */
    int64_t V;
    float z_max;
};

/* Views of bytes may begin anywhere. */
template <class T> MB_DEVICE void copy_bytes(T *to, const struct mb_mat &m, int64_t row, int thread, int threads)
{
    const uint8_t *from = static_cast<const uint8_t *>(m.p) + row * m.stride;

    for (int i = thread; i < static_cast<int>(sizeof(T)); i += threads)
        reinterpret_cast<uint8_t *>(to)[i] = from[i];
}

/* ---------------------------------------------------------------- adjustments */
MB_DEVICE float adjust_one(float z, const struct mb_sample_row &p, const struct mb_sample_adjust &a)
{
    if (p.repetition != 1.0f && (a.in_prompt || a.n_out > 0))
        z = z < 0 ? z * p.repetition : z / p.repetition;
    if (a.n_out > 0) {
        z = z - p.frequency * static_cast<float>(a.n_out);
        z = z - p.presence;
    }
    return z + a.bias;
}

MB_DEVICE void check(struct mb_sample_row &p, const struct mb_sample_mats &a, const struct mb_flag &flag)
{
    if (p.adj_begin < 0 || p.adj_end < p.adj_begin || p.adj_end > a.adjust.rows || p.mask < 0 || p.mask > a.masks.rows) {
        atomicMax(flag.word, flag.op);
        p.adj_begin = p.adj_end = p.mask = 0;
    }
}

/* The row that is drawn from: the raw one, or work. */
MB_DEVICE const float *prepare(const struct mb_sample_mats &a, const struct mb_sample_row &p, const float *raw, float *work,
                               const struct mb_flag &flag)
{
    int64_t V = a.z.cols;
    bool adjusted = p.adj_end > p.adj_begin || p.only || p.mask, divided = p.temperature > 0 && p.temperature != 1.0f;

    if (!adjusted && !divided)
        return raw;
    for (int64_t i = threadIdx.x; i < V; i += THREADS)
        work[i] = p.only ? -INFINITY : raw[i];
    __syncthreads();
    for (int32_t j = p.adj_begin + static_cast<int32_t>(threadIdx.x); j < p.adj_end; j += THREADS) {
        struct mb_sample_adjust one;
        copy_bytes(&one, a.adjust, j, 0, 1);
        int32_t id = mb_index(one.id, V, flag);
        if (id == one.id)
            work[id] = adjust_one(raw[id], p, one);
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < V; i += THREADS) {
        float z = work[i];
        if (p.mask && !(static_cast<uint32_t>(mb_row_i32(a.masks, p.mask - 1)[i / 32]) >> (i % 32) & 1))
            z = -INFINITY;
        work[i] = divided ? z / p.temperature : z;
    }
    __syncthreads();
    return work;
}

/* ---------------------------------------------------------------- the order */
/* Ascending keys are the order: value descending (as integers, -0 = +0), then id. NaN has none. */
MB_DEVICE key_t key_of(float z, int64_t id)
{
    uint32_t u = mb_bits_of(z + 0.0f);

    if (z != z)
        return LAST_KEY;
    u = u >> 31 ? u : ~u & 0x7fffffffu;
    return static_cast<key_t>(u) << 32 | static_cast<key_t>(id);
}

MB_DEVICE bool behind(key_t key, key_t last, bool any)
{
    return key != LAST_KEY && (!any || key > last);
}

/* How many keys behind `last` have each digit (8 bits from `shift` on), of those that begin with prefix. */
MB_DEVICE void count_digits(const struct draw &d, key_t last, bool any, key_t prefix, int shift)
{
    for (int i = static_cast<int>(threadIdx.x); i < DIGITS; i += THREADS)
        d.s->count[i] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < d.V; i += THREADS) {
        key_t key = key_of(d.z[i], i);
        if (behind(key, last, any) && (shift == 56 || key >> (shift + 8) == prefix))
            atomicAdd(&d.s->count[key >> shift & 255], 1);
    }
    __syncthreads();
}

/* The key of the k-th entry (k >= 1) of the order behind `last` (any: there is one), or the last entry's if there are fewer;
 * LAST_KEY: there is none. The same in all threads. */
MB_DEVICE key_t kth_behind(const struct draw &d, key_t last, bool any, int64_t k)
{
    key_t prefix = 0;

    for (int shift = 56; shift >= 0; shift -= 8) {
        count_digits(d, last, any, prefix, shift);
        if (threadIdx.x == 0) {
            int64_t sum = 0;
            int found = -1, most = -1, before = 0;
            for (int i = 0; i < DIGITS && found < 0; i++) {
                if (d.s->count[i] > 0) {
                    most = i;
                    before = static_cast<int>(sum);
                }
                sum += d.s->count[i];
                if (sum >= k)
                    found = i;
            }
            d.s->digit = most; /* found, or the last that is there */
            d.s->before = before;
        }
        __syncthreads();
        int digit = d.s->digit;
        int64_t before = d.s->before;
        if (digit < 0)
            return LAST_KEY;
        prefix = prefix << 8 | static_cast<key_t>(digit);
        k -= before;
        __syncthreads();
    }
    return prefix;
}

/* Entries behind `last` up to `end` to s->key, of which there are at most PIECE, in order. */
MB_DEVICE void gather(const struct draw &d, key_t last, bool any, key_t end)
{
    struct shared *s = d.s;

    if (threadIdx.x == 0)
        s->n = 0;
    for (int i = static_cast<int>(threadIdx.x); i < PIECE; i += THREADS)
        s->key[i] = LAST_KEY;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < d.V; i += THREADS) {
        key_t key = key_of(d.z[i], i);
        if (behind(key, last, any) && key <= end)
            s->key[atomicAdd(&s->n, 1)] = key;
    }
    __syncthreads();
    for (int size = 2; size <= PIECE; size *= 2) /* bitonic: keys differ, so that there is one order */
        for (int half = size / 2; half > 0; half /= 2) {
            for (int i = static_cast<int>(threadIdx.x); i < PIECE / 2; i += THREADS) {
                int a = i / half * 2 * half + i % half, b = a + half;
                key_t x = s->key[a], y = s->key[b];
                if ((x > y) == ((a & size) == 0)) {
                    s->key[a] = y;
                    s->key[b] = x;
                }
            }
            __syncthreads();
        }
}

/* ---------------------------------------------------------------- top-k, top-p */
/* Adds probabilities of the order in order, at most `most` of them, until the sum reaches `enough` (none: INFINITY). Returns the sum;
 * *end: the key of the entry that was added last. */
MB_DEVICE double add_in_order(const struct draw &d, int64_t most, double enough, key_t *end)
{
    struct shared *s = d.s;
    key_t last = 0;
    bool any = false;

    if (threadIdx.x == 0)
        s->sum = 0;
    __syncthreads();
    for (int64_t done = 0; done < most;) {
        int64_t left = most - done, want = left < PIECE ? left : static_cast<int64_t>(PIECE);
        key_t until = kth_behind(d, last, any, want);
        if (until == LAST_KEY)
            break;
        gather(d, last, any, until);
        for (int i = static_cast<int>(threadIdx.x); i < s->n; i += THREADS)
            s->prob[i] = mb_exp_inl(static_cast<double>(d.z[s->key[i] & 0xffffffffu]) - static_cast<double>(d.z_max));
        __syncthreads();
        if (threadIdx.x == 0) {
            double sum = s->sum;
            s->kept = -1;
            for (int i = 0; i < s->n && s->kept < 0; i++) {
                sum += s->prob[i];
                if (sum >= enough)
                    s->kept = i;
            }
            s->sum = sum;
        }
        __syncthreads();
        int kept = s->kept, n = s->n;
        last = s->key[kept >= 0 ? kept : n - 1];
        any = true;
        done += n;
        __syncthreads();
        if (kept >= 0)
            break;
    }
    *end = any ? last : LAST_KEY;
    double sum = s->sum;
    __syncthreads(); /* it may be written again */
    return sum;
}

/* Sum of exp over the vocabulary: of the raw logits it is known already. */
MB_DEVICE double sum_of_all(const struct draw &d, const float *raw, const float *stats)
{
    if (d.z == raw)
        return static_cast<double>(stats[1]);
    for (int i = mb_warp(); i < MB_VOCAB_LEAVES; i += WARPS) {
        struct mb_leaf l = mb_leaf_of(d.z, d.V, i);
        if (mb_lane() == 0)
            d.s->leaf[i] = l.s;
    }
    __syncthreads();
    if (mb_warp() == 0) {
        struct mb_osm all = mb_vocab_tree(d.s->leaf[mb_lane() % MB_VOCAB_LEAVES]);
        if (mb_lane() == 0)
            d.s->total = all.l;
    }
    __syncthreads();
    return static_cast<double>(d.s->total);
}

/* Key of the last entry of the order that top-k and top-p keep. */
MB_DEVICE key_t last_kept(const struct draw &d, const float *raw, const float *stats)
{
    const struct mb_sample_row &p = d.s->p;
    bool top_k = p.top_k > 0 && p.top_k < d.V;
    int64_t most = top_k ? p.top_k : d.V;
    key_t end;

    if (!(p.top_p < 1))
        return kth_behind(d, 0, false, most);
    double total = top_k ? add_in_order(d, most, INFINITY, &end) : sum_of_all(d, raw, stats);
    (void)add_in_order(d, most, static_cast<double>(p.top_p) * total, &end);
    return end;
}

/* ---------------------------------------------------------------- the draw */
MB_DEVICE int32_t draw_row(const struct draw &d, const float *raw, const float *stats, int32_t first)
{
    const struct mb_sample_row &p = d.s->p;
    bool limited = (p.top_k > 0 && p.top_k < d.V) || p.top_p < 1;
    float least = p.min_p > 0 ? d.z_max + mb_logf_inl(p.min_p) : -INFINITY;
    key_t end = limited ? last_kept(d, raw, stats) : LAST_KEY;
    struct mb_best b = {0, -1};

    for (int64_t i = threadIdx.x; i < d.V; i += THREADS) {
        float z = d.z[i];
        if (i != first && (!(z >= least) || key_of(z, i) > end))
            continue;
        struct mb_best c = {z + mb_gumbel_inl(p.key, p.position, static_cast<int32_t>(i)), static_cast<int32_t>(i)};
        if (c.v == c.v)
            b = mb_better(b, c);
    }
    b = mb_block_best(b, d.s->room, WARPS);
    return b.at >= 0 ? b.at : first;
}

MB_DEVICE struct mb_best largest(const struct draw &d)
{
    struct mb_best b = {0, -1};

    for (int64_t i = threadIdx.x; i < d.V; i += THREADS) {
        struct mb_best c = {d.z[i], static_cast<int32_t>(i)};
        if (c.v == c.v)
            b = mb_better(b, c);
    }
    return mb_block_best(b, d.s->room, WARPS);
}

__global__ void __launch_bounds__(THREADS) sample_kernel(struct mb_sample_mats a, struct mb_flag flag)
{
    __shared__ struct shared s;
    float *work = a.work + static_cast<int64_t>(blockIdx.x) * a.z.cols;

    for (int64_t row = blockIdx.x; row < a.z.rows; row += gridDim.x) {
        const float *raw = mb_row_f32(a.z, row), *stats = mb_row_f32(a.stats, row);
        __syncthreads(); /* the last row is done */
        copy_bytes(&s.p, a.rows, row, static_cast<int>(threadIdx.x), THREADS);
        __syncthreads();
        if (threadIdx.x == 0)
            check(s.p, a, flag);
        __syncthreads();
        struct draw d = {&s, prepare(a, s.p, raw, work, flag), a.z.cols, 0};
        struct mb_best top = largest(d);
        int32_t id = top.at >= 0 ? top.at : 0; /* nothing but NaN: an error row, any id will do */
        d.z_max = top.v + 0.0f;
        if (s.p.temperature > 0 && top.at >= 0)
            id = draw_row(d, raw, stats, id);
        if (threadIdx.x == 0)
            *mb_row_i32(a.out, row) = id;
    }
}

} // namespace

extern "C" cudaError_t mb_k_sample(cudaStream_t s, const struct mb_sample_mats *a, int32_t blocks, struct mb_flag flag)
{
    return MB_LAUNCH(sample_kernel, dim3(static_cast<uint32_t>(blocks)), dim3(THREADS), 0, s, *a, flag);
}
