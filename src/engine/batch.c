/* The batch of a step on every rank of its attention group: the leader's integers, and each rank's share of
 * the rows. */
#include <string.h>
#include "base/log.h"
#include "base/wire.h"
#include "engine/count.h"
#include "engine/work.h"

#define TAG_HEADER 1

/* ---------------------------------------------------------------- memory */

enum mb_status mb_batch_create(struct mb_engine *e, struct mb_batch *b)
{
    const struct mb_plan *p = e->o.plan;
    size_t rows = (size_t)p->max_batch_rows, seqs = (size_t)p->max_num_seqs, sp = (size_t)e->t.l.sp;
    struct mb_mem *mem = e->o.mem;

    b->max_pages = p->max_pages_per_seq;
    b->ids = mb_zalloc(mem, MB_MEM_REQUESTS, 10 * rows, sizeof(int32_t));
    b->page_table = mb_zalloc(mem, MB_MEM_REQUESTS, seqs * (size_t)b->max_pages, sizeof(int32_t));
    b->run = mb_zalloc(mem, MB_MEM_REQUESTS, seqs + 1, sizeof *b->run);
    b->tag = mb_zalloc(mem, MB_MEM_REQUESTS, 2 * rows, sizeof *b->tag);
    b->out = mb_zalloc(mem, MB_MEM_REQUESTS, rows, sizeof *b->out);
    b->sample = mb_zalloc(mem, MB_MEM_REQUESTS, rows, sizeof *b->sample);
    b->g_at = mb_zalloc(mem, MB_MEM_REQUESTS, sp + 1 + (sp > 1 ? 2 * rows : 0), sizeof(int32_t));
    if (b->ids == NULL || b->page_table == NULL || b->run == NULL || b->tag == NULL || b->out == NULL ||
        b->sample == NULL || b->g_at == NULL)
        return mb_error(MB_NO_MEMORY,
                        "no memory for %zu sequences and %zu rows; use a smaller --max-num-seqs", seqs, rows);
    int32_t **list[] = {&b->pos,   &b->rope,   &b->row_seq, &b->part_row, &b->p_ids,
                        &b->p_pos, &b->p_rope, &b->p_slot,  &b->p_seq};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        *list[i] = b->ids + (i + 1) * rows;
    b->own_tag = b->tag + rows;
    b->g_pos = b->g_at + sp + 1;
    b->g_seq = b->g_pos + (sp > 1 ? rows : 0);
    return MB_OK;
}

void mb_batch_destroy(struct mb_batch *b)
{
    mb_free(b->ids);
    mb_free(b->page_table);
    mb_free(b->run);
    mb_free(b->tag);
    mb_free(b->out);
    mb_free(b->sample);
    mb_free(b->g_at);
    mb_free(b->adj.v);
    mb_free(b->adj.banned);
    *b = (struct mb_batch){0};
}

/* ---------------------------------------------------------------- shares */

static int32_t part_of(const struct mb_engine *e, const struct mb_batch *b, int32_t r)
{
    return mb_layout_part(e->t.l.sp, b->pos[r] / e->o.segment);
}

/* Rows in the order of their parts. */
static void group_rows(const struct mb_engine *e, struct mb_batch *b)
{
    int32_t n = 0;

    for (int32_t p = 0; p < e->t.l.sp; p++) {
        b->g_at[p] = n;
        for (int32_t r = 0; r < b->rows; r++) {
            if (part_of(e, b, r) != p)
                continue;
            b->g_pos[n] = b->pos[r];
            b->g_seq[n++] = b->row_seq[r];
        }
    }
    b->g_at[e->t.l.sp] = n;
}

/* Runs of the part's rows with an adapter: the leader keeps the rows of one adapter together. */
static void find_runs(struct mb_batch *b)
{
    b->n_runs = 0;
    for (int32_t i = 0; i < b->n_part; i++) {
        int32_t adapter = (int32_t)b->tag[b->part_row[i]] - 1;
        struct mb_lora_run *last = b->n_runs > 0 ? &b->run[b->n_runs - 1] : NULL;
        if (adapter < 0)
            continue;
        if (last != NULL && last->adapter == adapter && last->row0 + last->rows == i)
            last->rows++;
        else
            b->run[b->n_runs++] = (struct mb_lora_run){adapter, i, 1};
    }
}

void mb_batch_share(struct mb_engine *e, struct mb_batch *b)
{
    const struct mb_layout *l = &e->t.l;

    b->n_part = 0;
    for (int32_t r = 0; r < b->rows; r++) {
        if (l->sp > 1 && part_of(e, b, r) != e->t.at.q)
            continue;
        int32_t i = b->n_part++, pos = b->pos[r];
        int32_t page = b->page_table[(int64_t)b->row_seq[r] * b->max_pages + pos / MB_KV_BLOCK];
        b->part_row[i] = r;
        b->p_ids[i] = b->ids[r];
        b->p_pos[i] = pos;
        b->p_rope[i] = b->rope[r];
        b->p_seq[i] = b->row_seq[r];
        b->p_slot[i] = page * MB_KV_BLOCK + pos % MB_KV_BLOCK;
    }
    b->own0 = (int32_t)mb_share(b->n_part, e->t.at.t, l->tp);
    b->n_own = (int32_t)mb_share(b->n_part, e->t.at.t + 1, l->tp) - b->own0;
    for (int32_t i = 0; i < b->n_own; i++)
        b->own_tag[i] = b->tag[mb_own_row(b, i)];
    find_runs(b);
    if (l->sp > 1)
        group_rows(e, b);
}

/* ---------------------------------------------------------------- the step header */

struct header {
    int64_t step;
    uint32_t flags;
    int32_t status, rows, seqs, n_out, n_adj; /* n_adj < 0: without sampling parameters */
};

/* Pages that a sequence's rows of this step may look at. */
static int32_t pages_of(const struct mb_batch *b, int32_t seq)
{
    int32_t last = 0;

    for (int32_t r = 0; r < b->rows; r++) {
        if (b->row_seq[r] == seq && b->pos[r] > last)
            last = b->pos[r];
    }
    return last / MB_KV_BLOCK + 1;
}

static enum mb_status pack(const struct mb_engine *e, bool sampler, struct mb_bytes *out)
{
    const struct mb_batch *b = &e->batch;
    size_t n = (size_t)b->rows;
    struct header h = {e->step, e->flags, (int32_t)e->status,     b->rows,
                       b->seqs, b->n_out, sampler ? b->adj.n : -1};
    struct mb_wire_out o = {out, MB_OK};

    out->len = 0;
    mb_wire_put(&o, &h, sizeof h);
    mb_wire_put(&o, b->ids, 4 * n);
    mb_wire_put(&o, b->pos, 4 * n);
    mb_wire_put(&o, b->rope, 4 * n);
    mb_wire_put(&o, b->row_seq, 4 * n);
    mb_wire_put(&o, b->tag, 2 * n);
    for (int32_t s = 0; s < b->seqs; s++) {
        int32_t pages = pages_of(b, s);
        mb_wire_put_i32(&o, pages);
        mb_wire_put(&o, b->page_table + (int64_t)s * b->max_pages, 4 * (size_t)pages);
    }
    mb_wire_put(&o, b->out, sizeof *b->out * (size_t)b->n_out);
    if (sampler) {
        mb_wire_put(&o, b->sample, sizeof *b->sample * (size_t)b->n_out);
        mb_wire_put(&o, b->adj.v, sizeof *b->adj.v * (size_t)b->adj.n);
    }
    return o.st;
}

enum mb_status mb_batch_post(struct mb_engine *e)
{
    int32_t per = e->t.l.tp * e->t.l.sp, n = per * e->t.l.pp, sampler = n - per;

    if (n == 1)
        return MB_OK;
    MB_TRY(pack(e, false, &e->transit.msg));
    for (int32_t r = 1; r < n; r++) {
        if (r != sampler)
            MB_TRY(mb_comm_post(e->t.line, r, TAG_HEADER, e->transit.msg.data, e->transit.msg.len));
    }
    if (sampler == 0)
        return MB_OK;
    MB_TRY(pack(e, true, &e->transit.msg));
    return mb_comm_post(e->t.line, sampler, TAG_HEADER, e->transit.msg.data, e->transit.msg.len);
}

static void get_rows(struct mb_batch *b, struct mb_wire *w)
{
    size_t n = (size_t)b->rows;

    mb_wire_get(w, b->ids, 4 * n);
    mb_wire_get(w, b->pos, 4 * n);
    mb_wire_get(w, b->rope, 4 * n);
    mb_wire_get(w, b->row_seq, 4 * n);
    mb_wire_get(w, b->tag, 2 * n);
    for (int32_t s = 0; s < b->seqs; s++) {
        int32_t pages = mb_wire_i32(w);
        w->bad |= pages < 0 || pages > b->max_pages;
        if (!w->bad)
            mb_wire_get(w, b->page_table + (int64_t)s * b->max_pages, 4 * (size_t)pages);
    }
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

enum mb_status mb_batch_take(struct mb_engine *e)
{
    struct mb_batch *b = &e->batch;
    struct mb_where at = {"the step header", e->step, -1};
    struct header h;

    enum mb_time before = mb_time_into(e, MB_TIME_WAIT);
    enum mb_status st = mb_comm_take(e->t.line, 0, TAG_HEADER, &e->transit.msg, &at);
    (void)mb_time_into(e, before);
    MB_TRY(st);
    struct mb_wire w = mb_wire_of(e->transit.msg.data, e->transit.msg.len);
    mb_wire_get(&w, &h, sizeof h);
    if (w.bad || h.step != e->step || h.rows < 0 || h.rows > e->o.plan->max_batch_rows || h.seqs < 0 ||
        h.seqs > e->o.plan->max_num_seqs || h.n_out < 0 || h.n_out > h.rows)
        return mb_error(MB_BUG, "step %lld got a header of step %lld with %d rows; ranks are out of step",
                        (long long)e->step, (long long)h.step, h.rows);
    e->flags = h.flags;
    if (e->status == MB_OK && h.status != MB_OK)
        e->status = MB_PEER;
    b->rows = h.rows;
    b->seqs = h.seqs;
    b->n_out = h.n_out;
    get_rows(b, &w);
    if (h.n_adj >= 0)
        MB_TRY(get_sampling(b, h.n_adj, &w));
    if (w.bad || w.n != 0)
        return mb_error(MB_BUG, "the header of step %lld has not the size that it says", (long long)e->step);
    mb_batch_share(e, b);
    return MB_OK;
}
