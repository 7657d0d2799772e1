/* Whole engines in one process that knows no MPI (ranks.h). Small models run the same requests under
 * different limits of a step, with experts resident and on demand, without and with adapters, on one rank and
 * on several in many layouts; every number must have the same bits, and no buffer may grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "engine/engine.h"
#include "ranks.h"

#define REQUESTS 7
#define OUTPUT 6
#define VOCAB_MOST 1024

/* ---------------------------------------------------------------- what is asked, and what comes */

/* How a game is laid out, and what its requests are like. */
struct setting {
    const char *model, *adapter;
    enum mb_dtype path;
    int32_t rows, seqs, zero;
    int32_t ranks;
    struct mb_layout_options layout;
    enum mb_alltoall how;
    bool logits; /* all of them are kept, the MTP module's too */
    bool planes; /* routing and hidden states are kept */
    bool share;  /* rows that are alike are computed once, and pages are few */
    bool choosy; /* requests adjust every token of the vocabulary */
};

/* Of all ranks together: whoever leads takes the next requests. */
struct game {
    struct mb_source source;
    struct mb_sink sink;
    const struct setting *set;
    int32_t given, vocab;
    size_t bytes[MB_BULK_COUNT]; /* of a row */
    uint64_t row[REQUESTS + 1];  /* hash of each record */
    uint64_t bulk[REQUESTS + 1][MB_BULK_COUNT];
    int32_t rows, bulks;
};

static struct mb_request *request(const struct game *g, int32_t line)
{
    struct mb_request *r = calloc(1, sizeof *r);
    struct mb_sampling *s = &r->sampling;

    mb_sampling_init(s);
    s->max_tokens = line == REQUESTS - 1 ? 0 : OUTPUT;
    s->ignore_eos = true;
    s->has_seed = true;
    s->seed = 11;
    s->temperature = line % 2 ? 0.8f : 0;
    r->line = (uint64_t)line;
    r->id.data = calloc(1, 16);
    r->id.len = (size_t)snprintf(r->id.data, 16, "%d", line);
    r->kind = line == REQUESTS - 1 ? MB_KIND_LOGLIKELIHOOD : MB_KIND_GENERATE;
    r->n = 1;
    r->n_prompt = 3 + 13 * line; /* the longest has two pages */
    r->score_from = r->kind == MB_KIND_GENERATE ? r->n_prompt : 2;
    r->want_prompt_logprobs = line % 3 == 0;
    r->top_n = line % 2 ? 5 : 0;
    r->adapter = g->set->adapter != NULL && line % 2 ? strdup(g->set->adapter) : NULL;
    r->prompt = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)r->n_prompt, sizeof *r->prompt);
    for (int32_t i = 0; i < r->n_prompt; i++)
        r->prompt[i] = (i * 7 + (i < 20 + 20 * (line % 2) ? 0 : line * 13) + 1) % g->vocab;
    if (g->set->choosy &&
        r->kind == MB_KIND_GENERATE) { /* as many adjustments a row as there is room for at a time */
        s->n_bias = g->vocab;
        s->bias = calloc((size_t)g->vocab, sizeof *s->bias);
        for (int32_t i = 0; i < g->vocab; i++)
            s->bias[i] = (struct mb_bias){i, (float)((i * 5 + line) % 9) / 4};
        s->repetition = 1.1f;
    }
    return r;
}

static enum mb_status next(struct mb_source *s, int32_t room, struct mb_request **out, int32_t *n,
                           enum mb_source_state *state)
{
    struct game *g = (struct game *)s;

    for (*n = 0; *n < room && g->given < REQUESTS; g->given++)
        out[(*n)++] = request(g, g->given);
    *state = *n > 0 ? MB_SOURCE_SOME : MB_SOURCE_END;
    return MB_OK;
}

static struct game *of(struct mb_sink *k)
{
    return (struct game *)((char *)k - offsetof(struct game, sink));
}

static enum mb_status begin(struct mb_sink *k, const struct mb_request *req, int32_t choice, int64_t max_rows,
                            int32_t *handle)
{
    (void)k, (void)choice, (void)max_rows;
    *handle = (int32_t)req->line;
    return MB_OK;
}

static enum mb_status token(struct mb_sink *k, int32_t handle, int64_t index, int32_t id, bool journal,
                            bool *stop)
{
    (void)k, (void)handle, (void)index, (void)id, (void)journal;
    *stop = false;
    return MB_OK;
}

/* Rows come in any order and number, but each once: their hashes are added up with their numbers in them. */
static enum mb_status bulk(struct mb_sink *k, int32_t handle, enum mb_bulk_kind kind, int64_t row, int64_t n,
                           const void *data)
{
    struct game *g = of(k);

    for (int64_t i = 0; i < n; i++, g->bulks++)
        g->bulk[handle][kind] +=
            mb_hash64((const uint8_t *)data + (size_t)i * g->bytes[kind], g->bytes[kind]) *
            (uint64_t)(2 * (row + i) + 1);
    return MB_OK;
}

static enum mb_status done(struct mb_sink *k, int32_t handle, struct mb_record *rec)
{
    struct game *g = of(k);
    struct mb_bytes b = {0};

    (void)handle;
    MUST(rec->status == MB_ROW_OK);
    MUST(mb_record_pack(rec, &b) == MB_OK);
    g->row[rec->line] = mb_record_content(b.data, b.len);
    g->rows++;
    mb_bytes_fini(&b);
    mb_record_fini(rec);
    return MB_OK;
}

static enum mb_status step_end(struct mb_sink *k)
{
    (void)k;
    return MB_OK;
}

/* ---------------------------------------------------------------- a job */

static void data_path(char *out, size_t n, const char *kind, const char *name)
{
    const char *top = getenv("top_srcdir");
    snprintf(out, n, "%s/tests/data/%s/%s", top != NULL ? top : ".", kind, name);
}

/* This machine, as often as there are ranks. */
static struct mb_topo *topology(int32_t ranks)
{
    static struct mb_topo_local mine[16];
    static bool known;
    const int32_t node[16] = {0};
    struct mb_topo *t = NULL;

    if (!known)
        MUST(mb_topo_discover(NULL, &mine[0], NULL) == MB_OK);
    known = true;
    for (int32_t r = 1; r < ranks; r++)
        mine[r] = mine[0];
    MUST(mb_topo_create(mine, node, ranks, 1, &t) == MB_OK);
    return t;
}

struct job {
    struct mb_topo *topo;
    struct mb_model *m;
    struct mb_plan *p;
    struct mb_adapter *adapter;
    const char *name;
    struct mb_mem mem;
    struct mb_device *dev;
    struct mb_engine *e;
    struct mb_budget planned;
};

static void open_parts(struct job *j, const struct setting *s)
{
    char dir[512];

    j->topo = topology(s->ranks);
    data_path(dir, sizeof dir, "models", s->model);
    MUST(mb_model_open(dir, 0, &j->m) == MB_OK);
    j->name = s->adapter;
    if (s->adapter != NULL) {
        data_path(dir, sizeof dir, "lora", s->adapter);
        MUST(mb_adapter_open(dir, j->m, &j->adapter) == MB_OK);
    }
    struct mb_device_options d = {.threads = 1, .isa = "auto", .mem = &j->mem, .path = s->path};
    MUST(mb_ops_find("cpu")->open(&d, &j->dev) == MB_OK);
}

static void open_job(struct job *j, const struct setting *s, struct mb_comm *world)
{
    const struct mb_adapter *const *adapters = (const struct mb_adapter *const *)&j->adapter;

    open_parts(j, s);
    struct mb_plan_options po = {.layout = s->layout,
                                 .segment = 64,
                                 .max_num_seqs = s->seqs,
                                 .max_batch_rows = s->rows,
                                 .max_model_len = 100,
                                 .kv_pages = s->share ? 3 : 0,
                                 .path = s->path,
                                 .kv_dtype = s->path,
                                 .memory_fraction = 0.9,
                                 .alltoall = s->how,
                                 .shm_bytes = 1 << 20,
                                 .eager_bytes = 4096,
                                 .mtp = s->logits && j->m->mtp_layers > 0,
                                 .save_logits = s->logits,
                                 .save_routing = s->planes,
                                 .save_hidden = s->planes,
                                 .adapters = adapters,
                                 .n_adapters = s->adapter != NULL,
                                 .zero = s->zero};
    MUST(mb_plan_create(j->m, j->topo, &po, &j->p) == MB_OK);
    int32_t index = j->topo->index_of[mb_comm_rank(world)];
    MUST(mb_plan_budget(j->p, j->m, j->topo, &po, index, &j->planned) == MB_OK);
    struct mb_engine_options o = {.model = j->m,
                                  .topo = j->topo,
                                  .plan = j->p,
                                  .ops = mb_ops_find("cpu"),
                                  .dev = j->dev,
                                  .comm = world,
                                  .mem = &j->mem,
                                  .path = s->path,
                                  .kv_dtype = s->path,
                                  .segment = 64,
                                  .shm_bytes = 1 << 20,
                                  .eager_bytes = 4096,
                                  .adapters = adapters,
                                  .adapter_names = &j->name,
                                  .n_adapters = s->adapter != NULL,
                                  .prefix_caching = s->share,
                                  .save_routing = s->planes,
                                  .save_hidden = s->planes,
                                  .save_logits = s->logits ? MB_LOGITS_ALL : MB_LOGITS_NONE};
    MUST(mb_engine_create(&o, &j->e) == MB_OK);
}

/* What was planned for it is what the rank needed at most; of what is read and what travels, nearly. */
static void check_memory(const struct job *j)
{
    const _Atomic int64_t *peak = j->mem.peak;
    int64_t off = peak[MB_MEM_STAGING] - j->planned.staging;

    MUST(peak[MB_MEM_WEIGHTS] == j->planned.weights && peak[MB_MEM_EXPERTS] == j->planned.experts);
    MUST(peak[MB_MEM_KV] == j->planned.kv && peak[MB_MEM_ACTIVATIONS] == j->planned.activations);
    MUST(peak[MB_MEM_EXCHANGE] <= j->planned.exchange + 4096);
    MUST(off <= 4096 && -off <= j->planned.staging / 20 + 4096);
}

static void close_job(struct job *j)
{
    mb_engine_destroy(j->e);
    mb_ops_find("cpu")->close(j->dev);
    MUST(mb_mem_total(&j->mem) == 0);
    mb_plan_destroy(j->p);
    mb_adapter_destroy(j->adapter);
    mb_model_destroy(j->m);
    mb_topo_destroy(j->topo);
}

static void sizes(struct game *g, const struct mb_model *m)
{
    size_t routes = (size_t)m->moe_layers * (size_t)m->router.k;

    g->vocab = m->vocab;
    g->bytes[MB_BULK_EXPERTS] = g->bytes[MB_BULK_PHYSICAL] = 2 * routes;
    g->bytes[MB_BULK_WEIGHTS] = 4 * routes;
    g->bytes[MB_BULK_LOGITS] = g->bytes[MB_BULK_MTP] = 4 * (size_t)m->vocab;
    g->bytes[MB_BULK_HIDDEN] = 4 * (size_t)(m->layers + 1) * (size_t)m->hidden;
}

static void one_rank(struct mb_comm *world, void *arg)
{
    struct game *g = arg;
    struct job j = {0};

    open_job(&j, g->set, world);
    sizes(g, j.m);
    int64_t made[] = {j.mem.now[MB_MEM_ACTIVATIONS], j.mem.now[MB_MEM_EXCHANGE], j.mem.now[MB_MEM_STAGING]};
    MUST(mb_engine_run(j.e, &g->source, &g->sink) == MB_OK);
    MUST(made[0] == j.mem.now[MB_MEM_ACTIVATIONS] && made[1] == j.mem.now[MB_MEM_EXCHANGE] &&
         made[2] == j.mem.now[MB_MEM_STAGING]);
    MUST(mb_engine_agreed(j.e));
    check_memory(&j);
    close_job(&j);
}

static void play(const struct setting *s, struct game *g)
{
    static const struct mb_source_ops source_ops = {next};
    static const struct mb_sink_ops sink_ops = {begin, token, bulk, done, step_end};

    *g = (struct game){.source.ops = &source_ops, .sink.ops = &sink_ops, .set = s};
    ranks_run(s->ranks, one_rank, g);
    assert_int_equal(g->rows, REQUESTS);
    for (int i = 0; i < REQUESTS && s->ranks > 1; i++)
        g->bulk[i][MB_BULK_PHYSICAL] = 0; /* who served a row depends on the layout */
}

/* The setting under several limits of a step. */
static void same_bits(struct setting s, bool on_demand)
{
    static const int32_t limits[][2] = {{5, 2}, {1, 1}, {17, 7}};
    struct game first, other;

    s.rows = 64;
    s.seqs = 4;
    s.ranks = 1;
    play(&s, &first);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        s.rows = limits[i][0];
        s.seqs = limits[i][1];
        s.share = true;
        s.zero = on_demand && i > 0 ? 40 : 0;
        play(&s, &other);
        assert_memory_equal(first.row, other.row, sizeof first.row);
        assert_memory_equal(first.bulk, other.bulk, sizeof first.bulk);
        assert_int_equal(first.bulks, other.bulks);
    }
    assert_true((first.bulks > 0) == (s.logits || s.planes));
}

static void experts(void **state)
{
    (void)state;
    same_bits((struct setting){.model = "mixtral_a", .path = MB_F32, .planes = true}, true);
    same_bits((struct setting){.model = "qwen2moe_a", .path = MB_BF16}, true);
}

static void latent_attention_and_mtp(void **state)
{
    (void)state;
    same_bits((struct setting){.model = "deepseekv3_a", .path = MB_BF16, .logits = true}, false);
}

static void dense(void **state)
{
    (void)state;
    same_bits((struct setting){.model = "llama_a", .path = MB_BF16, .logits = true}, false);
}

/* What a sequence's past is, is a state beside its pages. */
static void linear_attention(void **state)
{
    (void)state;
    same_bits((struct setting){.model = "qwen3next_a", .path = MB_F32, .planes = true}, true);
    same_bits((struct setting){.model = "qwen35moe_a", .path = MB_BF16, .logits = true}, true);
}

static void adapters(void **state)
{
    (void)state;
    same_bits((struct setting){.model = "mixtral_a", .path = MB_F32, .adapter = "mixtral_a__attn_r4"}, false);
    same_bits((struct setting){.model = "mixtral_a", .path = MB_BF16, .adapter = "mixtral_a__experts_r2"},
              true);
}

/* More adjustments of tokens in a step than there is room for at a time. */
static void adjustments(void **state)
{
    (void)state;
    same_bits((struct setting){.model = "gptoss_a", .path = MB_F32, .choosy = true}, false);
}

static const struct {
    struct setting s;
} jobs[] = {
    {{.model = "mixtral_a", .path = MB_F32, .planes = true, .ranks = 3}},
    {{.model = "mixtral_a", .path = MB_BF16, .ranks = 4, .how = MB_A2A_HIER, .zero = 40}},
    {{.model = "mixtral_a", .path = MB_F32, .ranks = 4, .layout = {.tp = 2, .etp = 2}, .planes = true}},
    {{.model = "mixtral_a",
      .path = MB_F32,
      .ranks = 4,
      .layout = {.pp = 2, .lane_scope = true},
      .planes = true}},
    {{.model = "mixtral_a",
      .path = MB_F32,
      .ranks = 4,
      .layout = {.dp = 2, .tp = 2},
      .adapter = "mixtral_a__attn_r4"}},
    {{.model = "mixtral_a",
      .path = MB_BF16,
      .ranks = 3,
      .layout = {.etp = 3},
      .adapter = "mixtral_a__experts_r2"}},
    {{.model = "deepseekv3_a", .path = MB_BF16, .ranks = 4, .layout = {.tp = 2, .sp = 2}, .logits = true}},
    {{.model = "deepseekv3_a", .path = MB_F32, .ranks = 4, .layout = {.pp = 2, .tp = 2}, .logits = true}},
    {{.model = "dbrx_a", .path = MB_F32, .ranks = 3, .layout = {.attn = 2, .expert = 1}}},
    {{.model = "gptoss_a", .path = MB_F32, .ranks = 2, .layout = {.tp = 2}}},
    {{.model = "olmoe_a", .path = MB_BF16, .ranks = 4, .layout = {.tp = 4}}},
    {{.model = "qwen3next_a", .path = MB_F32, .ranks = 4, .layout = {.pp = 2, .tp = 2}, .planes = true}},
    {{.model = "qwen35moe_a", .path = MB_BF16, .ranks = 4, .layout = {.tp = 4}, .logits = true}}, /* 6 heads */
    {{.model = "qwen35moe_a", .path = MB_F32, .ranks = 3, .layout = {.pp = 3}, .how = MB_A2A_HIER}},
    {{.model = "qwen3moe_b", .path = MB_F32, .ranks = 4, .layout = {.pp = 2, .sp = 2}, .how = MB_A2A_HIER}},
    {{.model = "qwen3next_a", .path = MB_F32, .ranks = 4, .layout = {.tp = 2, .sp = 2}, .planes = true}},
    {{.model = "qwen35moe_a", .path = MB_BF16, .ranks = 3, .layout = {.sp = 3}, .logits = true}},
    {{.model = "glmmoedsa_b", .path = MB_BF16, .ranks = 4, .layout = {.pp = 2, .sp = 2}, .planes = true}},
    {{.model = "deepseekv32_a", .path = MB_F32, .ranks = 4, .layout = {.tp = 2, .sp = 2}, .logits = true}},
};

/* The settings on one rank. */
static void play_alone(struct setting s, struct game *g)
{
    s.rows = 40;
    s.seqs = 4;
    s.ranks = 1;
    s.zero = 0;
    s.layout = (struct mb_layout_options){0};
    play(&s, g);
}

/* The bits of `alone`. */
static void same_as(struct game *alone, struct setting s)
{
    struct game other;

    s.rows = 24;
    s.seqs = 3;
    s.share = true;
    play(&s, &other);
    for (int r = 0; r < REQUESTS; r++)
        alone->bulk[r][MB_BULK_PHYSICAL] = 0;
    assert_memory_equal(alone->row, other.row, sizeof other.row);
    assert_memory_equal(alone->bulk, other.bulk, sizeof other.bulk);
}

/* A job of several ranks gives the bits of one. */
static void layouts(void **state)
{

    (void)state;
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        struct game first;
        play_alone(jobs[i].s, &first);
        same_as(&first, jobs[i].s);
    }
}

/* Every model in some of a dozen layouts: the next ones of the list for each (tests/long_twelve.sh has all for all). */
static void a_dozen(void **state)
{
    static const char *const models[] = {"kimik2_a",     "glm4moe_a",   "glm4moelite_a", "minimaxm2_a",   "dots1_a",
                                         "solaropen_a",  "ernie45moe_a", "bailingmoe2_a", "granitemoe_a",  "hunyuanmoe_a",
                                         "hyv3_a",       "llama4_a",    "mistral4_a",    "deepseekv32_a", "glmmoedsa_a",
                                         "qwen3next_a",  "qwen35moe_a"};
    static const struct setting how[] = {
        {.ranks = 2, .layout = {.tp = 2}},
        {.ranks = 4, .layout = {.pp = 2, .sp = 2}},
        {.ranks = 3, .zero = 50},
        {.ranks = 4, .layout = {.tp = 2, .sp = 2}},
        {.ranks = 3, .layout = {.attn = 2, .expert = 1}},
        {.ranks = 2, .layout = {.pp = 2, .lane_scope = true}},
        {.ranks = 4, .layout = {.ep = 2, .etp = 2}, .how = MB_A2A_HIER},
        {.ranks = 2, .layout = {.sp = 2}},
        {.ranks = 4, .layout = {.dp = 2, .tp = 2}},
        {.ranks = 3, .how = MB_A2A_HIER},
        {.ranks = 4, .layout = {.dp = 2, .sp = 2}},
        {.ranks = 4, .layout = {.edp = 2}},
    };
    int at = 0;

    (void)state;
    for (size_t m = 0; m < sizeof models / sizeof models[0]; m++) {
        struct setting one = {.model = models[m], .path = m % 2 ? MB_BF16 : MB_F32};
        struct game first;
        play_alone(one, &first);
        for (int i = 0; i < 5; i++, at++) {
            struct setting s = how[at % (int)(sizeof how / sizeof how[0])];
            s.model = one.model;
            s.path = one.path;
            same_as(&first, s);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts),     cmocka_unit_test(latent_attention_and_mtp),
        cmocka_unit_test(dense),       cmocka_unit_test(adapters),
        cmocka_unit_test(adjustments), cmocka_unit_test(linear_attention), cmocka_unit_test(layouts),
        cmocka_unit_test(a_dozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
