#include "app/tools.h"

#include <stdio.h>
#include <stdlib.h>
#include "base/log.h"
#include "config.h"
#include "device/ops.h"
#include "io/h5.h"
#include "io/tools.h"
#include "model/model.h"
#include "text/tokenizer.h"
#include "topo/topo.h"

static enum mb_status inspect_model(const struct mb_conf *c)
{
    struct mb_model *m = NULL;

    MB_TRY(mb_model_open(c->model, 0, &m));
    mb_model_print(stdout, m);
    mb_model_destroy(m);
    return MB_OK;
}

enum mb_status mb_tool_inspect(const struct mb_conf *c)
{
    if (c->n_args == 0)
        return inspect_model(c);
    struct mb_inspect_options o = {.path = c->args[0], .digest = c->digest, .in_order = c->in_order, .requests = c->requests,
                                   .text = c->text, .routing = c->routing, .json = c->json};
    return mb_inspect(stdout, &o);
}

enum mb_status mb_tool_status(const struct mb_conf *c, int *exit_code)
{
    return mb_results_status(stdout, c->args[0], c->json, exit_code);
}

enum mb_status mb_tool_assemble(const struct mb_conf *c)
{
    return mb_results_assemble(c->args[0], c->partial, c->keep, c->openai_output);
}

enum mb_status mb_tool_merge(const struct mb_conf *c)
{
    return mb_results_merge((const char *const *)c->args, c->n_args, c->output, c->overwrite);
}

/* ---------------------------------------------------------------- check */

static enum mb_status check_text(const char *dir)
{
    struct mb_tokenizer *t = NULL;

    if (!mb_tokenizer_present(dir)) {
        printf("tokenizer           : none; only requests given as token ids can run\n");
        return MB_OK;
    }
    MB_TRY(mb_tokenizer_load(dir, &t));
    printf("tokenizer           : %d ids\n", mb_tokenizer_size(t));
    mb_tokenizer_destroy(t);
    return MB_OK;
}

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
