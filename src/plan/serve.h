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

    /* Where copies have quotas (mb_placement), else NULL. Each member that attends has MB_SERVE_TURNS turns
     * of every id that its rows may carry; a copy serves so many of all members' turns as its quota says. */
    int32_t *part;  /* [first[ids]] turns that each copy serves */
    int32_t *stage; /* [members] whose ids a member's rows carry, as far as it attends; -1: none */
    int32_t pad;    /* ids of a stage */
    int32_t *turns; /* [ids] once settled: where the own turns of an id lie in turn, -1: it has one copy */
    uint8_t *turn;  /* number of the copy that serves each of the own turns */
    int32_t home;   /* the own member */
};
#define MB_SERVE_TURNS 64 /* a power of two */
#define MB_SERVE_COPIES 255
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
/* So many turns of a member's rows with an id go to one of its copies. */
struct mb_serve_share {
    int32_t home, copy, turns;
};
/* All of an id's: own turns first as far as the own copy's part goes, then the node's, then whoever is left,
 * in the order of members and copies, MB_SERVE_SHARE turns of each at a time. out: room for MB_SERVE_SHARES;
 * rest [members], left [copies]: scratch. Returns how many. The tables have parts. */
#define MB_SERVE_SHARE 8
#define MB_SERVE_SHARES(members, copies)                                                                     \
    ((members) * (2 * MB_SERVE_TURNS / MB_SERVE_SHARE) + 3 * ((members) + (copies)))
int32_t mb_serve_shares(const struct mb_serve *v, int32_t id, int32_t *rest, int32_t *left,
                        struct mb_serve_share *out);
/* Works out the turns of this member, where copies have quotas; else nothing. Errors: MB_NO_MEMORY. */
enum mb_status mb_serve_settle(struct mb_serve *v, int32_t home);
/* Which of its turns the n-th row of a member takes: turns go round, those of different copies between one
 * another (near the golden section), and each member begins elsewhere. */
static inline int32_t mb_serve_turn_at(int32_t home, int32_t n)
{
    return (int32_t)(((uint32_t)n + (uint32_t)home) * 39 % MB_SERVE_TURNS);
}
/* Number of the copy that serves the n-th row with this id of the settled member. */
static inline int32_t mb_serve_turn(const struct mb_serve *v, int32_t id, int32_t n)
{
    if (v->turns[id] < 0)
        return 0;
    return v->turn[v->turns[id] + mb_serve_turn_at(v->home, n)];
}
/* mb_serve_pick of one id for all homes: by [members]. The id has members that serve it. */
void mb_serve_row(const struct mb_serve *v, int32_t id, int32_t *by);
#endif
