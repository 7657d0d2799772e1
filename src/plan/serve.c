/* Exchanges of a step, and the members that serve each id in them. */
#include "plan/serve.h"

#include <stdlib.h>
#include "base/log.h"

/* Layers of a stage; an MTP module in use is the last one's (the placement then knows one more layer). */
static int32_t last_layer(const struct mb_plan *p, const struct mb_model *m, int32_t stage)
{
    bool mtp = p->placement->moe_layers > m->moe_layers && stage == p->layout.pp - 1;
    return p->first_layer[stage + 1] + (mtp ? m->mtp_layers : 0);
}

static int32_t moe_layers(const struct mb_plan *p, const struct mb_model *m, int32_t stage)
{
    int32_t n = 0;

    for (int32_t l = p->first_layer[stage]; l < last_layer(p, m, stage); l++)
        n += m->is_moe[l];
    return n;
}

int32_t mb_serve_exchanges(const struct mb_plan *p, const struct mb_model *m, int32_t stage)
{
    int32_t most = moe_layers(p, m, stage);

    for (int32_t s = 0; p->layout.lane_scope && s < p->layout.pp; s++) {
        int32_t n = moe_layers(p, m, s);
        most = n > most ? n : most;
    }
    return most;
}

int32_t mb_serve_layer(const struct mb_plan *p, const struct mb_model *m, int32_t stage, int32_t j)
{
    int32_t lm = 0, end = last_layer(p, m, stage);

    for (int32_t l = 0; l < p->first_layer[stage]; l++)
        lm += m->is_moe[l];
    for (int32_t l = p->first_layer[stage]; l < end; l++) {
        if (!m->is_moe[l])
            continue;
        if (j-- == 0)
            return lm;
        lm++;
    }
    return -1;
}

int32_t mb_serve_ids(const struct mb_plan *p, int32_t stage, int32_t *base)
{
    int32_t pad = 1;

    *base = 0;
    if (!p->layout.lane_scope)
        return p->placement->experts > 0 ? p->placement->experts : 1;
    while (pad < p->placement->experts)
        pad *= 2;
    *base = stage * pad;
    return p->layout.pp * pad;
}

void mb_serve_destroy(struct mb_serve *v)
{
    if (v == NULL)
        return;
    free(v->first);
    free(v->member);
    free(v->node);
    free(v);
}

static int by_number(const void *a, const void *b)
{
    return *(const int32_t *)a - *(const int32_t *)b;
}

/* Appends the members that serve expert e of MoE layer lm: every copy and every slice of each shard that
 * holds it. */
static int32_t add_members(const struct mb_plan *p, int32_t lm, int32_t e, int32_t *out)
{
    const struct mb_layout *l = &p->layout;
    int32_t n = 0, holders;
    const int32_t *h = mb_placement_holders(p->placement, lm, e, &holders);

    for (int32_t i = 0; i < holders; i++) {
        for (int32_t c = 0; c < l->edp; c++) {
            for (int32_t x = 0; x < l->etp; x++) {
                if (out != NULL)
                    out[n] = mb_layout_member(l, c, h[i], x);
                n++;
            }
        }
    }
    if (out != NULL)
        qsort(out, (size_t)n, sizeof *out, by_number);
    return n;
}

static struct mb_serve *serve_alloc(const struct mb_plan *p, int32_t ids, int32_t holders, int32_t first)
{
    struct mb_serve *v = calloc(1, sizeof *v);

    if (v == NULL)
        return NULL;
    v->ids = ids;
    v->members = mb_layout_group(&p->layout);
    v->first = calloc((size_t)ids + 1, sizeof *v->first);
    v->node = calloc((size_t)v->members, sizeof *v->node);
    v->member = calloc((size_t)holders + 1, sizeof *v->member);
    if (v->first == NULL || v->node == NULL || v->member == NULL) {
        mb_serve_destroy(v);
        return NULL;
    }
    for (int32_t i = 0; i < v->members; i++)
        v->node[i] = p->node_of[first + i];
    return v;
}

/* One pass over the ids of a group's exchange, in which id / pad is the entry of lm[] with its MoE layer
 * (negative: none): counts (v NULL) or fills. Returns the total. */
static int32_t walk(const struct mb_plan *p, int32_t ids, int32_t pad, const int32_t *lm, struct mb_serve *v)
{
    int32_t at = 0;

    for (int32_t id = 0; id < ids; id++) {
        int32_t e = id % pad, of = lm[id / pad];
        if (v != NULL)
            v->first[id] = at;
        if (of >= 0 && e < p->placement->experts)
            at += add_members(p, of, e, v != NULL ? v->member + at : NULL);
    }
    if (v != NULL)
        v->first[ids] = at;
    return at;
}

static enum mb_status create(const struct mb_plan *p, int32_t ids, int32_t pad, const int32_t *lm,
                             int32_t first, struct mb_serve **out)
{
    struct mb_serve *v = serve_alloc(p, ids, walk(p, ids, pad, lm, NULL), first);

    if (v == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the tables of an exchange");
    walk(p, ids, pad, lm, v);
    *out = v;
    return MB_OK;
}

enum mb_status mb_serve_create(const struct mb_plan *p, const struct mb_model *m, int32_t lane, int32_t stage,
                               int32_t j, struct mb_serve **out)
{
    const struct mb_layout *l = &p->layout;
    int32_t base, stages = l->lane_scope ? l->pp : 1, ids = mb_serve_ids(p, stage, &base);
    int32_t first = (lane * l->pp + (l->lane_scope ? 0 : stage)) * mb_layout_stage_size(l);
    int32_t *lm = calloc((size_t)stages, sizeof *lm);

    if (lm == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the tables of an exchange");
    for (int32_t s = 0; s < stages; s++)
        lm[s] = mb_serve_layer(p, m, l->lane_scope ? s : stage, j);
    enum mb_status st = create(p, ids, ids / stages, lm, first, out);
    free(lm);
    return st;
}

enum mb_status mb_serve_create_layer(const struct mb_plan *p, int32_t moe_layer, struct mb_serve **out)
{
    return create(p, p->placement->experts, p->placement->experts, &moe_layer, 0, out);
}

/* Homes [a, b) of one node; at: those of its members that serve, n of them. */
static void row_of_node(int32_t a, int32_t b, const int32_t *at, int32_t n, int32_t *by)
{
    for (int32_t h = a, i = 0; h < b; h++) {
        bool own = i < n && at[i] == h;
        by[h] = own ? h : at[h % n];
        i += own;
    }
}

void mb_serve_row(const struct mb_serve *v, int32_t id, int32_t *by)
{
    const int32_t *at = v->member + v->first[id];
    int32_t n = v->first[id + 1] - v->first[id];

    if (n == 1) {
        for (int32_t h = 0; h < v->members; h++)
            by[h] = at[0];
        return;
    }
    for (int32_t a = 0, b, i = 0, j; a < v->members; a = b, i = j) {
        for (b = a; b < v->members && v->node[b] == v->node[a]; b++)
            continue;
        for (j = i; j < n && at[j] < b; j++)
            continue;
        row_of_node(a, b, j > i ? at + i : at, j > i ? j - i : n, by);
    }
}
