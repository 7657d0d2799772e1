#include "io/sink.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/utf8.h"
#include "io/stops.h"

/* A row under way. */
struct row {
    bool used;
    const struct mb_request *req; /* valid until done() */
    int32_t choice;
    struct mb_stops stops; /* used where the request has stop strings */
    bool stopped_by_id;
    int64_t max_rows;
    struct {
        uint64_t offset, bytes; /* the reserved range */
        int64_t filled;         /* rows [0, filled) are written */
    } bulk[MB_BULK_COUNT];
};

struct sink {
    struct mb_sink base;
    struct mb_sink_options o;
    struct row *rows; /* handles are indices */
    int32_t n_rows, first_free; /* no free row below first_free */
    struct mb_sink_counts counts;
};

static struct sink *self(struct mb_sink *s)
{
    return (struct sink *)s; /* base is the first member */
}

/* ---------------------------------------------------------------- rows */
static enum mb_status row_new(struct sink *s, int32_t *handle)
{
    int32_t i = s->first_free;
    while (i < s->n_rows && s->rows[i].used)
        i++;
    if (i == s->n_rows) {
        int32_t n = s->n_rows ? 2 * s->n_rows : 64;
        struct row *p = n <= 0 ? NULL : realloc(s->rows, (size_t)n * sizeof *p);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for %d rows under way", n);
        memset(p + s->n_rows, 0, (size_t)(n - s->n_rows) * sizeof *p);
        s->rows = p;
        s->n_rows = n;
    }
    s->rows[i].used = true;
    s->first_free = i + 1;
    *handle = i;
    return MB_OK;
}

static void row_free(struct sink *s, int32_t handle)
{
    struct row *r = &s->rows[handle];
    mb_stops_fini(&r->stops);
    memset(r, 0, sizeof *r);
    if (handle < s->first_free)
        s->first_free = handle;
}

static enum mb_status row_of(struct sink *s, int32_t handle, struct row **out)
{
    if (handle < 0 || handle >= s->n_rows || !s->rows[handle].used)
        return mb_error(MB_BUG, "the sink has no row %d", handle);
    *out = &s->rows[handle];
    return MB_OK;
}

static int64_t bulk_rows_max(const struct sink *s, int kind, int64_t rows)
{
    if (s->o.row_bytes[kind] == 0)
        return 0;
    return kind == MB_BULK_LOGITS && s->o.logits_last && rows > 1 ? 1 : rows;
}

static enum mb_status reserve(struct sink *s, struct row *r)
{
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        uint64_t rows = (uint64_t)bulk_rows_max(s, i, r->max_rows);
        if (rows == 0)
            continue;
        if (!mb_mul_ok(rows, s->o.row_bytes[i], &r->bulk[i].bytes))
            return mb_error(MB_NO_SPACE, "the %s of one row would not fit into any file", mb_bulk_name((enum mb_bulk_kind)i));
        MB_TRY(mb_bulk_reserve(s->o.journal, (enum mb_bulk_kind)i, r->bulk[i].bytes, &r->bulk[i].offset));
    }
    return MB_OK;
}

static enum mb_status sink_begin(struct mb_sink *base, const struct mb_request *req, int32_t choice, int64_t max_rows,
                                 int32_t *handle)
{
    struct sink *s = self(base);
    int32_t h = -1;
    MB_TRY(row_new(s, &h));
    struct row *r = &s->rows[h];
    r->req = req;
    r->choice = choice;
    r->max_rows = max_rows < 0 ? 0 : max_rows;
    enum mb_status st = MB_OK;
    if (req->kind == MB_KIND_GENERATE && req->n_stop > 0)
        st = s->o.tokenizer != NULL ? mb_stops_begin(&r->stops, s->o.tokenizer, req)
                                    : mb_error(MB_BUG, "stop strings without a tokenizer");
    if (st == MB_OK)
        st = reserve(s, r);
    if (st != MB_OK)
        row_free(s, h);
    else
        *handle = h;
    return st;
}

static bool stops_at(const struct mb_request *r, int32_t id)
{
    for (int32_t i = 0; i < r->n_stop_ids; i++)
        if (r->stop_ids[i] == id)
            return true;
    return false;
}

static enum mb_status sink_token(struct mb_sink *base, int32_t handle, int64_t index, int32_t id, bool journal, bool *stop)
{
    struct sink *s = self(base);
    struct row *r = NULL;
    MB_TRY(row_of(s, handle, &r));
    if (journal) {
        MB_TRY(mb_journal_token(s->o.journal, r->req->line, r->choice, index, id));
        s->counts.tokens++;
    }
    if (index >= r->req->sampling.min_tokens && stops_at(r->req, id))
        r->stopped_by_id = true;
    else if (r->stops.decoder != NULL && !r->stops.found)
        MB_TRY(mb_stops_put(&r->stops, s->o.tokenizer, r->req, index, id));
    *stop = r->stopped_by_id || r->stops.found;
    return MB_OK;
}

static enum mb_status sink_bulk(struct mb_sink *base, int32_t handle, enum mb_bulk_kind kind, int64_t row, int64_t n,
                                const void *data)
{
    struct sink *s = self(base);
    struct row *r = NULL;
    MB_TRY(row_of(s, handle, &r));
    if (n == 0)
        return MB_OK;
    uint64_t size = (unsigned)kind < MB_BULK_COUNT ? s->o.row_bytes[kind] : 0;
    if (size == 0 || row < 0 || n < 0 || row > r->max_rows || n > r->max_rows - row)
        return mb_error(MB_BUG, "bulk rows %lld + %lld of kind %d do not belong to row %d", (long long)row, (long long)n,
                        (int)kind, handle);
    if (kind == MB_BULK_LOGITS && s->o.logits_last) {
        data = (const uint8_t *)data + (uint64_t)(n - 1) * size;
        row = 0;
        n = 1;
    }
    MB_TRY(mb_bulk_write(s->o.journal, kind, r->bulk[kind].offset + (uint64_t)row * size, data, (uint64_t)n * size));
    if (row <= r->bulk[kind].filled && row + n > r->bulk[kind].filled)
        r->bulk[kind].filled = row + n;
    return MB_OK;
}

/* ---------------------------------------------------------------- a row is finished */
/* The text of all ids but a last one that ended the row. The decoder follows the prompt: a generated text may begin in the
 * middle of a sentence, or of a character. */
static enum mb_status whole_text(struct sink *s, const struct row *r, const struct mb_record *rec, struct mb_bytes *out)
{
    struct mb_decoder *d = NULL;
    struct mb_bytes text = {0};
    bool ended = rec->finish == MB_FINISH_EOS || (rec->finish == MB_FINISH_STOP && r->stopped_by_id);
    int64_t n = rec->n_output - (ended && !r->req->include_stop && rec->n_output > 0);
    MB_TRY(mb_decoder_create(s->o.tokenizer, &d));
    mb_decoder_mode(d, r->req->keep_special, false);
    enum mb_status st = mb_decoder_context(d, r->req->prompt, r->req->n_prompt);
    for (int64_t i = 0; i < n && st == MB_OK; i++)
        st = mb_decoder_put(d, rec->output_ids[i], &text);
    if (st == MB_OK)
        st = mb_decoder_finish(d, &text);
    if (st == MB_OK)
        st = mb_utf8_repair((const char *)text.data, text.len, true, out);
    mb_decoder_destroy(d);
    mb_bytes_fini(&text);
    return st;
}

static enum mb_status final_text(struct sink *s, const struct row *r, const struct mb_record *rec, struct mb_bytes *out)
{
    if (r->req->kind != MB_KIND_GENERATE || s->o.tokenizer == NULL)
        return MB_OK;
    if (rec->finish == MB_FINISH_STOP && r->stops.found)
        return mb_stops_text(&r->stops, r->req, out);
    return whole_text(s, r, rec, out);
}

static enum mb_status copy_text(const struct mb_text *from, struct mb_text *to)
{
    if (to->data != NULL || from->len == 0)
        return MB_OK;
    to->data = malloc(from->len);
    if (to->data == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for an id");
    memcpy(to->data, from->data, from->len);
    to->len = from->len;
    return MB_OK;
}

static enum mb_status place_bulk(struct sink *s, struct row *r, struct mb_record *rec)
{
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        int64_t rows = rec->status == MB_ROW_ERROR ? 0 : bulk_rows_max(s, i, rec->n_rows);
        if (rows > r->bulk[i].filled)
            return mb_error(MB_BUG, "line %llu has %lld rows of %s, %lld were written", (unsigned long long)rec->line + 1,
                            (long long)rows, mb_bulk_name((enum mb_bulk_kind)i), (long long)r->bulk[i].filled);
        rec->bulk[i] = (struct mb_extent){rows > 0 ? r->bulk[i].offset : 0, rows};
        if (r->bulk[i].bytes > 0)
            mb_bulk_trim(s->o.journal, (enum mb_bulk_kind)i, r->bulk[i].offset, r->bulk[i].bytes,
                         (uint64_t)rows * s->o.row_bytes[i]);
    }
    return MB_OK;
}

static enum mb_status complete(struct sink *s, struct row *r, struct mb_record *rec)
{
    struct mb_bytes text = {0};
    MB_TRY(copy_text(&r->req->id, &rec->id));
    MB_TRY(place_bulk(s, r, rec));
    if (rec->status == MB_ROW_ERROR)
        return MB_OK;
    enum mb_status st = final_text(s, r, rec, &text);
    if (st != MB_OK) {
        mb_bytes_fini(&text);
        return st;
    }
    free(rec->text.data);
    rec->text = (struct mb_text){(char *)text.data, text.len};
    return MB_OK;
}

static enum mb_status sink_done(struct mb_sink *base, int32_t handle, struct mb_record *rec)
{
    struct sink *s = self(base);
    struct row *r = NULL;
    enum mb_status st = MB_OK;
    if (handle >= 0)
        st = row_of(s, handle, &r);
    if (st == MB_OK && r != NULL)
        st = complete(s, r, rec);
    if (st == MB_OK)
        st = mb_journal_record(s->o.journal, rec);
    if (st == MB_OK) {
        s->counts.rows++;
        s->counts.error_rows += rec->status == MB_ROW_ERROR;
        s->counts.prompt_tokens += rec->n_prompt;
        s->counts.output_tokens += rec->n_output;
    }
    if (r != NULL)
        row_free(s, handle);
    mb_record_fini(rec);
    return st;
}

static enum mb_status sink_step_end(struct mb_sink *base)
{
    return mb_journal_flush(self(base)->o.journal);
}

/* ---------------------------------------------------------------- life */
static const struct mb_sink_ops sink_ops = {
    .begin = sink_begin, .token = sink_token, .bulk = sink_bulk, .done = sink_done, .step_end = sink_step_end,
};

enum mb_status mb_sink_create(const struct mb_sink_options *o, struct mb_sink **out)
{
    struct sink *s = calloc(1, sizeof *s);
    if (s == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a sink");
    s->base.ops = &sink_ops;
    s->o = *o;
    mb_journal_bulk_rows(o->journal, o->row_bytes);
    *out = &s->base;
    return MB_OK;
}

void mb_sink_destroy(struct mb_sink *base)
{
    if (base == NULL)
        return;
    struct sink *s = self(base);
    for (int32_t i = 0; i < s->n_rows; i++) {
        if (s->rows[i].used)
            row_free(s, i);
    }
    free(s->rows);
    free(s);
}

void mb_sink_count(const struct mb_sink *base, struct mb_sink_counts *out)
{
    *out = ((const struct sink *)base)->counts;
}
