/* The choice of keys of sparse attention. */
#include "cuda/cuda_kv.h"

enum { SCORE_ROOM = 64 << 20 }; /* bytes of scores at a time, if a row does not need more */

static enum mb_status check_choose(const char *op, struct mb_view out, const struct mb_choose_args *a)
{
    const struct mb_kv_desc *d = &a->kv->desc;

    if (a->topk < 1 || a->heads < 1 || d->heads != 1)
        return mb_error(MB_BUG, "%s: %d of the keys of %d heads", op, a->topk, d->heads);
    MB_TRY(mb_want_float(op, "q", a->q, -1, (int64_t)a->heads * d->d));
    MB_TRY(mb_want(op, "w", a->w, a->q.rows, a->heads, MB_F32));
    MB_TRY(mb_want(op, "pos", a->pos, a->q.rows, 1, MB_I32));
    MB_TRY(mb_want(op, "seq", a->seq, a->q.rows, 1, MB_I32));
    MB_TRY(mb_want(op, "page_table", a->page_table, -1, -1, MB_I32));
    return mb_want(op, "out", out, a->q.rows, 1 + (int64_t)a->topk, MB_I32);
}

static struct mb_choose_task task_of(struct mb_stream *s, struct mb_view out, const struct mb_choose_args *a,
                                     enum mb_cuda_op op)
{
    return (struct mb_choose_task){.out = mb_cuda_mat(out),
                                   .q = mb_cuda_mat(a->q),
                                   .w = mb_cuda_mat(a->w),
                                   .pos = mb_cuda_mat(a->pos),
                                   .seq = mb_cuda_mat(a->seq),
                                   .page_table = mb_cuda_mat(a->page_table),
                                   .kv = a->kv->pages,
                                   .heads = a->heads,
                                   .topk = a->topk,
                                   .scale = a->scale,
                                   .segment = a->segment,
                                   .keys = a->page_table.cols * MB_KV_BLOCK,
                                   .flag = mb_cuda_flag(s, op)};
}

/* As many rows at a time as there is room for their scores. */
static enum mb_status run(struct mb_stream *s, const char *op, struct mb_choose_task *t)
{
    int64_t rows = SCORE_ROOM / (t->keys * (int64_t)sizeof(float) + 1);
    void *room;

    if (mb_k_choose_shared(t) > s->dev->shared)
        return mb_error(MB_LAYOUT,
                        "%d index heads of %d do not fit into the GPU's shared memory; use --backend cpu",
                        t->heads, t->kv.d);
    rows = rows < 1 ? 1 : rows > t->q.rows ? t->q.rows : rows;
    MB_TRY(mb_cuda_scratch(s, (uint64_t)(rows * t->keys + 1) * sizeof(float), &room));
    t->score = room;
    for (t->row0 = 0; t->row0 < t->q.rows; t->row0 += rows) {
        t->rows = t->q.rows - t->row0 < rows ? t->q.rows - t->row0 : rows;
        MB_TRY(mb_cuda_call(op, mb_k_choose(s->s, t)));
    }
    return MB_OK;
}

enum mb_status mb_cuda_choose_keys(struct mb_stream *s, struct mb_view out, const struct mb_choose_args *a)
{
    MB_TRY(check_choose("choose_keys", out, a));
    if (a->q.rows == 0)
        return MB_OK;
    struct mb_choose_task t = task_of(s, out, a, MB_CUDA_CHOOSE_KEYS);
    return run(s, "choose_keys", &t);
}

enum mb_status mb_cuda_choose_parts(struct mb_stream *s, struct mb_view out, struct mb_view score,
                                    const struct mb_choose_args *a, struct mb_view item_off,
                                    struct mb_view item_seg)
{
    MB_TRY(check_choose("choose_parts", out, a));
    if (a->segment < MB_KV_BLOCK || a->segment % MB_KV_BLOCK != 0)
        return mb_error(MB_BUG, "choose_parts: segments of %d positions", a->segment);
    MB_TRY(mb_want("choose_parts", "score", score, a->q.rows, a->topk, MB_F32));
    MB_TRY(mb_want("choose_parts", "item_off", item_off, a->q.rows + 1, 1, MB_I32));
    if (mb_has_view(item_seg)) /* there may be no items */
        MB_TRY(mb_want("choose_parts", "item_seg", item_seg, -1, 1, MB_I32));
    if (a->q.rows == 0)
        return MB_OK;
    struct mb_choose_task t = task_of(s, out, a, MB_CUDA_CHOOSE_KEYS);
    t.scores = mb_cuda_mat(score);
    t.item_off = mb_cuda_mat(item_off);
    t.item_seg = mb_cuda_mat(item_seg);
    return run(s, "choose_parts", &t);
}

enum mb_status mb_cuda_choose_join(struct mb_stream *s, struct mb_view out, const struct mb_choose_lists *a)
{
    void *room;

    MB_TRY(mb_want("choose_join", "out", out, -1, -1, MB_I32));
    if (out.cols < 2)
        return mb_error(MB_BUG, "choose_join: %lld keys", (long long)out.cols - 1);
    MB_TRY(mb_want("choose_join", "pos", a->pos, out.rows, 1, MB_I32));
    MB_TRY(mb_want("choose_join", "item_off", a->item_off, out.rows + 1, 1, MB_I32));
    if (mb_has_view(a->key)) { /* there may be no items */
        MB_TRY(mb_want("choose_join", "key", a->key, -1, 1, MB_I32));
        MB_TRY(mb_want("choose_join", "score", a->score, a->key.rows, 1, MB_F32));
    }
    if (out.rows == 0)
        return MB_OK;
    MB_TRY(mb_cuda_scratch(s, (uint64_t)(out.rows * (out.cols - 1)) * sizeof(int32_t), &room));
    struct mb_choose_join_task t = {.out = mb_cuda_mat(out),
                                    .pos = mb_cuda_mat(a->pos),
                                    .item_off = mb_cuda_mat(a->item_off),
                                    .key = mb_cuda_mat(a->key),
                                    .item_score = mb_cuda_mat(a->score),
                                    .list = room,
                                    .flag = mb_cuda_flag(s, MB_CUDA_CHOOSE_KEYS)};
    return mb_cuda_call("choose_join", mb_k_choose_join(s->s, &t));
}
