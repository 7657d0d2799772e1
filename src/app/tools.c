#include "app/tools.h"

#include <stdio.h>
#include <stdlib.h>
#include "app/signals.h"
#include "app/text.h"
#include "base/json.h"
#include "base/log.h"
#include "config.h"
#include "device/ops.h"
#include "io/h5.h"
#include "io/orders.h"
#include "io/tools.h"
#include "model/model.h"
#include "plan/budget.h"
#include "topo/topo.h"

/* Bytes of the fullest rank of a layout, with equal ranges of experts and --dtype auto. */
static struct mb_budget of_ranks(const struct mb_model *m, int32_t ranks)
{
    int32_t owned = m->router.experts > 0 ? (m->router.experts + ranks - 1) / ranks : 0;
    enum mb_dtype t = m->auto_path == MB_PATH_F32 ? MB_F32 : MB_BF16;
    int32_t first[2] = {0, m->layers};
    struct mb_plan p = {.layout = {.world = ranks, .dp = 1, .pp = 1, .tp = 1, .sp = 1, .adp = ranks, .ep = ranks, .etp = 1, .edp = 1},
                        .nodes = 1, .first_layer = first, .alltoall = MB_A2A_FLAT, .max_num_seqs = 1, .max_batch_rows = 1, .max_len = 1,
                        .max_pages_per_seq = 1};
    struct mb_plan_options o = {.path = t, .kv_dtype = t};
    struct mb_budget_stage all = {0, m->layers, true, true};
    struct mb_budget_rank r = {.owned = owned, .node1 = ranks, .widest = ranks, .experts = (int64_t)owned * m->moe_layers,
                               .dense = mb_budget_dense(m, &o, &all, MB_WHOLE, MB_WHOLE)};

    return mb_budget_fixed(m, &p, &o, &r);
}

/* 1, 2, 4, 8 ... ranks, and as many as there are experts; 0 after that. */
static int32_t next_ranks(const struct mb_model *m, int32_t ranks)
{
    int32_t most = m->router.experts > 1 ? m->router.experts : 1;
    if (ranks >= most)
        return 0;
    return ranks > most / 2 ? most : 2 * ranks;
}

static void print_ranks(const struct mb_model *m)
{
    for (int32_t n = 1; n > 0; n = next_ranks(m, n)) {
        struct mb_budget b = of_ranks(m, n);
        printf("%-10s: %d: %lld bytes of weights and %lld of experts on the fullest, %lld a KV page of %d positions\n",
               n == 1 ? "ranks" : "", n, (long long)b.weights, (long long)b.experts, (long long)b.kv_page_bytes, MB_KV_BLOCK);
    }
}

static enum mb_status print_json(const struct mb_model *m)
{
    char *text = mb_model_json(m), *all = NULL;
    json_t *o = text != NULL ? json_loads(text, 0, NULL) : NULL, *list = json_array();
    int bad = o == NULL;

    for (int32_t n = 1; n > 0; n = next_ranks(m, n)) {
        struct mb_budget b = of_ranks(m, n);
        bad |= json_array_append_new(list, json_pack("{s:i,s:I,s:I,s:I}", "ranks", n, "weights", (json_int_t)b.weights, "experts",
                                                     (json_int_t)b.experts, "kv_page", (json_int_t)b.kv_page_bytes));
    }
    bad |= json_object_set(o, "bytes_per_rank", list);
    if (!bad)
        all = json_dumps(o, JSON_INDENT(2));
    if (all != NULL)
        printf("%s\n", all);
    enum mb_status st = all != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for the model as JSON");
    free(all);
    free(text);
    json_decref(list);
    json_decref(o);
    return st;
}

static enum mb_status inspect_model(const struct mb_conf *c)
{
    struct mb_model *m = NULL;
    enum mb_status st = MB_OK;

    MB_TRY(mb_model_open(c->model, 0, &m));
    st = mb_app_text_report(m, c->model, true);
    if (st == MB_OK && c->json) {
        st = print_json(m);
    } else if (st == MB_OK) {
        mb_model_print(stdout, m);
        st = mb_app_text_report(m, c->model, false);
        print_ranks(m);
    }
    mb_model_destroy(m);
    return st;
}

enum mb_status mb_tool_inspect(const struct mb_conf *c, int *exit_code)
{
    (void)exit_code;
    if (c->n_args == 0)
        return inspect_model(c);
    struct mb_inspect_options o = {.path = c->args[0], .check = c->check, .digest = c->digest, .in_order = c->in_order, .requests = c->requests,
                                   .text = c->text, .errors = c->errors, .routing = c->routing, .json = c->json};
    return mb_inspect(stdout, &o);
}

enum mb_status mb_tool_status(const struct mb_conf *c, int *exit_code)
{
    return mb_results_status(stdout, c->args[0], c->json, exit_code);
}

enum mb_status mb_tool_assemble(const struct mb_conf *c)
{
    return mb_results_assemble(c->args[0], c->partial, c->keep, c->openai_output, mb_signals_stop());
}

enum mb_status mb_tool_merge(const struct mb_conf *c)
{
    return mb_results_merge((const char *const *)c->args, c->n_args, c->output, c->overwrite, mb_signals_stop());
}

enum mb_status mb_tool_compare(const struct mb_conf *c, int *exit_code)
{
    bool equal = false;

    MB_TRY(mb_results_compare(stdout, c->args[0], c->args[1], &equal));
    *exit_code = equal ? 0 : 3;
    return MB_OK;
}

enum mb_status mb_tool_ctl(const struct mb_conf *c)
{
    return mb_order_ask(stdout, c->args[0], c->args[1], 30);
}

enum mb_status mb_tool_export(const struct mb_conf *c)
{
    struct mb_export_options o = {.results = c->args[0], .format = c->format, .out = c->output, .model = c->model,
                                  .overwrite = c->overwrite, .stop = mb_signals_stop()};
    return mb_export(&o);
}

/* ---------------------------------------------------------------- check */

/* What a run on this machine would compute with. */
static enum mb_status check_machine(void)
{
    struct mb_topo_local here;
    struct mb_mem mem = {0};
    struct mb_device *dev = NULL;
    struct mb_device_info info;
    const struct mb_ops *ops = mb_ops_find("auto");

    MB_TRY(mb_topo_discover(NULL, &here, NULL));
    printf("machine             : %s, %s, %d CPUs allowed of %d, %.1f GiB free of %.1f\n", here.host, here.cpu_model,
           mb_cpus_count(&here.allowed), here.cpus_online, (double)here.memory_free / (1 << 30), (double)here.memory_bytes / (1 << 30));
    struct mb_device_options o = {.threads = mb_cpus_count(&here.allowed), .isa = "auto", .mem = &mem, .path = MB_BF16};
    MB_TRY(ops->open(&o, &dev));
    ops->info(dev, &info);
    printf("device              : %s: %s\n", info.name, info.isa);
    ops->close(dev);
    return MB_OK;
}

static enum mb_status check_text(const char *dir)
{
    struct mb_model *m = NULL;
    MB_TRY(mb_model_open(dir, 0, &m));
    enum mb_status st = mb_app_text_report(m, dir, false);
    mb_model_destroy(m);
    return st;
}

enum mb_status mb_tool_check(const struct mb_conf *c)
{
    struct mb_mem mem = {0};

    MB_TRY(mb_model_check(stdout, c->model, &mem));
    MB_TRY(check_text(c->model));
    MB_TRY(check_machine());
    printf("%s can be run\n", c->model);
    return MB_OK;
}

void mb_tool_version(void)
{
    char h5[32];

    mb_h5_version(h5, sizeof h5);
    printf("moebatch %s (%s)\n%s\n", PACKAGE_VERSION, MB_COMMIT, h5);
}
