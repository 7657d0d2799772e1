/* Device code on the CPU: what nvcc knows by itself. A thread of a block is a fibre, one runs at a time, and one block at a time.
 *
 * `__shared__` is `static thread_local`: one copy, since one block runs at a time, and the emulator knows by its place in memory that
 * it is shared. Dynamic shared memory is mb_emu_shared(). What lies in shared memory is undefined when a block begins.
 * Kernels are compiled with -fsanitize=thread, whose calls go to the emulator (emu_access.c): it sees every load and store. */
#ifndef MB_EMU_DEVICE_H
#define MB_EMU_DEVICE_H
#include <math.h>
#include <new>
#include <stdlib.h>
#include <string.h>
#include <tuple>
#include <type_traits>
#include <utility>
#include "emu_calls.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
#define __noinline__

/* ---------------------------------------------------------------- vectors */
#define MB_EMU_VECTORS(T, name, align2, align4)                                                                                   \
    struct name##1 {                                                                                                              \
        T x;                                                                                                                      \
    };                                                                                                                            \
    struct __align__(align2) name##2                                                                                              \
    {                                                                                                                             \
        T x, y;                                                                                                                   \
    };                                                                                                                            \
    struct name##3 {                                                                                                              \
        T x, y, z;                                                                                                                \
    };                                                                                                                            \
    struct __align__(align4) name##4                                                                                              \
    {                                                                                                                             \
        T x, y, z, w;                                                                                                             \
    };                                                                                                                            \
    static inline name##2 make_##name##2(T x, T y) { return name##2{x, y}; }                                                      \
    static inline name##3 make_##name##3(T x, T y, T z) { return name##3{x, y, z}; }                                              \
    static inline name##4 make_##name##4(T x, T y, T z, T w) { return name##4{x, y, z, w}; }
MB_EMU_VECTORS(float, float, 8, 16)
MB_EMU_VECTORS(int, int, 8, 16)
MB_EMU_VECTORS(unsigned, uint, 8, 16)
MB_EMU_VECTORS(short, short, 4, 8)
MB_EMU_VECTORS(unsigned short, ushort, 4, 8)
MB_EMU_VECTORS(signed char, char, 2, 4)
MB_EMU_VECTORS(unsigned char, uchar, 2, 4)
MB_EMU_VECTORS(double, double, 16, 16)
MB_EMU_VECTORS(long long, longlong, 16, 16)
MB_EMU_VECTORS(unsigned long long, ulonglong, 16, 16)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

/* ---------------------------------------------------------------- where a thread is */
#define threadIdx (mb_emu_now.thread)
#define blockIdx (mb_emu_now.block)
#define blockDim (mb_emu_now.block_size)
#define gridDim (mb_emu_now.grid_size)
static constexpr int warpSize = 32;

/* ---------------------------------------------------------------- together */
#define MB_EMU_AT const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define MB_EMU_IN static inline __attribute__((no_sanitize("thread")))

MB_EMU_IN void __syncthreads(MB_EMU_AT) { mb_emu_barrier(MB_EMU_SYNC, 0, file, line); }
MB_EMU_IN int __syncthreads_count(int p, MB_EMU_AT) { return mb_emu_barrier(MB_EMU_SYNC_COUNT, p != 0, file, line); }
MB_EMU_IN int __syncthreads_or(int p, MB_EMU_AT) { return mb_emu_barrier(MB_EMU_SYNC_COUNT, p != 0, file, line) != 0; }
MB_EMU_IN int __syncthreads_and(int p, MB_EMU_AT) { return mb_emu_barrier(MB_EMU_SYNC_COUNT, p == 0, file, line) == 0; }
MB_EMU_IN void __syncwarp(unsigned mask = 0xffffffffu, MB_EMU_AT) { mb_emu_warp(MB_EMU_WARP_SYNC, mask, 0, 0, 32, file, line); }
MB_EMU_IN unsigned __activemask(void) { return mb_emu_active(); }

template <class T> MB_EMU_IN uint64_t mb_emu_pack(T v)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "a value of a warp's exchange");
    uint64_t u = 0;
    __builtin_memcpy(&u, &v, sizeof v);
    return u;
}
template <class T> MB_EMU_IN T mb_emu_unpack(uint64_t u)
{
    T v;
    __builtin_memcpy(&v, &u, sizeof v);
    return v;
}
#define MB_EMU_SHUFFLE(name, op, type)                                                                                            \
    template <class T> MB_EMU_IN T name(unsigned mask, T v, type arg, int width = 32, MB_EMU_AT)                                  \
    {                                                                                                                             \
        return mb_emu_unpack<T>(mb_emu_warp(op, mask, mb_emu_pack(v), (unsigned)arg, width, file, line));                         \
    }
MB_EMU_SHUFFLE(__shfl_sync, MB_EMU_SHFL, int)
MB_EMU_SHUFFLE(__shfl_up_sync, MB_EMU_SHFL_UP, unsigned)
MB_EMU_SHUFFLE(__shfl_down_sync, MB_EMU_SHFL_DOWN, unsigned)
MB_EMU_SHUFFLE(__shfl_xor_sync, MB_EMU_SHFL_XOR, int)

MB_EMU_IN unsigned __ballot_sync(unsigned mask, int p, MB_EMU_AT)
{
    return (unsigned)mb_emu_warp(MB_EMU_BALLOT, mask, p != 0, 0, 32, file, line);
}
MB_EMU_IN int __any_sync(unsigned mask, int p, MB_EMU_AT)
{
    return mb_emu_warp(MB_EMU_BALLOT, mask, p != 0, 0, 32, file, line) != 0;
}
MB_EMU_IN int __all_sync(unsigned mask, int p, MB_EMU_AT)
{
    return mb_emu_warp(MB_EMU_BALLOT, mask, p == 0, 0, 32, file, line) == 0;
}
template <class T> MB_EMU_IN unsigned __match_any_sync(unsigned mask, T v, MB_EMU_AT)
{
    return (unsigned)mb_emu_warp(MB_EMU_MATCH, mask, mb_emu_pack(v), 0, 32, file, line);
}
#define MB_EMU_REDUCE(name, op, T)                                                                                                \
    MB_EMU_IN T name(unsigned mask, T v, MB_EMU_AT) { return (T)mb_emu_warp(op, mask, (uint32_t)v, 0, 32, file, line); }
MB_EMU_REDUCE(__reduce_add_sync, MB_EMU_ADD, int)
MB_EMU_REDUCE(__reduce_add_sync, MB_EMU_ADD, unsigned)
MB_EMU_REDUCE(__reduce_min_sync, MB_EMU_MIN, int)
MB_EMU_REDUCE(__reduce_max_sync, MB_EMU_MAX, int)
MB_EMU_REDUCE(__reduce_min_sync, MB_EMU_MIN_U, unsigned)
MB_EMU_REDUCE(__reduce_max_sync, MB_EMU_MAX_U, unsigned)
MB_EMU_REDUCE(__reduce_and_sync, MB_EMU_AND, unsigned)
MB_EMU_REDUCE(__reduce_or_sync, MB_EMU_OR, unsigned)
MB_EMU_REDUCE(__reduce_xor_sync, MB_EMU_XOR, unsigned)

static inline void __threadfence(void) {}
static inline void __threadfence_block(void) {}
static inline void __threadfence_system(void) {}
MB_EMU_IN void __trap(MB_EMU_AT) { mb_emu_trap(file, line); }

/* ---------------------------------------------------------------- atomics: integers only */
#define MB_EMU_ATOMIC(name, op, T)                                                                                                \
    MB_EMU_IN T name(T *p, T v) { return mb_emu_unpack<T>(mb_emu_atomic(op, p, (int)sizeof *p, mb_emu_pack(v), 0)); }
#define MB_EMU_ATOMIC3(name, op)                                                                                                  \
    MB_EMU_ATOMIC(name, op, int)                                                                                                  \
    MB_EMU_ATOMIC(name, op, unsigned) MB_EMU_ATOMIC(name, op, unsigned long long)
MB_EMU_ATOMIC3(atomicAdd, MB_EMU_A_ADD)
MB_EMU_ATOMIC3(atomicExch, MB_EMU_A_EXCH)
MB_EMU_ATOMIC3(atomicAnd, MB_EMU_A_AND)
MB_EMU_ATOMIC3(atomicOr, MB_EMU_A_OR)
MB_EMU_ATOMIC3(atomicXor, MB_EMU_A_XOR)
MB_EMU_ATOMIC(atomicMin, MB_EMU_A_MIN, int)
MB_EMU_ATOMIC(atomicMax, MB_EMU_A_MAX, int)
MB_EMU_ATOMIC(atomicMin, MB_EMU_A_UMIN, unsigned)
MB_EMU_ATOMIC(atomicMax, MB_EMU_A_UMAX, unsigned)
MB_EMU_ATOMIC(atomicMin, MB_EMU_A_UMIN, unsigned long long)
MB_EMU_ATOMIC(atomicMax, MB_EMU_A_UMAX, unsigned long long)
template <class T> MB_EMU_IN T atomicSub(T *p, T v) { return atomicAdd(p, (T)(0 - v)); }
template <class T> MB_EMU_IN T atomicCAS(T *p, T compare, T v)
{
    return mb_emu_unpack<T>(mb_emu_atomic(MB_EMU_A_CAS, p, (int)sizeof *p, mb_emu_pack(v), mb_emu_pack(compare)));
}

/* ---------------------------------------------------------------- arithmetic */
template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T __ldcs(const T *p) { return *p; }
template <class T> static inline T __ldcg(const T *p) { return *p; }
template <class T> static inline void __stcs(T *p, T v) { *p = v; }
template <class T> static inline void __stcg(T *p, T v) { *p = v; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline unsigned __float_as_uint(float f) { return mb_emu_unpack<unsigned>(mb_emu_pack(f)); }
static inline float __uint_as_float(unsigned u) { return mb_emu_unpack<float>(mb_emu_pack(u)); }
static inline int __float_as_int(float f) { return mb_emu_unpack<int>(mb_emu_pack(f)); }
static inline float __int_as_float(int i) { return mb_emu_unpack<float>(mb_emu_pack(i)); }
static inline float __int2float_rn(int i) { return (float)i; }
static inline float __uint2float_rn(unsigned i) { return (float)i; }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz((unsigned)x); }
static inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll((unsigned long long)x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline unsigned __brev(unsigned x)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i++)
        r |= (x >> i & 1u) << (31 - i);
    return r;
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s)
{
    uint64_t all = (uint64_t)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++)
        r |= (unsigned)(all >> (8 * (s >> (4 * i) & 7)) & 255) << (8 * i);
    return r;
}
static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 32; i += 8)
        c += (int)(int8_t)(a >> i) * (int)(int8_t)(b >> i);
    return c;
}
template <class T> static inline T mb_emu_min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T mb_emu_max(T a, T b) { return a < b ? b : a; }
#define MB_EMU_MINMAX(T)                                                                                                          \
    static inline T min(T a, T b) { return mb_emu_min(a, b); }                                                                    \
    static inline T max(T a, T b) { return mb_emu_max(a, b); }
MB_EMU_MINMAX(int)
MB_EMU_MINMAX(unsigned)
MB_EMU_MINMAX(long)
MB_EMU_MINMAX(unsigned long)
MB_EMU_MINMAX(long long)
MB_EMU_MINMAX(unsigned long long)

/* ---------------------------------------------------------------- launches */
template <class... P> struct mb_emu_args {
    void (*kernel)(P...);
    std::tuple<P...> values;
    template <size_t... I> __attribute__((no_sanitize("thread"))) void call(std::index_sequence<I...>) const
    {
        kernel(std::get<I>(values)...);
    }
    __attribute__((no_sanitize("thread"))) static void run(const void *args)
    {
        static_cast<const mb_emu_args *>(args)->call(std::index_sequence_for<P...>());
    }
    static void destroy(void *args) { free(args); } /* of plain values, as all that goes to a device is */
};
template <class... P, class... A>
static inline cudaError_t mb_emu_launch_named(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                                              cudaStream_t stream, A &&...args)
{
    static_assert(sizeof...(P) == sizeof...(A), "a kernel's arguments");
    using record = mb_emu_args<P...>;
    struct mb_emu_call l = {name,   (const void *)kernel, {grid.x, grid.y, grid.z}, {block.x, block.y, block.z},
                            shared, record::run,          record::destroy,          nullptr,
                            sizeof(record)};
    l.args = malloc(sizeof(record));
    if (l.args == nullptr)
        return cudaErrorMemoryAllocation;
    new (l.args) record{kernel, std::tuple<P...>(static_cast<P>(std::forward<A>(args))...)};
    return mb_emu_launch_queue(&l, stream);
}
#define mb_emu_launch(kernel, ...) mb_emu_launch_named(#kernel, kernel, __VA_ARGS__)

template <class K> static inline cudaError_t cudaFuncSetAttribute(K *kernel, enum cudaFuncAttribute what, int value)
{
    return cudaFuncSetAttribute((const void *)kernel, what, value);
}
template <class T> static inline cudaError_t cudaMalloc(T **out, size_t bytes)
{
    return cudaMalloc((void **)out, bytes);
}
#endif
