/* The plan as JSON, for provenance. */
#include "plan/plan.h"

#include <jansson.h>

static json_t *ints(const int32_t *v, int64_t n)
{
    json_t *a = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(a, json_integer(v[i]));
    return a;
}

static json_t *sizes(const struct mb_plan *p)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "world", p->world, "lanes",
                     p->lanes, "stages", p->stages, "stage_size", p->stage_size, "tp", p->tp, "sp", p->sp,
                     "adp", p->adp, "ep", p->ep, "etp", p->etp, "edp", p->edp, "nodes", p->nodes);
}

static json_t *budget(const struct mb_budget *b)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)b->weights, "experts",
                     (json_int_t)b->experts, "kv", (json_int_t)b->kv, "activations",
                     (json_int_t)b->activations, "exchange", (json_int_t)b->exchange, "staging",
                     (json_int_t)b->staging, "total", (json_int_t)b->total, "kv_page_bytes",
                     (json_int_t)b->kv_page_bytes);
}

/* The same form as a placement file, so that the plan of one job can be the --placement of the next. */
static json_t *owners(const struct mb_placement *pl)
{
    json_t *a = json_array();
    for (int32_t lm = 0; lm < pl->moe_layers; lm++)
        json_array_append_new(a, ints(pl->owner + (int64_t)lm * pl->experts, pl->experts));
    return a;
}

char *mb_plan_json(const struct mb_plan *p)
{
    json_t *bytes = json_array();
    for (int32_t i = 0; i < p->stage_size; i++)
        json_array_append_new(bytes, json_integer((json_int_t)p->expert_bytes[i]));
    json_t *doc = json_pack("{s:o, s:o, s:s, s:i, s:i, s:I, s:I, s:i, s:o, s:o, s:i, s:o}", "sizes", sizes(p),
                            "node_of", ints(p->node_of, p->stage_size), "alltoall",
                            p->alltoall == MB_A2A_HIER ? "hier" : "flat", "max_num_seqs", p->max_num_seqs,
                            "max_batch_rows", p->max_batch_rows, "max_len", (json_int_t)p->max_len,
                            "kv_pages", (json_int_t)p->kv_pages, "max_pages_per_seq", p->max_pages_per_seq,
                            "budget", budget(&p->budget), "expert_bytes", bytes, "placement_revision",
                            (int)p->placement->revision, "owner", owners(p->placement));
    char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return text;
}
