#include "app/verify_feed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "base/log.h"

/* A row under way: what the file says of it. */
struct kept {
    struct kept *next;
    struct mb_record rec;
    uint64_t row, first; /* first: its first bulk row */
    bool differs;
};

struct feed_source {
    struct mb_source base; /* first: the engine's pointer is the feed's */
    struct mb_verify_feed *f;
};
struct feed_sink {
    struct mb_sink base;
    struct mb_verify_feed *f;
};

struct mb_verify_feed {
    struct feed_source source;
    struct feed_sink sink;
    struct mb_verify_options o;
    struct mb_results *file;
    const struct mb_results_info *info;
    uint64_t next; /* row to look at */
    int64_t drawn; /* rows of the sample so far, of all leaders */
    struct kept *under_way;
    struct kept **row; /* [n_rows] by handle; NULL: free */
    int32_t n_rows;
    void *bulk; /* stored rows of routing */
    size_t bulk_bytes;
    struct mb_verify_count count;
};

const char *mb_verify_field_name(enum mb_verify_field f)
{
    static const char *const names[MB_VERIFY_FIELDS] = {"/tokens/prompt_logprobs",
                                                        "/tokens/output_logprobs",
                                                        "/requests/logprob_sum",
                                                        "/requests/is_greedy",
                                                        "/routing/experts",
                                                        "/routing/weights",
                                                        "the row"};
    return (unsigned)f < MB_VERIFY_FIELDS ? names[f] : "?";
}

bool mb_verify_drawn(uint64_t seed, uint64_t i, double fraction)
{
    const uint64_t v[2] = {seed, i};

    return fraction >= 1 || (double)mb_hash64(v, sizeof v) < fraction * 0x1p64;
}

/* ---------------------------------------------------------------- differences */
static void note(struct mb_verify_feed *f, struct kept *k, struct mb_verify_diff d)
{
    struct mb_verify_diff *first = &f->count.first;
    bool any = f->count.differ > 0;

    d.row = k->row;
    snprintf(d.id, sizeof d.id, "%.*s", (int)(k->rec.id.len < 60 ? k->rec.id.len : 60),
             k->rec.id.data != NULL ? k->rec.id.data : "");
    bool before =
        d.row < first->row ||
        (d.row == first->row && (d.field < first->field || (d.field == first->field && d.at < first->at)));
    if (!any || before)
        *first = d;
    f->count.differ += !k->differs;
    k->differs = true;
}

static uint32_t bits_of(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return isnan(v) ? 0x7fc00000u : u; /* one NaN, as in the digest */
}

/* Log-probabilities; a stored NaN at a place that was not asked for has nothing to say. */
static void compare_floats(struct mb_verify_feed *f, struct kept *k, enum mb_verify_field field,
                           const float *stored, const float *computed, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t a = bits_of(stored[i]), b = bits_of(computed[i]);
        f->count.tokens++;
        if (a == b)
            continue;
        note(f, k,
             (struct mb_verify_diff){.field = (int32_t)field,
                                     .at = i,
                                     .layer = -1,
                                     .choice = -1,
                                     .stored = stored[i],
                                     .computed = computed[i],
                                     .stored_bits = a,
                                     .computed_bits = b});
        return;
    }
}

static void compare_sum(struct mb_verify_feed *f, struct kept *k, double computed)
{
    uint64_t a, b;

    memcpy(&a, &k->rec.logprob_sum, sizeof a);
    memcpy(&b, &computed, sizeof b);
    if (a != b)
        note(f, k,
             (struct mb_verify_diff){.field = MB_VERIFY_SUM,
                                     .layer = -1,
                                     .choice = -1,
                                     .stored = k->rec.logprob_sum,
                                     .computed = computed,
                                     .stored_bits = a,
                                     .computed_bits = b});
}

static bool has_prompt(const struct mb_record *r)
{
    for (int64_t i = 1; i < r->n_prompt && r->prompt_logprobs != NULL; i++) {
        if (!isnan(r->prompt_logprobs[i]))
            return true;
    }
    return false;
}

/* First scored token of a row: for scoring the first that has a log-probability. */
static int64_t score_from(const struct mb_record *r)
{
    if (r->kind == MB_KIND_GENERATE)
        return has_prompt(r) ? 1 : r->n_prompt > 0 ? r->n_prompt : 1;
    for (int64_t i = 1; i < r->n_prompt && r->kind == MB_KIND_LOGLIKELIHOOD && r->prompt_logprobs != NULL;
         i++) {
        if (!isnan(r->prompt_logprobs[i]))
            return i;
    }
    return 1;
}

/* What was computed for prompt and output together (lp), against the stored row. */
static void compare_row(struct mb_verify_feed *f, struct kept *k, const struct mb_record *got)
{
    const struct mb_record *want = &k->rec;
    const float *lp = got->prompt_logprobs;
    double sum = 0;

    if (want->kind != MB_KIND_GENERATE || has_prompt(want))
        compare_floats(f, k, MB_VERIFY_PROMPT, want->prompt_logprobs, lp, want->n_prompt);
    if (want->kind != MB_KIND_GENERATE) {
        compare_sum(f, k, got->logprob_sum);
        if (want->is_greedy != got->is_greedy)
            note(f, k,
                 (struct mb_verify_diff){.field = MB_VERIFY_GREEDY,
                                         .layer = -1,
                                         .choice = -1,
                                         .stored = want->is_greedy,
                                         .computed = got->is_greedy,
                                         .stored_bits = want->is_greedy,
                                         .computed_bits = got->is_greedy});
        return;
    }
    compare_floats(f, k, MB_VERIFY_OUTPUT, want->output_logprobs, lp + want->n_prompt, want->n_output);
    for (int64_t i = 0; i < want->n_output; i++)
        sum += (double)lp[want->n_prompt + i];
    compare_sum(f, k, sum);
}

/* ---------------------------------------------------------------- source */
/* Whether a row has anything to compare. */
static bool usable(const struct mb_verify_feed *f, const struct mb_record *r)
{
    bool scored = r->kind == MB_KIND_GENERATE ? r->output_logprobs != NULL || r->n_output == 0
                                              : r->prompt_logprobs != NULL;
    bool known = true;

    for (int64_t i = 0; i < r->n_prompt; i++)
        known = known && r->prompt_ids[i] >= 0 && r->prompt_ids[i] < f->o.vocab;
    for (int64_t i = 0; i < r->n_output; i++)
        known = known && r->output_ids[i] >= 0 && r->output_ids[i] < f->o.vocab;
    return r->status == MB_ROW_OK && r->n_prompt >= 1 && r->n_prompt + r->n_output >= 2 && scored && known;
}

static enum mb_status copy_text(const struct mb_text *t, struct mb_text *out)
{
    out->data = malloc(t->len + 1);
    if (out->data == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a request");
    memcpy(out->data, t->len > 0 ? t->data : "", t->len);
    out->data[t->len] = '\0';
    out->len = t->len;
    return MB_OK;
}

static enum mb_status fill(const struct mb_verify_feed *f, const struct kept *k, struct mb_request *r)
{
    const struct mb_record *w = &k->rec;
    int64_t n = w->n_prompt + w->n_output;

    mb_sampling_init(&r->sampling);
    r->sampling.max_tokens = 0;
    MB_TRY(copy_text(&w->id, &r->id));
    r->line = k->row;
    r->n = 1;
    r->kind = w->kind == MB_KIND_ROLLING ? MB_KIND_ROLLING : MB_KIND_LOGLIKELIHOOD;
    r->n_prompt = n;
    r->score_from = score_from(w);
    r->window = n > f->o.window ? f->o.window : 0;
    r->prompt = mb_alloc(f->o.mem, MB_MEM_REQUESTS, (size_t)n, sizeof *r->prompt);
    if (r->prompt == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a prompt");
    memcpy(r->prompt, w->prompt_ids, (size_t)w->n_prompt * sizeof *r->prompt);
    if (w->n_output > 0)
        memcpy(r->prompt + w->n_prompt, w->output_ids, (size_t)w->n_output * sizeof *r->prompt);
    return MB_OK;
}

static void kept_free(struct kept *k)
{
    mb_record_fini(&k->rec);
    free(k);
}

/* The request of a row of the file; *out NULL: there is nothing to compare. */
static enum mb_status take_row(struct mb_verify_feed *f, uint64_t i, struct mb_request **out)
{
    struct kept *k = calloc(1, sizeof *k);
    struct mb_request *r = NULL;

    *out = NULL;
    if (k == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a row");
    enum mb_status st = mb_results_row(f->file, i, &k->rec);
    if (st != MB_OK) {
        free(k);
        return st;
    }
    k->row = i;
    f->count.sampled++;
    if (!usable(f, &k->rec)) {
        f->count.left_out++;
        kept_free(k);
        return MB_OK;
    }
    if (f->info->layers > 0)
        st = mb_results_first(f->file, i, &k->first);
    r = st == MB_OK ? calloc(1, sizeof *r) : NULL;
    if (st == MB_OK)
        st = r == NULL ? mb_error(MB_NO_MEMORY, "no memory for a request") : fill(f, k, r);
    if (st != MB_OK) {
        mb_request_destroy(r);
        kept_free(k);
        return st;
    }
    k->next = f->under_way;
    f->under_way = k;
    *out = r;
    return MB_OK;
}

static enum mb_status next(struct mb_source *s, int32_t room, struct mb_request **out, int32_t *n,
                           enum mb_source_state *state)
{
    struct mb_verify_feed *f = ((struct feed_source *)s)->f;
    int32_t got = 0;

    for (; got < room && f->next < f->info->rows && f->o.leader >= 0; f->next++) {
        if (!mb_verify_drawn(f->o.seed, f->next, f->o.fraction) || f->drawn++ % f->o.leaders != f->o.leader)
            continue;
        struct mb_request *r = NULL;
        enum mb_status st = take_row(f, f->next, &r);
        if (st != MB_OK) {
            while (got > 0)
                mb_request_destroy(out[--got]);
            return st;
        }
        if (r != NULL)
            out[got++] = r;
    }
    *n = got;
    *state = f->next >= f->info->rows || f->o.leader < 0 ? MB_SOURCE_END : MB_SOURCE_SOME;
    return MB_OK;
}
static const struct mb_source_ops source_ops = {next};

/* ---------------------------------------------------------------- sink */
static struct kept *find(struct mb_verify_feed *f, uint64_t row)
{
    struct kept *k = f->under_way;

    while (k != NULL && k->row != row)
        k = k->next;
    return k;
}

static enum mb_status begin(struct mb_sink *s, const struct mb_request *req, int32_t choice, int64_t max_rows,
                            int32_t *handle)
{
    struct mb_verify_feed *f = ((struct feed_sink *)s)->f;
    int32_t i = 0;

    (void)choice;
    (void)max_rows;
    while (i < f->n_rows && f->row[i] != NULL)
        i++;
    if (i == f->n_rows) {
        int32_t n = 2 * f->n_rows + 64;
        struct kept **p = mb_grow(f->o.mem, MB_MEM_REQUESTS, f->row, (size_t)n, sizeof *p);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for %d rows under way", n);
        memset(p + f->n_rows, 0, (size_t)(n - f->n_rows) * sizeof *p);
        f->row = p;
        f->n_rows = n;
    }
    f->row[i] = find(f, req->line);
    if (f->row[i] == NULL)
        return mb_error(MB_BUG, "row %llu is not under way", (unsigned long long)req->line);
    *handle = i;
    return MB_OK;
}

static enum mb_status token(struct mb_sink *s, int32_t handle, int64_t index, int32_t id, bool journal,
                            bool *stop)
{
    (void)s, (void)handle, (void)index, (void)id, (void)journal;
    *stop = false;
    return MB_OK;
}

/* The first place of n bulk rows of routing that differs, from row `row` of k on. */
static void compare_bulk(struct mb_verify_feed *f, struct kept *k, enum mb_bulk_kind kind, int64_t row,
                         int64_t n, const void *computed)
{
    int64_t per = (int64_t)(f->info->layers * f->info->k);

    for (int64_t i = 0; i < n * per; i++) {
        struct mb_verify_diff d = {.field = kind == MB_BULK_EXPERTS ? MB_VERIFY_EXPERTS : MB_VERIFY_WEIGHTS,
                                   .at = row + i / per,
                                   .layer = (int32_t)(i % per / (int64_t)f->info->k),
                                   .choice = (int32_t)(i % (int64_t)f->info->k)};
        if (kind == MB_BULK_EXPERTS) {
            d.stored = (double)(d.stored_bits = ((const uint16_t *)f->bulk)[i]);
            d.computed = (double)(d.computed_bits = ((const uint16_t *)computed)[i]);
        } else {
            d.stored = (double)((const float *)f->bulk)[i];
            d.computed = (double)((const float *)computed)[i];
            d.stored_bits = bits_of(((const float *)f->bulk)[i]);
            d.computed_bits = bits_of(((const float *)computed)[i]);
        }
        if (d.stored_bits != d.computed_bits) {
            note(f, k, d);
            return;
        }
    }
}

static enum mb_status bulk(struct mb_sink *s, int32_t handle, enum mb_bulk_kind kind, int64_t row, int64_t n,
                           const void *data)
{
    struct mb_verify_feed *f = ((struct feed_sink *)s)->f;
    struct kept *k = f->row[handle];
    uint64_t each = mb_results_bulk_bytes(f->file, kind);

    if ((kind != MB_BULK_EXPERTS && kind != MB_BULK_WEIGHTS) || each == 0)
        return MB_OK;
    if (row + n > k->rec.n_rows) /* the last token of a generated row was fed now and not then */
        n = k->rec.n_rows - row;
    if (n <= 0)
        return MB_OK;
    if ((size_t)n * each > f->bulk_bytes) {
        mb_free(f->bulk);
        f->bulk_bytes = 0;
        f->bulk = mb_alloc(f->o.mem, MB_MEM_REQUESTS, (size_t)n, each);
        if (f->bulk == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for %lld rows of routing", (long long)n);
        f->bulk_bytes = (size_t)n * each;
    }
    MB_TRY(mb_results_bulk(f->file, kind, k->first + (uint64_t)row, (uint64_t)n, f->bulk));
    f->count.routed += kind == MB_BULK_EXPERTS ? n : 0;
    compare_bulk(f, k, kind, row, n, data);
    return MB_OK;
}

static enum mb_status done(struct mb_sink *s, int32_t handle, struct mb_record *rec)
{
    struct mb_verify_feed *f = ((struct feed_sink *)s)->f;
    struct kept *k = handle >= 0 ? f->row[handle] : find(f, rec->line), **at = &f->under_way;

    if (k == NULL)
        return mb_error(MB_BUG, "row %llu is not under way", (unsigned long long)rec->line);
    f->count.verified++;
    if (rec->status == MB_ROW_OK && rec->prompt_logprobs != NULL &&
        rec->n_prompt == k->rec.n_prompt + k->rec.n_output) {
        compare_row(f, k, rec);
    } else {
        struct mb_verify_diff d = {.field = MB_VERIFY_ERROR, .layer = -1, .choice = -1};
        snprintf(d.why, sizeof d.why, "%.*s", (int)(rec->error.len < 190 ? rec->error.len : 190),
                 rec->error.data != NULL ? rec->error.data : "");
        note(f, k, d);
    }
    if (handle >= 0)
        f->row[handle] = NULL;
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    kept_free(k);
    mb_record_fini(rec);
    return MB_OK;
}

static enum mb_status step_end(struct mb_sink *s)
{
    (void)s;
    return MB_OK;
}
static const struct mb_sink_ops sink_ops = {begin, token, bulk, done, step_end};

/* ---------------------------------------------------------------- the feed */
enum mb_status mb_verify_feed_create(const struct mb_verify_options *o, struct mb_verify_feed **out)
{
    struct mb_verify_feed *f = mb_zalloc(o->mem, MB_MEM_REQUESTS, 1, sizeof *f);

    if (f == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to verify rows");
    f->o = *o;
    f->source = (struct feed_source){{&source_ops}, f};
    f->sink = (struct feed_sink){{&sink_ops}, f};
    enum mb_status st = mb_results_open(o->results, &f->file);
    if (st != MB_OK) {
        mb_verify_feed_destroy(f);
        return st;
    }
    f->info = mb_results_info(f->file);
    *out = f;
    return MB_OK;
}

void mb_verify_feed_destroy(struct mb_verify_feed *f)
{
    if (f == NULL)
        return;
    while (f->under_way != NULL) {
        struct kept *k = f->under_way;
        f->under_way = k->next;
        kept_free(k);
    }
    mb_results_close(f->file);
    mb_free(f->row);
    mb_free(f->bulk);
    mb_free(f);
}

struct mb_source *mb_verify_feed_source(struct mb_verify_feed *f)
{
    return &f->source.base;
}

struct mb_sink *mb_verify_feed_sink(struct mb_verify_feed *f)
{
    return &f->sink.base;
}

const struct mb_verify_count *mb_verify_feed_count(const struct mb_verify_feed *f)
{
    return &f->count;
}
