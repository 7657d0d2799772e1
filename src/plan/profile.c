#include "plan/profile.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include "base/json.h"
#include "base/log.h"
#include "plan/cost.h"

#define PROFILE_FILE_MAX ((uint64_t)1 << 20)

static const struct {
    const char *key;
    size_t at;
    double most;
} keys[] = {
    {"flops", offsetof(struct mb_profile, flops), 1e18},
    {"bandwidth", offsetof(struct mb_profile, bandwidth), 1e15},
    {"link", offsetof(struct mb_profile, link), 1e15},
    {"net", offsetof(struct mb_profile, net), 1e15},
    {"op", offsetof(struct mb_profile, op), 10},
    {"link_wait", offsetof(struct mb_profile, link_wait), 10},
    {"net_wait", offsetof(struct mb_profile, net_wait), 10},
};
enum { KEYS = sizeof keys / sizeof *keys };

static double *value_of(struct mb_profile *p, int i)
{
    return (double *)((char *)p + keys[i].at);
}

enum mb_status mb_profile_load(const char *path, struct mb_profile *out)
{
    json_t *doc = NULL;
    struct mb_profile p = {0};

    MB_TRY(mb_json_load(path, PROFILE_FILE_MAX, MB_INPUT, &doc));
    const char *schema = json_string_value(json_object_get(doc, "schema"));
    enum mb_status st = MB_OK;
    if (schema == NULL || strcmp(schema, MB_PROFILE_SCHEMA) != 0)
        st = mb_error(MB_INPUT, "%s is no profile: \"schema\" must be \"%s\"; bench calibrate writes one",
                      path, MB_PROFILE_SCHEMA);
    for (int i = 0; i < KEYS && st == MB_OK; i++) {
        const json_t *v = json_object_get(doc, keys[i].key);
        double x = v == NULL ? 0 : json_number_value(v);
        if ((v != NULL && !json_is_number(v)) || !isfinite(x) || x < 0 || x > keys[i].most)
            st = mb_error(MB_INPUT, "%s: %s must be a number from 0 to %g", path, keys[i].key, keys[i].most);
        else
            *value_of(&p, i) = x;
    }
    json_decref(doc);
    if (st == MB_OK)
        *out = p;
    return st;
}

char *mb_profile_text(const struct mb_profile *p)
{
    struct mb_profile mine = *p;
    json_t *doc = json_pack("{s:s}", "schema", MB_PROFILE_SCHEMA);

    for (int i = 0; i < KEYS && doc != NULL; i++)
        json_object_set_new(doc, keys[i].key, json_real(*value_of(&mine, i)));
    char *text = doc != NULL ? json_dumps(doc, JSON_INDENT(2)) : NULL;
    json_decref(doc);
    return text;
}

static void take(double *to, double measured, double share)
{
    if (measured > 0)
        *to = measured / share;
}

void mb_profile_apply(const struct mb_profile *p, struct mb_cluster *c)
{
    take(&c->kind.flops, p->flops, MB_COST_GEMM);
    take(&c->kind.bandwidth, p->bandwidth, MB_COST_STREAM);
    take(&c->link, p->link, MB_COST_WIRE);
    take(&c->net, p->net, MB_COST_WIRE);
    take(&c->op, p->op, 1);
    take(&c->link_wait, p->link_wait, 1);
    take(&c->net_wait, p->net_wait, 1);
    c->guess &= p->flops <= 0;
}
