#include "plan/enumerate.h"

#include <math.h>
#include <stdlib.h>

/* The smallest divisor of n above d, or 0. */
static int32_t next_divisor(int32_t n, int32_t d)
{
    for (int32_t i = d + 1; (int64_t)i * i <= n; i++) {
        if (n % i == 0)
            return i;
    }
    for (int32_t q = d > 0 ? (n - 1) / d : n; q >= 1; q--) {
        if (n % q == 0 && n / q > d && (int64_t)q * q <= n)
            return n / q;
        if (q > 1 && (int64_t)(q - 1) * (q - 1) > n)
            q = (int32_t)sqrt((double)n) + 2;
    }
    return 0;
}

static int32_t expert_ranks(const struct mb_layout *l)
{
    return mb_layout_expert(l) * (l->lane_scope ? l->pp : 1);
}

/* The expert grid's next sizes. */
static bool next_experts(struct mb_layout *l)
{
    int32_t n = expert_ranks(l);

    l->edp = next_divisor(n / l->etp, l->edp);
    if (l->edp == 0) {
        l->etp = next_divisor(n, l->etp);
        l->edp = 1;
    }
    if (l->etp == 0)
        return false;
    l->ep = n / l->etp / l->edp;
    return true;
}

static void first_experts(struct mb_layout *l)
{
    l->etp = l->edp = 1;
    l->ep = expert_ranks(l);
}

static bool next_attention(struct mb_layout *l)
{
    int32_t n = mb_layout_attn(l);

    l->sp = next_divisor(n / l->tp, l->sp);
    if (l->sp == 0) {
        l->tp = next_divisor(n, l->tp);
        l->sp = 1;
    }
    if (l->tp == 0)
        return false;
    l->adp = n / l->tp / l->sp;
    first_experts(l);
    return true;
}

static void first_attention(struct mb_layout *l)
{
    l->tp = l->sp = 1;
    l->adp = mb_layout_attn(l);
    first_experts(l);
}

/* How a stage is split: not at all, then as the walk wants. */
static bool next_split(const struct mb_layout_walk *w, struct mb_layout *l)
{
    int32_t stage = mb_layout_stage_size(l), a = l->attn + 1;

    if (!w->split || stage < 2)
        return false;
    if (w->attn > 0) {
        a = (int32_t)((int64_t)stage * w->attn / ((int64_t)w->attn + w->expert));
        a = a < 1 ? 1 : a;
        if (l->attn > 0)
            return false;
    }
    if (a >= stage)
        return false;
    l->attn = a;
    l->expert = stage - a;
    first_attention(l);
    return true;
}

static void first_split(struct mb_layout *l)
{
    l->attn = l->expert = 0;
    first_attention(l);
}

static bool next_stages(const struct mb_layout_walk *w, struct mb_layout *l)
{
    if (w->lane && !l->lane_scope && l->pp > 1) {
        l->lane_scope = true;
        first_split(l);
        return true;
    }
    l->lane_scope = false;
    l->pp = next_divisor(w->world / l->dp, l->pp);
    if (l->pp == 0) {
        l->dp = next_divisor(w->world, l->dp);
        l->pp = 1;
    }
    if (l->dp == 0)
        return false;
    first_split(l);
    return true;
}

bool mb_layout_next(struct mb_layout_walk *w, struct mb_layout *out)
{
    struct mb_layout *l = &w->at;

    if (!w->begun) {
        *l = (struct mb_layout){.world = w->world, .dp = 1, .pp = 1};
        first_split(l);
        w->begun = true;
    } else if (!next_experts(l) && !next_attention(l) && !next_split(w, l) && !next_stages(w, l)) {
        return false;
    }
    *out = *l;
    return true;
}

/* ---------------------------------------------------------------- the nearest */

struct candidate {
    double far;
    int64_t number; /* equally far ones in the order of the walk */
    struct mb_layout l;
};

/* Doublings or halvings between a size asked for and one that works; sizes that were left out follow freely.
 */
static double doublings(int32_t asked, int32_t is)
{
    return fabs(log2((double)(asked > 0 ? asked : 1) / is));
}

static double distance(const struct mb_layout_options *o, const struct mb_layout *l)
{
    double d = doublings(o->dp, l->dp) + doublings(o->pp, l->pp) + doublings(o->tp, l->tp) +
               doublings(o->sp, l->sp) + doublings(o->etp, l->etp);

    d += o->adp > 0 ? doublings(o->adp, l->adp) : 0;
    d += o->ep > 0 ? doublings(o->ep, l->ep) : 0;
    d += o->edp > 0 || o->ep == 0 ? doublings(o->edp, l->edp) : 0;
    d += 3 * (o->lane_scope != l->lane_scope) + 3 * ((o->attn > 0) != (l->attn > 0));
    return o->attn > 0 && l->attn > 0 ? d + doublings(o->attn, l->attn) : d;
}

static int by_distance(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->far != y->far)
        return x->far < y->far ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static struct candidate *candidates(const struct mb_layout_options *o, int32_t world, int64_t *count)
{
    bool split = o->attn > 0 || o->expert > 0;
    struct mb_layout_walk w = {.world = world,
                               .lane = o->lane_scope,
                               .split = split,
                               .attn = split ? (o->attn > 0 ? o->attn : 1) : 0,
                               .expert = split ? (o->expert > 0 ? o->expert : 1) : 0};
    struct candidate *c = NULL;
    struct mb_layout l;
    int64_t n = 0, cap = 0;

    while (mb_layout_next(&w, &l)) {
        if (n == cap) {
            struct candidate *more = realloc(c, (size_t)(cap = 2 * cap + 64) * sizeof *c);
            if (more == NULL) {
                free(c);
                return NULL;
            }
            c = more;
        }
        c[n] = (struct candidate){distance(o, &l), n, l};
        n++;
    }
    qsort(c, (size_t)n, sizeof *c, by_distance);
    *count = n;
    return c;
}

#define MOST_TRIALS 4096 /* a refusal answers within a second */

bool mb_layout_nearest(const struct mb_layout_options *o, int32_t world,
                       bool (*accept)(void *arg, const struct mb_layout *l), void *arg, struct mb_layout *out)
{
    int64_t n = 0;
    struct candidate *c = candidates(o, world, &n);
    bool found = false;

    for (int64_t i = 0; c != NULL && i < n && i < MOST_TRIALS && !found; i++) {
        found = accept == NULL || accept(arg, &c[i].l);
        if (found)
            *out = c[i].l;
    }
    free(c);
    return found;
}
