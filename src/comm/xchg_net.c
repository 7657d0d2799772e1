/* Messages between nodes: one header with up to `eager` bytes behind it, and a second message for what is
 * longer. */
#include "base/log.h"
#include "comm/xchg_impl.h"

enum { FIRST, BODY };

static struct mb_span span(const uint8_t *p, uint64_t n)
{
    return (struct mb_span){.p = (uint8_t *)p, .n = n};
}

enum mb_status mb_net_init(struct mb_xchg *x, struct net *net, int32_t lane)
{
    int32_t slots = 2 * (net->n_in + net->n_out);

    if (x->c == NULL)
        MB_TRY(mb_xport_loop(x->o.loop, x->rt.cut.me, lane, slots, &net->port));
    else
        MB_TRY(mb_xport_mpi(x->c, x->o.mem, slots, &net->port));
    return mb_near_port(x, lane, &net->port);
}

void mb_net_fini(struct net *net)
{
    mb_xport_fini(&net->port);
}

void mb_net_post(struct mb_xchg *x, struct net *net)
{
    for (int32_t i = 0; i < net->n_in; i++) {
        struct inmsg *m = &net->in[i];
        m->ready = m->taken = false;
        m->rows = NULL;
        net->port.kind->post_recv(&net->port, i, m->from, FIRST,
                                  span(m->first, MB_XCHG_HEADER + x->size.eager));
    }
}

void mb_net_send(struct mb_xchg *x, struct net *net, int32_t i, int64_t *bytes, int64_t *messages)
{
    struct outmsg *m = &net->out[i];
    const uint8_t *at = net->stage + m->at;
    struct xhead h;
    enum mb_link link = x->link[m->to];

    if (x->st.stuck)
        return;
    memcpy(&h, at, sizeof h);
    bool second = h.bytes > x->size.eager;
    net->port.kind->post_send(&net->port, 2 * net->n_in + i, m->to, FIRST,
                              span(at, MB_XCHG_HEADER + (second ? 0 : h.bytes)));
    if (second)
        net->port.kind->post_send(&net->port, 2 * net->n_in + net->n_out + i, m->to, BODY,
                                  span(at + MB_XCHG_HEADER, h.bytes));
    bytes[link] += MB_XCHG_HEADER + (int64_t)h.bytes;
    messages[link] += second ? 2 : 1;
}

/* A first message is here: its rows too, or the second message is asked for. */
static bool got_first(struct mb_xchg *x, struct net *net, int32_t i)
{
    struct inmsg *m = &net->in[i];

    memcpy(&m->head, m->first, sizeof m->head);
    if (!mb_xchg_check(x, &m->head))
        return false;
    if (m->head.bytes <= x->size.eager) {
        m->rows = m->first + MB_XCHG_HEADER;
        m->ready = true;
        return true;
    }
    if (m->head.bytes > net->room) {
        x->st.failed = mb_error(MB_BUG, "rank %d sends %llu bytes at once; %llu were planned for",
                                mb_xchg_rank(x, m->from), (unsigned long long)m->head.bytes,
                                (unsigned long long)net->room);
        return false;
    }
    net->port.kind->post_recv(&net->port, net->n_in + i, m->from, BODY, span(m->body, m->head.bytes));
    return true;
}

bool mb_net_poll(struct mb_xchg *x, struct net *net)
{
    int32_t n = net->port.left > 0 ? net->port.kind->test(&net->port) : 0;

    if (net->port.failed != MB_OK) {
        mb_xchg_must(x, net->port.failed);
        return false;
    }
    for (int32_t j = 0; j < n; j++) {
        int32_t i = net->port.done[j];
        if (i < net->n_in) {
            if (!got_first(x, net, i))
                return false;
        } else if (i < 2 * net->n_in) {
            net->in[i - net->n_in].rows = net->in[i - net->n_in].body;
            net->in[i - net->n_in].ready = true;
        }
    }
    return true;
}
