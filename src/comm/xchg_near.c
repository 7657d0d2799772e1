/* Members of one machine under an algorithm that takes each of them for a node: rings in a shared segment
 * instead of messages. */
#include <stdio.h>
#include "base/log.h"
#include "comm/xchg_impl.h"

/* Members of the own machine, and the most that one has. */
static int32_t find_near(struct mb_xchg *x)
{
    const int32_t *machine = x->machine, n = x->rt.cut.n, mine = machine[x->rt.cut.me];
    int32_t most = 1, count = 0;

    x->near.n = 0;
    for (int32_t i = 0; i < n; i++) {
        count = i > 0 && machine[i] == machine[i - 1] ? count + 1 : 1;
        most = count > most ? count : most;
        if (machine[i] == mine && x->near.n++ == 0)
            x->near.first = i;
    }
    return most;
}

static int64_t ring_of(const struct mb_xchg *x, int32_t n)
{
    int64_t shm = x->o.shm_bytes > INT64_MAX ? INT64_MAX : (int64_t)x->o.shm_bytes,
            most = mb_xchg_message(x->o.max_rows, x->o.k, x->o.hidden, x->size.row);

    return mb_xchg_ring(shm, n, x->o.experts > 1 ? most : 0);
}

enum mb_status mb_near_init(struct mb_xchg *x)
{
    struct xnear *r = &x->near;
    char why[MB_SHM_WHY] = "that is too little for rings between its ranks";
    int32_t most = find_near(x);
    enum mb_status st = MB_NO_SPACE;

    if (most < 2 || x->o.shm_bytes == 0)
        return MB_OK;
    int64_t ring = ring_of(x, r->n);
    if (ring_of(x, most) > 0) /* the same everywhere */
        st = mb_shm_share(x->c, r->first, (uint64_t)mb_xchg_rings(r->n, ring), &r->shm, why);
    if (st == MB_OK) {
        r->ring = ring;
        mb_mem_note(x->o.mem, MB_MEM_EXCHANGE, (int64_t)r->shm.bytes / r->n);
    }
    if (st != MB_NO_SPACE && st != MB_IO)
        return st;
    if (x->rt.cut.me == 0)
        mb_warn(
            "ranks of one machine exchange by MPI: no shared segment of %llu KiB a machine (--shm-size): %s",
            (unsigned long long)(x->o.shm_bytes >> 10), why);
    return MB_OK;
}

void mb_near_lend(struct mb_xchg *x, uint8_t *segment)
{
    (void)find_near(x);
    x->near.lent = true;
    x->near.shm = (struct mb_shm){segment, x->o.shm_bytes};
    x->near.ring = ring_of(x, x->near.n);
}

void mb_near_fini(struct mb_xchg *x)
{
    if (x->near.ring > 0 && !x->near.lent) {
        mb_mem_note(x->o.mem, MB_MEM_EXCHANGE, -((int64_t)x->near.shm.bytes / x->near.n));
        mb_shm_unmap(&x->near.shm);
    }
    memset(&x->near, 0, sizeof x->near);
}

enum mb_status mb_near_port(struct mb_xchg *x, int32_t lane, struct mb_xport *port)
{
    struct mb_xport far = *port;
    const struct mb_xport_near w = {.first = x->near.first,
                                    .n = x->near.n,
                                    .me = x->rt.cut.me - x->near.first,
                                    .lane = lane,
                                    .base = x->near.shm.base,
                                    .ring = (uint64_t)x->near.ring};

    return x->near.ring > 0 ? mb_xport_shm(&w, x->o.mem, &far, port) : MB_OK;
}
