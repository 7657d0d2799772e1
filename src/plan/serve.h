/* Who serves which expert in one exchange of a group: the placement seen from the members. Pure, Local.
 *
 * The exchanges of a step are numbered j = 0, 1, ... Under stage scope exchange j is the stage's j-th MoE
 * layer and an id is an expert. Under lane scope the j-th MoE layers of all stages meet in exchange j: the
 * rows of stage p carry the ids p * pad + expert, pad the power of two that holds all experts, so that the
 * tree over a row's ids has the shape it has over its experts. */
#ifndef MB_PLAN_SERVE_H
#define MB_PLAN_SERVE_H
#include "plan/plan.h"

struct mb_serve {
    int32_t ids, members;
    int32_t *first;  /* [ids + 1] boundaries in member; an id that no row carries has none */
    int32_t *member; /* members that serve an id, ascending */
    int32_t *node;   /* [members] machine node of each; members of a node are neighbours */
};
/* Exchanges that a step of this stage takes part in: its MoE layers, or under lane scope the most that any
 * stage has. 0: the group has no MoE layer. */
int32_t mb_serve_exchanges(const struct mb_plan *p, const struct mb_model *m, int32_t stage);
/* The MoE layer that is exchange j of this stage, or -1. */
int32_t mb_serve_layer(const struct mb_plan *p, const struct mb_model *m, int32_t stage, int32_t j);
/* ids of an exchange, and the id of expert 0 for rows of this stage. */
int32_t mb_serve_ids(const struct mb_plan *p, int32_t stage, int32_t *base);
/* Tables of exchange j of the group in this lane and stage. Errors: MB_NO_MEMORY. */
enum mb_status mb_serve_create(const struct mb_plan *p, const struct mb_model *m, int32_t lane, int32_t stage,
                               int32_t j, struct mb_serve **out);
/* The same for one MoE layer of a job whose one group is the world (pp, dp 1; for formulas and tests). */
enum mb_status mb_serve_create_layer(const struct mb_plan *p, int32_t moe_layer, struct mb_serve **out);
void mb_serve_destroy(struct mb_serve *v); /* NULL ok */
static inline bool mb_serve_has(const struct mb_serve *v, int32_t member, int32_t id)
{
    for (int32_t i = v->first[id]; i < v->first[id + 1]; i++) {
        if (v->member[i] == member)
            return true;
    }
    return false;
}
/* The member that serves id for rows of member home: itself, else one of its node, else any; several are
 * taken in turn by home. */
static inline int32_t mb_serve_pick(const struct mb_serve *v, int32_t id, int32_t home)
{
    const int32_t *at = v->member + v->first[id];
    int32_t n = v->first[id + 1] - v->first[id], near = 0;

    if (n == 1)
        return at[0];
    for (int32_t i = 0; i < n; i++) {
        if (at[i] == home)
            return home;
        near += v->node[at[i]] == v->node[home];
    }
    int32_t want = home % (near > 0 ? near : n);
    for (int32_t i = 0; i < n; i++) {
        if ((near == 0 || v->node[at[i]] == v->node[home]) && want-- == 0)
            return at[i];
    }
    return at[0];
}
/* mb_serve_pick of one id for all homes: by [members]. The id has members that serve it. */
void mb_serve_row(const struct mb_serve *v, int32_t id, int32_t *by);
#endif
