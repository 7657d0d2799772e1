/* Memory of a step, predicted from shapes: activations, exchange, staging. */
#include "plan/budget.h"

#define LOGIT_ROWS 256
#define LOGIT_BYTES ((int64_t)64 << 20) /* of logits at a time */
#define CHUNK_BYTES ((int64_t)16 << 20) /* of a weight on its way */
#define TOP 20                          /* most log-probabilities a row can ask for */
#define ROWS_GROWN 64                   /* first size of the buffers of expert rows, doubled as needed */

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* (row, expert) pairs a rank computes in one step. Balanced routing gives rows * k; twice that is planned
 * for, never more than there can be. */
static int64_t expert_rows(const struct mb_model *m, const struct mb_plan *p, int32_t owned)
{
    int64_t worst = mb_sat_mul(mb_sat_mul(p->layout.world, p->max_batch_rows), min64(m->router.k, owned));
    return min64(worst, mb_sat_mul(2 * (int64_t)p->max_batch_rows, m->router.k));
}

/* Rows whose logits are held at a time. */
static int64_t logit_rows(const struct mb_model *m, const struct mb_plan *p)
{
    int64_t n = min64(p->max_batch_rows, LOGIT_ROWS);
    while (n > 1 && mb_sat_mul(n, 4 * (int64_t)m->vocab) > LOGIT_BYTES)
        n /= 2;
    return n;
}

static int64_t mla_row(const struct mb_model *m, int64_t ts)
{
    int64_t latent = (int64_t)m->kv_lora + m->rope_mla;
    return MB_SUM(m->q_lora * (4 + ts), mb_sat_mul(mb_sat_mul(m->heads, latent + m->kv_lora), ts),
                  latent * 4);
}

/* One row of a step. */
static int64_t row_bytes(const struct mb_model *m, const struct mb_plan_options *o)
{
    int64_t ts = mb_dtype_size(o->path), h = m->hidden, ffn = max64(m->ffn, m->shared_ffn);
    int64_t q = mb_sat_mul(m->heads, m->head_dim), v = mb_sat_mul(m->heads, m->v_dim);
    int64_t kv = m->mla ? 0 : mb_sat_mul(m->kv_heads, (int64_t)m->head_dim + m->v_dim);
    int64_t moe_layers = (int64_t)m->moe_layers + o->mtp;

    return MB_SUM(h * (16 + ts), mb_sat_mul(4, mb_sat_add(q, kv)), mb_sat_mul(ts, mb_sat_add(q, v)),
                  ffn * (8 + ts), m->mla ? mla_row(m, ts) : 0, (int64_t)m->router.experts * 4,
                  (int64_t)m->router.k * 8, o->mtp ? h * (4 + 2 * ts) : 0,
                  mb_sat_mul(moe_layers * 12, m->router.k), 64);
}

static int64_t head_bytes(const struct mb_model *m, const struct mb_plan *p, int64_t ts)
{
    return mb_sat_mul(logit_rows(m, p),
                      MB_SUM((int64_t)m->hidden * (4 + ts), (int64_t)m->vocab * 4, 8 * TOP + 96));
}

static int64_t rope_bytes(const struct mb_model *m, const struct mb_plan *p)
{
    int64_t tables = m->rope_switch > 0 ? 2 : 1;
    return mb_sat_mul(mb_sat_mul(p->max_len + 1, m->rope_dim / 2), 8 * tables);
}

int64_t mb_budget_activations(const struct mb_model *m, const struct mb_plan *p,
                              const struct mb_plan_options *o, int32_t owned)
{
    int64_t ts = mb_dtype_size(o->path), pairs = ROWS_GROWN, want = expert_rows(m, p, owned);
    int64_t pair = MB_SUM((int64_t)m->expert_ffn * (8 + ts), (int64_t)m->hidden * ts);

    while (pairs < want)
        pairs = mb_sat_mul(pairs, 2);
    return MB_SUM(mb_sat_mul(row_bytes(m, o), p->max_batch_rows), head_bytes(m, p, ts), rope_bytes(m, p),
                  mb_sat_mul(4 * (int64_t)p->max_num_seqs, p->max_pages_per_seq),
                  m->router.experts > 0 ? mb_sat_mul(pair, pairs) : 0,
                  mb_budget_adapter_rows(m, p, o, pairs));
}

/* Bytes that a rank keeps ready for the first messages of its peers, both directions. */
static int64_t first_messages(const struct mb_model *m, const struct mb_plan *p,
                              const struct mb_plan_options *o, int64_t groups)
{
    int64_t most = mb_sat_mul(mb_sat_mul(p->max_batch_rows, 4 * (int64_t)m->hidden), max64(m->router.k, 1));
    int64_t eager = o->eager_bytes > INT64_MAX ? INT64_MAX : (int64_t)o->eager_bytes;

    return mb_sat_mul(2 * (groups - 1), mb_sat_add(MB_XCHG_HEADER, min64(most, eager)));
}

/* Rows sent and rows received (once each), values on the way back (f32 at most, both directions), the sorted
 * rows of the own experts, the first messages, the share of the node's shared segment. */
int64_t mb_budget_exchange(const struct mb_model *m, const struct mb_plan *p, const struct mb_plan_options *o,
                           const struct mb_budget_rank *r)
{
    int64_t groups = p->alltoall == MB_A2A_HIER ? p->nodes : p->layout.world, ts = mb_dtype_size(o->path);
    int64_t firsts = first_messages(m, p, o, groups);

    if (m->router.experts == 0)
        return firsts;
    int64_t pairs = expert_rows(m, p, r->owned),
            there = mb_plan_dispatch_row_bytes(m->router.k, m->hidden, o->path, mb_budget_tagged(o));
    int64_t copies = mb_sat_mul(p->max_batch_rows, min64(m->router.k, groups)), back = 4 * (int64_t)m->hidden;
    int64_t share = o->shm_bytes > INT64_MAX ? INT64_MAX : (int64_t)o->shm_bytes / r->node_ranks;
    bool shared = p->alltoall == MB_A2A_HIER && r->node_ranks > 1;

    return MB_SUM(firsts, mb_sat_mul(2 * copies, mb_sat_add(there, back)),
                  mb_sat_mul(pairs, (int64_t)m->hidden * ts + 64), shared ? share : 0);
}

/* While weights are read: the reader's window, a chunk, its f32 form. While steps run (not at the same time):
 * host rows. */
int64_t mb_budget_staging(const struct mb_model *m, const struct mb_plan *p, const struct mb_plan_options *o)
{
    int64_t largest =
        max64(mb_sat_mul(m->vocab, m->hidden), mb_sat_mul(2 * (int64_t)m->expert_ffn, m->hidden));
    int64_t chunk = min64(mb_sat_mul(4, largest), CHUNK_BYTES);
    int64_t logits = o->save_logits ? mb_sat_mul(logit_rows(m, p), 4 * (int64_t)m->vocab) : 0;

    return MB_SUM(CHUNK_BYTES, chunk, max64(chunk, (int64_t)4 << 20), max64(rope_bytes(m, p), logits));
}
