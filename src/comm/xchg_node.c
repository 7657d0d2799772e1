/* Inside a node: members publish rounds in their slots of the shared segment, all others read them. */
#include <stdatomic.h>
#include <stdio.h>
#include "base/log.h"
#include "comm/xchg_impl.h"

static uint64_t ctl_bytes(int32_t n)
{
    return (64 + (uint64_t)n * sizeof(struct node_ctl) + 4095) / 4096 * 4096;
}

static struct node_ctl *ctl_of(const struct mb_xchg *x, int32_t q)
{
    return (struct node_ctl *)(x->node.shm.base + 64) + q;
}

static uint8_t *slot_of(const struct mb_xchg *x, int32_t q)
{
    return x->node.shm.base + ctl_bytes(x->node.n) + (uint64_t)q * x->node.slot;
}

static uint64_t slot_bytes(uint64_t shm, int32_t n)
{
    uint64_t ctl = ctl_bytes(n);

    return shm > ctl ? (shm - ctl) / (uint64_t)n / 64 * 64 : 0;
}

/* A slot must hold one row or value, with its heads. */
static bool slots_suffice(const struct mb_xchg *x)
{
    uint64_t row = mb_up64((uint64_t)x->size.row), value = mb_up64((uint64_t)x->o.hidden * 4);
    uint64_t need = sizeof(struct round_head) + MB_XCHG_HEADER + (row > value ? row : value);
    int32_t most = 1;

    for (int32_t b = 0; b < x->rt.cut.domains; b++)
        if (mb_cut_count(&x->rt.cut, b) > most)
            most = mb_cut_count(&x->rt.cut, b);
    return most == 1 || slot_bytes(x->o.shm_bytes, most) >= need;
}

enum mb_status mb_node_tables(struct mb_xchg *x)
{
    struct xnode *nd = &x->node;

    nd->n = mb_cut_near(&x->rt.cut);
    nd->me = mb_cut_place(&x->rt.cut);
    nd->consumed = mb_zalloc(x->o.mem, MB_MEM_EXCHANGE, (size_t)nd->n, sizeof *nd->consumed);
    nd->finished = mb_zalloc(x->o.mem, MB_MEM_EXCHANGE, (size_t)nd->n, 1);
    if (nd->consumed == NULL || nd->finished == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the node's tables");
    return MB_OK;
}

void mb_node_lend(struct mb_xchg *x, uint8_t *segment)
{
    x->node.lent = true;
    x->node.shm = (struct mb_shm){segment, x->o.shm_bytes};
    x->node.slot = slot_bytes(x->o.shm_bytes, x->node.n);
}

enum mb_status mb_node_init(struct mb_xchg *x, char why[MB_SHM_WHY])
{
    struct xnode *nd = &x->node;

    MB_TRY(mb_comm_agree(x->c, mb_node_tables(x), "exchange"));
    if (x->algorithm == MB_A2A_FLAT)
        return MB_OK;
    if (!slots_suffice(x)) { /* the same everywhere: integers of topology and options */
        snprintf(why, MB_SHM_WHY, "that is too little for a row for each rank");
        return MB_NO_SPACE;
    }
    MB_TRY(
        mb_shm_share(x->c, x->rt.cut.first[x->rt.cut.mine], nd->n > 1 ? x->o.shm_bytes : 0, &nd->shm, why));
    nd->slot = slot_bytes(x->o.shm_bytes, nd->n);
    mb_mem_note(x->o.mem, MB_MEM_EXCHANGE,
                (int64_t)nd->shm.bytes / nd->n); /* each its part of what all share */
    return MB_OK;
}

void mb_node_fini(struct mb_xchg *x)
{
    if (x->node.n > 0 && !x->node.lent) {
        mb_mem_note(x->o.mem, MB_MEM_EXCHANGE, -((int64_t)x->node.shm.bytes / x->node.n));
        mb_shm_unmap(&x->node.shm);
    }
    mb_free(x->node.consumed);
    mb_free(x->node.finished);
    memset(&x->node, 0, sizeof x->node);
}

void mb_node_begin(struct mb_xchg *x)
{
    x->node.published = x->node.n == 1;
    memset(x->node.finished, 0, (size_t)x->node.n);
    x->node.finished[x->node.me] = 1;
}

uint8_t *mb_node_slot(const struct mb_xchg *x, int32_t q)
{
    return slot_of(x, q) + sizeof(struct round_head);
}

uint64_t mb_node_room(const struct mb_xchg *x)
{
    return x->node.slot - sizeof(struct round_head);
}

bool mb_node_free(const struct mb_xchg *x)
{
    const struct xnode *nd = &x->node;
    uint64_t reads = atomic_load_explicit(&ctl_of(x, nd->me)->reads, memory_order_acquire);

    return reads == nd->filled * (uint64_t)(nd->n - 1);
}

void mb_node_publish(struct mb_xchg *x, int32_t pieces, uint64_t bytes, bool last)
{
    struct xnode *nd = &x->node;
    struct round_head h = {.op = x->mine.op,
                           .layer = x->mine.layer,
                           .step = x->mine.step,
                           .pieces = pieces,
                           .last = last,
                           .status = x->mine.status,
                           .bytes = bytes};

    if (x->st.stuck)
        return;
    memcpy(slot_of(x, nd->me), &h, sizeof h);
    nd->filled++;
    nd->published = last;
    atomic_store_explicit(&ctl_of(x, nd->me)->filled, nd->filled, memory_order_release);
}

/* The rounds of a member that is elsewhere: the words of a header, for the one place that compares. */
static bool same_place(struct mb_xchg *x, int32_t q, const struct round_head *r)
{
    struct xhead h = {.version = XCHG_VERSION,
                      .op = (uint8_t)r->op,
                      .step = r->step,
                      .layer = r->layer,
                      .status = (uint8_t)r->status,
                      .from = (uint16_t)(x->rt.cut.first[x->rt.cut.mine] + q)};

    if (r->op == x->mine.op && r->step == x->mine.step && r->layer == x->mine.layer)
        return true;
    if (r->op != XOP_COMBINE && r->op == x->mine.op)
        return true; /* the pieces carry the member's own header, which is compared there */
    return mb_xchg_check(x, &h);
}

static bool read_round(struct mb_xchg *x, int32_t q, mb_piece_fn piece)
{
    struct round_head r;
    const uint8_t *at = mb_node_slot(x, q);
    uint64_t used = 0;

    memcpy(&r, slot_of(x, q), sizeof r);
    if (!same_place(x, q, &r))
        return false;
    if (r.op == XOP_COMBINE)
        mb_xchg_told(x, r.status);
    for (int32_t i = 0; i < r.pieces; i++) {
        struct xhead h;
        memcpy(&h, at + used, sizeof h);
        used += MB_XCHG_HEADER + mb_up64(piece(x, q, &h, at + used + MB_XCHG_HEADER));
    }
    x->node.finished[q] = r.last != 0;
    x->node.consumed[q]++;
    atomic_fetch_add_explicit(&ctl_of(x, q)->reads, 1, memory_order_acq_rel);
    return x->st.failed == MB_OK || x->mine.op != XOP_COMBINE;
}

bool mb_node_read(struct mb_xchg *x, mb_piece_fn piece)
{
    struct xnode *nd = &x->node;

    for (int32_t i = 1; i < nd->n; i++) {
        int32_t q = (nd->me + i) % nd->n;
        if (nd->finished[q])
            continue;
        if (atomic_load_explicit(&ctl_of(x, q)->filled, memory_order_acquire) > nd->consumed[q])
            if (!read_round(x, q, piece))
                return false;
    }
    return true;
}

bool mb_node_done(const struct mb_xchg *x)
{
    if (!x->node.published)
        return false;
    for (int32_t q = 0; q < x->node.n; q++)
        if (!x->node.finished[q])
            return false;
    return true;
}
