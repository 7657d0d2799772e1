/* What a request gets that leaves out its sampling parameters: options of the job, else generation_config.json, else the values that
 * change nothing. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "app/job.h"
#include "base/json.h"
#include "base/log.h"

__attribute__((format(printf, 2, 3))) static void say(struct mb_job_state *j, const char *fmt, ...)
{
    size_t n = strlen(j->defaults);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(j->defaults + n, sizeof j->defaults - n, fmt, ap);
    va_end(ap);
}

/* One parameter: the option's value where it was given, the file's, or neither. */
static void settle(struct mb_job_state *j, const char *name, const char *option, double given, float file, float *out)
{
    const char *from = j->app.conf->generation_config;

    *out = given >= 0 ? (float)given : file;
    if (given >= 0)
        say(j, ", %s %g (--%s)", name, given, option);
    else if (!isnan(file))
        say(j, ", %s %g (%s)", name, (double)file, strcmp(from, "auto") == 0 ? "generation_config.json" : from);
}

static enum mb_status put_stop(struct mb_job_state *j, const json_t *v)
{
    struct mb_parse_options *p = &j->parse;
    const char *s = json_string_value(v);

    if (s == NULL || s[0] == 0 || strlen(s) != json_string_length(v))
        return mb_error(MB_USAGE, "--stop: expected strings that are not empty and hold no U+0000, found %s", mb_json_type(v));
    if (p->n_stop == MB_MAX_STOP)
        return mb_error(MB_USAGE, "--stop: more than %d strings", MB_MAX_STOP);
    p->stop[p->n_stop++] = s;
    return MB_OK;
}

static enum mb_status read_stops(struct mb_job_state *j)
{
    const char *s = j->app.conf->stop;
    char why[200];
    size_t i;
    json_t *v;

    if (s[0] == 0)
        return MB_OK;
    if (s[0] == '[' && mb_json_parse(s, strlen(s), "", MB_REQUEST, why, sizeof why, &j->stops) != MB_OK)
        return mb_error(MB_USAGE, "--stop: begins with [ and is no JSON list: %s", why);
    if (s[0] != '[' && (j->stops = json_pack("[s]", s)) == NULL)
        return mb_error(MB_USAGE, "--stop: is not UTF-8");
    json_array_foreach(j->stops, i, v)
        MB_TRY(put_stop(j, v));
    say(j, ", %d stop string%s (--stop)", j->parse.n_stop, j->parse.n_stop == 1 ? "" : "s");
    return MB_OK;
}

/* The table knows one range an option; -1 stands for "not given". */
static enum mb_status check(const struct mb_conf *c)
{
    const struct {
        const char *name;
        double v, lo;
    } all[] = {{"temperature", c->temperature, 0}, {"top-p", c->top_p, 1e-6}, {"min-p", c->min_p, 0},
               {"repetition-penalty", c->repetition_penalty, 1e-3}};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i].v != -1 && !(all[i].v >= all[i].lo))
            return mb_error(MB_USAGE, "--%s: %g is less than %g", all[i].name, all[i].v, all[i].lo);
    if (c->temperature > 0 && c->temperature < 1e-5)
        return mb_error(MB_USAGE, "--temperature: %g is neither 0 nor at least 1e-05", c->temperature);
    return MB_OK;
}

enum mb_status mb_job_defaults(struct mb_job_state *j)
{
    const struct mb_conf *c = j->app.conf;
    struct mb_model *m = j->app.model;
    struct mb_parse_options *p = &j->parse;
    const char *from = c->generation_config;
    float k;

    MB_TRY(check(c));
    if (strcmp(from, "auto") != 0)
        MB_TRY(mb_model_generation(m, strcmp(from, "none") == 0 ? NULL : from));
    snprintf(j->defaults, sizeof j->defaults, "max_tokens %lld", (long long)c->max_tokens);
    settle(j, "temperature", "temperature", c->temperature, m->gen_temperature, &p->temperature);
    settle(j, "top_p", "top-p", c->top_p, m->gen_top_p, &p->top_p);
    settle(j, "top_k", "top-k", (double)c->top_k, m->gen_top_k >= 0 ? (float)m->gen_top_k : NAN, &k);
    settle(j, "min_p", "min-p", c->min_p, m->gen_min_p, &p->min_p);
    settle(j, "repetition_penalty", "repetition-penalty", c->repetition_penalty, m->gen_repetition, &p->repetition);
    p->top_k = c->top_k >= 0 ? (int32_t)c->top_k : m->gen_top_k;
    MB_TRY(read_stops(j));
    if (isnan(p->temperature))
        say(j, ", temperature 1 (nothing says another)");
    return MB_OK;
}
