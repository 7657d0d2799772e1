/* Random fills: jobs of few or no requests on many or few ranks, in random layouts, placements, step sizes
 * and distributions of the requests over leaders, some of which have to wait for theirs, some of which have
 * none. Every job ends, and its records have the bits that one rank gave each request. mpi_fill MODEL
 * f32|bf16 FILLS SEED SECONDS [hang] Each fill has SECONDS; then every rank says where it stands, with its
 * stack, and the job ends. hang: rank 1 stops in the second fill (a test of that limit). */
#include <execinfo.h>
#include <signal.h>
#include "base/hash.h"
#include "device/ops.h"
#include "engine/engine.h"
#include "mpi_comm.h"
#include "plan/enumerate.h"
#include "plan/plan.h"
#include "quiet_sink.h"
#include "draw.h"

#define POOL 24
#define SEGMENT 64
#define LONGEST 330

static struct mb_comm *world;
static struct mb_model *model;
static enum mb_dtype path;
static uint64_t want[POOL];            /* hash of each request's record, as one rank gave it */
static char now[MB_LAYOUT_TEXT + 200]; /* the fill under way */

/* ---------------------------------------------------------------- the limit */

static void at_limit(int sig)
{
    void *frames[64];
    char text[sizeof now + 100];
    int n = snprintf(text, sizeof text, "rank %d is still at %s; its stack:\n", mb_comm_rank(world), now);

    (void)sig;
    if (write(STDERR_FILENO, text, (size_t)n) < 0)
        _exit(3);
    backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
    sleep(2); /* the others' stacks come first */
    _exit(3);
}

/* ---------------------------------------------------------------- requests */

static struct mb_request *request(int32_t i)
{
    struct mb_request *r = calloc(1, sizeof *r);
    int64_t n = i % 8 == 7 ? LONGEST - 11 * i : 1 + i * 5 % 61;

    CHECK(r != NULL);
    mb_sampling_init(&r->sampling);
    r->sampling.max_tokens = 1 + i % 5;
    r->sampling.ignore_eos = true;
    r->sampling.temperature = i % 2 ? 0.9f : 0.0f;
    r->line = (uint64_t)i;
    r->id.data = calloc(1, 16);
    CHECK(r->id.data != NULL);
    r->id.len = (size_t)snprintf(r->id.data, 16, "%d", (int)i);
    r->kind = i % 6 == 5 && n > 2 ? MB_KIND_LOGLIKELIHOOD : MB_KIND_GENERATE;
    r->n = 1;
    r->n_prompt = n;
    r->score_from = r->kind == MB_KIND_GENERATE ? n : n / 2;
    r->prompt = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)n, sizeof *r->prompt);
    CHECK(r->prompt != NULL);
    for (int64_t k = 0; k < n; k++)
        r->prompt[k] = (int32_t)((k * k + 3 * k + 17 * i) % model->vocab);
    return r;
}

/* One leader's requests; before each it may have to wait for a few steps. */
struct some {
    struct mb_source base;
    int32_t give[POOL], n, next, wait;
};

static enum mb_status some_next(struct mb_source *base, int32_t room, struct mb_request **out, int32_t *n,
                                enum mb_source_state *state)
{
    struct some *s = (struct some *)base;

    *n = 0;
    *state = MB_SOURCE_WAIT;
    if (s->wait > 0 && s->wait-- % 3 != 0)
        return MB_OK;
    *state = MB_SOURCE_SOME;
    while (*n < room && s->next < s->n && (s->wait == 0 || *n == 0))
        out[(*n)++] = request(s->give[s->next++]);
    if (*n == 0)
        *state = MB_SOURCE_END;
    return MB_OK;
}

struct sum {
    struct mb_sink base;
    uint64_t hash[POOL];
    int64_t rows, all;
};

static enum mb_status sum_done(struct mb_sink *base, int32_t handle, struct mb_record *r)
{
    struct sum *s = (struct sum *)base;
    struct mb_hasher *h = mb_hasher_create();

    (void)handle;
    CHECK(h != NULL && r->status == MB_ROW_OK && r->line < POOL);
    mb_hasher_field(h, r->output_ids, 4 * (size_t)r->n_output);
    mb_hasher_field(h, r->output_logprobs, 4 * (size_t)r->n_output);
    mb_hasher_field(h, &r->logprob_sum, sizeof r->logprob_sum);
    mb_hasher_field(h, &r->is_greedy, sizeof r->is_greedy);
    s->hash[r->line] = mb_hasher_64(h) >> 8; /* room for the sum over ranks */
    s->all += (int64_t)s->hash[r->line];
    s->rows++;
    mb_hasher_destroy(h);
    mb_record_fini(r);
    return MB_OK;
}

/* ---------------------------------------------------------------- one fill */

struct fill {
    int32_t ranks, n;
    int32_t id[POOL], leader[POOL]; /* of each request */
    int32_t wait[64];               /* of each leader */
    struct mb_topo *t;
    struct mb_layout l;
    struct mb_plan_options o;
    int64_t *usage;
};

static struct mb_plan_options options(void)
{
    return (struct mb_plan_options){.max_num_seqs = 6,
                                    .max_batch_rows = 64,
                                    .max_model_len = LONGEST + 20,
                                    .path = path,
                                    .kv_dtype = path,
                                    .memory_fraction = 0.9,
                                    .shm_bytes = 1 << 20,
                                    .eager_bytes = 2048,
                                    .segment = SEGMENT,
                                    .kv_pages = 40};
}

static void run(struct mb_comm *c, const struct fill *f, struct sum *sink)
{
    static const struct mb_source_ops source_ops = {some_next};
    static const struct mb_sink_ops sink_ops = {quiet_begin, quiet_token, quiet_bulk, sum_done, quiet_step};
    const struct mb_ops *ops = mb_ops_find("cpu");
    struct mb_mem mem = {0};
    struct mb_device *dev = NULL;
    struct mb_engine *e = NULL;
    struct mb_plan *p = NULL;
    struct mb_place at;
    struct mb_device_options d = {.threads = 1, .isa = "auto", .mem = &mem, .path = path};

    CHECK(mb_plan_create(model, f->t, &f->o, &p) == MB_OK);
    CHECK(ops->open(&d, &dev) == MB_OK);
    struct mb_engine_options o = {.model = model,
                                  .topo = f->t,
                                  .plan = p,
                                  .ops = ops,
                                  .dev = dev,
                                  .comm = c,
                                  .mem = &mem,
                                  .path = path,
                                  .kv_dtype = path,
                                  .segment = SEGMENT,
                                  .shm_bytes = 1 << 20,
                                  .eager_bytes = 2048,
                                  .seed = 5};
    CHECK(mb_engine_create(&o, &e) == MB_OK);
    mb_layout_place(&p->layout, f->t->index_of[mb_comm_rank(c)], &at);
    struct some source = {.base = {&source_ops}};
    int32_t me = at.lane * p->layout.adp + at.a;
    source.wait = f->wait[me < 0 ? 0 : me];
    for (int32_t i = 0; i < f->n; i++) {
        if (f->leader[i] == me)
            source.give[source.n++] = f->id[i];
    }
    *sink = (struct sum){.base = {&sink_ops}};
    CHECK(mb_engine_run(e, &source.base, &sink->base) == MB_OK);
    mb_engine_destroy(e);
    ops->close(dev);
    CHECK(mb_mem_total(&mem) == 0);
    mb_plan_destroy(p);
}

/* A random layout that the program runs: of the legal ones of so many ranks the draw(n)-th. */
static void draw_layout(struct fill *f)
{
    struct mb_layout_walk w = {.world = f->ranks, .lane = true, .split = true};
    struct mb_layout l;
    char why[MB_LAYOUT_TEXT];
    int32_t n = 0;

    while (mb_layout_next(&w, &l))
        n += mb_plan_refusal(model, &f->o, &l, why) == MB_OK;
    int32_t want_number = draw(n);
    w = (struct mb_layout_walk){.world = f->ranks, .lane = true, .split = true};
    while (mb_layout_next(&w, &l)) {
        if (mb_plan_refusal(model, &f->o, &l, why) == MB_OK && want_number-- == 0)
            f->l = l;
    }
    f->o.layout = mb_layout_options_of(&f->l);
}

/* One node or two, which may have unequal memory. */
static void draw_machine(struct fill *f)
{
    int32_t first = f->ranks > 1 ? 1 + draw(f->ranks - 1) : 1, nodes = f->ranks > 1 ? 1 + draw(2) : 1;
    const int32_t one[1] = {f->ranks}, two[2] = {first, f->ranks - first};

    CHECK(mb_topo_synthetic(nodes, nodes == 1 ? one : two, &f->t) == MB_OK);
    f->o.alltoall = draw(2) ? MB_A2A_HIER : MB_A2A_FLAT;
    for (int32_t r = 0; r < f->ranks; r++)
        f->t->local[r].memory_bytes = f->t->local[r].memory_free = (int64_t)(f->t->node_of[r] == 0 ? 9 : 3)
                                                                   << 30;
}

static void draw_placement(struct fill *f)
{
    static const char *const how[] = {"uniform", "scattered", "usage", "capacity"};
    int64_t n = (int64_t)model->moe_layers * model->router.experts;

    f->o.placement = how[draw(4)];
    f->usage = calloc((size_t)n, sizeof *f->usage);
    CHECK(f->usage != NULL);
    for (int64_t i = 0; i < n; i++)
        f->usage[i] = draw(1000);
    f->o.usage = draw(2) || f->o.placement == how[2] ? f->usage : NULL;
    int64_t most = (int64_t)model->router.experts * (f->l.ep - 1);
    f->o.redundant = (f->o.placement == how[2] || f->o.placement == how[3]) && most > 0
                         ? draw(most < 6 ? (int32_t)most + 1 : 7)
                         : 0;
}

/* Requests of the pool, each at most once; all with one leader, or each with any. */
static void draw_requests(struct fill *f)
{
    int32_t leaders = mb_layout_leaders(&f->l), one = draw(4) == 0 ? draw(leaders) : -1;

    f->n = draw(5) == 0 ? 0 : draw(3) == 0 ? draw(POOL) : draw(f->ranks + 1);
    for (int32_t i = 0; i < POOL; i++)
        f->id[i] = i;
    for (int32_t i = 0; i < f->n; i++) {
        int32_t j = i + draw(POOL - i), id = f->id[i];
        f->id[i] = f->id[j];
        f->id[j] = id;
        f->leader[i] = one >= 0 ? one : draw(leaders);
    }
    for (int32_t i = 0; i < leaders; i++)
        f->wait[i] = draw(3) == 0 ? draw(40) : 0;
}

static void one_fill(int32_t number, bool hang)
{
    struct fill f = {.ranks = 1 + draw(mb_comm_size(world)), .o = options()};
    struct mb_comm *c = NULL;
    struct sum s = {0};
    uint64_t sum = 0;

    f.o.max_num_seqs = 1 + draw(6);
    f.o.max_batch_rows = f.o.max_num_seqs + draw(100);
    draw_layout(&f);
    draw_machine(&f);
    draw_placement(&f);
    draw_requests(&f);
    char text[MB_LAYOUT_TEXT];
    mb_layout_text(&f.l, text);
    snprintf(now, sizeof now, "fill %d: %d requests, %s, %s, placement %s and %d copies, steps of %d and %d",
             (int)number, (int)f.n, text, f.o.alltoall == MB_A2A_HIER ? "hier" : "flat", f.o.placement,
             (int)f.o.redundant, (int)f.o.max_num_seqs, (int)f.o.max_batch_rows);
    CHECK(mb_comm_split(world, "part", mb_comm_rank(world) < f.ranks ? 0 : -1, mb_comm_rank(world), &c) == MB_OK);
    if (hang && number == 1 && mb_comm_rank(world) == 1)
        pause();
    if (c != NULL) {
        run(c, &f, &s);
        mb_comm_destroy(c);
    }
    for (int32_t i = 0; i < f.n; i++)
        sum += want[f.id[i]];
    int64_t v[2] = {s.all, s.rows};
    CHECK(mb_comm_sum_i64(world, v, 2, "records") == MB_OK);
    if (((uint64_t)v[0] != sum || v[1] != f.n) && mb_comm_rank(world) == 0)
        fprintf(stderr, "%s: %lld records, or other bits\n", now, (long long)v[1]);
    CHECK((uint64_t)v[0] == sum && v[1] == f.n);
    mb_topo_destroy(f.t);
    free(f.usage);
}

/* All requests of the pool on one rank. */
static void reference(void)
{
    struct fill f = {.ranks = 1, .n = POOL, .o = options()};
    const int32_t one[1] = {1};
    struct mb_comm *c = NULL;
    struct sum s = {0};

    for (int32_t i = 0; i < POOL; i++)
        f.id[i] = i;
    CHECK(mb_topo_synthetic(1, one, &f.t) == MB_OK);
    CHECK(mb_comm_split(world, "part", mb_comm_rank(world) == 0 ? 0 : -1, 0, &c) == MB_OK);
    if (c != NULL) {
        run(c, &f, &s);
        CHECK(s.rows == POOL);
    }
    mb_comm_destroy(c);
    memcpy(want, s.hash, sizeof want);
    CHECK(mb_comm_bcast(world, want, sizeof want, 0, "hashes") == MB_OK);
    mb_topo_destroy(f.t);
}

int main(int argc, char **argv)
{
    char dir[512];
    double t0;
    void *frame[1];

    MPI_Init(&argc, &argv);
    world = test_comm(1000, NULL);
    CHECK(argc >= 6 && backtrace(frame, 1) > 0); /* loads what the handler needs */
    signal(SIGALRM, at_limit);
    snprintf(dir, sizeof dir, "%s/tests/data/models/%s", getenv("top_srcdir"), argv[1]);
    CHECK(mb_model_open(dir, 0, &model) == MB_OK);
    path = strcmp(argv[2], "f32") == 0 ? MB_F32 : MB_BF16;
    state_of_draw = (uint64_t)atoi(argv[4]) << 32;
    t0 = mb_now();
    reference();
    for (int32_t i = 0; i < atoi(argv[3]); i++) {
        alarm((unsigned)atoi(argv[5]));
        one_fill(i, argc > 6);
        alarm(0);
    }
    if (mb_comm_rank(world) == 0)
        printf("%s %s: %d fills, the same bits, %.1f s\n", argv[1], argv[2], atoi(argv[3]), mb_now() - t0);
    mb_model_destroy(model);
    test_no_shm_left(world);
    mb_comm_destroy(world);
    MPI_Finalize();
    return 0;
}
