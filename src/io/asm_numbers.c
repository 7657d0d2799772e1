#include <math.h>
#include <string.h>
#include "base/log.h"
#include "base/mb_math.h"
#include "io/asm_batch.h"
#include "io/schema.h"

struct column {
    enum mb_set set;
    /* The elements of one record into dst; width: candidates of a token. NULL: offsets, which are not filled
     * this way. */
    void (*fill)(const struct mb_record *r, uint64_t width, void *dst);
};

/* ---------------------------------------------------------------- elements of a record */
#define FILL(name, ctype, value)                                                                             \
    static void fill_##name(const struct mb_record *r, uint64_t width, void *dst)                            \
    {                                                                                                        \
        (void)width;                                                                                         \
        *(ctype *)dst = (ctype)(value);                                                                      \
    }
FILL(line, uint64_t, r->line)
FILL(choice, uint32_t, r->choice)
FILL(kind, uint8_t, r->kind)
FILL(status, uint8_t, r->status)
FILL(finish, uint8_t, r->finish)
FILL(greedy, uint8_t, r->is_greedy)
FILL(reply, uint8_t,
     (r->openai ? MB_REPLY_OPENAI : 0) | (r->chat ? MB_REPLY_CHAT : 0) |
         (r->want_logprobs ? MB_REPLY_LOGPROBS : 0) | (r->echo ? MB_REPLY_ECHO : 0) |
         (r->prompt_asked ? MB_REPLY_PROMPT : 0))
FILL(sum, double, r->logprob_sum)
FILL(queue, double, r->timing.queue)
FILL(ttft, double, r->timing.ttft)
FILL(tpot, double, r->timing.tpot)
FILL(total, double, r->timing.total)

static void copy_or_nan(const float *src, int64_t n, void *dst)
{
    uint32_t *to = dst;
    for (int64_t i = 0; i < n; i++)
        to[i] = src == NULL || isnan(src[i]) ? mb_fill_bits(MB_FILL_NAN) : mb_bits_of(src[i]);
}

static void fill_prompt_ids(const struct mb_record *r, uint64_t width, void *dst)
{
    (void)width;
    if (r->n_prompt > 0)
        memcpy(dst, r->prompt_ids, (size_t)r->n_prompt * sizeof(int32_t));
}

static void fill_prompt_logprobs(const struct mb_record *r, uint64_t width, void *dst)
{
    (void)width;
    copy_or_nan(r->prompt_logprobs, r->n_prompt, dst);
}

static void fill_output_ids(const struct mb_record *r, uint64_t width, void *dst)
{
    (void)width;
    if (r->n_output > 0)
        memcpy(dst, r->output_ids, (size_t)r->n_output * sizeof(int32_t));
}

static void fill_output_logprobs(const struct mb_record *r, uint64_t width, void *dst)
{
    (void)width;
    copy_or_nan(r->output_logprobs, r->n_output, dst);
}

/* n candidates of each of `places` tokens, as wide as the widest row's. */
static void fill_ids(const int32_t *ids, int32_t n, int64_t places, uint64_t width, int32_t *to)
{
    for (int64_t t = 0; t < places; t++) {
        for (uint64_t i = 0; i < width; i++)
            *to++ = (int64_t)i < n ? ids[t * n + (int64_t)i] : (int32_t)mb_fill_bits(MB_FILL_MINUS_ONE);
    }
}

static void fill_floats(const float *v, int32_t n, int64_t places, uint64_t width, uint32_t *to)
{
    for (int64_t t = 0; t < places; t++) {
        for (uint64_t i = 0; i < width; i++)
            copy_or_nan((int64_t)i < n ? v + t * n + (int64_t)i : NULL, 1, to++);
    }
}

static void fill_top_ids(const struct mb_record *r, uint64_t width, void *dst)
{
    fill_ids(r->top_ids, r->top_n, r->n_output, width, dst);
}

static void fill_top_logprobs(const struct mb_record *r, uint64_t width, void *dst)
{
    fill_floats(r->top_logprobs, r->top_n, r->n_output, width, dst);
}

static void fill_prompt_top_ids(const struct mb_record *r, uint64_t width, void *dst)
{
    fill_ids(r->prompt_top.ids, r->prompt_top.n, r->n_prompt, width, dst);
}

static void fill_prompt_top_logprobs(const struct mb_record *r, uint64_t width, void *dst)
{
    fill_floats(r->prompt_top.logprobs, r->prompt_top.n, r->n_prompt, width, dst);
}

static const struct column columns[] = {
    {MB_SET_LINE, fill_line},
    {MB_SET_CHOICE, fill_choice},
    {MB_SET_KIND, fill_kind},
    {MB_SET_STATUS, fill_status},
    {MB_SET_FINISH, fill_finish},
    {MB_SET_LOGPROB_SUM, fill_sum},
    {MB_SET_GREEDY, fill_greedy},
    {MB_SET_REPLY, fill_reply},
    {MB_SET_QUEUE, fill_queue},
    {MB_SET_TTFT, fill_ttft},
    {MB_SET_TPOT, fill_tpot},
    {MB_SET_END_TO_END, fill_total},
    {MB_SET_PROMPT_OFFSETS, NULL},
    {MB_SET_OUTPUT_OFFSETS, NULL},
    {MB_SET_ROW_OFFSETS, NULL},
    {MB_SET_PROMPT_IDS, fill_prompt_ids},
    {MB_SET_PROMPT_LOGPROBS, fill_prompt_logprobs},
    {MB_SET_OUTPUT_IDS, fill_output_ids},
    {MB_SET_OUTPUT_LOGPROBS, fill_output_logprobs},
    {MB_SET_TOP_IDS, fill_top_ids},
    {MB_SET_TOP_LOGPROBS, fill_top_logprobs},
    {MB_SET_PROMPT_TOP_IDS, fill_prompt_top_ids},
    {MB_SET_PROMPT_TOP_LOGPROBS, fill_prompt_top_logprobs},
};
#define COLUMNS (sizeof columns / sizeof *columns)

/* ---------------------------------------------------------------- writing */
/* How many of what a dataset has an element for: of all rows, or of a batch of them. */
struct numbers {
    uint64_t rows, offsets, prompt, output;
};

static uint64_t number_of(const struct numbers *n, enum mb_per per)
{
    switch (per) {
    case MB_PER_OFFSET:
        return n->offsets;
    case MB_PER_PROMPT:
        return n->prompt;
    case MB_PER_OUTPUT:
        return n->output;
    case MB_PER_JOB:
    case MB_PER_ROW: /* none of these columns */
    case MB_PER_REQUEST:
        break;
    }
    return n->rows;
}

/* Candidates of a token; 1 where there are none. */
static uint64_t width_of(const struct mb_asm *a, const struct mb_dataset *d)
{
    return d->rank == 1 ? 1 : d->per == MB_PER_PROMPT ? a->prompt_top : a->top;
}

static enum mb_status make(struct mb_asm *a, struct mb_h5 *h, const struct column *c, struct mb_h5_set **out)
{
    const struct mb_dataset *d = mb_dataset(c->set);
    const struct numbers all = {a->all.rows, a->all.rows + 1, a->all.prompt, a->all.output};
    uint64_t width = width_of(a, d), dims[2] = {number_of(&all, d->per), width}, chunk[2] = {65536, width};
    if (h == NULL || width == 0)
        return MB_OK; /* rank 0 alone writes, or not asked for by any request */
    if (d->rank == 2)
        chunk[0] = 65536 / width + 1;
    return mb_h5_make(h, d->path, d->type, d->rank, dims, chunk, out);
}

static void fill_offsets(const struct mb_asm *a, const struct mb_batch *b, enum mb_set set, int64_t *dst)
{
    bool prompt = set == MB_SET_PROMPT_OFFSETS, output = set == MB_SET_OUTPUT_OFFSETS;
    uint64_t at = prompt   ? a->base.prompt + b->done_prompt
                  : output ? a->base.output + b->done_output
                           : a->base.bulk + b->done_rows;
    for (int64_t i = 0; i < b->n; i++) {
        dst[i] = (int64_t)at;
        at += (uint64_t)(prompt ? b->r[i].n_prompt : output ? b->r[i].n_output : b->r[i].n_rows);
    }
}

static void fill_column(const struct mb_asm *a, const struct mb_batch *b, const struct column *c,
                        uint8_t *dst)
{
    const struct mb_dataset *d = mb_dataset(c->set);
    uint64_t size = mb_h5_size(d->type), width = width_of(a, d);
    if (c->fill == NULL) {
        fill_offsets(a, b, c->set, (int64_t *)(void *)dst);
        return;
    }
    for (int64_t i = 0; i < b->n; i++) {
        const struct mb_record *r = &b->r[i];
        const struct numbers own = {1, 1, (uint64_t)r->n_prompt, (uint64_t)r->n_output};
        c->fill(r, width, dst);
        dst += size * number_of(&own, d->per) * width;
    }
}

static enum mb_status write_column(struct mb_asm *a, const struct mb_batch *b, const struct column *c,
                                   struct mb_h5_set *s, uint8_t *buf)
{
    const struct mb_dataset *d = mb_dataset(c->set);
    const struct numbers here = {(uint64_t)b->n, (uint64_t)b->n, b->prompt, b->output},
                         at = {a->base.rows + (uint64_t)b->first, a->base.rows + (uint64_t)b->first,
                               a->base.prompt + b->done_prompt, a->base.output + b->done_output};
    uint64_t start[2] = {number_of(&at, d->per), 0}, count[2] = {number_of(&here, d->per), width_of(a, d)};
    if (s == NULL)
        return MB_OK;
    fill_column(a, b, c, buf);
    return mb_h5_write(s, start, count, buf);
}

static uint64_t buffer_bytes(const struct mb_asm *a, const struct mb_batch *b)
{
    uint64_t most = (uint64_t)b->n * 8, tokens = 4 * (b->prompt > b->output ? b->prompt : b->output);
    uint64_t top = 4 * b->output * a->top, prompt_top = 4 * b->prompt * a->prompt_top;
    most = tokens > most ? tokens : most;
    most = prompt_top > most ? prompt_top : most;
    return top > most ? top : most;
}

/* One round: every column once. A failed write does not keep this rank from the others' collective calls. */
static enum mb_status one_round(struct mb_asm *a, struct mb_batch *b, struct mb_h5_set **sets, bool *more)
{
    int64_t left;
    uint8_t *buf = NULL;
    enum mb_status st = mb_batch_next(a, b);
    if (st == MB_OK) {
        buf = mb_alloc(a->mem, MB_MEM_STAGING, 1, (size_t)buffer_bytes(a, b) + 1);
        st = buf == NULL ? mb_error(MB_NO_MEMORY, "no memory for a round of assembly") : MB_OK;
    }
    left = b->n;
    st = mb_asm_round(a, st, &left, "numbers of the results", b->first, a->n);
    *more = st == MB_OK && left > 0;
    if (*more) {
        mb_group_watch(&a->g, "writing the results (HDF5)");
        for (size_t c = 0; c < COLUMNS; c++) {
            enum mb_status w = write_column(a, b, &columns[c], sets[c], buf);
            st = st == MB_OK ? w : st;
        }
        mb_group_watch_end(&a->g);
        st = mb_group_agree(&a->g, st, "assembly");
    }
    mb_free(buf);
    return st;
}

/* The last offset is the length of what it points into. */
static enum mb_status write_ends(struct mb_asm *a, struct mb_h5_set **sets)
{
    enum mb_status st = MB_OK;
    uint64_t start = a->all.rows, count = a->g.rank == 0;
    for (size_t c = 0; c < COLUMNS; c++) {
        enum mb_set set = columns[c].set;
        if (columns[c].fill != NULL || sets[c] == NULL)
            continue;
        int64_t end = (int64_t)(set == MB_SET_PROMPT_OFFSETS   ? a->all.prompt
                                : set == MB_SET_OUTPUT_OFFSETS ? a->all.output
                                                               : a->all.bulk);
        enum mb_status w = mb_h5_write(sets[c], &start, &count, &end);
        st = st == MB_OK ? w : st;
    }
    return st;
}

enum mb_status mb_asm_numbers(struct mb_asm *a, struct mb_h5 *h)
{
    struct mb_h5_set *sets[COLUMNS] = {NULL};
    struct mb_batch b = {0};
    enum mb_status st = MB_OK;
    for (size_t c = 0; c < COLUMNS && (st == MB_OK || a->owners > 1);
         c++) { /* a collective call of each rank for each of them */
        enum mb_status made = make(a, h, &columns[c], &sets[c]);
        st = st == MB_OK ? made : st;
    }
    st = mb_group_agree(&a->g, st, "making datasets");
    for (bool more = true; st == MB_OK && more;)
        st = one_round(a, &b, sets, &more);
    if (st == MB_OK) {
        mb_group_watch(&a->g, "writing the results (HDF5)");
        st = write_ends(a, sets);
        mb_group_watch_end(&a->g);
        st = mb_group_agree(&a->g, st, "assembly");
    }
    for (size_t c = 0; c < COLUMNS; c++)
        mb_h5_set_close(sets[c]);
    mb_batch_fini(&b);
    return st;
}
