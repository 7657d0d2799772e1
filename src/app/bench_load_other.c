/* The same workload with another model (--against): the table of one model beside another, for one of experts
 * beside a dense one. */
#include <stdio.h>
#include <string.h>
#include "app/bench_load_impl.h"
#include "base/log.h"

/* The same options, but for those of experts, which the other model may not have, and of adapters. */
static void other_options(struct mb_load *l)
{
    static char none[1] = "", stage[] = "stage", even[] = "uniform";
    struct mb_conf *o = &l->other;

    *o = *l->app.conf;
    if (o->random_weights[0] != '\0')
        o->random_weights = o->against;
    else
        o->model = o->against;
    o->expert_parallel_size = o->expert_tensor_parallel_size = o->expert_data_parallel_size = 0;
    o->num_experts_per_gpu = o->num_redundant_experts = o->disaggregate_attention = o->disaggregate_experts =
        0;
    o->zero_inference = o->min_experts = o->k = 0;
    o->expert_scope = stage;
    o->placement = even;
    o->expert_usage = o->placement_before = o->adapter = o->expect_digest = none;
}

static enum mb_status look(void *arg)
{
    const struct mb_conf *c = arg;
    struct mb_model *m = NULL;

    MB_TRY(mb_app_open_shapes(c->against, 0, &m));
    bool runs = m->n_files > 0 || c->random_weights[0] != '\0';
    mb_model_destroy(m);
    return runs ? MB_OK
                : mb_error(MB_MODEL,
                           "--against %s: a model's directory with its weights is needed; a config.json "
                           "alone will do with "
                           "--random-weights",
                           c->against);
}

enum mb_status mb_load_check_other(struct mb_load *l)
{
    void *conf = (void *)(uintptr_t)l->app.conf; /* only read */

    if (l->app.conf->against[0] == '\0')
        return MB_OK;
    return mb_comm_alone(l->app.comm, l->app.rank == 0, look, conf, "looking at the model of --against");
}

/* The first model's median by the other's, of everything that both have. */
static void add_ratios(struct mb_load *l)
{
    const json_t *list = json_object_get(mb_bench_json(l->out), "results");
    const size_t skip = sizeof "against/" - 1, n = json_array_size(list);

    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        const char *name = json_string_value(json_object_get(o, "name"));
        if (name == NULL || strncmp(name, "against/", skip) != 0 || strncmp(name + skip, "time/", 5) == 0)
            continue;
        for (size_t j = 0; j < n; j++) {
            const json_t *x = json_array_get(list, j);
            const char *mine = json_string_value(json_object_get(x, "name"));
            double by = json_number_value(json_object_get(o, "median"));
            if (mine == NULL || strcmp(mine, name + skip) != 0 || by == 0)
                continue;
            char full[96];
            double ratio = json_number_value(json_object_get(x, "median")) / by;
            snprintf(full, sizeof full, "ratio/%s", mine);
            bool less = strcmp(json_string_value(json_object_get(x, "better")), "less") == 0;
            mb_bench_add(l->out, &(struct mb_measured){
                                     .name = full, .unit = "1", .less = less, .samples = &ratio, .n = 1});
        }
    }
}

/* Collective. */
enum mb_status mb_load_other(struct mb_load *l)
{
    mb_load_put_away(l);
    mb_app_drop(&l->app);
    other_options(l);
    l->app.conf = &l->other;
    l->prefix = "against/";
    mb_log_set_quiet(l->app.rank != 0);
    MB_TRY(mb_load_prepare(l));
    mb_log_set_quiet(false);
    MB_TRY(mb_load_measure(l));
    if (l->out != NULL)
        add_ratios(l);
    return MB_OK;
}
