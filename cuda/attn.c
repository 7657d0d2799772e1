/* Attention, its parts and their joining, and the choice of keys: how a call is cut into blocks of threads,
 * and its memory. No result depends on the cut: heads and rows are independent, and a chunk of segments is a
 * node of the tree. */
#include <string.h>
#include "cuda/cuda_kv.h"

enum {
    FULL = 4,            /* blocks that a multiprocessor should get of a call */
    MOST_BLOCKS = 8,     /* and as many at a time at most: each has room for open nodes */
    CHUNKS = 32,         /* of a row's segments at most */
    OPEN_ROOM = 64 << 20 /* bytes of open nodes, if one block for each multiprocessor does not need more */
};

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* ---------------------------------------------------------------- checks */
static enum mb_status check_args(const char *op, const struct mb_attn_args *a)
{
    const struct mb_kv_desc *d = &a->kv->desc;

    if (a->heads < 1 || a->heads % d->heads != 0 || a->segment < MB_KV_BLOCK ||
        a->segment % MB_KV_BLOCK != 0 || a->window < 0)
        return mb_error(MB_BUG, "%s: %d heads on %d KV heads, segment %d, window %d do not fit", op, a->heads,
                        d->heads, a->segment, a->window);
    MB_TRY(mb_want_float(op, "q", a->q, -1, (int64_t)a->heads * d->d));
    MB_TRY(mb_want(op, "pos", a->pos, a->q.rows, 1, MB_I32));
    MB_TRY(mb_want(op, "seq", a->seq, a->q.rows, 1, MB_I32));
    return mb_want(op, "page_table", a->page_table, -1, -1, MB_I32);
}

static enum mb_status check_attention(struct mb_view out, const struct mb_attn_args *a)
{
    MB_TRY(check_args("attention", a));
    MB_TRY(mb_want_float("attention", "out", out, a->q.rows, (int64_t)a->heads * a->kv->desc.dv));
    if (mb_has_view(a->sinks))
        MB_TRY(mb_want("attention", "sinks", a->sinks, 1, a->heads, MB_F32));
    if (mb_has_view(a->chosen))
        MB_TRY(mb_want("attention", "chosen", a->chosen, a->q.rows, -1, MB_I32));
    if (mb_has_view(a->chosen) && a->softcap != 0.0f)
        return mb_error(MB_BUG, "attention: a choice of keys with capped scores");
    return MB_OK;
}

/* ---------------------------------------------------------------- the cut */
static struct mb_attn_task task_of(struct mb_stream *s, const struct mb_attn_args *a, enum mb_cuda_op op)
{
    struct mb_attn_task t = {.q = mb_cuda_mat(a->q),
                             .pos = mb_cuda_mat(a->pos),
                             .seq = mb_cuda_mat(a->seq),
                             .page_table = mb_cuda_mat(a->page_table),
                             .kv = a->kv->pages,
                             .heads = a->heads,
                             .group = a->heads / a->kv->desc.heads,
                             .tile = 1,
                             .window = a->window,
                             .chunked = a->chunked,
                             .per = a->segment / MB_KV_BLOCK,
                             .chunks = 1,
                             .scale = a->scale,
                             .softcap = a->softcap,
                             .levels = 1,
                             .flag = mb_cuda_flag(s, op)};

    t.parts = (int32_t)ceil_div(t.group, MB_ATTN_MOST);
    t.part = (int32_t)ceil_div(t.group, t.parts);
    return t;
}

static bool fits(const struct mb_device *dev, const struct mb_attn_task *t, int staged)
{
    return mb_k_attention_shared(t, staged) + MB_ATTN_STATIC <= dev->shared;
}

/* Smaller pieces of a group until a block's shared memory is enough; pages are read in place if they must. */
static enum mb_status fit(const struct mb_device *dev, struct mb_attn_task *t, int *staged)
{
    *staged = 1;
    while (!fits(dev, t, *staged)) {
        if (t->tile > 1)
            t->tile--;
        else if (t->part > 1) {
            t->parts++;
            t->part = (int32_t)ceil_div(t->group, t->parts);
        } else if (*staged && t->kv.dtype != MB_U8)
            *staged = 0;
        else
            return mb_error(MB_LAYOUT,
                            "heads of %d and %d do not fit into the GPU's shared memory; use --backend cpu",
                            t->kv.d, t->kv.dv);
    }
    return MB_OK;
}

/* Blocks of threads that a call is cut into, but for chunks. */
static int64_t pieces(const struct mb_attn_task *t)
{
    return ceil_div(t->q.rows, t->tile) * t->kv.heads * t->parts;
}

/* Rows that share what is read of pages, as many as leave enough blocks for all multiprocessors; or the other
 * way round, chunks of segments where rows are few. */
static void cut(const struct mb_device *dev, struct mb_attn_task *t, bool alone)
{
    int64_t enough = (int64_t)FULL * dev->processors, segments = ceil_div(t->page_table.cols, t->per);

    while (!alone && (t->tile + 1) * t->part <= MB_ATTN_MOST && t->q.rows > t->tile) {
        t->tile++;
        if (pieces(t) < enough) {
            t->tile--;
            break;
        }
    }
    while (((int64_t)1 << t->chunk_shift) < segments)
        t->chunk_shift++;
    while (t->chunk_shift > 0 && pieces(t) * ceil_div(segments, (int64_t)1 << t->chunk_shift) < enough &&
           ceil_div(segments, (int64_t)1 << (t->chunk_shift - 1)) <= CHUNKS)
        t->chunk_shift--;
    t->chunks = segments > 0 ? (int32_t)ceil_div(segments, (int64_t)1 << t->chunk_shift) : 1;
    t->levels = t->chunk_shift + 1;
}

/* Blocks of threads at a time, and the bytes of open nodes that they need. */
static int64_t blocks_of(const struct mb_device *dev, const struct mb_attn_task *t, uint64_t *open)
{
    int64_t one = (int64_t)t->levels * t->tile * t->part * t->kv.dv * (int64_t)sizeof(float);
    int64_t blocks = (int64_t)MOST_BLOCKS * dev->processors, most = OPEN_ROOM / one;

    *open = 0;
    if (t->levels == 1)
        return blocks;
    most = most > dev->processors ? most : dev->processors;
    blocks = blocks < most ? blocks : most;
    blocks = pieces(t) * t->chunks < blocks ? pieces(t) * t->chunks : blocks;
    *open = (uint64_t)(blocks * one + 255) / 256 * 256;
    return blocks;
}

/* ---------------------------------------------------------------- attention */
static enum mb_status join_chunks(struct mb_stream *s, struct mb_mat out, const struct mb_attn_task *t,
                                  struct mb_mat sinks)
{
    struct mb_join_task j = {.out = out,
                             .state = t->out,
                             .sinks = sinks,
                             .heads = t->heads,
                             .dv = t->kv.dv,
                             .finish = 1,
                             .chunks = t->chunks,
                             .flag = t->flag};
    return mb_cuda_call("attention", mb_k_attention_join(s->s, &j));
}

enum mb_status mb_cuda_attention(struct mb_stream *s, struct mb_view out, const struct mb_attn_args *a)
{
    uint64_t open = 0;
    void *room = NULL;
    int staged;

    MB_TRY(check_attention(out, a));
    if (a->q.rows == 0)
        return MB_OK;
    struct mb_attn_task t = task_of(s, a, MB_CUDA_ATTENTION);
    t.sinks = mb_cuda_mat(a->sinks);
    t.chosen = mb_cuda_mat(a->chosen);
    t.out = mb_cuda_mat(out);
    cut(s->dev, &t, mb_has_view(a->chosen));
    MB_TRY(fit(s->dev, &t, &staged));
    if (t.levels > MB_ATTN_LEVELS)
        return mb_error(MB_BUG, "attention: %d levels of segments", t.levels);
    int64_t blocks = blocks_of(s->dev, &t, &open), width = t.kv.dv + 2;
    uint64_t states = t.chunks > 1 ? (uint64_t)(t.q.rows * t.heads * t.chunks * width) * sizeof(float) : 0;
    if (open + states > 0)
        MB_TRY(mb_cuda_scratch(s, open + states, &room));
    t.open = room;
    if (t.chunks > 1)
        t.out = (struct mb_mat){(unsigned char *)room + open, width, t.q.rows * t.heads * t.chunks, width,
                                MB_F32};
    MB_TRY(mb_cuda_call("attention", mb_k_attention(s->s, &t, staged, blocks)));
    return t.chunks > 1 ? join_chunks(s, mb_cuda_mat(out), &t, t.sinks) : MB_OK;
}

enum mb_status mb_cuda_attention_parts(struct mb_stream *s, struct mb_view state,
                                       const struct mb_attn_args *a, struct mb_view item_off,
                                       struct mb_view item_seg)
{
    uint64_t open;
    int staged;

    MB_TRY(check_args("attention_parts", a));
    MB_TRY(mb_want("attention_parts", "state", state, -1, (int64_t)a->heads * (a->kv->desc.dv + 2),
                        MB_F32));
    if (a->q.rows == 0 || state.rows == 0)
        return MB_OK;
    MB_TRY(mb_want("attention_parts", "item_off", item_off, a->q.rows + 1, 1, MB_I32));
    MB_TRY(mb_want("attention_parts", "item_seg", item_seg, state.rows, 1, MB_I32));
    if (mb_has_view(a->chosen))
        MB_TRY(mb_want("attention_parts", "chosen", a->chosen, a->q.rows, -1, MB_I32));
    struct mb_attn_task t = task_of(s, a, MB_CUDA_ATTENTION_PARTS);
    t.chosen = mb_cuda_mat(a->chosen);
    t.out = mb_cuda_mat(state);
    t.item_off = mb_cuda_mat(item_off);
    t.item_seg = mb_cuda_mat(item_seg);
    MB_TRY(fit(s->dev, &t, &staged));
    return mb_cuda_call("attention_parts", mb_k_attention(s->s, &t, staged, blocks_of(s->dev, &t, &open)));
}

/* ---------------------------------------------------------------- joining */
enum mb_status mb_cuda_attention_join(struct mb_stream *s, struct mb_view out, struct mb_view state,
                                      const struct mb_join_args *a)
{
    int64_t width = (int64_t)a->heads * (a->dv + 2);

    if (a->heads < 1 || a->dv < 1)
        return mb_error(MB_BUG, "attention_join: %d heads of %d", a->heads, a->dv);
    MB_TRY(mb_want("attention_join", "state", state, -1, width, MB_F32));
    if (a->finish)
        MB_TRY(mb_want_float("attention_join", "out", out, -1, (int64_t)a->heads * a->dv));
    else
        MB_TRY(mb_want("attention_join", "out", out, -1, width, MB_F32));
    if (out.rows == 0)
        return MB_OK;
    MB_TRY(mb_want("attention_join", "item_off", a->item_off, out.rows + 1, 1, MB_I32));
    MB_TRY(mb_want("attention_join", "src", a->src, -1, 1, MB_I32));
    MB_TRY(mb_want("attention_join", "pos", a->pos, a->src.rows, 1, MB_I32));
    struct mb_join_task t = {.out = mb_cuda_mat(out),
                             .state = mb_cuda_mat(state),
                             .item_off = mb_cuda_mat(a->item_off),
                             .src = mb_cuda_mat(a->src),
                             .pos = mb_cuda_mat(a->pos),
                             .heads = a->heads,
                             .dv = a->dv,
                             .finish = a->finish,
                             .flag = mb_cuda_flag(s, MB_CUDA_ATTENTION_JOIN)};
    if (a->finish && mb_has_view(a->sinks)) {
        MB_TRY(mb_want("attention_join", "sinks", a->sinks, 1, a->heads, MB_F32));
        t.sinks = mb_cuda_mat(a->sinks);
    }
    return mb_cuda_call("attention_join", mb_k_attention_join(s->s, &t));
}
