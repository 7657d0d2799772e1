/* The step header: the leader's batch, as integers, to every rank of its attention group. */
#include <string.h>
#include "base/log.h"
#include "base/wire.h"
#include "comm/group.h"
#include "engine/step.h"

#define TAG_HEADER 1

struct header {
    int64_t step;
    uint32_t flags;
    int32_t status, rows, seqs, copies, n_out, n_adj, n_masks, module; /* n_adj < 0: without sampling parameters */
};

/* Pages that the rows of the next sequence of this step may look at; *row is its first row, and becomes that
 * behind it. */
static int32_t pages_of(const struct mb_batch *b, int32_t *row)
{
    int32_t last = 0, seq = b->row_seq[*row];

    for (; *row < b->rows && b->row_seq[*row] == seq; (*row)++)
        last = b->pos[*row] > last ? b->pos[*row] : last;
    return last / MB_KV_BLOCK + 1;
}

static enum mb_status pack(const struct mb_step *s, bool sampler, struct mb_bytes *out)
{
    const struct mb_batch *b = s->pass.batch;
    size_t n = (size_t)b->rows;
    struct header h = {s->number,   s->flags, (int32_t)s->status,         b->rows,                           b->seqs,
                       b->n_copies, b->n_out, sampler ? b->adj.n : -1, sampler ? b->masks.n_fresh : 0,
                       b->module};
    struct mb_wire_out o = {out, MB_OK};

    out->len = 0;
    mb_wire_put(&o, &h, sizeof h);
    mb_wire_put(&o, b->ids, 4 * n);
    mb_wire_put(&o, b->pos, 4 * n);
    mb_wire_put(&o, b->rope, 4 * n);
    mb_wire_put(&o, b->row_seq, 4 * n);
    mb_wire_put(&o, b->tag, 2 * n);
    for (int32_t i = 0, row = 0; i < b->seqs; i++) {
        int32_t pages = pages_of(b, &row);
        mb_wire_put_i32(&o, pages);
        mb_wire_put(&o, b->page_table + (int64_t)i * b->max_pages, 4 * (size_t)pages);
    }
    mb_wire_put(&o, b->copy, sizeof *b->copy * (size_t)b->n_copies);
    if (s->c->o.model->linear_layers > 0)
        mb_wire_put(&o, b->state, 4 * (size_t)b->seqs);
    mb_wire_put(&o, b->out, sizeof *b->out * (size_t)b->n_out);
    if (sampler) {
        mb_wire_put(&o, b->sample, sizeof *b->sample * (size_t)b->n_out);
        mb_wire_put(&o, b->adj.v, sizeof *b->adj.v * (size_t)b->adj.n);
        mb_wire_put(&o, b->masks.fresh, 4 * (size_t)b->masks.n_fresh);
        mb_wire_put(&o, b->masks.fresh_bits, 4 * (size_t)b->masks.n_fresh * (size_t)b->masks.words);
    }
    return o.st;
}

enum mb_status mb_header_post(struct mb_step *s)
{
    int32_t per = s->c->t.g.tp_size * s->c->t.g.sp_size, n = per * s->c->t.g.pp_size, sampler = n - per;

    if (n == 1)
        return MB_OK;
    MB_TRY(pack(s, false, &s->pass.work->msg));
    for (int32_t r = 1; r < n; r++) {
        if (r != sampler)
            MB_TRY(
                mb_comm_post(s->c->t.g.line, r, TAG_HEADER, s->pass.work->msg.data, s->pass.work->msg.len));
    }
    if (sampler == 0)
        return MB_OK;
    MB_TRY(pack(s, true, &s->pass.work->msg));
    return mb_comm_post(s->c->t.g.line, sampler, TAG_HEADER, s->pass.work->msg.data, s->pass.work->msg.len);
}

static void get_states(struct mb_batch *b, int32_t slots, struct mb_wire *w)
{
    mb_wire_get(w, b->state, 4 * (size_t)b->seqs);
    for (int32_t i = 0; !w->bad && i < b->seqs; i++)
        w->bad |= b->state[i] < 0 || b->state[i] >= slots;
}

static void get_rows(struct mb_batch *b, int32_t slots, struct mb_wire *w)
{
    size_t n = (size_t)b->rows;

    mb_wire_get(w, b->ids, 4 * n);
    mb_wire_get(w, b->pos, 4 * n);
    mb_wire_get(w, b->rope, 4 * n);
    mb_wire_get(w, b->row_seq, 4 * n);
    mb_wire_get(w, b->tag, 2 * n);
    for (int32_t i = 0; i < b->seqs; i++) {
        int32_t pages = mb_wire_i32(w);
        w->bad |= pages < 0 || pages > b->max_pages;
        if (!w->bad)
            mb_wire_get(w, b->page_table + (int64_t)i * b->max_pages, 4 * (size_t)pages);
    }
    mb_wire_get(w, b->copy, sizeof *b->copy * (size_t)b->n_copies);
    if (slots > 0)
        get_states(b, slots, w);
    mb_wire_get(w, b->out, sizeof *b->out * (size_t)b->n_out);
}

static enum mb_status get_sampling(struct mb_batch *b, int32_t n_adj, struct mb_wire *w)
{
    if (n_adj > b->adj.cap) {
        void *p = mb_grow(NULL, MB_MEM_OTHER, b->adj.v, (size_t)n_adj, sizeof *b->adj.v);
        if (p == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for %d adjustments of logits", n_adj);
        b->adj.v = p;
        b->adj.cap = n_adj;
    }
    b->adj.n = n_adj;
    mb_wire_get(w, b->sample, sizeof *b->sample * (size_t)b->n_out);
    mb_wire_get(w, b->adj.v, sizeof *b->adj.v * (size_t)n_adj);
    return MB_OK;
}

/* Masks that are new to the rank that samples, each with its slot. */
static enum mb_status get_masks(struct mb_mask_list *m, int32_t n, struct mb_wire *w)
{
    if (n < 0 || n > m->slots)
        return mb_error(MB_BUG, "a step header has %d masks for %d slots", n, m->slots);
    MB_TRY(mb_masks_room(m, n));
    m->n_fresh = n;
    mb_wire_get(w, m->fresh, 4 * (size_t)n);
    mb_wire_get(w, m->fresh_bits, 4 * (size_t)n * (size_t)m->words);
    for (int32_t i = 0; i < n; i++)
        w->bad |= m->fresh[i] < 0 || m->fresh[i] >= m->slots;
    return MB_OK;
}

enum mb_status mb_header_take(struct mb_step *s)
{
    struct mb_batch *b = s->pass.batch;
    struct mb_where at = {"the step header", s->number, -1};
    struct header h;

    enum mb_time before = mb_time_into(s->pass.tally, MB_TIME_WAIT);
    enum mb_status st = mb_comm_take(s->c->t.g.line, 0, TAG_HEADER, &s->pass.work->msg, &at);
    (void)mb_time_into(s->pass.tally, before);
    MB_TRY(st);
    struct mb_wire w = mb_wire_of(s->pass.work->msg.data, s->pass.work->msg.len);
    mb_wire_get(&w, &h, sizeof h);
    if (w.bad || h.step != s->number || h.rows < 0 || h.rows > s->c->o.plan->max_batch_rows || h.seqs < 0 ||
        h.seqs > s->c->o.plan->max_num_seqs || h.copies < 0 || h.copies > h.seqs || h.n_out < 0 ||
        h.n_out > s->c->o.plan->max_batch_rows)
        return mb_error(MB_BUG, "step %lld got a header of step %lld with %d rows; ranks are out of step",
                        (long long)s->number, (long long)h.step, h.rows);
    s->flags = h.flags;
    if (s->status == MB_OK && h.status != MB_OK)
        s->status = MB_PEER;
    b->rows = h.rows;
    b->seqs = h.seqs;
    b->n_copies = h.copies;
    b->n_out = h.n_out;
    b->module = h.module != 0;
    get_rows(b, s->c->o.model->linear_layers > 0 ? s->c->o.plan->max_num_seqs : 0, &w);
    if (h.n_adj >= 0)
        MB_TRY(get_sampling(b, h.n_adj, &w));
    MB_TRY(get_masks(&b->masks, h.n_masks, &w));
    if (w.bad || w.n != 0)
        return mb_error(MB_BUG, "the header of step %lld has not the size that it says",
                        (long long)s->number);
    mb_step_divide(s);
    return MB_OK;
}
