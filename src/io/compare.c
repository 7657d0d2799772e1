/* moebatch compare: two results files row by row, in the fields of the digest. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mem.h"
#include "io/digest.h"
#include "io/results.h"
#include "io/safe.h"
#include "io/tools.h"

enum { SHOWN = 96 };

/* Where two rows part: the field, the element in it (-1: the field has no elements), and what stands there.
 */
struct difference {
    bool found;
    char field[64];
    int64_t at;
    char value[2][SHOWN];
};

static void differs(struct difference *d, const char *field, int64_t at)
{
    d->found = true;
    snprintf(d->field, sizeof d->field, "%s", field);
    d->at = at;
}

/* ---------------------------------------------------------------- fields */
static void numbers(struct difference *d, const char *field, int64_t a, int64_t b)
{
    if (d->found || a == b)
        return;
    differs(d, field, -1);
    snprintf(d->value[0], SHOWN, "%" PRId64, a);
    snprintf(d->value[1], SHOWN, "%" PRId64, b);
}

static void names(struct difference *d, const char *field, uint8_t a, uint8_t b, const char *const *of)
{
    if (d->found || a == b)
        return;
    differs(d, field, -1);
    snprintf(d->value[0], SHOWN, "%s", of[a]);
    snprintf(d->value[1], SHOWN, "%s", of[b]);
}

static void texts(struct difference *d, const char *field, const struct mb_text *a, const struct mb_text *b)
{
    size_t n = a->len < b->len ? a->len : b->len, at = 0;

    if (d->found || (a->len == b->len && (n == 0 || memcmp(a->data, b->data, n) == 0)))
        return;
    while (at < n && a->data[at] == b->data[at])
        at++;
    differs(d, field, (int64_t)at);
    const struct mb_text *t[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        size_t left = t[i]->len - at < 40 ? t[i]->len - at : 40;
        snprintf(d->value[i], SHOWN, "%zu bytes%s%.*s", t[i]->len, left > 0 ? ", " : "", (int)left,
                 left > 0 ? t[i]->data + at : "");
    }
}

static void ids(struct difference *d, const char *field, const int32_t *a, const int32_t *b, int64_t n)
{
    for (int64_t i = 0; i < n && !d->found; i++) {
        numbers(d, field, a[i], b[i]);
        if (d->found)
            d->at = i;
    }
}

static uint32_t bits_of(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return isnan(x) ? 0x7fc00000 : u; /* as the digest takes it */
}

/* NULL: all are NaN, as a field that was not asked for is stored. */
static void floats(struct difference *d, const char *field, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n && !d->found; i++) {
        float v[2] = {a != NULL ? a[i] : NAN, b != NULL ? b[i] : NAN};
        if (bits_of(v[0]) == bits_of(v[1]))
            continue;
        differs(d, field, i);
        for (int k = 0; k < 2; k++)
            snprintf(d->value[k], SHOWN, "%.9g (0x%08" PRIx32 ")", (double)v[k], bits_of(v[k]));
    }
}

static void sums(struct difference *d, double a, double b)
{
    if (d->found || memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b)))
        return;
    differs(d, "logprob_sum", -1);
    snprintf(d->value[0], SHOWN, "%.17g", a);
    snprintf(d->value[1], SHOWN, "%.17g", b);
}

/* What rows have without --save-*. */
static void records(struct difference *d, const struct mb_record *a, const struct mb_record *b)
{
    texts(d, "id", &a->id, &b->id);
    numbers(d, "choice", a->choice, b->choice);
    names(d, "kind", a->kind, b->kind, mb_kind_names);
    names(d, "status", a->status, b->status, mb_row_status_names);
    if (d->found || a->status == MB_ROW_ERROR || a->status == MB_ROW_PENDING)
        return;
    names(d, "finish_reason", a->finish, b->finish, mb_finish_names);
    numbers(d, "prompt_tokens", a->n_prompt, b->n_prompt);
    numbers(d, "output_tokens", a->n_output, b->n_output);
    if (d->found)
        return;
    ids(d, "prompt_ids", a->prompt_ids, b->prompt_ids, a->n_prompt);
    floats(d, "prompt_logprobs", a->prompt_logprobs, b->prompt_logprobs, a->n_prompt);
    ids(d, "output_ids", a->output_ids, b->output_ids, a->n_output);
    floats(d, "output_logprobs", a->output_logprobs, b->output_logprobs, a->n_output);
    numbers(d, "prompt_top", a->prompt_top.n, b->prompt_top.n);
    numbers(d, "top", a->top_n, b->top_n);
    if (d->found)
        return;
    ids(d, "top_ids", a->top_ids, b->top_ids, a->n_output * a->top_n);
    floats(d, "top_logprobs", a->top_logprobs, b->top_logprobs, a->n_output * a->top_n);
    ids(d, "prompt_top_ids", a->prompt_top.ids, b->prompt_top.ids, a->n_prompt * a->prompt_top.n);
    floats(d, "prompt_top_logprobs", a->prompt_top.logprobs, b->prompt_top.logprobs, a->n_prompt * a->prompt_top.n);
    sums(d, a->logprob_sum, b->logprob_sum);
    numbers(d, "is_greedy", a->is_greedy, b->is_greedy);
    texts(d, "text", &a->text, &b->text);
    numbers(d, "rows", a->n_rows, b->n_rows);
}

/* ---------------------------------------------------------------- what was saved */
struct pair {
    struct mb_results *r[2];
    uint64_t first[2];                 /* of a row, in what was saved */
    float *row[2];                     /* room for one row of the widest kind */
    bool routing, logits, hidden, mtp; /* both have it, of one shape */
};

/* Layer, row of the request and place in it are one number in `at` for HDF5's users: the flat index in (row,
 * place). */
static enum mb_status routes(struct pair *p, struct difference *d, uint64_t n)
{
    const struct mb_results_info *f = mb_results_info(p->r[0]);
    const void *v[2];
    char field[64];

    for (uint64_t l = 0; l < f->layers && !d->found; l++) {
        for (int i = 0; i < 2; i++)
            MB_TRY(mb_results_layer(p->r[i], MB_BULK_EXPERTS, l, p->first[i], n, &v[i]));
        const uint16_t *a = v[0], *b = v[1];
        snprintf(field, sizeof field, "routing/experts of MoE layer %" PRIu64, l);
        for (uint64_t i = 0; i < n * f->k && !d->found; i++) {
            numbers(d, field, a[i], b[i]);
            if (d->found)
                d->at = (int64_t)i;
        }
        for (int i = 0; i < 2 && !d->found; i++)
            MB_TRY(mb_results_layer(p->r[i], MB_BULK_WEIGHTS, l, p->first[i], n, &v[i]));
        snprintf(field, sizeof field, "routing/weights of MoE layer %" PRIu64, l);
        if (!d->found)
            floats(d, field, v[0], v[1], (int64_t)(n * f->k));
    }
    return MB_OK;
}

static enum mb_status wide(struct pair *p, struct difference *d, enum mb_bulk_kind kind, const char *name,
                           const uint64_t first[2], uint64_t n)
{
    int64_t width = (int64_t)(mb_results_bulk_bytes(p->r[0], kind) / sizeof(float));
    char field[64];

    for (uint64_t i = 0; i < n && !d->found; i++) {
        for (int k = 0; k < 2; k++)
            MB_TRY(mb_results_bulk(p->r[k], kind, first[k] + i, 1, p->row[k]));
        snprintf(field, sizeof field, "%s of row %" PRIu64, name, i);
        floats(d, field, p->row[0], p->row[1], width);
    }
    return MB_OK;
}

static enum mb_status saved(struct pair *p, struct difference *d, uint64_t i, uint64_t n)
{
    uint64_t row[2] = {i, i};

    for (int k = 0; k < 2; k++)
        MB_TRY(mb_results_first(p->r[k], i, &p->first[k]));
    if (p->routing)
        MB_TRY(routes(p, d, n));
    if (p->logits && !d->found)
        MB_TRY(mb_results_info(p->r[0])->logits_last ? wide(p, d, MB_BULK_LOGITS, "logits", row, 1)
                                                     : wide(p, d, MB_BULK_LOGITS, "logits", p->first, n));
    if (p->hidden && !d->found)
        MB_TRY(wide(p, d, MB_BULK_HIDDEN, "hidden", p->first, n));
    if (p->mtp && !d->found)
        MB_TRY(wide(p, d, MB_BULK_MTP, "mtp/logits", p->first, n));
    return MB_OK;
}

/* Whether both have it; what one alone has is said and not compared. */
static bool both(FILE *out, const char *what, bool a, bool b, bool same)
{
    if (a && b && !same)
        fprintf(out, "%s: of different shapes, not compared\n", what);
    else if (a != b)
        fprintf(out, "%s: only the %s has it, not compared\n", what, a ? "first" : "second");
    return a && b && same;
}

static enum mb_status begin(FILE *out, struct pair *p)
{
    const struct mb_results_info *a = mb_results_info(p->r[0]), *b = mb_results_info(p->r[1]);
    uint64_t most = sizeof(float);

    p->routing = both(out, "routing", a->layers > 0, b->layers > 0, a->layers == b->layers && a->k == b->k);
    p->logits = both(out, "logits", a->vocab > 0, b->vocab > 0,
                     a->vocab == b->vocab && a->logits_last == b->logits_last);
    p->hidden = both(out, "hidden", a->hidden > 0, b->hidden > 0,
                     a->hidden == b->hidden && a->hidden_layers == b->hidden_layers);
    p->mtp = both(out, "mtp/logits", a->mtp_vocab > 0, b->mtp_vocab > 0, a->mtp_vocab == b->mtp_vocab);
    static const enum mb_bulk_kind kinds[] = {MB_BULK_LOGITS, MB_BULK_HIDDEN, MB_BULK_MTP};
    const bool compared[] = {p->logits, p->hidden, p->mtp};
    for (int i = 0; i < 3; i++) {
        uint64_t n = compared[i] ? mb_results_bulk_bytes(p->r[0], kinds[i]) : 0;
        most = n > most ? n : most;
    }
    for (int k = 0; k < 2; k++) {
        p->row[k] = mb_alloc(NULL, MB_MEM_STAGING, (size_t)most, 1);
        if (p->row[k] == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for a row of %" PRIu64 " bytes", most);
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- rows */
static void say(FILE *out, uint64_t i, const struct mb_record *rec, const struct difference *d)
{
    fprintf(out, "first difference: row %" PRIu64 ", id ", i);
    mb_put_safe(out, rec->id.data, rec->id.len, false);
    fprintf(out, ", choice %d: %s", rec->choice, d->field);
    if (d->at >= 0)
        fprintf(out, " [%" PRId64 "]", d->at);
    for (int k = 0; k < 2; k++) {
        fputs(k == 0 ? ": " : ", in the other file ", out);
        mb_put_safe(out, d->value[k], strlen(d->value[k]), false);
    }
    fputc('\n', out);
}

/* Row i of both; *differ: of the first one that differs it is said how. */
static enum mb_status one_row(FILE *out, struct pair *p, uint64_t i, bool first, bool *differ, bool *other_id)
{
    struct difference d = {.found = false};
    struct mb_record a, b;

    MB_TRY(mb_results_row(p->r[0], i, &a));
    enum mb_status st = mb_results_row(p->r[1], i, &b);
    if (st != MB_OK) {
        mb_record_fini(&a);
        return st;
    }
    records(&d, &a, &b);
    *other_id = d.found && (strcmp(d.field, "id") == 0 || strcmp(d.field, "choice") == 0);
    if (!d.found && a.status != MB_ROW_ERROR && a.status != MB_ROW_PENDING)
        st = saved(p, &d, i, (uint64_t)a.n_rows);
    if (st == MB_OK && d.found && first)
        say(out, i, &a, &d);
    *differ = d.found;
    mb_record_fini(&a);
    mb_record_fini(&b);
    return st;
}

/* Rows in another order: whether they are the same ones all the same. */
static enum mb_status same_rows(struct pair *p, bool *same)
{
    struct mb_digest d[2];
    for (int k = 0; k < 2; k++)
        MB_TRY(mb_digest_file(p->r[k], false, NULL, &d[k]));
    *same = d[0].rows == d[1].rows && d[0].degraded == d[1].degraded && d[0].tokens.hi == d[1].tokens.hi &&
            d[0].tokens.lo == d[1].tokens.lo && d[0].file.hi == d[1].file.hi && d[0].file.lo == d[1].file.lo;
    return MB_OK;
}

static enum mb_status compare(FILE *out, struct pair *p, bool *equal)
{
    uint64_t rows = mb_results_info(p->r[0])->rows, other = mb_results_info(p->r[1])->rows, wrong = 0;
    bool differ = false, other_id = false, same = false;

    MB_TRY(begin(out, p));
    for (uint64_t i = 0; i < rows && i < other; i++) {
        MB_TRY(one_row(NULL, p, i, false, &differ, &other_id));
        if (differ && other_id && wrong == 0 && rows == other) {
            MB_TRY(same_rows(p, &same));
            if (same)
                break;
        }
        if (differ && wrong++ == 0)
            MB_TRY(one_row(out, p, i, true, &differ, &other_id));
    }
    *equal = same || (wrong == 0 && rows == other);
    if (rows != other)
        fprintf(out, "rows: %" PRIu64 ", in the other file %" PRIu64 "\n", rows, other);
    if (wrong > 0)
        fprintf(out, "%" PRIu64 " of %" PRIu64 " rows differ\n", wrong, rows < other ? rows : other);
    if (*equal)
        fprintf(out, "equal: %" PRIu64 " rows%s\n", rows, same ? ", in another order" : "");
    return MB_OK;
}

enum mb_status mb_results_compare(FILE *out, const char *a, const char *b, bool *equal)
{
    const char *path[2] = {a, b};
    struct pair p = {.routing = false};
    bool same = false;
    enum mb_status st = MB_OK;

    for (int k = 0; k < 2 && st == MB_OK; k++)
        st = mb_results_open(path[k], &p.r[k]);
    if (st == MB_OK)
        st = compare(out, &p, &same);
    if (fflush(out) != 0 && st == MB_OK)
        st = mb_error(MB_IO, "writing the output failed");
    if (st == MB_OK)
        *equal = same;
    for (int k = 0; k < 2; k++) {
        mb_free(p.row[k]);
        mb_results_close(p.r[k]);
    }
    return st;
}
