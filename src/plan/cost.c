/* The cost model. */
#include "plan/cost.h"

#include <math.h>
#include "plan/budget.h"

const char *const mb_cost_part_name[MB_COST_PARTS] = {"compute", "memory", "node link", "network", "latency"};

/* What all terms of a step share. */
struct term {
    const struct mb_cost_in *in;
    const struct mb_cost_step *s;
    double es;    /* bytes of an element of the path */
    double share; /* rows of a group that a tensor group computes: 1 / sp of them */
    double own;   /* rows of a group whose residual stream a rank keeps */
    double *part;
};

static double most(double a, double b)
{
    return a > b ? a : b;
}

static double least(double a, double b)
{
    return a < b ? a : b;
}

/* An operation takes as long as its arithmetic or its memory traffic, whichever is longer. */
static void op(struct term *t, double flops, double bytes)
{
    double c = flops / (t->in->c->kind.flops * MB_COST_GEMM),
           m = bytes / (t->in->c->kind.bandwidth * MB_COST_STREAM);

    if (c > m)
        t->part[MB_COST_COMPUTE] += c;
    else
        t->part[MB_COST_MEMORY] += m;
}

static void over_link(struct term *t, double bytes, int messages)
{
    t->part[MB_COST_LINK] += bytes / (t->in->c->link * MB_COST_WIRE);
    t->part[MB_COST_LATENCY] += messages * t->in->c->link_wait;
}

/* Nodes that `ranks` consecutive ranks lie on, at most. */
static int32_t nodes_of(const struct mb_cluster *c, int32_t ranks)
{
    if (ranks % c->per_node == 0)
        return ranks / c->per_node;
    if (c->per_node % ranks == 0)
        return 1;
    int32_t n = (ranks - 2) / c->per_node + 2;
    return n < c->nodes ? n : c->nodes;
}

/* ---------------------------------------------------------------- where a row's experts lie */

/* Of `peers` holders (any real number >= 1) of `experts` experts, of which k are drawn without putting back.
 */
static double drawn(double experts, double k, double peers, double *lone)
{
    double n = experts / peers, none = 1, one = n * k / experts;

    *lone = 0;
    if (peers <= 1) {
        *lone = k <= 1 ? 1 : 0;
        return 1;
    }
    if (n <= 1) { /* no holder has two */
        *lone = least(k, peers);
        return *lone;
    }
    for (double i = 0; i < k; i++)
        none *= most(0, (experts - n - i) / (experts - i));
    for (double i = 0; i < k - 1; i++)
        one *= most(0, (experts - n - i) / (experts - 1 - i));
    *lone = peers * one;
    return peers * (1 - none);
}

double mb_cost_peers(const struct mb_router *r, int32_t peers, double *lone)
{
    bool grouped = r->groups > 1 && r->topk_groups > 0 && r->topk_groups < r->groups;
    double part = grouped ? (double)r->topk_groups / r->groups : 1;

    if (grouped && peers < r->groups) { /* a holder has several groups */
        double all = drawn(r->experts, r->k, peers, lone), unused,
               groups = drawn(r->groups, r->topk_groups, peers, &unused);
        if (groups >= all)
            return all;
        *lone *= groups / all;
        return groups;
    }
    return drawn(r->experts * part, r->k, most(1, least(peers, r->experts) * part), lone);
}

/* A value that comes back from a holder with several of a row's experts is an inner tree node, in f32. */
static double value_bytes(const struct mb_model *m, double hit, double lone, double es)
{
    return m->hidden * (lone * es + (hit - lone) * 4);
}

double mb_cost_row_bytes(const struct mb_model *m, enum mb_dtype path, int32_t nodes)
{
    double lone, hit = mb_cost_peers(&m->router, nodes, &lone), away = (nodes - 1.0) / nodes;

    return away * (hit * (double)mb_plan_dispatch_row_bytes(m->router.k, m->hidden, path, false, false) +
                   value_bytes(m, hit, lone, (double)mb_dtype_size(path)));
}

/* ---------------------------------------------------------------- parts of a layer */

/* Parameters of the projections of one layer. */
static double attention_params(const struct mb_model *m)
{
    double h = m->hidden, q = (double)m->heads * m->head_dim, v = (double)m->heads * m->v_dim;

    if (!m->mla)
        return h * ((m->q_gate ? 2 : 1) * q + (double)m->kv_heads * ((double)m->head_dim + m->v_dim)) + v * h;
    return h * ((double)m->kv_lora + m->rope_mla) + (m->q_lora > 0 ? (h + q) * m->q_lora : h * q) +
           (double)m->heads * ((double)m->nope + m->v_dim) * m->kv_lora + v * h;
}

/* The same of gated DeltaNet. */
static double delta_params(const struct mb_model *m)
{
    const struct mb_delta_shape *d = &m->delta;
    double K = (double)d->key_heads * d->dk, V = (double)d->value_heads * d->dv;

    return m->hidden * (2 * K + 3 * V + 2.0 * d->value_heads);
}

/* Positions that a row attends to, in the mean over the layers that have keys. */
static double context_of(const struct mb_model *m, double context)
{
    double sum = 0;

    for (int32_t l = 0; l < m->layers; l++)
        sum += mb_is_linear(m, l) ? 0 : m->window[l] > 0 ? least(context, m->window[l]) : context;
    sum = m->linear_layers < m->layers ? sum / (m->layers - m->linear_layers) : 0;
    return m->indexer.topk > 0 ? least(sum, m->indexer.topk) : sum;
}

/* The share of layers that have an indexer of their own. */
static double indexers(const struct mb_model *m)
{
    double sum = 0;

    for (int32_t l = 0; m->indexer.topk > 0 && l < m->layers; l++)
        sum += !m->indexer.shares[l];
    return sum / m->layers;
}

/* Its projections, on every rank of a tensor group; and the score of every position by every head. */
static void indexer(struct term *t)
{
    const struct mb_indexer *x = &t->in->m->indexer;
    double sp = t->in->l->sp, rows = t->s->rows, q = (double)x->heads * x->width, of = indexers(t->in->m),
           p = of * (q * t->in->m->q_lora + (double)t->in->m->hidden * (x->width + x->heads));

    if (of <= 0)
        return;
    op(t, 2 * p * t->s->rows * t->share, p * t->es);
    if (t->s->context <= x->topk)
        return;
    op(t, of * 2 * q * rows * t->s->context / sp, of * t->s->sequences * t->s->context * x->width * mb_dtype_size(t->in->kv) / sp);
    if (sp > 1) /* queries and weights of heads go to the parts, the keys that each lists come back, and the choice goes to all */
        over_link(t, of * rows * t->share * (sp - 1) * (t->es * q + 4.0 * x->heads + 12.0 * x->topk), 4);
}

/* Scores and sums of values, FLOPs of one row and position; and a position's KV in a tensor rank, elements.
 */
static double attend_flops(const struct mb_model *m)
{
    return 2.0 * m->heads * (m->mla ? 2.0 * m->kv_lora + m->rope_mla : (double)m->head_dim + m->v_dim);
}

static double kv_elements(const struct mb_model *m, int32_t tp)
{
    return m->mla ? (double)m->kv_lora + m->rope_mla
                  : (double)m->kv_heads * ((double)m->head_dim + m->v_dim) /
                        (tp < m->kv_heads ? tp : m->kv_heads);
}

static void attention(struct term *t)
{
    const struct mb_model *m = t->in->m;
    const struct mb_layout *l = t->in->l;
    double p = attention_params(m) / l->tp, ctx = context_of(m, t->s->context);

    op(t, 2 * p * t->s->rows * t->share, p * t->es);
    indexer(t);
    op(t, attend_flops(m) * t->s->rows * ctx / (l->tp * l->sp),
       t->s->sequences * ctx * kv_elements(m, l->tp) * mb_dtype_size(t->in->kv) / l->sp);
    if (l->sp >
        1) /* queries go to the parts, partial results (a value, a maximum and a sum a head) come back */
        over_link(t,
                  t->s->rows * t->share * (l->sp - 1) * m->heads / l->tp *
                      (t->es * m->head_dim + 4.0 * (m->v_dim + 2)),
                  2);
}

/* Partial sums of a group's rows in f32 to the rows' owners, and before that the owners' rows to all of its n ranks. */
static void group_sum(struct term *t, double rows, double n)
{
    if (n > 1)
        over_link(t, rows * t->in->m->hidden * (4 + t->es) * (n - 1) / n, 2);
}

/* Each row passes through the state of its sequence: decayed, read, written and read. A state is read and written once a step. The heads
 * are divided over all ranks of an attention group. */
static void linear(struct term *t)
{
    const struct mb_delta_shape *d = &t->in->m->delta;
    double n = (double)t->in->l->tp * t->in->l->sp, p = delta_params(t->in->m) / n, cells = (double)d->value_heads * d->dk * d->dv / n;

    op(t, 2 * p * t->s->rows, p * t->es);
    op(t, 7 * cells * t->s->rows, 2 * 4 * cells * t->s->sequences);
    group_sum(t, t->s->rows, n);
}

static void tensor_sum(struct term *t)
{
    group_sum(t, t->s->rows * t->share, t->in->l->tp);
}

static void ffn(struct term *t, double width)
{
    double p = 3.0 * t->in->m->hidden * width / t->in->l->tp;

    if (width <= 0)
        return;
    op(t, 2 * p * t->s->rows * t->share, p * t->es);
    tensor_sum(t);
}

/* ---------------------------------------------------------------- experts */

/* What the fullest of n ranks gets where each gets `mean` pairs by chance. */
static double fullest(double mean, double n, double all)
{
    return n > 1 && mean > 0 ? least(all, mean * (1 + sqrt(2 * log(n) / mean))) : mean;
}

/* Bytes of a parameter of a routed expert as it is kept. */
static double expert_size(const struct mb_model *m, enum mb_dtype path)
{
    double params = 3.0 * m->hidden * m->expert_ffn;

    if (m->expert_form[0].code == MB_CODE_NONE && m->expert_form[1].code == MB_CODE_NONE)
        return (double)mb_dtype_size(path);
    return (double)mb_budget_expert(m, path, MB_WHOLE) / params;
}

static void experts(struct term *t)
{
    const struct mb_model *m = t->in->m;
    const struct mb_layout *l = t->in->l;
    double E = m->router.experts, k = m->router.k, rows = t->s->rows * l->adp * (l->lane_scope ? l->pp : 1),
           owned = (double)((m->router.experts + l->ep - 1) / l->ep);
    double pairs = fullest(rows / l->edp * k * owned / E, least(l->ep, E), rows / l->edp * least(k, owned)),
           used = owned * (1 - pow(1 - k / E, rows / l->edp)), p = 3.0 * m->hidden * m->expert_ffn / l->etp;

    op(t, 2 * p * pairs, p * used * expert_size(m, t->in->path));
    if (t->in->zero > 0 && t->in->zero < 100) /* a layer's experts are as likely to be away as any, and all ranks of a node read */
        t->part[MB_COST_NETWORK] +=
            (1 - t->in->zero / 100.0) * p * used * expert_size(m, t->in->path) * t->in->c->per_node / MB_COST_FILE;
    if (l->etp > 1)
        over_link(t, pairs * m->hidden * 4 * (l->etp - 1) / l->etp, 1);
}

double mb_cost_experts(const struct mb_cost_in *in, double pairs, double used)
{
    double part[MB_COST_PARTS] = {0}, p = 3.0 * in->m->hidden * in->m->expert_ffn / in->l->etp;
    struct term t = {.in = in, .part = part};

    op(&t, 2 * p * pairs, p * used * expert_size(in->m, in->path));
    return part[MB_COST_COMPUTE] + part[MB_COST_MEMORY];
}

/* Rows to their experts and the values back: to other nodes once, then inside the node to each rank. */
static void exchange(struct term *t)
{
    const struct mb_model *m = t->in->m;
    const struct mb_layout *l = t->in->l;
    const struct mb_cluster *c = t->in->c;
    int32_t group = mb_layout_group(l), copy = l->ep * l->etp, near = nodes_of(c, copy),
            all = nodes_of(c, group);
    double attending = (double)c->per_node * mb_layout_attn(l) / mb_layout_stage_size(l), lone,
           hit = mb_cost_peers(&m->router, l->ep, &lone);

    if (group == 1)
        return;
    double inside = hit * l->etp *
                    ((double)mb_plan_dispatch_row_bytes(m->router.k, m->hidden, t->in->path, false, false) +
                     value_bytes(m, hit, lone, t->es) / hit);
    over_link(t, t->own * inside * (copy - 1) / copy, all > 1 ? 0 : 2);
    if (near > 1)
        t->part[MB_COST_NETWORK] +=
            t->own * mb_cost_row_bytes(m, t->in->path, near) * attending / (c->net * MB_COST_WIRE);
    t->part[MB_COST_LATENCY] +=
        2 * MB_COST_POST * ((all > 1 ? all : group) - 1) + (all > 1 ? 2 * c->net_wait : 0);
}

/* ---------------------------------------------------------------- layers, stages */

static void layer(struct term *t, bool moe, bool is_linear)
{
    const struct mb_model *m = t->in->m;

    if (is_linear) {
        linear(t);
    } else {
        attention(t);
        tensor_sum(t);
    }
    t->part[MB_COST_LATENCY] += MB_COST_OPS * t->in->c->op;
    if (!moe) {
        ffn(t, m->ffn);
        return;
    }
    double router = (double)m->hidden * m->router.experts;
    op(t, 2 * router * t->own, router * 4);
    ffn(t, m->shared_ffn);
    if (t->in->no_experts)
        return;
    experts(t);
    exchange(t);
}

static void head(struct term *t)
{
    double p = (double)t->in->m->hidden * t->in->m->vocab / t->in->l->tp;

    op(t, 2 * p * t->s->sampled * t->share, p * t->es);
}

/* The residual stream of own rows, in f32, from a stage to the next. */
static void edge(struct term *t)
{
    const struct mb_cluster *c = t->in->c;
    int32_t stage = mb_layout_stage_size(t->in->l);

    if (t->in->l->pp == 1)
        return;
    if (c->nodes > 1 && stage >= c->per_node) {
        t->part[MB_COST_NETWORK] += t->own * t->in->m->hidden * 4 * c->per_node / (c->net * MB_COST_WIRE);
        t->part[MB_COST_LATENCY] += c->net_wait;
    } else {
        over_link(t, t->own * t->in->m->hidden * 4, 1);
    }
}

static double sum_of(const double part[MB_COST_PARTS])
{
    double s = 0;
    for (int i = 0; i < MB_COST_PARTS; i++)
        s += part[i];
    return s;
}

double mb_cost_stage(const struct mb_cost_in *in, const struct mb_cost_step *s, double part[MB_COST_PARTS])
{
    const struct mb_layout *l = in->l;
    double kind[4][MB_COST_PARTS] = {{0}}, end[MB_COST_PARTS] = {0}, slowest = -1; /* [moe + 2 linear] */
    struct term t = {in,   s, (double)mb_dtype_size(in->path), 1.0 / l->sp, s->rows / ((double)l->tp * l->sp),
                     end};

    head(&t);
    for (int k = 0; k < 4; k++) {
        t.part = kind[k];
        if ((k % 2 == 0 || in->m->moe_layers > 0) && (k < 2 || in->m->linear_layers > 0))
            layer(&t, k % 2 != 0, k >= 2);
    }
    for (int32_t p = 0; p < l->pp; p++) {
        double now[MB_COST_PARTS] = {0};
        t.part = now;
        edge(&t);
        for (int32_t i = in->first_layer[p]; i < in->first_layer[p + 1]; i++)
            for (int j = 0; j < MB_COST_PARTS; j++)
                now[j] += kind[(in->m->is_moe[i] != 0) + 2 * mb_is_linear(in->m, i)][j];
        for (int j = 0; j < MB_COST_PARTS; j++)
            now[j] += p == l->pp - 1 ? end[j] : 0;
        if (sum_of(now) <= slowest)
            continue;
        slowest = sum_of(now);
        for (int i = 0; i < MB_COST_PARTS; i++)
            part[i] = now[i];
    }
    return slowest;
}

/* ---------------------------------------------------------------- the workload */

/* Each byte is read once; what a node keeps and did not read itself comes from the others. */
static double load_seconds(const struct mb_cost_in *in)
{
    const struct mb_cluster *c = in->c;
    double model = (double)in->m->params_total * mb_dtype_size(in->path), each = in->bytes * c->per_node,
           own = least(each, model / c->nodes), t = model / c->nodes / MB_COST_FILE;

    return c->nodes > 1 ? t + (each - own) / (c->net * MB_COST_WIRE) : t;
}

void mb_cost_estimate(const struct mb_cost_in *in, struct mb_cost *out)
{
    const struct mb_layout *l = in->l;
    const struct mb_workload *w = &in->w;
    double groups = (double)l->dp * l->adp, each = most(1, (double)w->requests / groups),
           seqs = least(in->seqs, each), flight = most(1, seqs / l->pp), P = (double)w->prompt,
           O = (double)w->output, pre[MB_COST_PARTS], dec[MB_COST_PARTS];
    struct mb_cost_step prompt = {in->rows, P / 2, most(1, in->rows / most(1, P)), in->rows / most(1, P)},
                        token = {flight, P + O / 2, flight, flight};
    double t_pre = mb_cost_stage(in, &prompt, pre), t_dec = mb_cost_stage(in, &token, dec);
    double n_pre = each * P / in->rows, n_dec = each * O / seqs * l->pp; /* steps of a stage */
    double m = n_pre + n_dec, busy = n_pre * t_pre + n_dec * t_dec;

    *out = (struct mb_cost){.idle = m > 0 ? (l->pp - 1) / (m + l->pp - 1) : 0};
    out->load = load_seconds(in);
    out->assembly = (double)w->requests * (MB_COST_ROW + MB_COST_TOKEN * (P + O));
    out->seconds = busy / (1 - out->idle) + out->load + out->assembly;
    out->prefill = groups * in->rows / t_pre * (1 - out->idle);
    out->decode = groups * seqs / (l->pp * t_dec) * (1 - out->idle);
    for (int i = 0; i < MB_COST_PARTS; i++) {
        out->part[i] = busy > 0 ? (n_pre * pre[i] + n_dec * dec[i]) / busy : 0;
        if (out->part[i] > out->part[out->most])
            out->most = (enum mb_cost_part)i;
    }
}
