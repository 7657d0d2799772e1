/* The tree over partial states of attention: a block of threads for each row and head, a thread for columns.
 * All threads go through the same nodes and reckon their factors themselves. */
#include "cuda/osm.h"
#include "cuda/row.h"

#include "cuda/kv.h"

namespace
{

enum { T = 128, DEPTH = 33 }; /* open nodes at most: positions of 31 bits */

/* Item j of row n, or chunk j of one: its state of head h; its place is checked. */
MB_DEVICE const float *item_at(const struct mb_join_task &t, int64_t n, int64_t h, int32_t j)
{
    if (t.chunks > 0)
        return mb_row_f32(t.state, (n * t.heads + h) * t.chunks + j);
    return mb_row_f32(t.state, mb_index(mb_row_i32(t.src, j)[0], t.state.rows, t.flag)) + h * (t.dv + 2);
}
MB_DEVICE int32_t position_of(const struct mb_join_task &t, int32_t j)
{
    return t.chunks > 0 ? j : mb_row_i32(t.pos, j)[0];
}

/* The open nodes of one column: m, l and o of each; o in a column of shared memory of the thread's own. */
struct stack {
    float m[DEPTH], l[DEPTH];
    float *o;
    int32_t top;

    __device__ __forceinline__ void push(const float *item, float value)
    {
        m[top] = item[0];
        l[top] = item[1];
        o[top * T] = value;
        top++;
    }
    __device__ __forceinline__ void join()
    {
        struct mb_osm a, b;
        float e1, e2;
        a.m = m[top - 2];
        a.l = l[top - 2];
        b.m = m[top - 1];
        b.l = l[top - 1];
        a.present = b.present = true;
        a = mb_osm_join_inl(a, b, &e1, &e2);
        m[top - 2] = a.m;
        l[top - 2] = a.l;
        o[(top - 2) * T] = fmaf(o[(top - 2) * T], e1, o[(top - 1) * T] * e2);
        top--;
    }
};

/* The root of row n and head h in column c is left at the bottom. False: no item. */
MB_DEVICE bool root(const struct mb_join_task &t, struct stack *s, int64_t n, int64_t h, int32_t c,
                    int32_t begin, int32_t end)
{
    struct mb_nodes nodes;

    s->top = 0;
    for (int32_t j = begin; j < end; j++) {
        const float *item = item_at(t, n, h, j);
        if (t.chunks > 0 && item[1] < 0.0f)
            continue; /* nobody saw a key there */
        for (int32_t ends = nodes.next(position_of(t, j)); ends > 0; ends--)
            s->join();
        s->push(item, item[2 + c]);
    }
    for (int32_t ends = nodes.end(); ends > 0; ends--)
        s->join();
    return s->top == 1;
}

MB_DEVICE float finished(const struct mb_join_task &t, int64_t h, const struct stack *s)
{
    float o = s->o[0], l = s->l[0];

    if (t.sinks.p != nullptr) {
        struct mb_osm a, sink;
        float e1, e2;
        a.m = s->m[0];
        a.l = l;
        sink.m = mb_row_f32(t.sinks, 0)[h];
        sink.l = 1.0f;
        a.present = sink.present = true;
        l = mb_osm_join_inl(a, sink, &e1, &e2).l;
        o = fmaf(o, e1, 0.0f * e2);
    }
    return o / l;
}

/* Items of row n, checked: a list that is none is told, and empty. */
MB_DEVICE void items_of(const struct mb_join_task &t, int64_t n, int32_t *begin, int32_t *end)
{
    *begin = 0;
    *end = t.chunks;
    if (t.chunks > 0)
        return;
    *begin = mb_row_i32(t.item_off, n)[0];
    *end = mb_row_i32(t.item_off, n + 1)[0];
    bool ok = *begin >= 0 && *end > *begin && *end <= t.src.rows;
    for (int32_t j = *begin + 1; ok && j < *end; j++)
        ok = position_of(t, j) > position_of(t, j - 1);
    if (ok)
        return;
    mb_index(-1, 1, t.flag);
    *begin = *end = 0;
}

__global__ void __launch_bounds__(T) join_kernel(struct mb_join_task t)
{
    __shared__ float room[DEPTH * T];
    int64_t n = blockIdx.x, h = blockIdx.y;
    int32_t begin, end;
    struct stack s;

    s.o = room + threadIdx.x;
    items_of(t, n, &begin, &end);
    for (int32_t c = static_cast<int32_t>(threadIdx.x); c < t.dv; c += T) {
        if (!root(t, &s, n, h, c, begin, end))
            continue;
        if (t.finish) {
            mb_put(t.out, n, h * t.dv + c, finished(t, h, &s));
            continue;
        }
        float *to = mb_row_f32(t.out, n) + h * (t.dv + 2);
        to[2 + c] = s.o[0];
        if (c == 0) {
            to[0] = s.m[0];
            to[1] = s.l[0];
        }
    }
}

} /* namespace */

extern "C" cudaError_t mb_k_attention_join(cudaStream_t s, const struct mb_join_task *t)
{
    return MB_LAUNCH(join_kernel, dim3(static_cast<unsigned>(t->out.rows), static_cast<unsigned>(t->heads)),
                     dim3(T), 0, s, *t);
}
