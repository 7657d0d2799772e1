/* Placements: makers' candidates, layer by layer, and the cheapest of them. */
#include "plan/makers.h"

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/rng.h"
#include "plan/layer.h"

#define BETTER 64 /* changes of the cheapest candidate at most */

void mb_maker_slots(const struct mb_maker *k, int32_t *slots)
{
    int64_t n = (int64_t)k->experts + k->redundant;

    for (int32_t r = 0; r < k->ep; r++)
        slots[r] = k->capacity != NULL ? 0 : (int32_t)((n + k->ep - 1) / k->ep);
    for (int64_t i = 0; k->capacity != NULL && i < n; i++) {
        int32_t best = -1;
        for (int32_t r = 0; r < k->ep; r++) {
            if (slots[r] < k->experts && (best < 0 || (double)(slots[r] + 1) * (double)k->capacity[best] <
                                                          (double)(slots[best] + 1) * (double)k->capacity[r]))
                best = r;
        }
        slots[best]++;
    }
}

/* ---------------------------------------------------------------- what is known of a layer */

/* Rows of the experts of a layer; all alike where nothing is known. */
static double rows_of(const struct mb_maker *k, int32_t lm, int32_t e)
{
    const int64_t *u = k->usage != NULL && lm < k->usage_layers ? k->usage + (int64_t)lm * k->experts : NULL;
    int64_t sum = 0;

    for (int32_t i = 0; u != NULL && i < k->experts; i++)
        sum += u[i] > 0;
    return sum > 0 ? (double)u[e] : 1.0;
}

/* A number below n from (layer, row, draw); the same part of it for any n. */
static uint64_t below(int32_t lm, int32_t row, int32_t draw, uint64_t n)
{
    uint32_t word[4], ctr[4] = {(uint32_t)row, (uint32_t)draw, (uint32_t)lm, 7};

    mb_philox4x32(ctr, 0x706c616365, word);
    return word[0] * (n >> 32) + (word[0] * (n & UINT32_MAX) >> 32);
}

static bool listed(const int32_t *ids, int32_t n, int32_t e)
{
    for (int32_t i = 0; i < n; i++) {
        if (ids[i] == e)
            return true;
    }
    return false;
}

/* An expert by its rows, from numbers alone: no rounding decides. */
static int32_t draw_expert(const int64_t *u, int32_t experts, uint64_t at)
{
    for (int32_t e = 0; e < experts; e++) {
        if (at < (uint64_t)u[e])
            return e;
        at -= (uint64_t)u[e];
    }
    return experts - 1;
}

/* One row's experts, ascending: by usage without putting back; what is not found in a few draws is the next
 * one. */
static void draw_row(const struct mb_layer *y, const int64_t *u, uint64_t all, int32_t row, int32_t *ids)
{
    const struct mb_maker *k = y->k;

    for (int32_t n = 0, draw = 0; n < k->k; n++) {
        int32_t e = 0, tries = 0;
        do
            e = draw_expert(u, k->experts, below(y->lm, row, draw++, all));
        while (listed(ids, n, e) && tries++ < 32);
        while (listed(ids, n, e))
            e = (e + 1) % k->experts;
        int32_t to = n;
        for (; to > 0 && ids[to - 1] > e; to--)
            ids[to] = ids[to - 1];
        ids[to] = e;
    }
}

static void draw_sample(struct mb_layer *y)
{
    const struct mb_maker *k = y->k;
    const int64_t *u = k->usage + (int64_t)y->lm * k->experts;
    uint64_t all = 0;

    for (int32_t e = 0; e < k->experts; e++)
        all += (uint64_t)u[e];
    for (int32_t r = 0; r < MB_LAYER_SAMPLE; r++)
        draw_row(y, u, all, r, y->sample + (int64_t)r * k->k);
}

static bool known(const struct mb_maker *k, int32_t lm)
{
    int64_t sum = 0;

    for (int32_t e = 0; k->usage != NULL && lm < k->usage_layers && e < k->experts; e++)
        sum += k->usage[(int64_t)lm * k->experts + e] > 0;
    return sum > 0;
}

/* ---------------------------------------------------------------- memory */

static void spread_free(struct mb_spread *s)
{
    free(s->first);
    free(s->at);
    free(s->share);
    free(s->sum);
}

static bool spread_alloc(const struct mb_layer *y, struct mb_spread *s)
{
    s->first = calloc((size_t)y->k->experts + 1, sizeof *s->first);
    s->at = calloc((size_t)y->n, sizeof *s->at);
    s->share = calloc((size_t)y->n, sizeof *s->share);
    s->sum = calloc((size_t)y->k->ep, sizeof *s->sum);
    return s->first != NULL && s->at != NULL && s->share != NULL && s->sum != NULL;
}

static void layer_fini(struct mb_layer *y)
{
    spread_free(&y->best);
    spread_free(&y->tried);
    spread_free(&y->spare);
    free(y->slots);
    free(y->rows);
    free(y->sample);
    free(y->expert);
    free(y->shard);
    free(y->order);
    free(y->copies);
    free(y->base);
    free(y->holds);
    free(y->now);
    free(y->match);
    free(y->names);
    free(y->price);
}

static bool layer_init(const struct mb_maker *k, struct mb_layer *y)
{
    size_t n = (size_t)k->experts + (size_t)k->redundant, experts = (size_t)k->experts, ep = (size_t)k->ep,
           many = n + 2 * ep + 2 * experts;

    *y = (struct mb_layer){.k = k, .n = (int32_t)n};
    bool ok = spread_alloc(y, &y->best) && spread_alloc(y, &y->tried) && spread_alloc(y, &y->spare);
    y->slots = calloc(ep, sizeof *y->slots);
    y->rows = calloc(experts, sizeof *y->rows);
    y->expert = calloc(n, sizeof *y->expert);
    y->shard = calloc(n, sizeof *y->shard);
    y->order = calloc(many, sizeof *y->order);
    y->copies = calloc(experts, sizeof *y->copies);
    y->base = calloc(many, sizeof *y->base);
    y->holds = calloc(ep * experts, 1);
    y->now = calloc(k->before != NULL ? 3 * ep * experts : 1, 1);
    y->match = calloc(3 * (ep + 1) + 2 * experts, sizeof *y->match);
    y->names = calloc(2 * ep, sizeof *y->names);
    y->price = calloc(3 * (ep + 1), sizeof *y->price);
    if (k->nodes > 1 && k->usage != NULL)
        y->sample = calloc(MB_LAYER_SAMPLE * (size_t)k->k, sizeof *y->sample);
    ok &= k->nodes <= 1 || k->usage == NULL || y->sample != NULL;
    return ok && y->slots != NULL && y->rows != NULL && y->expert != NULL && y->shard != NULL &&
           y->order != NULL && y->copies != NULL && y->base != NULL && y->holds != NULL && y->now != NULL &&
           y->match != NULL && y->names != NULL && y->price != NULL;
}

/* ---------------------------------------------------------------- a layer */

/* DeepSeek's balancer. Groups of experts that rows are limited to stay together on a node; so do equal
 * ranges, for which a row's values from a node are one sum more often. */
static void offer_balanced(struct mb_layer *y)
{
    const struct mb_maker *k = y->k;

    if (mb_layer_eplb(y, 1, 1))
        mb_layer_offer(y);
    if (k->nodes > 1 && mb_layer_eplb(y, k->nodes, k->nodes))
        mb_layer_offer(y);
    if (k->nodes > 1 && k->groups > k->nodes && mb_layer_eplb(y, k->groups, k->nodes))
        mb_layer_offer(y);
}

/* The cheapest of all, changed as long as that helps. */
static bool choose(struct mb_layer *y, bool usage)
{
    y->any = false;
    if (usage)
        offer_balanced(y);
    if (!mb_layer_greedy(y))
        return false;
    mb_layer_offer(y);
    for (int32_t i = 0; usage && i < BETTER && mb_layer_better(y, &y->best); i++)
        continue;
    mb_layer_settle(y);
    return true;
}

static bool make_layer(struct mb_layer *y, int32_t lm)
{
    const struct mb_maker *k = y->k;
    int32_t *sample = y->sample;
    bool usage = known(k, lm);

    y->lm = lm;
    y->all = 0;
    for (int32_t e = 0; e < k->experts; e++)
        y->all += y->rows[e] = rows_of(k, lm, e);
    if (!usage)
        y->sample = NULL; /* nothing is known of what goes where */
    else if (sample != NULL)
        draw_sample(y);
    bool ok = choose(y, usage);
    y->sample = sample;
    return ok;
}

/* Quotas where experts have copies and their usage is known. */
static void put_layer(const struct mb_layer *y, struct mb_placement *p, int64_t *at)
{
    const struct mb_spread *s = &y->best;

    for (int32_t e = 0; e < y->k->experts; e++) {
        int32_t a = s->first[e], n = s->first[e + 1] - a;
        memcpy(p->shard + *at, s->at + a, (size_t)n * sizeof *p->shard);
        if (p->quota != NULL)
            mb_split_parts(s->share + a, n, MB_SPLIT_PARTS, p->quota + *at);
        *at += n;
        p->first[(int64_t)y->lm * y->k->experts + e + 1] = *at;
    }
    p->moved += s->moved;
}

static enum mb_status make_all(const struct mb_maker *k, struct mb_placement *p)
{
    struct mb_layer y;
    bool ok = layer_init(k, &y);
    int64_t at = 0;

    if (ok)
        mb_maker_slots(k, y.slots);
    for (int32_t lm = 0; lm < k->moe_layers && ok; lm++) {
        ok = make_layer(&y, lm);
        if (ok)
            put_layer(&y, p, &at);
    }
    layer_fini(&y);
    return ok ? MB_OK
              : mb_error(MB_NO_MEMORY, "no memory to place %d experts", (int)(k->experts + k->redundant));
}

enum mb_status mb_placement_make(const struct mb_maker *k, struct mb_placement **out,
                                 char why[MB_LAYOUT_TEXT])
{
    int64_t can = (int64_t)k->experts * (k->ep - 1), n = (int64_t)k->experts + k->redundant;
    bool quotas = k->usage != NULL && k->redundant > 0;

    if (k->redundant > can)
        return mb_layout_no(
            why,
            "--num-redundant-experts %d: %d experts on %d shards can have %lld copies more, one of "
            "each expert on a shard",
            (int)k->redundant, (int)k->experts, (int)k->ep, (long long)can);
    if (k->before != NULL && (k->before->moe_layers != k->moe_layers || k->before->experts != k->experts ||
                              k->before->ep != k->ep))
        return mb_layout_no(
            why, "the placement before is one of %d layers of %d experts on %d shards, not of %d, %d and %d",
            (int)k->before->moe_layers, (int)k->before->experts, (int)k->before->ep, (int)k->moe_layers,
            (int)k->experts, (int)k->ep);
    struct mb_placement *p = mb_placement_alloc(k->moe_layers, k->experts, k->ep, k->moe_layers * n, quotas);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to place %d experts", (int)n);
    p->revision = k->before != NULL ? k->before->revision + 1 : 1;
    enum mb_status st = make_all(k, p);
    if (st != MB_OK) {
        mb_placement_destroy(p);
        return st;
    }
    *out = p;
    return MB_OK;
}
