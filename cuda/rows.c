/* Checks and launches of the operations that work element by element. */
#include "cuda/cuda.h"

enum mb_status mb_cuda_embed(struct mb_stream *s, struct mb_view x, struct mb_view table, struct mb_view ids, float scale)
{
    MB_TRY(mb_want("embed", "x", x, -1, -1, MB_F32));
    MB_TRY(mb_want_float("embed", "table", table, -1, x.cols));
    MB_TRY(mb_want("embed", "ids", ids, x.rows, 1, MB_I32));
    if (x.rows > 0 && table.rows == 0)
        return mb_error(MB_BUG, "embed: a table without rows");
    return mb_cuda_call("embed", mb_k_embed(s->s, mb_cuda_mat(x), mb_cuda_mat(table), mb_cuda_mat(ids), scale,
                                            mb_cuda_flag(s, MB_CUDA_EMBED)));
}

enum mb_status mb_cuda_gather(struct mb_stream *s, struct mb_view out, struct mb_view src, struct mb_view idx)
{
    MB_TRY(mb_want("gather", "out", out, -1, -1, out.dtype));
    MB_TRY(mb_want("gather", "src", src, -1, out.cols, out.dtype));
    MB_TRY(mb_want("gather", "idx", idx, out.rows, 1, MB_I32));
    if (out.rows > 0 && src.rows == 0)
        return mb_error(MB_BUG, "gather: no row to take from");
    return mb_cuda_call("gather", mb_k_gather(s->s, mb_cuda_mat(out), mb_cuda_mat(src), mb_cuda_mat(idx),
                                              mb_cuda_flag(s, MB_CUDA_GATHER)));
}

enum mb_status mb_cuda_add(struct mb_stream *s, struct mb_view out, struct mb_view a, struct mb_view b)
{
    MB_TRY(mb_want("add", "out", out, -1, -1, MB_F32));
    MB_TRY(mb_want("add", "a", a, out.rows, out.cols, MB_F32));
    MB_TRY(mb_want("add", "b", b, b.rows == 1 ? 1 : out.rows, out.cols, MB_F32));
    if (b.rows == 1)
        b.stride = 0; /* the same row every time */
    return mb_cuda_call("add", mb_k_add(s->s, mb_cuda_mat(out), mb_cuda_mat(a), mb_cuda_mat(b)));
}

enum mb_status mb_cuda_scale(struct mb_stream *s, struct mb_view x, float c)
{
    MB_TRY(mb_want("scale", "x", x, -1, -1, MB_F32));
    return mb_cuda_call("scale", mb_k_scale(s->s, mb_cuda_mat(x), c));
}

enum mb_status mb_cuda_clamp(struct mb_stream *s, struct mb_view x, float c)
{
    MB_TRY(mb_want("clamp", "x", x, -1, -1, MB_F32));
    return mb_cuda_call("clamp", mb_k_clamp(s->s, mb_cuda_mat(x), c));
}

enum mb_status mb_cuda_scale_rows(struct mb_stream *s, struct mb_view x, struct mb_view c, struct mb_view at)
{
    MB_TRY(mb_want("scale_rows", "x", x, -1, -1, MB_F32));
    MB_TRY(mb_want("scale_rows", "c", c, -1, 1, MB_F32));
    MB_TRY(mb_want("scale_rows", "at", at, x.rows, 1, MB_I32));
    if (x.rows > 0 && c.rows == 0)
        return mb_error(MB_BUG, "scale_rows: no factors");
    return mb_cuda_call("scale_rows", mb_k_scale_rows(s->s, mb_cuda_mat(x), mb_cuda_mat(c), mb_cuda_mat(at),
                                                      mb_cuda_flag(s, MB_CUDA_SCALE_ROWS)));
}

enum mb_status mb_cuda_rope(struct mb_stream *s, struct mb_view out, struct mb_view x, struct mb_view cos,
                            struct mb_view sin, struct mb_view pos, int32_t heads, int32_t first, int32_t rot,
                            enum mb_rope_style style)
{
    MB_TRY(mb_want("rope", "x", x, -1, -1, MB_F32));
    MB_TRY(mb_want_float("rope", "out", out, x.rows, x.cols));
    if (heads < 1 || x.cols % heads != 0 || x.cols > INT32_MAX || rot < 0 || rot % 2 != 0 || first < 0 || rot > x.cols / heads ||
        first > x.cols / heads - rot)
        return mb_error(MB_BUG, "rope: %lld columns in %d heads, %d of each rotated from %d on", (long long)x.cols, heads, rot,
                        first);
    MB_TRY(mb_want("rope", "cos", cos, -1, rot / 2, MB_F32));
    MB_TRY(mb_want("rope", "sin", sin, cos.rows, rot / 2, MB_F32));
    MB_TRY(mb_want("rope", "pos", pos, x.rows, 1, MB_I32));
    if (x.rows > 0 && cos.rows == 0)
        return mb_error(MB_BUG, "rope: tables without positions");
    return mb_cuda_call("rope", mb_k_rope(s->s, mb_cuda_mat(out), mb_cuda_mat(x), mb_cuda_mat(cos), mb_cuda_mat(sin),
                                          mb_cuda_mat(pos), heads, first, rot, (int32_t)style, mb_cuda_flag(s, MB_CUDA_ROPE)));
}

enum mb_status mb_cuda_act(struct mb_stream *s, struct mb_view out, struct mb_view gu, enum mb_act_kind kind, float limit)
{
    MB_TRY(mb_want_float("act", "out", out, -1, -1));
    MB_TRY(mb_want("act", "gu", gu, out.rows, 2 * out.cols, MB_F32));
    if ((unsigned)kind > MB_ACT_SWIGLU_CLAMPED)
        return mb_error(MB_BUG, "act: kind %d does not exist", (int)kind);
    return mb_cuda_call("act", mb_k_act(s->s, mb_cuda_mat(out), mb_cuda_mat(gu), (int32_t)kind, limit));
}

enum mb_status mb_cuda_gate(struct mb_stream *s, struct mb_view y, struct mb_view gate)
{
    MB_TRY(mb_want("gate", "y", y, -1, -1, MB_F32));
    MB_TRY(mb_want("gate", "gate", gate, y.rows, 1, MB_F32));
    return mb_cuda_call("gate", mb_k_gate(s->s, mb_cuda_mat(y), mb_cuda_mat(gate)));
}

enum mb_status mb_cuda_gate_by(struct mb_stream *s, struct mb_view out, struct mb_view g, struct mb_view x)
{
    MB_TRY(mb_want_float("gate_by", "out", out, -1, -1));
    MB_TRY(mb_want("gate_by", "g", g, out.rows, out.cols, MB_F32));
    MB_TRY(mb_want("gate_by", "x", x, out.rows, out.cols, MB_F32));
    return mb_cuda_call("gate_by", mb_k_gate_by(s->s, mb_cuda_mat(out), mb_cuda_mat(g), mb_cuda_mat(x)));
}
