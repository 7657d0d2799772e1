/* moebatch plan --json: one object, for scripts. */
#include <stdio.h>
#include <stdlib.h>
#include "app/plan_print.h"
#include "base/json.h"
#include "base/log.h"

#define SHOWN 100 /* layouts; the best, and there may be thousands */

static json_t *sizes_of(const struct mb_layout *l)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:b}", "data_parallel", (int)l->dp,
                     "pipeline_parallel", (int)l->pp, "tensor_parallel", (int)l->tp, "sequence_parallel",
                     (int)l->sp, "attention_data_parallel", (int)l->adp, "expert_parallel", (int)l->ep,
                     "expert_tensor_parallel", (int)l->etp, "expert_data_parallel", (int)l->edp, "lane_scope",
                     (int)l->lane_scope);
}

static json_t *time_of(const struct mb_cost *t)
{
    json_t *share = json_object();

    for (int i = 0; i < MB_COST_PARTS; i++)
        json_object_set_new(share, mb_cost_part_name[i], json_real(t->part[i]));
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "seconds", t->seconds, "load_seconds", t->load,
                     "assembly_seconds", t->assembly, "prefill_tokens_per_second", t->prefill,
                     "decode_tokens_per_second", t->decode, "pipeline_idle", t->idle, "shares", share);
}

static json_t *candidate(const struct mb_candidate *c)
{
    char options[MB_LAYOUT_TEXT];

    mb_plan_options_text(&c->l, options);
    return json_pack("{s:s, s:o, s:{s:I, s:I, s:I, s:I}, s:I, s:o}", "options", options, "sizes",
                     sizes_of(&c->l), "bytes", "experts", (json_int_t)c->experts, "shared",
                     (json_int_t)c->weights, "rest", (json_int_t)c->rest, "kv", (json_int_t)c->kv,
                     "sequences", (json_int_t)c->seqs, "estimate", time_of(&c->cost));
}

static json_t *cluster(const struct mb_auto_in *in)
{
    const struct mb_cluster *c = in->c;
    char text[MB_CLUSTER_TEXT];

    mb_cluster_text(c, text);
    return json_pack("{s:s, s:i, s:i, s:s, s:b, s:f, s:I, s:f, s:f, s:f, s:f, s:b}", "text", text, "nodes",
                     (int)c->nodes, "ranks_per_node", (int)c->per_node, "device", c->kind.name, "cpu",
                     (int)c->cpu, "memory_bytes", c->kind.memory, "usable_bytes", (json_int_t)in->memory,
                     "flops", c->kind.flops, "memory_bytes_per_second", c->kind.bandwidth,
                     "link_bytes_per_second", c->link, "network_bytes_per_second", c->net, "guessed",
                     (int)c->guess);
}

static json_t *model(const struct mb_auto_in *in)
{
    const struct mb_model *m = in->m;

    return json_pack("{s:s, s:i, s:i, s:i, s:I, s:I, s:s}", "architecture", m->arch, "layers", (int)m->layers,
                     "experts", m->moe_layers > 0 ? (int)m->router.experts : 0, "experts_per_token",
                     m->moe_layers > 0 ? (int)m->router.k : 0, "parameters", (json_int_t)m->params_total,
                     "active_parameters", (json_int_t)m->params_active, "dtype",
                     in->o->path == MB_F32 ? "f32" : "bf16");
}

/* Node-hours, and money where a price is known. */
static json_t *cost(const struct mb_conf *c, const struct mb_auto_in *in, const struct mb_candidate *x)
{
    double hours = mb_plan_node_hours(in, x);
    json_t *o = json_pack("{s:f}", "node_hours", hours);

    if (o != NULL && c->price > 0)
        json_object_set_new(o, "price", json_real(hours * c->price));
    return o;
}

enum mb_status mb_plan_print_json(const struct mb_conf *c, const struct mb_auto *a, const struct mb_auto_in *in, int64_t taken,
                                  const struct mb_simulated *sim)
{
    char reason[MB_AUTO_TEXT];
    json_t *layouts = json_array();

    mb_auto_reason(a, in, taken, reason);
    for (int64_t i = 0; i < a->n && i < SHOWN; i++)
        json_array_append_new(layouts, candidate(&a->fit[i]));
    json_t *o = json_pack("{s:o, s:o, s:{s:I, s:I, s:I}, s:I, s:I, s:o, s:o, s:s, s:o}", "model", model(in),
                          "cluster", cluster(in), "workload", "requests", (json_int_t)in->w.requests,
                          "prompt_tokens", (json_int_t)in->w.prompt, "output_tokens",
                          (json_int_t)in->w.output, "legal", (json_int_t)a->legal, "fit", (json_int_t)a->n,
                          "chosen", candidate(&a->fit[taken]), "cost", cost(c, in, &a->fit[taken]), "reason", reason, "layouts", layouts);
    if (o != NULL && sim != NULL)
        json_object_set_new(o, "simulation", mb_plan_simulated_json(c, sim));
    bool good = o != NULL && json_dumpf(o, stdout, JSON_INDENT(2)) == 0 && putchar('\n') != EOF;
    json_decref(o);
    return good ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for the plan as JSON");
}
