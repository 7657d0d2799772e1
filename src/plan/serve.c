/* Exchanges of a step, and the members that serve each id in them. */
#include "plan/serve.h"

#include <stdlib.h>
#include "base/log.h"
#include "plan/split.h"

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
    free(v->part);
    free(v->stage);
    free(v->turns);
    free(v->turn);
    free(v);
}

/* Into its place among the n members before it. */
static void insert(int32_t *member, int32_t *part, int32_t n, int32_t who, int32_t quota)
{
    for (; n > 0 && member[n - 1] > who; n--) {
        member[n] = member[n - 1];
        if (part != NULL)
            part[n] = part[n - 1];
    }
    member[n] = who;
    if (part != NULL)
        part[n] = quota;
}

/* Appends the members that serve expert e of MoE layer lm: every copy and every slice of each shard that
 * holds it. part: the shard's quota of each. */
static int32_t add_members(const struct mb_plan *p, int32_t lm, int32_t e, int32_t *out, int32_t *part)
{
    const struct mb_layout *l = &p->layout;
    const int32_t *quota = p->placement->quota;
    int64_t first = p->placement->first[(int64_t)lm * p->placement->experts + e];
    int32_t n = 0, holders;
    const int32_t *h = mb_placement_holders(p->placement, lm, e, &holders);

    for (int32_t i = 0; i < holders; i++) {
        for (int32_t c = 0; c < l->edp; c++) {
            for (int32_t x = 0; x < l->etp; x++) {
                if (out != NULL)
                    insert(out, part, n, mb_layout_member(l, c, h[i], x),
                           quota != NULL ? quota[first + i] : 0);
                n++;
            }
        }
    }
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
            at += add_members(p, of, e, v != NULL ? v->member + at : NULL,
                              v != NULL && v->part != NULL ? v->part + at : NULL);
    }
    if (v != NULL)
        v->first[ids] = at;
    return at;
}

static bool quotas_alloc(struct mb_serve *v, int32_t holders)
{
    v->part = calloc((size_t)holders + 1, sizeof *v->part);
    v->stage = calloc((size_t)v->members, sizeof *v->stage);
    return v->part != NULL && v->stage != NULL;
}

/* Quotas become turns of the members that attend. */
static void make_parts(const struct mb_plan *p, int32_t pad, struct mb_serve *v)
{
    bool lane = p->layout.lane_scope;

    v->pad = pad;
    for (int32_t m = 0; m < v->members; m++) {
        struct mb_place at;
        mb_layout_place(&p->layout, m, &at);
        v->stage[m] = at.a < 0 ? -1 : lane ? at.stage : 0;
    }
    for (int32_t id = 0; id < v->ids; id++) {
        int32_t a = v->first[id], n = v->first[id + 1] - a;
        int64_t homes = 0;
        for (int32_t m = 0; m < v->members; m++)
            homes += v->stage[m] == id / pad;
        mb_split_numbers(v->part + a, n, homes * MB_SERVE_TURNS);
    }
}

static enum mb_status create(const struct mb_plan *p, int32_t ids, int32_t pad, const int32_t *lm,
                             int32_t first, struct mb_serve **out)
{
    int32_t holders = walk(p, ids, pad, lm, NULL);
    struct mb_serve *v = serve_alloc(p, ids, holders, first);

    if (v == NULL || (p->placement->quota != NULL && !quotas_alloc(v, holders))) {
        mb_serve_destroy(v);
        return mb_error(MB_NO_MEMORY, "no memory for the tables of an exchange");
    }
    walk(p, ids, pad, lm, v);
    if (v->part != NULL)
        make_parts(p, pad, v);
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

/* ---------------------------------------------------------------- turns */

/* Turns that are left of homes [a, b) and of copies [c, d) to one another: to one copy after the other, a few
 * of each home at a time, so that each home has all of them in about the same proportion. Returns how many
 * shares there are. */
static int32_t share_out(int32_t a, int32_t b, int32_t c, int32_t d, int32_t *rest, int32_t *left,
                         struct mb_serve_share *out)
{
    int32_t n = 0, given = 1;

    while (given > 0) {
        given = 0;
        for (int32_t h = a; h < b; h++)
            for (int32_t most = MB_SERVE_SHARE; most > 0 && rest[h] > 0;) {
                for (; c < d && left[c] == 0; c++)
                    continue;
                if (c == d)
                    return n;
                int32_t turns = rest[h] < most ? rest[h] : most;
                turns = turns < left[c] ? turns : left[c];
                out[n++] = (struct mb_serve_share){h, c, turns};
                rest[h] -= turns;
                left[c] -= turns;
                most -= turns;
                given += turns;
            }
    }
    return n;
}

int32_t mb_serve_shares(const struct mb_serve *v, int32_t id, int32_t *rest, int32_t *left,
                        struct mb_serve_share *out)
{
    const int32_t *at = v->member + v->first[id];
    int32_t copies = v->first[id + 1] - v->first[id], n = 0;

    for (int32_t m = 0; m < v->members; m++)
        rest[m] = v->stage[m] == id / v->pad ? MB_SERVE_TURNS : 0;
    memcpy(left, v->part + v->first[id], (size_t)copies * sizeof *left);
    for (int32_t c = 0; c < copies; c++)
        n += share_out(at[c], at[c] + 1, c, c + 1, rest, left, out + n);
    for (int32_t c = 0, d, a = 0, b; c < copies; c = d, a = b) {
        for (; v->node[a] != v->node[at[c]]; a++)
            continue;
        for (b = a; b < v->members && v->node[b] == v->node[a]; b++)
            continue;
        for (d = c; d < copies && at[d] < b; d++)
            continue;
        n += share_out(a, b, c, d, rest, left, out + n);
    }
    return n + share_out(0, v->members, 0, copies, rest, left, out + n);
}

/* The own turns of an id, copy after copy. */
static void own_turns(struct mb_serve *v, int32_t id, const struct mb_serve_share *s, int32_t n,
                      uint8_t *turn)
{
    int32_t at = 0;

    for (int32_t i = 0; i < n; i++)
        for (int32_t t = 0; s[i].home == v->home && t < s[i].turns; t++)
            turn[at++] = (uint8_t)s[i].copy;
    for (; at < MB_SERVE_TURNS; at++) /* it has no rows with this id */
        turn[at] = (uint8_t)(at % (v->first[id + 1] - v->first[id]));
}

static int32_t copies_of(const struct mb_serve *v, int32_t id)
{
    return v->first[id + 1] - v->first[id];
}

enum mb_status mb_serve_settle(struct mb_serve *v, int32_t home)
{
    int32_t most = 0, n = 0, at = 0;

    if (v->part == NULL)
        return MB_OK;
    for (int32_t id = 0; id < v->ids; id++) {
        most = copies_of(v, id) > most ? copies_of(v, id) : most;
        n += copies_of(v, id) > 1;
    }
    size_t members = (size_t)v->members, all = members + (size_t)most;
    int32_t *rest = calloc(all, sizeof *rest);
    struct mb_serve_share *shares = calloc((size_t)MB_SERVE_SHARES(v->members, most), sizeof *shares);
    v->home = home;
    v->turns = calloc((size_t)v->ids + 1, sizeof *v->turns);
    v->turn = calloc((size_t)n * MB_SERVE_TURNS + 1, 1);
    bool ok = rest != NULL && shares != NULL && v->turns != NULL && v->turn != NULL;
    for (int32_t id = 0; ok && id < v->ids; id++) {
        v->turns[id] = copies_of(v, id) > 1 ? at : -1;
        if (copies_of(v, id) < 2)
            continue;
        own_turns(v, id, shares, mb_serve_shares(v, id, rest, rest + members, shares), v->turn + at);
        at += MB_SERVE_TURNS;
    }
    free(rest);
    free(shares);
    return ok ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for the turns of copies");
}
