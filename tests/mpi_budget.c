/* The memory a plan predicts for every rank, against the account of engines that load models and run, in many
 * layouts: what is resident (weights, experts, KV pages) and the rows of a step must be exact; what travels and what
 * is staged is within 5 %. */
#include "device/ops.h"
#include "engine/engine.h"
#include "mpi_comm.h"
#include "plan/plan.h"
#include "quiet_sink.h"

static struct mb_mem comm_mem; /* messages that the groups of an engine post */

#define PROMPT 50
#define REQUESTS 6
#define OUTPUT 4

static const char *const adapter_names[] = {"first", "second"};

/* Every rank has a few generations of its own. */
struct few {
    struct mb_source base;
    int32_t given, vocab, rank, adapters;
};

static struct mb_request *request(const struct few *f)
{
    struct mb_request *r = calloc(1, sizeof *r);

    CHECK(r != NULL);
    mb_sampling_init(&r->sampling);
    r->sampling.max_tokens = OUTPUT;
    r->sampling.ignore_eos = true;
    r->line = (uint64_t)(f->rank * REQUESTS + f->given);
    r->id.data = calloc(1, 16);
    CHECK(r->id.data != NULL);
    if (f->adapters > 0)
        CHECK((r->adapter = strdup(adapter_names[f->given % f->adapters])) != NULL);
    r->id.len = (size_t)snprintf(r->id.data, 16, "%d", (int)r->line);
    r->kind = MB_KIND_GENERATE;
    r->n = 1;
    r->n_prompt = r->score_from = PROMPT;
    r->prompt = mb_alloc(NULL, MB_MEM_REQUESTS, PROMPT, sizeof *r->prompt);
    CHECK(r->prompt != NULL);
    for (int32_t i = 0; i < PROMPT; i++)
        r->prompt[i] = (i * 7 + (int32_t)r->line * 13) % f->vocab;
    return r;
}

static enum mb_status few_next(struct mb_source *s, int32_t room, struct mb_request **out, int32_t *n,
                               enum mb_source_state *state)
{
    struct few *f = (struct few *)s;

    for (*n = 0; *n < room && f->given < REQUESTS; f->given++)
        out[(*n)++] = request(f);
    *state = *n > 0 ? MB_SOURCE_SOME : MB_SOURCE_END;
    return MB_OK;
}

/* Counts rows and throws them away. */
struct count {
    struct mb_sink base;
    int32_t rows, errors;
};

static enum mb_status count_done(struct mb_sink *s, int32_t handle, struct mb_record *rec)
{
    struct count *c = (struct count *)s;

    (void)handle;
    c->rows++;
    c->errors += rec->status != MB_ROW_OK;
    mb_record_fini(rec);
    return MB_OK;
}

static struct mb_topo *topology(struct mb_comm *c)
{
    struct mb_topo_local mine, *all = calloc((size_t)mb_comm_size(c), sizeof *all);
    int32_t *node = calloc((size_t)mb_comm_size(c), sizeof *node);
    struct mb_topo *t = NULL;

    CHECK(all != NULL && node != NULL);
    memset(&mine, 0, sizeof mine);
    CHECK(mb_topo_discover(NULL, &mine, NULL) == MB_OK);
    CHECK(mb_comm_allgather(c, &mine, sizeof mine, all, "topology") == MB_OK);
    CHECK(mb_comm_same_node(c, node) == MB_OK);
    CHECK(mb_topo_create(all, node, mb_comm_size(c), 1, &t) == MB_OK);
    free(all);
    free(node);
    return t;
}

struct kase {
    const char *model;
    enum mb_dtype path; /* MB_U8: the int8 path; MB_I32: bf16 with pages of bytes */
    enum mb_alltoall how;
    bool mtp;               /* save logits, and run the MTP module */
    const char *adapter[2]; /* of tests/data/lora; loaded, and named by every request */
};

/* A layout, of one number of ranks. */
struct split {
    int32_t ranks;
    const char *model;
    enum mb_dtype path;
    struct mb_layout_options l;
};

/* The same with everything that a case can have. */
struct full_split {
    int32_t ranks;
    struct kase k;
    struct mb_layout_options l;
};

/* Within 5 %, or a page: these models are tiny. Of what is planned, `late` may not have been needed. */
static bool near_to(int64_t got, int64_t planned, int64_t late)
{
    int64_t off = got > planned ? got - planned : got < planned - late ? planned - late - got : 0;

    return off <= planned / 20 || off <= 4096;
}

/* On every rank: what is resident, and the rows of a step, exactly; what travels nearly. */
static void compare(struct mb_comm *c, const struct kase *k, const struct mb_budget *b,
                    const struct mb_plan *p, int32_t index, const struct mb_mem *mem)
{
    const _Atomic int64_t *peak = mem->peak;
    int64_t moving = peak[MB_MEM_EXCHANGE] + comm_mem.peak[MB_MEM_EXCHANGE];
    const struct mb_layout *l = &p->layout;

    bool ok = peak[MB_MEM_WEIGHTS] == b->weights && peak[MB_MEM_EXPERTS] == b->experts &&
              peak[MB_MEM_KV] == b->kv && peak[MB_MEM_ACTIVATIONS] == b->activations &&
              near_to(moving, b->exchange, b->late) && near_to(peak[MB_MEM_STAGING], b->staging, 0) &&
              p->weight_bytes[index] == b->weights && p->expert_bytes[index] == b->experts;
    if (mb_comm_rank(c) == 0 || !ok)
        printf("%-16s %s%s dp %d pp %d tp %d sp %d adp %d ep %d etp %d edp %d%s %d:%d, index %d: weights "
               "%lld/%lld experts %lld/%lld "
               "kv %lld/%lld activations %lld/%lld exchange %lld/%lld staging %lld/%lld\n",
               k->model, k->path == MB_F32 ? "f32" : k->path == MB_U8 ? "int8" : k->path == MB_I32 ? "bf16 kv int8" : "bf16",
               k->mtp          ? " mtp"
               : k->adapter[0] ? " adapters"
                               : "",
               l->dp, l->pp, l->tp, l->sp, l->adp, l->ep, l->etp, l->edp, l->lane_scope ? " lane" : "",
               l->attn, l->expert, index, (long long)peak[MB_MEM_WEIGHTS], (long long)b->weights,
               (long long)peak[MB_MEM_EXPERTS], (long long)b->experts, (long long)peak[MB_MEM_KV],
               (long long)b->kv, (long long)peak[MB_MEM_ACTIVATIONS], (long long)b->activations,
               (long long)moving, (long long)b->exchange, (long long)peak[MB_MEM_STAGING],
               (long long)b->staging);
    fflush(stdout);
    int64_t bad = !ok;
    CHECK(mb_comm_max_i64(c, &bad, 1, "the comparison") == MB_OK);
    CHECK(bad == 0);
    CHECK(p->budget.total >= b->total && p->budget.weights >= 0);
}

/* The case's adapters, opened as rank 0 of a job does; returns how many. */
static int32_t open_adapters(const struct kase *k, const struct mb_model *m, struct mb_adapter **a)
{
    char dir[512];
    int32_t n = 0;

    for (; n < 2 && k->adapter[n] != NULL; n++) {
        snprintf(dir, sizeof dir, "%s/tests/data/lora/%s", getenv("top_srcdir"), k->adapter[n]);
        CHECK(mb_adapter_open(dir, m, &a[n]) == MB_OK);
    }
    return n;
}

static void run_case(struct mb_comm *c, const struct mb_topo *t, const struct kase *k,
                     const struct mb_layout_options *layout)
{
    static const struct mb_source_ops source_ops = {few_next};
    static const struct mb_sink_ops sink_ops = {quiet_begin, quiet_token, quiet_bulk, count_done, quiet_step};
    struct mb_mem mem = {0};
    struct mb_model *m = NULL;
    struct mb_plan *p = NULL;
    struct mb_device *dev = NULL;
    struct mb_engine *e = NULL;
    struct mb_adapter *adapter[2] = {NULL, NULL};
    const struct mb_ops *ops = mb_ops_find("cpu");
    char dir[512];

    snprintf(dir, sizeof dir, "%s/tests/data/models/%s", getenv("top_srcdir"), k->model);
    CHECK(mb_model_open(dir, 0, &m) == MB_OK);
    mb_model_keep(m, k->path == MB_U8 ? MB_KEEP_INT8 : MB_KEEP_STORED);
    enum mb_dtype path = k->path == MB_U8 ? MB_F32 : k->path == MB_I32 ? MB_BF16 : k->path,
                  kv = k->path == MB_I32 ? MB_U8 : mb_model_narrow(m, path);
    int32_t adapters = open_adapters(k, m, adapter);
    struct mb_plan_options po = {.layout = layout != NULL ? *layout : (struct mb_layout_options){0},
                                 .segment = 64,
                                 .max_num_seqs = 4,
                                 .max_batch_rows = 32,
                                 .max_model_len = 100,
                                 .path = path,
                                 .kv_dtype = kv,
                                 .memory_fraction = 0.9,
                                 .alltoall = k->how,
                                 .shm_bytes = 1 << 20,
                                 .eager_bytes = 4096,
                                 .mtp = k->mtp && m->mtp_layers > 0,
                                 .save_logits = k->mtp,
                                 .adapters = (const struct mb_adapter *const *)adapter,
                                 .n_adapters = adapters};
    CHECK(mb_plan_create(m, t, &po, &p) == MB_OK);
    struct mb_device_options d = {.threads = 1, .isa = "auto", .mem = &mem, .path = path};
    CHECK(ops->open(&d, &dev) == MB_OK);
    struct mb_engine_options o = {.model = m,
                                  .topo = t,
                                  .plan = p,
                                  .ops = ops,
                                  .dev = dev,
                                  .comm = c,
                                  .mem = &mem,
                                  .path = path,
                                  .kv_dtype = kv,
                                  .segment = 64,
                                  .shm_bytes = 1 << 20,
                                  .eager_bytes = 4096,
                                  .adapters = (const struct mb_adapter *const *)adapter,
                                  .adapter_names = adapter_names,
                                  .n_adapters = adapters,
                                  .save_logits = k->mtp ? MB_LOGITS_ALL : MB_LOGITS_NONE};
    comm_mem.peak[MB_MEM_EXCHANGE] = comm_mem.now[MB_MEM_EXCHANGE];
    CHECK(mb_engine_create(&o, &e) == MB_OK);
    CHECK(mb_engine_expert_bytes(e) == p->expert_bytes[t->index_of[mb_comm_rank(c)]]);
    struct few source = {{&source_ops}, 0, m->vocab, mb_comm_rank(c), adapters};
    struct mb_place at;
    struct mb_budget b;
    mb_layout_place(&p->layout, t->index_of[mb_comm_rank(c)], &at);
    CHECK(mb_plan_budget(p, m, t, &po, at.index, &b) == MB_OK);
    struct count sink = {{&sink_ops}, 0, 0};
    int64_t made = mem.now[MB_MEM_STAGING], reserved = mem.now[MB_MEM_EXCHANGE];
    CHECK(mb_engine_run(e, &source.base, &sink.base) == MB_OK);
    CHECK(near_to(mem.now[MB_MEM_STAGING], made, 0) &&
          near_to(mem.now[MB_MEM_EXCHANGE], reserved, 0)); /* nothing grew */
    CHECK(sink.rows == (mb_place_leads(&at) ? REQUESTS : 0) && sink.errors == 0);
    mb_engine_destroy(e);
    ops->close(dev);
    compare(c, k, &b, p, at.index, &mem);
    CHECK(mb_mem_total(&mem) == 0); /* and everything was given back */
    mb_plan_destroy(p);
    mb_adapter_destroy(adapter[0]);
    mb_adapter_destroy(adapter[1]);
    mb_model_destroy(m);
}

int main(int argc, char **argv)
{
    static const char attn[] = "mixtral_a__attn_r4", experts[] = "mixtral_a__experts_r2";
    static const struct kase cases[] = {
        {"mixtral_a", MB_F32, MB_A2A_FLAT, false, {0}},
        {"mixtral_a", MB_BF16, MB_A2A_HIER, false, {0}},
        {"llama_a", MB_BF16, MB_A2A_AUTO, false, {0}},
        {"phimoe_a", MB_F32, MB_A2A_HIER, false, {0}},
        {"gptoss_a", MB_BF16, MB_A2A_FLAT, false, {0}},
        {"qwen2moe_a", MB_BF16, MB_A2A_AUTO, false, {0}},
        {"olmoe_a", MB_BF16, MB_A2A_AUTO, false, {0}},
        {"grok1_a", MB_BF16, MB_A2A_AUTO, false, {0}},
        {"deepseekv2_a", MB_BF16, MB_A2A_FLAT, false, {0}},
        {"llama4_a", MB_BF16, MB_A2A_FLAT, false, {0}},
        {"mistral4_a", MB_F32, MB_A2A_FLAT, false, {0}},
        {"minimaxm2_a", MB_F32, MB_A2A_FLAT, false, {0}},
        {"deepseekv32_a", MB_BF16, MB_A2A_FLAT, false, {0}},
        {"hunyuanmoe_a", MB_BF16, MB_A2A_FLAT, false, {0}},
        {"glm4moe_a", MB_BF16, MB_A2A_FLAT, true, {0}},
        {"qwen3next_a", MB_F32, MB_A2A_FLAT, false, {0}},
        {"qwen35moe_a", MB_BF16, MB_A2A_FLAT, false, {0}},
        {"qwen3moe_fp8_a", MB_BF16, MB_A2A_FLAT, false, {0}},
        {"qwen3moe_fp8ch_a", MB_BF16, MB_A2A_FLAT, false, {0}},
        {"gptoss_mxfp4_a", MB_BF16, MB_A2A_FLAT, false, {0}},
        {"mixtral_w4_gidx_a", MB_BF16, MB_A2A_FLAT, false, {0}},
        {"qwen3moe_nvfp4_a", MB_BF16, MB_A2A_HIER, false, {0}},
        {"qwen3moe_int8_a", MB_F32, MB_A2A_FLAT, false, {0}},
        {"deepseekv3_a", MB_BF16, MB_A2A_HIER, true, {0}},
        {"deepseekv3_a", MB_U8, MB_A2A_HIER, true, {0}},
        {"qwen3moe_nvfp4_a", MB_U8, MB_A2A_FLAT, false, {0}},
        {"olmoe_a", MB_U8, MB_A2A_AUTO, false, {0}},
        {"deepseekv3_a", MB_I32, MB_A2A_FLAT, true, {0}},
        {"mixtral_a", MB_F32, MB_A2A_FLAT, false, {attn, experts}},
        {"mixtral_a", MB_BF16, MB_A2A_HIER, false, {experts, attn}},
        {"qwen3moe_b", MB_BF16, MB_A2A_FLAT, false, {"qwen3moe_b__qv_r3_rslora"}},
    };
    static const struct split splits[] = {
        {3, "mixtral_a", MB_F32, {.tp = 3}},
        {3, "deepseekv3_a", MB_BF16, {.etp = 3}},
        {3, "dbrx_a", MB_F32, {.attn = 2, .expert = 1}},
        {3, "qwen3next_a", MB_BF16, {.sp = 3}},
        {3, "mixtral_w4_a", MB_BF16, {.tp = 3, .etp = 3}},
        {3, "deepseekv3_fp8", MB_BF16, {.tp = 3, .etp = 3}},
        {4, "qwen3moe_gptq_a", MB_F32, {.tp = 2, .etp = 4}},
        {4, "mixtral_a", MB_BF16, {.tp = 2, .etp = 2}},
        {4, "mixtral_a", MB_U8, {.tp = 2, .etp = 2}},
        {4, "mixtral_a", MB_I32, {.tp = 2, .sp = 2}},
        {4, "mixtral_a", MB_F32, {.sp = 2, .edp = 2}},
        {4, "mixtral_a", MB_F32, {.dp = 2, .tp = 2}},
        {4, "mixtral_a", MB_F32, {.pp = 2, .lane_scope = true}},
        {4, "qwen3moe_b", MB_F32, {.tp = 4}},
        {4, "llama4_a", MB_F32, {.tp = 2, .sp = 2}},
        {4, "mistral4_a", MB_BF16, {.tp = 2, .pp = 2}},
        {4, "glmmoedsa_b", MB_BF16, {.tp = 2, .pp = 2}},
        {4, "glmmoedsa_b", MB_BF16, {.pp = 2, .sp = 2}},
        {4, "deepseekv32_a", MB_F32, {.tp = 2, .sp = 2}},
        {4, "qwen3moe_b", MB_BF16, {.pp = 2, .sp = 2}},
        {4, "deepseekv3_a", MB_F32, {.tp = 2, .sp = 2}},
        {4, "deepseekv3_a", MB_BF16, {.tp = 2, .attn = 2, .expert = 2, .etp = 2}},
        {4, "dbrx_a", MB_BF16, {.sp = 4}},
        {4, "olmoe_a", MB_F32, {.tp = 2, .pp = 2}},
        {4, "olmoe_a", MB_BF16, {.tp = 4}},
        {4, "qwen3next_a", MB_BF16, {.tp = 2, .pp = 2}},
        {4, "qwen35moe_a", MB_F32, {.tp = 4}},
        {4, "qwen3next_a", MB_F32, {.tp = 2, .sp = 2}},
        {4, "qwen35moe_a", MB_BF16, {.pp = 2, .sp = 2}},
        {4, "gptoss_a", MB_F32, {.tp = 2, .etp = 2}},
        {4, "gptoss_a", MB_BF16, {.edp = 2, .attn = 2, .expert = 2}},
        {4, "qwen2moe_a", MB_F32, {.tp = 2, .sp = 2, .etp = 4}},
        {4, "grok1_a", MB_BF16, {.pp = 2, .tp = 2, .lane_scope = true}},
        {4, "phimoe_a", MB_F32, {.dp = 2, .etp = 2}},
        {8, "mixtral_a", MB_F32, {.dp = 2, .pp = 2, .tp = 2}},
        {8, "deepseekv3_a", MB_F32, {.pp = 2, .tp = 2, .sp = 2, .lane_scope = true}},
        {8, "qwen3moe_b", MB_BF16, {.tp = 2, .sp = 2, .ep = 2, .etp = 2}},
        {8, "dbrx_a", MB_F32, {.pp = 2, .attn = 2, .expert = 2, .tp = 2, .etp = 2, .lane_scope = true}},
    };
    static const struct full_split full[] = {
        {3, {"mixtral_a", MB_BF16, MB_A2A_FLAT, false, {attn, experts}}, {.tp = 3}},
        {3, {"mixtral_a", MB_F32, MB_A2A_HIER, false, {experts, attn}}, {.etp = 3}},
        {4, {"mixtral_a", MB_F32, MB_A2A_FLAT, false, {attn, experts}}, {.tp = 2, .etp = 2}},
        {4,
         {"mixtral_a", MB_BF16, MB_A2A_HIER, false, {experts, attn}},
         {.tp = 2, .pp = 2, .lane_scope = true, .etp = 2}},
        {4, {"mixtral_a", MB_F32, MB_A2A_FLAT, false, {attn, experts}}, {.tp = 2, .sp = 2, .etp = 4}},
        {4,
         {"mixtral_a", MB_BF16, MB_A2A_FLAT, false, {attn, experts}},
         {.tp = 2, .attn = 2, .expert = 2, .etp = 2}},
        {8,
         {"mixtral_a", MB_BF16, MB_A2A_HIER, false, {attn, experts}},
         {.pp = 2, .tp = 2, .sp = 2, .etp = 2}},
        {8,
         {"qwen3moe_b", MB_F32, MB_A2A_FLAT, false, {"qwen3moe_b__qv_r3_rslora"}},
         {.dp = 2, .tp = 4, .etp = 2}},
        {3, {"deepseekv3_a", MB_F32, MB_A2A_FLAT, true, {0}}, {.tp = 3}},
        {3, {"deepseekv3_a", MB_BF16, MB_A2A_HIER, true, {0}}, {.attn = 2, .expert = 1, .tp = 2}},
        {4, {"deepseekv3_a", MB_BF16, MB_A2A_FLAT, true, {0}}, {.pp = 2, .tp = 2}},
        {4, {"deepseekv3_a", MB_F32, MB_A2A_HIER, true, {0}}, {.pp = 2, .lane_scope = true, .etp = 2}},
        {4, {"deepseekv3_a", MB_BF16, MB_A2A_FLAT, true, {0}}, {.tp = 2, .sp = 2, .etp = 2}},
        {4, {"deepseekv3_a", MB_F32, MB_A2A_HIER, true, {0}}, {.sp = 4}},
        {8,
         {"deepseekv3_a", MB_F32, MB_A2A_FLAT, true, {0}},
         {.pp = 2, .attn = 2, .expert = 2, .tp = 2, .lane_scope = true}},
        {8, {"deepseekv3_a", MB_BF16, MB_A2A_HIER, true, {0}}, {.dp = 2, .pp = 2, .sp = 2}},
    };
    MPI_Init(&argc, &argv);
    struct mb_comm *c = test_comm(50, &comm_mem);
    struct mb_topo *t = topology(c);

    for (size_t i = 0; mb_comm_size(c) <= 3 && i < sizeof cases / sizeof *cases; i++)
        run_case(c, t, &cases[i], NULL);
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        const struct kase k = {
            splits[i].model, splits[i].path, i % 2 ? MB_A2A_HIER : MB_A2A_FLAT, false, {0}};
        if (splits[i].ranks == mb_comm_size(c))
            run_case(c, t, &k, &splits[i].l);
    }
    for (size_t i = 0; i < sizeof full / sizeof *full; i++) {
        if (full[i].ranks == mb_comm_size(c))
            run_case(c, t, &full[i].k, &full[i].l);
    }
    mb_topo_destroy(t);
    mb_comm_destroy(c);
    MPI_Finalize();
    return 0;
}
