/* The buffers of a step: made and freed by plan's table. */
#include <string.h>
#include "base/log.h"
#include "engine/step.h"

_Static_assert(sizeof(struct mb_lora_term) == MB_LORA_TERM_BYTES, "plan/rooms.h says how long one is");

#define LOGIT_BYTES (64 << 20) /* of logits at a time */

/* Whether a buffer is for rows that travel. */
static bool travels(int id)
{
    return mb_room_rows[id].cat == MB_MEM_EXCHANGE || mb_room_rows[id].kind == MB_ROOM_PINNED;
}

/* The tables by position and the states of sequences are the context's. */
static bool of_context(int id)
{
    return id == MB_SB_COS || id == MB_SB_SIN || id == MB_SB_QUERY || id == MB_SB_CONV_STATE || id == MB_SB_DELTA_STATE;
}

static enum mb_status make(const struct mb_context *c, struct mb_work *w, bool travelling)
{
    struct mb_room_home h = mb_home(c);

    for (int i = 0; i < MB_STEP_ROOMS; i++) {
        int id = MB_XB_COUNT + i;
        if (travels(id) == travelling && !of_context(id))
            MB_TRY(mb_room_alloc(&h, id, c->rooms.bytes[id], &w->host[i], &w->dev[i]));
    }
    return MB_OK;
}

static void *host(const struct mb_work *w, enum mb_sbuf id)
{
    return w->host[id - MB_XB_COUNT];
}

static void name_lists(struct mb_work *w)
{
    w->groups = host(w, MB_SB_GROUPS);
    w->h_experts = host(w, MB_SB_H_EXPERTS);
    w->h_weights = host(w, MB_SB_H_WEIGHTS);
    w->h_served = host(w, MB_SB_H_SERVED);
    w->h_ids = host(w, MB_SB_H_IDS);
    w->h_ones = host(w, MB_SB_H_ONES);
    w->h_bad = host(w, MB_SB_H_BAD);
    w->h_hidden = host(w, MB_SB_H_HIDDEN);
    w->h_rows = host(w, MB_SB_H_ROWS);
    w->h_u16 = host(w, MB_SB_H_SMALL);
    w->h_i32 = host(w, MB_SB_H_INTS);
    w->h_f32 = host(w, MB_SB_H_FLOATS);
    w->h_where = host(w, MB_SB_H_WHERE);
    w->h_srows = host(w, MB_SB_H_SAMPLING);
    w->mtp_ids = host(w, MB_SB_MTP_IDS);
    w->mtp_tag = host(w, MB_SB_MTP_TAG);
    for (int64_t i = 0; w->h_ones != NULL && i < w->max_rows; i++)
        w->h_ones[i] = 1;
}

/* Planes of routing and hidden states: where the rank is alone, its own rows are all rows. */
static void name_found(const struct mb_context *c, const struct mb_work *w, struct mb_found *f)
{
    bool alone = c->t.alone;

    mb_found_over(host(w, MB_SB_FOUND_IDS), host(w, MB_SB_FOUND_LP), w->max_rows, f);
    f->experts = host(w, alone ? MB_SB_H_EXPERTS : MB_SB_ALL_EXPERTS);
    f->weights = host(w, alone ? MB_SB_H_WEIGHTS : MB_SB_ALL_WEIGHTS);
    f->served = host(w, alone ? MB_SB_H_SERVED : MB_SB_ALL_SERVED);
    f->hidden = host(w, alone ? MB_SB_H_HIDDEN : MB_SB_ALL_HIDDEN);
}

static enum mb_status pieces(const struct mb_context *c, struct mb_work *w)
{
    const struct mb_groups *g = &c->t.g;
    int32_t n = g->tp_size * g->sp_size;

    n = g->etp_size > n ? g->etp_size : n;
    w->out = mb_zalloc(c->o.mem, MB_MEM_OTHER, (size_t)n, sizeof(struct mb_piece));
    w->in = mb_zalloc(c->o.mem, MB_MEM_OTHER, (size_t)n, sizeof(struct mb_piece));
    return w->out != NULL && w->in != NULL ? MB_OK
                                           : mb_error(MB_NO_MEMORY, "no memory for a group of %d ranks", n);
}

enum mb_status mb_work_create(const struct mb_context *c, struct mb_work *w, struct mb_found *f)
{
    int64_t per = (int64_t)c->o.model->vocab * 4;

    w->max_rows = c->o.plan->max_batch_rows;
    w->logit_rows = (int32_t)(w->max_rows < 256 ? w->max_rows : 256);
    while (w->logit_rows > 1 && w->logit_rows * per > LOGIT_BYTES)
        w->logit_rows /= 2;
    MB_TRY(make(c, w, false));
    name_lists(w);
    name_found(c, w, f);
    return pieces(c, w);
}

enum mb_status mb_work_travel(const struct mb_context *c, struct mb_work *w)
{
    return make(c, w, true);
}

void mb_work_destroy(const struct mb_context *c, struct mb_work *w)
{
    struct mb_room_home h = mb_home(c);

    for (int i = 0; i < MB_STEP_ROOMS; i++)
        mb_room_free(&h, MB_XB_COUNT + i, w->host[i], w->dev[i]);
    mb_free(w->out);
    mb_free(w->in);
    mb_bytes_fini(&w->msg);
    mb_bytes_fini(&w->result);
    memset(w, 0, sizeof *w);
}

static bool fits(const struct mb_pass *p, enum mb_sbuf id, int64_t bytes)
{
    if (bytes <= p->c->rooms.bytes[id])
        return true;
    mb_error(MB_BUG, "step %lld needs %lld bytes (%s); %lld were planned", (long long)p->step,
             (long long)bytes, mb_room_rows[id].name, (long long)p->c->rooms.bytes[id]);
    return false;
}

void *mb_room_host(struct mb_pass *p, enum mb_sbuf id, int64_t bytes)
{
    return fits(p, id, bytes) ? p->work->host[id - MB_XB_COUNT] : NULL;
}

struct mb_buf *mb_room_dev(struct mb_pass *p, enum mb_sbuf id, int64_t bytes)
{
    return fits(p, id, bytes) ? p->work->dev[id - MB_XB_COUNT] : NULL;
}

/* The integers of this step's batch, of the own part; with sequence parallelism also of all rows, in the
 * order of parts. */
enum mb_status mb_work_upload(struct mb_pass *p)
{
    struct mb_batch *b = p->batch;
    const struct mb_ops *ops = p->c->o.ops;
    uint64_t R = (uint64_t)p->work->max_rows * 4;
    bool parts = p->c->t.g.sp_size > 1, linear = p->c->o.model->linear_layers > 0;
    const struct {
        struct mb_view *to;
        const int32_t *from;
        int32_t rows;
        bool used;
    } list[] = {{&b->dev.ids, b->part.ids, b->part.n, true},
                {&b->dev.pos, b->part.pos, b->part.n, true},
                {&b->dev.rope, b->part.rope, b->part.n, true},
                {&b->dev.slot, b->part.slot, b->part.n, true},
                {&b->dev.seq, b->part.seq, b->part.n, true},
                {&b->dev.order_pos, b->order.pos, b->rows, parts},
                {&b->dev.order_seq, b->order.seq, b->rows, parts},
                {&b->dev.all_state, b->row_state, b->rows, linear},
                {&b->dev.all_pos, b->pos, b->rows, linear && parts},
                {&b->dev.row, b->order.row, b->rows, linear && parts},
                {&b->dev.place, b->order.place, b->rows, linear && parts}};

    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (!list[i].used)
            continue;
        *list[i].to = mb_view_of(mb_dev(p, MB_SB_INTS), i * R, list[i].rows, 1, MB_I32);
        if (list[i].rows > 0)
            MB_TRY(ops->copy_in(p->c->stream, *list[i].to, list[i].from));
    }
    if (linear && !parts)
        b->dev.all_pos = b->dev.pos;
    b->dev.page_table = mb_rows(p, MB_SB_PAGE_TABLE, b->seqs, b->max_pages, MB_I32);
    return ops->copy_in(p->c->stream, b->dev.page_table, b->page_table);
}
