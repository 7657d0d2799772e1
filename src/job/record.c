#include "job/record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/mb_math.h"
#include "base/wire.h"

#define PACK_VERSION 2u
#define PACK_VERSION_TOPS 3u /* with the likeliest tokens of the prompt */
#define NAN32 0x7fc00000u
#define NAN64 0x7ff8000000000000ull
/* what a packed record ends with and two records of a row may differ in: offsets of bulk data and timing */
#define VOLATILE (MB_BULK_COUNT * 8 + 4 * 8)

const char *const mb_kind_names[3] = {"generate", "loglikelihood", "rolling"};
const char *const mb_row_status_names[4] = {"ok", "error", "degraded", "pending"};
const char *const mb_finish_names[5] = {"none", "eos", "length", "stop", "error"};

void mb_record_fini(struct mb_record *r)
{
    free(r->id.data);
    free(r->error.data);
    free(r->prompt_ids);
    free(r->prompt_logprobs);
    free(r->prompt_top.ids);
    free(r->prompt_top.logprobs);
    free(r->output_ids);
    free(r->output_logprobs);
    free(r->top_ids);
    free(r->top_logprobs);
    free(r->text.data);
    free(r->adapter.data);
    memset(r, 0, sizeof *r);
}

/* ---------------------------------------------------------------- NaN in one form */
static uint32_t f32_bits(float v)
{
    return isnan(v) ? NAN32 : mb_bits_of(v);
}

static uint64_t f64_bits(double v)
{
    uint64_t u;
    memcpy(&u, &v, sizeof u);
    return isnan(v) ? NAN64 : u;
}

/* ---------------------------------------------------------------- pack */
static void put_text(struct mb_wire_out *o, struct mb_text t)
{
    mb_wire_put_u64(o, t.len);
    mb_wire_put(o, t.data, t.len);
}

static void put_ids(struct mb_wire_out *o, const int32_t *v, uint64_t n)
{
    n = v == NULL ? 0 : n;
    mb_wire_put_u64(o, n);
    mb_wire_put(o, v, n * sizeof *v);
}

static void put_floats(struct mb_wire_out *o, const float *v, uint64_t n)
{
    n = v == NULL ? 0 : n;
    mb_wire_put_u64(o, n);
    if (o->st == MB_OK)
        o->st = mb_bytes_reserve(o->b, n * sizeof *v);
    for (uint64_t i = 0; i < n; i++)
        mb_wire_put_u32(o, f32_bits(v[i]));
}

enum mb_status mb_record_pack(const struct mb_record *r, struct mb_bytes *out)
{
    struct mb_wire_out o = {out, MB_OK};
    size_t start = out->len;
    uint64_t top = (uint64_t)r->n_output * (uint64_t)r->top_n;
    uint64_t tops = (uint64_t)r->n_prompt * (uint64_t)r->prompt_top.n;

    if ((tops > 0 && (r->prompt_top.ids == NULL || r->prompt_top.logprobs == NULL)) ||
        (r->n_prompt > 0 && r->prompt_ids == NULL) || (r->n_output > 0 && r->output_ids == NULL) ||
        (top > 0 && (r->top_ids == NULL || r->top_logprobs == NULL)))
        return mb_error(MB_BUG, "the record of line %llu lacks an array that its counts promise",
                        (unsigned long long)r->line);
    mb_wire_put_u32(&o, r->prompt_top.n > 0 ? PACK_VERSION_TOPS : PACK_VERSION);
    if (r->prompt_top.n > 0)
        mb_wire_put_i32(&o, r->prompt_top.n);
    mb_wire_put_u64(&o, r->line);
    mb_wire_put_i32(&o, r->choice);
    mb_wire_put_i32(&o, r->n);
    uint8_t small[8] = {r->kind, r->status, r->finish, r->is_greedy, r->openai, r->chat, r->want_logprobs,
                        (uint8_t)(r->echo | r->prompt_asked << 1)};
    mb_wire_put(&o, small, sizeof small);
    mb_wire_put_i64(&o, r->n_prompt);
    mb_wire_put_i64(&o, r->n_output);
    mb_wire_put_i64(&o, r->n_rows);
    mb_wire_put_i32(&o, r->top_n);
    mb_wire_put_u64(&o, f64_bits(r->logprob_sum));
    put_text(&o, r->id);
    put_text(&o, r->error);
    put_text(&o, r->text);
    put_text(&o, r->adapter);
    put_ids(&o, r->prompt_ids, (uint64_t)r->n_prompt);
    put_floats(&o, r->prompt_logprobs, (uint64_t)r->n_prompt);
    put_ids(&o, r->output_ids, (uint64_t)r->n_output);
    put_floats(&o, r->output_logprobs, (uint64_t)r->n_output);
    put_ids(&o, r->top_ids, top);
    put_floats(&o, r->top_logprobs, top);
    if (r->prompt_top.n > 0) {
        put_ids(&o, r->prompt_top.ids, tops);
        put_floats(&o, r->prompt_top.logprobs, tops);
    }
    for (int i = 0; i < MB_BULK_COUNT; i++)
        mb_wire_put_i64(&o, r->bulk[i].rows);
    for (int i = 0; i < MB_BULK_COUNT; i++)
        mb_wire_put_u64(&o, r->bulk[i].offset);
    const double t[4] = {r->timing.queue, r->timing.ttft, r->timing.tpot, r->timing.total};
    mb_wire_put(&o, t, sizeof t);
    if (o.st != MB_OK)
        out->len = start;
    return o.st;
}

uint64_t mb_record_content(const void *data, size_t n)
{
    return n < VOLATILE ? 0 : mb_hash64(data, n - VOLATILE);
}

/* ---------------------------------------------------------------- unpack */
/* Sticky failure: the wire turns bad for what is malformed, st for what is no memory. */
struct unpack {
    struct mb_wire w;
    enum mb_status st;
};

static void *copy_of(struct unpack *u, uint64_t n, size_t size)
{
    uint64_t bytes;
    if (!mb_mul_ok(n, size, &bytes) || bytes > u->w.n) {
        u->w.bad = true;
        return NULL;
    }
    const uint8_t *src = mb_wire_skip(&u->w, (size_t)bytes);
    if (src == NULL || bytes == 0)
        return NULL;
    void *p = malloc((size_t)bytes);
    if (p == NULL)
        u->st = mb_error(MB_NO_MEMORY, "no memory for a record of %llu bytes", (unsigned long long)bytes);
    else
        memcpy(p, src, (size_t)bytes);
    return p;
}

static void get_text(struct unpack *u, struct mb_text *t)
{
    uint64_t n = mb_wire_u64(&u->w);
    t->data = copy_of(u, n, 1);
    t->len = t->data == NULL ? 0 : (size_t)n;
}

/* An array whose length must be `want`, or 0 where it may be absent. */
static void *get_array(struct unpack *u, uint64_t want, bool may_be_absent)
{
    uint64_t n = mb_wire_u64(&u->w);
    if (n != want && !(may_be_absent && n == 0))
        u->w.bad = true;
    return u->w.bad ? NULL : copy_of(u, n, 4);
}

static void get_head(struct unpack *u, struct mb_record *r)
{
    uint32_t version = mb_wire_u32(&u->w);
    if (version == PACK_VERSION_TOPS)
        r->prompt_top.n = mb_wire_i32(&u->w);
    if (version != PACK_VERSION && (version != PACK_VERSION_TOPS || r->prompt_top.n < 1 || r->prompt_top.n > MB_MAX_TOP))
        u->w.bad = true;
    r->line = mb_wire_u64(&u->w);
    r->choice = mb_wire_i32(&u->w);
    r->n = mb_wire_i32(&u->w);
    uint8_t small[8];
    mb_wire_get(&u->w, small, sizeof small);
    r->kind = small[0];
    r->status = small[1];
    r->finish = small[2];
    r->is_greedy = small[3];
    r->openai = small[4] != 0;
    r->chat = small[5] != 0;
    r->want_logprobs = small[6] != 0;
    r->echo = small[7] & 1;
    r->prompt_asked = small[7] & 2;
    r->n_prompt = mb_wire_i64(&u->w);
    r->n_output = mb_wire_i64(&u->w);
    r->n_rows = mb_wire_i64(&u->w);
    r->top_n = mb_wire_i32(&u->w);
    r->logprob_sum = mb_wire_f64(&u->w);
    if (r->n < 1 || r->n > MB_MAX_CHOICES || r->choice < 0 || r->choice >= r->n || r->kind > MB_KIND_ROLLING ||
        r->status > MB_ROW_PENDING || r->finish > MB_FINISH_ERROR || r->is_greedy > 1 || r->n_prompt < 0 ||
        r->n_output < 0 || r->n_rows < 0 || r->top_n < 0 || r->top_n > MB_MAX_TOP)
        u->w.bad = true;
}

static void get_tail(struct unpack *u, struct mb_record *r)
{
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        r->bulk[i].rows = mb_wire_i64(&u->w);
        if (r->bulk[i].rows < 0)
            u->w.bad = true;
    }
    for (int i = 0; i < MB_BULK_COUNT; i++)
        r->bulk[i].offset = mb_wire_u64(&u->w);
    r->timing.queue = mb_wire_f64(&u->w);
    r->timing.ttft = mb_wire_f64(&u->w);
    r->timing.tpot = mb_wire_f64(&u->w);
    r->timing.total = mb_wire_f64(&u->w);
}

enum mb_status mb_record_unpack(const void *data, size_t n, struct mb_record *out)
{
    struct unpack u = {mb_wire_of(data, n), MB_OK};
    struct mb_record r = {0};

    get_head(&u, &r);
    get_text(&u, &r.id);
    get_text(&u, &r.error);
    get_text(&u, &r.text);
    get_text(&u, &r.adapter);
    uint64_t prompt = (uint64_t)r.n_prompt, output = (uint64_t)r.n_output, top = 0, tops = 0;
    if (!mb_mul_ok(output, (uint64_t)r.top_n, &top) || !mb_mul_ok(prompt, (uint64_t)r.prompt_top.n, &tops))
        u.w.bad = true;
    r.prompt_ids = get_array(&u, prompt, false);
    r.prompt_logprobs = get_array(&u, prompt, true);
    r.output_ids = get_array(&u, output, false);
    r.output_logprobs = get_array(&u, output, true);
    r.top_ids = get_array(&u, top, false);
    r.top_logprobs = get_array(&u, top, false);
    if (r.prompt_top.n > 0) {
        r.prompt_top.ids = get_array(&u, tops, false);
        r.prompt_top.logprobs = get_array(&u, tops, false);
    }
    get_tail(&u, &r);
    if (u.st == MB_OK && (u.w.bad || u.w.n != 0))
        u.st = MB_CORRUPT;
    if (u.st != MB_OK)
        mb_record_fini(&r);
    else
        *out = r;
    return u.st;
}

bool mb_record_peek(const void *data, size_t n, struct mb_record_head *out)
{
    struct unpack u = {mb_wire_of(data, n), MB_OK};
    struct mb_record r = {0};

    if (n < VOLATILE + MB_BULK_COUNT * 8)
        return false;
    get_head(&u, &r);
    bool bad = u.w.bad;
    size_t tail = VOLATILE + MB_BULK_COUNT * 8;
    u.w = mb_wire_of((const uint8_t *)data + n - tail, tail);
    get_tail(&u, &r);
    if (bad || u.w.bad)
        return false;
    *out = (struct mb_record_head){r.line,   r.choice,   r.n,        r.top_n, r.prompt_top.n, r.kind, r.status,
                                   r.finish, r.n_prompt, r.n_output, r.n_rows, {0}, {0}};
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        out->bulk_rows[i] = r.bulk[i].rows;
        out->bulk_offset[i] = r.bulk[i].offset;
    }
    return true;
}

/* ---------------------------------------------------------------- equal */
static bool same_text(struct mb_text a, struct mb_text b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static bool same_ids(const int32_t *a, const int32_t *b, int64_t n)
{
    return n <= 0 || (a != NULL && b != NULL && memcmp(a, b, (size_t)n * sizeof *a) == 0) || (a == NULL && b == NULL);
}

static bool same_floats(const float *a, const float *b, int64_t n)
{
    if (n <= 0 || (a == NULL && b == NULL))
        return true;
    if (a == NULL || b == NULL)
        return false;
    for (int64_t i = 0; i < n; i++) {
        if (f32_bits(a[i]) != f32_bits(b[i]))
            return false;
    }
    return true;
}

bool mb_record_equal(const struct mb_record *a, const struct mb_record *b)
{
    if (a->line != b->line || a->choice != b->choice || a->n != b->n || a->kind != b->kind || a->status != b->status ||
        a->finish != b->finish || a->n_prompt != b->n_prompt || a->n_output != b->n_output || a->top_n != b->top_n ||
        a->n_rows != b->n_rows || a->is_greedy != b->is_greedy || a->openai != b->openai || a->chat != b->chat ||
        a->want_logprobs != b->want_logprobs || a->echo != b->echo || a->prompt_asked != b->prompt_asked ||
        a->prompt_top.n != b->prompt_top.n)
        return false;
    for (int i = 0; i < MB_BULK_COUNT; i++) {
        if (a->bulk[i].rows != b->bulk[i].rows)
            return false;
    }
    int64_t top = a->n_output * a->top_n, tops = a->n_prompt * a->prompt_top.n;
    return f64_bits(a->logprob_sum) == f64_bits(b->logprob_sum) && same_text(a->id, b->id) &&
           same_text(a->error, b->error) && same_text(a->text, b->text) && same_text(a->adapter, b->adapter) &&
           same_ids(a->prompt_ids, b->prompt_ids, a->n_prompt) &&
           same_floats(a->prompt_logprobs, b->prompt_logprobs, a->n_prompt) &&
           same_ids(a->output_ids, b->output_ids, a->n_output) &&
           same_floats(a->output_logprobs, b->output_logprobs, a->n_output) && same_ids(a->top_ids, b->top_ids, top) &&
           same_floats(a->top_logprobs, b->top_logprobs, top) && same_ids(a->prompt_top.ids, b->prompt_top.ids, tops) &&
           same_floats(a->prompt_top.logprobs, b->prompt_top.logprobs, tops);
}

/* ---------------------------------------------------------------- digest */
void mb_record_put_f32(struct mb_hasher *h, const float *v, uint64_t n)
{
    uint32_t piece[256];

    for (uint64_t i = 0; i < n;) {
        uint64_t m = 0;
        for (; m < 256 && i < n; m++, i++)
            piece[m] = v == NULL ? NAN32 : f32_bits(v[i]);
        mb_hasher_put(h, piece, m * 4);
    }
}

void mb_record_hash_f32(struct mb_hasher *h, const float *v, uint64_t n)
{
    uint64_t bytes = n * 4;
    mb_hasher_put(h, &bytes, sizeof bytes);
    mb_record_put_f32(h, v, n);
}

void mb_record_hash(const struct mb_record *r, struct mb_hasher *h)
{
    bool full = r->status != MB_ROW_ERROR && r->status != MB_ROW_PENDING;
    uint64_t prompt = full ? (uint64_t)r->n_prompt : 0, output = full ? (uint64_t)r->n_output : 0;
    uint64_t top = output * (uint64_t)r->top_n;
    uint32_t choice = (uint32_t)r->choice;
    uint64_t sum = f64_bits(r->logprob_sum);

    mb_hasher_field(h, r->id.data, r->id.len);
    mb_hasher_field(h, &r->kind, 1);
    mb_hasher_field(h, &r->status, 1);
    mb_hasher_field(h, &r->finish, full ? 1 : 0);
    mb_hasher_field(h, &choice, full ? sizeof choice : 0);
    mb_hasher_field(h, r->prompt_ids, prompt * 4);
    mb_record_hash_f32(h, r->prompt_logprobs, prompt);
    mb_hasher_field(h, r->output_ids, output * 4);
    mb_record_hash_f32(h, r->output_logprobs, output);
    mb_hasher_field(h, r->top_ids, top * 4);
    mb_record_hash_f32(h, r->top_logprobs, top);
    mb_hasher_field(h, &sum, full ? sizeof sum : 0);
    mb_hasher_field(h, &r->is_greedy, full ? 1 : 0);
    mb_hasher_field(h, r->text.data, full ? r->text.len : 0);
    if (full && r->prompt_top.n > 0 && r->n_prompt > 1) {
        uint64_t tops = (prompt - 1) * (uint64_t)r->prompt_top.n;
        mb_hasher_field(h, r->prompt_top.ids + r->prompt_top.n, tops * 4);
        mb_record_hash_f32(h, r->prompt_top.logprobs + r->prompt_top.n, tops);
    }
}
