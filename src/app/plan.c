/* moebatch plan. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/plan_print.h"
#include "app/setup.h"
#include "app/tools.h"
#include "app/workload.h"
#include "plan/profile.h"
#include "base/log.h"
#include "base/publish.h"

#define GPU_SEQS 256 /* sequences at once, and prompt rows beside them, that suit a GPU */
#define GPU_ROWS 2048
#define CPU_SEQS 64
#define ASSUMED_NET 50e9 /* of a node, where only memory is asked about and no network was given */

struct planner {
    const struct mb_conf *c;
    struct mb_model *m;
    struct mb_cluster cluster;
    struct mb_plan_options o;
    struct mb_auto_in in;
    struct mb_auto *found;
    struct mb_topo *topo;
    struct mb_plan *plan;
    int64_t *usage; /* [MoE layers][experts] of --expert-usage */
};

/* Tables and sentences, not a job script or JSON. */
static bool for_people(const struct planner *p)
{
    return !p->c->sbatch && !p->c->json;
}

/* ---------------------------------------------------------------- the cluster */

static enum mb_status read_machines(struct mb_cluster *c)
{
    struct mb_machine *l = NULL;
    char files[MB_CLUSTER_FILES], *next = files, *file;
    int32_t n = 0;
    enum mb_status st = MB_OK;

    snprintf(files, sizeof files, "%s", c->files);
    while (st == MB_OK && (file = strsep(&next, ",")) != NULL) {
        struct mb_machine *more = realloc(l, ((size_t)n + 1) * sizeof *l);
        if (more == NULL) {
            st = mb_error(MB_NO_MEMORY, "no memory for a machine");
            break;
        }
        l = more;
        const char *xml = file[0] != '\0' ? file : NULL;
        st = mb_topo_discover(xml, &l[n].local, NULL);
        if (st == MB_OK)
            st = mb_topo_devices(xml, &l[n].devices);
        n++;
    }
    if (st == MB_OK)
        st = mb_cluster_machines(c, l, n, 0);
    free(l);
    return st;
}

static enum mb_status read_cluster(struct planner *p)
{
    if (p->c->cluster[0] != '\0')
        MB_TRY(mb_cluster_parse(p->c->cluster, &p->cluster));
    if (p->c->cluster[0] == '\0' || p->cluster.files[0] != '\0')
        return read_machines(&p->cluster);
    return MB_OK;
}

static enum mb_status read_profile(struct planner *p)
{
    struct mb_profile profile;

    if (p->c->profile[0] == '\0')
        return MB_OK;
    MB_TRY(mb_profile_load(p->c->profile, &profile));
    mb_profile_apply(&profile, &p->cluster);
    return MB_OK;
}

/* ---------------------------------------------------------------- options */

static void fill_batch(struct planner *p)
{
    bool gpu = !p->cluster.cpu;

    if (p->o.max_num_seqs == 0) {
        p->o.max_num_seqs = gpu ? GPU_SEQS : CPU_SEQS;
        if (p->o.max_batch_rows > 0 && p->o.max_batch_rows < p->o.max_num_seqs)
            p->o.max_num_seqs = p->o.max_batch_rows;
    }
    if (p->o.max_batch_rows == 0 && gpu)
        p->o.max_batch_rows = p->o.max_num_seqs + GPU_ROWS;
}

static enum mb_status check_lengths(const struct planner *p)
{
    int64_t most = p->c->max_model_len > 0 ? p->c->max_model_len : p->m->max_positions,
            each = p->in.w.prompt + p->in.w.output;

    if (p->c->max_model_len > p->m->max_positions)
        return mb_error(MB_LAYOUT, "--max-model-len %lld is more than the model's %lld positions",
                        (long long)p->c->max_model_len, (long long)p->m->max_positions);
    if (each > most)
        return mb_error(MB_LAYOUT, "requests of %lld + %lld tokens are longer than %s %lld positions",
                        (long long)p->in.w.prompt, (long long)p->in.w.output,
                        p->c->max_model_len > 0 ? "--max-model-len, " : "the model's", (long long)most);
    return MB_OK;
}

static enum mb_status read_usage(struct planner *p)
{
    if (p->c->expert_usage[0] == '\0')
        return MB_OK;
    p->usage = calloc((size_t)p->m->moe_layers * (size_t)p->m->router.experts + 1, sizeof *p->usage);
    if (p->usage == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the usage of experts");
    p->o.usage = p->usage;
    return mb_usage_read(p->c->expert_usage, p->m, p->usage);
}

static enum mb_status prepare(struct planner *p)
{
    const struct mb_conf *c = p->c;

    MB_TRY(read_cluster(p));
    MB_TRY(read_profile(p));
    MB_TRY(mb_app_open_shapes(c->model, (int32_t)c->k, &p->m)); /* planning needs no weights */
    mb_model_keep(p->m, mb_keep_of(c->weights, c->dtype));
    p->o = mb_app_plan_options(c, p->m, mb_app_path(c, p->m));
    p->o.speeds = &p->cluster;
    MB_TRY(read_usage(p));
    fill_batch(p);
    p->in = (struct mb_auto_in){.m = p->m,
                                .o = &p->o,
                                .c = &p->cluster,
                                .memory = (int64_t)(p->o.memory_fraction * p->cluster.kind.memory)};
    MB_TRY(mb_workload_read(c->workload, &p->in.w));
    int64_t most = c->max_model_len > 0 ? c->max_model_len : p->m->max_positions;
    if (c->workload[0] == '\0' &&
        p->in.w.prompt + p->in.w.output > most) { /* the usual lengths, in proportion */
        p->in.w.output = most / 5;
        p->in.w.prompt = most - most / 5;
    }
    p->in.context = c->max_model_len > p->in.w.prompt + p->in.w.output ? c->max_model_len
                                                                       : p->in.w.prompt + p->in.w.output;
    return check_lengths(p);
}

/* ---------------------------------------------------------------- no layout fits */

struct first_fit {
    struct mb_candidate best;
    bool any;
};

static void note_fit(void *arg, int32_t nodes, const struct mb_candidate *best)
{
    struct first_fit *f = arg;

    (void)nodes;
    if (best != NULL) { /* the last one is told of last, and is the smallest that fits */
        f->best = *best;
        f->any = true;
    }
}

/* More nodes of this kind would do: how many, and how. Sizes that were given may stand in the way. */
static enum mb_status say_enough(const struct planner *p, char *out, size_t cap)
{
    struct mb_cluster c = p->cluster;
    struct mb_auto_in in = p->in;
    struct first_fit f = {.any = false};
    char options[MB_LAYOUT_TEXT];
    int32_t nodes = 0;

    if (c.net <= 0)
        c.net = ASSUMED_NET;
    in.c = &c;
    MB_TRY(mb_auto_nodes(&in, 0, note_fit, &f, &nodes));
    if (nodes == 0) {
        snprintf(out, cap, "nor do more nodes of this kind help");
        return MB_OK;
    }
    mb_plan_options_text(&f.best.l, options);
    snprintf(out, cap, "%d %s (%d nodes) hold it, with %s", (int)(nodes * c.per_node),
             c.cpu ? "ranks" : "GPUs", (int)nodes, options);
    return MB_OK;
}

static enum mb_status refuse(struct planner *p)
{
    const struct mb_candidate *s = mb_auto_smallest(p->found);
    char enough[MB_LAYOUT_TEXT + 128], options[MB_LAYOUT_TEXT];
    const char *unit = p->cluster.cpu ? "GiB" : "GB";
    double gb = p->cluster.gib;

    if (for_people(p))
        MB_TRY(mb_plan_print_simple(&p->in, NULL));
    fflush(stdout); /* the table comes before the message that explains it */
    MB_TRY(say_enough(p, enough, sizeof enough));
    if (s == NULL)
        return mb_error(MB_LAYOUT, "no layout of %d ranks is possible with these sizes%s%s; %s",
                        (int)(p->cluster.nodes * p->cluster.per_node), p->found->refused[0] ? ": " : "",
                        p->found->refused, enough);
    mb_plan_options_text(&s->l, options);
    return mb_error(
        MB_LAYOUT,
        "no layout of %d ranks fits: the smallest, %s, needs %.1f %s of %.1f on a rank (experts %.1f, shared "
        "weights %.1f, activations and buffers %.1f, the rest for one request's KV); %s",
        (int)(p->cluster.nodes * p->cluster.per_node), options, (double)s->need / gb, unit,
        (double)p->in.memory / gb, (double)s->experts / gb, (double)s->weights / gb, (double)s->rest / gb,
        enough);
}

/* ---------------------------------------------------------------- how many nodes for a deadline */

static void note_row(void *arg, int32_t nodes, const struct mb_candidate *best)
{
    struct mb_plan_nodes *t = arg;

    if (t->n == t->cap) {
        int32_t cap = 2 * t->cap + 64;
        struct mb_plan_nodes_row *more = realloc(t->row, (size_t)cap * sizeof *more);
        if (more == NULL)
            return; /* a row less is shown */
        t->row = more;
        t->cap = cap;
    }
    t->row[t->n] = (struct mb_plan_nodes_row){.nodes = nodes, .fits = best != NULL};
    if (best != NULL)
        t->row[t->n].best = *best;
    t->n++;
}

static enum mb_status find_nodes(struct planner *p)
{
    struct mb_plan_nodes t = {0};
    int32_t nodes = 0;

    if (p->cluster.net <= 0)
        return mb_error(
            MB_USAGE,
            "--deadline-hours looks at other numbers of nodes, for which --cluster must name the network, "
            "such as 8x400Gb");
    p->cluster.nodes = 1;
    enum mb_status st = mb_auto_nodes(&p->in, 3600 * p->c->deadline_hours, note_row, &t, &nodes);
    if (st == MB_OK && for_people(p))
        st = mb_plan_print_nodes(&t, &p->in, p->c->deadline_hours, nodes);
    free(t.row);
    if (st == MB_OK && nodes == 0)
        st = mb_error(MB_LAYOUT,
                      "no number of nodes up to %d ranks does this in %g hours by estimate; give more time",
                      MB_AUTO_NODES, p->c->deadline_hours);
    if (st == MB_OK)
        p->cluster.nodes = nodes;
    return st;
}

/* ---------------------------------------------------------------- the command */

/* --placement-out. */
static enum mb_status write_placement(const struct planner *p)
{
    char *text = mb_placement_text(p->plan->placement);

    if (text == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the text of a placement");
    enum mb_status st = mb_publish_bytes(p->c->placement_out, text, strlen(text), 0);
    free(text);
    return st;
}

static enum mb_status make_plan(struct planner *p, int64_t at)
{
    struct mb_plan_options o = p->o;

    o.layout = mb_layout_options_of(&p->found->fit[at].l);
    MB_TRY(mb_plan_create(p->m, p->topo, &o, &p->plan));
    return p->c->placement_out[0] != '\0' ? write_placement(p) : MB_OK;
}

static enum mb_status show(struct planner *p)
{
    int64_t at = mb_auto_settle(p->found, &p->in, p->topo);

    if (at < 0)
        return refuse(p);
    MB_TRY(make_plan(p, at));
    if (p->c->sbatch) {
        mb_plan_print_sbatch(p->c, &p->in, &p->found->fit[at]);
        return MB_OK;
    }
    struct mb_simulated sim, *simulated = p->c->simulate[0] != '\0' ? &sim : NULL;
    if (simulated != NULL)
        MB_TRY(mb_plan_simulate(p->c, &p->in, &p->found->fit[at], p->plan, simulated));
    if (p->c->json)
        return mb_plan_print_json(p->c, p->found, &p->in, at, simulated);
    MB_TRY(mb_plan_print_table(p->found, &p->in, at));
    MB_TRY(mb_plan_print_simple(&p->in, &p->found->fit[at]));
    mb_plan_print_choice(p->c, p->found, &p->in, at, p->plan);
    if (simulated != NULL)
        mb_plan_print_simulated(p->c, p->plan, simulated);
    return MB_OK;
}

enum mb_status mb_tool_plan(const struct mb_conf *c)
{
    struct planner p = {.c = c};
    enum mb_status st = prepare(&p);

    if (st == MB_OK && for_people(&p))
        mb_plan_print_head(c, &p.in);
    if (st == MB_OK && c->deadline_hours > 0)
        st = find_nodes(&p);
    if (st == MB_OK)
        st = mb_auto_create(&p.in, &p.found);
    if (st == MB_OK)
        st = mb_cluster_topo(&p.cluster, &p.topo);
    if (st == MB_OK)
        st = show(&p);
    mb_plan_destroy(p.plan);
    free(p.usage);
    mb_topo_destroy(p.topo);
    mb_auto_destroy(p.found);
    mb_model_destroy(p.m);
    return st;
}
