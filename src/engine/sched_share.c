/* The scheduler: rows that several sequences have in common are computed once. What is in the tree of
 * prefixes has been computed, or is in the batch being made; a sequence whose next ids are there takes the
 * rows over with their pages. Results (draws, scores) are of rows of the batch alone: there one row serves
 * several sequences, each with its own target or its own draw. Where only results of an old row are missing,
 * the row is computed again, in a page of the sequence's own. Bits are those of rows computed alone: a row
 * depends on nothing but its ids, its position and its kind. */
#include <string.h>
#include "engine/sched_impl.h"

#define LEAST 4 /* rows that are worth a copy of a page */

void mb_sched_stand(const struct mb_sched *s, struct mb_seq *q)
{
    q->at = s->prefix.pages != NULL && q->window == 0 ? mb_prefix_root(mb_sched_kind(q))
                                                      : (struct mb_prefix_place){MB_PREFIX_NONE, 0};
}

/* ---------------------------------------------------------------- what there is to share */

/* Of a run of rows [from, to) in one page: does this batch compute all those that q wants results of? Returns
 * the end of the rows that it can take over. */
static int64_t served(const struct mb_sched *s, const struct mb_page *m, int64_t from, int64_t to,
                      int64_t wanted, int32_t *asks)
{
    int64_t begin = from / MB_KV_BLOCK * MB_KV_BLOCK + m->from; /* first row of the page in this batch */
    int64_t first = from > wanted ? from : wanted, room = s->o.max_rows - *asks;

    if (first >= to)
        return to;
    if (m->batch != s->pages.batch || first < begin)
        return first;
    if (to - first > room)
        to = first + room;
    *asks += (int32_t)(to - first);
    return to;
}

static const struct mb_page *page_of(const struct mb_sched *s, int32_t node)
{
    const struct mb_prefix_node *n = &s->prefix.node[node];

    return mb_page_at(&s->pages, n->part, n->page);
}

static int64_t first_wanted(const struct mb_seq *q)
{
    int64_t first = mb_seq_first_wanted(q);

    return q->n_high > first ? q->n_high : first;
}

/* How far q can go on with rows of others. now: some of them are in this batch. */
static int64_t reach(const struct mb_sched *s, const struct mb_seq *q, bool *now)
{
    struct mb_prefix_place at = mb_prefix_back(&s->prefix, q->at, q->n_sched), next;
    int32_t asks = s->n_asks;
    int64_t wanted = first_wanted(q);

    *now = false;
    while (mb_prefix_step(&s->prefix, at, q->ids, q->n_ids, &next)) {
        const struct mb_page *m = page_of(s, next.node);
        int64_t end = served(s, m, at.pos, next.pos, wanted, &asks);
        if (end == at.pos)
            break;
        *now |= m->batch == s->pages.batch && (end - 1) % MB_KV_BLOCK >= m->from;
        at = (struct mb_prefix_place){next.node, end};
        if (end < next.pos)
            break;
    }
    return at.pos;
}

/* Whether it pays to take over rows up to `end`: where q would go on in the middle of a page, that page is
 * copied first, unless that has to be anyway. */
static bool pays(const struct mb_sched *s, const struct mb_seq *q, int64_t end)
{
    int64_t k = q->n_sched / MB_KV_BLOCK;

    if (end == q->n_sched)
        return false;
    if (end - q->n_sched >= LEAST || end % MB_KV_BLOCK == 0 || end == q->n_ids)
        return true;
    return q->n_sched % MB_KV_BLOCK != 0 &&
           mb_page_at(&s->pages, mb_sched_part_of(s, k), q->page[k])->writer != q->number;
}

/* ---------------------------------------------------------------- taking over */

/* Rows [from, to) of one page, which the tree has in a node. */
static bool take_over(struct mb_sched *s, struct mb_seq *q, int32_t node, int64_t from, int64_t to,
                      int64_t wanted)
{
    const struct mb_page *m = page_of(s, node);
    bool asked = false;

    mb_sched_hold(s, q, (int32_t)(from / MB_KV_BLOCK), s->prefix.node[node].page);
    for (int64_t r = from > wanted ? from : wanted; r < to; r++) {
        int32_t row = m->row + (int32_t)(r % MB_KV_BLOCK) - m->from;
        asked = true;
        if (mb_sched_wants(s, q, r))
            mb_sched_ask(s, q, row, r, false);
    }
    return asked;
}

bool mb_sched_share(struct mb_sched *s, struct mb_making *k, struct mb_seq *q)
{
    bool now, asked = false;

    if (q->at.node == MB_PREFIX_NONE)
        return false;
    int64_t end = reach(s, q, &now), wanted = first_wanted(q);
    if (!pays(s, q, end))
        return false;
    mb_prefix_move(&s->prefix, &q->at, mb_prefix_back(&s->prefix, q->at, q->n_sched));
    for (struct mb_prefix_place next;
         q->at.pos < end && mb_prefix_step(&s->prefix, q->at, q->ids, end, &next);) {
        asked |= take_over(s, q, next.node, q->at.pos, next.pos, wanted);
        mb_prefix_move(&s->prefix, &q->at, next);
    }
    s->counters->reuse.cached += end > q->n_high ? end - q->n_high : 0;
    q->n_sched = end;
    q->n_high = end > q->n_high ? end : q->n_high;
    if (!now)
        return false;
    q->picked = true;
    if (asked) {
        k->f->ride[k->f->n_rides] = q;
        k->f->ride_end[k->f->n_rides++] = end;
        q->way.steps++;
    }
    return true;
}

/* ---------------------------------------------------------------- the own ones */

/* Rows up to `end`, which lie in page number k of q, are in the tree: as others have them, else as its own.
 */
static void enter_tree(struct mb_sched *s, struct mb_seq *q, int64_t end, int32_t k)
{
    struct mb_prefix_place next;

    mb_prefix_move(&s->prefix, &q->at, mb_prefix_back(&s->prefix, q->at, q->at.pos));
    while (q->at.node != MB_PREFIX_NONE && q->at.pos < end) {
        if (mb_prefix_step(&s->prefix, q->at, q->ids, end, &next))
            mb_prefix_move(&s->prefix, &q->at, next);
        else
            mb_prefix_add(&s->prefix, &q->at, end, mb_sched_part_of(s, k), q->page[k]);
    }
}

void mb_sched_enter(struct mb_sched *s, struct mb_seq *q, int64_t pos, int64_t n, int32_t row)
{
    for (int64_t end, last = pos + n; pos < last; pos = end) {
        int32_t k = (int32_t)(pos / MB_KV_BLOCK), offset = (int32_t)(pos % MB_KV_BLOCK),
                part = mb_sched_part_of(s, k);
        struct mb_page *m = mb_page_at(&s->pages, part, q->page[k]);
        end = (int64_t)(k + 1) * MB_KV_BLOCK < last ? (int64_t)(k + 1) * MB_KV_BLOCK : last;
        m->filled = offset + (int32_t)(end - pos);
        if (row >= 0) {
            m->batch = s->pages.batch;
            m->from = offset;
            m->row = row;
            row += (int32_t)(end - pos);
        }
        if (q->at.node == MB_PREFIX_NONE)
            continue;
        memcpy(mb_page_ids(&s->pages, part, q->page[k]) + offset, q->ids + pos,
               sizeof(int32_t) * (size_t)(end - pos));
        enter_tree(s, q, end, k);
    }
}

int64_t mb_sched_common(const struct mb_sched *s, const struct mb_seq *q)
{
    struct mb_prefix_place at = mb_prefix_root(mb_sched_kind(q)), next;

    if (s->prefix.pages == NULL || q->window > 0)
        return 0;
    while (mb_prefix_step(&s->prefix, at, q->ids, q->n_ids, &next) && page_of(s, next.node)->seqs > 0)
        at = next;
    return at.pos;
}

void mb_sched_forget(struct mb_sched *s)
{
    if (s->prefix.pages == NULL)
        return;
    for (int32_t i = 0; i < s->n_running; i++)
        mb_prefix_move(&s->prefix, &s->running[i]->at, (struct mb_prefix_place){MB_PREFIX_NONE, 0});
    while (mb_prefix_evict(&s->prefix))
        ;
}
