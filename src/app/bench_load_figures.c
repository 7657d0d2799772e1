/* What `bench throughput` and `bench latency` say: rates and times with their bounds, facts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "app/bench_load_impl.h"
#include "base/energy.h"

static double percentile(const double *sorted, int64_t n, double p)
{
    double at = p * (double)(n - 1);
    int64_t i = (int64_t)at;

    return i + 1 < n ? sorted[i] + (at - (double)i) * (sorted[i + 1] - sorted[i]) : sorted[n - 1];
}

/* ---------------------------------------------------------------- bounds */
/* Sequences that run at once. */
static double at_once(const struct mb_load *l)
{
    double most = (double)(l->latency ? l->app.conf->concurrency : l->leaders * l->app.plan->max_num_seqs);

    return most < (double)l->work.n ? most : (double)l->work.n;
}

static double bound_prefill(const struct mb_load *l)
{
    double flops = 0;

    for (int64_t i = 0; i < l->work.n; i++)
        flops += mb_roof_prompt(&l->roof, l->work.prompt[i]);
    return mb_roof_seconds(&l->roof, flops, mb_roof_bytes(&l->roof, (double)l->work.prompts, 0));
}

/* Mean context while a request decodes: its prompt and half of what it generates. */
static double mean_context(const struct mb_load *l)
{
    return ((double)l->work.prompts + (double)l->work.outputs / 2) / (double)l->work.n;
}

static double bound_job(const struct mb_load *l)
{
    double b = at_once(l), steps = ceil((double)(l->work.outputs - l->work.n) / b);

    return bound_prefill(l) + steps * mb_roof_step(&l->roof, b, mean_context(l));
}

static const char on_job[] = "job: prefill + (output tokens - requests) / B decoding steps of B sequences at "
                             "their mean context; B: sequences at once";
static const char on_prefill[] = "prefill: max(FLOPs / f, bytes / r); FLOPs: 2 for each weight a token "
                                 "meets, attention and the last row's logits; bytes: the weights once; f, r: "
                                 "the best samples of multiplying and reading, of all ranks together";
static const char on_decode[] = "decode: B / max(FLOPs / f, bytes / r) of a step of B sequences; bytes: "
                                "dense weights of each copy, experts that B rows reach when routed evenly, "
                                "E (1 - (1 - k/E)^B), keys and values at the mean context";

/* ---------------------------------------------------------------- results */

void mb_load_add(const struct mb_load *l, const char *name, const char *unit, bool less,
                 const struct mb_series *s, double bound, const char *formula)
{
    char full[96];

    snprintf(full, sizeof full, "%s%s", l->prefix, name);
    if (l->out != NULL && s->n > 0)
        mb_bench_add(l->out, &(struct mb_measured){.name = full,
                                                   .unit = unit,
                                                   .less = less,
                                                   .samples = s->v,
                                                   .n = s->n,
                                                   .bound = isfinite(bound) ? bound : 0,
                                                   .formula = formula});
}

/* mean, p50, p90, p99 of one kind of time; the bound is that of the mean and the median. */
static void add_times(const struct mb_load *l, const char *what, const struct mb_outcome *o,
                      enum mb_bench_time which, double bound)
{
    static const struct {
        const char *name;
        double p;
    } wanted[] = {{"mean", -1}, {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1}};

    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        struct mb_series s = {.n = 0};
        char name[64];
        for (int r = 0; r < l->repeats; r++) {
            const struct mb_times *t = &o[r].times[which];
            double sum = 0;
            for (int64_t j = 0; j < t->n && wanted[i].p < 0; j++)
                sum += t->v[j];
            if (t->n > 0)
                mb_series_put(&s, wanted[i].p < 0 ? sum / (double)t->n : percentile(t->v, t->n, wanted[i].p));
        }
        snprintf(name, sizeof name, "%s/%s", what, wanted[i].name);
        mb_load_add(l, name, "s", true, &s, i < 2 ? bound : 0,
                    which == MB_BENCH_TTFT ? on_prefill : on_decode);
    }
}

static void add_spent(const struct mb_load *l, const struct mb_outcome *o)
{
    static const char *const names[MB_TIME_COUNT] = {"rest", "attention", "experts",
                                                     "head", "exchange",  "wait"};

    for (int i = 0; i < MB_TIME_COUNT; i++) {
        struct mb_series s = {.n = 0};
        char name[64];
        for (int r = 0; r < l->repeats; r++)
            mb_series_put(&s, o[r].spent[i]);
        snprintf(name, sizeof name, "time/%s", names[i]);
        mb_load_add(l, name, "s", true, &s, 0, NULL);
    }
}

/* Of all nodes' processors, where their counters can be read; else why not, as rank 0 sees it. */
static void add_energy(const struct mb_load *l, const struct mb_outcome *o)
{
    struct mb_series job = {.n = 0}, token = {.n = 0};
    struct mb_energy now;

    for (int r = 0; r < l->repeats && o[r].joules >= 0; r++) {
        mb_series_put(&job, o[r].joules);
        mb_series_put(&token, o[r].joules / (double)(o[r].sum.prompt_tokens + o[r].sum.output_tokens));
    }
    if (job.n == l->repeats) {
        mb_load_add(l, "energy/job", "J", true, &job, 0, NULL);
        mb_load_add(l, "energy/token", "J", true, &token, 0, NULL);
    } else if (l->out != NULL && l->prefix[0] == '\0') {
        mb_energy_read(MB_ENERGY_ROOT, &now);
        mb_bench_fact(l->out, "energy", json_sprintf("not known: %s", now.n > 0 ? "a node's counters can't be read" : now.why));
    }
}

/* What clusters of different size are compared by. */
static void add_shares(const struct mb_load *l, const struct mb_outcome *o)
{
    struct mb_series node = {.n = 0}, rank = {.n = 0};

    for (int r = 0; r < l->repeats; r++) {
        double speed = (double)(o[r].sum.prompt_tokens + o[r].sum.output_tokens) / o[r].seconds;
        mb_series_put(&node, speed / l->app.topo->nodes);
        mb_series_put(&rank, speed / l->app.size);
    }
    mb_load_add(l, "throughput/total of a node", "tokens/s", false, &node, 0, NULL);
    mb_load_add(l, "throughput/total of a rank", "tokens/s", false, &rank, 0, NULL);
}

/* The job itself: o[repeats]. */
void mb_load_add_job(const struct mb_load *l, const struct mb_outcome *o)
{
    struct mb_series seconds = {.n = 0}, output = {.n = 0}, total = {.n = 0}, requests = {.n = 0};
    double bound = bound_job(l), ctx = mean_context(l), step = mb_roof_step(&l->roof, at_once(l), ctx);
    double first = l->latency ? bound_prefill(l) / (double)l->work.n : 0;

    for (int r = 0; r < l->repeats; r++) {
        const struct mb_bench_count *c = &o[r].sum;
        mb_series_put(&seconds, o[r].seconds);
        mb_series_put(&output, (double)c->output_tokens / o[r].seconds);
        mb_series_put(&total, (double)(c->prompt_tokens + c->output_tokens) / o[r].seconds);
        mb_series_put(&requests, (double)c->requests / o[r].seconds);
    }
    mb_load_add(l, "job", "s", true, &seconds, bound, on_job);
    mb_load_add(l, "throughput/output", "tokens/s", false, &output, (double)l->work.outputs / bound, on_job);
    mb_load_add(l, "throughput/total", "tokens/s", false, &total,
                (double)(l->work.prompts + l->work.outputs) / bound, on_job);
    mb_load_add(l, "throughput/requests", "requests/s", false, &requests, (double)l->work.n / bound, on_job);
    add_times(l, "ttft", o, MB_BENCH_TTFT, first);
    add_times(l, "tpot", o, MB_BENCH_TPOT, step);
    add_times(l, "itl", o, MB_BENCH_ITL, step);
    add_times(l, "total", o, MB_BENCH_TOTAL, 0);
    add_spent(l, o);
    add_energy(l, o);
    if (l->rule != NULL)
        add_shares(l, o);
}

void mb_load_add_prefill(const struct mb_load *l, const struct mb_series *s)
{
    mb_load_add(l, "prefill", "tokens/s", false, s, (double)l->work.prompts / bound_prefill(l), on_prefill);
}

void mb_load_add_decode(const struct mb_load *l, int64_t b, const struct mb_series *s)
{
    char name[64];

    snprintf(name, sizeof name, "decode/B=%lld", (long long)b);
    mb_load_add(l, name, "tokens/s", false, s, (double)b / mb_roof_step(&l->roof, (double)b, mean_context(l)),
                on_decode);
}

void mb_load_roof(struct mb_load *l)
{
    const struct mb_layout *y = &l->app.plan->layout;
    enum mb_limit which;

    mb_roof_of(l->app.model, l->app.model->keep == MB_KEEP_INT8 ? 1 : (double)mb_dtype_size(l->app.path),
               (double)mb_dtype_size(l->app.kv), &l->roof);
    l->roof.flops = mb_limit_peak(&l->limits, l->app.path, &which);
    l->roof.read = mb_limit_best(&l->limits, MB_LIMIT_READ);
    l->roof.copies = (double)l->leaders * y->sp;
    l->roof.lanes = y->dp;
    if (l->out != NULL) {
        json_t *o = mb_roof_json(&l->roof);
        if (o != NULL)
            (void)json_object_set_new(o, "instruction", json_string(mb_limit_name(which)));
        mb_bench_fact(l->out, l->prefix[0] != '\0' ? "against_roofline" : "roofline", o);
    }
}

/* What a token costs of a model: parameters, and those it meets. */
static void add_sizes(struct mb_load *l, const char *all, const char *active)
{
    mb_bench_fact(l->out, all, json_integer((json_int_t)l->app.model->params_total));
    mb_bench_fact(l->out, active, json_integer((json_int_t)l->app.model->params_active));
}

/* Of the model of --against: what is not as for the first one. */
void mb_load_add_other_facts(struct mb_load *l)
{
    const struct mb_conf *c = l->app.conf;
    char layout[MB_LAYOUT_TEXT];

    mb_layout_text(&l->app.plan->layout, layout);
    mb_bench_fact(l->out, "against", json_string(c->against));
    mb_bench_fact(l->out, "against_layout", json_string(layout));
    mb_bench_fact(l->out, "against_numeric_path", json_string(l->app.path_name));
    mb_bench_fact(l->out, "against_prompt_tokens", json_integer(l->work.prompts));
    mb_bench_fact(l->out, "against_output_tokens", json_integer(l->work.outputs));
    add_sizes(l, "against_parameters", "against_parameters_active");
}

void mb_load_add_facts(struct mb_load *l)
{
    const struct mb_conf *c = l->app.conf;
    const struct mb_topo *t = l->app.topo;
    struct mb_device_info info;
    char layout[MB_LAYOUT_TEXT];
    int64_t threads = 0;

    for (int r = 0; r < l->app.size; r++)
        threads += t->threads[r];
    l->app.ops->info(l->app.dev, &info);
    mb_layout_text(&l->app.plan->layout, layout);
    if (l->rule != NULL)
        mb_bench_fact(l->out, "rule", json_pack("{s:i, s:s, s:s, s:s, s:I, s:s}", "number", MB_BENCH_RULES, "class", l->rule->name,
                                                "shape", l->rule->shape, "workload", l->rule->workload, "seed",
                                                (json_int_t)l->rule->seed, "digest", l->rule->digest));
    mb_bench_fact(l->out, "host", json_string(t->local[0].host));
    mb_bench_fact(l->out, "cpu", json_string(t->local[0].cpu_model));
    mb_bench_fact(l->out, "nodes", json_integer(t->nodes));
    mb_bench_fact(l->out, "ranks", json_integer(l->app.size));
    mb_bench_fact(l->out, "threads", json_integer(threads));
    mb_bench_fact(l->out, "device", json_string(info.isa));
    mb_bench_fact(l->out, "layout", json_string(layout));
    mb_bench_fact(l->out, "model", json_string(c->random_weights[0] != '\0' ? c->random_weights : c->model));
    mb_bench_fact(l->out, "random_weights", json_boolean(c->random_weights[0] != '\0'));
    char kept[160];
    mb_model_kept(l->app.model, l->app.path, kept, sizeof kept);
    mb_bench_fact(l->out, "numeric_path", json_string(l->app.path_name));
    mb_bench_fact(l->out, "weights", json_string(kept));
    mb_bench_fact(l->out, "requests", json_integer(l->work.n));
    mb_bench_fact(l->out, "prompt_tokens", json_integer(l->work.prompts));
    mb_bench_fact(l->out, "output_tokens", json_integer(l->work.outputs));
    mb_bench_fact(l->out, "requests_left_out", json_integer(l->work.left_out));
    mb_bench_fact(l->out, "seed", json_integer((json_int_t)l->work.seed));
    mb_bench_fact(l->out, "concurrency", json_integer((json_int_t)at_once(l)));
    add_sizes(l, "parameters", "parameters_active");
    mb_bench_add_limits(l->out, &l->limits);
}
