/* The scheduler: pages for the rows of a step, and who gives way when there are none. */
#include <string.h>
#include "engine/sched_impl.h"

static void drop(struct mb_sched *s, struct mb_seq *q, int32_t k)
{
    mb_pages_drop(&s->pages, mb_sched_part_of(s, k), q->page[k], q->number);
}

void mb_sched_release(struct mb_sched *s, struct mb_seq *q)
{
    for (int32_t k = 0; k < q->n_pages; k++)
        drop(s, q, k);
    q->n_pages = 0;
    if (s->prefix.pages != NULL)
        mb_prefix_move(&s->prefix, &q->at, (struct mb_prefix_place){MB_PREFIX_NONE, 0});
}

void mb_sched_hold(struct mb_sched *s, struct mb_seq *q, int32_t k, int32_t page)
{
    if (k < q->n_pages && q->page[k] == page)
        return;
    mb_pages_hold(&s->pages, mb_sched_part_of(s, k), page);
    if (k < q->n_pages)
        drop(s, q, k);
    else
        q->n_pages = k + 1;
    q->page[k] = page;
}

/* ---------------------------------------------------------------- who gives way */

static bool has_of_part(const struct mb_sched *s, const struct mb_seq *q, int32_t part)
{
    for (int32_t k = 0; k < q->n_pages; k++) {
        if (mb_sched_part_of(s, k) == part)
            return true;
    }
    return false;
}

/* The youngest sequence behind q that has a page of the part and no rows in this batch. What it has in steps
 * under way stays right: every rank does its steps in order. */
static struct mb_seq *youngest(const struct mb_sched *s, const struct mb_seq *q, int32_t part)
{
    for (int32_t i = s->n_running - 1; i >= 0 && s->running[i]->number > q->number; i--) {
        if (!s->running[i]->picked && has_of_part(s, s->running[i], part))
            return s->running[i];
    }
    return NULL;
}

/* The results of its rows, also of those under way, stay; it computes the rows again when there is room. */
static void preempt(struct mb_sched *s, struct mb_seq *q)
{
    mb_sched_release(s, q);
    q->n_sched = q->window > 0 ? q->n_sched - q->n_sched % q->window : 0;
    mb_sched_stand(s, q);
    if (q->done)
        return; /* waits for nothing but results */
    q->paused = true;
    s->counters->reuse.preempted++;
}

static int32_t take(struct mb_sched *s, struct mb_seq *q, int32_t part)
{
    for (;;) {
        int32_t page = mb_pages_take(&s->pages, part, q->number);
        struct mb_seq *v = NULL;
        if (page >= 0)
            return page;
        if (s->prefix.pages != NULL && mb_prefix_evict(&s->prefix))
            continue;
        if ((v = youngest(s, q, part)) == NULL)
            return -1;
        preempt(s, v);
    }
}

/* The first that runs holds nothing in the tree that it does not need: the last pages are free for it. */
static int32_t take_at_last(struct mb_sched *s, struct mb_seq *q, int32_t part)
{
    int32_t page = take(s, q, part);

    if (page >= 0 || q != s->running[0] || q->at.node == MB_PREFIX_NONE)
        return page;
    mb_prefix_move(&s->prefix, &q->at, (struct mb_prefix_place){MB_PREFIX_NONE, 0});
    return take(s, q, part);
}

/* ---------------------------------------------------------------- room for rows */

static bool writes(const struct mb_sched *s, const struct mb_seq *q, int32_t k)
{
    return mb_page_at(&s->pages, mb_sched_part_of(s, k), q->page[k])->writer == q->number;
}

/* Page k, of which q has the rows before `offset`, is gone: these rows are computed again. */
static void lose(struct mb_sched *s, struct mb_seq *q, int32_t k, int32_t offset)
{
    while (q->n_pages > k) /* behind it only what guesses had */
        drop(s, q, --q->n_pages);
    q->n_sched -= offset;
    if (s->prefix.pages != NULL)
        mb_prefix_move(&s->prefix, &q->at, mb_prefix_back(&s->prefix, q->at, q->n_sched));
}

/* A page of its own with the same first rows. */
static bool copy(struct mb_sched *s, struct mb_batch *b, struct mb_seq *q, int32_t k, int32_t offset)
{
    int32_t part = mb_sched_part_of(s, k), from = q->page[k], page = take_at_last(s, q, part);

    if (page < 0)
        return false;
    b->copy[b->n_copies++] = (struct mb_page_copy){part, from, page};
    mb_page_at(&s->pages, part, page)->filled = offset;
    if (s->pages.ids != NULL)
        memcpy(mb_page_ids(&s->pages, part, page), mb_page_ids(&s->pages, part, from),
               sizeof(int32_t) * (size_t)offset);
    drop(s, q, k);
    q->page[k] = page;
    return true;
}

/* Makes the page behind whose first `offset` rows q goes on its own to write. false: not in this batch. */
static bool open_page(struct mb_sched *s, struct mb_batch *b, struct mb_seq *q, int32_t k, int32_t offset)
{
    struct mb_page *m = mb_page_at(&s->pages, mb_sched_part_of(s, k), q->page[k]);

    if (writes(s, q, k))
        return true;
    if (m->writer == 0 && m->filled == offset) {
        m->writer = q->number;
        return true;
    }
    if (m->batch == s->pages.batch && m->from < offset)
        return false; /* its rows are not there yet when pages are copied */
    if (copy(s, b, q, k, offset))
        return true;
    lose(s, q, k, offset);
    return true;
}

int64_t mb_sched_room(struct mb_sched *s, struct mb_batch *b, struct mb_seq *q, int64_t rows)
{
    int64_t pos = mb_seq_position(q, q->n_sched);

    if (pos % MB_KV_BLOCK != 0 &&
        !open_page(s, b, q, (int32_t)(pos / MB_KV_BLOCK), (int32_t)(pos % MB_KV_BLOCK)))
        return 0;
    pos = mb_seq_position(q, q->n_sched);
    int32_t last = (int32_t)((pos + rows - 1) / MB_KV_BLOCK);
    while (q->n_pages <= last) {
        int32_t page = take_at_last(s, q, mb_sched_part_of(s, q->n_pages));
        if (page < 0)
            break;
        q->page[q->n_pages++] = page;
    }
    int64_t room = (int64_t)q->n_pages * MB_KV_BLOCK - pos;
    return room < rows ? room : rows;
}

int32_t mb_sched_spare(struct mb_sched *s, struct mb_seq *q, int32_t n)
{
    int64_t pos = mb_seq_position(q, q->n_sched) + 1;
    int32_t last = n > 0 ? (int32_t)((pos + n - 1) / MB_KV_BLOCK) : 0;

    while (q->n_pages <= last) {
        int32_t page = mb_pages_take(&s->pages, mb_sched_part_of(s, q->n_pages), q->number);
        if (page < 0 && s->prefix.pages != NULL && mb_prefix_evict(&s->prefix))
            continue;
        if (page < 0)
            break;
        q->page[q->n_pages++] = page;
    }
    int64_t room = (int64_t)q->n_pages * MB_KV_BLOCK - pos;
    return room < n ? (int32_t)room : n;
}
