#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "io/digest.h"
#include "io/inspect_job.h"
#include "io/results.h"
#include "io/safe.h"
#include "io/seal.h"
#include "io/table.h"
#include "io/tools.h"

static bool print_json(FILE *out, json_t *v, size_t flags)
{
    bool good = v != NULL && json_dumpf(v, out, flags) == 0;
    fputc('\n', out);
    json_decref(v);
    return good;
}

/* ---------------------------------------------------------------- summary */
struct counts {
    int64_t kind[3], status[4], finish[5];
};

static enum mb_status count_rows(struct mb_results *r, struct counts *c)
{
    memset(c, 0, sizeof *c);
    for (uint64_t i = 0; i < mb_results_info(r)->rows; i++) {
        struct mb_record rec;
        MB_TRY(mb_results_numbers(r, i, &rec));
        c->kind[rec.kind]++;
        c->status[rec.status]++;
        c->finish[rec.finish]++;
    }
    return MB_OK;
}

static json_t *counted(const int64_t *n, const char *const *names, int many)
{
    json_t *o = json_object();
    for (int i = 0; i < many; i++)
        json_object_set_new(o, names[i], json_integer(n[i]));
    return o;
}

static json_t *summary_json(const struct mb_results_info *f, const struct counts *c)
{
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:I, s:{s:I, s:I}, s:I, s:b, s:I}", "complete", f->complete,
                     "rows", (json_int_t)f->rows, "prompt_tokens", (json_int_t)f->n_prompt, "output_tokens",
                     (json_int_t)f->n_output, "computed_rows", (json_int_t)f->n_rows, "kind", counted(c->kind, mb_kind_names, 3),
                     "status", counted(c->status, mb_row_status_names, 4), "finish_reason", counted(c->finish, mb_finish_names, 5),
                     "top", (json_int_t)f->top, "routing", "layers", (json_int_t)f->layers, "k", (json_int_t)f->k, "logits",
                     (json_int_t)f->vocab, "logits_last", f->logits_last, "hidden", (json_int_t)f->hidden);
}

static void put_counts(struct mb_table *t, const char *what, const int64_t *n, const char *const *names, int many)
{
    for (int i = 0; i < many; i++) {
        if (n[i] > 0)
            mb_table_row(t, "%s\t%s\t%lld", what, names[i], (long long)n[i]);
        what = n[i] > 0 ? "" : what;
    }
}

static void put_saved(struct mb_table *t, const struct mb_results_info *f)
{
    if (f->top > 0)
        mb_table_row(t, "saved\tcandidates per output token\t%llu", (unsigned long long)f->top);
    if (f->prompt_top > 0)
        mb_table_row(t, "saved\tcandidates per prompt token\t%llu", (unsigned long long)f->prompt_top);
    if (f->layers > 0)
        mb_table_row(t, "saved\trouting: layers x experts per token\t%llu x %llu", (unsigned long long)f->layers,
                     (unsigned long long)f->k);
    if (f->vocab > 0)
        mb_table_row(t, "saved\tlogits of %s\t%llu", f->logits_last ? "the last row" : "every row",
                     (unsigned long long)f->vocab);
    if (f->hidden > 0)
        mb_table_row(t, "saved\thidden states: layers x width\t%llu x %llu", (unsigned long long)f->hidden_layers,
                     (unsigned long long)f->hidden);
    if (f->mtp_vocab > 0)
        mb_table_row(t, "saved\tlogits of the MTP module\t%llu", (unsigned long long)f->mtp_vocab);
}

static enum mb_status put_provenance(struct mb_table *t, struct mb_results *r)
{
    static const char *const names[] = {"version", "commit", "command", "numeric_path", "started", "finished"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *v = NULL;
        MB_TRY(mb_results_provenance(r, names[i], &v));
        if (v != NULL)
            mb_table_row(t, "made by\t%s\t%s", names[i], v);
        free(v);
    }
    return MB_OK;
}

/* What the file says of itself; --check compares. */
static enum mb_status put_digests(struct mb_table *t, json_t *v, const char *path)
{
    static const char *const names[] = {"digest", "digest_tokens"};
    char hex[33];
    for (int i = 0; i < 2; i++) {
        MB_TRY(mb_seal_stored(path, names[i], hex));
        if (*hex != 0 && v != NULL)
            json_object_set_new(v, names[i], json_string(hex));
        if (*hex != 0 && t != NULL)
            mb_table_row(t, "%s\t%s\t%s", i == 0 ? "digest" : "", i == 0 ? "of all" : "of tokens and log-probabilities", hex);
    }
    return MB_OK;
}

static enum mb_status summary(FILE *out, struct mb_results *r, const struct mb_inspect_options *o)
{
    static const char *const columns[] = {"WHAT", "OF", "VALUE", NULL};
    const struct mb_results_info *f = mb_results_info(r);
    struct mb_table *t = NULL;
    struct counts c;
    MB_TRY(count_rows(r, &c));
    if (o->json) {
        json_t *v = summary_json(f, &c);
        enum mb_status put = put_digests(NULL, v, o->path);
        if (put == MB_OK && v != NULL)
            put = mb_inspect_job(r, o->path, NULL, v);
        bool good = print_json(out, v, JSON_INDENT(1));
        return put != MB_OK || good ? put : mb_error(MB_NO_MEMORY, "no memory for JSON");
    }
    MB_TRY(mb_table_create(columns, 0, &t));
    mb_table_row(t, "results\t\t%s", f->complete ? "complete" : "partial");
    mb_table_row(t, "rows\t\t%llu", (unsigned long long)f->rows);
    put_counts(t, "kind", c.kind, mb_kind_names, 3);
    put_counts(t, "status", c.status, mb_row_status_names, 4);
    put_counts(t, "finish reason", c.finish, mb_finish_names, 5);
    mb_table_row(t, "tokens\tof prompts\t%llu", (unsigned long long)f->n_prompt);
    mb_table_row(t, "tokens\tgenerated\t%llu", (unsigned long long)f->n_output);
    put_saved(t, f);
    enum mb_status st = put_digests(t, NULL, o->path);
    if (st == MB_OK)
        st = mb_inspect_job(r, o->path, t, NULL);
    if (st == MB_OK)
        st = put_provenance(t, r);
    mb_table_print(t, out);
    return st;
}

/* ---------------------------------------------------------------- texts */
static json_t *row_json(const struct mb_record *rec)
{
    json_t *v = json_pack("{s:s%, s:i, s:s, s:s, s:s, s:I, s:I, s:s%, s:s%}", "id", rec->id.data == NULL ? "" : rec->id.data,
                          rec->id.len, "choice", rec->choice, "kind", mb_kind_names[rec->kind], "status",
                          mb_row_status_names[rec->status], "finish_reason", mb_finish_names[rec->finish], "prompt_tokens",
                          (json_int_t)rec->n_prompt, "output_tokens", (json_int_t)rec->n_output, "text",
                          rec->text.data == NULL ? "" : rec->text.data, rec->text.len, "error",
                          rec->error.data == NULL ? "" : rec->error.data, rec->error.len);
    if (v != NULL && rec->kind != MB_KIND_GENERATE && rec->status == MB_ROW_OK) {
        json_object_set_new(v, "is_greedy", json_boolean(rec->is_greedy));
        if (rec->logprob_sum == rec->logprob_sum)
            json_object_set_new(v, "logprob_sum", json_real(rec->logprob_sum));
    }
    return v;
}

static void put_safe(FILE *out, const struct mb_text *t)
{
    mb_put_safe(out, t->data, t->len, false);
}

static void print_error(FILE *out, const struct mb_record *rec)
{
    fputs(" error: ", out);
    put_safe(out, &rec->error);
    fputc('\n', out);
}

static void print_row(FILE *out, const struct mb_record *rec)
{
    fputs("--- ", out);
    put_safe(out, &rec->id);
    if (rec->choice > 0)
        fprintf(out, " choice %d", rec->choice);
    if (rec->status == MB_ROW_ERROR)
        print_error(out, rec);
    else if (rec->status == MB_ROW_PENDING)
        fputs(" pending\n", out);
    else if (rec->kind == MB_KIND_GENERATE) {
        fprintf(out, " %s, %lld tokens\n", mb_finish_names[rec->finish], (long long)rec->n_output);
        mb_put_safe(out, rec->text.data, rec->text.len, true);
        fputc('\n', out);
    } else
        fprintf(out, " %s %.6f%s\n", mb_kind_names[rec->kind], rec->logprob_sum, rec->is_greedy ? " greedy" : "");
}

static enum mb_status texts(FILE *out, struct mb_results *r, bool json, bool errors)
{
    for (uint64_t i = 0; i < mb_results_info(r)->rows; i++) {
        struct mb_record rec;
        bool good = true;
        MB_TRY(mb_results_row(r, i, &rec));
        if (errors && rec.status != MB_ROW_ERROR)
            ;
        else if (json)
            good = print_json(out, row_json(&rec), JSON_COMPACT | JSON_REAL_PRECISION(17));
        else
            print_row(out, &rec);
        mb_record_fini(&rec);
        if (!good)
            return mb_error(MB_NO_MEMORY, "row %llu cannot be shown as JSON", (unsigned long long)i);
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- routing */
#define EXPERTS 65536 /* ids are u16 */
#define PIECE ((uint64_t)4096)

static enum mb_status count_layer(struct mb_results *r, uint64_t layer, int64_t *n)
{
    const struct mb_results_info *f = mb_results_info(r);
    memset(n, 0, EXPERTS * sizeof *n);
    for (uint64_t from = 0; from < f->n_rows; from += PIECE) {
        const void *p = NULL;
        uint64_t rows = f->n_rows - from < PIECE ? f->n_rows - from : PIECE;
        MB_TRY(mb_results_layer(r, MB_BULK_EXPERTS, layer, from, rows, &p));
        for (uint64_t i = 0; i < rows * f->k; i++) {
            uint16_t e;
            memcpy(&e, (const uint8_t *)p + i * sizeof e, sizeof e);
            n[e]++;
        }
    }
    return MB_OK;
}

struct load {
    int experts, idle, busiest; /* highest id + 1; those without a row; id of the one with most rows */
    int64_t total;
};

static struct load load_of(const int64_t *n)
{
    struct load l = {0, 0, 0, 0};
    for (int e = 0; e < EXPERTS; e++) {
        l.total += n[e];
        if (n[e] > 0)
            l.experts = e + 1;
        if (n[e] > n[l.busiest])
            l.busiest = e;
    }
    for (int e = 0; e < l.experts; e++)
        l.idle += n[e] == 0;
    return l;
}

static json_t *layer_json(uint64_t layer, const int64_t *n, const struct load *l)
{
    json_t *rows = json_array();
    for (int e = 0; e < l->experts; e++)
        json_array_append_new(rows, json_integer(n[e]));
    return json_pack("{s:I, s:o}", "layer", (json_int_t)layer, "rows", rows);
}

static enum mb_status routing(FILE *out, struct mb_results *r, bool json)
{
    static const char *const columns[] = {"MOE LAYER>", "ROWS>", "EXPERTS USED>", "BUSIEST>", "ITS ROWS>", "MAX/MEAN>", NULL};
    const struct mb_results_info *f = mb_results_info(r);
    struct mb_table *t = NULL;
    if (f->layers == 0)
        return mb_error(MB_INPUT, "the results hold no routing: run with --save-routing");
    json_t *all = json_array();
    int64_t *n = mb_alloc(NULL, MB_MEM_OTHER, EXPERTS, sizeof *n);
    enum mb_status st = n == NULL ? mb_error(MB_NO_MEMORY, "no memory to count experts") : MB_OK;
    if (st == MB_OK && !json)
        st = mb_table_create(columns, 1, &t);
    for (uint64_t layer = 0; layer < f->layers && st == MB_OK; layer++) {
        st = count_layer(r, layer, n);
        struct load l = st == MB_OK ? load_of(n) : (struct load){0};
        if (json)
            json_array_append_new(all, layer_json(layer, n, &l));
        else if (st == MB_OK)
            mb_table_row(t, "%llu\t%lld\t%d\t%d\t%lld\t%.2f", (unsigned long long)layer, (long long)l.total,
                         l.experts - l.idle, l.busiest, (long long)n[l.busiest],
                         l.total == 0 ? 0 : (double)n[l.busiest] * l.experts / (double)l.total);
    }
    mb_free(n);
    if (json && st == MB_OK && !print_json(out, json_incref(all), JSON_COMPACT))
        st = mb_error(MB_NO_MEMORY, "no memory for JSON");
    json_decref(all);
    mb_table_print(t, out);
    return st;
}

/* ---------------------------------------------------------------- digest */
/* The stored digest is that by id. */
static enum mb_status compare_stored(const char *path, const char *hex)
{
    char stored[33];
    MB_TRY(mb_seal_stored(path, "digest", stored));
    return *stored == 0 || strcmp(stored, hex) == 0 ? MB_OK
                                                    : mb_error(MB_INPUT, "%s is not what was written: it says that its digest is %s; "
                                                               "inspect --check names what differs", path, stored);
}

static enum mb_status digest(FILE *out, struct mb_results *r, const struct mb_inspect_options *o)
{
    struct mb_digest d;
    char hex[33];
    MB_TRY(mb_digest_file(r, o->in_order, o->requests ? out : NULL, &d));
    mb_hash128_hex(d.file, hex);
    if (d.degraded > 0)
        mb_warn("%llu degraded rows are not in the digest", (unsigned long long)d.degraded);
    fprintf(out, "%s\n", hex);
    return o->in_order ? MB_OK : compare_stored(o->path, hex);
}

static enum mb_status check(FILE *out, const char *path)
{
    struct mb_hash128 digest, tokens;
    char hex[33];
    MB_TRY(mb_seal_check(path, &digest, &tokens));
    mb_hash128_hex(digest, hex);
    fprintf(out, "%s is whole\ndigest        : %s\n", path, hex);
    mb_hash128_hex(tokens, hex);
    fprintf(out, "digest_tokens : %s\n", hex);
    return MB_OK;
}

static enum mb_status show(FILE *out, const struct mb_inspect_options *o)
{
    struct mb_results *r = NULL;
    bool want_digest = o->digest || o->requests || o->in_order;
    enum mb_status st = MB_OK;
    if (o->check && !o->text && !o->errors && !o->routing && !want_digest)
        return MB_OK;
    MB_TRY(mb_results_open(o->path, &r));
    if (!o->text && !o->errors && !o->routing && !want_digest)
        st = summary(out, r, o);
    if (st == MB_OK && (o->text || o->errors))
        st = texts(out, r, o->json, o->errors);
    if (st == MB_OK && o->routing)
        st = routing(out, r, o->json);
    if (st == MB_OK && want_digest)
        st = digest(out, r, o);
    mb_results_close(r);
    return st;
}

enum mb_status mb_inspect(FILE *out, const struct mb_inspect_options *o)
{
    enum mb_status st = o->check ? check(out, o->path) : MB_OK;
    if (st == MB_OK)
        st = show(out, o);
    if (fflush(out) != 0 && st == MB_OK)
        st = mb_error(MB_IO, "writing the output failed");
    return st;
}
