/* The routed experts that a rank serves in an exchange: whole ones, or slices that a group of ranks completes
 * together. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "engine/step.h"
#include "engine/zero.h"

/* ---------------------------------------------------------------- which experts */

/* Exchange j of a step meets layers of this stage, or of every stage under lane scope; their ids ascend by
 * stage, then expert. */
static enum mb_status list_served(const struct mb_weights *w, int32_t j, struct mb_served *s)
{
    int32_t n = 0;

    for (int32_t l = 0; l < w->layers; l++)
        n += w->layer[l].exchange == j ? w->layer[l].n_owned : 0;
    s->layer = calloc((size_t)n + 1, sizeof *s->layer);
    s->index = calloc((size_t)n + 1, sizeof *s->index);
    if (s->layer == NULL || s->index == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of experts");
    for (int32_t l = 0; l < w->layers; l++) {
        for (int32_t i = 0; w->layer[l].exchange == j && i < w->layer[l].n_owned; i++) {
            s->layer[s->n] = l;
            s->index[s->n++] = i;
        }
    }
    return MB_OK;
}

enum mb_status mb_experts_create(struct mb_context *c)
{
    c->served = calloc((size_t)c->t.n_exchanges + 1, sizeof *c->served);
    if (c->served == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for lists of experts");
    for (int32_t j = 0; j < c->t.n_exchanges; j++)
        MB_TRY(list_served(&c->w, j, &c->served[j]));
    return MB_OK;
}

void mb_experts_destroy(struct mb_context *c)
{
    for (int32_t j = 0; j < c->t.n_exchanges && c->served != NULL; j++) {
        free(c->served[j].layer);
        free(c->served[j].index);
    }
    free(c->served);
    c->served = NULL;
}

/* ---------------------------------------------------------------- rows and groups */

/* The rows of one exchange: blocks of the members of the slice group (one block where experts are whole), in
 * each block the rows of expert i are [begin[i], begin[i + 1]) from the block's first. */
struct blocks {
    const struct mb_served *s;
    int32_t n;            /* blocks */
    const int64_t *at;    /* [n + 1] */
    const int64_t *begin; /* [n][experts + 1] */
    int64_t width;        /* of gate and of up here */
};

static const struct mb_ffn *ffn_of(const struct mb_context *c, const struct mb_served *s, int32_t i)
{
    return s->ffn != NULL ? s->ffn[i] : &c->w.layer[s->layer[i]].expert[s->index[i]];
}

static bool picked(const struct mb_served *s, int32_t i)
{
    return s->pick == NULL || s->pick[i];
}

/* Groups of one GEMM over all experts: gate and up (node < 0), or node `node` of down, with its bias if it is
 * wanted. */
static int32_t make_groups(struct mb_pass *p, const struct blocks *b, int32_t node, bool bias)
{
    int32_t n = 0;

    for (int32_t k = 0; k < b->n; k++) {
        const int64_t *begin = b->begin + (int64_t)k * (b->s->n + 1);
        for (int32_t i = 0; i < b->s->n; i++) {
            if (begin[i + 1] == begin[i] || !picked(b->s, i))
                continue;
            const struct mb_ffn *f = ffn_of(p->c, b->s, i);
            struct mb_gemm_group *g = &p->work->groups[n++];
            *g = (struct mb_gemm_group){.w = node < 0 ? f->gate_up : f->down.w[node],
                                        .row0 = b->at[k] + begin[i],
                                        .rows = begin[i + 1] - begin[i],
                                        .x_col = node < 0 ? 0 : f->down.x_col[node]};
            if (bias)
                g->bias = node < 0 ? f->gate_up_b.view : f->down_b.view;
        }
    }
    return n;
}

enum projection { GATE, UP, DOWN };

/* The terms of adapters on one projection: rows of one expert are sorted by their adapter, tag[] is that of
 * each row. Returns how many; NULL in *out: no memory. */
static int32_t list_terms(struct mb_pass *p, const struct blocks *b, const uint16_t *tag,
                          enum projection of, struct mb_lora_term **out)
{
    struct mb_lora_term *t = *out = mb_lora_terms(p, b->at[b->n]);
    int32_t n = 0;

    for (int32_t k = 0; t != NULL && k < b->n; k++) {
        const int64_t *begin = b->begin + (int64_t)k * (b->s->n + 1);
        for (int32_t i = 0; i < b->s->n; i++) {
            int64_t last = b->at[k] + begin[i + 1];
            for (int64_t r = b->at[k] + begin[i], end; picked(b->s, i) && r < last; r = end) {
                for (end = r + 1; end < last && tag[end] == tag[r]; end++)
                    ;
                if (tag[r] == 0)
                    continue;
                const struct mb_lora_set *set = &p->c->lora[tag[r] - 1];
                const struct mb_lora_expert *x = &set->layer[b->s->layer[i]].expert[b->s->index[i]];
                const struct mb_lora_pair *pair = of == GATE ? &x->gate : of == UP ? &x->up : &x->down;
                if (pair->a.buf != NULL)
                    t[n++] = (struct mb_lora_term){pair, set->scale, r, end - r};
            }
        }
    }
    return n;
}

static enum mb_status gate_up_terms(struct mb_pass *p, const struct blocks *b, const uint16_t *tag,
                                    struct mb_view gu, struct mb_view x)
{
    struct mb_lora_term *t;

    for (enum projection of = GATE; of <= UP; of++) {
        int32_t n = list_terms(p, b, tag, of, &t);
        if (t == NULL)
            return MB_BUG;
        MB_TRY(mb_lora_add(p, t, n, mb_view_cols(gu, of == UP ? b->width : 0, b->width), x));
    }
    return MB_OK;
}

static enum mb_status down_terms(struct mb_pass *p, const struct blocks *b, const struct mb_split *s,
                                 const uint16_t *tag, struct mb_view out, struct mb_view a)
{
    struct mb_lora_term *t;
    int32_t n = list_terms(p, b, tag, DOWN, &t);

    return t == NULL ? MB_BUG : mb_lora_sum(p, s, t, n, out, a, -1);
}

/* Whether so many rows of experts were planned for: the exchange sends no more at a time. */
static enum mb_status fits(struct mb_pass *p, int64_t rows)
{
    int64_t bytes = rows * p->c->o.model->hidden * mb_dtype_size(mb_narrow(p->c));
    return rows == 0 || mb_room_dev(p, MB_SB_E_Y, bytes) != NULL ? MB_OK : MB_BUG;
}

/* ---------------------------------------------------------------- whole experts */

static enum mb_status activate(const struct mb_context *c, const struct mb_dispatched *d, const struct mb_served *s,
                               struct mb_view a, struct mb_view gu)
{
    const struct mb_model *m = c->o.model;

    if (s->pick == NULL)
        return c->o.ops->act(c->stream, a, gu, m->act, m->act_limit);
    for (int32_t i = 0; i < s->n; i++) {
        int64_t r = d->begin[i], n = d->begin[i + 1] - r;
        if (n > 0 && s->pick[i])
            MB_TRY(c->o.ops->act(c->stream, mb_view_rows(a, r, n), mb_view_rows(gu, r, n), m->act,
                                 m->act_limit));
    }
    return MB_OK;
}

/* y = f, rounded */
static enum mb_status round_rows(const struct mb_context *c, const struct mb_dispatched *d,
                                 const struct mb_served *s, struct mb_view y, struct mb_view f)
{
    if (s->pick == NULL)
        return c->o.ops->copy(c->stream, y, f);
    for (int32_t i = 0; i < s->n; i++) {
        int64_t r = d->begin[i], n = d->begin[i + 1] - r;
        if (n > 0 && s->pick[i])
            MB_TRY(c->o.ops->copy(c->stream, mb_view_rows(y, r, n), mb_view_rows(f, r, n)));
    }
    return MB_OK;
}

static enum mb_status run_whole(struct mb_pass *p, const struct mb_dispatched *d, const struct blocks *b,
                                struct mb_view y)
{
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_model *m = p->c->o.model;
    struct mb_view gu = mb_rows(p, MB_SB_E_GU, d->rows, 2 * b->width, MB_F32);
    struct mb_view a = mb_rows(p, MB_SB_E_ACT, d->rows, b->width, p->c->o.path);

    MB_TRY(ops->gemm(p->c->stream, gu, d->x, p->work->groups, make_groups(p, b, -1, true)));
    if (p->c->expert_lora)
        MB_TRY(gate_up_terms(p, b, d->tag, gu, d->x));
    MB_TRY(activate(p->c, d, b->s, a, gu));
    int32_t n = make_groups(p, b, 0, true);
    if (!p->c->expert_lora)
        return ops->gemm(p->c->stream, y, a, p->work->groups, n);
    struct mb_view f = mb_narrow(p->c) == MB_F32 ? y : mb_rows(p, MB_SB_E_YF, d->rows, m->hidden, MB_F32);
    MB_TRY(ops->gemm(p->c->stream, f, a, p->work->groups, n));
    struct mb_split alone = {NULL, 1, 0, b->at};
    MB_TRY(down_terms(p, b, &alone, d->tag, f, a));
    return mb_narrow(p->c) == MB_F32 ? MB_OK : round_rows(p->c, d, b->s, y, f);
}

/* Experts that are read on demand are computed as they come. */
static enum mb_status run_on_demand(struct mb_pass *p, struct mb_zero *zero, const struct mb_dispatched *d,
                                    const struct blocks *b, struct mb_view y)
{
    enum mb_status st;

    while (mb_zero_pick(zero, &st))
        MB_TRY(run_whole(p, d, b, y));
    return st;
}

/* ---------------------------------------------------------------- slices */

/* begin[] of every member of the slice group, and the rows of each: at[]. */
static enum mb_status gather_counts(struct mb_pass *p, const struct mb_dispatched *d, int64_t *begin,
                                    int64_t *at)
{
    struct mb_where where = {"rows of expert slices", p->step, -1};
    int32_t n = p->c->t.g.etp_size, me = p->c->t.g.etp_rank;
    size_t each = (size_t)d->n_experts + 1;

    memcpy(begin + (size_t)me * each, d->begin, each * sizeof *begin);
    for (int32_t k = 0; k < n; k++) {
        p->work->out[k] = (struct mb_piece){begin + (size_t)me * each, each * sizeof *begin};
        p->work->in[k] = (struct mb_piece){begin + (size_t)k * each, each * sizeof *begin};
    }
    MB_TRY(mb_comm_swap(p->c->t.g.etp, p->work->out, p->work->in, &where));
    at[0] = 0;
    for (int32_t k = 0; k < n; k++)
        at[k + 1] = at[k] + begin[(size_t)k * each + (size_t)d->n_experts];
    return MB_OK;
}

/* Tags of the rows of all members. */
static enum mb_status gather_tags(struct mb_pass *p, const struct mb_split *s, const uint16_t *mine,
                                  uint16_t **out)
{
    struct mb_where where = {"adapters of expert slices", p->step, -1};
    uint16_t *tag = mb_room_host(p, MB_SB_TAGS, (int64_t)s->at[s->n] * sizeof *tag);

    if (tag == NULL)
        return MB_BUG;
    for (int32_t k = 0; k < s->n; k++) {
        p->work->out[k] =
            (struct mb_piece){tag + s->at[s->me], (uint64_t)(s->at[s->me + 1] - s->at[s->me]) * sizeof *tag};
        p->work->in[k] =
            (struct mb_piece){tag + s->at[k], (uint64_t)(s->at[k + 1] - s->at[k]) * sizeof *tag};
    }
    if (p->work->out[0].n > 0)
        memcpy(tag + s->at[s->me], mine, p->work->out[0].n);
    *out = tag;
    return mb_comm_swap(s->c, p->work->out, p->work->in, &where);
}

/* Node values of the slice for all rows; tag: of each row, NULL where no adapter has terms on experts. */
static enum mb_status slice_nodes(struct mb_pass *p, const struct blocks *b, struct mb_view x,
                                  const uint16_t *tag, struct mb_buf **parts)
{
    const struct mb_ops *ops = p->c->o.ops;
    const struct mb_model *m = p->c->o.model;
    const struct mb_rowpar *w = &ffn_of(p->c, b->s, 0)->down;
    int64_t rows = b->at[b->n], H = m->hidden;

    *parts = mb_room_dev(p, MB_SB_PARTS, (int64_t)(w->n * rows * H * 4));
    if (*parts == NULL)
        return MB_BUG;
    if (rows == 0)
        return MB_OK;
    struct mb_view gu = mb_rows(p, MB_SB_E_GU, rows, 2 * b->width, MB_F32),
                   a = mb_rows(p, MB_SB_E_ACT, rows, b->width, p->c->o.path);
    MB_TRY(ops->gemm(p->c->stream, gu, x, p->work->groups, make_groups(p, b, -1, true)));
    if (tag != NULL)
        MB_TRY(gate_up_terms(p, b, tag, gu, x));
    MB_TRY(ops->act(p->c->stream, a, gu, m->act, m->act_limit));
    for (int32_t i = 0; i < w->n; i++) {
        struct mb_view out = mb_view_of(*parts, (uint64_t)(i * rows * H * 4), rows, H, MB_F32);
        MB_TRY(ops->gemm(p->c->stream, out, a, p->work->groups, make_groups(p, b, i, false)));
    }
    return MB_OK;
}

/* Every member of the group computes its slice for the rows of all; the tree over the leaves is completed
 * where a row was sent. */
static enum mb_status run_slices(struct mb_pass *p, const struct mb_dispatched *d,
                                 const struct mb_served *s)
{
    const struct mb_ops *ops = p->c->o.ops;
    int32_t n = p->c->t.g.etp_size;
    int64_t at[MB_MAX_LEAVES + 1],
        *begin = mb_room_host(p, MB_SB_LISTS, (int64_t)n * ((uint64_t)s->n + 1) * 8);
    struct mb_split split = {p->c->t.g.etp, n, p->c->t.g.etp_rank, at};
    struct mb_buf *parts;
    uint16_t *tag = NULL;

    if (s->n == 0)
        return MB_OK; /* none of the group has an expert in this exchange */
    if (begin == NULL)
        return MB_BUG;
    MB_TRY(gather_counts(p, d, begin, at));
    struct blocks b = {s, n, at, begin, ffn_of(p->c, s, 0)->width};
    MB_TRY(fits(p, at[n]));
    struct mb_buf *xb =
        mb_room_dev(p, MB_SB_GATHERED, (int64_t)(at[n] * d->x.cols * mb_dtype_size(d->x.dtype)));
    if (xb == NULL)
        return MB_BUG;
    struct mb_view all = mb_rows_of(xb, at[n], d->x.cols, d->x.dtype),
                   y = mb_rows(p, MB_SB_E_Y, d->rows, p->c->o.model->hidden, mb_narrow(p->c));
    struct mb_view f =
        mb_narrow(p->c) == MB_F32 ? y : mb_rows(p, MB_SB_E_YF, d->rows, p->c->o.model->hidden, MB_F32);
    MB_TRY(mb_allgather_rows(p, &split, all, d->x, -1));
    if (p->c->expert_lora)
        MB_TRY(gather_tags(p, &split, d->tag, &tag));
    MB_TRY(slice_nodes(p, &b, all, tag, &parts));
    MB_TRY(mb_reduce_scatter_rows(p, &split, &ffn_of(p->c, s, 0)->down, f, parts, -1));
    for (int32_t i = 0; i < s->n; i++) {
        const struct mb_ffn *x = ffn_of(p->c, s, i);
        struct mb_view rows = mb_view_rows(f, d->begin[i], d->begin[i + 1] - d->begin[i]);
        if (x->down_b.buf != NULL && rows.rows > 0)
            MB_TRY(ops->add(p->c->stream, rows, rows, x->down_b.view));
    }
    if (tag != NULL)
        MB_TRY(down_terms(p, &b, &split, tag, f, mb_rows(p, MB_SB_E_ACT, at[n], b.width, p->c->o.path)));
    return mb_narrow(p->c) == MB_F32 || d->rows == 0 ? MB_OK : ops->copy(p->c->stream, y, f);
}

static void note_rows(struct mb_pass *p, const struct mb_served *s, const struct mb_dispatched *d)
{
    p->tally->counters.expert_rows += d->rows;
    for (int32_t i = 0; i < s->n; i++)
        p->tally->layer_rows[p->c->w.layer[s->layer[i]].moe_index] += d->begin[i + 1] - d->begin[i];
}

static enum mb_status same_experts(const struct mb_served *s, const struct mb_dispatched *d)
{
    if (s->n != d->n_experts)
        return mb_error(MB_BUG, "the exchange finds %d experts here, the rank has %d", d->n_experts, s->n);
    return MB_OK;
}

enum mb_status mb_experts_run(struct mb_pass *p, const struct mb_served *s, struct mb_zero *zero, const struct mb_dispatched *d,
                              struct mb_view *out)
{
    const int64_t at[2] = {0, d->rows};

    MB_TRY(same_experts(s, d));
    MB_TRY(fits(p, d->rows));
    *out = mb_rows(p, MB_SB_E_Y, d->rows, p->c->o.model->hidden, mb_narrow(p->c));
    note_rows(p, s, d);
    if (p->c->t.g.etp != NULL)
        return run_slices(p, d, s);
    if (d->rows == 0)
        return MB_OK;
    struct blocks b = {s, 1, at, d->begin, p->c->o.model->expert_ffn};
    return zero != NULL ? run_on_demand(p, zero, d, &b, *out) : run_whole(p, d, &b, *out);
}

enum mb_status mb_experts_some(struct mb_pass *p, const struct mb_served *s, const struct mb_dispatched *d, int32_t from,
                               int32_t to, struct mb_view y)
{
    int64_t r0 = d->begin[from], rows = d->begin[to] - r0;
    const int64_t at[2] = {-r0, rows};
    const struct mb_served some = {.n = to - from, .layer = s->layer + from, .index = s->index + from};
    struct mb_dispatched part = *d;

    MB_TRY(same_experts(s, d));
    if (from == 0)
        note_rows(p, s, d);
    if (rows == 0)
        return MB_OK;
    MB_TRY(fits(p, rows));
    part.x = mb_view_rows(d->x, r0, rows);
    part.rows = rows;
    struct blocks b = {&some, 1, at, d->begin + from, p->c->o.model->expert_ffn};
    return run_whole(p, &part, &b, mb_view_rows(y, d->first + r0, rows));
}
