/* What a command needs, and options that contradict each other. */
#include "conf/value.h"

#include <ctype.h>
#include <stdlib.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
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

/* n digits, of lo to hi, at *s, which moves behind them; else -1. */
static int digits(const char **s, int n, int lo, int hi)
{
    int v = 0;

    for (int i = 0; i < n; i++, (*s)++) {
        if (**s < '0' || **s > '9')
            return -1;
        v = v * 10 + (**s - '0');
    }
    return v >= lo && v <= hi ? v : -1;
}

static bool skip(const char **s, const char *any)
{
    if (**s == '\0' || strchr(any, **s) == NULL)
        return false;
    (*s)++;
    return true;
}

/* "09:30:00", a fraction, and "Z" or "+02:00": seconds to add to the day in UTC. */
static bool read_time(const char *s, int64_t *out)
{
    int h, m, sec, oh = 0, om = 0;

    if ((h = digits(&s, 2, 0, 23)) < 0 || !skip(&s, ":") || (m = digits(&s, 2, 0, 59)) < 0 || !skip(&s, ":") ||
        (sec = digits(&s, 2, 0, 60)) < 0)
        return false;
    if (*s == '.') {
        size_t n = strspn(s + 1, "0123456789");
        if (n == 0)
            return false;
        s += n + 1;
    }
    bool west = *s == '-';
    if (!skip(&s, "Zz")) {
        if (!skip(&s, "+-") || (oh = digits(&s, 2, 0, 23)) < 0 || !skip(&s, ":") || (om = digits(&s, 2, 0, 59)) < 0)
            return false;
    }
    *out = h * 3600 + m * 60 + sec - (west ? -1 : 1) * (oh * 3600 + om * 60);
    return *s == '\0';
}

/* A date, or date and time of RFC 3339. */
static enum mb_status check_now(struct mb_conf *c)
{
    const char *s = c->now;
    struct tm tm = {0};
    int year, month, day;
    int64_t more = 0;

    if (!given(s))
        return MB_OK;
    bool ok = (year = digits(&s, 4, 1, 9999)) > 0 && skip(&s, "-") && (month = digits(&s, 2, 1, 12)) > 0 && skip(&s, "-") &&
              (day = digits(&s, 2, 1, 31)) > 0;
    if (ok) {
        tm = (struct tm){.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};
        c->now_time = (int64_t)timegm(&tm);
        ok = tm.tm_mday == day && (*s == '\0' || (skip(&s, "Tt ") && read_time(s, &more)));
    }
    if (!ok)
        return mb_error(MB_USAGE, "--now '%s' is neither a date, as 2026-11-28, nor a time of RFC 3339, as 2026-11-28T09:30:00Z", c->now);
    c->now_time += more;
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
    if (!made && (given(c->expert_usage) || given(c->placement_before) || c->num_redundant_experts > 0))
        return mb_error(MB_USAGE, "%s belongs to --placement usage or capacity, not %s",
                        given(c->expert_usage)       ? "--expert-usage"
                        : given(c->placement_before) ? "--placement-before"
                                                     : "--num-redundant-experts",
                        c->placement);
    return MB_OK;
}

#define GUESSES 4 /* a step, unless it is said */

/* off, ngram[:N] or mtp[:N]. */
static enum mb_status check_speculative(struct mb_conf *c)
{
    static const struct {
        const char *name;
        enum mb_conf_guess guess;
        long most;
    } how[] = {{"off", MB_GUESS_OFF, 0}, {"ngram", MB_GUESS_NGRAM, 16}, {"mtp", MB_GUESS_MTP, 1}};
    const char *text = c->speculative, *colon = strchrnul(text, ':');

    for (size_t i = 0; i < sizeof how / sizeof how[0]; i++) {
        size_t n = (size_t)(colon - text);
        char *end = NULL;
        if (strlen(how[i].name) != n || strncmp(text, how[i].name, n) != 0)
            continue;
        long most = how[i].most < GUESSES ? how[i].most : GUESSES, given = *colon != 0 ? strtol(colon + 1, &end, 10) : most;
        if (given > how[i].most || (*colon != 0 && (given < 1 || !isdigit((unsigned char)colon[1]) || *end != 0)))
            return mb_error(MB_USAGE, "--speculative %s: after %s: stands a number from 1 to %ld", text, how[i].name, how[i].most);
        c->guess = how[i].guess;
        c->guesses = (int32_t)given;
        c->guess_always = *colon != 0;
        return MB_OK;
    }
    return mb_error(MB_USAGE, "--speculative %s: expected off, ngram, mtp, or with a number of guesses, as in ngram:4", text);
}

/* Where run and plan agree. */
static enum mb_status check_batch(struct mb_conf *c)
{
    MB_TRY(check_speculative(c));
    if (c->max_batch_rows > 0 && c->max_num_batched_tokens > 0 && c->max_batch_rows != c->max_num_batched_tokens)
        return mb_error(MB_USAGE, "--max-num-batched-tokens %" PRId64 " and --max-batch-rows %" PRId64 " are the same thing; give one of them",
                        c->max_num_batched_tokens, c->max_batch_rows);
    if (c->max_batch_rows == 0)
        c->max_batch_rows = c->max_num_batched_tokens;
    if (c->max_batch_rows > 0 && c->max_batch_rows < c->max_num_seqs)
        return mb_error(MB_USAGE,
                        "--max-num-batched-tokens %" PRId64 " is less than --max-num-seqs %" PRId64
                        ": a step must hold one row of each sequence",
                        c->max_batch_rows, c->max_num_seqs);
    return MB_OK;
}

/* The int8 path makes its own weights. */
static enum mb_status check_int8(const struct mb_conf *c)
{
    if (strcmp(c->kv_dtype, "int8") == 0 && strcmp(c->dtype, "f32") == 0)
        return mb_error(MB_USAGE, "--kv-dtype int8 is read as bf16: it needs --dtype bf16 or int8");
    if (strcmp(c->dtype, "int8") != 0)
        return MB_OK;
    if (strcmp(c->weights, "auto") != 0)
        return contradict("--dtype int8", "--weights");
    if (given(c->adapter))
        return mb_error(MB_USAGE, "--dtype int8 has no adapters; use --dtype bf16 with --adapter");
    return MB_OK;
}

static enum mb_status check_plan(struct mb_conf *c)
{
    MB_TRY(need(c, c->model, "a model (-m)"));
    MB_TRY(check_int8(c));
    MB_TRY(check_disaggregate(c));
    MB_TRY(check_placement(c));
    MB_TRY(check_zero(c));
    if (c->command == MB_CMD_PLAN && c->max_num_seqs < 0)
        return mb_error(MB_USAGE, "--max-num-seqs auto: plan compares layouts with one number of sequences; give it");
    if (c->deadline_hours > 0 && !given(c->workload))
        return mb_error(MB_USAGE, "--deadline-hours needs --workload, as in --workload '100000 x 1024+256'");
    if (c->command == MB_CMD_PLAN && c->json && c->sbatch)
        return contradict("--json", "--sbatch");
    return check_batch(c);
}

/* Of whatever makes an engine. */
static enum mb_status check_engine(struct mb_conf *c)
{
    if (c->max_num_seqs == 0)
        c->max_num_seqs = NUM_SEQS;
    MB_TRY(check_int8(c));
    MB_TRY(check_disaggregate(c));
    MB_TRY(check_placement(c));
    MB_TRY(check_zero(c));
    if (c->kv_segment % MB_KV_BLOCK != 0)
        return mb_error(MB_USAGE, "--kv-segment %" PRId64 " is not a multiple of %d; %" PRId64 " is",
                        c->kv_segment, MB_KV_BLOCK,
                        (c->kv_segment + MB_KV_BLOCK - 1) / MB_KV_BLOCK * MB_KV_BLOCK);
    return check_batch(c);
}

static enum mb_status check_job(struct mb_conf *c)
{
    MB_TRY(need(c, c->model, "a model (-m)"));
    MB_TRY(need(c, c->input, "an input (-i)"));
    MB_TRY(need(c, c->output, "a results file (-o)"));
    MB_TRY(same_file(c->input, "--input", c->output, "--output"));
    MB_TRY(same_file(c->openai_output, "--openai-output", c->output, "--output"));
    MB_TRY(same_file(c->openai_output, "--openai-output", c->input, "--input"));
    MB_TRY(check_engine(c));
    if (c->resume && c->overwrite)
        return contradict("--resume", "--overwrite");
    if (c->takeover && !c->resume && !c->overwrite)
        return mb_error(MB_USAGE, "--takeover says how --resume or --overwrite meet a job that runs: give one of them, too");
    MB_TRY(check_now(c));
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

/* What the engine needs of a run: sizes and numbers that fit each other. */
static enum mb_status check_bench_load(struct mb_conf *c)
{
    if (given(c->model) && given(c->random_weights))
        return contradict("--model", "--random-weights");
    if (!given(c->model) && !given(c->random_weights))
        return mb_error(MB_USAGE, "bench %s needs a model (-m) or --random-weights config.json", c->args[0]);
    if (given(c->expect_digest) && (strlen(c->expect_digest) != 16 || strspn(c->expect_digest, "0123456789abcdef") != 16))
        return mb_error(MB_USAGE, "--expect-digest '%s' is not the digest of a benchmark: 16 digits of 0 to 9 and a to f", c->expect_digest);
    return check_engine(c);
}

/* The rule says what is computed; the layout is free. */
static enum mb_status check_bench_run(struct mb_conf *c)
{
    if (!given(c->random_weights))
        return mb_error(MB_USAGE, "bench run needs --random-weights with the config.json of the class's shape (doc/bench.md)");
    return check_engine(c);
}

static enum mb_status check_bench(struct mb_conf *c)
{
    const char *what = c->args[0];
    unsigned bit = 0;

    for (int i = 0; i < mb_n_bench_words; i++)
        bit |= strcmp(what, mb_bench_words[i].name) == 0 ? mb_bench_words[i].bit : 0;
    if (bit == 0)
        return mb_error(MB_USAGE, "bench '%s' is unknown; usage: moebatch bench %s", what, mb_cmds[c->command].synopsis);
    if (c->n_args != (bit == MB_BENCH_COMPARE ? 3 : 1))
        return mb_error(MB_USAGE, "bench %s takes %s", what, bit == MB_BENCH_COMPARE ? "two files of results, A.json and B.json" : "options only");
    if (c->json && c->csv)
        return contradict("--json", "--csv");
    if (strcmp(c->dtype, "int8") == 0 && !(bit & (MB_BENCH_THROUGHPUT | MB_BENCH_LATENCY)))
        return mb_error(MB_USAGE, "bench %s knows f32 and bf16; --dtype int8 is for bench throughput and latency", what);
    if (bit == MB_BENCH_RUN)
        return check_bench_run(c);
    return bit & (MB_BENCH_THROUGHPUT | MB_BENCH_LATENCY) ? check_bench_load(c) : MB_OK;
}

/* One option says what both export and quantize make. */
static enum mb_status check_format(const struct mb_conf *c)
{
    static const char *const quantised[] = {"int8", "fp8", "mxfp4", "int4"};
    bool is = false;

    for (size_t i = 0; i < sizeof quantised / sizeof quantised[0]; i++)
        is = is || strcmp(c->format, quantised[i]) == 0;
    if (is == (c->command == MB_CMD_QUANTIZE))
        return MB_OK;
    if (c->command == MB_CMD_QUANTIZE)
        return mb_error(MB_USAGE, "quantize needs --format int8, fp8, mxfp4 or int4");
    return mb_error(MB_USAGE, "--format %s is a form of weights; %s knows jsonl, openai and csv", c->format, mb_cmds[c->command].name);
}

static enum mb_status check_quantize(struct mb_conf *c)
{
    MB_TRY(need(c, c->model, "a model (-m)"));
    MB_TRY(need(c, c->output, "a directory to make (-o)"));
    MB_TRY(check_format(c));
    if (c->group_size != 0 && strcmp(c->format, "int4") != 0)
        return mb_error(MB_USAGE, "--group-size belongs to --format int4; %s has groups of its own", c->format);
    if (c->group_size != 0 && c->group_size != 32 && c->group_size != 64 && c->group_size != 128)
        return mb_error(MB_USAGE, "--group-size %" PRId64 " is none of 32, 64 and 128", c->group_size);
    return same_file(c->model, "--model", c->output, "--output");
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
    case MB_CMD_VERIFY:
        MB_TRY(need(c, c->model, "a model (-m)"));
        return check_engine(c);
    case MB_CMD_BENCH:
        return check_bench(c);
    case MB_CMD_QUANTIZE:
        return check_quantize(c);
    case MB_CMD_EXPORT:
        return check_format(c);
    case MB_CMD_CHECK:
    case MB_CMD_TOKENIZE:
        return need(c, c->model, "a model (-m)");
    default:
        return MB_OK;
    }
}
