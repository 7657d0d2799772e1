#include "io/results.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "io/column.h"
#include "io/schema.h"

struct mb_results {
    char *path;
    struct mb_h5 *h;
    struct mb_column c[MB_SETS];
    struct mb_results_info info;
};

/* ---------------------------------------------------------------- opening */
static enum mb_status wrong_shape(const struct mb_results *r, enum mb_set c)
{
    return mb_error(MB_INPUT, "%s: %s does not have the shape that the other datasets promise", r->path,
                    mb_dataset(c)->path);
}

static enum mb_status check_schema(struct mb_results *r)
{
    char *schema = NULL;
    int64_t complete = 0, lines = 0;
    MB_TRY(mb_h5_get_text(r->h, "/", "schema", &schema));
    bool same = strcmp(schema, MB_RESULTS_SCHEMA) == 0;
    if (!same)
        mb_error(MB_INPUT, "%s: schema '%s', this program reads '%s'", r->path, schema, MB_RESULTS_SCHEMA);
    free(schema);
    if (!same)
        return MB_INPUT;
    MB_TRY(mb_h5_get_i64(r->h, "/", "complete", &complete));
    MB_TRY(mb_h5_get_i64(r->h, "/", "input_lines", &lines));
    r->info.complete = complete == 1;
    r->info.input_lines = lines < 0 ? 0 : (uint64_t)lines;
    return MB_OK;
}

static uint64_t dim(const struct mb_results *r, enum mb_set c, int i)
{
    return r->c[c].set == NULL ? 0 : r->c[c].set->dims[i];
}

/* Elements that a dataset must have along the axis that rows fill. */
static uint64_t extent(const struct mb_results_info *f, enum mb_set set)
{
    switch (mb_dataset(set)->per) {
    case MB_PER_JOB:
        break;
    case MB_PER_REQUEST:
        return f->rows;
    case MB_PER_OFFSET:
        return f->rows + 1;
    case MB_PER_PROMPT:
        return f->n_prompt;
    case MB_PER_OUTPUT:
        return f->n_output;
    case MB_PER_ROW:
        return set == MB_SET_LOGITS && f->logits_last ? f->rows : f->n_rows;
    }
    return 0;
}

/* *out: the last offset, which is the length of what it points into. */
static enum mb_status last_offset(struct mb_results *r, enum mb_set at, uint64_t *out)
{
    const void *p = NULL;
    int64_t last = 0;
    if (dim(r, at, 0) != r->info.rows + 1)
        return wrong_shape(r, at);
    MB_TRY(mb_column_get(&r->c[at], 0, r->info.rows, 1, &p));
    memcpy(&last, p, sizeof last);
    *out = last < 0 ? 0 : (uint64_t)last;
    return last < 0 ? wrong_shape(r, at) : MB_OK;
}

static enum mb_status check_extents(struct mb_results *r)
{
    struct mb_results_info *f = &r->info;
    uint64_t prompt = 0, output = 0;
    f->rows = dim(r, MB_SET_CHOICE, 0);
    f->n_prompt = dim(r, MB_SET_PROMPT_IDS, 0);
    f->n_output = dim(r, MB_SET_OUTPUT_IDS, 0);
    MB_TRY(last_offset(r, MB_SET_ROW_OFFSETS, &f->n_rows));
    MB_TRY(last_offset(r, MB_SET_PROMPT_OFFSETS, &prompt));
    MB_TRY(last_offset(r, MB_SET_OUTPUT_OFFSETS, &output));
    if (prompt != f->n_prompt || output != f->n_output)
        return wrong_shape(r, prompt != f->n_prompt ? MB_SET_PROMPT_OFFSETS : MB_SET_OUTPUT_OFFSETS);
    if (r->c[MB_SET_LOGITS].set != NULL) {
        int64_t last = 0;
        MB_TRY(mb_h5_get_i64(r->h, "/logits", "last", &last));
        f->logits_last = last != 0;
    }
    for (enum mb_set i = 0; i < MB_SETS; i++) {
        if (r->c[i].set != NULL && dim(r, i, mb_dataset(i)->along) != extent(f, i))
            return wrong_shape(r, i);
    }
    return MB_OK;
}

/* Two datasets that are there together, as wide as each other. */
static enum mb_status check_pair(const struct mb_results *r, enum mb_set a, enum mb_set b)
{
    bool same = (r->c[a].set == NULL) == (r->c[b].set == NULL);
    for (int i = 0; same && r->c[a].set != NULL && i < mb_dataset(a)->rank; i++)
        same = dim(r, a, i) == dim(r, b, i);
    return same ? MB_OK : wrong_shape(r, a);
}

static enum mb_status check_widths(struct mb_results *r)
{
    struct mb_results_info *f = &r->info;
    MB_TRY(check_pair(r, MB_SET_TOP_IDS, MB_SET_TOP_LOGPROBS));
    MB_TRY(check_pair(r, MB_SET_PROMPT_TOP_IDS, MB_SET_PROMPT_TOP_LOGPROBS));
    MB_TRY(check_pair(r, MB_SET_EXPERTS, MB_SET_WEIGHTS));
    if (r->c[MB_SET_PHYSICAL].set != NULL)
        MB_TRY(check_pair(r, MB_SET_EXPERTS, MB_SET_PHYSICAL));
    f->top = dim(r, MB_SET_TOP_IDS, 1);
    f->prompt_top = dim(r, MB_SET_PROMPT_TOP_IDS, 1);
    f->layers = dim(r, MB_SET_EXPERTS, 0);
    f->k = dim(r, MB_SET_EXPERTS, 2);
    f->physical = r->c[MB_SET_PHYSICAL].set != NULL;
    f->replies = r->c[MB_SET_REPLY].set != NULL;
    f->vocab = dim(r, MB_SET_LOGITS, 1);
    f->mtp_vocab = dim(r, MB_SET_MTP, 1);
    f->hidden_layers = dim(r, MB_SET_HIDDEN, 1);
    f->hidden = dim(r, MB_SET_HIDDEN, 2);
    return MB_OK;
}

enum mb_status mb_results_open(const char *path, struct mb_results **out)
{
    struct mb_results *r = calloc(1, sizeof *r);
    if (r == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to open %s", path);
    r->path = strdup(path);
    enum mb_status st = r->path == NULL ? mb_error(MB_NO_MEMORY, "no memory to open %s", path) : MB_OK;
    if (st == MB_OK)
        st = mb_h5_open(path, false, &r->h);
    if (st == MB_OK)
        st = check_schema(r);
    for (enum mb_set i = 0; i < MB_SETS && st == MB_OK; i++) {
        const struct mb_dataset *d = mb_dataset(i);
        st = mb_column_open(r->h, d->path, d->type, d->rank, d->along, d->optional, &r->c[i]);
    }
    if (st == MB_OK)
        st = check_extents(r);
    if (st == MB_OK)
        st = check_widths(r);
    if (st != MB_OK)
        mb_results_close(r);
    else
        *out = r;
    return st;
}

void mb_results_close(struct mb_results *r)
{
    if (r == NULL)
        return;
    for (int i = 0; i < MB_SETS; i++)
        mb_column_close(&r->c[i]);
    (void)mb_h5_close(r->h);
    free(r->path);
    free(r);
}

const struct mb_results_info *mb_results_info(const struct mb_results *r)
{
    return &r->info;
}

/* ---------------------------------------------------------------- rows */
/* Range [offsets[i], offsets[i + 1]) of a ragged column, checked against its length. */
static enum mb_status range(struct mb_results *r, enum mb_set at, uint64_t i, uint64_t total, uint64_t *from,
                            uint64_t *n)
{
    const void *p = NULL;
    int64_t o[2] = {0, 0};
    MB_TRY(mb_column_get(&r->c[at], 0, i, 2, &p));
    memcpy(o, p, sizeof o);
    if (o[0] < 0 || o[1] < o[0] || (uint64_t)o[1] > total)
        return mb_error(MB_INPUT, "%s: %s: offsets %lld, %lld of row %llu are wrong", r->path,
                        mb_dataset(at)->path, (long long)o[0], (long long)o[1], (unsigned long long)i);
    *from = (uint64_t)o[0];
    *n = (uint64_t)(o[1] - o[0]);
    return MB_OK;
}

static enum mb_status scalar(struct mb_results *r, enum mb_set c, uint64_t i, void *dst)
{
    const void *p = NULL;
    MB_TRY(mb_column_get(&r->c[c], 0, i, 1, &p));
    memcpy(dst, p, (size_t)mb_column_stride(&r->c[c]));
    return MB_OK;
}

/* malloc'd copy of elements [from, from + n); NULL for none. */
static enum mb_status copy(struct mb_results *r, enum mb_set c, uint64_t from, uint64_t n, void **out)
{
    const void *p = NULL;
    size_t bytes = (size_t)(n * mb_column_stride(&r->c[c]));
    MB_TRY(mb_column_get(&r->c[c], 0, from, n, &p));
    if (bytes == 0)
        return MB_OK;
    *out = malloc(bytes);
    if (*out == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a row", r->path);
    memcpy(*out, p, bytes);
    return MB_OK;
}

static enum mb_status text(struct mb_results *r, enum mb_set c, uint64_t i, struct mb_text *out)
{
    char *s = NULL;
    MB_TRY(scalar(r, c, i, &s));
    if (s == NULL || *s == 0)
        return MB_OK;
    out->data = strdup(s);
    if (out->data == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a row", r->path);
    out->len = strlen(s);
    return MB_OK;
}

/* The row's own number of candidates: its tokens have ids there, behind them the fill. */
static int32_t own_top(const int32_t *ids, uint64_t width)
{
    uint64_t n = 0;
    while (n < width && n < MB_MAX_TOP && ids[n] >= 0)
        n++;
    return (int32_t)n;
}

/* The candidates of n tokens from `from` on; how many a token has says the one at `by`, which is one of them.
 */
static enum mb_status tops(struct mb_results *r, enum mb_set id, enum mb_set lp, uint64_t width,
                           uint64_t from, uint64_t n, uint64_t by, struct mb_tops *out)
{
    const void *ids = NULL, *lps = NULL;
    if (width == 0 || n <= by)
        return MB_OK;
    MB_TRY(mb_column_get(&r->c[id], 0, from, n, &ids));
    MB_TRY(mb_column_get(&r->c[lp], 0, from, n, &lps));
    size_t own = (size_t)own_top((const int32_t *)ids + by * width, width);
    if (own == 0)
        return MB_OK;
    out->ids = malloc((size_t)n * own * sizeof *out->ids);
    out->logprobs = malloc((size_t)n * own * sizeof *out->logprobs);
    if (out->ids == NULL || out->logprobs == NULL)
        return mb_error(MB_NO_MEMORY, "%s: no memory for a row", r->path);
    for (uint64_t t = 0; t < n; t++) {
        memcpy(out->ids + t * own, (const int32_t *)ids + t * width, own * sizeof *out->ids);
        memcpy(out->logprobs + t * own, (const float *)lps + t * width, own * sizeof *out->logprobs);
    }
    out->n = (int32_t)own;
    return MB_OK;
}

static enum mb_status output_tops(struct mb_results *r, uint64_t from, uint64_t n, struct mb_record *out)
{
    struct mb_tops t = {0};
    enum mb_status st = tops(r, MB_SET_TOP_IDS, MB_SET_TOP_LOGPROBS, r->info.top, from, n, 0, &t);
    out->top_n = t.n;
    out->top_ids = t.ids;
    out->top_logprobs = t.logprobs;
    return st;
}

static enum mb_status reply(struct mb_results *r, uint64_t i, struct mb_record *out)
{
    uint8_t v = 0;
    if (!r->info.replies)
        return MB_OK;
    MB_TRY(scalar(r, MB_SET_REPLY, i, &v));
    out->openai = v & MB_REPLY_OPENAI;
    out->chat = v & MB_REPLY_CHAT;
    out->want_logprobs = v & MB_REPLY_LOGPROBS;
    out->echo = v & MB_REPLY_ECHO;
    out->prompt_asked = v & MB_REPLY_PROMPT;
    return MB_OK;
}

static enum mb_status small(struct mb_results *r, uint64_t i, struct mb_record *out)
{
    uint32_t choice = 0;
    MB_TRY(scalar(r, MB_SET_LINE, i, &out->line));
    MB_TRY(scalar(r, MB_SET_CHOICE, i, &choice));
    MB_TRY(scalar(r, MB_SET_KIND, i, &out->kind));
    MB_TRY(scalar(r, MB_SET_STATUS, i, &out->status));
    MB_TRY(scalar(r, MB_SET_FINISH, i, &out->finish));
    MB_TRY(scalar(r, MB_SET_LOGPROB_SUM, i, &out->logprob_sum));
    MB_TRY(scalar(r, MB_SET_GREEDY, i, &out->is_greedy));
    MB_TRY(scalar(r, MB_SET_QUEUE, i, &out->timing.queue));
    MB_TRY(scalar(r, MB_SET_TTFT, i, &out->timing.ttft));
    MB_TRY(scalar(r, MB_SET_TPOT, i, &out->timing.tpot));
    MB_TRY(scalar(r, MB_SET_END_TO_END, i, &out->timing.total));
    if (choice >= MB_MAX_CHOICES || out->kind > MB_KIND_ROLLING || out->status > MB_ROW_PENDING ||
        out->finish > MB_FINISH_ERROR || out->is_greedy > 1)
        return mb_error(MB_INPUT,
                        "%s: row %llu has a choice, kind, status or finish reason that does not exist",
                        r->path, (unsigned long long)i);
    out->choice = (int32_t)choice;
    return MB_OK;
}

static enum mb_status arrays(struct mb_results *r, uint64_t i, struct mb_record *out)
{
    uint64_t from = 0, n = 0;
    MB_TRY(range(r, MB_SET_PROMPT_OFFSETS, i, r->info.n_prompt, &from, &n));
    out->n_prompt = (int64_t)n;
    MB_TRY(copy(r, MB_SET_PROMPT_IDS, from, n, (void **)&out->prompt_ids));
    MB_TRY(copy(r, MB_SET_PROMPT_LOGPROBS, from, n, (void **)&out->prompt_logprobs));
    /* the first token of a prompt has none */
    MB_TRY(tops(r, MB_SET_PROMPT_TOP_IDS, MB_SET_PROMPT_TOP_LOGPROBS, r->info.prompt_top, from, n, 1,
                &out->prompt_top));
    MB_TRY(range(r, MB_SET_OUTPUT_OFFSETS, i, r->info.n_output, &from, &n));
    out->n_output = (int64_t)n;
    MB_TRY(copy(r, MB_SET_OUTPUT_IDS, from, n, (void **)&out->output_ids));
    MB_TRY(copy(r, MB_SET_OUTPUT_LOGPROBS, from, n, (void **)&out->output_logprobs));
    MB_TRY(output_tops(r, from, n, out));
    MB_TRY(range(r, MB_SET_ROW_OFFSETS, i, r->info.n_rows, &from, &n));
    out->n_rows = (int64_t)n;
    return MB_OK;
}

enum mb_status mb_results_numbers(struct mb_results *r, uint64_t i, struct mb_record *out)
{
    struct mb_record rec = {0};
    uint64_t from = 0, n = 0;
    const void *ids = NULL;
    MB_TRY(small(r, i, &rec));
    MB_TRY(range(r, MB_SET_PROMPT_OFFSETS, i, r->info.n_prompt, &from, &n));
    rec.n_prompt = (int64_t)n;
    if (r->info.prompt_top > 0 && n > 1) {
        MB_TRY(mb_column_get(&r->c[MB_SET_PROMPT_TOP_IDS], 0, from + 1, 1, &ids));
        rec.prompt_top.n = own_top(ids, r->info.prompt_top);
    }
    MB_TRY(range(r, MB_SET_ROW_OFFSETS, i, r->info.n_rows, &from, &n));
    rec.n_rows = (int64_t)n;
    MB_TRY(range(r, MB_SET_OUTPUT_OFFSETS, i, r->info.n_output, &from, &n));
    rec.n_output = (int64_t)n;
    if (r->info.top > 0 && n > 0) {
        MB_TRY(mb_column_get(&r->c[MB_SET_TOP_IDS], 0, from, 1, &ids));
        rec.top_n = own_top(ids, r->info.top);
    }
    *out = rec;
    return MB_OK;
}

static enum mb_status texts(struct mb_results *r, uint64_t i, struct mb_record *out)
{
    MB_TRY(text(r, MB_SET_ID, i, &out->id));
    MB_TRY(text(r, MB_SET_ERROR, i, &out->error));
    return text(r, MB_SET_TEXT, i, &out->text);
}

enum mb_status mb_results_row(struct mb_results *r, uint64_t i, struct mb_record *out)
{
    struct mb_record rec = {0};
    enum mb_status st = small(r, i, &rec);
    if (st == MB_OK)
        st = texts(r, i, &rec);
    if (st == MB_OK)
        st = reply(r, i, &rec);
    if (st == MB_OK)
        st = arrays(r, i, &rec);
    if (st != MB_OK)
        mb_record_fini(&rec);
    else
        *out = rec;
    return st;
}

enum mb_status mb_results_first(struct mb_results *r, uint64_t i, uint64_t *first)
{
    uint64_t n = 0;
    return range(r, MB_SET_ROW_OFFSETS, i, r->info.n_rows, first, &n);
}

/* ---------------------------------------------------------------- bulk data */
uint64_t mb_results_bulk_bytes(const struct mb_results *r, enum mb_bulk_kind kind)
{
    const struct mb_column *c = &r->c[mb_bulk_sets[kind]];
    uint64_t outers = c->set == NULL ? 0 : c->axis == 0 ? 1 : c->set->dims[0];
    return outers == 0 ? 0 : outers * mb_column_stride(c);
}

enum mb_status mb_results_bulk(struct mb_results *r, enum mb_bulk_kind kind, uint64_t from, uint64_t n,
                               void *dst)
{
    struct mb_column *c = &r->c[mb_bulk_sets[kind]];
    const void *p = NULL;
    uint8_t *to = dst;
    if (c->axis == 0) {
        MB_TRY(mb_column_get(c, 0, from, n, &p));
        if (n > 0)
            memcpy(to, p, (size_t)(n * mb_column_stride(c)));
        return MB_OK;
    }
    uint64_t stride = mb_column_stride(c), layers = c->set->dims[0];
    for (uint64_t l = 0; l < layers && n > 0; l++) {
        MB_TRY(mb_column_get(c, l, from, n, &p));
        for (uint64_t i = 0; i < n; i++)
            memcpy(to + (i * layers + l) * stride, (const uint8_t *)p + i * stride, (size_t)stride);
    }
    return MB_OK;
}

enum mb_status mb_results_layer(struct mb_results *r, enum mb_bulk_kind kind, uint64_t layer, uint64_t from,
                                uint64_t n, const void **out)
{
    return mb_column_get(&r->c[mb_bulk_sets[kind]], layer, from, n, out);
}

/* ---------------------------------------------------------------- what merging needs */
enum mb_status mb_results_layers(struct mb_results *r, int32_t **out)
{
    struct mb_h5_set *s = NULL;
    uint64_t zero = 0;
    MB_TRY(mb_h5_find(r->h, "/routing/layers", MB_H5_I32, 1, &s));
    int32_t *v = s->dims[0] == r->info.layers ? calloc((size_t)s->dims[0] + 1, sizeof *v) : NULL;
    enum mb_status st = v == NULL
                            ? mb_error(MB_INPUT, "%s: /routing/layers does not fit /routing/experts", r->path)
                            : mb_h5_read(s, &zero, s->dims, v);
    mb_h5_set_close(s);
    if (st != MB_OK)
        free(v);
    else
        *out = v;
    return st;
}

enum mb_status mb_results_requests(struct mb_results *r, uint64_t *out)
{
    int64_t n = 0;
    MB_TRY(mb_h5_get_i64(r->h, "/", "requests", &n));
    *out = n < 0 ? 0 : (uint64_t)n;
    return MB_OK;
}

enum mb_status mb_results_copy_extras(struct mb_results *r, struct mb_h5 *to, const char *name)
{
    static const char *const groups[] = {"/provenance", "/metrics", "/health", "/physical"};
    char path[128];

    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        if (!mb_h5_has(r->h, groups[i]))
            continue;
        snprintf(path, sizeof path, "%s/%s", groups[i], name);
        MB_TRY(strcmp(groups[i], "/physical") == 0 ? mb_h5_copy_members(r->h, groups[i], "rank", to, path)
                                                   : mb_h5_copy(r->h, groups[i], to, path));
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- provenance */
enum mb_status mb_results_provenance(struct mb_results *r, const char *name, char **out)
{
    char path[128];
    struct mb_h5_set *s = NULL;
    char *v = NULL;
    snprintf(path, sizeof path, "/provenance/%s", name);
    *out = NULL;
    if (!mb_h5_has(r->h, path))
        return MB_OK;
    MB_TRY(mb_h5_find(r->h, path, MB_H5_TEXT, 0, &s));
    enum mb_status st = mb_h5_read(s, NULL, NULL, &v);
    mb_h5_set_close(s);
    if (st == MB_OK && v != NULL && (*out = strdup(v)) == NULL)
        st = mb_error(MB_NO_MEMORY, "%s: no memory for %s", r->path, path);
    mb_h5_free_text(&v, 1);
    return st;
}

enum mb_status mb_results_created(struct mb_results *r, int64_t *out)
{
    return mb_h5_get_i64(r->h, "/", "created", out);
}

enum mb_status mb_results_probe(const char *path, bool *complete, json_t **identity)
{
    struct mb_results *r = NULL;
    char *text_ = NULL;
    json_t *id = NULL;
    MB_TRY(mb_results_open(path, &r));
    enum mb_status st = mb_results_provenance(r, "identity", &text_);
    if (st == MB_OK && text_ != NULL)
        st = mb_json_parse(text_, strlen(text_), path, MB_INPUT, NULL, 0, &id);
    if (st == MB_OK) {
        *complete = r->info.complete;
        *identity = id;
    }
    free(text_);
    mb_results_close(r);
    return st;
}
