/* The plan as JSON, for provenance. */
#include "plan/plan.h"
#include "plan/alltoall.h"
#include "plan/makers.h"

#include <jansson.h>

static json_t *ints(const int32_t *v, int64_t n)
{
    json_t *a = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(a, json_integer(v[i]));
    return a;
}

static json_t *wide(const int64_t *v, int64_t n)
{
    json_t *a = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(a, json_integer((json_int_t)v[i]));
    return a;
}

static json_t *sizes(const struct mb_layout *l)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:i, s:i}", "world", l->world,
                     "lanes", l->dp, "stages", l->pp, "stage_size", mb_layout_stage_size(l), "tp", l->tp,
                     "sp", l->sp, "adp", l->adp, "ep", l->ep, "etp", l->etp, "edp", l->edp, "expert_scope",
                     l->lane_scope ? "lane" : "stage", "attention_ranks", mb_layout_attn(l), "expert_ranks",
                     mb_layout_expert(l));
}

static json_t *budget(const struct mb_budget *b)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)b->weights, "experts",
                     (json_int_t)b->experts, "kv", (json_int_t)b->kv, "state", (json_int_t)b->state, "activations",
                     (json_int_t)b->activations, "exchange", (json_int_t)b->exchange, "staging",
                     (json_int_t)b->staging, "total", (json_int_t)b->total, "kv_page_bytes",
                     (json_int_t)b->kv_page_bytes);
}

/* Owners and quotas in the form of a placement file, so that the plan of one job can be the --placement of the next. */
char *mb_plan_json(const struct mb_plan *p)
{
    json_t *doc = json_pack(
        "{s:o, s:o, s:o, s:s, s:i, s:i, s:I, s:I, s:i, s:o, s:o, s:o, s:o, s:i, s:o, s:o}", "sizes",
        sizes(&p->layout), "first_layer", ints(p->first_layer, p->layout.pp + 1), "node_of",
        ints(p->node_of, p->layout.world), "alltoall", mb_alltoall_rows[p->alltoall].name,
        "max_num_seqs", p->max_num_seqs, "max_batch_rows", p->max_batch_rows, "max_len",
        (json_int_t)p->max_len, "kv_pages", (json_int_t)p->kv_pages, "max_pages_per_seq",
        p->max_pages_per_seq, "budget", budget(&p->budget), "weight_bytes",
        wide(p->weight_bytes, p->layout.world), "total_bytes", wide(p->total_bytes, p->layout.world),
        "expert_bytes", wide(p->expert_bytes, p->layout.world), "placement_revision",
        (int)p->placement->revision, "owner",
        mb_placement_owner(p->placement), "quota", mb_placement_quota(p->placement));
    char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return text;
}
