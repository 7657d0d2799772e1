/* The two grids of a job: which rank does what. Pure integers, the same on every rank; a rank's own place
 * costs O(1), the members of its groups O(group). Local.
 *
 * A job is dp independent lanes of pp pipeline stages. A stage's ranks are seen as two grids: attention tp x
 * sp x adp (heads x parts of a sequence x independent batches) and experts ep x etp x edp (shards x slices of
 * one expert x copies). Ranks are named by their index in topology order: index = (lane * pp + stage) *
 * stage_size + s attention  s = (a * sp + q) * tp + t            s < attn ranks of the stage experts    n =
 * (c * ep + e) * etp + x           n: number among the expert ranks of the exchange group The exchange group
 * of a rank is its stage, or its lane under lane scope ("pattern 2"); a member's number in it is its index
 * less the group's first. Disaggregated: the first attn ranks of a stage attend, the next expert ranks hold
 * experts, none does both. */
#ifndef MB_PLAN_GRID_H
#define MB_PLAN_GRID_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

struct mb_layout {
    int32_t world; /* dp * pp * stage_size */
    int32_t dp, pp;
    int32_t tp, sp, adp;
    int32_t ep, etp, edp; /* of the exchange group */
    bool lane_scope;      /* experts of all stages lie on all ranks of the lane */
    int32_t attn, expert; /* --disaggregate A:X, ranks of each kind per stage; 0, 0: every rank does both */
};
/* An order of layouts, by their sizes; 0: the same. (What lies between the members says nothing.) */
static inline int mb_layout_compare(const struct mb_layout *a, const struct mb_layout *b)
{
    const int32_t x[] = {a->world, a->dp,  a->pp,  a->tp,         a->sp,   a->adp,
                         a->ep,    a->etp, a->edp, a->lane_scope, a->attn, a->expert},
                  y[] = {b->world, b->dp,  b->pp,  b->tp,         b->sp,   b->adp,
                         b->ep,    b->etp, b->edp, b->lane_scope, b->attn, b->expert};

    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++) {
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    }
    return 0;
}

struct mb_layout_options { /* 0: not given */
    int32_t dp, pp, tp, sp, adp, ep, etp, edp;
    int32_t experts_per_gpu; /* ep = ceil(experts / n) */
    int32_t experts;         /* of the model; 0: dense */
    bool lane_scope;
    int32_t attn, expert;
};

#define MB_MAX_PARTS 1024 /* ranks of a sequence group, at most */
#define MB_LAYOUT_TEXT 640

/* Fills in what was not given (design 5: adp = S/(tp sp), etp = 1, ep = S/etp, edp = 1; a given ep or edp
 * determines the other; all others 1). The products must match exactly, else MB_LAYOUT, not logged: why gets
 * the reason, naming both values. Local. */
enum mb_status mb_layout_try(const struct mb_layout_options *o, int32_t world, struct mb_layout *out,
                             char why[MB_LAYOUT_TEXT]);
/* The options that give this layout, all of them; and as a command line, without those that are at their
 * default. */
struct mb_layout_options mb_layout_options_of(const struct mb_layout *l);
void mb_layout_text(const struct mb_layout *l, char out[MB_LAYOUT_TEXT]);
/* Writes a reason into why (MB_LAYOUT_TEXT bytes) and returns MB_LAYOUT: how a layout is refused while others
 * are still tried. */
enum mb_status mb_layout_no(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline int32_t mb_layout_stage_size(const struct mb_layout *l)
{
    return l->world / (l->dp * l->pp);
}
/* Ranks of a stage that attend, and that hold experts. */
static inline int32_t mb_layout_attn(const struct mb_layout *l)
{
    return l->attn > 0 ? l->attn : mb_layout_stage_size(l);
}
static inline int32_t mb_layout_expert(const struct mb_layout *l)
{
    return l->attn > 0 ? l->expert : mb_layout_stage_size(l);
}
/* Members of an exchange group. */
static inline int32_t mb_layout_group(const struct mb_layout *l)
{
    return mb_layout_stage_size(l) * (l->lane_scope ? l->pp : 1);
}

struct mb_place {
    int32_t index; /* in topology order */
    int32_t lane, stage, s;
    int32_t a, q, t; /* attention grid; a < 0: this rank does not attend */
    int32_t group;   /* exchange groups are numbered: lane * pp + stage, or lane */
    int32_t member;  /* number in the exchange group */
    int32_t c, e, x; /* expert grid; e < 0: holds no experts by role */
};
void mb_layout_place(const struct mb_layout *l, int32_t index, struct mb_place *out);
/* The index of a rank from its lane, stage and attention coordinates. */
int32_t mb_layout_index(const struct mb_layout *l, int32_t lane, int32_t stage, int32_t a, int32_t q,
                        int32_t t);
/* The member of an exchange group at expert coordinates (c, e, x). */
int32_t mb_layout_member(const struct mb_layout *l, int32_t c, int32_t e, int32_t x);
/* Leads its attention group: schedules, reads requests, writes the journal. */
static inline bool mb_place_leads(const struct mb_place *p)
{
    return p->a >= 0 && p->stage == 0 && p->q == 0 && p->t == 0;
}
static inline int32_t mb_layout_leaders(const struct mb_layout *l)
{
    return l->dp * l->adp;
}

/* The part of sequence parallelism that keeps KV segment i: z(i mod 2 sp), z = 0 .. sp-1, sp-1 .. 0 (balances
 * causal work). */
static inline int32_t mb_layout_part(int32_t sp, int64_t segment)
{
    int32_t i = (int32_t)(segment % (2 * (int64_t)sp));
    return i < sp ? i : 2 * sp - 1 - i;
}
/* The most of n segments that one part keeps. */
static inline int64_t mb_layout_part_most(int32_t sp, int64_t n)
{
    int64_t turns = n / (2 * (int64_t)sp), rest = n % (2 * (int64_t)sp);
    return 2 * turns + (rest > sp ? 2 : rest > 0 ? 1 : 0);
}
/* Share r of t of n things: [n r / t, n (r + 1) / t). */
static inline int64_t mb_share(int64_t n, int32_t r, int32_t t)
{
    return n * r / t;
}
#endif
