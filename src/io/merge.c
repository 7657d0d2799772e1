/* Results of job arrays joined: the rows of all parts through the same assembly as journals. Memory: 80
 * bytes a row at most. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/log.h"
#include "io/asm.h"
#include "io/counts.h"
#include "io/life.h"
#include "io/results.h"
#include "io/tools.h"

struct shard {
    const char *path;
    struct mb_results *r;
    json_t *identity;
    struct mb_identity id;
    int part, parts; /* I of N, from 1 */
};

struct merge {
    struct mb_rows base; /* the assembly's view of it */
    struct shard *s;     /* in order of their part */
    int n;
};

/* ---------------------------------------------------------------- rows of results files */

static enum mb_status shard_record(struct mb_rows *base, const struct mb_row_entry *e, struct mb_record *out)
{
    struct merge *m = (struct merge *)base;
    return mb_results_row(m->s[e->file.run].r, e->offset, out);
}

static enum mb_status shard_bulk(struct mb_rows *base, const struct mb_row_entry *e, enum mb_bulk_kind kind,
                                 uint64_t row_bytes, int64_t from, int64_t n, void *dst, bool *absent)
{
    struct merge *m = (struct merge *)base;
    struct mb_results *r = m->s[e->file.run].r;
    uint64_t first = e->offset;

    *absent = e->status == MB_ROW_ERROR || mb_results_bulk_bytes(r, kind) != row_bytes;
    if (*absent)
        return MB_OK;
    if (kind != MB_BULK_LOGITS || !mb_results_info(r)->logits_last)
        MB_TRY(mb_results_first(r, e->offset, &first));
    return mb_results_bulk(r, kind, first + (uint64_t)from, (uint64_t)n, dst);
}

static void keep_open(struct mb_rows *base)
{
    (void)base; /* the shards are closed by who opened them */
}

static const struct mb_rows_ops shard_ops = {shard_record, shard_bulk, keep_open};

/* ---------------------------------------------------------------- the shards */

static enum mb_status open_shard(struct shard *s)
{
    bool complete = false;

    MB_TRY(mb_results_probe(s->path, &complete, &s->identity));
    if (!complete)
        return mb_error(MB_INPUT, "%s is not complete; resume its job first", s->path);
    if (s->identity == NULL)
        return mb_error(MB_INPUT, "%s does not say what it is the result of", s->path);
    MB_TRY(mb_identity_parse(s->identity, s->path, &s->id));
    const char *shard = s->id.shard != NULL ? s->id.shard : "";
    if (sscanf(shard, "%d/%d", &s->part, &s->parts) != 2 || s->part < 1 || s->part > s->parts)
        return mb_error(MB_INPUT, "%s is no part of a split input (made with --shard I/N), but of \"%s\"",
                        s->path, shard);
    return mb_results_open(s->path, &s->r);
}

static int by_part(const void *a, const void *b)
{
    const struct shard *x = a, *y = b;
    return (x->part > y->part) - (x->part < y->part);
}

/* All parts of one job, each once. */
static enum mb_status check_shards(struct merge *m)
{
    qsort(m->s, (size_t)m->n, sizeof *m->s, by_part);
    for (int i = 0; i < m->n; i++) {
        const struct shard *s = &m->s[i];
        MB_TRY(mb_identity_match(&m->s[0].id, &s->id, true, m->s[0].path));
        if (s->parts != m->n)
            return mb_error(MB_INPUT, "%s is part %d of %d, but %d files were given", s->path, s->part,
                            s->parts, m->n);
        if (s->part != i + 1)
            return mb_error(MB_INPUT, "part %d of %d is %s", i + 1, m->n,
                            s->part > i + 1 ? "missing" : "there twice");
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- assembly */

static enum mb_status shape_of(const struct merge *m, struct mb_shape *s)
{
    const struct mb_results_info *i = mb_results_info(m->s[0].r);

    *s = (struct mb_shape){.routing = i->layers > 0,
                           .logits = i->vocab > 0,
                           .logits_last = i->logits_last,
                           .hidden = i->hidden > 0,
                           .mtp = i->mtp_vocab > 0,
                           .k = (int64_t)i->k,
                           .vocab = (int64_t)(i->vocab > 0 ? i->vocab : i->mtp_vocab),
                           .hidden_rows = (int64_t)i->hidden_layers,
                           .hidden_size = (int64_t)i->hidden};
    if (!s->routing)
        return MB_OK;
    s->n_layers = (int32_t)i->layers;
    return mb_results_layers(m->s[0].r, &s->layers);
}

/* What each part says of itself goes along, as /provenance/part-0001, /physical/part-0001 and so
 * on; the ranks in /physical/rank are those of a row's part. */
static enum mb_status copy_extras(void *arg, struct mb_h5 *h)
{
    struct merge *m = arg;
    for (int i = 0; i < m->n; i++) {
        char name[32];
        snprintf(name, sizeof name, "part-%04d", i + 1);
        MB_TRY(mb_results_copy_extras(m->s[i].r, h, name));
    }
    return MB_OK;
}

/* How many rows a line has: those that follow each other with its number. */
static void set_choices(struct mb_asm *a, int64_t first)
{
    for (int64_t i = first; i < a->n; i++)
        a->e[i].n = (uint8_t)(a->n - first <= MB_MAX_CHOICES ? a->n - first : MB_MAX_CHOICES);
}

/* A row keeps its line in the unsplit input, which is what rows are ordered by. */
static enum mb_status add_rows(struct merge *m, int part, struct mb_asm *a)
{
    struct mb_results *r = m->s[part].r;
    int64_t first = a->n; /* of the line under way */
    for (uint64_t i = 0; i < mb_results_info(r)->rows; i++) {
        struct mb_record rec;
        MB_TRY(mb_results_numbers(r, i, &rec));
        if (rec.n_prompt > UINT32_MAX || rec.n_output > UINT32_MAX || rec.n_rows > UINT32_MAX)
            return mb_error(MB_INPUT, "%s: row %llu has more tokens than a row can have", m->s[part].path, (unsigned long long)i);
        struct mb_row_entry e = {.line = rec.line,
                                 .offset = i,
                                 .n_prompt = (uint32_t)rec.n_prompt,
                                 .n_output = (uint32_t)rec.n_output,
                                 .n_rows = (uint32_t)rec.n_rows,
                                 .choice = (uint8_t)rec.choice,
                                 .top_n = (uint8_t)rec.top_n,
                                 .status = rec.status & 7u,
                                 .prompt_top = (uint8_t)rec.prompt_top.n & 31u,
                                 .file = {part, 0}};
        if (a->n > first && a->e[first].line != e.line) {
            set_choices(a, first);
            first = a->n;
        }
        MB_TRY(mb_asm_add(a, &e, 1));
    }
    set_choices(a, first);
    return MB_OK;
}

/* No line may be in two parts: parts are ranges of lines. */
static enum mb_status check_rows(const struct merge *m, const struct mb_asm *a)
{
    for (int64_t i = 1; i < a->n; i++) {
        const struct mb_row_entry *x = &a->e[i - 1], *y = &a->e[i];
        if (y->line > x->line || (y->line == x->line && y->choice > x->choice && y->file.run == x->file.run))
            continue;
        return mb_error(MB_INPUT,
                        "line %llu of the input is in %s and again in %s: these are not parts of one job",
                        (unsigned long long)y->line + 1, m->s[x->file.run].path, m->s[y->file.run].path);
    }
    return MB_OK;
}

static enum mb_status gather(struct merge *m, struct mb_asm *a)
{
    for (int i = 0; i < m->n; i++) {
        uint64_t requests = 0;
        MB_TRY(mb_results_requests(m->s[i].r, &requests));
        a->requests += requests;
        MB_TRY(add_rows(m, i, a));
    }
    a->lines = mb_results_info(m->s[0].r)->input_lines;
    return check_rows(m, a);
}

static enum mb_status extras_of(const struct merge *m, struct mb_extras *x)
{
    static const char *const keep[] = {"version",      "commit", "libraries", "deck",
                                       "numeric_path", "model",  "model_hash"};
    const char **paths = calloc((size_t)(unsigned)m->n, sizeof *paths);
    enum mb_status st = paths == NULL ? mb_error(MB_NO_MEMORY, "no memory for a list of files") : MB_OK;

    for (int i = 0; i < m->n && st == MB_OK; i++)
        paths[i] = m->s[i].path;
    if (st == MB_OK)
        st = mb_extras_texts(x, "/provenance/merged_from", (uint64_t)m->n, paths);
    for (int i = 0; i < m->n && st == MB_OK; i++)
        st = mb_counts_add_results(x, m->s[i].path);
    for (size_t i = 0; i < sizeof keep / sizeof keep[0] && st == MB_OK; i++) {
        char path[64], *text = NULL;
        snprintf(path, sizeof path, "/provenance/%s", keep[i]);
        st = mb_results_provenance(m->s[0].r, keep[i], &text);
        if (st == MB_OK)
            st = mb_extras_text(x, path, text);
        free(text);
    }
    free(paths);
    return st;
}

static enum mb_status write_merged(struct merge *m, const char *out, bool overwrite, const volatile sig_atomic_t *stop)
{
    struct mb_shape shape = {0};
    struct mb_extras extras = {0};
    struct mb_identity id = m->s[0].id;
    struct mb_asm a = {.g = mb_group_of(NULL),
                       .owners = 1,
                       .rows = &m->base,
                       .shape = &shape,
                       .round_bytes = 16 << 20,
                       .more = copy_extras,
                       .more_arg = m,
                       .stop = stop};
    struct mb_asm_target t = {.path = out, .flags = overwrite ? 0 : MB_PUBLISH_NEW};
    char none[1] = "";

    id.shard = none;
    m->base.ops = &shard_ops;
    enum mb_status st = shape_of(m, &shape);
    if (st == MB_OK)
        st = gather(m, &a);
    if (st == MB_OK)
        st = extras_of(m, &extras);
    if (st == MB_OK)
        st = mb_asm_settle(&a);
    if (st == MB_OK)
        st = mb_asm_write(&a, &t, mb_results_info(m->s[0].r)->input_lines, &id, &extras);
    if (st == MB_OK)
        mb_info("%s: %lld rows from %d files, %lld of them error rows", out, (long long)a.totals.rows, m->n,
                (long long)a.totals.errors);
    mb_asm_fini(&a);
    mb_extras_fini(&extras);
    mb_shape_fini(&shape);
    return st;
}

/* Neither a file that is there, nor one of the parts under another name, nor the results of a job that runs. */
static enum mb_status check_place(const char *const *paths, int n, const char *out, bool overwrite)
{
    struct mb_life life;
    struct mb_rundir *d = NULL;
    char who[384];
    if (mb_path_exists(out) && !overwrite)
        return mb_error(MB_INPUT, "%s exists; --overwrite replaces it", out);
    for (int i = 0; i < n; i++) {
        if (mb_same_file(paths[i], out))
            return mb_error(MB_INPUT, "%s would replace %s, which is the same file: give another -o", out, paths[i]);
    }
    MB_TRY(mb_rundir_look(out, &d));
    mb_life_look(d->dir, &life);
    mb_rundir_destroy(d);
    mb_life_text(&life, who);
    return life.known && life.alive ? mb_error(MB_INPUT, "%s: a job is running here (%s): give another -o", out, who)
                                    : mb_publish_probe(out);
}

enum mb_status mb_results_merge(const char *const *paths, int n, const char *out, bool overwrite, const volatile sig_atomic_t *stop)
{
    struct merge m = {.n = 0};
    enum mb_status st = MB_OK;

    if (n < 1)
        return mb_error(MB_USAGE, "merge needs the results of all parts");
    MB_TRY(check_place(paths, n, out, overwrite));
    m.s = calloc((size_t)n, sizeof *m.s);
    if (m.s == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d files", n);
    for (; m.n < n && st == MB_OK; m.n++) {
        m.s[m.n].path = paths[m.n];
        st = open_shard(&m.s[m.n]);
    }
    if (st == MB_OK)
        st = check_shards(&m);
    if (st == MB_OK)
        st = write_merged(&m, out, overwrite, stop);
    for (int i = 0; i < m.n; i++) {
        mb_results_close(m.s[i].r);
        mb_identity_fini(&m.s[i].id);
        json_decref(m.s[i].identity);
    }
    free(m.s);
    return st;
}
