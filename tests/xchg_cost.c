/* Exchanges among members in one process, for counting instructions (long_cost.sh): operations on values do
 * nothing, so what is left is the exchange's work on integers. What is to be counted happens in measured().
 * xchg_cost flat|hier MEMBERS PER_NODE EXPERTS K ROWS STEPS; prints the (row, expert) pairs of all. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "comm/xchg.h"
#include "comm/xport.h"
#include "draw.h"

enum { HIDDEN = 2, SHM = 1 << 22, MOST = 16 };

#define CHECK(c)                                                                                             \
    do {                                                                                                     \
        if (!(c)) {                                                                                          \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #c);                                          \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

/* ---------------------------------------------------------------- a device that moves nothing */
struct mb_buf {
    int unused;
};
static struct mb_buf the_buf;

static enum mb_status buf_alloc(struct mb_device *d, enum mb_mem_cat c, uint64_t n, struct mb_buf **out)
{
    (void)d;
    (void)c;
    (void)n;
    *out = &the_buf;
    return MB_OK;
}
static void buf_free(struct mb_buf *b)
{
    (void)b;
}
static enum mb_status host_alloc(struct mb_device *d, uint64_t n, void **out)
{
    (void)d;
    *out = calloc(1, n + 1);
    return *out != NULL ? MB_OK : MB_NO_MEMORY;
}
static void host_free(struct mb_device *d, void *p)
{
    (void)d;
    free(p);
}
static enum mb_status copy_in(struct mb_stream *s, struct mb_view dst, const void *src)
{
    (void)s;
    (void)dst;
    (void)src;
    return MB_OK;
}
static enum mb_status copy_out(struct mb_stream *s, void *dst, struct mb_view src)
{
    (void)s;
    (void)dst;
    (void)src;
    return MB_OK;
}
static enum mb_status copy(struct mb_stream *s, struct mb_view dst, struct mb_view src)
{
    (void)s;
    (void)dst;
    (void)src;
    return MB_OK;
}
static enum mb_status gather(struct mb_stream *s, struct mb_view out, struct mb_view src, struct mb_view idx)
{
    (void)s;
    (void)out;
    (void)src;
    (void)idx;
    return MB_OK;
}
static enum mb_status fold(struct mb_stream *s, struct mb_view out, const struct mb_fold_args *a)
{
    (void)s;
    (void)out;
    (void)a;
    return MB_OK;
}
static const struct mb_ops ops = {.name = "nothing",
                                  .buf_alloc = buf_alloc,
                                  .buf_free = buf_free,
                                  .host_alloc = host_alloc,
                                  .host_free = host_free,
                                  .copy_in = copy_in,
                                  .copy_out = copy_out,
                                  .copy = copy,
                                  .gather = gather,
                                  .fold = fold};

/* ---------------------------------------------------------------- the exchange */
struct all {
    int32_t n, k, experts, rows;
    bool hier;
    struct mb_serve v;
    struct mb_xchg *x[MOST];
    int32_t *to[MOST];
    float *w;
};

static struct mb_view view(int64_t rows)
{
    return mb_view_of(&the_buf, 0, rows, HIDDEN, MB_F32);
}

static void until_ready(struct all *a)
{
    for (bool ready = false; !ready;) {
        ready = true;
        for (int32_t m = 0; m < a->n; m++)
            ready &= mb_xchg_test(a->x[m]);
    }
}

__attribute__((noinline)) static void measured(struct all *a, int64_t step)
{
    struct mb_xchg_head mine = {.step = step};
    struct mb_dispatched d[MOST];

    for (int32_t m = 0; m < a->n; m++) {
        struct mb_xchg_rows in = {view(a->rows), a->to[m], a->w, NULL};
        CHECK(mb_xchg_dispatch_begin(a->x[m], &a->v, &mine, &in) == MB_OK);
    }
    until_ready(a);
    for (int32_t m = 0; m < a->n; m++)
        CHECK(mb_xchg_dispatch_end(a->x[m], &d[m]) == MB_OK && d[m].rounds == 1);
    for (int32_t m = 0; m < a->n; m++)
        CHECK(mb_xchg_combine_begin(a->x[m], view(d[m].rows), view(a->rows)) == MB_OK);
    until_ready(a);
    for (int32_t m = 0; m < a->n; m++)
        CHECK(mb_xchg_combine_end(a->x[m]) == MB_OK);
}

static void draw_rows(struct all *a)
{
    for (int32_t m = 0; m < a->n; m++)
        for (int32_t i = 0; i < a->rows; i++) {
            int32_t *e = a->to[m] + i * a->k;
            for (int32_t j = 0; j < a->k; j++) {
                e[j] = draw(a->experts);
                for (int32_t q = 0; q < j; q++)
                    if (e[q] == e[j]) {
                        e[j] = (e[j] + 1) % a->experts;
                        q = -1;
                    }
            }
        }
}

static void make(struct all *a, int32_t per_node)
{
    static int32_t first[1 << 10], member[1 << 10], node[MOST];
    struct mb_xchg_quota quota[MOST];
    struct mb_loop *loop;
    uint8_t *segment = NULL;

    CHECK(a->n <= MOST && a->experts < 1 << 10 && mb_loop_create(a->n, &loop) == MB_OK);
    for (int32_t m = 0; m < a->n; m++) {
        node[m] = m / per_node;
        quota[m] = (struct mb_xchg_quota){1 << 24, 1 << 24, 1 << 24};
    }
    for (int32_t e = 0; e < a->experts; e++) {
        first[e + 1] = e + 1;
        member[e] = (int32_t)((int64_t)e * a->n / a->experts);
    }
    a->v =
        (struct mb_serve){.ids = a->experts, .members = a->n, .first = first, .member = member, .node = node};
    a->w = calloc((size_t)a->rows * (size_t)a->k, sizeof *a->w);
    CHECK(a->w != NULL);
    for (int32_t m = 0; m < a->n; m++) {
        struct mb_xchg_options o = {.ops = &ops,
                                    .node = node,
                                    .algorithm = a->hier ? MB_A2A_HIER : MB_A2A_FLAT,
                                    .hidden = HIDDEN,
                                    .k = a->k,
                                    .experts = a->experts,
                                    .x_type = MB_F32,
                                    .y_type = MB_F32,
                                    .max_rows = a->rows,
                                    .shm_bytes = SHM,
                                    .eager_bytes = 64u << 10};
        if (m % per_node == 0)
            segment = aligned_alloc(64, SHM);
        CHECK(segment != NULL);
        if (m % per_node == 0)
            memset(segment, 0, SHM);
        struct mb_xchg_alone one = {loop, a->n, m, segment, quota};
        CHECK(mb_xchg_create_alone(&o, &one, &a->x[m]) == MB_OK);
        a->to[m] = calloc((size_t)a->rows * (size_t)a->k, sizeof **a->to);
        CHECK(a->to[m] != NULL);
    }
}

int main(int argc, char **argv)
{
    struct all a = {0};

    CHECK(argc == 8);
    a.hier = strcmp(argv[1], "hier") == 0;
    a.n = atoi(argv[2]);
    a.experts = atoi(argv[4]);
    a.k = atoi(argv[5]);
    a.rows = atoi(argv[6]);
    make(&a, atoi(argv[3]));
    for (int step = 0; step < atoi(argv[7]); step++) {
        draw_rows(&a);
        measured(&a, step);
    }
    printf("%lld\n", (long long)a.n * a.rows * a.k * atoi(argv[7]));
    return 0;
}
