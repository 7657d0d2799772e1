/* The exchange against a naive computation: random routes, placements, partitions into nodes, sizes. Every
 * rank knows every rank's rows (they follow from seeds), so each checks its dispatched rows, its sums bit for
 * bit, and its counters against formulas written here anew. */
#include "mpi_comm.h"

#include "plain_ops.h"
#include "xchg_expect.h"

static _Thread_local struct mb_comm *c; /* ranks may be threads (mpi_threads.c) */
static _Thread_local int rank, size;
static _Thread_local struct mb_mem mem;

/* The table under the exchange: the tests' own, or the CPU backend. */
static _Thread_local const struct mb_ops *ops;
static _Thread_local struct mb_device *dev;
static _Thread_local struct mb_stream *stream;

static void put(enum mb_dtype t, uint8_t *base, int64_t i, float v)
{
    uint16_t h = mb_bf16_of(v);

    if (t == MB_F32)
        memcpy(base + 4 * i, &v, 4);
    else
        memcpy(base + 2 * i, &h, 2);
}

static float get(enum mb_dtype t, const uint8_t *base, int64_t i)
{
    float v;
    uint16_t h;

    memcpy(&v, base + (t == MB_F32 ? 4 : 2) * i, t == MB_F32 ? 4 : 2);
    memcpy(&h, base + (t == MB_F32 ? 4 : 2) * i, 2);
    return t == MB_F32 ? v : mb_bf16_float(h);
}

/* ---------------------------------------------------------------- one exchange */
/* Rows of one home for one expert, with one tag, from place `at` of the dispatched rows on; returns the place
 * behind. */
static int64_t serve_home(const struct kase *q, const struct input *in, int32_t home, int32_t e, uint16_t tag,
                          int64_t step, const struct mb_dispatched *d, const uint8_t *rows, int64_t at,
                          uint8_t *y)
{
    for (int32_t m = 0; m < in->m; m++)
        for (int32_t j = 0; j < q->k; j++) {
            if (in->experts[m * q->k + j] != e || in->tags[m] != tag)
                continue;
            CHECK(at < d->rows && (d->tag == NULL || d->tag[at] == tag));
            for (int64_t col = 0; col < q->hidden; col++) {
                float v = get(q->xt, rows + at * q->hidden * mb_dtype_size(q->xt), col);
                CHECK(v == x_value(q, home, m, step, col));
                put(q->yt, y, at * q->hidden + col, y_value(q, e, v, col));
            }
            at++;
        }
    return at;
}

/* Order (expert, tag, home, row), contents, and the counts; fills y. */
static void serve(const struct kase *q, const struct holders *ho, const struct input *all, int64_t step,
                  const struct mb_dispatched *d, uint8_t *y)
{
    static const uint16_t tags[] = {0, 1, 3, 256, 65535};
    int64_t at = 0;
    int32_t n = 0;
    uint8_t *rows = malloc((size_t)(d->rows * q->hidden * mb_dtype_size(q->xt)) + 1);

    CHECK((d->tag != NULL) == q->tagged);
    if (d->rows > 0)
        CHECK(ops->copy_out(stream, rows, d->x) == MB_OK);
    for (int32_t e = 0; e < q->experts; e++) {
        if (!ho->holds[(int64_t)e * size + rank])
            continue;
        CHECK(n < d->n_experts && d->expert[n] == e && d->begin[n] == at);
        n++;
        for (int t = 0; t < (q->tagged ? 5 : 1); t++)
            for (int32_t home = 0; home < size; home++)
                at = xchg_owner(ho, home, e) != rank
                         ? at
                         : serve_home(q, &all[home], home, e, tags[t], step, d, rows, at, y);
    }
    CHECK(n == d->n_experts && at == d->rows && d->begin[n] == at);
    free(rows);
}

static void check_sums(const struct kase *q, const struct input *in, int64_t step, const float *out)
{
    for (int32_t m = 0; m < in->m; m++) {
        int32_t pos[MAX_K], place[MAX_K];
        for (int32_t j = 0; j < q->k; j++) { /* insertion sort by id */
            int32_t i = j;
            for (; i > 0 && pos[i - 1] > in->experts[m * q->k + j]; i--) {
                pos[i] = pos[i - 1];
                place[i] = place[i - 1];
            }
            pos[i] = in->experts[m * q->k + j];
            place[i] = j;
        }
        for (int64_t col = 0; col < q->hidden; col++) {
            float v[MAX_K], got = out[m * q->hidden + col], want;
            for (int32_t j = 0; j < q->k; j++)
                v[j] = in->weights[m * q->k + place[j]] *
                       y_value(q, pos[j], x_value(q, rank, m, step, col), col);
            want = mb_tree_sum(v, pos, q->k);
            CHECK(mb_bits_of(got) == mb_bits_of(want));
        }
    }
}

static void check_heads(const struct mb_xchg_head *h, const struct input *all, int64_t step, int32_t layer)
{
    for (int32_t s = 0; s < size; s++) {
        CHECK(h[s].step == step && h[s].layer == layer);
        CHECK(h[s].rows == (all != NULL ? all[s].m : s + 10 * step));
        CHECK(h[s].flags == (uint32_t)(s * 3 + step));
        CHECK(h[s].status == (s == step % 7 ? MB_NO_SPACE : MB_OK));
    }
}

static struct mb_xchg_head head_of(int64_t step, int32_t layer)
{
    return (struct mb_xchg_head){.step = step,
                                 .layer = layer,
                                 .flags = (uint32_t)(rank * 3 + step),
                                 .status = rank == step % 7 ? MB_NO_SPACE : MB_OK};
}

static void one_exchange(const struct kase *q, struct mb_xchg *x, const struct holders *ho, int64_t step,
                         int32_t layer, struct input *all, struct expect *e, const struct world *w)
{
    struct mb_xchg_head mine = head_of(step, layer);
    struct mb_dispatched d;
    struct mb_buf *in = NULL, *y = NULL, *out = NULL;

    for (int32_t s = 0; s < size; s++)
        make_input(q, s, step, layer, &all[s]);
    int64_t m = all[rank].m, cells = m * q->hidden;
    uint8_t *host = malloc((size_t)cells * 4 + 1);
    CHECK(ops->buf_alloc(dev, MB_MEM_OTHER, (uint64_t)cells * 4 + 4, &in) == MB_OK);
    CHECK(ops->buf_alloc(dev, MB_MEM_OTHER, (uint64_t)cells * 4 + 4, &out) == MB_OK);
    for (int64_t i = 0; i < cells; i++)
        put(q->xt, host, i, x_value(q, rank, (int32_t)(i / q->hidden), step, i % q->hidden));
    struct mb_view vin = mb_view_of(in, 0, m, q->hidden, q->xt),
                   vout = mb_view_of(out, 0, m, q->hidden, MB_F32);
    CHECK(ops->copy_in(stream, vin, host) == MB_OK);
    struct mb_xchg_rows own = {vin, all[rank].experts, all[rank].weights, q->tagged ? all[rank].tags : NULL};
    CHECK(mb_xchg_dispatch(x, &ho->v, &mine, &own, &d) == MB_OK);
    check_heads(d.heads, all, step, layer);
    for (int64_t i = 0; i < m * q->k; i++)
        CHECK(mb_xchg_served_by(x)[i] == xchg_owner(ho, rank, all[rank].experts[i]));
    uint8_t *hy = malloc((size_t)(d.rows * q->hidden) * 4 + 1);
    serve(q, ho, all, step, &d, hy);
    CHECK(ops->buf_alloc(dev, MB_MEM_OTHER, (uint64_t)(d.rows * q->hidden) * 4 + 4, &y) == MB_OK);
    struct mb_view vy = mb_view_of(y, 0, d.rows, q->hidden, q->yt);
    CHECK(ops->copy_in(stream, vy, hy) == MB_OK);
    memset(host, 0xee, (size_t)cells * 4);
    CHECK(ops->copy_in(stream, vout, host) == MB_OK);
    CHECK(mb_xchg_combine(x, vy, vout) == MB_OK);
    CHECK(ops->copy_out(stream, host, vout) == MB_OK);
    check_sums(q, &all[rank], step, (const float *)host);
    xchg_expect_network(q, w, ho, all, e);
    xchg_expect_node(q, w, ho, all, e);
    ops->buf_free(in);
    ops->buf_free(out);
    ops->buf_free(y);
    free(host);
    free(hy);
}

/* A header-only step between the layers' exchanges: 64 bytes to each remote node, heads of all. */
static void one_step(const struct world *w, struct mb_xchg *x, int64_t step, struct expect *e)
{
    struct mb_xchg_head mine = head_of(step, -1);
    const struct mb_xchg_head *heads = NULL;

    mine.rows = rank + 10 * step;
    CHECK(mb_xchg_step(x, &mine, &heads) == MB_OK);
    check_heads(heads, NULL, step, -1);
    for (int32_t b = 0; b < w->nodes; b++)
        if (b != w->node[rank]) {
            enum mb_link l = xchg_link(w, rank, xchg_agent(w, rank, b));
            e->db[l] += 64;
            e->dm[l]++;
        }
    for (int32_t s = 0; s < size; s++)
        if (w->count[w->node[rank]] > 1 && xchg_agent_here(w, s) == rank) {
            e->db[MB_LINK_SHM] += 64;
            e->dm[MB_LINK_SHM]++;
        }
}

/* ---------------------------------------------------------------- a case with its exchange */
static int32_t draw_owner(const struct kase *q, int32_t e, struct rng *r)
{
    return q->placement == 0   ? (int32_t)(((int64_t)(e + 1) * size - 1) / q->experts)
           : q->placement == 1 ? e % size
           : q->placement == 3 ? size - 1
           : q->placement == 4 ? (int32_t)draw(r, (uint32_t)(size + 1) / 2) * 2 % size
                               : (int32_t)draw(r, (uint32_t)size);
}

/* Placement 5 has replicas: up to four holders of an expert. */
static void make_holders(const struct kase *q, const struct world *w, int32_t layer, struct holders *ho)
{
    struct rng r = {mix(q->seed + 77 + (uint64_t)layer)};
    int32_t n = 0;

    *ho = (struct holders){.node = w->node};
    ho->holds = calloc((size_t)(q->experts + 1) * (size_t)size, 1);
    ho->v = (struct mb_serve){.ids = q->experts,
                              .members = size,
                              .first = calloc((size_t)q->experts + 1, 4),
                              .member = calloc((size_t)(q->experts + 1) * (size_t)size, 4),
                              .node = calloc((size_t)size, 4)};
    for (int32_t e = 0; e < q->experts; e++) {
        for (int i = 0; i < (q->placement == 5 ? 4 : 1); i++)
            ho->holds[(int64_t)e * size + draw_owner(q, e, &r)] = 1;
        ho->v.first[e] = n;
        for (int32_t m = 0; m < size; m++) {
            if (ho->holds[(int64_t)e * size + m])
                ho->v.member[n++] = m;
        }
    }
    ho->v.first[q->experts] = n;
    for (int32_t m = 0; m < size; m++)
        ho->v.node[m] = w->node[m];
}

static void free_holders(struct holders *ho)
{
    free(ho->holds);
    free(ho->v.first);
    free(ho->v.member);
    free(ho->v.node);
}

static void run_case(const struct kase *q)
{
    struct mb_topo *topo = NULL;
    struct mb_xchg *x = NULL;
    struct holders ho[2];
    struct world w;
    struct expect e = {0};
    struct input *all = calloc((size_t)size, sizeof *all);
    int64_t before = mb_mem_total(&mem);

    CHECK(mb_topo_synthetic(q->nodes, q->per_node, &topo) == MB_OK);
    struct mb_xchg_options o = {.ops = ops,
                                .dev = dev,
                                .stream = stream,
                                .mem = &mem,
                                .node = topo->node_of,
                                .algorithm = q->algorithm,
                                .hidden = q->hidden,
                                .k = q->k,
                                .experts = q->experts,
                                .tagged = q->tagged,
                                .x_type = q->xt,
                                .y_type = q->yt,
                                .max_rows = MAX_M,
                                .shm_bytes = q->shm,
                                .eager_bytes = q->eager};
    CHECK(mb_xchg_create(c, &o, &x) == MB_OK);
    CHECK(mb_xchg_algorithm(x) == q->algorithm);
    CHECK(mb_xchg_index(x) == rank && mb_xchg_size(x) == size);
    CHECK(mb_plan_dispatch_row_bytes(q->k, q->hidden, q->xt, q->tagged, false) == xchg_row_bytes(q));
    xchg_world(q, rank, &w);
    CHECK(q->layers <= 2);
    for (int32_t layer = 0; layer < q->layers; layer++)
        make_holders(q, &w, layer, &ho[layer]);
    for (int64_t step = 0; step < q->steps; step++) {
        for (int32_t layer = 0; layer < q->layers; layer++)
            one_exchange(q, x, &ho[layer], step, layer, all, &e, &w);
        one_step(&w, x, step, &e);
    }
    xchg_check_counts(q, x, &e, q->shm >= 64u << 20);
    mb_xchg_destroy(x);
    mb_topo_destroy(topo);
    for (int32_t layer = 0; layer < q->layers; layer++)
        free_holders(&ho[layer]);
    free(all);
    CHECK(mb_mem_total(&mem) == before);
}

/* ---------------------------------------------------------------- cases */
/* Partition number i of the ranks: one node, all nodes single, and uneven ones. */
static void set_nodes(struct kase *q, struct rng *r, int i)
{
    int32_t left = size;

    q->nodes = 0;
    while (left > 0) {
        int32_t n = i == 0   ? size
                    : i == 1 ? 1
                    : i == 2 ? (size + 1) / 2
                             : 1 + (int32_t)draw(r, (uint32_t)left);
        n = n < left ? n : left;
        q->per_node[q->nodes++] = n;
        left -= n;
    }
}

static struct kase random_case(struct rng *r, int i)
{
    static const int64_t hiddens[] = {4, 64, 37, 200, 2048};
    static const uint64_t eagers[] = {65536, 0, 500, 3000};
    struct kase q = {.size = size, .seed = mix(r->s), .layers = 2, .steps = 3};

    q.hidden = hiddens[draw(r, 5)];
    q.experts = i % 9 == 8 ? 1024 : 1 + (int32_t)draw(r, 40);
    q.k = 1 + (int32_t)draw(r, q.experts < MAX_K ? (uint32_t)q.experts : MAX_K);
    if (i % 3 == 0 && q.k > 8)
        q.k = 8;
    q.xt = draw(r, 2) ? MB_BF16 : MB_F32;
    q.yt = draw(r, 2) ? MB_BF16 : MB_F32;
    q.algorithm = i % 3 == 2 ? MB_A2A_FLAT : MB_A2A_HIER;
    set_nodes(&q, r, (int)draw(r, 5));
    q.shm = draw(r, 2) ? 64u << 20 : (4096u + (uint64_t)size * (2048u * 4u + 512u)) * (1 + draw(r, 3));
    q.eager = eagers[draw(r, 4)];
    q.placement = (int)draw(r, 6);
    q.tagged = i % 4 == 1;
    q.rows = draw(r, 4) != 0 ? 0 : 1 + (int)draw(r, 3);
    return q;
}

static void run_cases(int cases)
{
    struct rng r = {2026};

    for (int i = 0; i < cases; i++) {
        struct kase q = random_case(&r, i);
        run_case(&q);
    }
}

/* The CPU backend must not be left out: its operations are asked for things at their edges (no rows, odd
 * widths). */
static void run_on_cpu(int cases)
{
    struct mb_device_options o = {.threads = 1, .isa = "auto", .mem = &mem, .path = MB_BF16};

    ops = mb_ops_find("cpu");
    CHECK(ops != NULL && ops->open(&o, &dev) == MB_OK && ops->stream_create(dev, &stream) == MB_OK);
    run_cases(cases);
    ops->stream_destroy(stream);
    ops->close(dev);
}

/* A model without MoE layers: no experts at all, only steps. */
static void run_dense(void)
{
    struct kase q = {
        .size = size, .hidden = 64, .algorithm = MB_A2A_HIER, .steps = 3, .shm = 64u << 20, .eager = 65536};
    struct rng r = {1};

    set_nodes(&q, &r, 2);
    run_case(&q);
}

int main(int argc, char **argv)
{
    int level;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    c = test_comm(50, &mem);
    rank = mb_comm_rank(c);
    size = mb_comm_size(c);
    CHECK(size <= MAX_N);
    int cases = argc > 1 ? atoi(argv[1]) : size > 2 ? 12 : 20;
    ops = &plain_ops;
    run_dense();
    run_cases(cases);
    run_on_cpu(cases / 2);
    test_no_shm_left(c);
    mb_comm_destroy(c);
    CHECK(mb_mem_total(&mem) == 0);
    MPI_Finalize();
    return 0;
}
