/* How the rows of experts are split over their copies. Pure, IEEE doubles in a fixed order: the same on every
 * rank. Local. */
#ifndef MB_PLAN_SPLIT_H
#define MB_PLAN_SPLIT_H
#include <stdint.h>

/* Parts of an expert's rows that quotas are said in (mb_placement). */
#define MB_SPLIT_PARTS 65536

/* Copies of a layer's experts: those of expert e are first[e] .. first[e + 1], on different shards, at least
 * one each. Borrowed. */
struct mb_copies {
    int32_t experts, ep;
    const int32_t *first; /* [experts + 1] */
    const int32_t *at;    /* [first[experts]] shard of each */
};
/* The split of rows[experts] whose sum of the shards' squared rows is least. It is the one whose fullest
 * shard is emptiest, too, and of all such whose next fullest is, and so on. share: rows of each copy;
 * sum[ep]: rows of each shard; order[ep], base[ep]: scratch. Returns the most of a shard. Each expert in turn
 * levels its copies' shards, until nothing moves (at most MB_SPLIT_SWEEPS times). */
#define MB_SPLIT_SWEEPS 600
double mb_split_rows(const struct mb_copies *c, const double *rows, double *share, double *sum,
                     int32_t *order, double *base);
/* Of `parts` to n copies in proportion to share[n] (all alike where their sum is 0): sums to parts, none
 * differs from its proportion by one or more. */
void mb_split_parts(const double *share, int32_t n, int64_t parts, int32_t *out);
/* The same of whole numbers, in their places, by rounding the boundaries between them. */
void mb_split_numbers(int32_t *part, int32_t n, int64_t parts);
#endif
