#include "app/plan_print.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/report.h"
#include "io/table.h"

#define SHOWN 10
#define NODES_SHOWN 16
#define CELL 40

static const char *unit(const struct mb_auto_in *in)
{
    return in->c->cpu ? "GiB" : "GB";
}

static double gb(const struct mb_auto_in *in, int64_t bytes)
{
    return (double)bytes / in->c->gib;
}

/* ---------------------------------------------------------------- head */

static void print_devices(const struct mb_auto_in *in)
{
    const struct mb_cluster *c = in->c;
    char text[MB_CLUSTER_TEXT];

    mb_cluster_text(c, text);
    printf("cluster   : %s\n", text);
    printf("%-10s: %.0f %s of memory, of which %.1f may be used; %.4g TFLOP/s %s, %.0f GB/s of memory, %.0f "
           "GB/s to its "
           "neighbours\n",
           c->cpu ? "a rank" : "a GPU", c->kind.memory / c->gib, unit(in), gb(in, in->memory),
           c->kind.flops / 1e12,
           c->guess ? "(a guess from its cores)"
           : c->cpu ? "in f32 at base clock"
                    : "in bf16 (dense)",
           c->kind.bandwidth / 1e9, c->link / 1e9);
    if (c->nodes > 1)
        printf("network   : %.0f GB/s a node\n", c->net / 1e9);
}

void mb_plan_print_head(const struct mb_conf *c, const struct mb_auto_in *in)
{
    const struct mb_model *m = in->m;
    char all[MB_TEXT_CAP], active[MB_TEXT_CAP];

    printf("model     : %s (%s, %d layers, ", c->model, m->arch, (int)m->layers);
    if (m->moe_layers > 0)
        printf("%d of %d experts a token, ", (int)m->router.k, (int)m->router.experts);
    printf("%s parameters, %s active), computed in %s\n", mb_text_rate((double)m->params_total, all),
           mb_text_rate((double)m->params_active, active), in->o->path == MB_F32 ? "f32" : "bf16");
    print_devices(in);
    printf("workload  : %" PRId64 " requests of %" PRId64 " prompt tokens and %" PRId64 " generated\n",
           in->w.requests, in->w.prompt, in->w.output);
    printf(
        "steps     : %d sequences at once and %d rows a step at most in an attention group (--max-num-seqs, "
        "--max-batch-rows)\n",
        (int)in->o->max_num_seqs, (int)mb_plan_batch_rows(in->o));
    if (c->profile[0] != '\0') {
        printf("estimates : from speeds that were measured (%s), without overlap\n", c->profile);
        return;
    }
    printf("estimates : from %s, at %.0f %% of the arithmetic, %.0f %% of memory bandwidth and %.0f "
           "%% of the links, "
           "without overlap; %s\n",
           in->c->guess ? "these guesses" : "data sheets", 100 * MB_COST_GEMM, 100 * MB_COST_STREAM,
           100 * MB_COST_WIRE,
           in->c->cpu ? "for comparing layouts, not for promising times" : "no GPU has run this program yet");
}

/* ---------------------------------------------------------------- layouts */

static const char *hours_text(double seconds, char buf[CELL])
{
    snprintf(buf, CELL, seconds < 3600 ? "%.3f" : seconds < 360000 ? "%.1f" : "%.0f", seconds / 3600);
    return buf;
}

static enum mb_status new_table(const char *const *columns, struct mb_table **t)
{
    return mb_table_create(columns, 1, t);
}

static void layout_row(struct mb_table *t, const struct mb_auto_in *in, const struct mb_candidate *c,
                       const char *mark)
{
    const struct mb_layout *l = &c->l;
    char pre[MB_TEXT_CAP], dec[MB_TEXT_CAP], hours[CELL];

    mb_table_row(
        t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%" PRId64 "\t%s\t%s\t%s\t%s %.0f %%",
        mark, (int)l->dp, (int)l->pp, (int)l->tp, (int)l->sp, (int)l->adp, (int)l->ep, (int)l->etp,
        (int)l->edp, gb(in, c->experts), gb(in, c->weights), gb(in, c->rest), gb(in, c->kv), c->seqs,
        mb_text_rate(c->cost.prefill, pre), mb_text_rate(c->cost.decode, dec),
        hours_text(c->cost.seconds, hours), mb_cost_part_name[c->cost.most],
        100 * c->cost.part[c->cost.most]);
}

static const char *rule_text(const struct mb_candidate *c)
{
    static const char *const level[MB_AUTO_LEVELS] = {"", "t", "tt", "p", "tp", "ttp"};
    return level[c->level];
}

enum mb_status mb_plan_print_table(const struct mb_auto *a, const struct mb_auto_in *in, int64_t taken)
{
    char experts[CELL], weights[CELL], kv[CELL];
    const char *const columns[] = {"",           "dp>",       "pp>",    "tp>",    "sp>",   "adp>", "ep>",
                                   "etp>",       "edp>",      experts,  weights,  "rest>", kv,     "seqs>",
                                   "prefill/s>", "decode/s>", "hours>", "mostly", NULL};
    struct mb_table *t = NULL;

    snprintf(experts, CELL, "experts %s>", unit(in));
    snprintf(weights, CELL, "shared>");
    snprintf(kv, CELL, "KV>");
    MB_TRY(new_table(columns, &t));
    for (int64_t i = 0; i < a->n && i < SHOWN; i++) {
        char mark[8];
        snprintf(mark, sizeof mark, "%s%s", i == taken ? "*" : "", rule_text(&a->fit[i]));
        layout_row(t, in, &a->fit[i], mark);
    }
    printf("\n");
    mb_table_print(t, stdout);
    printf("%" PRId64 " of %" PRId64
           " layouts fit, fastest first; *: chosen; t, p: splits tensors (tt: of shared "
           "layers and of experts) or layers; hours: with loading and assembly\n",
           a->n, a->legal);
    return MB_OK;
}

/* ---------------------------------------------------------------- simple ones */

struct simple {
    const char *name;
    struct mb_layout_options o;
};

static int32_t largest_part(int32_t n, int32_t most)
{
    int32_t d = most < n ? most : n;
    while (d > 1 && n % d != 0)
        d--;
    return d < 1 ? 1 : d;
}

static int simple_ones(const struct mb_auto_in *in, struct simple s[8])
{
    int32_t per = in->c->per_node, world = in->c->nodes * per,
            E = in->m->moe_layers > 0 ? in->m->router.experts : world;
    int32_t all = largest_part(world, E), tp = largest_part(per, 8), n = 0;

    s[n++] = (struct simple){"a copy on each", {.dp = world, .ep = 1}};
    if (in->c->nodes > 1)
        s[n++] = (struct simple){"experts inside nodes", {.dp = in->c->nodes, .ep = largest_part(per, E)}};
    s[n++] = (struct simple){"experts over all", {.ep = all}};
    if (per > 1) {
        s[n++] = (struct simple){"tensors inside nodes", {.tp = tp, .ep = largest_part(world, E)}};
        s[n++] = (struct simple){"slices of experts", {.etp = 2, .ep = largest_part(world / 2, E)}};
    }
    if (world % 2 == 0 && in->m->layers > 1)
        s[n++] = (struct simple){"two stages", {.pp = 2, .ep = largest_part(world / 2, E)}};
    return n;
}

static void verdict(const struct mb_auto_in *in, const struct mb_candidate *c,
                    const struct mb_candidate *taken, char *out, size_t cap)
{
    if (taken != NULL && mb_layout_compare(&c->l, &taken->l) == 0)
        snprintf(out, cap, "chosen");
    else if (c->seqs == 0)
        snprintf(out, cap,
                 "does not fit: %.1f experts + %.1f shared + %.1f rest + KV of one request = %.1f of %.1f %s",
                 gb(in, c->experts), gb(in, c->weights), gb(in, c->rest), gb(in, c->need), gb(in, in->memory),
                 unit(in));
    else if (taken != NULL && c->cost.seconds >= taken->cost.seconds)
        snprintf(out, cap, "fits, %.1f %% slower by estimate",
                 100 * (c->cost.seconds / taken->cost.seconds - 1));
    else
        snprintf(out, cap, "fits by estimate, but not when every rank is looked at");
}

enum mb_status mb_plan_print_simple(const struct mb_auto_in *in, const struct mb_candidate *taken)
{
    static const char *const columns[] = {"simple layout", "options", "what becomes of it", NULL};
    struct mb_table *t = NULL;
    struct simple s[8];
    int n = simple_ones(in, s);

    MB_TRY(new_table(columns, &t));
    for (int i = 0; i < n; i++) {
        char why[MB_LAYOUT_TEXT], options[MB_LAYOUT_TEXT];
        struct mb_layout l;
        struct mb_candidate c;
        if (mb_layout_try(&s[i].o, in->c->nodes * in->c->per_node, &l, why) != MB_OK ||
            !mb_auto_admits(in, &l))
            continue;
        enum mb_status st = mb_auto_rate(in, &l, &c, why);
        if (st == MB_NO_MEMORY) {
            mb_table_print(t, stdout);
            return st;
        }
        if (st == MB_OK)
            verdict(in, &c, taken, why, sizeof why);
        mb_plan_options_text(&l, options);
        mb_table_row(t, "%s\t%s\t%s", s[i].name, options, why);
    }
    printf("\n");
    mb_table_print(t, stdout);
    return MB_OK;
}

/* ---------------------------------------------------------------- the choice */

void mb_plan_options_text(const struct mb_layout *l, char out[MB_LAYOUT_TEXT])
{
    const struct {
        const char *name;
        int32_t v;
    } size[] = {{"data", l->dp},   {"pipeline", l->pp},       {"tensor", l->tp},      {"sequence", l->sp},
                {"expert", l->ep}, {"expert-tensor", l->etp}, {"expert-data", l->edp}};
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++) {
        if (size[i].v > 1)
            n += (size_t)snprintf(out + n, MB_LAYOUT_TEXT - n, "%s--%s-parallel-size %d", n > 0 ? " " : "",
                                  size[i].name, (int)size[i].v);
    }
    if (l->ep == 1 && l->edp == 1)
        n += (size_t)snprintf(out + n, MB_LAYOUT_TEXT - n, "%s--expert-parallel-size 1", n > 0 ? " " : "");
    if (l->lane_scope)
        n += (size_t)snprintf(out + n, MB_LAYOUT_TEXT - n, " --expert-scope lane");
    if (l->attn > 0)
        snprintf(out + n, MB_LAYOUT_TEXT - n, " --disaggregate %d:%d", (int)l->attn, (int)l->expert);
}

/* By the usage that it was made from, beside equal ranges. */
static void print_placement(const struct mb_auto_in *in, const struct mb_placement *p)
{
    struct mb_placement *equal = NULL;
    const int64_t *usage = in->o->usage;

    if (usage == NULL || mb_placement_uniform(p->moe_layers, p->experts, p->ep, &equal) != MB_OK)
        return;
    printf("placement : by %s, %" PRId64 " copies of %" PRId64 " experts in all layers; rows of the fullest shard %.3f of the mean "
           "(equal ranges: %.3f)",
           in->o->placement, p->first[(int64_t)p->moe_layers * p->experts], (int64_t)p->moe_layers * p->experts,
           mb_placement_fullest(p, usage, in->m->moe_layers), mb_placement_fullest(equal, usage, in->m->moe_layers));
    if (in->o->placement_before != NULL)
        printf("; revision %u, %" PRId64 " copies move", (unsigned)p->revision, p->moved);
    printf("\n");
    mb_placement_destroy(equal);
}

static void print_cost(const struct mb_conf *c, const struct mb_auto_in *in, const struct mb_candidate *x)
{
    double hours = mb_plan_node_hours(in, x), tokens = (double)in->w.requests * (double)(in->w.prompt + in->w.output);

    printf("cost      : %.3g node-hours", hours);
    if (c->price > 0)
        printf(", %.4g at %g a node-hour (%.3g for a million tokens)", hours * c->price, c->price,
               tokens > 0 ? hours * c->price / tokens * 1e6 : 0);
    printf("\n");
}

void mb_plan_print_choice(const struct mb_conf *c, const struct mb_auto *a, const struct mb_auto_in *in, int64_t taken,
                          const struct mb_plan *p)
{
    const struct mb_budget *b = &p->budget;
    const struct mb_cost *t = &a->fit[taken].cost;
    char options[MB_LAYOUT_TEXT], reason[MB_AUTO_TEXT];

    mb_plan_options_text(&a->fit[taken].l, options);
    mb_auto_reason(a, in, taken, reason);
    printf("\nchosen    : %s\n", options);
    printf("memory    : %.1f %s planned on the fullest %s: experts %.1f, shared %.1f, activations %.1f, "
           "exchange and staging "
           "%.1f, KV %.1f (%" PRId64 " pages of %d positions)\n",
           gb(in, b->total), unit(in), in->c->cpu ? "rank" : "GPU", gb(in, b->experts), gb(in, b->weights),
           gb(in, b->activations), gb(in, b->exchange + b->staging), gb(in, b->kv), p->kv_pages, MB_KV_BLOCK);
    printf("time      : %.3g h by estimate: %.3g h of steps, %.0f s of loading, %.0f s of assembly\n",
           t->seconds / 3600, (t->seconds - t->load - t->assembly) / 3600, t->load, t->assembly);
    print_cost(c, in, &a->fit[taken]);
    print_placement(in, p->placement);
    printf("because   : %s.\n", reason);
}

/* ---------------------------------------------------------------- numbers of nodes */

static int by_nodes(const void *a, const void *b)
{
    const struct mb_plan_nodes_row *x = a, *y = b;
    return (x->nodes > y->nodes) - (x->nodes < y->nodes);
}

enum mb_status mb_plan_print_nodes(struct mb_plan_nodes *t, const struct mb_auto_in *in, double hours,
                                   int32_t answer)
{
    static const char *const columns[] = {"", "nodes>", "ranks>", "hours>", "layout", NULL};
    struct mb_table *out = NULL;

    qsort(t->row, (size_t)t->n, sizeof *t->row, by_nodes);
    MB_TRY(new_table(columns, &out));
    for (int32_t i = 0; i < t->n; i++) {
        const struct mb_plan_nodes_row *r = &t->row[i];
        bool power = (r->nodes & (r->nodes - 1)) == 0, near = r->nodes <= answer && r->nodes >= answer - 4;
        char options[MB_LAYOUT_TEXT] = "no layout fits", time[CELL] = "";
        if (!power && !near && r->nodes != answer)
            continue;
        if (r->fits) {
            mb_plan_options_text(&r->best.l, options);
            hours_text(r->best.cost.seconds, time);
        }
        mb_table_row(out, "%s\t%d\t%d\t%s\t%s", r->nodes == answer ? "*" : "", (int)r->nodes,
                     (int)(r->nodes * in->c->per_node), time, options);
    }
    printf("\n");
    mb_table_print(out, stdout);
    if (answer > 0)
        printf("*: the smallest number of nodes for %g hours, by estimate\n", hours);
    return MB_OK;
}
