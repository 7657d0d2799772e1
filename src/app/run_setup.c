/* What a job needs before weights are read: its input, its identity, its directory, and what earlier runs have done. Rank 0
 * does it; the others get what they need in one broadcast. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/job.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/numerics.h"
#include "text/special.h"

static enum mb_add_bos bos_of(const char *s)
{
    return strcmp(s, "yes") == 0 ? MB_BOS_YES : strcmp(s, "no") == 0 ? MB_BOS_NO : MB_BOS_AUTO;
}

static void parse_options(struct mb_job_state *j)
{
    const struct mb_conf *c = j->app.conf;
    const struct mb_model *m = j->app.model;
    struct mb_parse_options *p = &j->parse;

    mb_parse_options_init(p);
    p->tok = j->app.tok;
    p->longest_token = p->tok != NULL ? mb_tokenizer_longest(p->tok) : 0;
    p->mem = &j->app.mem;
    p->vocab = m->vocab;
    p->max_len = j->app.plan->max_len;
    p->bos = m->bos;
    p->add_bos = bos_of(c->add_bos);
    p->truncate_left = strcmp(c->truncate, "left") == 0;
    p->score = c->command == MB_CMD_SCORE;
    p->max_tokens = c->max_tokens;
    p->adapters = j->app.adapter_name;
    p->n_adapters = j->app.n_adapters;
    p->base = c->model_name != NULL ? c->model_name : c->model;
}

/* The tokenizer's BOS, else its EOS; where it names neither, the model's. */
static enum mb_status find_prefix(struct mb_job_state *j)
{
    const struct mb_model *m = j->app.model;
    int32_t id = -1;

    if (j->app.tok != NULL)
        MB_TRY(mb_special_prefix(j->app.conf->model, j->app.tok, &id));
    if (id < 0 || id >= m->vocab)
        id = m->bos >= 0 ? m->bos : m->n_eos > 0 ? m->eos[0] : -1;
    j->parse.prefix = id;
    return MB_OK;
}

static char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *format(const char *fmt, ...)
{
    va_list ap;
    char *out = NULL;
    va_start(ap, fmt);
    if (vasprintf(&out, fmt, ap) < 0)
        out = NULL;
    va_end(ap);
    return out;
}

/* "name=hash ..." of all adapters, malloc'd. */
static char *adapter_names(const struct mb_job_state *j)
{
    struct mb_bytes b = {0};
    char hex[33];
    enum mb_status st = MB_OK;

    for (int32_t i = 0; i < j->app.n_adapters && st == MB_OK; i++) {
        mb_hash128_hex(j->app.adapter_id[i], hex);
        char *one = format("%s%s=%s", i > 0 ? " " : "", j->app.adapter_name[i], hex);
        st = one == NULL ? MB_NO_MEMORY : mb_bytes_put(&b, one, strlen(one));
        free(one);
    }
    if (st == MB_OK)
        st = mb_bytes_put(&b, "", 1);
    if (st != MB_OK)
        mb_bytes_fini(&b);
    return (char *)b.data;
}

static enum mb_status make_identity(struct mb_job_state *j, const struct mb_hash128 *input)
{
    const struct mb_conf *c = j->app.conf;
    const struct mb_parse_options *p = &j->parse;
    struct mb_identity *id = &j->identity;
    char more[128] = "";

    id->input = *input;
    id->model = j->app.model_id;
    id->seed = (uint64_t)c->seed;
    id->adapters = adapter_names(j);
    /* what came later is said only where it is used: results of before can go on */
    if (!isnan(p->min_p))
        snprintf(more, sizeof more, "min_p=%g ", (double)p->min_p);
    if (p->n_stop > 0)
        snprintf(more + strlen(more), sizeof more - strlen(more), "stop=%016llx", (unsigned long long)mb_hash64(c->stop, strlen(c->stop)));
    if (c->now[0] != 0)
        snprintf(more + strlen(more), sizeof more - strlen(more), "%snow=%lld", p->n_stop > 0 ? " " : "", (long long)c->now_time);
    id->sampling = format("command=%s max_tokens=%lld add_bos=%s truncate=%s max_len=%lld temperature=%g top_p=%g top_k=%d "
                          "repetition=%g%s%s", mb_command_name(c->command), (long long)c->max_tokens, c->add_bos, c->truncate,
                          (long long)p->max_len, (double)p->temperature, (double)p->top_p, p->top_k, (double)p->repetition, more[0] != 0 ? " " : "", more);
    id->path = format("%s version=%d", j->app.path_name, MB_NUMERIC_VERSION);
    id->saved = format("routing=%d logits=%s hidden=%d", c->save_routing, c->save_logits, c->save_hidden);
    id->shard = strdup(c->shard);
    if (!id->adapters || !id->sampling || !id->path || !id->saved || !id->shard)
        return mb_error(MB_NO_MEMORY, "no memory for the identity of the run");
    return MB_OK;
}

/* ---------------------------------------------------------------- what is stored beside the rows */

static enum mb_status make_shape(struct mb_job_state *j)
{
    const struct mb_model *m = j->app.model;
    const struct mb_conf *c = j->app.conf;
    struct mb_shape *s = &j->shape;
    bool all = strcmp(c->save_logits, "all") == 0;

    *s = (struct mb_shape){.routing = c->save_routing && m->moe_layers > 0, .logits = c->save_logits[0] != 0,
                           .logits_last = c->save_logits[0] != 0 && !all, .hidden = c->save_hidden, .mtp = all && m->mtp_layers > 0,
                           .k = m->router.k, .vocab = m->vocab, .hidden_rows = (int64_t)m->layers + 1, .hidden_size = m->hidden};
    s->layers = malloc(sizeof *s->layers * ((size_t)m->moe_layers + 1));
    if (s->layers == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a list of layers");
    for (int32_t l = 0; l < m->layers; l++) {
        if (m->is_moe[l])
            s->layers[s->n_layers++] = l;
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- rank 0 */

static enum mb_status fold(struct mb_job_state *j)
{
    struct mb_resume_counts n;

    if (j->start.what != MB_START_RESUME)
        return MB_OK;
    MB_TRY(mb_resume_fold(j->dir->dir, j->dir->run, &j->identity, j->start.input.total_lines, &j->app.mem, &j->resume));
    mb_resume_count(j->resume, &n);
    j->start.rows_done = n.rows_done;
    j->start.lines_begun = n.lines_begun;
    j->start.forced_tokens = n.tokens;
    return MB_OK;
}

/* The failure of the last run, if it started with what is there now: it has added nothing. */
static enum mb_status last_failure(const struct mb_job_state *j, const struct mb_run_last *last)
{
    /* --resume of a run that left nothing begins afresh */
    bool same = (j->start.what == MB_START_RESUME || j->app.conf->resume) && last->from_rows == j->start.rows_done &&
                last->from_tokens == j->start.forced_tokens;

    for (int st = MB_NO_MEMORY; st <= MB_DEADLINE && same; st++) {
        if (strcmp(mb_status_name((enum mb_status)st), last->failure) == 0)
            return (enum mb_status)st;
    }
    return MB_OK;
}

static enum mb_status open_first(void *arg)
{
    struct mb_job_state *j = arg;

    if (j->app.conf->openai_output[0] != 0 && j->app.tok == NULL)
        return mb_error(MB_MODEL, "%s has no tokenizer: --openai-output, which holds the texts of tokens, needs one",
                        j->app.conf->model);
    MB_TRY(mb_job_index(j));
    MB_TRY(make_identity(j, &mb_index_info(j->index)->hash));
    MB_TRY(mb_app_files(&j->app, &j->identity.files));
    struct mb_run_last last = {.failure = ""};
    char *dir = format("%s.d", j->app.conf->output);
    if (dir != NULL)
        mb_rundir_last(dir, &last);
    free(dir);
    MB_TRY(mb_job_start(j));
    if (mb_job_done(j))
        return MB_OK;
    j->start.chat_time = j->app.conf->now[0] != 0 ? j->app.conf->now_time : mb_job_first_start(j->dir);
    MB_TRY(fold(j));
    j->start.last_failure = (int32_t)last_failure(j, &last);
    return MB_OK;
}

/* ---------------------------------------------------------------- every rank */

/* Rank 0's list of files to all: it is in the head of every journal. Collective. */
static enum mb_status share_files(struct mb_job_state *j)
{
    struct mb_bytes b = {0};
    enum mb_status st = MB_OK;

    if (j->app.rank == 0) {
        json_t *v = mb_files_json(&j->identity.files);
        char *text = v == NULL ? NULL : json_dumps(v, JSON_COMPACT);
        st = text == NULL ? mb_error(MB_NO_MEMORY, "no memory for a list of files") : mb_bytes_put(&b, text, strlen(text));
        free(text);
        json_decref(v);
    }
    st = mb_comm_agree(j->app.comm, st, "list of files");
    if (st == MB_OK)
        st = mb_comm_bcast_bytes(j->app.comm, &b, 0, "list of files");
    if (st == MB_OK && j->app.rank != 0) {
        json_t *v = NULL;
        st = mb_json_parse(b.data, b.len, "list of files", MB_BUG, NULL, 0, &v);
        if (st == MB_OK)
            st = mb_files_parse(v, "list of files", &j->identity.files);
        json_decref(v);
    }
    mb_bytes_fini(&b);
    return mb_comm_agree(j->app.comm, st, "list of files");
}

static enum mb_status open_output(struct mb_job_state *j)
{
    const struct mb_conf *c = j->app.conf;
    struct mb_journal_options jo = {.dir = j->dir->run, .identity = &j->identity, .run = j->dir->number, .rank = j->app.rank,
                                    .sync_interval = c->sync_interval};
    struct mb_sink_options so = {.tokenizer = j->app.tok, .journal = j->journal, .logits_last = j->shape.logits_last};

    MB_TRY(mb_journal_create(&jo, &j->journal));
    for (int k = 0; k < MB_BULK_COUNT; k++)
        so.row_bytes[k] = mb_shape_row_bytes(&j->shape, (enum mb_bulk_kind)k);
    so.journal = j->journal;
    return mb_sink_create(&so, &j->sink);
}

/* Only the leader of an attention group reads requests. */
static bool leads(const struct mb_job_state *j)
{
    struct mb_place at;

    mb_layout_place(&j->app.plan->layout, j->app.topo->index_of[j->app.rank], &at);
    return mb_place_leads(&at);
}

static enum mb_line_order order_of(const char *name)
{
    return strcmp(name, "prefix") == 0   ? MB_LINES_PREFIX
           : strcmp(name, "length") == 0 ? MB_LINES_LENGTH
                                         : MB_LINES_INPUT;
}

static enum mb_status open_input(struct mb_job_state *j)
{
    struct mb_lease_options lo = {.comm = j->app.comm, .index = j->index, .resume = j->resume, .ranks = j->app.size,
                                  .leasers = mb_layout_leaders(&j->app.plan->layout), .capacity = j->app.plan->max_num_seqs,
                                  .order = order_of(j->app.conf->order), .mem = &j->app.mem};
    if (j->app.rank == 0)
        MB_TRY(mb_lease_create(&lo, &j->lease));
    if (!leads(j))
        return MB_OK;
    struct mb_input_source_options so = {.comm = j->app.comm, .info = &j->start.input, .parse = &j->parse, .lease = j->lease,
                                         .run_dir = j->start.what == MB_START_RESUME ? j->dir->run : NULL, .mem = &j->app.mem};
    return mb_input_source_create(&so, &j->source);
}

enum mb_status mb_job_open(struct mb_job_state *j)
{
    struct mb_comm *comm = j->app.comm;
    enum mb_status st = MB_OK;

    parse_options(j);
    st = mb_job_defaults(j);
    if (st == MB_OK)
        st = find_prefix(j);
    if (st == MB_OK)
        st = mb_job_chat(j);
    if (st == MB_OK)
        st = make_shape(j);
    MB_TRY(mb_comm_agree(comm, st, "preparing requests"));
    MB_TRY(mb_comm_alone(comm, j->app.rank == 0, open_first, j, "opening input and results"));
    MB_TRY(mb_comm_bcast(comm, &j->start, sizeof j->start, 0, "input"));
    if (mb_job_done(j))
        return MB_OK;
    MB_TRY(share_files(j));
    if (j->app.rank != 0) {
        st = make_identity(j, &j->start.input.hash);
        if (st == MB_OK)
            st = mb_rundir_attach(j->app.conf->output, j->start.run, &j->dir);
    }
    MB_TRY(mb_comm_agree(comm, st, "attaching to the results directory"));
    mb_log_set_quiet(false);
    st = open_output(j);
    if (st == MB_OK)
        st = open_input(j);
    return mb_comm_agree(comm, st, "opening the journal");
}
