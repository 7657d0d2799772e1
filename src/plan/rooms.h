/* Buffers of a step. Each is written down once: its row in the table of rooms.c, and its size as a function of
 * what the plan knows. The budget adds them up, engine and exchange allocate, use and free them by the same
 * table; none grows while a step runs. Bytes. Pure, Local.
 *
 * Memory is planned for the rows of a full step and about twice the even share of experts. Hotter routing
 * goes through in rounds: a member sends to one member, and to one node, no more (row, expert) pairs at a
 * time than there is room for. Rounds cut the rows of a member, each with all its choices, so the nodes of
 * the trees stay whole. */
#ifndef MB_PLAN_ROOMS_H
#define MB_PLAN_ROOMS_H
#include "plan/plan.h"

/* What one member's exchange looks like. Nodes are what the algorithm takes for them (flat: members). */
struct mb_xchg_shape {
    int64_t members, ids, nodes, near; /* near: members of the own node */
    int64_t widest;                    /* members of the largest node */
    int64_t together;                  /* members on the own machine */
    int64_t k, hidden, x_size, y_size; /* sizes of an element of rows and of outputs */
    bool tagged, chosen; /* rows carry a tag; which copies serve them */
    int64_t own, each, rows; /* rows dispatched at most here, by another member, by all */
    int64_t others;          /* by all others */
    int64_t pairs;           /* (row, expert) pairs here at a time */
    int64_t pairs_each;      /* of these, what a member with a full step's rows may send at a time */
    int64_t holders;         /* nodes with experts */
    int64_t eager, shm;      /* bytes behind a header; of the machine's segment (0: none) */
};

/* How much one member may send to another in a round. Of a member whose rows are a part of those of a
 * sequence group, the same part of it. And always one row: k pairs. */
struct mb_xchg_quota {
    int64_t pairs; /* (row, expert) pairs that the other one computes */
    int64_t rows;  /* rows for its node, of which it is the agent */
    int64_t terms; /* and their pairs there */
};

enum mb_xbuf {
    /* lists on the host */
    MB_XB_META,   /* own rows: ids ascending, tag, weights */
    MB_XB_SERVED, /* who serves each choice */
    MB_XB_ROUND,  /* first own row of each round */
    MB_XB_SEND,   /* own rows for each node */
    MB_XB_OWNER,  /* the member that serves an id, for rows of each home */
    MB_XB_TAKEN,  /* rows with experts here */
    MB_XB_RUN,    /* which of them are neighbours */
    MB_XB_COPIED, /* integers of those that others of the node published */
    MB_XB_HIT,    /* (taken row, expert) pairs */
    MB_XB_ORDER,  /* an order of rows */
    MB_XB_BY_TAG, /* and by their tags */
    MB_XB_TAG,    /* tags of dispatched rows */
    MB_XB_TERM,   /* where the terms of held rows come from */
    MB_XB_VALUE,  /* which of them are added here */
    MB_XB_WANTED, /* which held rows others of the node need */
    MB_XB_LONE,   /* values to be made: rows that travel as they are, */
    MB_XB_OFF,    /* sums of several, */
    MB_XB_SRC,    /* their terms, */
    MB_XB_POS,    /* positions in the tree */
    MB_XB_W,      /* and weights */
    MB_XB_UPLOAD, /* all of these together, for the device */
    MB_XB_TABLES, /* integers by member and id */
    /* on the device */
    MB_XB_RECV,     /* taken rows as they arrived */
    MB_XB_X,        /* dispatched rows; of a member that failed, its outputs */
    MB_XB_IDX,      /* index lists */
    MB_XB_Y,        /* outputs from here and from others */
    MB_XB_INNER,    /* inner tree nodes from others */
    MB_XB_OUT,      /* lone terms for others */
    MB_XB_SUMS,     /* inner tree nodes for others */
    MB_XB_GATHERED, /* own rows in the order of their nodes */
    /* pinned */
    MB_XB_OWN_ROWS, /* own rows for the node */
    MB_XB_OUT_HOST, /* values for the node */
    MB_XB_STAGE,    /* messages out, of both directions */
    MB_XB_BACK_STAGE,
    MB_XB_BODY, /* messages in: what does not go with its header */
    MB_XB_BACK_BODY,
    MB_XB_FIRST, /* and headers with what goes with them */
    MB_XB_BACK_FIRST,
    MB_XB_COUNT
};

/* Those of the engine go on where the exchange's end. What they hold is their row's name in the table. */
enum mb_sbuf {
    MB_SB_X = MB_XB_COUNT,
    MB_SB_H,
    MB_SB_RAW,
    MB_SB_T,
    MB_SB_ROUTED,
    MB_SB_H_PART,
    MB_SB_QKV,
    MB_SB_Q,
    MB_SB_ATTN,
    MB_SB_ATTN_F,
    MB_SB_DELTA,
    MB_SB_GU,
    MB_SB_ACT,
    MB_SB_QA,
    MB_SB_QA_H,
    MB_SB_QLAT,
    MB_SB_OLAT,
    MB_SB_KVA,
    MB_SB_HEAD_F,
    MB_SB_INDEX_Q,
    MB_SB_INDEX_QR,
    MB_SB_INDEX_K,
    MB_SB_INDEX_W,
    MB_SB_CHOSEN,
    MB_SB_Z,
    MB_SB_EXPERTS,
    MB_SB_WEIGHTS,
    MB_SB_BAD,
    MB_SB_SGATE,
    MB_SB_INSIDE,
    MB_SB_INTS,
    MB_SB_PAGE_TABLE,
    MB_SB_MTP_IN,
    MB_SB_MTP_X,
    MB_SB_LORA_X,
    MB_SB_LORA_Y,
    MB_SB_LORA_Z,
    MB_SB_LORA_H,
    MB_SB_E_GU,
    MB_SB_E_ACT,
    MB_SB_E_Y,
    MB_SB_E_YF,
    MB_SB_HX,
    MB_SB_HN,
    MB_SB_HN2,
    MB_SB_ROW_AT,
    MB_SB_LOGITS_PART,
    MB_SB_LOGITS,
    MB_SB_STATS,
    MB_SB_BEST,
    MB_SB_LBAD,
    MB_SB_DRAWN,
    MB_SB_TARGET,
    MB_SB_LP,
    MB_SB_TOP_IDS,
    MB_SB_TOP_LP,
    MB_SB_SAMPLING,
    MB_SB_ADJUST,
    MB_SB_MASKS,
    MB_SB_COS,
    MB_SB_SIN,
    MB_SB_QUERY,
    MB_SB_CONV_STATE,
    MB_SB_DELTA_STATE,
    MB_SB_H_EXPERTS,
    MB_SB_H_WEIGHTS,
    MB_SB_H_SERVED,
    MB_SB_H_IDS,
    MB_SB_H_ONES,
    MB_SB_H_BAD,
    MB_SB_H_HIDDEN,
    MB_SB_ALL_EXPERTS,
    MB_SB_ALL_WEIGHTS,
    MB_SB_ALL_SERVED,
    MB_SB_ALL_HIDDEN,
    MB_SB_FOUND_IDS,
    MB_SB_FOUND_LP,
    MB_SB_H_ROWS,
    MB_SB_H_SMALL,
    MB_SB_H_INTS,
    MB_SB_H_FLOATS,
    MB_SB_H_WHERE,
    MB_SB_H_SAMPLING,
    MB_SB_GROUPS,
    MB_SB_MTP_IDS,
    MB_SB_MTP_TAG,
    MB_SB_PARTS,
    MB_SB_INNER,
    MB_SB_IDX,
    MB_SB_GATHERED,
    MB_SB_SQUARE,
    MB_SB_TURNED,
    MB_SB_INDEX_Q_ALL,
    MB_SB_INDEX_W_ALL,
    MB_SB_CHOOSE,
    MB_SB_Q_ALL,
    MB_SB_STATE,
    MB_SB_NODES,
    MB_SB_LOW,
    MB_SB_SEND,
    MB_SB_RECV,
    MB_SB_LISTS,
    MB_SB_H_CHOSEN,
    MB_SB_SLICE,
    MB_SB_TERMS,
    MB_SB_TAGS,
    MB_SB_PIECE_OUT,
    MB_SB_PIECE_IN,
    MB_ROOM_COUNT
};

enum mb_room_kind { MB_ROOM_HOST, MB_ROOM_DEVICE, MB_ROOM_PINNED };
struct mb_room_row {
    const char *name;
    enum mb_room_kind kind;
    enum mb_mem_cat cat; /* in which it is accounted */
};
extern const struct mb_room_row mb_room_rows[MB_ROOM_COUNT];

struct mb_xchg_room {
    int64_t bytes[MB_XB_COUNT]; /* 0: not needed */
    int64_t sources;            /* members of other nodes that send here */
    int64_t body, back_body;    /* bytes of one, of BODY and BACK_BODY */
    int64_t held;               /* rows that this member is the agent of, its own included */
    int64_t back;               /* pairs in a node for which there is room for one reply */
    int64_t shm;                /* share of the machine's segment */
    struct mb_xchg_quota quota; /* for this member as the receiver */
};
void mb_xchg_room_of(const struct mb_xchg_shape *s, struct mb_xchg_room *out);
/* Memory that the ranks of a machine share where the algorithm takes each of them for a node: a ring for each
 * of the two directions of an exchange and each ordered pair. Bytes of one within a segment of shm bytes for n
 * ranks; 0: that is too little, or there is nobody to share it with. most: bytes of the longest message. */
#define MB_RING_CTL 128
#define MB_RING_LEAST 4096
#define MB_RING_MOST ((int64_t)4 << 20)
int64_t mb_xchg_ring(int64_t shm, int64_t n, int64_t most);
int64_t mb_xchg_rings(int64_t n, int64_t ring); /* bytes of the segment; 0 if ring is */
/* The longest message of an exchange: rows of a step with k choices each, whatever the routing. */
int64_t mb_xchg_message(int64_t rows, int64_t k, int64_t hidden, int64_t row);

/* Integers of an exchange, whose sizes the table above needs. */
struct mb_taken {
    const uint8_t *meta;
    int64_t hit; /* the first of its hits */
};
struct mb_run {
    int32_t home, agent; /* of taken rows that follow one another; agent: numbered in the node */
    int32_t first;       /* taken row */
};
struct mb_hit {
    int32_t row;   /* dispatched row; until rows are sorted, the expert's number here */
    int32_t taken; /* the taken row */
    int32_t place; /* of the id among the row's */
};
struct mb_term {
    int32_t src; /* from here: a hit; else the number among the values of its kind from the region; -1 - number: an
                  * inner node */
    uint16_t region, pos; /* pos: the first id that it covers */
    float w;
};

/* All buffers of a rank. */
struct mb_rooms {
    struct mb_xchg_shape shape;
    int64_t shm;                  /* share of the machine's segment */
    int64_t bytes[MB_ROOM_COUNT]; /* 0: not needed */
};
/* Of the rank with this index; o: as for mb_plan_budget. Errors: MB_NO_MEMORY. memory.c */
enum mb_status mb_plan_rooms(const struct mb_plan *p, const struct mb_model *m, const struct mb_topo *t,
                             const struct mb_plan_options *o, int32_t index, struct mb_rooms *out);
/* The sum of those of a kind and category. */
int64_t mb_rooms_sum(const struct mb_rooms *r, enum mb_room_kind kind, enum mb_mem_cat cat);

/* Sizes of structs of other rooms, which these hold to them. */
#define MB_LORA_TERM_BYTES 32
/* Rows of a sequence whose routing goes to the results at once. */
#define MB_SAVE_ROWS 64

/* Rows of a sequence group whose attention states are in transit at once: as many as have at most so many
 * (row, segment) cells, but at least one. bytes: of one state; a limit of 0 bytes stands for the usual one.
 */
#define MB_STATE_BYTES ((int64_t)16 << 20)
static inline int64_t mb_state_cells(int64_t limit, int64_t bytes)
{
    int64_t n = (limit > 0 ? limit : MB_STATE_BYTES) / (bytes > 0 ? bytes : 1);
    return n > 0 ? n : 1;
}
/* The lists of keys of one row from all parts of a sequence group: positions and scores. */
static inline int64_t mb_choose_row_bytes(const struct mb_model *m, const struct mb_plan *p)
{
    int64_t keys = (int64_t)m->indexer.topk * p->layout.sp;
    return 8 * (keys < p->max_len ? keys : p->max_len);
}
#endif
