/* Inside of ZeRO-inference: what its files share. */
#ifndef MB_ENGINE_ZERO_IMPL_H
#define MB_ENGINE_ZERO_IMPL_H
#include "engine/cache.h"
#include "engine/load.h"
#include "engine/zero.h"
#include "plan/fetch.h"

struct mb_zero {
    const struct mb_context *c;
    struct mb_xchg *xchg;
    struct mb_tally *tally;
    int64_t step; /* for messages */
    struct mb_cache cache;
    struct mb_loader load;
    struct mb_fetch *fetch;
    int32_t stages, pad;    /* of an exchange: id = stage * pad + expert */
    int32_t *layer;         /* [exchanges][stages] of the model, or -1 */
    uint32_t *mine, *heard; /* [ids + members], [members][ids + members] */
    uint32_t *said, *going; /* [members][ids], [members][members] */
    bool by_node;           /* rows go to a node once */
    int32_t *slots, *room;  /* [members] */
    struct mb_served served;
    int32_t exchange, next;           /* of what is served: its exchange, and the next to look at */
    int32_t *served_id, *served_rows; /* [served.n] rows: 0 once they are computed */
    struct mb_piece *send, *recv;     /* [members] */
    struct mb_zero_pieces piece;
    int64_t *heat;                    /* [exchanges][ids] rows served here so far */
    uint8_t *expected;                /* [exchanges][ids] announced to the kernel and not read since */
    int64_t now;                      /* exchanges so far */
    int64_t *counts;
};

static inline int64_t mb_zero_cell(const struct mb_zero *z, int32_t j, int32_t id)
{
    return (int64_t)j * z->fetch->ids + id;
}

/* The layer whose expert this id is; *expert gets its number. */
static inline int32_t mb_zero_layer(const struct mb_zero *z, int32_t j, int32_t id, int32_t *expert)
{
    *expert = id % z->pad;
    return z->layer[j * z->stages + id / z->pad];
}

/* The counts of its layer. */
static inline int64_t *mb_zero_counts_of(struct mb_zero *z, int32_t j, int32_t id)
{
    int32_t expert, l = mb_zero_layer(z, j, id, &expert);

    return z->counts + (int64_t)z->c->w.layer[l].moe_index * MB_ZERO_COUNTS;
}

/* Bytes of rows of a weight of an expert as they travel. */
static inline int64_t mb_zero_rows_bytes(const struct mb_zero *z, const struct mb_form *f, int64_t rows, int64_t k)
{
    return f->code == MB_CODE_NONE ? rows * k * mb_dtype_size(z->c->o.path) : mb_form_blob(f, rows, k).bytes;
}

/* How many experts of exchange j each member may keep (slots, room), and of all own ones how many stay. */
void mb_zero_share_room(struct mb_zero *z, int32_t j);
/* From the files into a slot. Errors: those of reading; MB_BUG without room. */
enum mb_status mb_zero_read(struct mb_zero *z, int32_t j, int32_t id);
/* What the plan of exchange j lets ranks send each other. Collective over those it names. */
enum mb_status mb_zero_transfers(struct mb_zero *z, int32_t j);
#endif
