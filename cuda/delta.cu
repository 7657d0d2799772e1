/* Linear attention: the causal convolution, and the gated delta rule with a state of each sequence
 * (device/ops.h: conv, delta).
 *
 * A run is a sequence's neighbouring rows. The convolution finds a row's run by looking back; for the delta
 * rule the runs are listed first. There a block of threads has 16 columns of a head's state in registers: a
 * thread one column and 32 of its rows, whose two chains are its own; the chains of a column are added in
 * order by all of its threads. */
#include "cuda/each.h"
#include "cuda/kv.h"

namespace
{

/* ---------------------------------------------------------------- runs */
/* The state of a row's sequence; NULL, and told: there is none. */
MB_DEVICE float *state_of(const struct mb_mat &slot, const struct mb_mat &state, int64_t row,
                          const struct mb_flag &f)
{
    int32_t i = mb_row_i32(slot, row)[0];

    if (mb_index(i, state.rows, f) != i)
        return nullptr;
    return mb_row_f32(state, i);
}

/* Whether a run begins with the row. */
MB_DEVICE bool begins(const struct mb_mat &slot, const struct mb_mat &pos, int64_t row)
{
    return row == 0 || mb_row_i32(slot, row)[0] != mb_row_i32(slot, row - 1)[0] ||
           mb_row_i32(pos, row)[0] == 0;
}

enum { LISTERS = 256 };

/* runs[0] = how many there are, then where each begins, then the number of rows. One block. */
__global__ void __launch_bounds__(LISTERS) list_runs(struct mb_mat slot, struct mb_mat pos, int32_t *runs)
{
    __shared__ int32_t room[LISTERS / MB_WARP];
    int32_t n = 0, rows = static_cast<int32_t>(slot.rows);

    for (int32_t base = 0; base < rows; base += LISTERS) {
        int32_t i = base + static_cast<int32_t>(threadIdx.x), before = 0, all = 0;
        bool mark = i < rows && begins(slot, pos, i);
        uint32_t lanes = __ballot_sync(MB_ALL, mark);
        if (mb_lane() == 0)
            room[mb_warp()] = __popc(lanes);
        __syncthreads();
        for (int w = 0; w < LISTERS / MB_WARP; w++) {
            before += w < mb_warp() ? room[w] : 0;
            all += room[w];
        }
        __syncthreads();
        if (mark)
            runs[1 + n + before + __popc(lanes & ((1u << mb_lane()) - 1))] = i;
        n += all;
    }
    if (threadIdx.x == 0) {
        runs[0] = n;
        runs[1 + n] = rows;
    }
}

/* ---------------------------------------------------------------- conv */
/* The row's distance from the begin of its run, as far as it matters: `most` at most. */
MB_DEVICE int32_t into_run(const struct mb_conv_task &t, int64_t row, int32_t most)
{
    int32_t n = 0;
    while (n < most && !begins(t.slot, t.pos, row - n))
        n++;
    return n;
}

/* The input `back` rows before a row that is `into` rows into its run. */
MB_DEVICE float input(const struct mb_conv_task &t, int64_t row, int32_t into, int32_t back, int64_t c)
{
    if (back <= into)
        return mb_row_f32(t.x, row - back)[c];
    int64_t first = row - into;
    if (mb_row_i32(t.pos, first)[0] == 0)
        return 0.0f;
    int64_t kept = t.w.rows - 1;
    const float *state = state_of(t.slot, t.state, row, t.flag);
    return state != nullptr ? state[(kept + into - back) * t.x.cols + c] : 0.0f;
}

/* What the state keeps of a run, whose last row this is: upwards, because what is moved lies behind what is
 * written. */
MB_DEVICE void keep(const struct mb_conv_task &t, int64_t row, int64_t c)
{
    int32_t taps = static_cast<int32_t>(t.w.rows);

    if (row + 1 < t.x.rows && !begins(t.slot, t.pos, row + 1))
        return;
    int32_t into = into_run(t, row, taps);
    float *kept = state_of(t.slot, t.state, row, t.flag);
    for (int32_t j = 0; kept != nullptr && j < taps - 1; j++)
        kept[j * t.x.cols + c] = input(t, row, into, taps - 2 - j, c);
}

MB_DEVICE void convolve(const struct mb_conv_task &t, int64_t row, int64_t c)
{
    int32_t taps = static_cast<int32_t>(t.w.rows), into = into_run(t, row, taps);
    float y = 0;

    for (int32_t j = 0; j < taps; j++)
        y = fmaf(mb_row_f32(t.w, j)[c], input(t, row, into, taps - 1 - j, c), y);
    mb_row_f32(t.out, row)[c] = mb_silu_inl(y);
}

struct convolve_each {
    struct mb_conv_task t;
    __device__ void operator()(int64_t row, int64_t c) const
    {
        convolve(t, row, c);
    }
};
struct keep_each {
    struct mb_conv_task t;
    __device__ void operator()(int64_t row, int64_t c) const
    {
        keep(t, row, c);
    }
};

/* ---------------------------------------------------------------- delta: rows */
/* One head of q or k at length 1, q scaled: a warp. */
__global__ void __launch_bounds__(MB_EACH_THREADS) unit_heads(struct mb_delta_task t)
{
    int64_t w = mb_grid_warp(), row = w / (2 * t.key_heads), j = w % (2 * t.key_heads);

    if (row >= t.x.rows)
        return;
    float *x = mb_row_f32(t.x, row) + j * t.dk;
    float r = 1.0f / sqrtf(mb_r32_dot_of(x, x, t.dk) + MB_DELTA_EPS);
    __syncwarp();
    for (int32_t i = mb_lane(); i < t.dk; i += MB_WARP)
        x[i] = j < t.key_heads ? x[i] * r * t.scale : x[i] * r;
}

/* Decay and beta of a value head. */
MB_DEVICE void rate(const struct mb_delta_task &t, int64_t row, int64_t h)
{
    float *to = t.rate + 2 * (row * t.value_heads + h);
    float soft = mb_softplus_inl(mb_row_f32(t.a, row)[h] + mb_row_f32(t.dt, 0)[h]);

    to[0] = mb_expf_inl(-mb_expf_inl(mb_row_f32(t.a_log, 0)[h]) * soft);
    to[1] = mb_sigmoidf_inl(mb_row_f32(t.b, row)[h]);
}

struct rate_each {
    struct mb_delta_task t;
    __device__ void operator()(int64_t row, int64_t h) const
    {
        rate(t, row, h);
    }
};

/* The norm of a value head's output, times silu(z): a warp. */
__global__ void __launch_bounds__(MB_EACH_THREADS) finish_heads(struct mb_delta_task t)
{
    int64_t w = mb_grid_warp(), row = w / t.value_heads, h = w % t.value_heads;

    if (row >= t.x.rows)
        return;
    const float *o = mb_row_f32(t.x, row) + 2 * static_cast<int64_t>(t.key_heads) * t.dk + h * t.dv;
    const float *z = mb_row_f32(t.z, row) + h * t.dv, *norm = mb_row_f32(t.norm, 0);
    float r = 1.0f / sqrtf(mb_r32_dot_of(o, o, t.dv) / static_cast<float>(t.dv) + t.eps);
    for (int32_t i = mb_lane(); i < t.dv; i += MB_WARP)
        mb_put(t.out, row, h * t.dv + i, mb_silu_inl(z[i]) * ((o[i] * r) * norm[i]));
}

/* ---------------------------------------------------------------- delta: the rule */
enum { COLS = MB_DELTA_COLS, ROWS = 32, MOST_BLOCKS = 32 };

/* A thread's part of a head's state: column `col` of the panel, rows first .. first + n - 1. */
struct part {
    float s[ROWS];
    int32_t col, block, first, n;
};

/* In shared memory: q and k of a position, and the sums of all blocks of 32 rows. */
struct room {
    float *q, *k, *sum; /* [dk], [dk], [blocks][COLS] */
    int32_t dk, blocks;
};

/* The thread's sum of a dot; then the column's, of all blocks in order. Two barriers. */
MB_DEVICE float sum_blocks(const struct room &m, const struct part &p, float mine)
{
    float sum = 0;

    m.sum[p.block * COLS + p.col] = mine;
    __syncthreads();
    for (int32_t b = 0; b < m.blocks; b++)
        sum = sum + m.sum[b * COLS + p.col];
    __syncthreads();
    return sum;
}

/* One position: the output of the thread's column. */
MB_DEVICE float step(const struct room &m, struct part *p, float v, float decay, float beta)
{
    float e = 0, o = 0;

    MB_UNROLL
    for (int i = 0; i < ROWS; i += 2) {
        if (i < p->n)
            e = fmaf(decay * p->s[i], m.k[p->first + i], e);
        if (i + 1 < p->n)
            o = fmaf(decay * p->s[i + 1], m.k[p->first + i + 1], o);
    }
    float d = beta * (v - sum_blocks(m, *p, e + o));
    e = o = 0;
    MB_UNROLL
    for (int i = 0; i < ROWS; i += 2) {
        if (i < p->n) {
            p->s[i] = fmaf(m.k[p->first + i], d, decay * p->s[i]);
            e = fmaf(p->s[i], m.q[p->first + i], e);
        }
        if (i + 1 < p->n) {
            p->s[i + 1] = fmaf(m.k[p->first + i + 1], d, decay * p->s[i + 1]);
            o = fmaf(p->s[i + 1], m.q[p->first + i + 1], o);
        }
    }
    return sum_blocks(m, *p, e + o);
}

/* The rows of a run, for one panel of a head. */
MB_DEVICE void run_panel(const struct mb_delta_task &t, const struct room &m, struct part *p, int32_t run,
                         int32_t h, int32_t panel)
{
    int32_t row0 = t.runs[1 + run], end = t.runs[2 + run], c = panel * COLS + p->col;
    int64_t keys = static_cast<int64_t>(t.key_heads) * t.dk,
            at = static_cast<int64_t>((t.first + h) / t.per) * t.dk;
    bool fresh = mb_row_i32(t.pos, row0)[0] == 0, real = c < t.dv;
    float *tile = state_of(t.slot, t.state, row0, t.flag);

    if (tile == nullptr)
        return;
    tile += (static_cast<int64_t>(h) * ((t.dv + COLS - 1) / COLS) + panel) * t.dk * COLS;
    MB_UNROLL
    for (int i = 0; i < ROWS; i++)
        p->s[i] = i < p->n && !fresh ? tile[(p->first + i) * COLS + p->col] : 0.0f;
    for (int32_t row = row0; row < end; row++) {
        float *x = mb_row_f32(t.x, row), *v = x + 2 * keys + static_cast<int64_t>(h) * t.dv + c;
        const float *rates = t.rate + 2 * (static_cast<int64_t>(row) * t.value_heads + h);
        for (int32_t i = static_cast<int32_t>(threadIdx.x); i < t.dk; i += static_cast<int32_t>(blockDim.x)) {
            m.q[i] = x[at + i];
            m.k[i] = x[keys + at + i];
        }
        __syncthreads();
        float y = step(m, p, real ? *v : 0.0f, rates[0], rates[1]);
        if (real && p->block == 0)
            *v = y;
    }
    MB_UNROLL
    for (int i = 0; i < ROWS; i++)
        if (i < p->n)
            tile[(p->first + i) * COLS + p->col] = p->s[i];
}

__global__ void __launch_bounds__(COLS *MOST_BLOCKS) rule_kernel(struct mb_delta_task t)
{
    MB_SHARED(float, shared);
    struct part p;
    struct room m;
    int32_t panels = (t.dv + COLS - 1) / COLS;
    int64_t work = static_cast<int64_t>(t.runs[0]) * t.value_heads * panels;

    m.dk = t.dk;
    m.blocks = (t.dk + ROWS - 1) / ROWS;
    m.q = shared;
    m.k = m.q + t.dk;
    m.sum = m.k + t.dk;
    p.col = static_cast<int32_t>(threadIdx.x) % COLS;
    p.block = static_cast<int32_t>(threadIdx.x) / COLS;
    p.first = p.block * ROWS;
    p.n = t.dk - p.first < ROWS ? t.dk - p.first : ROWS;
    for (int64_t w = blockIdx.x; w < work; w += gridDim.x)
        run_panel(t, m, &p, static_cast<int32_t>(w / panels / t.value_heads),
                  static_cast<int32_t>(w / panels % t.value_heads), static_cast<int32_t>(w % panels));
}

/* Blocks for one warp each of n. */
unsigned warps(int64_t n)
{
    return static_cast<unsigned>((n + MB_EACH_THREADS / MB_WARP - 1) / (MB_EACH_THREADS / MB_WARP));
}

cudaError_t launch_rule(cudaStream_t s, const struct mb_delta_task *t)
{
    int32_t blocks = (t->dk + ROWS - 1) / ROWS;
    int64_t most = t->x.rows * t->value_heads * ((t->dv + COLS - 1) / COLS),
            grid = 16 * static_cast<int64_t>(t->processors);
    size_t shared = sizeof(float) * static_cast<size_t>(2 * t->dk + blocks * COLS);

    return MB_LAUNCH(rule_kernel, dim3(static_cast<unsigned>(most < grid ? most : grid)),
                     dim3(static_cast<unsigned>(COLS * blocks)), shared, s, *t);
}

} /* namespace */

extern "C" cudaError_t mb_k_conv(cudaStream_t s, const struct mb_conv_task *t)
{
    cudaError_t e = mb_each(s, t->out.rows, t->out.cols, convolve_each{*t});

    if (e != cudaSuccess || t->w.rows == 1)
        return e;
    return mb_each(s, t->out.rows, t->out.cols, keep_each{*t});
}

extern "C" cudaError_t mb_k_delta(cudaStream_t s, const struct mb_delta_task *t)
{
    cudaError_t e = MB_LAUNCH(list_runs, dim3(1), dim3(LISTERS), 0, s, t->slot, t->pos, t->runs);

    if (e == cudaSuccess)
        e = MB_LAUNCH(unit_heads, dim3(warps(t->x.rows * 2 * t->key_heads)), dim3(MB_EACH_THREADS), 0, s, *t);
    if (e == cudaSuccess)
        e = mb_each(s, t->x.rows, t->value_heads, rate_each{*t});
    if (e == cudaSuccess)
        e = launch_rule(s, t);
    if (e == cudaSuccess)
        e = MB_LAUNCH(finish_heads, dim3(warps(t->x.rows * t->value_heads)), dim3(MB_EACH_THREADS), 0, s, *t);
    return e;
}
