/* One layer of a placement under way: what is tried, and what the makers (makers.h) share. Not for others.
 * Pure, Local. */
#ifndef MB_PLAN_LAYER_H
#define MB_PLAN_LAYER_H
#include <stdbool.h>
#include "plan/makers.h"
#include "plan/split.h"

/* Copies of a layer's experts on shards. */
struct mb_spread {
    int32_t *first; /* [experts + 1] copies of each */
    int32_t *at;    /* [n] their shards, ascending inside an expert */
    double *share;  /* [n] rows of each copy */
    double *sum;    /* [ep] rows of each shard */
    double most;    /* of them */
    double cost;    /* most / mean, and what rows between nodes cost in proportion */
    int64_t moved;  /* copies that the placement before did not have there */
};

struct mb_layer {
    const struct mb_maker *k;
    int32_t lm, n; /* its number; copies in all */
    int32_t *slots;
    double *rows; /* [experts] */
    double all;   /* their sum */
    struct mb_spread best, tried, spare;
    bool any;                /* there is a best one */
    int32_t *sample;         /* [MB_LAYER_SAMPLE][k] rows drawn by usage; NULL: nothing lies between nodes */
    int32_t *expert, *shard; /* [n] a list of copies in any order */
    int32_t *order, *copies; /* [n + ep + experts] scratch; [experts] */
    double *base;            /* [n + ep + experts] scratch */
    uint8_t *holds, *now;    /* [ep][experts] scratch; three of it, where there is a placement before */
    int32_t *match, *names;  /* [3 * (ep + 1) + 2 * experts] [2 * ep] scratch */
    int64_t *price;          /* [3 * (ep + 1)] scratch */
};
#define MB_LAYER_SAMPLE 128

/* expert[n], shard[n] into tried. A shard has each expert once. */
void mb_layer_list(struct mb_layer *y);
/* Splits the rows over the copies and says what it costs. */
void mb_layer_rate(struct mb_layer *y, struct mb_spread *s);
/* Rates tried, and keeps it as the best if it is cheaper. */
void mb_layer_offer(struct mb_layer *y);
void mb_layer_copy(const struct mb_layer *y, struct mb_spread *to, const struct mb_spread *from);
/* One change of s that makes it cheaper: a copy on one of the fullest shards and one elsewhere change places,
 * or a copy elsewhere gives its place to one more of an expert there. False, s as it was: none of the few
 * most promising ones does, or rows are balanced but for MB_LAYER_ENOUGH. */
#define MB_LAYER_ENOUGH 0.002
bool mb_layer_better(struct mb_layer *y, struct mb_spread *s);

/* greedy.c: a copy to the expert with most rows a copy, again and again; the copies to the emptiest shards;
 * changes as long as the fullest shard gets emptier. By capacity alone: ranges. Into tried. False: no memory.
 */
bool mb_layer_greedy(struct mb_layer *y);
/* eplb.c: DeepSeek's load balancer, over all shards (groups = nodes = 1), or group by group on nodes; into
 * tried. False: sizes do not divide. */
bool mb_layer_eplb(struct mb_layer *y, int32_t groups, int32_t nodes);
/* moves.c. The copies that s has where the placement before had none. */
int64_t mb_layer_moved(struct mb_layer *y, const struct mb_spread *s);
/* Takes as few moves as cost little more than the best: renames the best one's shards, or keeps the placement
 * before with changes. */
void mb_layer_settle(struct mb_layer *y);
#endif
