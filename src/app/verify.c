#include "app/verify.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/setup.h"
#include "app/verify_feed.h"
#include "base/log.h"
#include "io/identity.h"

/* What rank 0 reads of the results before anything is planned. Flat. */
struct origin {
    uint64_t rows, layers;
    int64_t max_len; /* longest sequence of the job; 0: not known */
    char path[160];  /* numeric path; "": not known */
    char adapters[160];
};

struct verify {
    struct mb_conf conf; /* the user's, with what the results say */
    struct mb_app app;
    struct origin from;
    struct mb_verify_feed *feed;
    struct mb_verify_count sum;
};

/* ---------------------------------------------------------------- the results */
/* A number behind "key=" in a text of words. */
static int64_t number_of(const char *text, const char *key)
{
    const char *at = text != NULL ? strstr(text, key) : NULL;
    return at != NULL ? strtoll(at + strlen(key), NULL, 10) : 0;
}

static enum mb_status read_identity(const char *path, const json_t *id, struct origin *out)
{
    struct mb_identity was = {0};

    MB_TRY(mb_identity_parse(id, path, &was));
    snprintf(out->path, sizeof out->path, "%s", was.path != NULL ? was.path : "");
    snprintf(out->adapters, sizeof out->adapters, "%s", was.adapters != NULL ? was.adapters : "");
    out->max_len = number_of(was.sampling, "max_len=");
    mb_identity_fini(&was);
    return MB_OK;
}

static enum mb_status look(void *arg)
{
    struct verify *v = arg;
    const char *path = v->conf.args[0];
    struct mb_results *r = NULL;
    json_t *id = NULL;
    bool complete = false;

    MB_TRY(mb_results_probe(path, &complete, &id));
    enum mb_status st = id != NULL ? read_identity(path, id, &v->from) : MB_OK;
    json_decref(id);
    MB_TRY(st);
    if (v->from.adapters[0] != '\0')
        return mb_error(
            MB_INPUT, "%s was made with adapters, and does not say which row had which: it can't be verified",
            path);
    MB_TRY(mb_results_open(path, &r));
    v->from.rows = mb_results_info(r)->rows;
    v->from.layers = mb_results_info(r)->layers;
    mb_results_close(r);
    return MB_OK;
}

/* The results' numeric path is the job's: bits of another one say nothing. */
static enum mb_status check_path(const struct verify *v)
{
    char mine[200];

    snprintf(mine, sizeof mine, "%s version=%d", v->app.path_name, MB_NUMERIC_VERSION);
    if (v->from.path[0] == '\0' || strcmp(mine, v->from.path) == 0)
        return MB_OK;
    return mb_error(MB_INPUT,
                    "%s has the numeric path '%s', this model and these options give '%s'; give the same "
                    "--dtype, --kv-segment and --k",
                    v->conf.args[0], v->from.path, mine);
}

static enum mb_status check_model(const struct verify *v)
{
    const struct mb_model *m = v->app.model;

    if (v->from.layers > 0 && v->from.layers != (uint64_t)m->moe_layers)
        return mb_error(
            MB_INPUT,
            "%s has the routing of %llu layers, the model %d with experts; give the model of these results",
            v->conf.args[0], (unsigned long long)v->from.layers, m->moe_layers);
    if (m->rope_switch > 0)
        return mb_error(MB_LAYOUT,
                        "%s turns positions by max_tokens of a request, which results do not keep: they "
                        "can't be verified",
                        v->conf.model);
    return check_path(v);
}

/* ---------------------------------------------------------------- the end */
static bool before(const struct mb_verify_diff *a, const struct mb_verify_diff *b)
{
    return a->row < b->row;
}

/* Sums over ranks, on all. Collective. */
static enum mb_status gather(struct verify *v)
{
    struct mb_verify_count mine = *mb_verify_feed_count(v->feed),
                           *all = calloc((size_t)v->app.size, sizeof *all);

    MB_TRY(mb_comm_agree(v->app.comm, all == NULL ? mb_error(MB_NO_MEMORY, "no memory for counts") : MB_OK,
                         "counts"));
    enum mb_status st = mb_comm_allgather(v->app.comm, &mine, sizeof mine, all, "counts");
    for (int r = 0; r < v->app.size && st == MB_OK; r++) {
        struct mb_verify_count *s = &v->sum;
        if (all[r].differ > 0 && (s->differ == 0 || before(&all[r].first, &s->first)))
            s->first = all[r].first;
        s->sampled += all[r].sampled;
        s->verified += all[r].verified;
        s->differ += all[r].differ;
        s->left_out += all[r].left_out;
        s->tokens += all[r].tokens;
        s->routed += all[r].routed;
    }
    free(all);
    return st;
}

static void print_text(const struct verify *v)
{
    const struct mb_verify_count *s = &v->sum;
    const struct mb_verify_diff *d = &s->first;

    printf("rows                : %" PRIu64 ", %" PRId64 " drawn, %" PRId64 " without anything to compare\n",
           v->from.rows, s->sampled, s->left_out);
    printf("computed again      : %" PRId64 " rows, %" PRId64 " log-probabilities, routing of %" PRId64
           " rows\n",
           s->verified, s->tokens, s->routed);
    printf("differ              : %" PRId64 " rows\n", s->differ);
    if (s->differ == 0)
        return;
    printf("first               : row %" PRIu64 " (id %s), %s", d->row, d->id,
           mb_verify_field_name((enum mb_verify_field)d->field));
    if (d->field == MB_VERIFY_ERROR) {
        printf(": %s\n", d->why);
        return;
    }
    if (d->layer >= 0)
        printf(" layer %d, row %" PRId64 ", choice %d", d->layer, d->at, d->choice);
    else if (d->field <= MB_VERIFY_OUTPUT)
        printf(" [%" PRId64 "]", d->at);
    printf(": stored %.9g (0x%" PRIx64 "), computed %.9g (0x%" PRIx64 ")\n", d->stored, d->stored_bits,
           d->computed, d->computed_bits);
}

static enum mb_status print_json(const struct verify *v)
{
    const struct mb_verify_count *s = &v->sum;
    const struct mb_verify_diff *d = &s->first;
    json_t *o = json_pack("{s:s, s:s, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "results",
                          v->conf.args[0], "model", v->conf.model, "rows", (json_int_t)v->from.rows,
                          "fraction", v->conf.fraction, "seed", (json_int_t)v->conf.seed, "sampled",
                          (json_int_t)s->sampled, "left_out", (json_int_t)s->left_out, "verified",
                          (json_int_t)s->verified, "log_probabilities", (json_int_t)s->tokens, "routed_rows",
                          (json_int_t)s->routed, "differ", (json_int_t)s->differ);
    if (o != NULL && s->differ > 0) {
        json_t *id = json_string(d->id); /* NULL: no UTF-8, cut in the middle of a character */
        json_t *f = json_pack("{s:I, s:o, s:s, s:I, s:i, s:i, s:s}", "row", (json_int_t)d->row, "id",
                              id != NULL ? id : json_null(), "field",
                              mb_verify_field_name((enum mb_verify_field)d->field), "at", (json_int_t)d->at,
                              "layer", d->layer, "choice", d->choice, "why", d->why);
        (void)json_object_set_new(f, "stored", json_real(d->stored)); /* no member where it is no number */
        (void)json_object_set_new(f, "computed", json_real(d->computed));
        (void)json_object_set_new(f, "stored_bits", json_integer((json_int_t)d->stored_bits));
        (void)json_object_set_new(f, "computed_bits", json_integer((json_int_t)d->computed_bits));
        (void)json_object_set_new(o, "first", f);
    }
    char *text = o != NULL ? json_dumps(o, JSON_INDENT(1)) : NULL;
    if (text != NULL)
        printf("%s\n", text);
    free(text);
    json_decref(o);
    return text != NULL ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for counts as JSON");
}

/* ---------------------------------------------------------------- the whole */
static enum mb_status make_feed(struct verify *v)
{
    const struct mb_layout *l = &v->app.plan->layout;
    struct mb_place at;

    mb_layout_place(l, v->app.topo->index_of[v->app.rank], &at);
    struct mb_verify_options o = {.results = v->conf.args[0],
                                  .fraction = v->conf.fraction,
                                  .seed = (uint64_t)v->conf.seed,
                                  .leader = mb_place_leads(&at) ? (int64_t)at.lane * l->adp + at.a : -1,
                                  .leaders = mb_layout_leaders(l),
                                  .window = v->app.plan->max_len,
                                  .vocab = v->app.model->vocab,
                                  .mem = &v->app.mem};
    return mb_verify_feed_create(&o, &v->feed);
}

static enum mb_status verify(struct verify *v, int *exit_code)
{
    struct mb_comm *comm = v->app.comm;

    MB_TRY(mb_comm_alone(comm, v->app.rank == 0, look, v, "looking at the results"));
    MB_TRY(mb_comm_bcast(comm, &v->from, sizeof v->from, 0, "results"));
    if (v->conf.max_model_len == 0)
        v->conf.max_model_len = v->from.max_len;
    v->conf.save_routing = v->from.layers > 0;
    MB_TRY(mb_app_plan(&v->app));
    MB_TRY(mb_comm_agree(comm, check_model(v), "the model of the results"));
    MB_TRY(mb_app_device(&v->app));
    MB_TRY(mb_comm_agree(comm, make_feed(v), "opening the results"));
    mb_log_set_quiet(false);
    MB_TRY(mb_app_engine(&v->app, NULL, NULL));
    enum mb_status st =
        mb_engine_run(v->app.engine, mb_verify_feed_source(v->feed), mb_verify_feed_sink(v->feed));
    if (st != MB_OK && !mb_engine_agreed(v->app.engine))
        mb_comm_end(comm, st); /* the others may be waiting in an exchange */
    MB_TRY(mb_comm_agree(comm, st, "computing rows again"));
    MB_TRY(gather(v));
    if (v->app.rank == 0 && v->conf.json)
        st = print_json(v);
    else if (v->app.rank == 0)
        print_text(v);
    if (v->sum.differ > 0)
        *exit_code = 3;
    return mb_comm_agree(comm, st, "printing results");
}

enum mb_status mb_verify(const struct mb_conf *conf, int *argc, char ***argv, int *exit_code)
{
    struct verify *v = calloc(1, sizeof *v);

    if (v == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to verify results");
    v->conf = *conf; /* its texts stay conf's */
    enum mb_status st = mb_app_start(&v->app, &v->conf, argc, argv);
    if (st == MB_OK)
        st = verify(v, exit_code);
    if (st != MB_OK)
        *exit_code = -1;
    mb_app_end_device(&v->app);
    mb_verify_feed_destroy(v->feed);
    mb_app_end(&v->app);
    free(v);
    return st;
}
