#include "io/asm_batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"

static void clear(struct mb_batch *b)
{
    for (int64_t i = 0; i < b->n; i++)
        mb_record_fini(&b->r[i]);
    b->first += b->n;
    b->done_prompt += b->prompt;
    b->done_output += b->output;
    b->done_rows += b->bulk;
    b->n = 0;
    b->prompt = b->output = b->bulk = 0;
}

void mb_batch_fini(struct mb_batch *b)
{
    clear(b);
    free(b->r);
    *b = (struct mb_batch){0};
}

/* Drops what error and pending rows may have beside id, kind and reason. */
static void strip(struct mb_record *r)
{
    if (r->status != MB_ROW_ERROR && r->status != MB_ROW_PENDING)
        return;
    struct mb_text id = r->id, error = r->error;
    struct mb_record bare = {.line = r->line, .choice = r->choice, .n = r->n, .kind = r->kind, .status = r->status,
                             .finish = r->status == MB_ROW_ERROR ? MB_FINISH_ERROR : MB_FINISH_NONE,
                             .logprob_sum = (double)NAN, .timing = r->timing, .openai = r->openai, .chat = r->chat};
    r->id = r->error = (struct mb_text){NULL, 0};
    mb_record_fini(r);
    *r = bare;
    r->id = id;
    r->error = error;
}

static enum mb_status room(struct mb_batch *b)
{
    if (b->n < b->cap)
        return MB_OK;
    int64_t cap = b->cap ? 2 * b->cap : 256;
    struct mb_record *p = realloc(b->r, (size_t)cap * sizeof *p);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %lld records", (long long)cap);
    b->r = p;
    b->cap = cap;
    return MB_OK;
}

/* Whether the record has the sizes the index counted with: else rows would be written over each other. */
static bool as_indexed(const struct mb_record *r, const struct mb_row_entry *e)
{
    return r->line == e->line && r->choice == e->choice && r->n_prompt == e->n_prompt && r->n_output == e->n_output &&
           r->n_rows == e->n_rows && r->top_n == e->top_n && r->prompt_top.n == e->prompt_top;
}

enum mb_status mb_batch_next(struct mb_asm *a, struct mb_batch *b)
{
    uint64_t bytes = 0;
    clear(b);
    while (b->first + b->n < a->n) {
        const struct mb_row_entry *e = &a->e[b->first + b->n];
        uint64_t more = sizeof *b->r + (uint64_t)e->n_prompt * (8 + 8 * a->prompt_top) + (uint64_t)e->n_output * (8 + 8 * a->top) + e->len;
        bool new_line = b->n > 0 && b->r[b->n - 1].line != e->line;
        if (new_line && bytes + more > a->round_bytes)
            break;
        MB_TRY(room(b));
        MB_TRY(a->rows->ops->record(a->rows, e, &b->r[b->n]));
        strip(&b->r[b->n]);
        b->n++;
        if (!as_indexed(&b->r[b->n - 1], e))
            return mb_error(MB_CORRUPT, "line %llu: its record has other sizes than were counted",
                            (unsigned long long)e->line + 1);
        bytes += more;
        b->prompt += (uint64_t)e->n_prompt;
        b->output += (uint64_t)e->n_output;
        b->bulk += (uint64_t)e->n_rows;
    }
    return MB_OK;
}
