/* How the sources of the tile kernels become straight code, for any instruction set: KERNEL in front of their functions, UNROLL and
 * ROLLED in front of loops. No include guard: the including file says TARGET, its target attribute. */
#ifndef KERNEL /* a test compiles this source without inlining */
/* UBSan's checks in code unrolled so often take Clang minutes to compile; ASan stays on. */
#define KERNEL static inline __attribute__((always_inline, target(TARGET), no_sanitize("undefined")))
/* The loops over rows and vectors must become straight code, so that the partial sums stay in registers. The loops over
 * k must not: Clang would unroll them as well, and take minutes over every case. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed" /* without optimisation nothing is unrolled */
#if __has_feature(address_sanitizer)
#define UNROLL /* every step of straight code would be checked, and take minutes to compile */
#else
#define UNROLL _Pragma("clang loop unroll(full)")
#endif
#define ROLLED _Pragma("clang loop unroll(disable)")
#else
#define ROLLED
#define UNROLL _Pragma("GCC unroll 32")
#endif
#endif
