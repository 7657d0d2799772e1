/* The transport in a machine, its members in one process: what was sent arrives, whole and in order, through
 * rings of any size, whoever looks when; peers elsewhere are reached too. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "comm/xport.h"
#include "draw.h"
#include "plan/rooms.h"

enum { MACHINES = 2, EACH = 3, N = MACHINES * EACH, MESSAGES = 3, SLOTS = 2 * N * MESSAGES, BYTES = 5000 };

struct member {
    struct mb_xport port;
    uint8_t out[N][MESSAGES][BYTES], in[N][MESSAGES][BYTES];
    uint64_t n[N][MESSAGES]; /* bytes for each */
    bool ended[SLOTS];
    int32_t posted_recv[N], posted_send[N];
};

static void make(struct member *m, struct mb_loop *loop, uint8_t **segment, uint64_t ring)
{
    for (int32_t i = 0; i < N; i++) {
        struct mb_xport far;
        struct mb_xport_near w = {i / EACH * EACH, EACH, i % EACH, 1, segment[i / EACH], ring};
        assert_int_equal(mb_xport_loop(loop, i, 0, SLOTS, &far), MB_OK);
        assert_int_equal(mb_xport_shm(&w, NULL, &far, &m[i].port), MB_OK);
        assert_null(far.kind);
    }
}

static int32_t slot_of(bool send, int32_t peer, int32_t i)
{
    return ((send ? N : 0) + peer) * MESSAGES + i;
}

/* One member does something: posts its next receive or send for a peer, or looks. Channels in turn. */
static void act(struct member *m, int32_t i, int32_t peer)
{
    struct mb_xport *p = &m[i].port;
    int32_t *r = &m[i].posted_recv[peer], *s = &m[i].posted_send[peer], what = draw(4);

    if (peer != i && what == 0 && *r < MESSAGES) {
        p->kind->post_recv(p, slot_of(false, peer, *r), peer, *r % 2,
                           (struct mb_span){.p = m[i].in[peer][*r], .n = BYTES});
        (*r)++;
    } else if (peer != i && what == 1 && *s < MESSAGES) {
        p->kind->post_send(p, slot_of(true, peer, *s), peer, *s % 2,
                           (struct mb_span){.p = m[i].out[peer][*s], .n = m[i].n[peer][*s]});
        (*s)++;
    } else {
        int32_t n = p->kind->test(p);
        for (int32_t j = 0; j < n; j++) {
            assert_false(m[i].ended[p->done[j]]);
            m[i].ended[p->done[j]] = true;
        }
    }
}

static bool all_ended(const struct member *m)
{
    for (int32_t i = 0; i < N; i++)
        for (int32_t s = 0; s < SLOTS; s++)
            if (s / MESSAGES % N != i && !m[i].ended[s])
                return false;
    return true;
}

static void fill(struct member *m)
{
    memset(m, 0, N * sizeof *m);
    for (int32_t i = 0; i < N; i++)
        for (int32_t q = 0; q < N; q++)
            for (int32_t k = 0; k < MESSAGES; k++) {
                m[i].n[q][k] = (uint64_t)(draw(3) == 0 ? draw(20) : draw(BYTES + 1));
                for (uint64_t b = 0; b < m[i].n[q][k]; b++)
                    m[i].out[q][k][b] = (uint8_t)(i * 131 + q * 31 + k * 7 + (int32_t)b % 251);
            }
}

static void check(const struct member *m)
{
    static const uint8_t none[BYTES];

    for (int32_t i = 0; i < N; i++) {
        assert_int_equal(m[i].port.left, 0);
        for (int32_t q = 0; q < N; q++)
            for (int32_t k = 0; q != i && k < MESSAGES; k++) {
                uint64_t n = m[q].n[i][k];
                assert_memory_equal(m[i].in[q][k], m[q].out[i][k], n);
                assert_memory_equal(m[i].in[q][k] + n, none, BYTES - n);
            }
    }
}

static void run(struct member *m, uint64_t ring)
{
    uint8_t *segment[MACHINES];
    struct mb_loop *loop;
    uint64_t bytes = (uint64_t)mb_xchg_rings(EACH, (int64_t)ring);

    assert_int_equal(mb_loop_create(N, &loop), MB_OK);
    for (int b = 0; b < MACHINES; b++) {
        segment[b] = aligned_alloc(64, (bytes + 63) / 64 * 64);
        memset(segment[b], 0, bytes);
        memset(segment[b], 0xff, 16); /* what a segment's maker writes */
    }
    fill(m);
    make(m, loop, segment, ring);
    for (int turn = 0; !all_ended(m); turn++) {
        assert_true(turn < 10000000);
        act(m, draw(N), draw(N));
    }
    check(m);
    for (int32_t i = 0; i < N; i++) {
        assert_true(m[i].port.kind->cancel(&m[i].port));
        mb_xport_fini(&m[i].port);
    }
    mb_loop_destroy(loop);
    for (int b = 0; b < MACHINES; b++)
        free(segment[b]);
}

static void test_any_ring(void **state)
{
    static const uint64_t rings[] = {64, 128, 1024, 4096, 1 << 16};
    struct member *m = malloc(N * sizeof *m);

    (void)state;
    assert_non_null(m);
    for (int i = 0; i < 20; i++)
        run(m, rings[i % 5]);
    free(m);
}

/* A message that is too long for its receiver's memory is a status, and nothing is written behind it. */
static void test_too_long(void **state)
{
    enum { RING = 256, LONG = 40, ROOM = 32 };
    uint8_t *segment = aligned_alloc(64, 4096), from[LONG] = {1}, to[LONG] = {0};
    struct mb_xport port[2];
    struct mb_loop *loop;

    (void)state;
    memset(segment, 0, 4096);
    assert_int_equal(mb_loop_create(2, &loop), MB_OK);
    for (int32_t i = 0; i < 2; i++) {
        struct mb_xport far;
        struct mb_xport_near w = {0, 2, i, 0, segment, RING};
        assert_int_equal(mb_xport_loop(loop, i, 0, 2, &far), MB_OK);
        assert_int_equal(mb_xport_shm(&w, NULL, &far, &port[i]), MB_OK);
    }
    port[0].kind->post_send(&port[0], 0, 1, 0, (struct mb_span){.p = from, .n = LONG});
    port[1].kind->post_recv(&port[1], 0, 0, 0, (struct mb_span){.p = to, .n = ROOM});
    mb_log_set_quiet(true);
    assert_int_equal(port[1].kind->test(&port[1]), 0);
    mb_log_set_quiet(false);
    assert_int_equal(port[1].failed, MB_BUG);
    assert_true(to[0] == 0 && to[ROOM] == 0);
    for (int32_t i = 0; i < 2; i++)
        mb_xport_fini(&port[i]);
    mb_loop_destroy(loop);
    free(segment);
}

/* What fits into a machine's segment, and what does not. */
static void test_sizes(void **state)
{
    (void)state;
    for (int32_t i = 0; i < 20000; i++) {
        int64_t shm = (int64_t)1 << draw(30), n = 1 + draw(200), most = (int64_t)1 << draw(31);
        shm += draw(1 << 12);
        int64_t ring = mb_xchg_ring(shm, n, most), all = mb_xchg_rings(n, ring);
        assert_true(all <= shm && ring <= MB_RING_MOST && ring % 64 == 0);
        if (ring == 0)
            assert_true(n == 1 || shm < 2 * n * (n - 1) * (MB_RING_LEAST + MB_RING_CTL + 64) + 64);
        else
            assert_true(ring >= MB_RING_LEAST);
    }
    assert_int_equal(mb_xchg_ring((int64_t)64 << 20, 2, (int64_t)1 << 30), MB_RING_MOST);
    assert_int_equal(mb_xchg_ring((int64_t)64 << 20, 2, 0), MB_RING_LEAST);
    assert_int_equal(mb_xchg_ring(0, 2, 0), 0);
    assert_int_equal(mb_xchg_ring(INT64_MAX, 4096, INT64_MAX), MB_RING_MOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_ring), cmocka_unit_test(test_too_long),
                                       cmocka_unit_test(test_sizes)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
