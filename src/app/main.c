/* moebatch: command line in, exit code out. Commands that only look at files never start MPI. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "app/apart.h"
#include "app/bench.h"
#include "app/run.h"
#include "app/signals.h"
#include "app/tools.h"
#include "app/verify.h"
#include "base/log.h"
#include "conf/conf.h"
#include "model/hub.h"
#include "config.h"

extern char **environ;

/* Every rank reads the same command line and finds the same mistakes: one says so. The launcher's variables tell the rank
 * before MPI does. */
static bool speaks_for_all(void)
{
    static const char *const rank[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"};
    for (size_t i = 0; i < sizeof rank / sizeof rank[0]; i++) {
        const char *v = getenv(rank[i]);
        if (v != NULL)
            return strcmp(v, "0") == 0;
    }
    return true;
}

/* A launcher ends the job when the first rank leaves with an error, perhaps before the one that speaks has spoken. So the others
 * wait to be ended; who is still there then was alone with the mistake (an environment of its own, say) and says it. */
static enum mb_status parse(int argc, char **argv, struct mb_conf **conf)
{
    const struct timespec moment = {.tv_sec = 5};
    bool speaks = speaks_for_all();

    mb_log_set_quiet(!speaks);
    enum mb_status st = mb_conf_parse(argc, argv, environ, conf);
    mb_log_set_quiet(false);
    if (st == MB_OK || speaks)
        return st;
    bool ended = nanosleep(&moment, NULL) != 0;
    return ended ? st : mb_conf_parse(argc, argv, environ, conf);
}

/* -m may name a repository of a Hugging Face cache: from here on it is the directory with the files. What is asked for stays the
 * model's name in requests and responses (mb_conf.model_name). Commands without a model have an empty one. */
static enum mb_status find_model(struct mb_conf *c)
{
    char *dir = NULL;

    if (c->model[0] == 0)
        return MB_OK;
    MB_TRY(mb_hub_find(c->model, &dir));
    if (strcmp(dir, c->model) == 0) {
        free(dir);
        return MB_OK;
    }
    mb_info("%s is %s", c->model, dir);
    free(c->model_name);
    c->model_name = c->model;
    c->model = dir;
    return MB_OK;
}

static enum mb_status dispatch(const struct mb_conf *c, int *argc, char ***argv, int *exit_code)
{
    switch (c->command) {
    case MB_CMD_RUN:
    case MB_CMD_SCORE:
        return mb_run(c, argc, argv, exit_code);
    case MB_CMD_PLAN:
        return mb_tool_plan(c);
    case MB_CMD_INSPECT:
        return c->n_args > 0 ? mb_app_apart(c, mb_tool_inspect, exit_code) : mb_tool_inspect(c, exit_code);
    case MB_CMD_STATUS:
        return mb_app_apart(c, mb_tool_status, exit_code);
    case MB_CMD_ASSEMBLE:
        return mb_tool_assemble(c);
    case MB_CMD_MERGE:
        return mb_tool_merge(c);
    case MB_CMD_COMPARE:
        return mb_app_apart(c, mb_tool_compare, exit_code);
    case MB_CMD_TOKENIZE:
        return mb_tool_tokenize(c);
    case MB_CMD_CHECK:
        return mb_tool_check(c);
    case MB_CMD_CTL:
        return mb_tool_ctl(c);
    case MB_CMD_EXPORT:
        return mb_tool_export(c);
    case MB_CMD_VERIFY:
        return mb_verify(c, argc, argv, exit_code);
    case MB_CMD_BENCH:
        return mb_bench_command(c, argc, argv, exit_code);
    case MB_CMD_QUANTIZE:
        return mb_tool_quantize(c);
    case MB_CMD_HELP:
        mb_conf_help(stdout, c->help_for);
        return MB_OK;
    case MB_CMD_VERSION:
        mb_tool_version();
        return MB_OK;
    default:
        return mb_error(MB_BUG, "command %d has no function", c->command);
    }
}

/* Commands that write files besides standard output. */
static bool writes(const struct mb_conf *conf)
{
    enum mb_command c = conf->command;
    if (c == MB_CMD_EXPORT)
        return conf->output[0] != 0 && strcmp(conf->output, "-") != 0;
    return c == MB_CMD_ASSEMBLE || c == MB_CMD_MERGE || c == MB_CMD_QUANTIZE;
}

int main(int argc, char **argv)
{
    struct mb_conf *conf = NULL;
    int code = -1;

    mb_signals_install();
    enum mb_status st = parse(argc, argv, &conf);
    if (st == MB_OK && conf->command != MB_CMD_RUN && conf->command != MB_CMD_SCORE)
        mb_signals_tool(writes(conf));
    if (st == MB_OK)
        st = find_model(conf);
    if (st == MB_OK)
        st = dispatch(conf, &argc, &argv, &code);
    mb_conf_destroy(conf);
    if ((fflush(stdout) != 0 || ferror(stdout)) && st == MB_OK) {
        st = mb_error(MB_IO, "standard output can't be written: %s", strerror(errno));
        code = -1;
    }
    return code >= 0 ? code : mb_status_exit(st);
}
