/* Every legal layout of up to 8 ranks gives the same bits. Layouts are all products of sizes that the two
 * grids allow, generated here by trying; each is planned, its communicators and engine are made and torn down
 * anew, and the records of one job are compared with those of one rank. Memory must be given back each time.
 *     mpi_matrix MODEL f32|bf16 RANKS STRIDE FIRST [MODE [ADAPTER_DIR...]]
 * runs layouts FIRST, FIRST + STRIDE ... of all for 1 .. RANKS ranks. MODE: basic (default), wide (lane scope
 * and disaggregated ones), zero or zerowide (the same layouts with caches of experts, from an eighth of a
 * share to all); with "+mtp" behind it the logits of all rows and of the MTP module are compared, too. With
 * adapters, the first request has none, the second the first one, and so on. The first layout computes every row;
 * the others share those that are alike, every second one with few pages. */
#include "base/hash.h"
#include "device/ops.h"
#include "engine/engine.h"
#include "mpi_comm.h"
#include "plan/plan.h"
#include "quiet_sink.h"

#define REQUESTS 10
#define SEGMENT 64
#define HASH_BITS (UINT64_MAX >> 8) /* room for the sum over ranks */

static struct mb_comm *world;
static struct mb_model *model;
static enum mb_dtype path;
static int64_t fetched[4]; /* experts that were there, came from ranks and from files; rows kept */
static struct mb_adapter *adapter[4];
static const char *const adapter_name[4] = {"a", "b", "c", "d"};
static int32_t adapters;
static bool logits; /* all logits and the MTP module's are saved */

/* ---------------------------------------------------------------- the job */

/* Each leader has every n-th request. */
struct some {
    struct mb_source base;
    int32_t next, every;
};

/* Two long sequences, short ones of all kinds, sampled and greedy; all begin alike, as far as they are long enough. */
static struct mb_request *request(int32_t i)
{
    struct mb_request *r = calloc(1, sizeof *r);
    int64_t n = i < 2 ? 1100 - 37 * i : 3 + i * 7;

    CHECK(r != NULL);
    mb_sampling_init(&r->sampling);
    r->sampling.max_tokens = i == 5 ? 1 : 4 + i % 3;
    r->sampling.ignore_eos = true;
    r->sampling.temperature = i % 2 ? 0.8f : 0.0f;
    r->sampling.repetition = i == 3 ? 1.2f : 1.0f;
    r->line = (uint64_t)i;
    r->id.data = calloc(1, 16);
    CHECK(r->id.data != NULL);
    r->id.len = (size_t)snprintf(r->id.data, 16, "%d", (int)i);
    r->kind = i == 6 ? MB_KIND_LOGLIKELIHOOD : i == 7 ? MB_KIND_ROLLING : MB_KIND_GENERATE;
    r->n = i == 4 ? 2 : 1;
    r->top_n = i == 8 ? 3 : 0;
    r->want_prompt_logprobs = i == 1 || i == 8;
    r->n_prompt = n;
    r->score_from = r->kind == MB_KIND_LOGLIKELIHOOD ? n / 2 : r->kind == MB_KIND_ROLLING ? 1 : n;
    r->prompt = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)n, sizeof *r->prompt);
    CHECK(r->prompt != NULL);
    if (i % (adapters + 1) > 0)
        CHECK((r->adapter = strdup(adapter_name[i % (adapters + 1) - 1])) != NULL);
    for (int64_t k = 0; k < n; k++)
        r->prompt[k] = (int32_t)((k * k + 7 * k + (k < (i < 2 ? 500 : 70) ? 0 : 13 * i)) % model->vocab);
    return r;
}

static enum mb_status some_next(struct mb_source *s, int32_t room, struct mb_request **out, int32_t *n,
                                enum mb_source_state *state)
{
    struct some *f = (struct some *)s;

    for (*n = 0; *n < room && f->next < REQUESTS; f->next += f->every)
        out[(*n)++] = request(f->next);
    *state = *n > 0 ? MB_SOURCE_SOME : MB_SOURCE_END;
    return MB_OK;
}

/* Adds up a hash of each record: the sum over ranks does not depend on who computed what. */
struct sum {
    struct mb_sink base;
    int64_t hash, rows;
    int64_t row[REQUESTS + 1][2]; /* line and choice of each handle */
    int32_t n, bulk[MB_BULK_COUNT];
};

static void add_hash(struct sum *s, struct mb_hasher *h)
{
    s->hash = (int64_t)(((uint64_t)s->hash + mb_hasher_64(h)) & HASH_BITS);
    mb_hasher_destroy(h);
}

static enum mb_status sum_begin(struct mb_sink *base, const struct mb_request *r, int32_t choice,
                                int64_t max_rows, int32_t *handle)
{
    struct sum *s = (struct sum *)base;

    (void)max_rows;
    CHECK(s->n <= REQUESTS);
    *handle = s->n++;
    s->row[*handle][0] = (int64_t)r->line;
    s->row[*handle][1] = choice;
    return MB_OK;
}

/* Rows of logits; those that nothing follows are NaN. */
static enum mb_status sum_bulk(struct mb_sink *base, int32_t handle, enum mb_bulk_kind kind, int64_t row,
                               int64_t n, const void *data)
{
    struct sum *s = (struct sum *)base;
    struct mb_hasher *h = mb_hasher_create();

    CHECK(h != NULL && n == 1 && handle >= 0 && handle < s->n);
    CHECK(kind == MB_BULK_LOGITS || kind == MB_BULK_MTP);
    mb_hasher_field(h, s->row[handle], sizeof s->row[handle]);
    mb_hasher_field(h, &kind, sizeof kind);
    mb_hasher_field(h, &row, sizeof row);
    mb_hasher_field(h, data, 4 * (size_t)model->vocab);
    s->bulk[kind]++;
    add_hash(s, h);
    return MB_OK;
}

static enum mb_status sum_done(struct mb_sink *base, int32_t handle, struct mb_record *r)
{
    struct sum *s = (struct sum *)base;
    struct mb_hasher *h = mb_hasher_create();

    (void)handle;
    CHECK(h != NULL && r->status == MB_ROW_OK);
    mb_hasher_field(h, &r->line, sizeof r->line);
    mb_hasher_field(h, &r->choice, sizeof r->choice);
    mb_hasher_field(h, r->output_ids, 4 * (size_t)r->n_output);
    mb_hasher_field(h, r->output_logprobs, 4 * (size_t)r->n_output);
    if (r->prompt_logprobs != NULL)
        mb_hasher_field(h, r->prompt_logprobs + 1, 4 * (size_t)(r->n_prompt - 1));
    if (r->top_n > 0) {
        mb_hasher_field(h, r->top_ids, 4 * (size_t)(r->n_output * r->top_n));
        mb_hasher_field(h, r->top_logprobs, 4 * (size_t)(r->n_output * r->top_n));
    }
    mb_hasher_field(h, &r->logprob_sum, sizeof r->logprob_sum);
    mb_hasher_field(h, &r->is_greedy, sizeof r->is_greedy);
    s->rows++;
    add_hash(s, h);
    mb_record_fini(r);
    return MB_OK;
}

/* ---------------------------------------------------------------- one layout */

/* Odd layouts see two nodes and the hierarchical exchange, even ones a single node. */
static struct mb_topo *topology(int32_t ranks, int number)
{
    int32_t nodes[2] = {(ranks + 1) / 2, ranks / 2}, one[1] = {ranks};
    struct mb_topo *t = NULL;

    if (ranks > 1 && number % 2 == 1)
        CHECK(mb_topo_synthetic(2, nodes, &t) == MB_OK);
    else
        CHECK(mb_topo_synthetic(1, one, &t) == MB_OK);
    return t;
}

static int64_t run(struct mb_comm *c, const struct mb_topo *t, const struct mb_plan *p, bool share)
{
    static const struct mb_source_ops source_ops = {some_next};
    static const struct mb_sink_ops sink_ops = {sum_begin, quiet_token, sum_bulk, sum_done, quiet_step};
    const struct mb_ops *ops = mb_ops_find("cpu");
    struct mb_mem mem = {0};
    struct mb_device *dev = NULL;
    struct mb_engine *e = NULL;
    struct mb_place at;
    struct mb_device_options d = {.threads = 1, .isa = "auto", .mem = &mem, .path = path};

    CHECK(ops->open(&d, &dev) == MB_OK);
    struct mb_engine_options o = {.model = model,
                                  .topo = t,
                                  .plan = p,
                                  .ops = ops,
                                  .dev = dev,
                                  .comm = c,
                                  .mem = &mem,
                                  .path = path,
                                  .kv_dtype = path,
                                  .segment = SEGMENT,
                                  .state_bytes = t->nodes > 1 ? 20000 : 0, /* blocks of few rows */
                                  .shm_bytes = 1 << 20,
                                  .eager_bytes = 4096,
                                  .prefix_caching = share,
                                  .prefetch = p->cache != NULL ? 2 : 0,
                                  .adapters = (const struct mb_adapter *const *)adapter,
                                  .adapter_names = adapter_name,
                                  .n_adapters = adapters,
                                  .save_logits = logits ? MB_LOGITS_ALL : MB_LOGITS_NONE,
                                  .seed = 5};
    CHECK(mb_engine_create(&o, &e) == MB_OK);
    mb_layout_place(&p->layout, t->index_of[mb_comm_rank(c)], &at);
    struct some source = {{&source_ops}, at.lane * p->layout.adp + at.a, mb_layout_leaders(&p->layout)};
    struct sum sink = {.base = {&sink_ops}};
    CHECK(mb_engine_run(e, &source.base, &sink.base) == MB_OK);
    int64_t v[4] = {sink.hash, sink.rows, sink.bulk[MB_BULK_LOGITS], sink.bulk[MB_BULK_MTP]};
    CHECK(mb_comm_sum_i64(c, v, 4, "digest") == MB_OK);
    CHECK(v[2] == v[3] && (v[2] > 0) == logits);
    v[0] &= (int64_t)HASH_BITS;
    CHECK(v[1] == REQUESTS + 1);
    struct mb_counters n;
    mb_engine_counters(e, &n);
    if (p->cache != NULL)
        CHECK(mb_engine_expert_bytes(e) == p->expert_bytes[at.index]);
    fetched[0] += n.fetch.hits;
    fetched[1] += n.fetch.peer;
    fetched[2] += n.fetch.file;
    fetched[3] += n.fetch.rows_kept;
    mb_engine_destroy(e);
    ops->close(dev);
    CHECK(mb_mem_total(&mem) == 0);
    return v[0];
}

/* Makes the plan on every rank of c; NULL where the layout is refused (all ranks agree, for it is a pure
 * function). */
static struct mb_plan *plan_of(const struct mb_topo *t, const struct mb_layout_options *l, int32_t zero, int32_t pages)
{
    struct mb_plan *p = NULL;
    struct mb_plan_options o = {.layout = *l,
                                .max_num_seqs = 6,
                                .max_batch_rows = 200,
                                .max_model_len = 1200,
                                .path = path,
                                .kv_dtype = path,
                                .memory_fraction = 0.9,
                                .shm_bytes = 1 << 20,
                                .eager_bytes = 4096,
                                .segment = SEGMENT,
                                .kv_pages = pages,
                                .zero = zero,
                                .min_experts = zero >= 100 ? 1 : 0,
                                .adapters = (const struct mb_adapter *const *)adapter,
                                .n_adapters = adapters,
                                .mtp = logits,
                                .save_logits = logits,
                                .alltoall = t->nodes > 1 ? MB_A2A_HIER : MB_A2A_FLAT};

    mb_log_set_quiet(true);
    enum mb_status st = mb_plan_create(model, t, &o, &p);
    mb_log_set_quiet(false);
    CHECK(st == MB_OK || st == MB_LAYOUT);
    return p;
}

/* ---------------------------------------------------------------- all layouts */

enum kind { DP, PP, TP, SP, ADP, EP, ETP, EDP, LANE, SPLIT, KINDS };
static const char *const kind_name[KINDS] = {"dp", "pp",  "tp",  "sp",   "adp",
                                             "ep", "etp", "edp", "lane", "split"};

struct walk {
    int number, ran, refused, stride, first, ranks;
    int64_t digest;
    bool wide, zero;
    int with[KINDS];   /* layouts that ran with more than one of these */
    struct mb_comm *c; /* the first `ranks` ranks; NULL on others */
};

static void one(struct walk *w, const struct mb_layout_options *l)
{
    static const int32_t percent[] = {12, 100, 30, 250, 60, 1000, 400};
    int number = w->number++;

    if (w->c == NULL || number % w->stride != w->first)
        return;
    struct mb_topo *t = topology(w->ranks, number);
    struct mb_plan *p = plan_of(t, l, w->zero ? percent[number % 7] : 0, number / w->stride % 2 == 0 ? 60 : 20);
    if (p == NULL) {
        w->refused++;
    } else {
        int64_t got = run(w->c, t, p, number != w->first);
        const struct mb_layout *q = &p->layout;
        if (w->digest == 0)
            w->digest = got;
        if (got != w->digest)
            fprintf(stderr,
                    "ranks %d: dp %d pp %d tp %d sp %d adp %d ep %d etp %d edp %d%s %d:%d: other bits\n",
                    w->ranks, q->dp, q->pp, q->tp, q->sp, q->adp, q->ep, q->etp, q->edp,
                    q->lane_scope ? " lane" : "", q->attn, q->expert);
        CHECK(got == w->digest);
        w->ran++;
        const int32_t size[KINDS] = {
            q->dp, q->pp, q->tp, q->sp, q->adp, q->ep, q->etp, q->edp, 1 + q->lane_scope, 1 + q->attn};
        for (int k = 0; k < KINDS; k++)
            w->with[k] += size[k] > 1;
        mb_plan_destroy(p);
    }
    mb_topo_destroy(t);
}

/* All ways to see n expert ranks as a grid. */
static void experts(struct walk *w, struct mb_layout_options *l, int32_t n)
{
    for (l->etp = 1; l->etp <= n; l->etp++) {
        for (l->ep = 1; l->ep * l->etp <= n; l->ep++) {
            l->edp = n / (l->ep * l->etp);
            if (l->ep * l->etp * l->edp == n && (model->moe_layers > 0 || l->ep == n))
                one(w, l);
        }
    }
}

static void attention(struct walk *w, struct mb_layout_options *l, int32_t attn, int32_t expert)
{
    for (l->tp = 1; l->tp <= attn; l->tp++) {
        for (l->sp = 1; l->sp * l->tp <= attn; l->sp++) {
            l->adp = attn / (l->tp * l->sp);
            if (l->tp * l->sp * l->adp == attn)
                experts(w, l, l->lane_scope ? expert * l->pp : expert);
        }
    }
}

static void layouts(struct walk *w, int32_t ranks)
{
    struct mb_layout_options l = {.experts = model->router.experts};

    for (l.dp = 1; l.dp <= ranks; l.dp++) {
        for (l.pp = 1; l.dp * l.pp <= ranks; l.pp++) {
            int32_t stage = ranks / (l.dp * l.pp);
            if (l.dp * l.pp * stage != ranks)
                continue;
            l.lane_scope = w->wide && l.pp > 1;
            l.attn = l.expert = 0;
            if (!w->wide || l.pp > 1)
                attention(w, &l, stage, stage);
            for (l.attn = 1; w->wide && l.attn < stage; l.attn++) {
                l.expert = stage - l.attn;
                for (int lane = 0; lane <= (l.pp > 1); lane++) {
                    l.lane_scope = lane != 0;
                    attention(w, &l, l.attn, l.expert);
                }
            }
        }
    }
}

static int64_t reference(void)
{
    struct mb_comm *c = NULL;
    struct walk w = {.stride = 1, .ranks = 1};

    CHECK(mb_comm_split(world, "part", mb_comm_rank(world) == 0 ? 0 : -1, 0, &c) == MB_OK);
    w.c = c;
    layouts(&w, 1);
    mb_comm_destroy(c);
    CHECK(mb_comm_bcast(world, &w.digest, sizeof w.digest, 0, "digest") == MB_OK);
    return w.digest;
}

int main(int argc, char **argv)
{
    char dir[512];
    double t0;

    MPI_Init(&argc, &argv);
    world = test_comm(600, NULL);
    CHECK(argc >= 6);
    snprintf(dir, sizeof dir, "%s/tests/data/models/%s", getenv("top_srcdir"), argv[1]);
    CHECK(mb_model_open(dir, 0, &model) == MB_OK);
    path = strcmp(argv[2], "f32") == 0 ? MB_F32 : MB_BF16;
    CHECK(argc <= 7 + 4);
    for (; 7 + adapters < argc; adapters++)
        CHECK(mb_adapter_open(argv[7 + adapters], model, &adapter[adapters]) == MB_OK);
    struct walk w = {.stride = atoi(argv[4]),
                     .first = atoi(argv[5]),
                     .wide = argc > 6 && strstr(argv[6], "wide") != NULL,
                     .zero = argc > 6 && strncmp(argv[6], "zero", 4) == 0};
    logits = argc > 6 && strstr(argv[6], "+mtp") != NULL;
    CHECK(!logits || model->mtp_layers > 0);
    t0 = mb_now();
    w.digest = reference();
    for (int32_t n = 1; n <= atoi(argv[3]); n++) {
        CHECK(n <= mb_comm_size(world));
        w.c = NULL;
        w.ranks = n;
        CHECK(mb_comm_split(world, "part", mb_comm_rank(world) < n ? 0 : -1, mb_comm_rank(world), &w.c) == MB_OK);
        layouts(&w, n);
        mb_comm_destroy(w.c);
        CHECK(mb_comm_barrier(world, "layouts of a number of ranks") == MB_OK);
    }
    CHECK(mb_comm_sum_i64(world, fetched, 4, "counts") == MB_OK);
    CHECK(!w.zero || w.wide || adapters > 0 || (fetched[0] > 0 && fetched[1] > 0 && fetched[2] > 0 && fetched[3] > 0));
    if (mb_comm_rank(world) == 0 && w.zero)
        printf("experts on demand: %lld were there, %lld came from ranks, %lld from files; %lld rows kept\n",
               (long long)fetched[0], (long long)fetched[1], (long long)fetched[2], (long long)fetched[3]);
    if (mb_comm_rank(world) == 0) {
        printf("%s %s%s%s: %d layouts, %d refused, one digest %014llx, %.1f s; with", argv[1], argv[2],
               adapters > 0 ? " with adapters" : "", logits ? " with the MTP module" : "", w.ran, w.refused,
               (unsigned long long)w.digest, mb_now() - t0);
        for (int k = 0; k < KINDS; k++)
            printf(" %s %d", kind_name[k], w.with[k]);
        printf("\n");
    }
    CHECK(w.ran > 0 || mb_comm_rank(world) > 0);
    for (int32_t i = 0; i < adapters; i++)
        mb_adapter_destroy(adapter[i]);
    mb_model_destroy(model);
    test_no_shm_left(world);
    mb_comm_destroy(world);
    MPI_Finalize();
    return 0;
}
