/* The plan of experts on demand once more, as plainly as it can be said and without regard to what it costs:
 * every question is asked of the tables anew. Tests hold mb_fetch_plan against it. */
#ifndef TESTS_FETCH_PLAIN_H
#define TESTS_FETCH_PLAIN_H
#include <stdlib.h>
#include <string.h>
#include "plan/fetch.h"

/* A copy that would save bytes. */
struct plain_choice {
    int64_t gain;
    int32_t id, member;
};

/* Tables as in struct mb_fetch, of the caller. */
struct plain {
    int32_t ids, members;
    struct mb_serve *serve;
    struct mb_fetch_item *item;
    int32_t n, rounds;
    int32_t *rows;
    uint8_t *keep;
    int32_t *used, *held, *sends, *next;
    int64_t *pairs;
    struct plain_choice *choice;
};

static size_t at(const struct plain *f, int32_t member, int32_t id)
{
    return (size_t)member * (size_t)f->ids + (size_t)id;
}

static int64_t rows_of(const struct plain *f, const struct mb_fetch_in *in, int32_t member, int32_t id)
{
    return in->said[at(f, member, id)] >> 1;
}

static bool resident(const struct plain *f, const struct mb_fetch_in *in, int32_t member, int32_t id)
{
    return in->said[at(f, member, id)] & 1;
}

static bool active(const struct plain *f, const struct mb_fetch_in *in, int32_t id)
{
    for (int32_t m = 0; m < f->members; m++) {
        if (rows_of(f, in, m, id) > 0)
            return true;
    }
    return false;
}

/* Room that owners need for what anybody has rows for. */
static void keep_owned(struct plain *f, const struct mb_fetch_in *in)
{
    const struct mb_serve *v = in->owners;

    memset(f->keep, 0, (size_t)f->members * (size_t)f->ids);
    memset(f->used, 0, (size_t)f->members * sizeof *f->used);
    for (int32_t id = 0; id < f->ids; id++) {
        if (!active(f, in, id))
            continue;
        for (int32_t i = v->first[id]; i < v->first[id + 1]; i++) {
            f->keep[at(f, v->member[i], id)] = 1;
            f->used[v->member[i]]++;
        }
    }
}

/* Pairs that go to each member, or to its node. */
static void count_pairs(struct plain *f, const struct mb_fetch_in *in)
{
    const int32_t *node = f->serve->node;
    int32_t n = f->members;

    memset(f->pairs, 0, (size_t)n * (size_t)n * sizeof *f->pairs);
    for (int32_t h = 0; h < n; h++) {
        for (int32_t id = 0; id < f->ids; id++) {
            int64_t rows = rows_of(f, in, h, id);
            if (rows == 0)
                continue;
            int32_t o = mb_serve_pick(in->owners, id, h);
            for (int32_t m = 0; m < n; m++) {
                bool same = in->by_node && node[m] == node[o] && node[m] != node[h];
                f->pairs[(int64_t)h * n + m] += m == o || same ? rows : 0;
            }
        }
    }
}

/* Bytes that an expert's rows of one member move. */
static int64_t moving(const struct plain *f, const struct mb_fetch_in *in, int32_t home, int32_t id)
{
    int64_t rows = rows_of(f, in, home, id);

    if (rows == 0)
        return 0;
    int64_t to = (int64_t)home * f->members + mb_serve_pick(in->owners, id, home);
    return rows * in->row_bytes * in->going[to] / f->pairs[to];
}

static void offer(struct plain *f, const struct mb_fetch_in *in, int32_t *n, int32_t member, int32_t id,
                  int64_t bytes)
{
    int64_t gain = bytes - (resident(f, in, member, id) ? 0 : in->expert_bytes);

    if (gain > 0)
        f->choice[(*n)++] = (struct plain_choice){gain, id, member};
}

/* A node without an owner: one member for all of its rows, the one where the expert is resident, else the one
 * with the most rows. Members of a node are neighbours, [a, b). */
static void offer_node(struct plain *f, const struct mb_fetch_in *in, int32_t *n, int32_t a, int32_t b,
                       int32_t id)
{
    int32_t best = a;
    int64_t sum = 0;

    for (int32_t m = a; m < b; m++) {
        bool here = resident(f, in, m, id), there = resident(f, in, best, id);
        sum += moving(f, in, m, id);
        if (here != there ? here : rows_of(f, in, m, id) > rows_of(f, in, best, id))
            best = m;
    }
    offer(f, in, n, best, id, sum);
}

static void offer_all(struct plain *f, const struct mb_fetch_in *in, int32_t *n, int32_t id)
{
    const struct mb_serve *v = in->owners;

    for (int32_t a = 0, b; a < f->members; a = b) {
        bool owner = false;
        for (b = a; b < f->members && v->node[b] == v->node[a]; b++)
            owner |= mb_serve_has(v, b, id);
        if (!owner) {
            offer_node(f, in, n, a, b, id);
            continue;
        }
        for (int32_t m = a; m < b; m++) {
            if (!mb_serve_has(v, m, id))
                offer(f, in, n, m, id, moving(f, in, m, id));
        }
    }
}

static int by_gain(const void *a, const void *b)
{
    const struct plain_choice *x = a, *y = b;

    if (x->gain != y->gain)
        return x->gain > y->gain ? -1 : 1;
    return x->id != y->id ? x->id - y->id : x->member - y->member;
}

/* The copies that save most first, as far as caches have room. */
static void choose_copies(struct plain *f, const struct mb_fetch_in *in)
{
    int32_t n = 0;

    count_pairs(f, in);
    for (int32_t id = 0; id < f->ids; id++) {
        if (in->owners->first[id + 1] > in->owners->first[id])
            offer_all(f, in, &n, id);
    }
    qsort(f->choice, (size_t)n, sizeof *f->choice, by_gain);
    for (int32_t i = 0; i < n; i++) {
        const struct plain_choice *c = &f->choice[i];
        if (f->used[c->member] >= in->room[c->member])
            continue;
        f->keep[at(f, c->member, c->id)] = 1;
        f->used[c->member]++;
    }
}

static void make_serve(struct plain *f, const struct mb_fetch_in *in)
{
    int32_t n = 0;

    for (int32_t id = 0; id < f->ids; id++) {
        f->serve->first[id] = n;
        if (in->owners->first[id + 1] == in->owners->first[id])
            continue;
        for (int32_t m = 0; m < f->members; m++) {
            if (f->keep[at(f, m, id)] || mb_serve_has(in->owners, m, id))
                f->serve->member[n++] = m;
        }
    }
    f->serve->first[f->ids] = n;
}

static void count_served(struct plain *f, const struct mb_fetch_in *in)
{
    memset(f->rows, 0, (size_t)f->members * (size_t)f->ids * sizeof *f->rows);
    for (int32_t m = 0; m < f->members; m++) {
        for (int32_t id = 0; id < f->ids; id++) {
            int64_t rows = rows_of(f, in, m, id);
            if (rows > 0)
                f->rows[at(f, mb_serve_pick(f->serve, id, m), id)] += (int32_t)rows;
        }
    }
}

/* A member that keeps the expert through this exchange: of the same node if there is one, the least busy. */
static int32_t source(const struct plain *f, const struct mb_fetch_in *in, int32_t to, int32_t id)
{
    const int32_t *node = f->serve->node;
    int32_t best = -1;

    for (int32_t m = 0; m < f->members; m++) {
        if (m == to || !f->keep[at(f, m, id)] || !resident(f, in, m, id))
            continue;
        bool near = node[m] == node[to], best_near = best >= 0 && node[best] == node[to];
        if (best < 0 || (near != best_near ? near : f->sends[m] < f->sends[best]))
            best = m;
    }
    return best;
}

/* Experts that are there and must stay. */
static void count_held(struct plain *f, const struct mb_fetch_in *in)
{
    for (int32_t m = 0; m < f->members; m++) {
        f->held[m] = 0;
        for (int32_t id = 0; id < f->ids; id++)
            f->held[m] += f->keep[at(f, m, id)] && resident(f, in, m, id);
    }
}

static void make_items(struct plain *f, const struct mb_fetch_in *in)
{
    f->n = f->rounds = 0;
    count_held(f, in);
    memset(f->sends, 0, (size_t)f->members * sizeof *f->sends);
    memset(f->next, 0, (size_t)f->members * sizeof *f->next);
    for (int32_t id = 0; id < f->ids; id++) {
        for (int32_t m = 0; m < f->members; m++) {
            if (f->rows[at(f, m, id)] == 0 || resident(f, in, m, id))
                continue;
            struct mb_fetch_item *x = &f->item[f->n++];
            *x = (struct mb_fetch_item){id, m, f->held[m] < in->slots[m] ? source(f, in, m, id) : -1, 0};
            if (x->from < 0)
                continue;
            f->held[m]++;
            x->round = f->next[m] > f->next[x->from] ? f->next[m] : f->next[x->from];
            f->next[m] = f->next[x->from] = x->round + 1;
            f->sends[x->from]++;
            f->rounds = x->round + 1 > f->rounds ? x->round + 1 : f->rounds;
        }
    }
}

static void plain_plan(struct plain *f, const struct mb_fetch_in *in)
{
    keep_owned(f, in);
    if (in->copies)
        choose_copies(f, in);
    make_serve(f, in);
    count_served(f, in);
    make_items(f, in);
}

static struct plain *plain_create(const struct mb_serve *owners)
{
    struct plain *f = calloc(1, sizeof *f);
    size_t ids = (size_t)owners->ids, members = (size_t)owners->members, cells = ids * members;

    f->ids = owners->ids;
    f->members = owners->members;
    f->serve = calloc(1, sizeof *f->serve);
    *f->serve = (struct mb_serve){.ids = owners->ids,
                                  .members = owners->members,
                                  .first = calloc(ids + 1, 4),
                                  .member = calloc(cells + 1, 4),
                                  .node = calloc(members, 4)};
    memcpy(f->serve->node, owners->node, members * 4);
    f->item = calloc(cells, sizeof *f->item);
    f->rows = calloc(cells, 4);
    f->keep = calloc(cells, 1);
    f->used = calloc(4 * members, 4);
    f->held = f->used + members;
    f->sends = f->held + members;
    f->next = f->sends + members;
    f->pairs = calloc(members * members, 8);
    f->choice = calloc(cells, sizeof *f->choice);
    return f;
}

static void plain_destroy(struct plain *f)
{
    mb_serve_destroy(f->serve);
    free(f->item);
    free(f->rows);
    free(f->keep);
    free(f->used);
    free(f->pairs);
    free(f->choice);
    free(f);
}
#endif
