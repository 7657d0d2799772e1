/* The integers of an exchange: who gets which row, and which nodes of the trees come back. No messages, no
 * values, no memory of its own. Pure, Local.
 *
 * Words. Member: a rank of the group, by its number. Domain: what the algorithm takes for a node (cut.h).
 * Home: the member whose row it is. Agent of a row in a domain: the member of it that received the row; in
 * its own domain a row's home is its agent. Held rows: those this member is the agent of, in blocks: its own
 * rows of the round, then what each source sent. Taken rows: those (held, or published by another agent of
 * the domain) that have an expert here. Hit: a taken row and one of its experts here. Term: what a sum over a
 * held row takes from one place: a hit, or a value that another member makes. Value: what is made of
 * neighbouring terms of a held row: of an own row its sum, of others' rows each largest node of the tree that
 * is known here.
 *
 * Each row is looked at once on its way there, and each of its ids is looked up then (route_walk.c,
 * route_take.c); the way back goes through lists.
 *
 * Meta: the integers of a row as they travel: k weights (f32), k ids (u16) ascending, the tag (u16) if rows
 * have one, where copies have quotas k numbers of copies (u8) in the order of ids, padded to 4 bytes.
 *
 * Region: where a term comes from: 0 from here, 1 + q from member q of the domain, and of an own row 1 + near
 * + b from the agent in domain b. */
#ifndef MB_COMM_ROUTE_H
#define MB_COMM_ROUTE_H
#include "base/status.h"
#include "comm/cut.h"
#include "comm/owners.h"
#include "plan/rooms.h"

#define MB_ROUTE_MAX_K 128

/* Own rows of an exchange and their rounds. */
struct mb_own_rows {
    int64_t m;
    int32_t round, rounds;     /* the one under way; how many own rows need */
    int32_t *first;            /* [rounds + 1] its first row; more than rounds: none */
    int64_t r0, r1;            /* rows of the round under way */
    uint8_t *meta;             /* [m] */
    int32_t *served;           /* [m][k] in the caller's order */
    int32_t *send;             /* rows for each domain, ascending, one after another */
    int64_t *send_at;          /* [domains + 1] */
    int32_t *mark;             /* [domains] */
    int32_t *domain;           /* [regions] in which the row is that a region gives terms of */
    int32_t *turn;             /* [ids] rows with an id so far, of those that choose copies */
    uint8_t *copy;             /* [ids] and which copy a row chose */
    uint32_t *weight;          /* [ids] of a row's choices, while they are put in order */
    uint64_t *chosen;          /* [ids / 64 + 1] bits of these; none is set between rows */
    struct mb_xchg_quota *may; /* [members] pairs of each; rows and terms of the agent in each one's domain */
    int64_t *pairs, *rows, *terms; /* [members] [domains] [domains] counted in a round */
    int64_t back;                  /* terms of a domain that one reply has room for */
    int64_t most;                  /* pairs that need no counting */
};

/* Rows with experts here. */
struct mb_takes {
    int64_t n, hits, runs, rows_room, hits_room, copied_room;
    struct mb_taken *row; /* [n + 1] */
    struct mb_hit *hit;   /* [hits] */
    struct mb_run *run;   /* [runs + 1] rows of one home from one agent that follow one another */
    uint8_t *copied;      /* metas of rows that others of the domain published */
    int64_t *begin;       /* [own ids + 1] dispatched rows of each, of those sorted last */
    int64_t *begin_own;   /* those of own rows, where these were sorted first */
    int64_t first, first_row, first_run; /* hits, taken rows and runs that were */
    int64_t *fill;                       /* [own ids] */
    int32_t *order;  /* while rows arrive: of each taken row its number in its block or piece. Then runs, or
                      * rows, in an order */
    int32_t *by_tag; /* rows in an order */
    uint16_t *tag;   /* [hits] */
    int64_t *home;   /* [members + 1] scratch */
};

/* A block of held rows. */
struct mb_block {
    int32_t home;
    int64_t rows, at; /* at: number of its first held row */
    const uint8_t *meta;
    int64_t taken, taken_end;        /* those of its rows that have experts here */
    int64_t value, value_end, inner; /* values of its rows; how many are sums */
};

/* Held rows, and what arrives for them. */
struct mb_helds {
    int32_t n;              /* blocks; the first one's are own rows */
    struct mb_block *block; /* [1 + sources] */
    int32_t *source;        /* [sources] block of each, once it is here */
    int64_t rows, room;
    struct mb_term *term;
    int32_t *value; /* [values + 1] its first term; -1 - it: the value is that term, as it is. Behind the last
                     * one: the number of terms */
    uint8_t *wanted; /* [rows] whether another member of the domain has an expert of the row */
    int64_t terms, values;
    int32_t *region, *region_own; /* [members] of other members' rows (-1: none), of own ones */
    int32_t regions;
    int64_t *lone_n, *inner_n;       /* [regions] values that come */
    int64_t *lone_base, *inner_base; /* [regions] where the device keeps them */
};

/* Values to be made: lone terms, and sums of items. */
struct mb_emit {
    int64_t lone, inner, items, lone_room, inner_room, items_room;
    int32_t *idx;       /* [lone] rows of the outputs */
    int32_t *off;       /* [inner + 1] */
    int32_t *src, *pos; /* [items] */
    float *w;
    int64_t *out_lone, *out_inner; /* boundaries of what each destination gets */
};

struct mb_route {
    struct mb_cut cut;
    int32_t k, ids;
    bool tagged, chosen, full; /* chosen: rows say which copies serve them; full: more arrived than there is room for */
    int64_t meta_bytes;
    struct mb_owners owners;
    struct mb_own_rows own;
    struct mb_takes take;
    struct mb_helds held;
    struct mb_emit emit;
    int32_t *scratch; /* [scratch_room] */
    int64_t scratch_room;
};

/* Regions and limits, once the tables of r are there (xchg_room.c). Quotas of all members; back: own limit.
 */
void mb_route_init(struct mb_route *r, const struct mb_xchg_quota *quota, int64_t back);

/* --- the way there --- */
/* Own rows of an exchange in this step (with which turns of copies begin): m, experts and weights [m][k] in top-k order, tags [m] or NULL; of: rows in this
 * step of all members that share one part of the plan's quota, m or more. Works out who serves what, and the
 * rounds. MB_BUG, logged: tables that are not this exchange's, ids that are not distinct or have nobody. */
enum mb_status mb_route_rows(struct mb_route *r, const struct mb_serve *v, int64_t step, int64_t m, int64_t of,
                             const int32_t *experts, const float *weights, const uint16_t *tags);
/* Begins a round: its own rows are held, those of them with experts here taken (take.n; take.order: their
 * numbers in the round), and listed for each domain, for the own one if another member of it has an expert.
 * From `rounds` on there are none. route_walk.c */
void mb_route_round(struct mb_route *r, int32_t round);
/* An exchange without rows, for headers only. */
void mb_route_none(struct mb_route *r);
/* Rows that source j sent are held, and those with experts here taken. Returns how many these are; their
 * numbers among the rows: take.order, the last so many of take.n. -1: there is no room, or an id is none. */
int64_t mb_route_hold(struct mb_route *r, int32_t j, int32_t home, int64_t rows, const uint8_t *meta);
/* The same for rows that agent `agent` of the domain published: they are taken, and metas copied as far as
 * they are needed. */
int64_t mb_route_take(struct mb_route *r, int32_t home, int32_t agent, const uint8_t *meta, int64_t rows);
/* Dispatched rows in their order: by expert, tag, home, row. take.begin, take.tag; idx[n]: the taken row of
 * each. Returns n. route_sort.c */
int64_t mb_route_sort(struct mb_route *r, int32_t *idx);
/* Behind mb_route_round, before any other row is taken: own rows for themselves, take.begin_own. What
 * mb_route_sort then sorts are the rows behind them. */
int64_t mb_route_sort_own(struct mb_route *r, int32_t *idx);

/* --- the way back, once rows are sorted: each fills r->emit --- */
/* Where the values of others are kept: lone_base, inner_base. */
void mb_route_bases(struct mb_route *r);
/* Values for the other members of the domain, by its number: terms from here of rows they are the agents of.
 */
void mb_route_local(struct mb_route *r);
/* Values for each source's home. source: n of them. */
void mb_route_reply(struct mb_route *r, int32_t sources);
/* One sum per own row of the round. */
void mb_route_final(struct mb_route *r);

static inline const uint16_t *mb_meta_id(const struct mb_route *r, const uint8_t *meta)
{
    return (const uint16_t *)(meta + 4 * (int64_t)r->k);
}
static inline uint16_t mb_meta_tag(const struct mb_route *r, const uint8_t *meta)
{
    return r->tagged ? mb_meta_id(r, meta)[r->k] : 0;
}
static inline int64_t mb_route_meta_bytes(int32_t k, bool tagged, bool chosen)
{
    return (2 * (int64_t)(k + tagged) + (chosen ? k : 0) + 3) / 4 * 4 + 4 * (int64_t)k;
}
/* The numbers of copies, behind the ids. */
static inline const uint8_t *mb_meta_copy(const struct mb_route *r, const uint16_t *id)
{
    return (const uint8_t *)(id + r->k + r->tagged);
}
/* The member that serves an id by this copy; -1: there is none. */
static inline int32_t mb_route_chosen(const struct mb_route *r, uint16_t id, uint8_t copy)
{
    const struct mb_serve *v = r->owners.v;
    int32_t at = v->first[id] + copy;

    return at < v->first[id + 1] ? v->member[at] : -1;
}
/* Rows for a domain. */
static inline int64_t mb_route_rows_for(const struct mb_route *r, int32_t domain)
{
    return r->own.send_at[domain + 1] - r->own.send_at[domain];
}
/* Whether a member of the domain other than this one has an expert of row i of the rows of source j. */
static inline bool mb_route_wanted(const struct mb_route *r, int32_t j, int64_t i)
{
    return r->held.wanted[r->held.block[r->held.source[j]].at + i] != 0;
}
/* What the files of route share: taken rows as they come. */
/* Rows from number `from` on were taken: they are a run, or belong to the last one. */
static inline void mb_route_end_run(struct mb_takes *t, int32_t home, int32_t agent, int64_t from)
{
    struct mb_run *last = t->run + t->runs;

    if (t->n == from)
        return;
    t->row[t->n].hit = t->hits;
    if (t->runs == 0 || last[-1].home != home || last[-1].agent != agent) {
        *last = (struct mb_run){home, agent, (int32_t)from};
        t->runs++;
    }
    t->run[t->runs].first = (int32_t)t->n;
}
/* Rows of a block that this member alone looks at: those with experts here are taken, no terms listed. False:
 * an id is none, or there is no room (full). */
bool mb_route_take_rows(struct mb_route *r, int32_t home, int32_t agent, const uint8_t *meta, int64_t rows);
/* Rows of another home in a domain of several, their terms and values. False: an id is none. */
bool mb_route_walk(struct mb_route *r, struct mb_block *b);
/* Runs of taken rows from number `from` on ordered by home, or by agent, of `keys`: take.order,
 * take.home[keys + 1]. */
void mb_route_bucket(struct mb_route *r, int32_t keys, bool by_agent, int64_t from);
#endif
