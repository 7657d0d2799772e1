/* How an exchange cuts its group into domains, by its algorithm (plan/alltoall.h): flat takes every member
 * for one, hier the nodes of the machine. And how the ids of one row are cut into nodes of the tree. Integers
 * only. Pure, Local. */
#ifndef MB_COMM_CUT_H
#define MB_COMM_CUT_H
#include <stdbool.h>
#include <stdint.h>
#include "plan/alltoall.h"

struct mb_cut {
    int32_t n, me;         /* members; own number */
    int32_t domains, mine; /* domains; own one */
    int32_t *first;        /* [nodes + 1] members of each domain, which are consecutive */
    int32_t *of;           /* [n] domain of each member */
};

static inline int32_t mb_cut_count(const struct mb_cut *c, int32_t domain)
{
    return c->first[domain + 1] - c->first[domain];
}
/* Members of the own domain, and the own number among them. */
static inline int32_t mb_cut_near(const struct mb_cut *c)
{
    return mb_cut_count(c, c->mine);
}
static inline int32_t mb_cut_place(const struct mb_cut *c)
{
    return c->me - c->first[c->mine];
}
/* Who talks to whom: member i of domain a to member (i + a) mod n_b of domain b. The member of a domain that
 * is the agent of member s. */
static inline int32_t mb_cut_agent(const struct mb_cut *c, int32_t s, int32_t domain)
{
    int32_t a = c->of[s];

    return c->first[domain] + (s - c->first[a] + a) % mb_cut_count(c, domain);
}
/* As an algorithm takes the members; machine[n]: the machine's node of each, ascending. */
static inline void mb_cut_make(struct mb_cut *c, const int32_t *machine, const struct mb_alltoall_row *how)
{
    c->domains = how->partition(machine, c->n, c->of);
    for (int32_t i = c->n - 1; i >= 0; i--)
        c->first[c->of[i]] = i;
    c->first[c->domains] = c->n;
    c->mine = c->of[c->me];
}

/* The bit in which two ids differ first: the height at which the tree parts them. */
static inline int32_t mb_cut_height(uint16_t a, uint16_t b)
{
    return 31 ^ __builtin_clz((uint32_t)a ^ (uint32_t)b); /* one instruction */
}
/* Of k ascending ids, [a, b] belong together: the last place of the largest node of the tree that begins at a
 * and ends at b or before. Ids [a, i] are a node if the tree parts them from both neighbours above all that
 * it parts among them. */
static inline int32_t mb_cut_part(const uint16_t *id, int32_t k, int32_t a, int32_t b)
{
    int32_t left = a > 0 ? mb_cut_height(id[a - 1], id[a]) : 32, within = -1, end = a;

    for (int32_t i = a; i <= b && within < left; i++) {
        int32_t next = i + 1 < k ? mb_cut_height(id[i], id[i + 1]) : 32;
        if (within < next)
            end = i;
        within = next > within ? next : within;
    }
    return end;
}
/* Whether [a, b], several, are one node: what they have in common, their neighbours have not. */
static inline bool mb_cut_whole(const uint16_t *id, int64_t k, int64_t a, int64_t b)
{
    int32_t above = mb_cut_height(id[a], id[b]) + 1, node = id[a] >> above;

    return (a == 0 || id[a - 1] >> above != node) && (b + 1 == k || id[b + 1] >> above != node);
}
/* mb_cut_part; where experts lie in aligned ranges, it is mostly all of [a, b]. */
static inline int32_t mb_cut_node(const uint16_t *id, int32_t k, int32_t a, int32_t b)
{
    return a == b || mb_cut_whole(id, k, a, b) ? b : mb_cut_part(id, k, a, b);
}
#endif
