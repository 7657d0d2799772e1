/* Operations that work element by element: embed, gather, add, scale, clamp, rope, act, gate, copies that convert. */
#include "cuda/each.h"

namespace {

struct convert {
    struct mb_mat dst, src;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        mb_put(dst, r, c, mb_get(src, r, c));
    }
};

struct embed {
    struct mb_mat x, table, ids;
    float scale;
    struct mb_flag flag;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        int64_t id = mb_index(*mb_row_i32(ids, r), table.rows, flag);
        float v = mb_get(table, id, c);

        mb_row_f32(x, r)[c] = table.dtype == MB_F32 && scale == 1.0f ? v : v * scale; /* 1: as stored */
    }
};

template <class T> struct gather {
    struct mb_mat out, src, idx;
    struct mb_flag flag;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        int64_t from = mb_index(*mb_row_i32(idx, r), src.rows, flag);

        static_cast<T *>(out.p)[r * out.stride + c] = static_cast<const T *>(src.p)[from * src.stride + c];
    }
};

struct add {
    struct mb_mat out, a, b;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        mb_row_f32(out, r)[c] = mb_row_f32(a, r)[c] + mb_row_f32(b, r)[c];
    }
};

struct scale {
    struct mb_mat x;
    float by;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        mb_row_f32(x, r)[c] = mb_row_f32(x, r)[c] * by;
    }
};

struct clamp {
    struct mb_mat x;
    float limit;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        float *p = mb_row_f32(x, r) + c, was = *p;
        float v = was > -limit ? was : -limit;

        v = v < limit ? v : limit;
        *p = was == was ? v : was;
    }
};

struct scale_rows {
    struct mb_mat x, c, at;
    struct mb_flag flag;
    __device__ void operator()(int64_t r, int64_t col) const
    {
        float by = *mb_row_f32(c, mb_index(*mb_row_i32(at, r), c.rows, flag));

        mb_row_f32(x, r)[col] = mb_row_f32(x, r)[col] * by;
    }
};

/* The thread of a pair's first column turns the pair; those of second columns have nothing to do. */
struct rope {
    struct mb_mat out, x, cos, sin, pos;
    int32_t d, first, rot, style;
    struct mb_flag flag;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        int32_t j = static_cast<int32_t>(c % d) - first;
        if (j < 0 || j >= rot) {
            if (out.p != x.p)
                mb_put(out, r, c, mb_row_f32(x, r)[c]);
            return;
        }
        bool halves = style == MB_ROPE_HALF;
        if (halves ? j >= rot / 2 : j % 2 != 0)
            return;
        int64_t at = mb_index(*mb_row_i32(pos, r), cos.rows, flag), pair = halves ? j : j / 2;
        int64_t second = c + (halves ? rot / 2 : 1);
        float a = mb_row_f32(x, r)[c], b = mb_row_f32(x, r)[second];
        float cs = mb_row_f32(cos, at)[pair], sn = mb_row_f32(sin, at)[pair];
        mb_put(out, r, c, a * cs - b * sn);
        mb_put(out, r, second, b * cs + a * sn);
    }
};

template <int KIND> struct act {
    struct mb_mat out, gu;
    float limit;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        float g = mb_row_f32(gu, r)[c], u = mb_row_f32(gu, r)[out.cols + c], v;

        if (KIND == MB_ACT_SILU)
            v = mb_silu_inl(g) * u;
        else if (KIND == MB_ACT_GELU_ERF)
            v = mb_gelu_erf_inl(g) * u;
        else if (KIND == MB_ACT_GELU_TANH)
            v = mb_gelu_tanh_inl(g) * u;
        else
            v = mb_swiglu_clamped_inl(g, u, limit);
        mb_put(out, r, c, v);
    }
};

struct gate {
    struct mb_mat y, by;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        mb_row_f32(y, r)[c] = mb_row_f32(y, r)[c] * mb_sigmoidf_inl(*mb_row_f32(by, r));
    }
};

struct gate_by {
    struct mb_mat out, g, x;
    __device__ void operator()(int64_t r, int64_t c) const
    {
        mb_put(out, r, c, mb_sigmoidf_inl(mb_row_f32(g, r)[c]) * mb_row_f32(x, r)[c]);
    }
};

} // namespace

extern "C" cudaError_t mb_k_convert(cudaStream_t s, struct mb_mat dst, struct mb_mat src)
{
    return mb_each(s, dst.rows, dst.cols, convert{dst, src});
}

extern "C" cudaError_t mb_k_embed(cudaStream_t s, struct mb_mat x, struct mb_mat table, struct mb_mat ids, float by,
                                  struct mb_flag flag)
{
    return mb_each(s, x.rows, x.cols, embed{x, table, ids, by, flag});
}

extern "C" cudaError_t mb_k_gather(cudaStream_t s, struct mb_mat out, struct mb_mat src, struct mb_mat idx,
                                   struct mb_flag flag)
{
    switch (out.dtype) {
    case MB_U8:
        return mb_each(s, out.rows, out.cols, gather<uint8_t>{out, src, idx, flag});
    case MB_BF16:
        return mb_each(s, out.rows, out.cols, gather<uint16_t>{out, src, idx, flag});
    default:
        return mb_each(s, out.rows, out.cols, gather<uint32_t>{out, src, idx, flag});
    }
}

extern "C" cudaError_t mb_k_add(cudaStream_t s, struct mb_mat out, struct mb_mat a, struct mb_mat b)
{
    return mb_each(s, out.rows, out.cols, add{out, a, b});
}

extern "C" cudaError_t mb_k_scale(cudaStream_t s, struct mb_mat x, float c)
{
    return mb_each(s, x.rows, x.cols, scale{x, c});
}

extern "C" cudaError_t mb_k_clamp(cudaStream_t s, struct mb_mat x, float c)
{
    return mb_each(s, x.rows, x.cols, clamp{x, c});
}

extern "C" cudaError_t mb_k_scale_rows(cudaStream_t s, struct mb_mat x, struct mb_mat c, struct mb_mat at,
                                       struct mb_flag flag)
{
    return mb_each(s, x.rows, x.cols, scale_rows{x, c, at, flag});
}

extern "C" cudaError_t mb_k_rope(cudaStream_t s, struct mb_mat out, struct mb_mat x, struct mb_mat cos, struct mb_mat sin,
                                 struct mb_mat pos, int32_t heads, int32_t first, int32_t rot, int32_t style,
                                 struct mb_flag flag)
{
    int32_t d = static_cast<int32_t>(x.cols / heads);

    return mb_each(s, x.rows, x.cols, rope{out, x, cos, sin, pos, d, first, rot, style, flag});
}

extern "C" cudaError_t mb_k_act(cudaStream_t s, struct mb_mat out, struct mb_mat gu, int32_t kind, float limit)
{
    switch (kind) {
    case MB_ACT_SILU:
        return mb_each(s, out.rows, out.cols, act<MB_ACT_SILU>{out, gu, limit});
    case MB_ACT_GELU_ERF:
        return mb_each(s, out.rows, out.cols, act<MB_ACT_GELU_ERF>{out, gu, limit});
    case MB_ACT_GELU_TANH:
        return mb_each(s, out.rows, out.cols, act<MB_ACT_GELU_TANH>{out, gu, limit});
    default:
        return mb_each(s, out.rows, out.cols, act<MB_ACT_SWIGLU_CLAMPED>{out, gu, limit});
    }
}

extern "C" cudaError_t mb_k_gate(cudaStream_t s, struct mb_mat y, struct mb_mat by)
{
    return mb_each(s, y.rows, y.cols, gate{y, by});
}

extern "C" cudaError_t mb_k_gate_by(cudaStream_t s, struct mb_mat out, struct mb_mat g, struct mb_mat x)
{
    return mb_each(s, out.rows, out.cols, gate_by{out, g, x});
}
