/* moebatch quantize: a model's directory in another form, its manifest, and what it costs. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/quantize_text.h"
#include "app/signals.h"
#include "app/tools.h"
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/publish.h"
#include "config.h"
#include "model/quantise_dir.h"

#define SHOWN 16 /* experts of a layer that are printed one by one */

struct job {
    const struct mb_conf *c;
    struct mb_quantise_options o;
    struct mb_quantise_result r;
    struct mb_quantize_text text;
    struct mb_hash128 source;
};

/* ---------------------------------------------------------------- experts */
static int by_expert(const void *pa, const void *pb)
{
    const struct mb_quantised_tensor *a = pa, *b = pb;

    if (a->layer != b->layer)
        return a->layer < b->layer ? -1 : 1;
    if (a->expert != b->expert)
        return a->expert < b->expert ? -1 : 1;
    return (a->role > b->role) - (a->role < b->role);
}

/* The loss of the matrices from *i on that belong to one expert (or of one that belongs to none); *i goes
 * behind them. */
static struct mb_loss expert_loss(const struct mb_quantise_result *r, int64_t *i)
{
    const struct mb_quantised_tensor *first = r->tensors + *i;
    struct mb_loss sum = first->loss;

    for (++*i; *i < r->n_tensors && first->expert >= 0; ++*i) {
        const struct mb_quantised_tensor *t = r->tensors + *i;
        if (t->layer != first->layer || t->expert != first->expert)
            break;
        mb_loss_add(&sum, &t->loss);
    }
    return sum;
}

static struct mb_loss all_losses(const struct mb_quantise_result *r, bool experts)
{
    struct mb_loss sum = {0};

    for (int64_t i = 0; i < r->n_tensors; i++)
        if ((r->tensors[i].expert >= 0) == experts)
            mb_loss_add(&sum, &r->tensors[i].loss);
    return sum;
}

/* ---------------------------------------------------------------- for people */
static void print_layer(const struct mb_quantise_result *r, int64_t first, int64_t end)
{
    struct mb_loss sum = {0};
    double most = 0, least = INFINITY;
    int32_t worst = -1, n = 0;
    char each[SHOWN * 12 + 1] = "";

    for (int64_t i = first; i < end; n++) {
        int32_t e = r->tensors[i].expert;
        struct mb_loss l = expert_loss(r, &i);
        double part = mb_loss_part(&l);
        mb_loss_add(&sum, &l);
        least = part < least ? part : least;
        worst = part > most ? e : worst;
        most = part > most ? part : most;
        if (n < SHOWN)
            snprintf(each + strlen(each), sizeof each - strlen(each), " %.5f", part);
    }
    if (n <= SHOWN)
        printf("layer %-14d: experts' error%s\n", r->tensors[first].layer, each);
    else
        printf("layer %-14d: %d experts' error %.5f, from %.5f to %.5f (expert %d)\n",
               r->tensors[first].layer, n, mb_loss_part(&sum), least, most, worst);
}

static void print_layers(const struct mb_quantise_result *r)
{
    for (int64_t i = 0; i < r->n_tensors;) {
        int64_t end = i;
        if (r->tensors[i].expert < 0) {
            i++;
            continue;
        }
        while (end < r->n_tensors && r->tensors[end].layer == r->tensors[i].layer &&
               r->tensors[end].expert >= 0)
            end++;
        print_layer(r, i, end);
        i = end;
    }
}

static void print_text(const struct job *j)
{
    const struct mb_quantise_result *r = &j->r;
    const struct mb_quantize_text *t = &j->text;
    struct mb_loss experts = all_losses(r, true), others = all_losses(r, false);

    printf("form                : %s%s, %" PRId64 " matrices; %" PRId64 " stay in their type\n",
           mb_quantised_name(j->o.q.to),
           j->o.q.to != MB_QUANTISED_INT4 ? ""
           : j->o.q.group == 32           ? " in groups of 32"
           : j->o.q.group == 64           ? " in groups of 64"
                                          : " in groups of 128",
           r->n_tensors, r->n_wide);
    if (r->uneven > 0)
        printf("left wide           : %" PRId64 " matrices whose width is not a multiple of the group\n",
               r->uneven);
    print_layers(r);
    printf("error               : experts %.5f, other matrices %.5f (square root of lost over all squares)\n",
           mb_loss_part(&experts), mb_loss_part(&others));
    printf("weight files        : %" PRIu64 " bytes, %.3f of what they were\n", r->bytes_after,
           (double)r->bytes_after / (double)r->bytes_before);
    if (t->tokens > 0) {
        printf("divergence          : %.6f nats a token (mean), %.4f at most, over %" PRId64
               " tokens of %" PRId64 " requests\n",
               t->kl, t->kl_worst, t->tokens, t->requests);
        printf("likeliest token     : the same in %.2f %%; perplexity %.4f, was %.4f\n", 100 * t->agree,
               t->ppl_new, t->ppl_old);
    }
    printf("%s is written\n", j->c->output);
}

/* ---------------------------------------------------------------- the manifest */
static json_t *tensor_json(const struct mb_quantised_tensor *t)
{
    json_t *o = json_pack("{s:s, s:s, s:[I, I], s:f, s:f}", "name", t->name, "role",
                          mb_role_name((enum mb_role)t->role), "shape", (json_int_t)t->n, (json_int_t)t->k,
                          "error", mb_loss_part(&t->loss), "largest", t->loss.worst);
    if (t->layer >= 0)
        (void)json_object_set_new(o, "layer", json_integer(t->layer));
    if (t->expert >= 0)
        (void)json_object_set_new(o, "expert", json_integer(t->expert));
    return o;
}

static json_t *experts_json(const struct mb_quantise_result *r)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < r->n_tensors;) {
        const struct mb_quantised_tensor *t = r->tensors + i;
        struct mb_loss l = expert_loss(r, &i);
        if (t->expert >= 0)
            (void)json_array_append_new(list, json_pack("{s:i, s:i, s:f}", "layer", t->layer, "expert",
                                                        t->expert, "error", mb_loss_part(&l)));
    }
    return list;
}

static json_t *text_json(const struct job *j)
{
    const struct mb_quantize_text *t = &j->text;

    if (t->tokens == 0)
        return json_null();
    return json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "input", j->c->calibration, "requests",
                     (json_int_t)t->requests, "tokens", (json_int_t)t->tokens, "kl_mean", t->kl, "kl_largest",
                     t->kl_worst, "same_token", t->agree, "perplexity_old",
                     isfinite(t->ppl_old) ? t->ppl_old : -1.0, "perplexity",
                     isfinite(t->ppl_new) ? t->ppl_new : -1.0);
}

/* malloc'd; NULL without memory. */
static char *manifest(const struct job *j)
{
    const struct mb_quantise_result *r = &j->r;
    struct mb_loss experts = all_losses(r, true), others = all_losses(r, false);
    json_t *tensors = json_array(), *wide = json_array();
    char hex[33];

    for (int64_t i = 0; i < r->n_tensors; i++)
        (void)json_array_append_new(tensors, tensor_json(r->tensors + i));
    for (int64_t i = 0; i < r->n_wide; i++)
        (void)json_array_append_new(wide, json_string(r->wide[i]));
    mb_hash128_hex(j->source, hex);
    json_t *source =
        json_pack("{s:s, s:s, s:o}", "model", j->c->model_name != NULL ? j->c->model_name : j->c->model,
                  "identity", hex, "files", mb_files_json(&r->files));
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:i, s:o, s:I, s:I, s:f, s:f, s:o, s:o, s:o, s:o}", "schema",
                  "moebatch-quantize/1", "version", PACKAGE_VERSION, "format", mb_quantised_name(j->o.q.to),
                  "group_size", (int)mb_quantised_columns(&j->o.q, 0), "source", source, "bytes_before",
                  (json_int_t)r->bytes_before, "bytes_after", (json_int_t)r->bytes_after, "error_experts",
                  mb_loss_part(&experts), "error_others", mb_loss_part(&others), "calibration", text_json(j),
                  "experts", experts_json(r), "tensors", tensors, "not_quantised", wide);
    char *text = o != NULL ? json_dumps(o, JSON_INDENT(1)) : NULL;
    json_decref(o);
    return text;
}

static enum mb_status write_manifest(struct job *j, char **text)
{
    char *path = mb_path_join(j->o.to, MB_QUANTISE_MANIFEST);
    enum mb_status st;

    *text = manifest(j);
    st = *text == NULL || path == NULL ? mb_error(MB_NO_MEMORY, "no memory for the manifest")
                                       : mb_publish_bytes(path, *text, strlen(*text), 0);
    free(path);
    return st;
}

/* ---------------------------------------------------------------- the whole */
static enum mb_status fill(struct job *j, char **text)
{
    MB_TRY(mb_model_identity(j->c->model, &j->source));
    MB_TRY(mb_quantise_dir(&j->o, &j->r));
    qsort(j->r.tensors, (size_t)j->r.n_tensors, sizeof *j->r.tensors, by_expert);
    if (j->c->calibration[0] != 0)
        MB_TRY(mb_quantize_compare(j->c->model, j->o.to, j->c->calibration, j->o.to, &j->text));
    return write_manifest(j, text);
}

enum mb_status mb_tool_quantize(const struct mb_conf *c)
{
    struct mb_mem mem = {0};
    struct mb_publish_dir *d = NULL;
    char *text = NULL;
    struct job j = {.c = c,
                    .o = {.from = c->model,
                          .stop = mb_signals_stop(),
                          .mem = &mem,
                          .q = {.to = (enum mb_quantised)mb_quantised_find(c->format),
                                .group = c->group_size > 0 ? (int32_t)c->group_size : 128}}};

    if (c->calibration[0] != 0 && !mb_path_exists(c->calibration))
        return mb_error(MB_INPUT, "%s: expected requests for --calibration, found no such file",
                        c->calibration);
    MB_TRY(mb_publish_dir_open(c->output, &d));
    j.o.to = d->tmp;
    enum mb_status st = fill(&j, &text);
    if (st == MB_OK)
        st = mb_publish_dir_commit(d);
    else
        mb_publish_dir_drop(d);
    if (st == MB_OK && c->json)
        printf("%s\n", text);
    else if (st == MB_OK)
        print_text(&j);
    free(text);
    mb_quantise_result_fini(&j.r);
    return st;
}
