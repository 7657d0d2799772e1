/* The table of buffers, and how large those of the exchange are. */
#include "plan/rooms.h"

#include "plan/budget.h"

#define MEMBER_BYTES 328                /* integers kept for each member */
#define ID_BYTES 48                     /* for each id */
#define RING_BYTES 640                  /* for each member, where some share rings */
#define PEER_BYTES 400                  /* and for each peer of both directions */
#define MESSAGE_MOST ((int64_t)1 << 30) /* bytes of a message */

const struct mb_room_row mb_room_rows[MB_ROOM_COUNT] = {
    [MB_XB_META] = {"integers of own rows", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_SERVED] = {"who serves what", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_ROUND] = {"rounds", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_SEND] = {"rows for each node", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_OWNER] = {"owners of ids", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_TAKEN] = {"taken rows", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_RUN] = {"runs of taken rows", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_COPIED] = {"integers of taken rows", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_HIT] = {"rows of experts", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_ORDER] = {"orders of rows", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_BY_TAG] = {"orders by tag", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_TAG] = {"tags", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_TERM] = {"places of terms", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_VALUE] = {"sums of held rows", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_WANTED] = {"rows wanted nearby", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_LONE] = {"terms that travel", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_OFF] = {"sums", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_SRC] = {"terms of sums", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_POS] = {"positions of terms", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_W] = {"weights of terms", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_UPLOAD] = {"lists for the device", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_TABLES] = {"tables by member and id", MB_ROOM_HOST, MB_MEM_EXCHANGE},
    [MB_XB_RECV] = {"rows that arrived", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_XB_X] = {"rows of experts", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_XB_IDX] = {"lists", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_XB_Y] = {"outputs", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_XB_INNER] = {"inner nodes that arrived", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_XB_OUT] = {"terms for others", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_XB_SUMS] = {"sums for others", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_XB_GATHERED] = {"rows for others", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_XB_OWN_ROWS] = {"rows for the node", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_XB_OUT_HOST] = {"values for the node", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_XB_STAGE] = {"messages out", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_XB_BACK_STAGE] = {"replies out", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_XB_BODY] = {"messages in", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_XB_BACK_BODY] = {"replies in", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_XB_FIRST] = {"headers in", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_XB_BACK_FIRST] = {"headers of replies in", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_SB_X] = {"residual stream", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_H] = {"rounded norm outputs", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_RAW] = {"norm outputs", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_T] = {"outputs of a block", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_ROUTED] = {"outputs of routed experts", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_H_PART] = {"norm outputs of a tensor group", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_QKV] = {"queries, keys and values", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_Q] = {"queries", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_ATTN] = {"outputs of attention", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_ATTN_F] = {"outputs of attention before their gates", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_DELTA] = {"queries, keys and values of linear attention", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_GU] = {"gate and up", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_ACT] = {"activations", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_QA] = {"latent queries", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_QA_H] = {"latent queries, rounded", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_QLAT] = {"queries in the latent space", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_OLAT] = {"attention in the latent space", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_KVA] = {"latent keys", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_HEAD_F] = {"heads before rounding", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_INDEX_Q] = {"index queries", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_INDEX_QR] = {"index queries, rounded", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_INDEX_K] = {"index keys", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_INDEX_W] = {"weights of index heads", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_CHOSEN] = {"keys that rows attend to", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_Z] = {"router logits", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_EXPERTS] = {"chosen experts", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_WEIGHTS] = {"their weights", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_BAD] = {"rows that are not finite", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_SGATE] = {"gates of the shared expert", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_INSIDE] = {"weighted inputs of experts", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_INTS] = {"integers of rows", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_PAGE_TABLE] = {"page table", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_MTP_IN] = {"inputs of the MTP module", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_MTP_X] = {"its residual stream", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_LORA_X] = {"adapters: inputs", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_LORA_Y] = {"adapters: terms", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_LORA_Z] = {"adapters: low ranks by leaf", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_LORA_H] = {"adapters: low ranks, rounded", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_E_GU] = {"experts: gate and up", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_E_ACT] = {"experts: activations", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_E_Y] = {"experts: outputs", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_E_YF] = {"experts: outputs before rounding", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_HX] = {"rows with logits", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_HN] = {"their norms", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_HN2] = {"their norms, own ones", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_ROW_AT] = {"their places", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_LOGITS_PART] = {"logits of own columns", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_LOGITS] = {"logits", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_STATS] = {"statistics of logits", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_BEST] = {"best tokens", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_LBAD] = {"logits that are not finite", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_DRAWN] = {"drawn tokens", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_TARGET] = {"scored tokens", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_LP] = {"log-probabilities", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_TOP_IDS] = {"top tokens", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_TOP_LP] = {"their log-probabilities", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_SAMPLING] = {"sampling parameters", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_ADJUST] = {"adjusted tokens", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_MASKS] = {"masks of the vocabulary", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_COS] = {"rotation: cosines", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_SIN] = {"rotation: sines", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_QUERY] = {"factors of queries", MB_ROOM_DEVICE, MB_MEM_ACTIVATIONS},
    [MB_SB_CONV_STATE] = {"last inputs of convolutions", MB_ROOM_DEVICE, MB_MEM_KV},
    [MB_SB_DELTA_STATE] = {"states of linear attention", MB_ROOM_DEVICE, MB_MEM_KV},
    [MB_SB_H_EXPERTS] = {"chosen experts of a step", MB_ROOM_HOST, MB_MEM_ACTIVATIONS},
    [MB_SB_H_WEIGHTS] = {"their weights", MB_ROOM_HOST, MB_MEM_ACTIVATIONS},
    [MB_SB_H_SERVED] = {"who served them", MB_ROOM_HOST, MB_MEM_ACTIVATIONS},
    [MB_SB_H_IDS] = {"ids of an exchange", MB_ROOM_HOST, MB_MEM_ACTIVATIONS},
    [MB_SB_H_ONES] = {"ones", MB_ROOM_HOST, MB_MEM_ACTIVATIONS},
    [MB_SB_H_BAD] = {"rows that are not finite", MB_ROOM_HOST, MB_MEM_ACTIVATIONS},
    [MB_SB_H_HIDDEN] = {"residual streams of a step", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_ALL_EXPERTS] = {"chosen experts of all rows", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_ALL_WEIGHTS] = {"their weights", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_ALL_SERVED] = {"who served them", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_ALL_HIDDEN] = {"residual streams of all rows", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_FOUND_IDS] = {"tokens found", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_FOUND_LP] = {"log-probabilities found", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_H_ROWS] = {"rows for the results", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_H_SMALL] = {"routing of a row", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_H_INTS] = {"small integers of logits", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_H_FLOATS] = {"small floats of logits", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_H_WHERE] = {"places of logits", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_H_SAMPLING] = {"sampling parameters", MB_ROOM_HOST, MB_MEM_STAGING},
    [MB_SB_GROUPS] = {"groups of matrix products", MB_ROOM_HOST, MB_MEM_OTHER},
    [MB_SB_MTP_IDS] = {"next tokens", MB_ROOM_HOST, MB_MEM_OTHER},
    [MB_SB_MTP_TAG] = {"tags of the MTP module", MB_ROOM_HOST, MB_MEM_OTHER},
    [MB_SB_PARTS] = {"node values here", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_INNER] = {"node values for own rows", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_IDX] = {"lists of places", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_GATHERED] = {"gathered rows", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_SQUARE] = {"squares of q and k", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_TURNED] = {"rows in another order", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_INDEX_Q_ALL] = {"index queries of all parts", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_INDEX_W_ALL] = {"weights of index heads of all parts", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_CHOOSE] = {"keys with the highest scores here", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_Q_ALL] = {"queries of all parts", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_STATE] = {"attention states", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_NODES] = {"joined states", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_LOW] = {"adapters: sums of low ranks", MB_ROOM_DEVICE, MB_MEM_EXCHANGE},
    [MB_SB_SEND] = {"rows out", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_SB_RECV] = {"rows in", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_SB_LISTS] = {"lists of rows", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_SB_H_CHOSEN] = {"keys that rows attend to", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_SB_SLICE] = {"logits of own columns", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_SB_TERMS] = {"adapters: list of terms", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_SB_TAGS] = {"adapters: tags of rows", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_SB_PIECE_OUT] = {"pieces of experts out", MB_ROOM_PINNED, MB_MEM_STAGING},
    [MB_SB_PIECE_IN] = {"pieces of experts in", MB_ROOM_PINNED, MB_MEM_STAGING},
};

static int64_t up64(int64_t n)
{
    return n > INT64_MAX - 63 ? n : (n + 63) / 64 * 64;
}

static int64_t ints(int64_t n)
{
    return mb_sat_mul(n, 4);
}

/* Counts that several buffers go by. */
struct counts {
    int64_t m, k, P;     /* own rows, choices of each, pairs here */
    int64_t far;         /* other nodes */
    int64_t sent;        /* copies of own rows for other members' nodes */
    int64_t sources;     /* members of other nodes that send to this one */
    int64_t rows, terms; /* of one of them */
    int64_t back;        /* pairs in one of the other nodes */
    int64_t held;        /* rows that this member is the agent of */
    int64_t replied;     /* pairs of other members' rows among them */
    int64_t taken;       /* rows with experts here */
    int64_t made;        /* values for others */
    int64_t items;       /* terms of the largest list of values */
    int64_t meta, row,
        value; /* bytes of a row's integers, of it all, of what comes back for a pair, at most */
};

/* What a member may send at a time, and a second message of which is not too long. */
static int64_t fits(int64_t n, int64_t bytes, int64_t least)
{
    return mb_most(mb_least(n, MESSAGE_MOST / mb_most(bytes, 1)), least);
}

static void from_others(const struct mb_xchg_shape *s, struct counts *c)
{
    bool hier = s->nodes < s->members;
    int64_t all = mb_sat_mul(s->each, c->k), mine = mb_sat_mul(c->m, c->k), nodes = mb_most(s->holders, 1);

    c->back = fits(mb_least(mine, MB_SUM(mb_sat_mul(2, mine) / nodes, 1, c->k)), c->value, c->k);
    c->sources = c->far * ((s->widest + s->near - 1) / s->near);
    if (hier)
        c->terms = mb_least(all, MB_SUM(mb_sat_mul(2, all) / nodes, 1, c->k));
    else
        c->terms = mb_least(s->pairs_each, all);
    c->terms = fits(c->terms, c->value, c->k);
    c->rows = fits(mb_least(s->each, c->terms), c->row, 1);
    if (c->far == 0 || s->each == 0 || (!hier && s->pairs == 0))
        c->rows = c->terms = 0;
}

static struct counts counts_of(const struct mb_xchg_shape *s)
{
    struct counts c = {.m = s->own, .k = s->k, .P = s->pairs, .far = s->nodes - 1};
    int64_t all = mb_sat_mul(s->own, s->k), ids = (2 * (s->k + s->tagged) + (s->chosen ? s->k : 0) + 3) / 4 * 4;

    c.meta = ids + ints(s->k);
    c.row = MB_SUM(c.meta, (s->hidden * s->x_size + 3) / 4 * 4);
    c.value = mb_most(s->hidden * s->y_size, 2 * s->hidden);
    c.sent = mb_sat_mul(s->own, mb_least(s->k, c.far + (s->near > 1)));
    from_others(s, &c);
    int64_t arrive = mb_least(mb_sat_mul(c.sources, c.rows), s->others);
    c.held = mb_least(mb_sat_add(s->own, arrive), s->rows);
    c.replied = mb_least(mb_sat_mul(c.sources, c.terms), mb_sat_mul(arrive, s->k));
    if (s->near == 1)
        c.replied = mb_least(c.replied, s->pairs);
    c.taken = mb_least(s->rows, c.P);
    c.made = mb_most(c.replied, s->near > 1 ? c.P : 0);
    c.items = mb_most(all, c.made);
    return c;
}

static void own_lists(const struct mb_xchg_shape *s, const struct counts *c, int64_t *b)
{
    int64_t all = mb_sat_mul(c->m, c->k);

    b[MB_XB_META] = mb_sat_mul(c->m, c->meta);
    b[MB_XB_SERVED] = ints(all);
    b[MB_XB_ROUND] = ints(c->m + 2);
    b[MB_XB_SEND] = ints(c->sent);
    b[MB_XB_OWNER] = mb_sat_mul(mb_sat_mul(s->members, s->ids), 2);
    /* Alone in its node, a member needs the hits of what others sent, and no more. */
    int64_t agent = s->near > 1 ? c->held : c->m, terms = mb_sat_mul(agent, c->k);
    b[MB_XB_TERM] = mb_sat_mul(terms, (int64_t)sizeof(struct mb_term));
    b[MB_XB_VALUE] = ints(mb_sat_add(s->near > 1 ? terms : c->m, 1));
    b[MB_XB_WANTED] = s->near > 1 ? c->held : 0;
}

static void lists(const struct mb_xchg_shape *s, const struct counts *c, int64_t *b)
{
    int64_t all = mb_sat_mul(c->m, c->k), sums = mb_most(c->m, c->made / 2);
    int64_t longest = mb_most(MB_SUM(c->m, 1, mb_sat_mul(3, all)), mb_sat_mul(4, c->made) + 1);

    b[MB_XB_TAKEN] = mb_sat_mul(c->taken + 1, (int64_t)sizeof(struct mb_taken));
    b[MB_XB_RUN] = mb_sat_mul(c->taken + 1, (int64_t)sizeof(struct mb_run));
    b[MB_XB_COPIED] = s->near > 1 ? mb_sat_mul(c->taken, c->meta) : 0;
    b[MB_XB_HIT] = mb_sat_mul(mb_sat_add(c->P, c->k), (int64_t)sizeof(struct mb_hit));
    b[MB_XB_ORDER] = ints(mb_most(c->m, c->taken));
    b[MB_XB_BY_TAG] = s->tagged ? ints(c->taken) : 0;
    b[MB_XB_TAG] = s->tagged ? mb_sat_mul(c->P, 2) : 0;
    b[MB_XB_LONE] = ints(mb_sat_add(c->made, c->k));
    b[MB_XB_OFF] = ints(MB_SUM(sums, c->k, 2));
    b[MB_XB_SRC] = b[MB_XB_POS] = b[MB_XB_W] = ints(mb_sat_add(c->items, c->k));
    b[MB_XB_UPLOAD] = ints(mb_most(c->P, longest));
    b[MB_XB_IDX] = ints(mb_most(mb_most(c->P, c->sent), longest));
}

static void device(const struct mb_xchg_shape *s, const struct counts *c, int64_t *b)
{
    int64_t x = s->hidden * s->x_size, y = s->hidden * s->y_size, f = 4 * s->hidden,
            back = mb_sat_add(mb_sat_mul(c->m, c->k), s->near > 1 ? c->replied : 0);

    b[MB_XB_X] = mb_sat_mul(c->P, mb_most(x, y));
    if (s->members == 1)
        return;
    b[MB_XB_RECV] = mb_sat_mul(c->taken, x);
    b[MB_XB_GATHERED] = mb_sat_mul(c->sent, x);
    b[MB_XB_Y] = mb_sat_mul(mb_sat_add(c->P, back), y);
    b[MB_XB_INNER] = mb_sat_mul(back / 2, f);
    b[MB_XB_OUT] = mb_sat_mul(c->made, y);
    b[MB_XB_SUMS] = mb_sat_mul(c->made / 2, f);
}

/* A second message where one of the planned size would not go with its header. */
static int64_t body_of(const struct mb_xchg_shape *s, int64_t bytes)
{
    return bytes > s->eager ? up64(bytes + 4) : 0;
}

static void pinned(const struct mb_xchg_shape *s, const struct counts *c, struct mb_xchg_room *r)
{
    int64_t *b = r->bytes, first = up64(MB_XCHG_HEADER + s->eager);
    int64_t away = mb_sat_mul(c->m, mb_least(c->k, c->far));

    b[MB_XB_FIRST] = mb_sat_mul(c->sources, first);
    b[MB_XB_BACK_FIRST] = mb_sat_mul(c->far, first);
    if (s->near > 1) {
        b[MB_XB_OWN_ROWS] = mb_sat_mul(c->m, c->meta + s->hidden * s->x_size);
        b[MB_XB_OUT_HOST] = mb_sat_mul(c->P, c->value);
    }
    if (c->far == 0)
        return;
    b[MB_XB_STAGE] = MB_SUM(mb_sat_mul(away, c->row), mb_sat_mul(c->far, 2 * MB_XCHG_HEADER));
    b[MB_XB_BACK_STAGE] =
        MB_SUM(mb_sat_mul(c->replied, c->value), mb_sat_mul(c->sources, 2 * MB_XCHG_HEADER));
    r->body = body_of(s, mb_sat_mul(c->rows, c->row));
    r->back_body = c->m > 0 ? body_of(s, mb_sat_mul(c->back, c->value)) : 0;
    b[MB_XB_BODY] = mb_sat_mul(c->sources, r->body);
    b[MB_XB_BACK_BODY] = mb_sat_mul(c->far, r->back_body);
}

int64_t mb_xchg_message(int64_t rows, int64_t k, int64_t hidden, int64_t row)
{
    return mb_least(mb_sat_mul(rows, mb_most(mb_sat_mul(4 * hidden, mb_most(k, 1)), row)), MESSAGE_MOST);
}

int64_t mb_xchg_ring(int64_t shm, int64_t n, int64_t most)
{
    int64_t pairs = mb_sat_mul(2 * n, n - 1), want = up64(MB_SUM(most, 4 * MB_XCHG_HEADER));

    if (n < 2)
        return 0;
    int64_t each = (shm - 64) / pairs / 64 * 64 - MB_RING_CTL;
    each = mb_least(mb_least(each, mb_most(want, MB_RING_LEAST)), MB_RING_MOST);
    return each >= MB_RING_LEAST ? each : 0;
}

int64_t mb_xchg_rings(int64_t n, int64_t ring)
{
    return ring > 0 ? 64 + 2 * n * (n - 1) * (ring + MB_RING_CTL) : 0;
}

void mb_xchg_room_of(const struct mb_xchg_shape *s, struct mb_xchg_room *r)
{
    struct counts c = counts_of(s);

    *r = (struct mb_xchg_room){.sources = c.sources, .shm = s->together > 1 ? s->shm / s->together : 0};
    if (s->nodes == s->members && r->shm > 0)
        r->shm = MB_SUM(r->shm, RING_BYTES * s->members);
    r->quota = (struct mb_xchg_quota){s->pairs_each, c.rows, c.terms};
    r->held = c.held;
    r->back = c.back;
    r->bytes[MB_XB_TABLES] = MB_SUM(mb_sat_mul(s->members, MEMBER_BYTES), mb_sat_mul(s->ids, ID_BYTES),
                                    mb_sat_mul(c.sources + c.far, PEER_BYTES), 1024);
    own_lists(s, &c, r->bytes);
    if (s->pairs + s->own + c.rows > 0) {
        lists(s, &c, r->bytes);
        device(s, &c, r->bytes);
    }
    pinned(s, &c, r);
    for (int i = 0; i < MB_XB_COUNT; i++)
        r->bytes[i] = up64(r->bytes[i]);
}

int64_t mb_rooms_sum(const struct mb_rooms *r, enum mb_room_kind kind, enum mb_mem_cat cat)
{
    int64_t sum = 0;

    for (int i = 0; i < MB_ROOM_COUNT; i++) {
        if (mb_room_rows[i].kind == kind && mb_room_rows[i].cat == cat)
            sum = mb_sat_add(sum, r->bytes[i]);
    }
    return sum;
}
