/* Who serves an expert in one exchange, and where it is fetched. */
#include "plan/fetch.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"

/* A member with rows for an id. */
struct cell {
    int32_t home, rows;
    int32_t owner; /* that would serve them */
    int32_t to;    /* entry of pairs */
};

/* A copy that would save bytes. */
struct choice {
    int64_t gain;
    int32_t id;
};

struct mb_fetch_work {
    uint8_t *worth;         /* [ids] a copy may save bytes */
    int32_t *first;         /* [ids + 1] boundaries in cell */
    struct cell *cell;      /* by id, then member */
    int32_t *lead;          /* [members] the first member of each one's node */
    int64_t *pairs;         /* [members][members] (row, expert) pairs behind `going` */
    struct choice *choice;  /* [members][ids] copies offered to each member; then those that are made */
    int32_t *choices;       /* [members] how many */
    int32_t *copy, *copied; /* copies by id, then member; [ids + 1] boundaries */
    int32_t *by;            /* [members] who serves one id for each home */
    int32_t *used, *held, *sends, *next; /* [members] */
};

static size_t at(const struct mb_fetch *f, int32_t member, int32_t id)
{
    return (size_t)member * (size_t)f->ids + (size_t)id;
}

static void work_destroy(struct mb_fetch_work *w)
{
    if (w == NULL)
        return;
    void *tables[] = {w->worth, w->first,  w->cell, w->lead, w->pairs, w->choice, w->choices,
                      w->copy,  w->copied, w->by,   w->used, w->held,  w->sends,  w->next};

    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        free(tables[i]);
    free(w);
}

void mb_fetch_destroy(struct mb_fetch *f)
{
    if (f == NULL)
        return;
    mb_serve_destroy(f->serve);
    free(f->item);
    free(f->rows);
    free(f->keep);
    work_destroy(f->work);
    free(f);
}

static struct mb_serve *serve_room(const struct mb_serve *owners)
{
    struct mb_serve *v = calloc(1, sizeof *v);
    size_t ids = (size_t)owners->ids, members = (size_t)owners->members;

    if (v == NULL)
        return NULL;
    v->ids = owners->ids;
    v->members = owners->members;
    v->first = calloc(ids + 1, sizeof *v->first);
    v->member = calloc(ids * members + 1, sizeof *v->member);
    v->node = calloc(members, sizeof *v->node);
    if (v->first == NULL || v->member == NULL || v->node == NULL) {
        mb_serve_destroy(v);
        return NULL;
    }
    memcpy(v->node, owners->node, members * sizeof *v->node);
    return v;
}

static struct mb_fetch_work *work_room(const struct mb_serve *owners)
{
    struct mb_fetch_work *w = calloc(1, sizeof *w);
    size_t ids = (size_t)owners->ids, members = (size_t)owners->members, cells = ids * members;
    bool ok = w != NULL;

    if (!ok)
        return NULL;
    ok &= (w->worth = calloc(ids + 1, 1)) != NULL;
    ok &= (w->first = calloc(ids + 1, sizeof *w->first)) != NULL;
    ok &= (w->cell = calloc(cells, sizeof *w->cell)) != NULL;
    ok &= (w->lead = calloc(members, sizeof *w->lead)) != NULL;
    ok &= (w->pairs = calloc(members * members, sizeof *w->pairs)) != NULL;
    ok &= (w->choice = calloc(cells, sizeof *w->choice)) != NULL;
    ok &= (w->choices = calloc(members, sizeof *w->choices)) != NULL;
    ok &= (w->copy = calloc(cells, sizeof *w->copy)) != NULL;
    ok &= (w->copied = calloc(ids + 1, sizeof *w->copied)) != NULL;
    ok &= (w->by = calloc(members, sizeof *w->by)) != NULL;
    ok &= (w->used = calloc(members, sizeof *w->used)) != NULL;
    ok &= (w->held = calloc(members, sizeof *w->held)) != NULL;
    ok &= (w->sends = calloc(members, sizeof *w->sends)) != NULL;
    ok &= (w->next = calloc(members, sizeof *w->next)) != NULL;
    if (!ok) {
        work_destroy(w);
        return NULL;
    }
    for (int32_t m = 1; m < owners->members; m++)
        w->lead[m] = owners->node[m] == owners->node[m - 1] ? w->lead[m - 1] : m;
    return w;
}

enum mb_status mb_fetch_create(const struct mb_serve *owners, struct mb_fetch **out)
{
    struct mb_fetch *f = calloc(1, sizeof *f);
    size_t cells = (size_t)owners->ids * (size_t)owners->members;

    if (f == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for tables of fetched experts");
    f->ids = owners->ids;
    f->members = owners->members;
    f->serve = serve_room(owners);
    f->item = calloc(cells, sizeof *f->item);
    f->rows = calloc(cells, sizeof *f->rows);
    f->keep = calloc(cells, 1);
    f->work = work_room(owners);
    if (f->serve == NULL || f->item == NULL || f->rows == NULL || f->keep == NULL || f->work == NULL) {
        mb_fetch_destroy(f);
        return mb_error(MB_NO_MEMORY, "no memory for tables of fetched experts");
    }
    *out = f;
    return MB_OK;
}

/* ---------------------------------------------------------------- what was said */

static bool resident(const struct mb_fetch *f, const struct mb_fetch_in *in, int32_t member, int32_t id)
{
    return in->said[at(f, member, id)] & 1;
}

/* The members with rows for an id, ascending, into cell. Returns how many; worth: whether the bytes of all
 * its rows exceed those of an expert that must be fetched. */
static int32_t list_cells(const struct mb_fetch *f, const struct mb_fetch_in *in, int32_t id,
                          struct cell *cell, uint8_t *worth)
{
    const uint32_t *said = in->said + id;
    int64_t rows = 0;
    int32_t n = 0;
    uint32_t any = 0;

    for (int32_t m = 0; m < f->members; m++, said += f->ids) {
        any |= *said;
        if (*said > 1) {
            cell[n].home = m;
            cell[n].rows = (int32_t)(*said >> 1);
            rows += cell[n++].rows;
        }
    }
    *worth = (any & 1) || rows * in->row_bytes > in->expert_bytes;
    return n;
}

/* Who would serve whom; where the rows go as the exchange sees it: to the owner, or the first member of its
 * node. */
static void set_owners(struct mb_fetch *f, const struct mb_fetch_in *in, int32_t id, struct cell *cell,
                       int32_t n)
{
    struct mb_fetch_work *w = f->work;
    const int32_t *node = f->serve->node;

    mb_serve_row(in->owners, id, w->by);
    for (int32_t i = 0; i < n; i++) {
        int32_t h = cell[i].home, o = w->by[h];
        cell[i].owner = o;
        cell[i].to = h * f->members + (in->by_node && node[o] != node[h] ? w->lead[o] : o);
    }
}

/* Room that owners need for what somebody has rows for. */
static void keep_owned(struct mb_fetch *f, const struct mb_serve *v, int32_t id)
{
    for (int32_t i = v->first[id]; i < v->first[id + 1]; i++) {
        f->keep[at(f, v->member[i], id)] = 1;
        f->work->used[v->member[i]]++;
    }
}

static void sort_said(struct mb_fetch *f, const struct mb_fetch_in *in)
{
    struct mb_fetch_work *w = f->work;
    int32_t n = 0;

    memset(f->keep, 0, (size_t)f->members * (size_t)f->ids);
    memset(w->used, 0, (size_t)f->members * sizeof *w->used);
    memset(w->worth, 0, (size_t)f->ids);
    for (int32_t id = 0; id < f->ids; id++) {
        bool served = in->owners->first[id + 1] > in->owners->first[id];
        int32_t here = served ? list_cells(f, in, id, w->cell + n, &w->worth[id]) : 0;
        w->first[id] = n;
        if (here > 0) {
            keep_owned(f, in->owners, id);
            set_owners(f, in, id, w->cell + n, here);
        }
        n += here;
    }
    w->first[f->ids] = n;
}

/* ---------------------------------------------------------------- copies */

static void count_pairs(struct mb_fetch *f)
{
    struct mb_fetch_work *w = f->work;
    const struct cell *end = w->cell + w->first[f->ids];

    memset(w->pairs, 0, (size_t)f->members * (size_t)f->members * sizeof *w->pairs);
    for (const struct cell *c = w->cell; c < end; c++)
        w->pairs[c->to] += c->rows;
}

/* Bytes that a cell's rows move. */
static inline int64_t moving(const struct mb_fetch *f, const struct mb_fetch_in *in, const struct cell *c)
{
    int64_t rows = in->going[(size_t)c->home * (size_t)f->members + (size_t)c->owner];

    return c->rows * in->row_bytes * rows / f->work->pairs[c->to];
}

static void offer(struct mb_fetch *f, const struct mb_fetch_in *in, int32_t member, int32_t id, int64_t bytes)
{
    struct mb_fetch_work *w = f->work;
    int64_t gain = bytes - (resident(f, in, member, id) ? 0 : in->expert_bytes);

    if (gain > 0)
        w->choice[at(f, member, w->choices[member]++)] = (struct choice){gain, id};
}

/* Cells [c, end) are those of a node without an owner: one member for all of its rows, the one where the
 * expert is resident, else the one with the most rows. */
static void offer_node(struct mb_fetch *f, const struct mb_fetch_in *in, const struct cell *c,
                       const struct cell *end, int32_t id)
{
    const int32_t *node = f->serve->node;
    int32_t best = f->work->lead[c->home], of = node[best];
    const uint32_t *said = in->said + id;
    int64_t sum = 0;

    for (const struct cell *i = c; i < end; i++)
        sum += moving(f, in, i);
    if (sum == 0)
        return;
    for (int32_t m = best; m < f->members && node[m] == of; m++) {
        uint32_t a = said[(size_t)m * (size_t)f->ids], b = said[(size_t)best * (size_t)f->ids];
        if ((a & 1) != (b & 1) ? (a & 1) != 0 : a > b)
            best = m;
    }
    offer(f, in, best, id, sum);
}

static void offer_copies(struct mb_fetch *f, const struct mb_fetch_in *in, int32_t id)
{
    const int32_t *node = f->serve->node;
    const struct cell *c = f->work->cell + f->work->first[id], *all = f->work->cell + f->work->first[id + 1],
                      *end;

    for (; c < all; c = end) {
        if (node[c->owner] == node[c->home]) {
            end = c + 1;
            if (c->owner != c->home)
                offer(f, in, c->home, id, moving(f, in, c));
            continue;
        }
        for (end = c; end < all && node[end->home] == node[c->home]; end++)
            continue;
        offer_node(f, in, c, end, id);
    }
}

static bool better(const struct choice *a, const struct choice *b)
{
    return a->gain != b->gain ? a->gain > b->gain : a->id < b->id;
}

static void swap(struct choice *a, struct choice *b)
{
    struct choice t = *a;

    *a = *b;
    *b = t;
}

/* The best `most` of n choices come first, in any order; most < n. */
static void best_first(struct choice *c, int32_t n, int32_t most)
{
    for (int32_t a = 0, b = n; b - a > 1;) {
        int32_t less = a;
        swap(&c[a + (b - a) / 2], &c[b - 1]);
        for (int32_t i = a; i < b - 1; i++) {
            if (better(&c[i], &c[b - 1]))
                swap(&c[i], &c[less++]);
        }
        swap(&c[less], &c[b - 1]);
        if (less < most)
            a = less + 1;
        else
            b = less;
    }
}

/* The copies that save most, as far as each cache has room. */
static void choose_copies(struct mb_fetch *f, const struct mb_fetch_in *in)
{
    struct mb_fetch_work *w = f->work;

    for (int32_t m = 0; m < f->members; m++) {
        int32_t left = in->room[m] - w->used[m], spare = left > 0 ? left : 0, n = w->choices[m];
        struct choice *c = w->choice + at(f, m, 0);
        if (n > spare)
            best_first(c, n, spare);
        w->choices[m] = n < spare ? n : spare;
        for (int32_t i = 0; i < w->choices[m]; i++) {
            f->keep[at(f, m, c[i].id)] = 1;
            w->copied[c[i].id + 1]++;
        }
    }
}

/* The copies of each id, ascending. */
static void list_copies(struct mb_fetch *f)
{
    struct mb_fetch_work *w = f->work;

    for (int32_t id = 0; id < f->ids; id++)
        w->copied[id + 1] += w->copied[id];
    for (int32_t m = 0; m < f->members; m++) {
        for (int32_t i = 0; i < w->choices[m]; i++)
            w->copy[w->copied[w->choice[at(f, m, i)].id]++] = m;
    }
    for (int32_t id = f->ids; id > 0; id--)
        w->copied[id] = w->copied[id - 1];
    w->copied[0] = 0;
}

static void plan_copies(struct mb_fetch *f, const struct mb_fetch_in *in)
{
    struct mb_fetch_work *w = f->work;

    memset(w->choices, 0, (size_t)f->members * sizeof *w->choices);
    memset(w->copied, 0, ((size_t)f->ids + 1) * sizeof *w->copied);
    if (!in->copies || memchr(w->worth, 1, (size_t)f->ids) == NULL)
        return;
    count_pairs(f);
    for (int32_t id = 0; id < f->ids; id++) {
        if (w->worth[id])
            offer_copies(f, in, id);
    }
    choose_copies(f, in);
    list_copies(f);
}

/* ---------------------------------------------------------------- who serves */

/* Owners and copies of each id, ascending. */
static void make_serve(struct mb_fetch *f, const struct mb_fetch_in *in)
{
    const struct mb_fetch_work *w = f->work;
    const struct mb_serve *v = in->owners;
    int32_t n = 0;

    for (int32_t id = 0; id < f->ids; id++) {
        int32_t c = w->copied[id];
        f->serve->first[id] = n;
        for (int32_t i = v->first[id]; i < v->first[id + 1]; i++) {
            while (c < w->copied[id + 1] && w->copy[c] < v->member[i])
                f->serve->member[n++] = w->copy[c++];
            f->serve->member[n++] = v->member[i];
        }
        while (c < w->copied[id + 1])
            f->serve->member[n++] = w->copy[c++];
    }
    f->serve->first[f->ids] = n;
}

static void count_served(struct mb_fetch *f)
{
    struct mb_fetch_work *w = f->work;

    memset(f->rows, 0, (size_t)f->members * (size_t)f->ids * sizeof *f->rows);
    for (int32_t id = 0; id < f->ids; id++) {
        const struct cell *c = w->cell + w->first[id], *end = w->cell + w->first[id + 1];
        bool copies = w->copied[id + 1] > w->copied[id];
        if (copies && c < end)
            mb_serve_row(f->serve, id, w->by);
        for (; c < end; c++)
            f->rows[at(f, copies ? w->by[c->home] : c->owner, id)] += c->rows;
    }
}

/* ---------------------------------------------------------------- where from */

/* A member that keeps the expert through this exchange: of the same node if there is one, the least busy. */
static int32_t source(const struct mb_fetch *f, const struct mb_fetch_in *in, int32_t to, int32_t id)
{
    const int32_t *node = f->serve->node, *sends = f->work->sends;
    int32_t best = -1;

    for (int32_t i = f->serve->first[id]; i < f->serve->first[id + 1]; i++) {
        int32_t m = f->serve->member[i];
        if (m == to || !f->keep[at(f, m, id)] || !resident(f, in, m, id))
            continue;
        bool near = node[m] == node[to], best_near = best >= 0 && node[best] == node[to];
        if (best < 0 || (near != best_near ? near : sends[m] < sends[best]))
            best = m;
    }
    return best;
}

/* Experts that are there and must stay. */
static void count_held(struct mb_fetch *f, const struct mb_fetch_in *in)
{
    const struct mb_serve *v = f->serve;

    memset(f->work->held, 0, (size_t)f->members * sizeof *f->work->held);
    for (int32_t id = 0; id < f->ids; id++) {
        for (int32_t i = v->first[id]; i < v->first[id + 1]; i++) {
            int32_t m = v->member[i];
            f->work->held[m] += f->keep[at(f, m, id)] && resident(f, in, m, id);
        }
    }
}

/* Member m serves rows of an expert that it does not have. */
static void make_item(struct mb_fetch *f, const struct mb_fetch_in *in, int32_t m, int32_t id)
{
    struct mb_fetch_work *w = f->work;
    struct mb_fetch_item *x = &f->item[f->n++];

    *x = (struct mb_fetch_item){id, m, w->held[m] < in->slots[m] ? source(f, in, m, id) : -1, 0};
    if (x->from < 0)
        return;
    w->held[m]++;
    x->round = w->next[m] > w->next[x->from] ? w->next[m] : w->next[x->from];
    w->next[m] = w->next[x->from] = x->round + 1;
    w->sends[x->from]++;
    f->rounds = x->round + 1 > f->rounds ? x->round + 1 : f->rounds;
}

static void make_items(struct mb_fetch *f, const struct mb_fetch_in *in)
{
    const struct mb_serve *v = f->serve;

    f->n = f->rounds = 0;
    count_held(f, in);
    memset(f->work->sends, 0, (size_t)f->members * sizeof *f->work->sends);
    memset(f->work->next, 0, (size_t)f->members * sizeof *f->work->next);
    for (int32_t id = 0; id < f->ids; id++) {
        for (int32_t i = v->first[id]; i < v->first[id + 1]; i++) {
            if (f->rows[at(f, v->member[i], id)] > 0 && !resident(f, in, v->member[i], id))
                make_item(f, in, v->member[i], id);
        }
    }
}

void mb_fetch_plan(struct mb_fetch *f, const struct mb_fetch_in *in)
{
    sort_said(f, in);
    plan_copies(f, in);
    make_serve(f, in);
    count_served(f);
    make_items(f, in);
}
