/* Kernels of the emulator's test: what is right has to work, and each of the wrong ones has to be found. */
#include "../unit_cuda_emu.h"

#define KERNEL(name) static __global__ void name([[maybe_unused]] int *p, [[maybe_unused]] int n)

/* ---------------------------------------------------------------- right */
KERNEL(where) /* p[i] = i, and the sum of all that a thread knows of its place behind them */
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n)
        p[i] = i;
}
KERNEL(sum_block) /* p[block] = sum of p's part, by shared memory */
{
    __shared__ int s[1024];
    int t = (int)threadIdx.x;
    s[t] = p[n + (int)(blockIdx.x * blockDim.x) + t];
    __syncthreads();
    for (int step = (int)blockDim.x / 2; step > 0; step /= 2) {
        if (t < step)
            s[t] += s[t + step];
        __syncthreads();
    }
    if (t == 0)
        p[blockIdx.x] = s[0];
}
KERNEL(sum_warp) /* p[warp] = sum of the lanes' numbers behind the first n */
{
    int t = (int)threadIdx.x, v = p[n + t];
    for (int d = 16; d > 0; d /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, d);
    if (t % 32 == 0)
        p[t / 32] = v;
}
KERNEL(votes)
{
    int t = (int)threadIdx.x;
    p[t] = (int)__ballot_sync(0xffffffffu, t % 3 == 0);
    p[n + t] = __any_sync(0xffffffffu, t == 5) + 2 * __all_sync(0xffffffffu, t < 31) + 4 * __syncthreads_count(t % 2) +
               1024 * __syncthreads_or(t == 3) + 2048 * __syncthreads_and(t >= 0);
}
KERNEL(shuffles)
{
    int t = (int)threadIdx.x;
    p[t] = __shfl_sync(0xffffffffu, 100 + t, t + 1) * 1000000 + __shfl_up_sync(0xffffffffu, t, 3) * 10000 +
           __shfl_down_sync(0xffffffffu, t, 3, 8) * 100 + (int)__match_any_sync(0xffffffffu, t / 16) % 7 +
           __reduce_add_sync(0xffffffffu, 1);
}
KERNEL(half_warps) /* each half on its own */
{
    int t = (int)threadIdx.x;
    unsigned mine = t < 16 ? 0xffffu : 0xffff0000u;
    if (t < 16)
        p[t] = __shfl_xor_sync(mine, t, 1);
    else
        p[t] = __shfl_xor_sync(mine, t, 2, 16);
}
KERNEL(dynamic) /* reverses a block's numbers through dynamic shared memory */
{
    int *s = (int *)mb_emu_shared(), t = (int)threadIdx.x;
    s[t] = p[t];
    __syncthreads();
    p[t] = s[n - 1 - t];
}
KERNEL(atomics)
{
    __shared__ int least;
    if (threadIdx.x == 0)
        least = 1000;
    __syncthreads();
    atomicAdd(&p[0], 1);
    atomicMin(&least, 7 + (int)threadIdx.x);
    atomicOr((unsigned *)&p[1], 1u << threadIdx.x % 32);
    atomicCAS(&p[2], 0, 5);
    __syncthreads();
    if (threadIdx.x + blockIdx.x == 0)
        p[3] = least;
}
KERNEL(warp_order) /* lanes exchange through shared memory, a barrier of the warp between */
{
    __shared__ int s[64];
    int t = (int)threadIdx.x;
    s[t] = t;
    __syncwarp();
    int v = s[t ^ 1];
    __syncwarp();
    s[t] = v + 1;
    __syncwarp();
    p[t] = s[t ^ 2];
}
KERNEL(vectors)
{
    float4 *f = (float4 *)(void *)p;
    float4 v = __ldg(f + threadIdx.x);
    f[threadIdx.x] = make_float4(__fmaf_rn(v.x, v.y, v.z), __fadd_rn(v.x, v.w), fmaf(v.x, 2.0f, 1.0f), __fdiv_rn(v.x, 3.0f));
}
KERNEL(tiny) /* the smallest normal number halved: flushed */
{
    float *f = (float *)(void *)p;
    f[threadIdx.x] = f[threadIdx.x] * 0.5f;
}
KERNEL(add_one)
{
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        p[i]++;
}

/* ---------------------------------------------------------------- wrong */
KERNEL(no_barrier)
{
    __shared__ int s[64];
    s[threadIdx.x] = n;
    p[threadIdx.x] = s[63 - threadIdx.x];
}
KERNEL(no_second_barrier)
{
    __shared__ int s[64];
    int t = (int)threadIdx.x;
    for (int i = 0; i < 2; i++) {
        s[t] = i;
        __syncthreads();
        p[t] = s[63 - t];
    }
}
KERNEL(no_warp_barrier)
{
    __shared__ int s[64];
    int t = (int)threadIdx.x;
    s[t] = __shfl_xor_sync(0xffffffffu, t, 1); /* no barrier of memory */
    p[t] = s[t ^ 1];
}
KERNEL(warp_for_block)
{
    __shared__ int s[64];
    int t = (int)threadIdx.x;
    s[t] = t;
    __syncwarp();
    p[t] = s[63 - t];
}
KERNEL(divergence)
{
    if (threadIdx.x < 40)
        __syncthreads();
    p[threadIdx.x] = n;
}
KERNEL(two_barriers)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    p[threadIdx.x] = n;
}
KERNEL(early_end)
{
    if (threadIdx.x == 63)
        return;
    __syncthreads();
    p[threadIdx.x] = n;
}
KERNEL(behind)
{
    p[threadIdx.x == 63 ? n : (int)threadIdx.x] = 1;
}
KERNEL(far_behind)
{
    p[(long)n + 100000] = 1;
}
KERNEL(before)
{
    if (threadIdx.x == 0)
        p[0] = p[(int)threadIdx.x - 1];
}
KERNEL(not_in_mask)
{
    p[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, n, 1);
}
KERNEL(lane_outside)
{
    if (threadIdx.x < 16)
        p[threadIdx.x] = __shfl_sync(0x0000ffffu, n, 20);
}
KERNEL(lanes_missing)
{
    if (threadIdx.x % 2 == 0)
        p[threadIdx.x] = __shfl_xor_sync(0xffffffffu, n, 2);
    else
        __syncthreads();
}
KERNEL(masks_differ)
{
    p[threadIdx.x] = (int)__ballot_sync(threadIdx.x % 2 ? 0xffffffffu : 0x55555555u, 1);
}
KERNEL(unwritten)
{
    __shared__ int s[64];
    if (threadIdx.x != 7)
        s[threadIdx.x] = n;
    __syncthreads();
    p[threadIdx.x] = s[threadIdx.x];
}
KERNEL(shared_behind)
{
    int *s = (int *)mb_emu_shared();
    s[threadIdx.x] = n;
    __syncthreads();
    p[threadIdx.x] = s[threadIdx.x];
}
KERNEL(blocks_race)
{
    p[threadIdx.x] = (int)blockIdx.x + n;
}
KERNEL(blocks_read)
{
    p[threadIdx.x + blockIdx.x * blockDim.x] = p[(threadIdx.x + 64) % 128] + n;
}
KERNEL(plain_and_atomic)
{
    atomicAdd(&p[0], 1);
    p[1 + threadIdx.x] = p[0];
}
KERNEL(misaligned)
{
    *(long long *)(void *)(p + 1) = n;
}
KERNEL(wrong_width)
{
    p[threadIdx.x] = __shfl_xor_sync(0xffffffffu, n, 1, 12);
}

#define ROW(k)                                                                                                                    \
    {                                                                                                                             \
        #k, k                                                                                                                     \
    }
static const struct {
    const char *name;
    void (*kernel)(int *, int);
} all[] = {ROW(where),          ROW(sum_block),    ROW(sum_warp),      ROW(votes),         ROW(shuffles),      ROW(half_warps),
           ROW(dynamic),        ROW(atomics),      ROW(warp_order),    ROW(vectors),       ROW(tiny),          ROW(add_one),
           ROW(no_barrier),     ROW(behind),       ROW(no_warp_barrier), ROW(divergence),  ROW(two_barriers),  ROW(early_end),
           ROW(no_second_barrier), ROW(far_behind), ROW(before),       ROW(not_in_mask),   ROW(lane_outside),  ROW(lanes_missing),
           ROW(masks_differ),   ROW(unwritten),    ROW(shared_behind), ROW(blocks_race),   ROW(blocks_read),   ROW(plain_and_atomic),
           ROW(misaligned),     ROW(wrong_width),  ROW(warp_for_block)};

cudaError_t emu_kernel(const char *name, int blocks, int threads, size_t shared, cudaStream_t s, int *p, int n)
{
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(all[i].name, name) == 0)
            return mb_emu_launch_named(name, all[i].kernel, dim3((unsigned)blocks), dim3((unsigned)threads), shared, s, p, n);
    return cudaErrorUnknown;
}
