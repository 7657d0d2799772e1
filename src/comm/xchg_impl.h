/* What the files of the exchange share. Not for other rooms.
 *
 * Words. Member: a rank of the group, by its index in topology order. Node: what the algorithm takes for one (flat: every
 * member). Agent of a row on a node: the member of that node that received it; on its own node a row's home is its agent.
 * Held rows: those this member is the agent of, in blocks: block 0 its own rows, block 1 + j what source j sent.
 * Taken rows: those (held, or published by another agent of the node) that have an expert here.
 *
 * An exchange under way cannot be left: the others wait for it. So what fails in the middle (memory, device) ends the job
 * by mb_comm_end, after on_lost, with the exit code of the status; functions here return no such statuses. */
#ifndef MB_COMM_XCHG_IMPL_H
#define MB_COMM_XCHG_IMPL_H
#include <mpi.h>
#include <string.h>
#include "comm/impl.h"
#include "comm/shm.h"
#include "comm/xchg.h"

#define XCHG_VERSION 1
#define XCHG_MAX_K 128
enum xop { XOP_DISPATCH = 1, XOP_COMBINE, XOP_STEP };

/* The header on the wire and in shared memory. */
struct xhead {
    uint32_t version;
    int32_t op;
    int64_t step;
    int32_t layer;
    uint32_t status, flags;
    int32_t from;   /* index of the member whose words these are */
    int64_t rows;   /* of a dispatch: rows in this message; of a combine: values */
    uint64_t bytes; /* behind this header, or in the second message */
    int64_t total;  /* rows the member dispatches to all (mb_xchg_head.rows) */
    int64_t here;   /* in shared memory: rows or values of this piece */
};
_Static_assert(sizeof(struct xhead) == MB_XCHG_HEADER, "the header has 64 bytes");

/* Memory that grows and stays. */
struct vec {
    void *p;
    uint64_t bytes;
};
struct hostbuf { /* pinned */
    uint8_t *p;
    uint64_t bytes;
};
struct devbuf {
    struct mb_buf *buf;
    uint64_t bytes;
};

/* Messages of one direction between nodes. */
struct inmsg {
    int32_t from;     /* member */
    bool ready, taken;
    struct xhead head;
    uint8_t *first;   /* header and up to `eager` bytes */
    struct hostbuf body;
    const uint8_t *rows; /* once ready */
};
struct outmsg {
    int32_t to;
    uint64_t at; /* of the header in stage; the rows follow it */
};
struct net {
    int32_t n_in, n_out;
    struct inmsg *in;
    struct outmsg *out;
    uint8_t *firsts;
    struct hostbuf stage;
    MPI_Request *rq; /* [n_in first messages | n_in bodies | n_out first | n_out bodies] */
    int *done;       /* [2 n_in + 2 n_out] */
    int32_t left;    /* requests under way */
};

/* The node's shared segment: per member two counters and a slot. A member fills its slot, raises `filled`; each other
 * member reads it and raises `reads`; when all have read, the slot may be filled again. Counters only ever grow. */
struct node_ctl {
    _Atomic uint64_t filled;
    uint8_t pad0[56];
    _Atomic uint64_t reads;
    uint8_t pad1[56];
};
struct round_head {
    int32_t op, layer;
    int64_t step;
    int32_t pieces, last;
    uint64_t bytes; /* of the pieces */
    uint32_t status, pad0;
    uint64_t pad1[3];
};
_Static_assert(sizeof(struct round_head) == 64, "pieces begin aligned");
struct xnode {
    int32_t n, me; /* members of the node; own number among them */
    struct mb_shm shm;
    uint64_t slot;       /* bytes of one slot */
    uint64_t filled;     /* own rounds so far */
    uint64_t *consumed;  /* [n] rounds read of each member */
    uint8_t *finished;   /* [n] its last round of this operation was read */
    bool published;      /* own last round of this operation is out */
};

/* Rows with experts here, in order of arrival: own ones first. Row t of the device buffer recv. */
struct taken {
    int64_t n;
    struct vec from;  /* int32 [n] home member */
    struct vec agent; /* int32 [n] agent, numbered in the node */
    struct vec meta;  /* [n][meta_bytes] */
    struct vec ypos;  /* int32 [n][k] dispatched row of each of its experts here, else -1 */
};

/* Where the value that covers place i of a held row comes from. */
struct ref {
    int32_t region; /* -1: nowhere; 0: own y; 1 + q: member q of the node; 1 + node.n + b: the agent in node b */
    int32_t inner;  /* an inner tree node (f32), else a lone term (y_type) */
    int32_t seq;    /* number among the region's values of this kind */
};

/* Values to be made on the device: lone terms gathered from y, inner nodes folded. */
struct emit {
    int64_t lone, inner, items;
    struct vec idx;            /* int32 [lone] */
    struct vec off;            /* int32 [inner + 1] */
    struct vec src, pos, w;    /* int32, int32, f32 [items] */
};

struct mb_xchg {
    struct mb_comm *c;
    struct mb_xchg_options o;
    int32_t n, me; /* members; own number */
    int32_t *machine; /* [n] node of the machine of each member */
    enum mb_link *link; /* [n] */
    enum mb_alltoall algorithm;
    int32_t n_nodes, my_node;
    int32_t *node_first; /* [n_nodes + 1] members of each node */
    int32_t *node_of;    /* [n] */
    uint64_t eager;      /* bytes behind a header in the first message, at most */
    int64_t meta_bytes, x_bytes, row_bytes, y_bytes;
    enum mb_status broken; /* MB_PEER or MB_BUG: after an operation that did not end well */
    enum mb_status fail;   /* of this member, since the last dispatch */
    enum mb_status told;   /* the worst of these among the members, as far as known here */
    enum mb_status failed; /* of the operation under way */
    struct xhead mine;   /* of the operation under way */
    struct mb_xchg_head *heads; /* [n] */
    struct net disp, comb;
    struct xnode node;
    struct mb_xchg_counts counts;

    /* this layer's experts */
    const struct mb_serve *serve; /* of the operation under way; borrowed */
    int32_t *slot;        /* [experts] number among the own ones, else -1 */
    int32_t *own_expert;  /* [experts] own ids ascending */
    int64_t *begin;       /* [experts + 1] */
    int64_t *fill;        /* [experts] */
    int32_t n_own;

    /* own rows */
    int64_t m;
    struct vec own_meta;  /* [m][meta_bytes] ascending ids, then the tag if rows have one */
    const uint16_t *tags; /* of the next dispatch; borrowed */
    struct vec out_tag;   /* [rows] */
    struct vec by_tag;    /* scratch of a sort */
    struct vec served;    /* int32 [m][k] in the caller's order */
    struct vec send_rows; /* int32: rows for each node, ascending, node by node */
    int64_t *send_off;    /* [n_nodes + 1] */
    int32_t *mark;        /* [n_nodes] */
    struct hostbuf own_rows; /* rows for the own node's others: packed metas, then packed rows */

    /* held rows: block b's row r is held row block_at[b] + r; remote blocks are numbered as they arrive */
    int64_t *block_at;     /* [1 + n_src] */
    int64_t n_held;
    struct vec held_taken; /* int32 [held] taken row or -1 */
    struct vec refs;      /* struct ref [held][k] */
    int32_t *pub_order;   /* remote blocks in the order of arrival, in which they are published */
    int32_t n_pub;
    int32_t pub_place;    /* being published: 0 the own block, else pub_order[pub_place - 1] */
    int64_t pub_row;      /* rows of it that were looked at */
    bool pub_head;        /* its header is out */

    struct taken taken;
    int64_t rows;         /* dispatched rows here */
    struct devbuf recv, x, idx, cy, ci, lone, inner, gathered, no_y;
    struct mb_view y_all;                  /* own y, behind it the lone terms that arrive */
    struct vec order, host_idx;

    /* combine */
    int32_t n_regions;
    int64_t *lone_base, *inner_base; /* [n_regions] in cy and ci; before that counts */
    int64_t *lone_n, *inner_n;       /* [n_regions] expected */
    int64_t *lone_got, *inner_got;   /* [n_regions] arrived from members of the node */
    struct emit emit;
    int64_t *out_lone, *out_inner;   /* [n + 1] boundaries of what each destination gets */
    int64_t *first;                  /* [n + 1] scratch of mb_rows_bucket */
    bool dispatched;                 /* a combine is due */
    struct hostbuf out_host;         /* values for the node: lone ones, then inner ones */
    int32_t pub_dest, pub_kind;
    int64_t pub_at;
    struct mb_view y;
};

/* xchg.c */
void *mb_xchg_room(struct mb_xchg *x, struct vec *v, uint64_t n, uint64_t size); /* at least n * size bytes; keeps contents */
uint8_t *mb_xchg_host(struct mb_xchg *x, struct hostbuf *h, uint64_t bytes);      /* contents are lost */
struct mb_buf *mb_xchg_dev(struct mb_xchg *x, struct devbuf *d, uint64_t bytes, uint64_t keep); /* keeps `keep` bytes */
/* Buffers of these sizes (plan/rooms.h); those that turn out too small grow. xchg_room.c */
void mb_xchg_reserve(struct mb_xchg *x, const struct mb_xchg_room *r);
/* A device operation's status inside an exchange: anything but MB_OK ends the job. */
void mb_xchg_must(struct mb_xchg *x, enum mb_status st);
/* Starts an operation: header, heads, presence. */
void mb_xchg_begin(struct mb_xchg *x, enum xop op, const struct mb_xchg_head *mine, int64_t rows);
/* Compares a header with the own one. Step or layer that differ set x->failed and the operation goes on; false if the
 * operation itself differs: it cannot go on. x->failed is MB_PEER if one of the two gave up and says so, else MB_BUG. */
bool mb_xchg_check(struct mb_xchg *x, const struct xhead *h);
/* MB_OK, or why no operation is possible any more. */
enum mb_status mb_xchg_usable(const struct mb_xchg *x, const char *what);
void mb_xchg_told(struct mb_xchg *x, uint32_t status);
enum mb_status mb_xchg_wait(struct mb_xchg *x, bool (*ready)(void *));
int32_t mb_xchg_agent(const struct mb_xchg *x, int32_t node); /* who talks to this member in that node */

/* xchg_net.c */
bool mb_net_init(struct mb_xchg *x, struct net *net, const int32_t *from, int32_t n_in, const int32_t *to, int32_t n_out);
void mb_net_fini(struct mb_xchg *x, struct net *net);
void mb_net_post(struct mb_xchg *x, struct net *net);
/* Sends message i of stage: its header and h.bytes behind it. */
void mb_net_send(struct mb_xchg *x, struct net *net, int32_t i, int64_t *bytes, int64_t *messages);
/* Tests everything under way; false: x->failed is set and the operation cannot go on. */
bool mb_net_poll(struct mb_xchg *x, struct net *net);

/* xchg_node.c */
/* MB_NO_SPACE or MB_IO, not logged, with the reason in why: the node cannot have its segment. */
enum mb_status mb_node_init(struct mb_xchg *x, char why[MB_SHM_WHY]);
void mb_node_fini(struct mb_xchg *x);
void mb_node_begin(struct mb_xchg *x);
uint8_t *mb_node_slot(const struct mb_xchg *x, int32_t q); /* behind the round header */
uint64_t mb_node_room(const struct mb_xchg *x);
bool mb_node_free(const struct mb_xchg *x); /* the own slot has been read by all */
void mb_node_publish(struct mb_xchg *x, int32_t pieces, uint64_t bytes, bool last);
/* Reads the next round of every member that has one: calls piece(x, q, head, payload) and expects the payload's size. False:
 * the operation cannot go on. */
typedef uint64_t (*mb_piece_fn)(struct mb_xchg *x, int32_t q, const struct xhead *h, const uint8_t *data);
bool mb_node_read(struct mb_xchg *x, mb_piece_fn piece);
bool mb_node_done(const struct mb_xchg *x);

/* xchg_rows.c: integers of a dispatch */
/* Who owns what in this layer. MB_BUG if the placement does not fit the exchange. */
enum mb_status mb_rows_owners(struct mb_xchg *x, const struct mb_serve *v);
/* Own rows: metas with ascending ids, served, the rows that go to each node. MB_BUG for ids that are not distinct. */
enum mb_status mb_rows_route(struct mb_xchg *x, int64_t m, const int32_t *experts, const float *weights);
/* Takes in those of `rows` rows that have an expert here; held >= 0: they are held rows from there on. */
void mb_rows_take(struct mb_xchg *x, int32_t from, int32_t agent, const uint8_t *meta, const uint8_t *data, int64_t rows,
                  int64_t held);
void mb_rows_take_own(struct mb_xchg *x, struct mb_view in);
/* The taken rows by (expert, home, row): begin, ypos, x. */
void mb_rows_sort(struct mb_xchg *x, struct mb_view in);
/* Device index list [n, 1] of n integers. */
struct mb_view mb_rows_upload(struct mb_xchg *x, const int32_t *idx, int64_t n);
/* Places 0 .. n-1 ordered by key (0 .. keys-1), equal ones as they are: x->order. first: room for keys + 1 boundaries. */
int32_t *mb_rows_bucket(struct mb_xchg *x, const int32_t *key, int64_t n, int32_t keys, int64_t *first);

/* xchg_values.c: integers of a combine, and the values made from them */
/* Where each held row's terms come from; sizes and places of all that will arrive. */
void mb_values_refs(struct mb_xchg *x);
/* The values for the other members of the node (own experts' terms of rows they are the agents of): out_lone, out_inner by
 * member number. */
void mb_values_local(struct mb_xchg *x);
/* The values for the sources of held rows: out_lone, out_inner by source. */
void mb_values_reply(struct mb_xchg *x);
/* One sum per own row. */
void mb_values_final(struct mb_xchg *x);
/* Runs x->emit: lone terms into x->lone, inner nodes into out (MB_NO_VIEW: into x->inner). */
void mb_values_make(struct mb_xchg *x, struct mb_view out);

static inline const float *mb_meta_w(const uint8_t *meta)
{
    return (const float *)meta;
}
static inline const uint16_t *mb_meta_id(const struct mb_xchg *x, const uint8_t *meta)
{
    return (const uint16_t *)(meta + 4 * (int64_t)x->o.k);
}
static inline uint64_t mb_up64(uint64_t n)
{
    return (n + 63) / 64 * 64;
}
/* Whether rows of member home find this expert here. */
static inline bool mb_xchg_here(const struct mb_xchg *x, int32_t home, int32_t expert)
{
    return x->slot[expert] >= 0 && mb_serve_pick(x->serve, expert, home) == x->me;
}
/* World rank of a member, for messages. */
static inline int mb_xchg_rank(const struct mb_xchg *x, int32_t member)
{
    return mb_comm_world_rank(x->c, member);
}
/* Home of the rows of held block b. */
static inline int32_t mb_block_home(const struct mb_xchg *x, int32_t b)
{
    return b == 0 ? x->me : x->disp.in[b - 1].from;
}
/* 0 where rows carry none. */
static inline uint16_t mb_meta_tag(const struct mb_xchg *x, const uint8_t *meta)
{
    return x->o.tagged ? mb_meta_id(x, meta)[x->o.k] : 0;
}
/* Rows of held block b, and row r's meta. */
static inline int64_t mb_block_rows(const struct mb_xchg *x, int32_t b)
{
    return b == 0 ? x->m : x->disp.in[b - 1].head.rows;
}
static inline const uint8_t *mb_held_meta(const struct mb_xchg *x, int32_t b, int64_t r)
{
    const uint8_t *base = b == 0 ? x->own_meta.p : x->disp.in[b - 1].rows;
    return base + r * x->meta_bytes;
}
#endif
