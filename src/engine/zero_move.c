/* Experts in transit between ranks: in rounds, an expert at most each way, a piece at a time. */
#include "base/log.h"
#include "engine/zero_impl.h"

/* One piece each way: of z->piece.out to the member that `go` names, and from that of `come` into
 * z->piece.in. NULL: nothing. */
static enum mb_status swap(struct mb_zero *z, const struct mb_fetch_item *go,
                           const struct mb_fetch_item *come, uint64_t bytes)
{
    struct mb_where where = {"experts between ranks", z->step, -1};

    if (go != NULL)
        z->send[go->to] = (struct mb_piece){z->piece.out, bytes};
    if (come != NULL)
        z->recv[come->from] = (struct mb_piece){z->piece.in, bytes};
    enum mb_status st = mb_comm_swap_some(z->c->t.g.xchg, z->send, z->recv, &where);
    if (go != NULL)
        z->send[go->to].n = 0;
    if (come != NULL)
        z->recv[come->from].n = 0;
    return st;
}

/* A weight of an expert, in pieces: rows of out go, rows of in come. It is made of matrices of `part` rows; a piece has rows
 * of one. A failure here does not keep peers waiting. */
static enum mb_status move_weight(struct mb_zero *z, const struct mb_fetch_item *go, struct mb_weight *out,
                                  const struct mb_fetch_item *come, struct mb_weight *in, int64_t n,
                                  int64_t part, int64_t k, const struct mb_form *form)
{
    const struct mb_ops *ops = z->c->o.ops;
    int64_t row = mb_zero_rows_bytes(z, form, 1, k), step = MB_LOAD_CHUNK / row > 0 ? MB_LOAD_CHUNK / row : 1;
    enum mb_status st = MB_OK;

    for (int64_t n0 = 0, rows; n0 < n; n0 += rows) {
        int64_t left = part - n0 % part;
        rows = left < step ? left : step;
        if (go != NULL && st == MB_OK)
            st = ops->weight_get(out, n0, rows, z->piece.out);
        MB_TRY(swap(z, go, come, (uint64_t)mb_zero_rows_bytes(z, form, rows, k)));
        struct mb_host_matrix m = {.base = z->piece.in,
                                   .storage = z->c->o.path == MB_F32 ? MB_STORE_F32 : MB_STORE_BF16,
                                   .n = rows,
                                   .k = k,
                                   .stride_n = k,
                                   .stride_k = 1};
        if (form->code != MB_CODE_NONE)
            m = mb_host_stored(form, rows, k, z->piece.in);
        if (come != NULL && st == MB_OK)
            st = ops->weight_put(in, n0, 0, &m);
    }
    return st;
}

/* A bias: both sides have it, or neither. */
static enum mb_status move_bias(struct mb_zero *z, const struct mb_fetch_item *go, const struct mb_vec *out,
                                const struct mb_fetch_item *come, const struct mb_vec *in)
{
    int64_t cols = go != NULL ? out->view.cols : in->view.cols;
    enum mb_status st = go != NULL ? z->c->o.ops->copy_out(z->c->stream, z->piece.out, out->view) : MB_OK;

    MB_TRY(swap(z, go, come, (uint64_t)(cols * 4)));
    return come != NULL && st == MB_OK ? z->c->o.ops->copy_in(z->c->stream, in->view, z->piece.in) : st;
}

/* What this rank sends and gets in one round. */
static enum mb_status move_expert(struct mb_zero *z, int32_t j, const struct mb_fetch_item *go,
                                  const struct mb_fetch_item *come)
{
    static const struct mb_ffn none;
    const struct mb_ffn *a = &none, *b = &none;
    int32_t slot = go != NULL ? mb_cache_at(&z->cache, j, go->id) : -1,
            to = come != NULL ? mb_cache_claim(&z->cache, j, come->id, z->now) : -1;

    if ((go != NULL && slot < 0) ||
        (come != NULL && to < 0)) /* the plan and the cache do not agree: peers would wait */
        mb_comm_end(z->c->o.comm,
                    mb_error(MB_BUG,
                             "exchange %d: an expert to send is not here, or there is no room for one",
                             (int)j));
    if (go != NULL)
        a = &z->cache.slot[slot].f;
    if (come != NULL)
        b = &z->cache.slot[to].f;
    const struct mb_ffn *any = go != NULL ? a : b;
    int64_t H = z->c->o.model->hidden, I = z->c->o.model->expert_ffn;
    const struct mb_form *form = z->c->o.model->expert_form;
    enum mb_status st = move_weight(z, go, a->gate_up, come, b->gate_up, 2 * I, I, H, &form[0]);
    enum mb_status down = move_weight(z, go, a->down.w[0], come, b->down.w[0], H, H, I, &form[1]);
    st = st == MB_OK ? down : st;
    if (any->gate_up_b.buf != NULL) {
        enum mb_status bias = move_bias(z, go, &a->gate_up_b, come, &b->gate_up_b);
        st = st == MB_OK ? bias : st;
    }
    if (any->down_b.buf != NULL) {
        enum mb_status bias = move_bias(z, go, &a->down_b, come, &b->down_b);
        st = st == MB_OK ? bias : st;
    }
    if (come == NULL)
        return st;
    if (st != MB_OK)
        mb_cache_drop(&z->cache, to);
    mb_zero_counts_of(z, j, come->id)[MB_ZERO_PEER]++;
    z->tally->counters.fetch.peer++;
    z->tally->counters.fetch.bytes +=
        mb_zero_rows_bytes(z, &form[0], 2 * I, H) + mb_zero_rows_bytes(z, &form[1], H, I);
    return st;
}

enum mb_status mb_zero_transfers(struct mb_zero *z, int32_t j)
{
    const struct mb_fetch *f = z->fetch;
    int32_t me = mb_xchg_index(z->xchg);
    enum mb_status st = MB_OK;

    mb_comm_begin(z->c->t.g.xchg); /* once, whoever takes part */
    for (int32_t round = 0; round < f->rounds; round++) {
        const struct mb_fetch_item *go = NULL, *come = NULL;
        for (int32_t i = 0; i < f->n; i++) {
            const struct mb_fetch_item *x = &f->item[i];
            if (x->from < 0 || x->round != round)
                continue;
            go = x->from == me ? x : go;
            come = x->to == me ? x : come;
        }
        if (go == NULL && come == NULL)
            continue;
        enum mb_status moved = move_expert(z, j, go, come);
        st = st == MB_OK ? moved : st;
    }
    return st;
}
