/* Buffers that hold what travels between ranks, sized once for the rows that a step can have and the pairs of
 * rows and experts that are planned for: the engine and the exchange reserve them, the budget counts them. A
 * buffer that turns out too small (experts hotter than twice the even share) grows. Bytes. Pure, Local. */
#ifndef MB_PLAN_ROOMS_H
#define MB_PLAN_ROOMS_H
#include "plan/plan.h"

/* What one member's exchange looks like. Nodes are what the algorithm takes for them (flat: members). */
struct mb_xchg_shape {
    int64_t members, ids, nodes, near; /* near: members of the own node */
    int64_t k, hidden, x_size, y_size; /* sizes of an element of rows and of outputs */
    bool tagged;
    int64_t own, each, rows; /* rows dispatched at most here, by another member, by all */
    int64_t others;          /* by all others */
    int64_t pairs, holders;  /* (row, expert) pairs here, planned; nodes with experts */
    int64_t eager, shm;      /* bytes behind a header; of the node's segment (0: none) */
};

struct mb_xchg_room {
    /* lists on the host */
    int64_t own_meta, out_tag, by_tag, served, send_rows, held_taken, refs, from, agent, meta, ypos, order,
        host_idx, emit_idx, emit_off, emit_item;
    /* on the device */
    int64_t recv, x, idx, cy, ci, lone, inner, gathered;
    /* pinned: own rows for the node, values for it, messages out and in (each) of both directions */
    int64_t own_rows, out_host, stage, back_stage, body, back_body;
    /* pinned, made with the exchange: room for first messages of both directions */
    int64_t firsts;
    int64_t tables, shm;         /* integers by member and id; share of the node's segment */
    int64_t bodies, back_bodies; /* how many of body and back_body there are */
};
void mb_xchg_room_of(const struct mb_xchg_shape *s, struct mb_xchg_room *out);
/* The sums: lists, device buffers, tables and the segment; pinned memory. */
int64_t mb_xchg_room_bytes(const struct mb_xchg_room *r);
int64_t mb_xchg_room_pinned(const struct mb_xchg_room *r);

/* Shares of a group (engine/share.c, segments.c, experts.c, head.c, lora.c). */
struct mb_transit_room {
    int64_t parts, inner, idx, gathered, square, q_all, state, nodes, low; /* device */
    int64_t send, recv, ints, z, terms, tags;                              /* pinned */
};

struct mb_rooms {
    struct mb_xchg_room xchg;
    struct mb_transit_room transit;
};
/* Of the rank with this index; o: as for mb_plan_budget. Errors: MB_NO_MEMORY. memory.c */
enum mb_status mb_plan_rooms(const struct mb_plan *p, const struct mb_model *m, const struct mb_topo *t,
                             const struct mb_plan_options *o, int32_t index, struct mb_rooms *out);

/* Rows of a sequence group whose attention states are in transit at once: as many as have at most so many
 * (row, segment) cells, but at least one. bytes: of one state; a limit of 0 bytes stands for the usual one.
 */
#define MB_STATE_BYTES ((int64_t)16 << 20)
static inline int64_t mb_state_cells(int64_t limit, int64_t bytes)
{
    int64_t n = (limit > 0 ? limit : MB_STATE_BYTES) / (bytes > 0 ? bytes : 1);
    return n > 0 ? n : 1;
}
#endif
