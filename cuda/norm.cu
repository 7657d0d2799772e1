/* Norms and R32 products. A chain of R32 is a lane's: lane j of a warp has p[j]. */
#include "cuda/row.h"

namespace {

enum {
    THREADS = 256,
    WARPS = THREADS / MB_WARP,
    LONG = 1024,       /* vectors from here on get a block, whose threads share all but the chain */
    STAGED = 40 << 10  /* bytes of a vector that a block keeps in shared memory: one warp's chain would wait for memory else */
};

/* ---------------------------------------------------------------- statistics */
/* What norm_value needs of a vector: by one warp, in all lanes. */
struct stats {
    float mean, r;
};

MB_DEVICE float inverse_root(float sum, float n, float eps)
{
    return 1.0f / sqrtf(sum / n + eps);
}

MB_DEVICE struct stats stats_of(const struct mb_norm_args &a, const float *x, int64_t n)
{
    struct stats s;
    s.mean = a.kind == MB_NORM_LAYER ? mb_r32_sum_of(x, n) / static_cast<float>(n) : 0;
    float mean = s.mean, sum;
    if (a.kind == MB_NORM_LAYER)
        sum = mb_r32_terms(n, [=](float p, int64_t i) {
            float d = x[i] - mean;
            return fmaf(d, d, p);
        });
    else
        sum = mb_r32_dot_of(x, x, n);
    s.r = inverse_root(sum, static_cast<float>(n), a.eps);
    return s;
}

MB_DEVICE void store(const struct mb_norm_args &a, int64_t row, int64_t g, int64_t n, int64_t i, float x, struct stats s)
{
    float w = mb_row_f32(a.w, 0)[i], v;

    if (a.kind == MB_NORM_LAYER) {
        v = ((x - s.mean) * s.r) * w;
        if (a.b.p != nullptr)
            v = v + mb_row_f32(a.b, 0)[i];
    } else {
        v = (x * s.r) * w;
    }
    if (a.raw.p != nullptr)
        mb_row_f32(a.raw, row)[g * n + i] = v;
    if (a.out.p != nullptr)
        mb_put(a.out, row, g * n + i, v);
}

/* ---------------------------------------------------------------- norm */
/* Short vectors (heads of q and k): a warp each. */
__global__ void __launch_bounds__(THREADS) norm_short(struct mb_norm_args a)
{
    int64_t v = mb_grid_warp(), row = v / a.groups, g = v % a.groups, n = a.x.cols / a.groups;

    if (row >= a.x.rows)
        return;
    const float *x = mb_row_f32(a.x, row) + g * n;
    struct stats s = stats_of(a, x, n);
    __syncwarp(); /* raw may be x */
    for (int64_t i = mb_lane(); i < n; i += MB_WARP)
        store(a, row, g, n, i, x[i], s);
}

/* Sum of squares of a vector in leaves, in all threads of the block. */
MB_DEVICE float square_leaves(const float *x, int64_t n, int leaves)
{
    __shared__ float leaf[MB_MAX_NORM_LEAVES];
    int64_t width = n / leaves;

    for (int l = mb_warp(); l < leaves; l += WARPS) {
        float sum = mb_r32_dot_of(x + l * width, x + l * width, width);
        if (mb_lane() == 0)
            leaf[l] = sum;
    }
    __syncthreads();
    mb_tree_of(leaf, leaves, static_cast<int>(threadIdx.x), THREADS);
    return leaf[0];
}

__global__ void __launch_bounds__(THREADS) norm_long(struct mb_norm_args a, int staged)
{
    MB_SHARED(float, stage);
    __shared__ struct stats shared;
    int64_t row = blockIdx.x / static_cast<uint32_t>(a.groups), g = blockIdx.x % static_cast<uint32_t>(a.groups),
            n = a.x.cols / a.groups;
    const float *x = mb_row_f32(a.x, row) + g * n;

    if (staged) {
        for (int64_t i = threadIdx.x; i < n; i += THREADS)
            stage[i] = x[i];
        x = stage;
    }
    __syncthreads();
    struct stats s = {0, 0};
    if (a.leaves > 1) {
        s.r = inverse_root(square_leaves(x, n, a.leaves), static_cast<float>(n), a.eps);
    } else {
        if (mb_warp() == 0) {
            s = stats_of(a, x, n);
            if (threadIdx.x == 0)
                shared = s;
        }
        __syncthreads();
        s = shared;
    }
    for (int64_t i = threadIdx.x; i < n; i += THREADS)
        store(a, row, g, n, i, x[i], s);
}

/* ---------------------------------------------------------------- square, norm_sums */
__global__ void __launch_bounds__(THREADS) square_kernel(struct mb_mat out, struct mb_mat x)
{
    int64_t v = mb_grid_warp(), row = v / out.cols, leaf = v % out.cols, n = x.cols / out.cols;

    if (row >= out.rows)
        return;
    const float *p = mb_row_f32(x, row) + leaf * n;
    float sum = mb_r32_dot_of(p, p, n);
    if (mb_lane() == 0)
        mb_row_f32(out, row)[leaf] = sum;
}

__global__ void __launch_bounds__(THREADS) norm_sums_kernel(struct mb_mat x, struct mb_mat sums, struct mb_mat w, float n,
                                                            float eps)
{
    __shared__ float leaf[MB_MAX_NORM_LEAVES];
    int64_t row = blockIdx.x;
    int leaves = static_cast<int>(sums.cols);

    for (int l = static_cast<int>(threadIdx.x); l < leaves; l += THREADS)
        leaf[l] = mb_row_f32(sums, row)[l];
    __syncthreads();
    mb_tree_of(leaf, leaves, static_cast<int>(threadIdx.x), THREADS);
    float r = inverse_root(leaf[0], n, eps), *p = mb_row_f32(x, row);
    const float *by = mb_row_f32(w, 0);
    for (int64_t i = threadIdx.x; i < x.cols; i += THREADS)
        p[i] = (p[i] * r) * by[i];
}

/* ---------------------------------------------------------------- gemm_r32 */
/* A warp: R rows of x times C rows of w. Where there are rows enough, 4 x 4: a load serves four products. */
template <int R, int C>
__global__ void __launch_bounds__(THREADS) gemm_r32_kernel(struct mb_mat out, struct mb_mat x, struct mb_mat w,
                                                           struct mb_mat bias)
{
    int64_t tiles = (out.cols + C - 1) / C, v = mb_grid_warp(), row0 = v / tiles * R, col0 = v % tiles * C;
    float p[R][C];
    const float *xs[R], *ws[C];

    if (row0 >= out.rows)
        return;
    MB_UNROLL
    for (int r = 0; r < R; r++)
        xs[r] = mb_row_f32(x, row0 + r < out.rows ? row0 + r : out.rows - 1);
    MB_UNROLL
    for (int c = 0; c < C; c++)
        ws[c] = mb_row_f32(w, col0 + c < out.cols ? col0 + c : out.cols - 1);
    MB_UNROLL
    for (int i = 0; i < R * C; i++)
        p[i / C][i % C] = 0;
    MB_UNROLL_BY(4)
    for (int64_t k = mb_lane(); k < x.cols; k += MB_WARP) {
        float b[C];
        MB_UNROLL
        for (int c = 0; c < C; c++)
            b[c] = ws[c][k];
        MB_UNROLL
        for (int r = 0; r < R; r++) {
            float a = xs[r][k];
            MB_UNROLL
            for (int c = 0; c < C; c++)
                p[r][c] = fmaf(a, b[c], p[r][c]);
        }
    }
    MB_UNROLL
    for (int i = 0; i < R * C; i++) {
        float sum = mb_r32_fold(p[i / C][i % C]);
        int64_t row = row0 + i / C, col = col0 + i % C;
        if (mb_lane() == i && row < out.rows && col < out.cols)
            mb_row_f32(out, row)[col] = bias.p != nullptr ? sum + mb_row_f32(bias, 0)[col] : sum;
    }
}

dim3 warps(int64_t n)
{
    return dim3(static_cast<uint32_t>((n + WARPS - 1) / WARPS));
}

} // namespace

extern "C" cudaError_t mb_k_norm(cudaStream_t s, const struct mb_norm_args *a)
{
    int64_t vectors = a->x.rows * a->groups, n = a->x.cols / a->groups;

    if (vectors == 0 || n == 0)
        return cudaSuccess;
    if (vectors > INT32_MAX)
        return cudaErrorInvalidValue;
    if (n < LONG && a->leaves == 1)
        return MB_LAUNCH(norm_short, warps(vectors), dim3(THREADS), 0, s, *a);
    size_t bytes = static_cast<size_t>(n) * sizeof(float);
    bool staged = bytes <= STAGED;
    return MB_LAUNCH(norm_long, dim3(static_cast<uint32_t>(vectors)), dim3(THREADS), staged ? bytes : 0, s, *a, staged ? 1 : 0);
}

extern "C" cudaError_t mb_k_square(cudaStream_t s, struct mb_mat out, struct mb_mat x)
{
    if (out.rows == 0)
        return cudaSuccess;
    return MB_LAUNCH(square_kernel, warps(out.rows * out.cols), dim3(THREADS), 0, s, out, x);
}

extern "C" cudaError_t mb_k_norm_sums(cudaStream_t s, struct mb_mat x, struct mb_mat sums, struct mb_mat w, float n,
                                      float eps)
{
    if (x.rows == 0 || x.cols == 0)
        return cudaSuccess;
    return MB_LAUNCH(norm_sums_kernel, dim3(static_cast<uint32_t>(x.rows)), dim3(THREADS), 0, s, x, sums, w, n, eps);
}

extern "C" cudaError_t mb_k_gemm_r32(cudaStream_t s, struct mb_mat out, struct mb_mat x, struct mb_mat w,
                                     struct mb_mat bias)
{
    if (out.rows == 0 || out.cols == 0)
        return cudaSuccess;
    if (out.rows < 4)
        return MB_LAUNCH((gemm_r32_kernel<1, 1>), warps(out.rows * out.cols), dim3(THREADS), 0, s, out, x, w, bias);
    int64_t tiles = (out.rows + 3) / 4 * ((out.cols + 3) / 4);
    return MB_LAUNCH((gemm_r32_kernel<4, 4>), warps(tiles), dim3(THREADS), 0, s, out, x, w, bias);
}
