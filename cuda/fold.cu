/* The combine: weighted expert outputs and inner tree nodes of a row added by the tree rule (base/numerics.h). A thread has a column of
 * a row; items come ascending, so that open nodes of the tree are a stack, and a pair of neighbours parts at the highest bit in which
 * their positions differ. */
#include "cuda/row.h"
#include "cuda/select.h"

namespace {

enum { THREADS = 256, DEPTH = 33 }; /* most open nodes: 31-bit positions */

MB_DEVICE float item(const struct mb_fold_mats &a, int32_t j, int64_t c, const struct mb_flag &flag)
{
    int32_t src = *mb_row_i32(a.src, j);

    if (src < 0) {
        int64_t from = -1 - static_cast<int64_t>(src);
        if (from < a.inner.rows)
            return mb_row_f32(a.inner, from)[c];
    } else if (src < a.y.rows && a.weight.p != nullptr) {
        return mb_get(a.y, src, c) * *mb_row_f32(a.weight, j);
    }
    atomicMax(flag.word, flag.op);
    return 0;
}

__global__ void __launch_bounds__(THREADS) fold_kernel(struct mb_mat out, struct mb_fold_mats a, uint32_t parts, struct mb_flag flag)
{
    int64_t row = blockIdx.x / parts, c = static_cast<int64_t>(blockIdx.x % parts) * THREADS + threadIdx.x;
    int32_t j = *mb_row_i32(a.item_off, row), end = *mb_row_i32(a.item_off, row + 1), top = 0, last = -1;
    float v[DEPTH];
    int8_t split[DEPTH];

    if (c >= out.cols)
        return;
    if (j < 0 || end < j || end > a.src.rows) {
        atomicMax(flag.word, flag.op);
        end = j;
    }
    for (; j < end; j++) {
        int32_t pos = *mb_row_i32(a.pos, j);
        if (pos <= last) { /* not ascending: no tree */
            atomicMax(flag.word, flag.op);
            break;
        }
        int32_t bit = top > 0 ? 31 - __clz(last ^ pos) : 0;
        for (; top > 1 && split[top - 1] < bit; top--)
            v[top - 2] = v[top - 2] + v[top - 1];
        v[top] = item(a, j, c, flag);
        split[top++] = static_cast<int8_t>(bit);
        last = pos;
    }
    for (; top > 1; top--)
        v[top - 2] = v[top - 2] + v[top - 1];
    mb_row_f32(out, row)[c] = top > 0 ? v[0] : 0;
}

} // namespace

extern "C" cudaError_t mb_k_fold(cudaStream_t s, struct mb_mat out, const struct mb_fold_mats *a, struct mb_flag flag)
{
    int64_t parts = (out.cols + THREADS - 1) / THREADS, blocks = out.rows * parts;

    if (blocks == 0)
        return cudaSuccess;
    if (blocks > INT32_MAX)
        return cudaErrorInvalidValue;
    return MB_LAUNCH(fold_kernel, dim3(static_cast<uint32_t>(blocks)), dim3(THREADS), 0, s, out, *a, static_cast<uint32_t>(parts),
                     flag);
}
