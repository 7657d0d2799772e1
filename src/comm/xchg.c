#include "comm/xchg_impl.h"

#include <stdlib.h>
#include "base/clock.h"
#include "base/log.h"
#include "comm/wait.h"

void mb_xchg_must(struct mb_xchg *x, enum mb_status st)
{
    if (st == MB_OK)
        return;
    if (!x->st.stuck)
        x->st.failed = st;
    x->st.stuck = true;
}

/* ---------------------------------------------------------------- one operation */
static const char *op_name(int32_t op)
{
    static const char *const names[] = {"?", "dispatch", "combine", "step"};

    return names[op >= XOP_DISPATCH && op <= XOP_STEP ? op : 0];
}

static void set_head(struct mb_xchg *x, const struct xhead *h)
{
    x->heads[h->from] = (struct mb_xchg_head){.step = h->step,
                                              .layer = h->layer,
                                              .op = h->op,
                                              .status = (enum mb_status)h->status,
                                              .flags = h->flags,
                                              .revision = h->revision,
                                              .epoch = h->epoch,
                                              .rows = h->total};
    x->rounds = h->rounds > x->rounds ? h->rounds : x->rounds;
}

void mb_xchg_begin(struct mb_xchg *x, enum xop op, const struct mb_xchg_head *mine, int64_t rows)
{
    if (x->c != NULL)
        mb_wait_begin(x->c);
    x->st.failed = MB_OK;
    x->st.stuck = false;
    x->mine = (struct xhead){.version = XCHG_VERSION,
                             .op = (uint8_t)op,
                             .step = mine->step,
                             .layer = mine->layer,
                             .status = (uint8_t)mine->status,
                             .flags = mine->flags,
                             .revision = mine->revision,
                             .epoch = mine->epoch,
                             .from = (uint16_t)x->rt.cut.me,
                             .total = rows,
                             .round = (uint16_t)x->rt.own.round,
                             .rounds = x->rt.own.rounds};
    if (op != XOP_COMBINE) {
        memset(x->heads, 0, (size_t)x->rt.cut.n * sizeof *x->heads);
        set_head(x, &x->mine);
    }
    mb_node_begin(x);
}

/* A member that has failed goes on to tell the others, who may be in the middle of something: no bug. */
static void out_of_step(struct mb_xchg *x, const struct xhead *h)
{
    const struct xhead *own = &x->mine;

    if (x->st.failed != MB_OK)
        return;
    x->st.failed = h->status != MB_OK || own->status != MB_OK ? MB_PEER : MB_BUG;
    if (x->st.failed == MB_BUG)
        mb_error(
            MB_BUG,
            "ranks are out of step: rank %d is in %s, step %lld, layer %d, placement %u.%u; rank %d in %s, "
            "step %lld, layer %d, placement %u.%u",
            mb_xchg_rank(x, h->from), op_name(h->op), (long long)h->step, h->layer, h->epoch, h->revision,
            mb_xchg_rank(x, x->rt.cut.me), op_name(own->op), (long long)own->step, own->layer, own->epoch,
            own->revision);
    else if (h->status != MB_OK && (x->rt.cut.me == 0 || h->op != own->op))
        mb_error(MB_PEER, "rank %d left %s, step %lld, layer %d, with \"%s\"; its own message says why",
                 mb_xchg_rank(x, h->from), op_name(own->op), (long long)own->step, own->layer,
                 mb_status_name((enum mb_status)h->status));
}

void mb_xchg_told(struct mb_xchg *x, uint32_t status)
{
    if (status > (uint32_t)x->st.told)
        x->st.told = (enum mb_status)status;
}

bool mb_xchg_check(struct mb_xchg *x, const struct xhead *h)
{
    const struct xhead *own = &x->mine;

    if (h->version != XCHG_VERSION || h->from >= x->rt.cut.n) {
        x->st.failed =
            mb_error(MB_BUG,
                     "an exchange header of version %u from member %d was received in %s, step %lld: all "
                     "ranks must run the same program",
                     h->version, h->from, op_name(own->op), (long long)own->step);
        return false;
    }
    if (h->op != own->op || h->step != own->step || h->layer != own->layer || h->round != own->round ||
        (h->op != XOP_COMBINE && (h->revision != own->revision || h->epoch != own->epoch))) {
        out_of_step(x, h);
        if (h->op != own->op)
            return false;
    }
    if (h->op == XOP_COMBINE)
        mb_xchg_told(x, h->status);
    if (h->op != XOP_COMBINE)
        set_head(x, h);
    return true;
}

static bool ready(void *arg)
{
    return mb_xchg_test(arg);
}

void mb_xchg_await(struct mb_xchg *x)
{
    struct mb_wait_for w = {op_name(x->mine.op), NULL, x->mine.step, x->mine.layer, true};
    double t = mb_now();

    mb_xchg_must(x, mb_wait_until(x->c, &w, ready, x));
    x->counts.seconds_wait += mb_now() - t;
}

void mb_xchg_fail(struct mb_xchg *x, enum mb_status st)
{
    x->st.fail = st;
}

bool mb_xchg_broken(const struct mb_xchg *x)
{
    return x->st.broken != MB_OK;
}

enum mb_status mb_xchg_usable(const struct mb_xchg *x, const char *what)
{
    if (x->st.broken == MB_BUG)
        return mb_error(MB_BUG, "%s after an exchange that failed", what);
    return x->st.broken;
}

int32_t mb_xchg_index(const struct mb_xchg *x)
{
    return x->rt.cut.me;
}

int32_t mb_xchg_size(const struct mb_xchg *x)
{
    return x->rt.cut.n;
}

enum mb_alltoall mb_xchg_algorithm(const struct mb_xchg *x)
{
    return x->algorithm;
}

const int32_t *mb_xchg_served_by(const struct mb_xchg *x)
{
    return x->rt.own.served;
}

void mb_xchg_counts(const struct mb_xchg *x, struct mb_xchg_counts *out)
{
    *out = x->counts;
}
