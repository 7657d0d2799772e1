#include <math.h>
#include <string.h>
#include "base/log.h"
#include "base/mb_math.h"
#include "io/asm_batch.h"

/* What a dataset has elements for: each row, each row and one more (offsets), each prompt or output token, each candidate of those. */
enum per { PER_ROW, PER_OFFSET, PER_PROMPT, PER_OUTPUT, PER_TOP, PER_PROMPT_TOP };

struct column {
    const char *path;
    enum mb_h5_type type;
    enum per per;
    /* The elements of one record into dst; width: of top_ids or prompt_top_ids. Offsets are not filled this way. */
    void (*fill)(const struct mb_record *r, uint64_t width, void *dst);
};

/* ---------------------------------------------------------------- elements of a record */
#define FILL(name, ctype, value)                                                                                       \
    static void fill_##name(const struct mb_record *r, uint64_t width, void *dst)                                      \
    {                                                                                                                  \
        (void)width;                                                                                                   \
        *(ctype *)dst = (ctype)(value);                                                                                \
    }
FILL(line, uint64_t, r->line)
FILL(choice, uint32_t, r->choice)
FILL(kind, uint8_t, r->kind)
FILL(status, uint8_t, r->status)
FILL(finish, uint8_t, r->finish)
FILL(greedy, uint8_t, r->is_greedy)
FILL(reply, uint8_t, (r->openai ? MB_REPLY_OPENAI : 0) | (r->chat ? MB_REPLY_CHAT : 0) |
                     (r->want_logprobs ? MB_REPLY_LOGPROBS : 0) | (r->echo ? MB_REPLY_ECHO : 0) | (r->prompt_asked ? MB_REPLY_PROMPT : 0))
FILL(sum, double, r->logprob_sum)
FILL(queue, double, r->timing.queue)
FILL(ttft, double, r->timing.ttft)
FILL(tpot, double, r->timing.tpot)
FILL(total, double, r->timing.total)

static void copy_or_nan(const float *src, int64_t n, void *dst)
{
    uint32_t *to = dst;
    for (int64_t i = 0; i < n; i++)
        to[i] = src == NULL || isnan(src[i]) ? 0x7fc00000u : mb_bits_of(src[i]);
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
            *to++ = (int64_t)i < n ? ids[t * n + (int64_t)i] : -1;
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
    {"/requests/line", MB_H5_U64, PER_ROW, fill_line},
    {"/requests/choice", MB_H5_U32, PER_ROW, fill_choice},
    {"/requests/kind", MB_H5_KIND, PER_ROW, fill_kind},
    {"/requests/status", MB_H5_STATUS, PER_ROW, fill_status},
    {"/requests/finish_reason", MB_H5_FINISH, PER_ROW, fill_finish},
    {"/requests/logprob_sum", MB_H5_F64, PER_ROW, fill_sum},
    {"/requests/is_greedy", MB_H5_U8, PER_ROW, fill_greedy},
    {"/requests/reply", MB_H5_U8, PER_ROW, fill_reply},
    {"/timing/queue", MB_H5_F64, PER_ROW, fill_queue},
    {"/timing/ttft", MB_H5_F64, PER_ROW, fill_ttft},
    {"/timing/tpot", MB_H5_F64, PER_ROW, fill_tpot},
    {"/timing/end_to_end", MB_H5_F64, PER_ROW, fill_total},
    {"/tokens/prompt_offsets", MB_H5_I64, PER_OFFSET, NULL},
    {"/tokens/output_offsets", MB_H5_I64, PER_OFFSET, NULL},
    {"/rows/offsets", MB_H5_I64, PER_OFFSET, NULL},
    {"/tokens/prompt_ids", MB_H5_I32, PER_PROMPT, fill_prompt_ids},
    {"/tokens/prompt_logprobs", MB_H5_F32, PER_PROMPT, fill_prompt_logprobs},
    {"/tokens/output_ids", MB_H5_I32, PER_OUTPUT, fill_output_ids},
    {"/tokens/output_logprobs", MB_H5_F32, PER_OUTPUT, fill_output_logprobs},
    {"/tokens/top_ids", MB_H5_I32, PER_TOP, fill_top_ids},
    {"/tokens/top_logprobs", MB_H5_F32, PER_TOP, fill_top_logprobs},
    {"/tokens/prompt_top_ids", MB_H5_I32, PER_PROMPT_TOP, fill_prompt_top_ids},
    {"/tokens/prompt_top_logprobs", MB_H5_F32, PER_PROMPT_TOP, fill_prompt_top_logprobs},
};
#define COLUMNS (sizeof columns / sizeof *columns)

/* ---------------------------------------------------------------- writing */
/* Candidates of a token. */
static uint64_t width_of(const struct mb_asm *a, enum per per)
{
    return per == PER_PROMPT_TOP ? a->prompt_top : a->top;
}

static enum mb_status make(struct mb_asm *a, struct mb_h5 *h, const struct column *c, struct mb_h5_set **out)
{
    const uint64_t all[] = {[PER_ROW] = a->all.rows, [PER_OFFSET] = a->all.rows + 1, [PER_PROMPT] = a->all.prompt,
                            [PER_OUTPUT] = a->all.output, [PER_TOP] = a->all.output, [PER_PROMPT_TOP] = a->all.prompt};
    bool wide = c->per == PER_TOP || c->per == PER_PROMPT_TOP;
    uint64_t width = width_of(a, c->per), dims[2] = {all[c->per], width}, chunk[2] = {65536, width};
    if (h == NULL || (wide && width == 0))
        return MB_OK; /* rank 0 alone writes, or not asked for by any request */
    if (wide)
        chunk[0] = 65536 / width + 1;
    return mb_h5_make(h, c->path, c->type, wide ? 2 : 1, dims, chunk, out);
}

/* Elements of a batch in one column. */
static uint64_t count_of(const struct mb_batch *b, enum per per)
{
    if (per == PER_PROMPT || per == PER_PROMPT_TOP)
        return b->prompt;
    return per == PER_OUTPUT || per == PER_TOP ? b->output : (uint64_t)b->n;
}

static void fill_offsets(const struct mb_asm *a, const struct mb_batch *b, const char *path, int64_t *dst)
{
    uint64_t at = a->base.bulk + b->done_rows;
    bool prompt = strstr(path, "prompt") != NULL, output = strstr(path, "output") != NULL;
    if (prompt)
        at = a->base.prompt + b->done_prompt;
    else if (output)
        at = a->base.output + b->done_output;
    for (int64_t i = 0; i < b->n; i++) {
        dst[i] = (int64_t)at;
        at += (uint64_t)(prompt ? b->r[i].n_prompt : output ? b->r[i].n_output : b->r[i].n_rows);
    }
}

static void fill_column(const struct mb_asm *a, const struct mb_batch *b, const struct column *c, uint8_t *dst)
{
    uint64_t size = mb_h5_size(c->type);
    if (c->per == PER_OFFSET) {
        fill_offsets(a, b, c->path, (int64_t *)(void *)dst);
        return;
    }
    for (int64_t i = 0; i < b->n; i++) {
        const struct mb_record *r = &b->r[i];
        c->fill(r, width_of(a, c->per), dst);
        dst += size * (c->per == PER_ROW          ? 1
                       : c->per == PER_PROMPT     ? (uint64_t)r->n_prompt
                       : c->per == PER_OUTPUT     ? (uint64_t)r->n_output
                       : c->per == PER_PROMPT_TOP ? (uint64_t)r->n_prompt * a->prompt_top
                                                  : (uint64_t)r->n_output * a->top);
    }
}

static enum mb_status write_column(struct mb_asm *a, const struct mb_batch *b, const struct column *c, struct mb_h5_set *s,
                                   uint8_t *buf)
{
    uint64_t start[2] = {0, 0}, count[2] = {count_of(b, c->per), width_of(a, c->per)};
    if (s == NULL)
        return MB_OK;
    start[0] = c->per == PER_PROMPT || c->per == PER_PROMPT_TOP ? a->base.prompt + b->done_prompt
               : c->per == PER_OUTPUT || c->per == PER_TOP ? a->base.output + b->done_output
                                                           : a->base.rows + (uint64_t)b->first;
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
        if (columns[c].per != PER_OFFSET || sets[c] == NULL)
            continue;
        int64_t end = (int64_t)(strstr(columns[c].path, "prompt") != NULL   ? a->all.prompt
                                : strstr(columns[c].path, "output") != NULL ? a->all.output
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
    for (size_t c = 0; c < COLUMNS && (st == MB_OK || a->owners > 1); c++) { /* a collective call of each rank for each of them */
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
