/* The batch of a step: its memory, and each rank's share of the rows. */
#include "engine/batch.h"

#include <string.h>
#include "base/log.h"
#include "plan/grid.h"

/* ---------------------------------------------------------------- memory */

enum mb_status mb_batch_create(const struct mb_batch_limits *l, int32_t sp, struct mb_batch *b)
{
    size_t rows = (size_t)l->max_rows, seqs = (size_t)l->max_seqs, parts = (size_t)sp;

    b->max_pages = l->max_pages;
    mb_masks_init(l->mem, l->max_rows, l->vocab / 32 + (l->vocab % 32 != 0), &b->masks);
    b->ids = mb_zalloc(l->mem, MB_MEM_REQUESTS, 11 * rows, sizeof(int32_t));
    b->page_table = mb_zalloc(l->mem, MB_MEM_REQUESTS, seqs * (size_t)b->max_pages, sizeof(int32_t));
    b->state = mb_zalloc(l->mem, MB_MEM_REQUESTS, seqs, sizeof(int32_t));
    b->part.run = mb_zalloc(l->mem, MB_MEM_REQUESTS, seqs + 1, sizeof *b->part.run);
    b->copy = mb_zalloc(l->mem, MB_MEM_REQUESTS, seqs, sizeof *b->copy);
    b->copy_pages = mb_zalloc(l->mem, MB_MEM_REQUESTS, 2 * seqs, sizeof *b->copy_pages);
    b->tag = mb_zalloc(l->mem, MB_MEM_REQUESTS, 2 * rows, sizeof *b->tag);
    b->out = mb_zalloc(l->mem, MB_MEM_REQUESTS, rows, sizeof *b->out);
    b->sample = mb_zalloc(l->mem, MB_MEM_REQUESTS, rows, sizeof *b->sample);
    b->order.at = mb_zalloc(l->mem, MB_MEM_REQUESTS, parts + 1 + (parts > 1 ? 4 * rows : 0), sizeof(int32_t));
    if (b->ids == NULL || b->page_table == NULL || b->part.run == NULL || b->tag == NULL || b->out == NULL ||
        b->sample == NULL || b->order.at == NULL || b->copy == NULL || b->copy_pages == NULL || b->state == NULL)
        return mb_error(MB_NO_MEMORY,
                        "no memory for %zu sequences and %zu rows; use a smaller --max-num-seqs", seqs, rows);
    int32_t **list[] = {&b->pos,      &b->rope,      &b->row_seq,   &b->part.row, &b->part.ids,
                        &b->part.pos, &b->part.rope, &b->part.slot, &b->part.seq,
                        &b->row_state};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        *list[i] = b->ids + (i + 1) * rows;
    b->part.own_tag = b->tag + rows;
    b->order.pos = b->order.at + parts + 1;
    b->order.seq = b->order.pos + (parts > 1 ? rows : 0);
    b->order.row = b->order.seq + (parts > 1 ? rows : 0);
    b->order.place = b->order.row + (parts > 1 ? rows : 0);
    return MB_OK;
}

void mb_batch_destroy(struct mb_batch *b)
{
    mb_free(b->ids);
    mb_free(b->page_table);
    mb_free(b->copy);
    mb_free(b->copy_pages);
    mb_free(b->state);
    mb_free(b->part.run);
    mb_free(b->tag);
    mb_free(b->out);
    mb_free(b->sample);
    mb_free(b->order.at);
    mb_free(b->adj.v);
    mb_free(b->adj.banned);
    mb_masks_fini(&b->masks);
    *b = (struct mb_batch){0};
}

void mb_batch_clear(struct mb_batch *b)
{
    b->rows = b->seqs = b->n_out = b->n_copies = b->adj.n = 0;
    b->module = false;
    b->part.n = b->part.n_own = b->part.own0 = b->part.n_runs = 0;
    mb_masks_clear(&b->masks);
}

/* ---------------------------------------------------------------- shares */

static int32_t part_of(const struct mb_batch *b, const struct mb_batch_share *s, int32_t r)
{
    return mb_layout_part(s->sp_size, b->pos[r] / s->segment);
}

/* Rows in the order of their parts. */
static void order_rows(struct mb_batch *b, const struct mb_batch_share *s)
{
    int32_t n = 0;

    for (int32_t p = 0; p < s->sp_size; p++) {
        b->order.at[p] = n;
        for (int32_t r = 0; r < b->rows; r++) {
            if (part_of(b, s, r) != p)
                continue;
            b->order.pos[n] = b->pos[r];
            b->order.row[n] = r;
            b->order.place[r] = n;
            b->order.seq[n++] = b->row_seq[r];
        }
    }
    b->order.at[s->sp_size] = n;
}

/* Runs of the part's rows with an adapter: the leader keeps the rows of one adapter together. */
static void find_runs(struct mb_batch *b)
{
    struct mb_batch_part *p = &b->part;

    p->n_runs = 0;
    for (int32_t i = 0; i < p->n; i++) {
        int32_t adapter = (int32_t)b->tag[p->row[i]] - 1;
        struct mb_lora_run *last = p->n_runs > 0 ? &p->run[p->n_runs - 1] : NULL;
        if (adapter < 0)
            continue;
        if (last != NULL && last->adapter == adapter && last->row0 + last->rows == i)
            last->rows++;
        else
            p->run[p->n_runs++] = (struct mb_lora_run){adapter, i, 1};
    }
}

void mb_batch_divide(struct mb_batch *b, const struct mb_batch_share *s)
{
    struct mb_batch_part *p = &b->part;

    p->n = 0;
    for (int32_t r = 0; r < b->rows; r++)
        b->row_state[r] = b->state[b->row_seq[r]];
    for (int32_t r = 0; r < b->rows; r++) {
        if (s->sp_size > 1 && part_of(b, s, r) != s->sp_rank)
            continue;
        int32_t i = p->n++, pos = b->pos[r];
        int32_t page = b->page_table[(int64_t)b->row_seq[r] * b->max_pages + pos / MB_KV_BLOCK];
        p->row[i] = r;
        p->ids[i] = b->ids[r];
        p->pos[i] = pos;
        p->rope[i] = b->rope[r];
        p->seq[i] = b->row_seq[r];
        p->slot[i] = page * MB_KV_BLOCK + pos % MB_KV_BLOCK;
    }
    p->own0 = (int32_t)mb_share(p->n, s->tp_rank, s->tp_size);
    p->n_own = (int32_t)mb_share(p->n, s->tp_rank + 1, s->tp_size) - p->own0;
    for (int32_t i = 0; i < p->n_own; i++)
        p->own_tag[i] = b->tag[mb_own_row(b, i)];
    find_runs(b);
    if (s->sp_size > 1)
        order_rows(b, s);
}

/* ---------------------------------------------------------------- what was found */

void mb_found_over(int32_t *ints, float *floats, int64_t rows, struct mb_found *f)
{
    f->drawn = ints;
    f->best = f->drawn + rows;
    f->bad = f->best + rows;
    f->bad_layer = f->bad + rows;
    f->guess = f->bad_layer + rows;
    f->top_ids = f->guess + rows;
    f->lp = floats;
    f->top_lp = f->lp + rows;
}

void mb_found_reset(struct mb_found *f, int32_t rows)
{
    for (int32_t i = 0; i < rows; i++)
        f->bad_layer[i] = -1;
}
