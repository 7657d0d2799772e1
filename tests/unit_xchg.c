/* The exchange with many members in one process, without MPI: each row is seen by the experts that it names,
 * once, in order, and its sum has the bits of the tree rule, whatever the routing; with routing hotter than
 * planned, in rounds, and never with more memory than planned. And the integers under it, against plain
 * forms. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "base/numerics.h"
#include "comm/route.h"
#include "comm/xchg.h"
#include "comm/xport.h"
#include "draw.h"
#include "plan/split.h"
#include "plain_ops.h"

enum { HIDDEN = 3 };
enum heat { EVEN, SAME, ONE_MEMBER, FEW_SENDERS };

struct kase {
    int32_t n, per_node, experts, k, rows, copies;
    bool hier, tagged, rings; /* rings: flat, members of a machine share memory */
    bool quotas;              /* copies get parts of the rows, and rows say which serves them */
    enum heat heat;
    uint64_t eager;
};

/* All members of a case. */
struct group {
    struct kase q;
    struct mb_serve v;
    struct mb_serve *of; /* [n] the same, as each member has it settled */
    struct mb_loop *loop;
    struct mb_xchg **x; /* [n] */
    struct mb_xchg_shape *shape;
    struct mb_xchg_quota *quota;
    uint8_t **segment;    /* [nodes] */
    int32_t *m, *experts; /* [n], [n][rows][k] */
    float *weights;
    uint16_t *tags;
    struct mb_buf **in, **out, **y;
    struct mb_dispatched *d, *own; /* own: the first part, of members that ask for it */
    bool *split;
    int64_t *seen; /* [n][rows][k] times that a pair was served */
};
#define SHM ((uint64_t)1 << 20)
/* Slots that many rounds go through; rings that fit. */
static uint64_t shm_of(const struct kase *q)
{
    return q->hier ? SHM / 16 : SHM;
}

/* ---------------------------------------------------------------- making a group */
static void *zeroed(int64_t n, size_t size)
{
    void *p = calloc((size_t)n + 1, size);

    assert_non_null(p);
    return p;
}

/* Of all members' turns a random part to each copy. */
static void give_parts(struct group *g)
{
    g->v.part = zeroed(2 * g->q.experts, 4);
    g->v.stage = zeroed(g->q.n, 4);
    g->v.pad = g->q.experts;
    for (int32_t e = 0; e < g->q.experts; e++) {
        int32_t a = g->v.first[e], copies = g->v.first[e + 1] - a;
        for (int32_t c = 0; c < copies; c++)
            g->v.part[a + c] = draw(4) == 0 ? 0 : draw(1000);
        mb_split_numbers(g->v.part + a, copies, (int64_t)g->q.n * MB_SERVE_TURNS);
    }
}

/* Experts lie in equal ranges; with copies, also half the group away. */
static void make_serve(struct group *g)
{
    int32_t n = g->q.n, at = 0;

    g->v = (struct mb_serve){.ids = g->q.experts,
                             .members = n,
                             .first = zeroed(g->q.experts, 4),
                             .member = zeroed(2 * g->q.experts, 4),
                             .node = zeroed(n, 4)};
    for (int32_t m = 0; m < n; m++)
        g->v.node[m] = m / g->q.per_node;
    for (int32_t e = 0; e < g->q.experts; e++) {
        int32_t a = (int32_t)((int64_t)e * n / g->q.experts), b = (a + n / 2) % n;
        g->v.first[e] = at;
        g->v.member[at++] = g->q.copies > 1 && b < a ? b : a;
        if (g->q.copies > 1 && b != a)
            g->v.member[at++] = b < a ? a : b;
    }
    g->v.first[g->q.experts] = at;
    if (g->q.quotas)
        give_parts(g);
    g->of = zeroed(n, sizeof *g->of);
    for (int32_t m = 0; m < n; m++) {
        g->of[m] = g->v;
        assert_int_equal(mb_serve_settle(&g->of[m], m), MB_OK);
    }
}

static int32_t owned(const struct group *g, int32_t m)
{
    int32_t n = 0;

    for (int32_t e = 0; e < g->q.experts; e++)
        n += mb_serve_has(&g->v, m, e);
    return n;
}

/* As the plan does it: twice the even share, and a row of each. */
static void make_shape(struct group *g, int32_t m)
{
    const struct kase *q = &g->q;
    struct mb_xchg_shape *s = &g->shape[m];
    int64_t rows = (int64_t)q->n * q->rows, mine = owned(g, m), most = rows * (q->k < mine ? q->k : mine);
    int64_t even = mine > 0 ? 2 * rows * q->k * mine / (q->experts * q->copies) + 1 : 0;
    int32_t nodes = (q->n + q->per_node - 1) / q->per_node, first = m / q->per_node * q->per_node;

    *s = (struct mb_xchg_shape){.members = q->n,
                                .ids = q->experts,
                                .nodes = q->hier ? nodes : q->n,
                                .near = 1,
                                .widest = 1,
                                .k = q->k,
                                .hidden = HIDDEN,
                                .x_size = 4,
                                .y_size = 4,
                                .tagged = q->tagged,
                                .chosen = q->quotas,
                                .own = q->rows,
                                .each = q->rows,
                                .rows = rows,
                                .others = rows - q->rows,
                                .pairs = even + q->n * q->k,
                                .pairs_each = even / q->n + q->k,
                                .eager = (int64_t)q->eager,
                                .shm = (int64_t)shm_of(q)};
    if (q->hier) {
        s->near = first + q->per_node > q->n ? q->n - first : q->per_node;
        s->widest = q->per_node;
    }
    if (s->pairs >= most) {
        s->pairs = most;
        s->pairs_each = (int64_t)q->rows * q->k;
    }
    s->holders = q->hier ? nodes : q->n < q->experts ? q->n : q->experts;
    struct mb_xchg_room room;
    mb_xchg_room_of(s, &room);
    g->quota[m] = room.quota;
}

static void make_group_with(struct group *g, const struct kase *q, const struct mb_ops *ops)
{
    int32_t n = q->n, nodes = (n + q->per_node - 1) / q->per_node;

    *g = (struct group){.q = *q,
                        .x = zeroed(n, sizeof *g->x),
                        .shape = zeroed(n, sizeof *g->shape),
                        .quota = zeroed(n, sizeof *g->quota),
                        .segment = zeroed(nodes, sizeof *g->segment),
                        .m = zeroed(n, 4),
                        .experts = zeroed((int64_t)n * q->rows * q->k, 4),
                        .weights = zeroed((int64_t)n * q->rows * q->k, 4),
                        .tags = zeroed((int64_t)n * q->rows, 2),
                        .in = zeroed(n, sizeof *g->in),
                        .out = zeroed(n, sizeof *g->out),
                        .y = zeroed(n, sizeof *g->y),
                        .d = zeroed(n, sizeof *g->d),
                        .own = zeroed(n, sizeof *g->own),
                        .split = zeroed(n, sizeof *g->split),
                        .seen = zeroed((int64_t)n * q->rows * q->k, 8)};
    make_serve(g);
    assert_int_equal(mb_loop_create(n, &g->loop), MB_OK);
    for (int32_t b = 0; b < nodes; b++)
        g->segment[b] = zeroed((int64_t)SHM / 64, 64);
    for (int32_t m = 0; m < n; m++)
        make_shape(g, m);
    for (int32_t m = 0; m < n; m++) {
        struct mb_xchg_options o = {.ops = ops,
                                    .node = g->v.node,
                                    .algorithm = q->hier ? MB_A2A_HIER : MB_A2A_FLAT,
                                    .hidden = HIDDEN,
                                    .k = q->k,
                                    .experts = q->experts,
                                    .x_type = MB_F32,
                                    .y_type = MB_F32,
                                    .max_rows = q->rows,
                                    .shm_bytes = shm_of(q),
                                    .eager_bytes = q->eager,
                                    .shape = &g->shape[m],
                                    .chosen = q->quotas,
                                    .tagged = q->tagged};
        struct mb_xchg_alone a = {g->loop, n, m, q->hier || q->rings ? g->segment[g->v.node[m]] : NULL,
                                  g->quota};
        assert_int_equal(mb_xchg_create_alone(&o, &a, &g->x[m]), MB_OK);
        plain_ops.buf_alloc(NULL, MB_MEM_OTHER, (uint64_t)q->rows * HIDDEN * 4 + 4, &g->in[m]);
        plain_ops.buf_alloc(NULL, MB_MEM_OTHER, (uint64_t)q->rows * HIDDEN * 4 + 4, &g->out[m]);
    }
}

static void make_group(struct group *g, const struct kase *q)
{
    make_group_with(g, q, &plain_ops);
}

static void free_group(struct group *g)
{
    for (int32_t m = 0; m < g->q.n; m++) {
        mb_xchg_destroy(g->x[m]);
        plain_ops.buf_free(g->in[m]);
        plain_ops.buf_free(g->out[m]);
        plain_ops.buf_free(g->y[m]);
    }
    for (int32_t m = 0; m < g->q.n; m++) {
        free(g->of[m].turns);
        free(g->of[m].turn);
    }
    for (int32_t b = 0; b < (g->q.n + g->q.per_node - 1) / g->q.per_node; b++)
        free(g->segment[b]);
    mb_loop_destroy(g->loop);
    void *all[] = {g->x,        g->shape,  g->quota, g->segment, g->m,  g->experts, g->weights,
                   g->tags,     g->in,     g->out,   g->y,       g->d,  g->seen,    g->v.first,
                   g->v.member, g->v.node, g->own,   g->split,   g->of, g->v.part,  g->v.stage};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

/* ---------------------------------------------------------------- rows */
static int32_t draw_expert(const struct group *g, int32_t j)
{
    const struct kase *q = &g->q;

    if (q->heat == SAME)
        return (j * 5 + 3) % q->experts;
    if (q->heat == ONE_MEMBER && draw(8) > 0) /* experts of the last member, as far as it has any */
        return q->experts - 1 - draw(q->experts / q->n + 1) % q->experts;
    return draw(q->experts);
}

static float value(int32_t home, int32_t row, int32_t col)
{
    return col == 0   ? (float)home
           : col == 1 ? (float)row
                      : (float)((home * 7919 + row * 104729) % 1000) / 97.0f;
}

static float served(int32_t e, float x, int32_t col)
{
    return x * (1.0f + (float)(e % 31) / 7.0f) - 0.3f * (float)(e + col);
}

static void draw_rows(struct group *g)
{
    const struct kase *q = &g->q;

    for (int32_t m = 0; m < q->n; m++) {
        g->m[m] = q->heat == FEW_SENDERS && m % 4 != 1 ? 0 : draw(4) == 0 ? draw(q->rows + 1) : q->rows;
        for (int32_t r = 0; r < g->m[m]; r++) {
            int32_t *e = g->experts + ((int64_t)m * q->rows + r) * q->k;
            g->tags[(int64_t)m * q->rows + r] = (uint16_t)(q->tagged ? draw(3) * 300 : 0);
            for (int32_t j = 0; j < q->k; j++) {
                e[j] = draw_expert(g, j);
                for (int32_t i = 0; i < j; i++) {
                    if (e[i] == e[j]) {
                        e[j] = (e[j] + 1) % q->experts;
                        i = -1;
                    }
                }
                g->weights[((int64_t)m * q->rows + r) * q->k + j] = (float)(1 + draw(900)) / 1000.0f;
            }
            for (int32_t c = 0; c < HIDDEN; c++) {
                float x = value(m, r, c);
                memcpy(g->in[m]->p + 4 * ((int64_t)r * HIDDEN + c), &x, 4);
            }
        }
    }
}

/* ---------------------------------------------------------------- one exchange */
static void all_ready(struct group *g)
{
    bool ready = false;

    for (int turns = 0; !ready; turns++) {
        assert_true(turns < 100000);
        ready = true;
        for (int32_t m = 0; m < g->q.n; m++) {
            if (draw(3) == 0)
                mb_xchg_poll(g->x[m]);
            else
                ready &= mb_xchg_test(g->x[m]);
        }
        for (int32_t m = 0; ready && m < g->q.n; m++)
            ready &= mb_xchg_test(g->x[m]);
    }
}

static struct mb_view view(struct mb_buf *b, int64_t rows)
{
    return mb_view_of(b, 0, rows, HIDDEN, MB_F32);
}

/* Where the outputs of `rows` rows go: a buffer of the exchange, or one of its user's. */
static struct mb_view outputs(struct group *g, int32_t m, int64_t rows)
{
    struct mb_view y = mb_xchg_outputs(g->x[m], rows);

    assert_true(rows <= g->shape[m].pairs);
    if (g->split[m])
        return y;
    plain_ops.buf_free(g->y[m]);
    plain_ops.buf_alloc(NULL, MB_MEM_OTHER, (uint64_t)rows * HIDDEN * 4 + 4, &g->y[m]);
    return view(g->y[m], rows);
}

/* What member m was given: each row is one that named this expert and whose owner this is, in order; makes
 * the outputs. */
static void serve(struct group *g, int32_t m, const struct mb_dispatched *d, struct mb_view to)
{
    const struct kase *q = &g->q;
    float x[HIDDEN], y;

    for (int32_t i = 0; i < d->n_experts; i++) {
        int64_t before = -1;
        for (int64_t at = d->begin[i]; at < d->begin[i + 1]; at++) {
            memcpy(x, d->x.buf->p + d->x.off + (uint64_t)at * HIDDEN * 4, sizeof x);
            int32_t home = (int32_t)x[0], row = (int32_t)x[1], e = d->expert[i], j = 0;
            int64_t of = (int64_t)home * q->rows + row,
                    place = (q->tagged ? (int64_t)g->tags[of] << 40 : 0) + of;
            while (j < q->k && g->experts[of * q->k + j] != e)
                j++;
            assert_true(home < q->n && row < g->m[home] && j < q->k && place > before);
            assert_true(q->quotas ? mb_serve_has(&g->v, m, e) : mb_serve_pick(&g->v, e, home) == m);
            assert_true(!q->tagged || d->tag[at] == g->tags[of]);
            g->seen[of * q->k + j]++;
            before = place;
            for (int32_t c = 0; c < HIDDEN; c++) {
                y = served(e, x[c], c);
                memcpy(to.buf->p + 4 * ((d->first + at) * HIDDEN + c), &y, 4);
            }
        }
    }
}

static void check_sums(const struct group *g, int32_t m)
{
    const struct kase *q = &g->q;

    for (int32_t r = 0; r < g->m[m]; r++) {
        int64_t of = ((int64_t)m * q->rows + r) * q->k;
        int32_t pos[MB_ROUTE_MAX_K];
        float w[MB_ROUTE_MAX_K], v[MB_ROUTE_MAX_K], got;
        for (int32_t j = 0; j < q->k; j++) {
            int32_t i = j;
            for (; i > 0 && pos[i - 1] > g->experts[of + j]; i--) {
                pos[i] = pos[i - 1];
                w[i] = w[i - 1];
            }
            pos[i] = g->experts[of + j];
            w[i] = g->weights[of + j];
            assert_int_equal(g->seen[of + j], 1);
        }
        for (int32_t c = 0; c < HIDDEN; c++) {
            for (int32_t j = 0; j < q->k; j++)
                v[j] = w[j] * served(pos[j], value(m, r, c), c);
            float want = mb_tree_sum(v, pos, q->k);
            memcpy(&got, g->out[m]->p + 4 * ((int64_t)r * HIDDEN + c), 4);
            assert_memory_equal(&got, &want, 4);
        }
    }
}

/* Which copies served a member's rows: those whose turn it was, the n-th row of an expert by the n-th turn
 * from the step's number on. */
static void check_copies(const struct group *g, int32_t m, int64_t step)
{
    const struct kase *q = &g->q;
    const int32_t *by = mb_xchg_served_by(g->x[m]);
    int32_t *n = zeroed(q->experts, 4);

    for (int32_t i = 0; q->quotas && i < g->m[m] * q->k; i++) {
        int32_t e = g->experts[(int64_t)m * q->rows * q->k + i], turn = n[e]++ + (int32_t)step;
        assert_int_equal(by[i], g->v.member[g->v.first[e] + mb_serve_turn(&g->of[m], e, turn)]);
    }
    free(n);
}

/* A member's part of a dispatch; some have their own rows first, and compute these as late as may be. */
static void end_dispatch(struct group *g, int32_t m, int32_t round)
{
    struct mb_dispatched *d = &g->d[m];

    assert_int_equal(mb_xchg_dispatch_end(g->x[m], d), MB_OK);
    assert_true(d->round == round && d->rounds == g->d[0].rounds &&
                d->heads[g->q.n - 1].rows == g->m[g->q.n - 1] && d->heads[0].revision == 7 &&
                d->heads[0].epoch == 3);
    assert_int_equal(d->first, g->split[m] ? g->own[m].rows : 0);
    struct mb_view y = outputs(g, m, d->first + d->rows);
    serve(g, m, d, y);
    assert_int_equal(mb_xchg_combine_begin(g->x[m], y, view(g->out[m], g->m[m])), MB_OK);
    if (g->split[m])
        serve(g, m, &g->own[m], y);
}

/* Returns the rounds that it took. */
static int32_t one_exchange(struct group *g, int64_t step)
{
    const struct kase *q = &g->q;
    struct mb_xchg_head mine = {.step = step, .layer = 1, .revision = 7, .epoch = 3};

    draw_rows(g);
    memset(g->seen, 0, (size_t)q->n * (size_t)q->rows * (size_t)q->k * sizeof *g->seen);
    for (int32_t round = 0;; round++) {
        for (int32_t m = 0; m < q->n; m++) {
            int64_t at = (int64_t)m * q->rows;
            struct mb_xchg_rows own = {view(g->in[m], g->m[m]), g->experts + at * q->k,
                                       g->weights + at * q->k, g->tags + at};
            assert_int_equal(round > 0 ? mb_xchg_again_begin(g->x[m], &mine)
                                       : mb_xchg_dispatch_begin(g->x[m], &g->of[m], &mine, &own),
                             MB_OK);
            g->split[m] = q->n > 1 && draw(2) == 0;
            if (g->split[m])
                mb_xchg_own(g->x[m], &g->own[m]);
        }
        all_ready(g);
        for (int32_t m = 0; m < q->n; m++)
            end_dispatch(g, m, round);
        all_ready(g);
        for (int32_t m = 0; m < q->n; m++)
            assert_int_equal(mb_xchg_combine_end(g->x[m]), MB_OK);
        if (round + 1 == g->d[0].rounds)
            break;
    }
    for (int32_t m = 0; m < q->n; m++) {
        check_sums(g, m);
        check_copies(g, m, step);
    }
    return g->d[0].rounds;
}

static int32_t run(const struct kase *q, int steps)
{
    struct group g;
    int32_t most = 0;

    make_group(&g, q);
    for (int step = 0; step < steps; step++) {
        int32_t rounds = one_exchange(&g, step);
        most = rounds > most ? rounds : most;
    }
    free_group(&g);
    return most;
}

/* ---------------------------------------------------------------- tests */
static void test_any_group(void **state)
{
    (void)state;
    int32_t rounds = 0;

    for (int i = 0; i < 150; i++) {
        struct kase q = {.n = 1 + draw(20),
                         .experts = 1 + draw(40),
                         .rows = 1 + draw(24),
                         .copies = 1 + draw(2),
                         .hier = draw(2) == 0,
                         .tagged = draw(3) == 0,
                         .rings = draw(2) == 0,
                         .heat = (enum heat)draw(4),
                         .eager = (uint64_t)(draw(3) * 100)};
        q.per_node = 1 + draw(q.n);
        q.k = 1 + draw(q.experts < 8 ? q.experts : 8);
        q.copies = q.n > 1 ? q.copies : 1;
        q.quotas = draw(2) == 0;
        int32_t n = run(&q, 3);
        rounds = n > rounds ? n : rounds;
    }
    assert_true(rounds > 3); /* some went through in several */
}

/* All rows name experts of one member: the planned memory is enough, the rounds are as many as the heat. */
static void test_hot_member(void **state)
{
    (void)state;
    struct kase q = {
        .n = 16, .per_node = 4, .experts = 64, .k = 4, .rows = 200, .copies = 1, .heat = SAME, .eager = 64};

    for (int hier = 0; hier < 2; hier++) {
        q.hier = hier == 1;
        int32_t rounds = run(&q, 1);
        assert_true(rounds >= 2 && rounds <= 16);
    }
    q.heat = EVEN; /* and rows that go everywhere alike take one */
    q.hier = false;
    assert_int_equal(run(&q, 1), 1);
}

static void test_many_members(void **state)
{
    (void)state;
    struct kase q = {
        .n = 64, .per_node = 8, .experts = 256, .k = 8, .rows = 16, .copies = 1, .heat = EVEN, .eager = 256};

    run(&q, 2);
    q.hier = true;
    run(&q, 2);
    q = (struct kase){
        .n = 512, .per_node = 8, .experts = 512, .k = 8, .rows = 4, .copies = 2, .hier = true, .heat = EVEN};
    run(&q, 1);
    q.quotas = true;
    run(&q, 1);
}

static bool gathers_fail;
static enum mb_status failing_gather(struct mb_stream *s, struct mb_view out, struct mb_view src,
                                     struct mb_view idx)
{
    return gathers_fail ? MB_DEVICE : plain_gather(s, out, src, idx);
}

/* A device that fails inside an exchange is the status of the operation, of every later one, and nothing is
 * sent: the others find nothing to go on with. And a member that goes by another placement is out of step. */
static void test_failures(void **state)
{
    (void)state;
    struct kase q = {.n = 2, .per_node = 1, .experts = 8, .k = 2, .rows = 8, .copies = 1, .eager = 1024};
    struct mb_ops ops = plain_ops;
    struct mb_xchg_head mine = {.step = 1};
    struct group g;

    ops.gather = failing_gather;
    make_group_with(&g, &q, &ops);
    do
        draw_rows(&g);
    while (g.m[0] < q.rows || g.m[1] < q.rows);
    for (int32_t m = 0; m < 2; m++) {
        struct mb_xchg_rows own = {view(g.in[m], q.rows), g.experts + m * q.rows * q.k,
                                   g.weights + m * q.rows * q.k, NULL};
        gathers_fail = m == 1;
        assert_int_equal(mb_xchg_dispatch_begin(g.x[m], &g.v, &mine, &own), MB_OK);
    }
    assert_true(mb_xchg_test(g.x[1]) && !mb_xchg_test(g.x[0]));
    assert_int_equal(mb_xchg_dispatch_end(g.x[1], &g.d[1]), MB_DEVICE);
    assert_true(mb_xchg_broken(g.x[1]) && !mb_xchg_broken(g.x[0]));
    assert_int_equal(mb_xchg_dispatch_begin(g.x[1], &g.v, &mine, &(struct mb_xchg_rows){0}), MB_DEVICE);
    gathers_fail = false;
    free_group(&g);

    make_group(&g, &q);
    for (int32_t m = 0; m < 2; m++) {
        struct mb_xchg_rows none = {.x = view(g.in[m], 0)};
        mine.revision = (uint32_t)m;
        assert_int_equal(mb_xchg_dispatch_begin(g.x[m], &g.v, &mine, &none), MB_OK);
    }
    all_ready(&g);
    mb_log_set_quiet(true);
    for (int32_t m = 0; m < 2; m++)
        assert_int_equal(mb_xchg_dispatch_end(g.x[m], &g.d[m]), MB_BUG);
    mb_log_set_quiet(false);
    free_group(&g);
}

/* Nodes of the tree against the recursive form, for any holders. */
static void test_tree_nodes(void **state)
{
    (void)state;

    for (int i = 0; i < 20000; i++) {
        int32_t k = 1 + draw(24), pos[24], first[24], count[24], n = 0, id0 = 0;
        uint16_t id[24];
        uint8_t held[24];
        for (int32_t j = 0; j < k; j++) {
            id0 += 1 + draw(1 << draw(6));
            pos[j] = id[j] = (uint16_t)id0;
            held[j] = draw(3) > 0;
        }
        int32_t want = mb_tree_maximal(pos, held, k, first, count);
        for (int32_t a = 0; a < k;) {
            int32_t b = a;
            if (!held[a++])
                continue;
            while (b + 1 < k && held[b + 1])
                b++;
            for (int32_t at = a - 1; at <= b; n++) {
                int32_t end = mb_cut_node(id, k, at, b);
                assert_true(n < want && first[n] == at && count[n] == end - at + 1);
                at = end + 1;
            }
            a = b + 1;
        }
        assert_int_equal(n, want);
    }
}

/* Owners of every id for every home, with any placement. */
static void test_owners(void **state)
{
    (void)state;
    enum { N = 40, E = 64 };
    static int32_t first[E + 1], member[E * N], node[N], slot[E], own[E];
    static uint16_t of[N * E], mine[E], at_own[E];
    static uint8_t known[N];
    static int32_t region[N], region_own[N];
    struct mb_owners o = {.of = of,
                          .known = known,
                          .mine = mine,
                          .at = at_own,
                          .slot = slot,
                          .own = own,
                          .region = region,
                          .region_own = region_own};

    for (int i = 0; i < 200; i++) {
        int32_t n = 1 + draw(N), ids = 1 + draw(E), most = draw(2) == 0 ? 1 : 1 + draw(n), me = draw(n),
                at = 0, row[N];
        struct mb_serve v = {.ids = ids, .members = n, .first = first, .member = member, .node = node};
        for (int32_t m = 0; m < n; m++)
            node[m] = m == 0 ? 0 : node[m - 1] + (draw(4) == 0);
        for (int32_t id = 0; id < ids; id++) {
            first[id] = at;
            for (int32_t m = draw(n), left = 1 + draw(most); m < n && left > 0; m += 1 + draw(3), left--)
                member[at++] = m;
            first[id + 1] = at;
        }
        for (int32_t m = 0; m < n; m++) {
            region[m] = draw(3) == 0 ? -1 : 1 + m;
            region_own[m] = 100 + m;
        }
        mb_owners_set(&o, &v, me);
        for (int32_t id = 0; id < ids; id++) {
            mb_serve_row(&v, id, row);
            for (int32_t h = 0; h < n; h++) {
                int32_t who = mb_serve_pick(&v, id, h);
                if (h == me)
                    assert_true(o.mine[id] == who && mb_owners_of(&o, h)[id] == region_own[who]);
                else
                    assert_int_equal(mb_owners_of(&o, h)[id], (uint16_t)region[who]);
                assert_int_equal(row[h], mb_serve_pick(&v, id, h));
            }
            assert_int_equal(slot[id] >= 0, mb_serve_has(&v, me, id));
            assert_true(slot[id] < 0 || own[slot[id]] == id);
        }
        for (int32_t j = 1; o.range && j < o.n; j++)
            assert_true(own[j] == own[0] + j && o.one);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_nodes), cmocka_unit_test(test_owners),
        cmocka_unit_test(test_any_group),  cmocka_unit_test(test_failures),
        cmocka_unit_test(test_hot_member), cmocka_unit_test(test_many_members)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
