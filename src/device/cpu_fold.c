/* The combine: weighted expert outputs and inner tree nodes of a row added by the tree rule. */
#include <string.h>
#include "device/cpu_vec.h"

#define FOLD_CHUNK 512 /* columns at a time: the levels of the tree keep one buffer each on the stack */

struct fold {
    struct mb_view out;
    const struct mb_fold_args *a;
    const struct mb_vec *vec;
};

/* Columns [c, c + n) of item j: where they lie, or computed in buf. */
static const float *item(const struct fold *f, int64_t j, int64_t c, int64_t n, float *buf)
{
    int64_t src = mb_at_i32(f->a->src, j);
    if (src < 0)
        return mb_row_f32(f->a->inner, -1 - src) + c;
    float w = *mb_row_f32(f->a->weight, j);
    if (f->a->y.dtype == MB_BF16)
        f->vec->mul_bf16(buf, mb_row_bf16(f->a->y, src) + c, w, n);
    else
        f->vec->mul(buf, mb_row_f32(f->a->y, src) + c, w, n);
    return buf;
}

/* Where items [j, j + count), count > 1, part: how many are on the left (bits decide, so depth <= 31). */
static int64_t split(const struct fold *f, int64_t j, int64_t count)
{
    uint32_t first = (uint32_t)mb_at_i32(f->a->pos, j), last = (uint32_t)mb_at_i32(f->a->pos, j + count - 1);
    uint32_t bit = 1u << (31 - __builtin_clz(first ^ last));
    int64_t m = 1;
    while (m < count - 1 && ((uint32_t)mb_at_i32(f->a->pos, j + m) & bit) == 0)
        m++;
    return m;
}

/* Tree over items [j, j + count): a single item where it lies, or the sum in buf. */
static const float *node(const struct fold *f, int64_t j, int64_t count, int64_t c, int64_t n, float *buf)
{
    if (count == 1)
        return item(f, j, c, n, buf);
    float room[FOLD_CHUNK];
    int64_t m = split(f, j, count);
    const float *left = node(f, j, m, c, n, buf), *right = node(f, j + m, count - m, c, n, room);
    f->vec->add(buf, left, right, n);
    return buf;
}

static void fold_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct fold *f = arg;
    for (int64_t i = begin; i < end; i++) {
        int64_t at = mb_at_i32(f->a->item_off, i), count = mb_at_i32(f->a->item_off, i + 1) - at;
        float *out = mb_row_f32(f->out, i);
        if (count == 0)
            memset(out, 0, (size_t)f->out.cols * sizeof *out);
        for (int64_t c = 0; c < f->out.cols && count > 0; c += FOLD_CHUNK) {
            int64_t n = f->out.cols - c < FOLD_CHUNK ? f->out.cols - c : FOLD_CHUNK;
            const float *sum = node(f, at, count, c, n, out + c);
            if (sum != out + c)
                memcpy(out + c, sum, (size_t)n * sizeof *out);
        }
    }
}

static enum mb_status check_items(int64_t rows, const struct mb_fold_args *a)
{
    int64_t at = 0, items = a->src.rows;
    for (int64_t i = 0; i <= rows; i++) {
        int64_t end = mb_at_i32(a->item_off, i);
        if (end < at || end > items || (i == 0 && end < 0))
            return mb_error(MB_BUG, "fold: item_off[%lld] is %lld", (long long)i, (long long)end);
        for (int64_t j = i == 0 ? end : at; j < end; j++) {
            int32_t src = mb_at_i32(a->src, j), pos = mb_at_i32(a->pos, j);
            int64_t from = src < 0 ? -1 - (int64_t)src : src, limit = src < 0 ? a->inner.rows : a->y.rows;
            if (from >= limit || (src >= 0 && !mb_has_view(a->weight)) || pos < 0 ||
                (j > at && pos <= mb_at_i32(a->pos, j - 1)))
                return mb_error(MB_BUG, "fold: item %lld of row %lld: source %d, position %d", (long long)j,
                                (long long)i - 1, src, pos);
        }
        at = end;
    }
    return MB_OK;
}

enum mb_status mb_cpu_fold(struct mb_stream *s, struct mb_view out, const struct mb_fold_args *a)
{
    MB_TRY(mb_check_fold(out, a));
    if (out.rows == 0 || out.cols == 0)
        return MB_OK;
    MB_TRY(check_items(out.rows, a));
    struct fold f = {out, a, mb_vec_of(s->dev)};
    mb_cpu_run(s->dev, out.rows, mb_grain(out.cols, 4), fold_rows, &f);
    return MB_OK;
}
