/* The planner's walk over layouts. */
#include "plan/auto.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "plan/auto_rate.h"

#define MOST_DIVISORS 256 /* no number up to 2^20 has more */
#define MOST_SETTLED 400

/* ---------------------------------------------------------------- which layouts */

static int32_t experts_of(const struct mb_auto_in *in)
{
    return in->m->moe_layers > 0 ? in->m->router.experts : 0;
}

static bool size_ok(int32_t given, int32_t size)
{
    return given == 0 || given == size;
}

/* ep may be given as experts of a rank. */
static int32_t given_ep(const struct mb_auto_in *in)
{
    const struct mb_layout_options *g = &in->o->layout;

    if (g->ep == 0 && g->experts_per_gpu > 0 && experts_of(in) > 0)
        return (int32_t)(((int64_t)experts_of(in) + g->experts_per_gpu - 1) / g->experts_per_gpu);
    return g->ep;
}

static bool attention_ok(const struct mb_auto_in *in, int32_t tp, int32_t sp)
{
    const struct mb_layout_options *g = &in->o->layout;
    bool long_one = in->context > MB_AUTO_CONTEXT;

    if (!size_ok(g->tp, tp) || !size_ok(g->sp, sp) || (sp > 1 && g->sp == 0 && !long_one))
        return false;
    if (tp > 1 && g->tp == 0 && in->c->per_node % tp != 0)
        return false;
    return sp == 1 || g->sp > 0 || in->c->per_node % ((int64_t)tp * sp) == 0;
}

static bool experts_ok(const struct mb_auto_in *in, int32_t ep, int32_t etp, int32_t edp)
{
    const struct mb_layout_options *g = &in->o->layout;
    int32_t want = given_ep(in);

    if (!size_ok(want, ep) || !size_ok(g->etp, etp) || !size_ok(g->edp, edp))
        return false;
    if (experts_of(in) == 0)
        return etp == 1 && edp == 1;
    if (etp > 1 && g->etp == 0 && in->c->per_node % etp != 0)
        return false;
    return ep <= experts_of(in) || want > 0;
}

bool mb_auto_admits(const struct mb_auto_in *in, const struct mb_layout *l)
{
    const struct mb_layout_options *g = &in->o->layout;

    return size_ok(g->dp, l->dp) && size_ok(g->pp, l->pp) && size_ok(g->adp, l->adp) &&
           l->pp <= in->m->layers && l->lane_scope == g->lane_scope && l->attn == g->attn &&
           l->expert == g->expert && attention_ok(in, l->tp, l->sp) && experts_ok(in, l->ep, l->etp, l->edp);
}

struct divisors {
    int32_t d[MOST_DIVISORS], n;
};

static void divisors_of(int32_t v, struct divisors *out)
{
    out->n = 0;
    for (int32_t i = 1; i <= v / 2 && out->n < MOST_DIVISORS - 1; i++) {
        if (v % i == 0)
            out->d[out->n++] = i;
    }
    out->d[out->n++] = v;
}

struct walk {
    const struct mb_auto_in *in;
    void (*visit)(void *arg, const struct mb_layout *l);
    void *arg;
};

static void walk_experts(const struct walk *w, struct mb_layout *l, const struct divisors *of)
{
    int32_t n = mb_layout_expert(l) * (l->lane_scope ? l->pp : 1);

    for (int32_t i = 0; i < of->n; i++) {
        l->etp = of->d[i];
        for (int32_t j = 0; j < of->n && (int64_t)l->etp * of->d[j] <= n; j++) {
            l->ep = of->d[j];
            l->edp = n / l->etp / l->ep;
            if (l->etp * l->ep * l->edp == n && experts_ok(w->in, l->ep, l->etp, l->edp))
                w->visit(w->arg, l);
        }
    }
}

static void walk_attention(const struct walk *w, struct mb_layout *l)
{
    struct divisors attn, expert;
    int32_t n = mb_layout_attn(l);

    divisors_of(n, &attn);
    divisors_of(mb_layout_expert(l) * (l->lane_scope ? l->pp : 1), &expert);
    for (int32_t i = 0; i < attn.n; i++) {
        l->tp = attn.d[i];
        for (int32_t j = 0; j < attn.n && (int64_t)l->tp * attn.d[j] <= n; j++) {
            l->sp = attn.d[j];
            l->adp = n / l->tp / l->sp;
            if (l->tp * l->sp * l->adp == n && size_ok(w->in->o->layout.adp, l->adp) &&
                attention_ok(w->in, l->tp, l->sp))
                walk_experts(w, l, &expert);
        }
    }
}

void mb_auto_layouts(const struct mb_auto_in *in, void (*visit)(void *arg, const struct mb_layout *l),
                     void *arg)
{
    const struct mb_layout_options *g = &in->o->layout;
    struct walk w = {in, visit, arg};
    struct divisors of;
    struct mb_layout l = {.world = in->c->nodes * in->c->per_node,
                          .lane_scope = g->lane_scope,
                          .attn = g->attn,
                          .expert = g->expert};

    divisors_of(l.world, &of);
    for (int32_t i = 0; i < of.n; i++) {
        for (int32_t j = 0; j < of.n && size_ok(g->dp, of.d[i]); j++) {
            l.dp = of.d[i];
            l.pp = of.d[j];
            if (l.world / l.dp % l.pp != 0 || !size_ok(g->pp, l.pp) || l.pp > in->m->layers)
                continue;
            if (g->attn > 0 && (int64_t)g->attn + g->expert != mb_layout_stage_size(&l))
                continue;
            walk_attention(&w, &l);
        }
    }
}

/* ---------------------------------------------------------------- rating all */

struct rating {
    const struct mb_auto_in *in;
    struct mb_auto *a;
    struct mb_auto_sizes *sizes;
    int64_t cap;
    enum mb_status st;
};

static void keep(struct rating *r, const struct mb_candidate *c)
{
    struct mb_auto *a = r->a;

    if (a->n == r->cap) {
        r->cap = 2 * r->cap + 256;
        struct mb_candidate *more = realloc(a->fit, (size_t)r->cap * sizeof *more);
        if (more == NULL) {
            r->st = mb_error(MB_NO_MEMORY, "no memory for %lld layouts", (long long)r->cap);
            return;
        }
        a->fit = more;
    }
    a->fit[a->n++] = *c;
}

static void rate(void *arg, const struct mb_layout *l)
{
    struct rating *r = arg;
    struct mb_candidate c;

    r->a->tried++;
    if (r->st != MB_OK)
        return;
    enum mb_status st = mb_auto_rate_with(r->in, r->sizes, l, &c, r->a->refused);
    if (st == MB_NO_MEMORY)
        r->st = st;
    if (st != MB_OK)
        return;
    r->a->legal++;
    struct mb_candidate *least = &r->a->least[c.level];
    if (least->need == 0 || c.need < least->need)
        *least = c;
    if (c.seqs > 0)
        keep(r, &c);
}

#define CMP(a, b) (((a) > (b)) - ((a) < (b)))

static int better(const void *va, const void *vb)
{
    const struct mb_candidate *a = va, *b = vb;
    int c = CMP(a->cost.seconds, b->cost.seconds);

    if (c == 0)
        c = CMP(a->level, b->level);
    if (c == 0)
        c = CMP(a->need, b->need);
    if (c == 0)
        c = CMP(b->l.dp, a->l.dp);
    if (c == 0)
        c = CMP(a->l.edp, b->l.edp);
    return c ? c : mb_layout_compare(&a->l, &b->l);
}

enum mb_status mb_auto_create(const struct mb_auto_in *in, struct mb_auto **out)
{
    struct rating r = {.in = in, .a = calloc(1, sizeof *r.a), .st = MB_OK};

    if (r.a == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a planner");
    r.st = mb_auto_sizes_create(in, &r.sizes);
    if (r.st == MB_OK)
        mb_auto_layouts(in, rate, &r);
    mb_auto_sizes_destroy(r.sizes);
    if (r.st != MB_OK) {
        mb_auto_destroy(r.a);
        return r.st;
    }
    if (r.a->n > 1)
        qsort(r.a->fit, (size_t)r.a->n, sizeof *r.a->fit, better);
    *out = r.a;
    return MB_OK;
}

void mb_auto_destroy(struct mb_auto *a)
{
    if (a == NULL)
        return;
    free(a->fit);
    free(a);
}

const struct mb_candidate *mb_auto_smallest(const struct mb_auto *a)
{
    const struct mb_candidate *best = NULL;

    for (int i = 0; i < MB_AUTO_LEVELS; i++) {
        if (a->least[i].need > 0 && (best == NULL || a->least[i].need < best->need))
            best = &a->least[i];
    }
    return best;
}

int64_t mb_auto_settle(const struct mb_auto *a, const struct mb_auto_in *in, const struct mb_topo *t)
{
    for (int64_t i = 0; i < a->n && i < MOST_SETTLED; i++) {
        if (mb_plan_works(in->m, t, in->o, &a->fit[i].l))
            return i;
    }
    return -1;
}

/* ---------------------------------------------------------------- how many nodes */

static enum mb_status best_on(const struct mb_auto_in *in, int32_t nodes, double seconds, bool *ok,
                              void (*seen)(void *, int32_t, const struct mb_candidate *), void *arg)
{
    struct mb_cluster c = *in->c;
    struct mb_auto_in at = *in;
    struct mb_auto *a = NULL;

    c.nodes = nodes;
    at.c = &c;
    MB_TRY(mb_auto_create(&at, &a));
    *ok = a->n > 0 && (seconds <= 0 || a->fit[0].cost.seconds <= seconds);
    if (seen != NULL)
        seen(arg, nodes, a->n > 0 ? &a->fit[0] : NULL);
    mb_auto_destroy(a);
    return MB_OK;
}

enum mb_status mb_auto_nodes(const struct mb_auto_in *in, double seconds,
                             void (*seen)(void *arg, int32_t nodes, const struct mb_candidate *best),
                             void *arg, int32_t *nodes)
{
    int32_t most = MB_AUTO_NODES / in->c->per_node, low = in->c->nodes - 1, high = in->c->nodes;
    bool ok = false;

    for (;; high = high > most / 2 ? most : 2 * high) {
        MB_TRY(best_on(in, high, seconds, &ok, seen, arg));
        if (ok || high >= most)
            break;
        low = high;
    }
    if (!ok) {
        *nodes = 0;
        return MB_OK;
    }
    int32_t step = high - low > 128 ? (high - low) / 64 : 1;
    ok = false;
    for (int32_t n = low + step; n < high && !ok; n += step) {
        MB_TRY(best_on(in, n, seconds, &ok, seen, arg));
        if (ok)
            high = n;
    }
    *nodes = high;
    return MB_OK;
}
