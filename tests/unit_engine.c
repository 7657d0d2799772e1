/* Whole engines of one rank in a process that knows no MPI: its world is a stub of one rank (below, by
 * --wrap), its exchange has one member over the transport `loop`. Small models run the same requests under
 * different limits of a step, with experts resident and on demand, without and with adapters; every number
 * must have the same bits, and no buffer may grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "comm/xport.h"
#include "engine/engine.h"

#define REQUESTS 7
#define OUTPUT 6
#define VOCAB_MOST 1024

/* ---------------------------------------------------------------- a world of one */

struct mb_wait_for;
static struct mb_loop *loop;
static int64_t world; /* its address stands for the communicator, into which nobody looks */

enum mb_status __wrap_mb_comm_agree(struct mb_comm *c, enum mb_status mine, const char *what);
enum mb_status __wrap_mb_comm_max_i64(struct mb_comm *c, int64_t *v, int32_t n, const char *what);
enum mb_status __wrap_mb_comm_allgather(struct mb_comm *c, const void *in, uint64_t n, void *out,
                                        const char *what);
enum mb_status __wrap_mb_comm_bcast(struct mb_comm *c, void *data, uint64_t n, int root, const char *what);
int __wrap_mb_comm_rank(const struct mb_comm *c);
int __wrap_mb_comm_size(const struct mb_comm *c);
int __wrap_mb_comm_world_rank(const struct mb_comm *c, int rank);
void __wrap_mb_comm_begin(struct mb_comm *c);
void __wrap_mb_comm_alive(struct mb_comm *c);
void __wrap_mb_ctl_counts(const struct mb_comm *c, int64_t *bytes, int64_t *messages);
enum mb_status __wrap_mb_wait_until(struct mb_comm *c, const struct mb_wait_for *w, bool (*ready)(void *arg),
                                    void *arg);
enum mb_status __wrap_mb_xchg_create(struct mb_comm *c, const struct mb_xchg_options *o,
                                     struct mb_xchg **out);

enum mb_status __wrap_mb_comm_agree(struct mb_comm *c, enum mb_status mine, const char *what)
{
    (void)c, (void)what;
    return mine;
}

enum mb_status __wrap_mb_comm_max_i64(struct mb_comm *c, int64_t *v, int32_t n, const char *what)
{
    (void)c, (void)v, (void)n, (void)what;
    return MB_OK;
}

enum mb_status __wrap_mb_comm_allgather(struct mb_comm *c, const void *in, uint64_t n, void *out,
                                        const char *what)
{
    (void)c, (void)what;
    memcpy(out, in, n);
    return MB_OK;
}

enum mb_status __wrap_mb_comm_bcast(struct mb_comm *c, void *data, uint64_t n, int root, const char *what)
{
    (void)c, (void)data, (void)n, (void)root, (void)what;
    return MB_OK;
}

int __wrap_mb_comm_rank(const struct mb_comm *c)
{
    (void)c;
    return 0;
}

int __wrap_mb_comm_size(const struct mb_comm *c)
{
    (void)c;
    return 1;
}

int __wrap_mb_comm_world_rank(const struct mb_comm *c, int rank)
{
    (void)c;
    return rank;
}

void __wrap_mb_comm_alive(struct mb_comm *c)
{
    (void)c;
}

void __wrap_mb_comm_begin(struct mb_comm *c)
{
    (void)c;
}

void __wrap_mb_ctl_counts(const struct mb_comm *c, int64_t *bytes, int64_t *messages)
{
    (void)c;
    *bytes = *messages = 0;
}

enum mb_status __wrap_mb_wait_until(struct mb_comm *c, const struct mb_wait_for *w, bool (*ready)(void *arg),
                                    void *arg)
{
    (void)c, (void)w;
    for (int i = 0; i < 1000; i++) {
        if (ready(arg))
            return MB_OK;
    }
    fail_msg("a rank waits for itself");
    return MB_BUG;
}

enum mb_status __wrap_mb_xchg_create(struct mb_comm *c, const struct mb_xchg_options *o, struct mb_xchg **out)
{
    struct mb_xchg_room room;
    struct mb_xchg_alone a = {.loop = loop, .members = 1, .me = 0, .quota = &room.quota};

    (void)c;
    mb_xchg_room_of(o->shape, &room);
    return mb_xchg_create_alone(o, &a, out);
}

/* ---------------------------------------------------------------- what is asked, and what comes */

/* How a game is laid out, and what its requests are like. */
struct setting {
    const char *model, *adapter;
    enum mb_dtype path;
    int32_t rows, seqs, zero;
    bool logits; /* all of them are kept, the MTP module's too */
    bool planes; /* routing and hidden states are kept */
    bool choosy; /* requests adjust every token of the vocabulary */
};

struct game {
    struct mb_source source;
    struct mb_sink sink;
    const struct setting *set;
    int32_t given, vocab;
    uint64_t row[REQUESTS + 1]; /* hash of each record */
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
    r->n_prompt = 3 + 9 * line;
    r->score_from = r->kind == MB_KIND_GENERATE ? r->n_prompt : 2;
    r->want_prompt_logprobs = line % 3 == 0;
    r->top_n = line % 2 ? 5 : 0;
    r->adapter = g->set->adapter != NULL && line % 2 ? strdup(g->set->adapter) : NULL;
    r->prompt = mb_alloc(NULL, MB_MEM_REQUESTS, (size_t)r->n_prompt, sizeof *r->prompt);
    for (int32_t i = 0; i < r->n_prompt; i++)
        r->prompt[i] = (i * 7 + line * 13 + 1) % g->vocab;
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

/* Rows come in any order of kinds, but each once: their hashes are added up with their numbers in them. */
static enum mb_status bulk(struct mb_sink *k, int32_t handle, enum mb_bulk_kind kind, int64_t row, int64_t n,
                           const void *data)
{
    struct game *g = of(k);
    size_t bytes = kind == MB_BULK_LOGITS || kind == MB_BULK_MTP ? sizeof(float) * (size_t)g->vocab : 8;

    assert_int_equal(n, 1);
    g->bulk[handle][kind] += mb_hash64(data, bytes) * (uint64_t)(2 * row + 1);
    g->bulks++;
    return MB_OK;
}

static enum mb_status done(struct mb_sink *k, int32_t handle, struct mb_record *rec)
{
    struct game *g = of(k);
    struct mb_bytes b = {0};

    (void)handle;
    assert_int_equal(rec->status, MB_ROW_OK);
    assert_int_equal(mb_record_pack(rec, &b), MB_OK);
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

static struct mb_topo *topology(void)
{
    struct mb_topo_local mine;
    const int32_t node = 0;
    struct mb_topo *t = NULL;

    memset(&mine, 0, sizeof mine);
    assert_int_equal(mb_topo_discover(NULL, &mine, NULL), MB_OK);
    assert_int_equal(mb_topo_create(&mine, &node, 1, 1, &t), MB_OK);
    return t;
}

struct job {
    struct mb_topo *topo;
    struct mb_model *m;
    struct mb_plan *p;
    struct mb_adapter *adapter;
    struct mb_mem mem;
    struct mb_device *dev;
    struct mb_engine *e;
};

static void open_job(struct job *j, const struct setting *s)
{
    char dir[512];
    const struct mb_adapter *const *adapters = (const struct mb_adapter *const *)&j->adapter;
    static const char *names[1];

    j->topo = topology();
    data_path(dir, sizeof dir, "models", s->model);
    assert_int_equal(mb_model_open(dir, 0, &j->m), MB_OK);
    names[0] = s->adapter;
    if (s->adapter != NULL) {
        data_path(dir, sizeof dir, "lora", s->adapter);
        assert_int_equal(mb_adapter_open(dir, j->m, &j->adapter), MB_OK);
    }
    struct mb_plan_options po = {.segment = 64,
                                 .max_num_seqs = s->seqs,
                                 .max_batch_rows = s->rows,
                                 .max_model_len = 100,
                                 .path = s->path,
                                 .kv_dtype = s->path,
                                 .memory_fraction = 0.9,
                                 .alltoall = MB_A2A_FLAT,
                                 .shm_bytes = 1 << 20,
                                 .eager_bytes = 4096,
                                 .mtp = s->logits && j->m->mtp_layers > 0,
                                 .save_logits = s->logits,
                                 .save_routing = s->planes,
                                 .save_hidden = s->planes,
                                 .adapters = adapters,
                                 .n_adapters = s->adapter != NULL,
                                 .zero = s->zero};
    assert_int_equal(mb_plan_create(j->m, j->topo, &po, &j->p), MB_OK);
    const struct mb_ops *ops = mb_ops_find("cpu");
    struct mb_device_options d = {.threads = 1, .isa = "auto", .mem = &j->mem, .path = s->path};
    assert_int_equal(ops->open(&d, &j->dev), MB_OK);
    struct mb_engine_options o = {.model = j->m,
                                  .topo = j->topo,
                                  .plan = j->p,
                                  .ops = ops,
                                  .dev = j->dev,
                                  .comm = (struct mb_comm *)(void *)&world,
                                  .mem = &j->mem,
                                  .path = s->path,
                                  .kv_dtype = s->path,
                                  .segment = 64,
                                  .shm_bytes = 1 << 20,
                                  .eager_bytes = 4096,
                                  .adapters = adapters,
                                  .adapter_names = names,
                                  .n_adapters = s->adapter != NULL,
                                  .save_routing = s->planes,
                                  .save_hidden = s->planes,
                                  .save_logits = s->logits ? MB_LOGITS_ALL : MB_LOGITS_NONE};
    assert_int_equal(mb_loop_create(1, &loop), MB_OK);
    assert_int_equal(mb_engine_create(&o, &j->e), MB_OK);
}

static void close_job(struct job *j)
{
    mb_engine_destroy(j->e);
    mb_loop_destroy(loop);
    mb_ops_find("cpu")->close(j->dev);
    assert_int_equal(mb_mem_total(&j->mem), 0);
    mb_plan_destroy(j->p);
    mb_adapter_destroy(j->adapter);
    mb_model_destroy(j->m);
    mb_topo_destroy(j->topo);
}

static void play(const struct setting *s, struct game *g)
{
    static const struct mb_source_ops source_ops = {next};
    static const struct mb_sink_ops sink_ops = {begin, token, bulk, done, step_end};
    struct job j = {0};

    open_job(&j, s);
    *g = (struct game){.source.ops = &source_ops, .sink.ops = &sink_ops, .set = s, .vocab = j.m->vocab};
    int64_t made[] = {j.mem.now[MB_MEM_ACTIVATIONS], j.mem.now[MB_MEM_EXCHANGE], j.mem.now[MB_MEM_STAGING]};
    assert_int_equal(mb_engine_run(j.e, &g->source, &g->sink), MB_OK);
    assert_int_equal(g->rows, REQUESTS);
    assert_true(made[0] == j.mem.now[MB_MEM_ACTIVATIONS] && made[1] == j.mem.now[MB_MEM_EXCHANGE] &&
                made[2] == j.mem.now[MB_MEM_STAGING]);
    assert_true(mb_engine_agreed(j.e));
    close_job(&j);
}

/* The setting under several limits of a step. */
static void same_bits(struct setting s, bool on_demand)
{
    static const int32_t limits[][2] = {{5, 2}, {1, 1}, {17, 7}};
    struct game first, other;

    s.rows = 64;
    s.seqs = 4;
    play(&s, &first);
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        s.rows = limits[i][0];
        s.seqs = limits[i][1];
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(experts),     cmocka_unit_test(latent_attention_and_mtp),
        cmocka_unit_test(dense),       cmocka_unit_test(adapters),
        cmocka_unit_test(adjustments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
