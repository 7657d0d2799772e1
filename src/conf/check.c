/* What a command needs, and options that contradict each other. */
#include "conf/value.h"

#include <inttypes.h>
#include <string.h>
#include "base/log.h"
#include "base/numerics.h"

#define NUM_SEQS 64 /* sequences of a job where --max-num-seqs is not given */

static bool given(const char *s)
{
    return s[0] != '\0';
}

static enum mb_status need(const struct mb_conf *c, const char *value, const char *label)
{
    if (given(value))
        return MB_OK;
    const struct mb_cmd *cmd = &mb_cmds[c->command];
    return mb_error(MB_USAGE, "%s needs %s; usage: moebatch %s %s", cmd->name, label, cmd->name,
                    cmd->synopsis);
}

static enum mb_status check_args(const struct mb_conf *c)
{
    const struct mb_cmd *cmd = &mb_cmds[c->command];

    if (c->n_args > cmd->max_args && cmd->max_args == 0)
        return mb_error(MB_USAGE, "'%s': %s takes options only; usage: moebatch %s %s", c->args[0], cmd->name,
                        cmd->name, cmd->synopsis);
    if (c->n_args < cmd->min_args || c->n_args > cmd->max_args)
        return mb_error(MB_USAGE, "%s with %d file names; usage: moebatch %s %s", cmd->name, (int)c->n_args,
                        cmd->name, cmd->synopsis);
    return MB_OK;
}

static enum mb_status contradict(const char *a, const char *b)
{
    return mb_error(MB_USAGE, "%s and %s contradict each other; give one of them", a, b);
}

/* I/N with 1 <= I <= N. */
static enum mb_status check_shard(struct mb_conf *c)
{
    int i, n, used = 0;

    c->shard_count = 1;
    if (!given(c->shard))
        return MB_OK;
    bool digits = strspn(c->shard, "0123456789/") == strlen(c->shard) && strlen(c->shard) <= 15;
    if (!digits || sscanf(c->shard, "%d/%d%n", &i, &n, &used) != 2 || c->shard[used] != '\0' || i < 1 ||
        i > n)
        return mb_error(MB_USAGE, "--shard '%s' is not I/N with I from 1 to N, as in 2/8", c->shard);
    c->shard_index = i - 1;
    c->shard_count = n;
    return MB_OK;
}

/* A:X, both at least 1. */
static enum mb_status check_disaggregate(struct mb_conf *c)
{
    int a, x, used = 0;

    if (!given(c->disaggregate))
        return MB_OK;
    bool digits =
        strspn(c->disaggregate, "0123456789:") == strlen(c->disaggregate) && strlen(c->disaggregate) <= 15;
    if (!digits || sscanf(c->disaggregate, "%d:%d%n", &a, &x, &used) != 2 || c->disaggregate[used] != '\0' ||
        a < 1 || x < 1)
        return mb_error(
            MB_USAGE,
            "--disaggregate '%s' is not A:X, ranks that attend and ranks that hold experts, as in 4:4",
            c->disaggregate);
    c->disaggregate_attention = a;
    c->disaggregate_experts = x;
    return MB_OK;
}

static enum mb_status check_zero(const struct mb_conf *c)
{
    if (c->zero_inference == 0 && (c->min_experts > 0 || c->prefetch > 0))
        return mb_error(MB_USAGE, "%s belongs to --zero-inference; add --zero-inference PERCENT",
                        c->min_experts > 0 ? "--min-experts" : "--prefetch");
    if (c->zero_inference > 0 && given(c->stage))
        return mb_error(
            MB_USAGE,
            "--stage copies what a node reads at the start, and under --zero-inference it may read any "
            "expert later; give one of them");
    return MB_OK;
}

static enum mb_status same_file(const char *a, const char *name_a, const char *b, const char *name_b)
{
    if (given(a) && strcmp(a, b) == 0)
        return mb_error(MB_USAGE, "%s and %s are the same file, %s", name_a, name_b, a);
    return MB_OK;
}

/* What a placement is made from. */
static enum mb_status check_placement(const struct mb_conf *c)
{
    bool usage = strcmp(c->placement, "usage") == 0, made = usage || strcmp(c->placement, "capacity") == 0;

    if (usage && !given(c->expert_usage))
        return mb_error(MB_USAGE, "--placement usage needs --expert-usage, the results of an earlier job");
    if (!made && (given(c->expert_usage) || c->num_redundant_experts > 0))
        return mb_error(MB_USAGE, "%s belongs to --placement usage or capacity, not %s",
                        given(c->expert_usage) ? "--expert-usage" : "--num-redundant-experts", c->placement);
    return MB_OK;
}

/* Where run and plan agree. */
static enum mb_status check_batch(const struct mb_conf *c)
{
    if (c->max_batch_rows > 0 && c->max_batch_rows < c->max_num_seqs)
        return mb_error(MB_USAGE,
                        "--max-batch-rows %" PRId64 " is less than --max-num-seqs %" PRId64
                        ": a step must hold one row of each sequence",
                        c->max_batch_rows, c->max_num_seqs);
    return MB_OK;
}

static enum mb_status check_plan(struct mb_conf *c)
{
    MB_TRY(need(c, c->model, "a model (-m)"));
    MB_TRY(check_disaggregate(c));
    if (c->deadline_hours > 0 && !given(c->workload))
        return mb_error(MB_USAGE, "--deadline-hours needs --workload, as in --workload '100000 x 1024+256'");
    if (c->command == MB_CMD_PLAN && c->json && c->sbatch)
        return contradict("--json", "--sbatch");
    return check_batch(c);
}

static enum mb_status check_job(struct mb_conf *c)
{
    if (c->max_num_seqs == 0)
        c->max_num_seqs = NUM_SEQS;
    MB_TRY(need(c, c->model, "a model (-m)"));
    MB_TRY(need(c, c->input, "an input (-i)"));
    MB_TRY(need(c, c->output, "a results file (-o)"));
    MB_TRY(same_file(c->input, "--input", c->output, "--output"));
    MB_TRY(same_file(c->openai_output, "--openai-output", c->output, "--output"));
    MB_TRY(same_file(c->openai_output, "--openai-output", c->input, "--input"));
    MB_TRY(check_disaggregate(c));
    MB_TRY(check_placement(c));
    MB_TRY(check_zero(c));
    if (c->resume && c->overwrite)
        return contradict("--resume", "--overwrite");
    if (c->takeover && !c->resume && !c->overwrite)
        return mb_error(MB_USAGE, "--takeover says how --resume or --overwrite meet a job that runs: give one of them, too");
    if (c->kv_segment % MB_KV_BLOCK != 0)
        return mb_error(MB_USAGE, "--kv-segment %" PRId64 " is not a multiple of %d; %" PRId64 " is",
                        c->kv_segment, MB_KV_BLOCK,
                        (c->kv_segment + MB_KV_BLOCK - 1) / MB_KV_BLOCK * MB_KV_BLOCK);
    MB_TRY(check_batch(c));
    return check_shard(c);
}

static enum mb_status check_inspect(const struct mb_conf *c)
{
    static const char *const only_results = "-m (which shows a model)";

    if (c->n_args == 0)
        MB_TRY(need(c, c->model, "a results file or a model (-m)"));
    else if (given(c->model))
        return contradict(c->args[0], only_results);
    if (given(c->model) && (c->digest || c->check || c->requests || c->in_order || c->text || c->errors || c->routing))
        return contradict(c->digest || c->requests || c->in_order ? "--digest"
                          : c->check                              ? "--check"
                          : c->text                               ? "--text"
                          : c->errors                             ? "--errors"
                                                                  : "--routing",
                          only_results);
    if ((c->in_order || c->requests) && !c->digest)
        return mb_error(MB_USAGE, "%s belongs to --digest; add --digest",
                        c->in_order ? "--in-order" : "--requests");
    return MB_OK;
}

enum mb_status mb_conf_check(struct mb_conf *c)
{
    MB_TRY(check_args(c));
    switch (c->command) {
    case MB_CMD_RUN:
    case MB_CMD_SCORE:
        return check_job(c);
    case MB_CMD_PLAN:
        return check_plan(c);
    case MB_CMD_INSPECT:
        return check_inspect(c);
    case MB_CMD_MERGE:
        return need(c, c->output, "a results file (-o)");
    case MB_CMD_CHECK:
    case MB_CMD_TOKENIZE:
        return need(c, c->model, "a model (-m)");
    default:
        return MB_OK;
    }
}
