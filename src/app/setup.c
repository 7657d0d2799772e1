#include "app/setup.h"
#include "plan/profile.h"

#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/signals.h"
#include "app/text.h"
#include "base/fs.h"
#include "base/log.h"
#include "io/h5.h"
#include "model/random.h"
#include "plan/alltoall.h"

static enum mb_status mpi_up(struct mb_app *a, int *argc, char ***argv)
{
    int got = 0;

    MB_TRY(mb_watchdog_create(a->conf->deadline, &a->dog));
    mb_watchdog_begin(a->dog, "MPI_Init_thread");
    int rc = MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &got);
    mb_watchdog_end(a->dog);
    if (rc != MPI_SUCCESS || got < MPI_THREAD_FUNNELED)
        return mb_error(MB_PEER, "MPI could not be started with MPI_THREAD_FUNNELED (got level %d); use an MPI with thread support", got);
    MPI_Comm_rank(MPI_COMM_WORLD, &a->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &a->size);
    mb_log_set_rank(a->rank, a->size);
    mb_signals_again();
    return MB_OK;
}

enum mb_status mb_app_start(struct mb_app *a, const struct mb_conf *conf, int *argc, char ***argv)
{
    a->conf = conf;
    mb_h5_init();
    MB_TRY(mpi_up(a, argc, argv));
    struct mb_comm_options o = {.deadline = conf->deadline, .mem = &a->mem};
    MB_TRY(mb_comm_create(&o, &a->comm));
    mb_log_set_quiet(a->rank != 0);
    return MB_OK;
}

/* ---------------------------------------------------------------- model */

struct described {
    struct mb_app *a;
    struct mb_bytes flat;
};

/* --random-weights: a config.json, or a directory with one. */
static enum mb_status describe_random(struct described *d)
{
    struct mb_app *a = d->a;
    char *config = mb_path_join(a->conf->random_weights, "config.json");

    if (config == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    enum mb_status st = mb_model_open(mb_path_exists(config) ? config : a->conf->random_weights, (int32_t)a->conf->k, &a->model);
    free(config);
    if (st == MB_OK)
        st = mb_model_randomise(a->model, (uint64_t)a->conf->seed);
    if (st == MB_OK)
        mb_model_keep(a->model, mb_keep_of(a->conf->weights, a->conf->dtype));
    return st == MB_OK ? mb_model_pack(a->model, &d->flat) : st;
}

static enum mb_status describe(void *arg)
{
    struct described *d = arg;
    struct mb_app *a = d->a;

    if (a->conf->random_weights[0] != 0)
        return describe_random(d);
    MB_TRY(mb_model_open(a->conf->model, (int32_t)a->conf->k, &a->model));
    if (a->model->n_files == 0)
        return mb_error(MB_MODEL, "%s: a model's directory with its weights is needed to run it; a config.json alone will do for "
                        "`moebatch plan` and `moebatch inspect -m`", a->conf->model);
    mb_model_keep(a->model, mb_keep_of(a->conf->weights, a->conf->dtype));
    MB_TRY(mb_model_identity(a->conf->model, &a->model_id));
    return mb_model_pack(a->model, &d->flat);
}

static enum mb_status share_model(struct mb_app *a)
{
    struct described d = {.a = a};
    enum mb_status st = mb_comm_alone(a->comm, a->rank == 0, describe, &d, "reading the model's description");

    if (st == MB_OK)
        st = mb_comm_bcast_bytes(a->comm, &d.flat, 0, "model description");
    if (st == MB_OK)
        st = mb_comm_bcast(a->comm, &a->model_id, sizeof a->model_id, 0, "model identity");
    if (st == MB_OK && a->rank != 0)
        st = mb_model_unpack(d.flat.data, d.flat.len, &a->model);
    mb_bytes_fini(&d.flat);
    return mb_comm_agree(a->comm, st, "taking over the model's description");
}

enum mb_dtype mb_app_path(const struct mb_conf *c, const struct mb_model *m)
{
    if (strcmp(c->dtype, "auto") == 0)
        return m->auto_path == MB_PATH_F32 ? MB_F32 : MB_BF16;
    return strcmp(c->dtype, "bf16") == 0 ? MB_BF16 : MB_F32;
}

enum mb_dtype mb_app_kv(const struct mb_conf *c, const struct mb_model *m, enum mb_dtype path)
{
    return strcmp(c->kv_dtype, "int8") == 0 ? MB_U8 : mb_model_narrow(m, path);
}

static enum mb_status choose_path(struct mb_app *a)
{
    const char *want = a->conf->dtype, *name = want;
    enum mb_model_dtype stored = a->model->auto_path;

    if (strcmp(want, "auto") == 0)
        name = stored == MB_PATH_F32 ? "f32" : stored == MB_PATH_FP8 ? "fp8" : "bf16";
    a->path = mb_app_path(a->conf, a->model);
    a->kv = mb_app_kv(a->conf, a->model, a->path);
    if (a->kv == MB_U8 && mb_model_narrow(a->model, a->path) != MB_BF16)
        return mb_error(MB_LAYOUT, "--kv-dtype int8 is read as bf16: it needs --dtype bf16 or int8, and this is %s", name);
    snprintf(a->path_name, sizeof a->path_name, "%s kv=%s segment=%lld k=%d", name, a->kv == MB_F32 ? "f32" : a->kv == MB_U8 ? "int8" : "bf16",
             (long long)a->conf->kv_segment, a->model->router.k);
    return MB_OK;
}

/* ---------------------------------------------------------------- machine */

static void warn_address(const struct mb_topo_local *l)
{
    if (l->address_room > 0 && l->address_room < l->memory_free)
        mb_warn("a limit on address space (ulimit -v) leaves this process %.2f GiB: the job is planned with that; ulimit -v unlimited "
                "lifts it", (double)l->address_room / (1 << 30));
}

/* Threads go where the plan says; the device's threads inherit the mask of the thread that opens it. */
static void bind_threads(const struct mb_app *a)
{
    struct mb_cpus mine;
    cpu_set_t set;

    mb_topo_cpus(a->topo, a->rank, &mine);
    if (mb_cpus_count(&mine) < a->topo->threads[a->rank])
        return; /* --threads asks for more than the rank's part: leave them to the kernel */
    CPU_ZERO(&set);
    for (int c = 0; c < MB_MAX_CPUS && c < CPU_SETSIZE; c++) {
        if (mine.bits[c / 64] >> (c % 64) & 1)
            CPU_SET(c, &set);
    }
    if (CPU_COUNT(&set) > 0 && sched_setaffinity(0, sizeof set, &set) != 0)
        mb_warn("could not bind to %d CPUs; the job runs, perhaps slower", CPU_COUNT(&set));
}

int32_t mb_app_environment_threads(const struct mb_conf *c)
{
    const char *s = getenv("OMP_NUM_THREADS");
    char *end;

    if (s == NULL || *s == '\0' || c->threads > 0)
        return 0;
    long n = strtol(s, &end, 10);
    if (n >= 1 && n <= 1024 && (*end == '\0' || *end == ','))
        return (int32_t)n;
    mb_warn("OMP_NUM_THREADS=%s is no number of threads between 1 and 1024, and is not used", s);
    return 0;
}

/* Where devices with memory of their own compute, a node's memory is that of the devices its ranks take. */
static void count_device_memory(struct mb_topo_local *all, const int32_t *node, int32_t ranks)
{
    for (int32_t r = 0; r < ranks; r++) {
        int64_t beside = 0;
        for (int32_t q = 0; q < ranks && all[r].device_memory > 0; q++)
            beside += node[q] == node[r];
        if (beside > 0)
            all[r].memory_bytes = all[r].memory_free =
                all[r].device_memory * (beside < all[r].devices ? beside : (int64_t)all[r].devices);
    }
}

enum mb_status mb_app_topology(struct mb_app *a)
{
    struct mb_topo_local mine, *all = calloc((size_t)a->size, sizeof *all);
    int32_t *node = calloc((size_t)a->size, sizeof *node);
    enum mb_status st = all == NULL || node == NULL ? mb_error(MB_NO_MEMORY, "no memory for the topology") : MB_OK;

    memset(&mine, 0, sizeof mine);
    if (st == MB_OK)
        st = mb_topo_discover(NULL, &mine, &a->hwloc_xml);
    mine.threads_asked = mb_app_environment_threads(a->conf);
    if (mb_ops_find(a->conf->backend) != NULL) /* else it is said where the device is opened */
        mine.device_memory = mb_ops_memory(mb_ops_find(a->conf->backend), &mine.devices);
    st = mb_comm_agree(a->comm, st, "looking at the machine");
    if (st == MB_OK)
        st = mb_comm_allgather(a->comm, &mine, sizeof mine, all, "topology");
    if (st == MB_OK)
        st = mb_comm_same_node(a->comm, node);
    if (st == MB_OK)
        count_device_memory(all, node, a->size);
    if (st == MB_OK && mine.device_memory == 0)
        warn_address(&mine);
    if (st == MB_OK)
        st = mb_comm_agree(a->comm, mb_topo_create(all, node, a->size, (int32_t)a->conf->threads, &a->topo), "the topology");
    free(all);
    free(node);
    return st;
}

static enum mb_alltoall alltoall_of(const char *name)
{
    return mb_alltoall_named(name); /* one of the choices of the option */
}

/* Under --save-logits every row is computed for itself. */
static bool guesses(const struct mb_conf *c)
{
    return c->guess != MB_GUESS_OFF && c->save_logits[0] == 0;
}

struct mb_plan_options mb_app_plan_options(const struct mb_conf *c, const struct mb_model *m, enum mb_dtype path)
{
    return (struct mb_plan_options){.layout = {.dp = (int32_t)c->data_parallel_size,
                                           .pp = (int32_t)c->pipeline_parallel_size,
                                           .tp = (int32_t)c->tensor_parallel_size,
                                           .sp = (int32_t)c->sequence_parallel_size,
                                           .adp = (int32_t)c->attention_data_parallel_size,
                                           .ep = (int32_t)c->expert_parallel_size,
                                           .etp = (int32_t)c->expert_tensor_parallel_size,
                                           .edp = (int32_t)c->expert_data_parallel_size,
                                           .experts_per_gpu = (int32_t)c->num_experts_per_gpu,
                                           .lane_scope = strcmp(c->expert_scope, "lane") == 0,
                                           .attn = c->disaggregate_attention,
                                           .expert = c->disaggregate_experts},
                                .segment = (int32_t)c->kv_segment,
                                .max_num_seqs = (int32_t)c->max_num_seqs,
                                .max_batch_rows = (int32_t)c->max_batch_rows,
                                .max_model_len = c->max_model_len,
                                .path = path,
                                .kv_dtype = mb_app_kv(c, m, path),
                                .memory_fraction = c->gpu_memory_utilization,
                                .kv_pages = c->kv_pages,
                                .save_logits = c->save_logits[0] != 0,
                                .save_routing = c->save_routing,
                                .save_hidden = c->save_hidden,
                                .guesses = {guesses(c) ? c->guesses : 0, c->guess == MB_GUESS_MTP},
                                .mtp = m->mtp_layers > 0 && (strcmp(c->save_logits, "all") == 0 ||
                                                             (guesses(c) && c->guess == MB_GUESS_MTP)),
                                .alltoall = alltoall_of(c->alltoall),
                                .placement = c->placement,
                                .placement_before = c->placement_before[0] != 0 ? c->placement_before : NULL,
                                .redundant = (int32_t)c->num_redundant_experts,
                                .zero = (int32_t)c->zero_inference,
                                .min_experts = (int32_t)c->min_experts,
                                .shm_bytes = (uint64_t)c->shm_size,
                                .eager_bytes = (uint64_t)c->a2a_eager};
}

static enum mb_status make_plan(struct mb_app *a, const struct mb_plan_options *o)
{
    return mb_plan_create(a->model, a->topo, o, &a->plan);
}

#define SEQS 64 /* for which --layout auto chooses where memory is to say how many there are */

/* --profile: read by rank 0, speeds of the job's machines for all. Collective over world. */
static enum mb_status job_speeds(struct mb_app *a, struct mb_plan_options *o, struct mb_cluster *speeds)
{
    struct mb_profile p;
    enum mb_status st = MB_OK;

    if (a->conf->profile[0] == 0)
        return MB_OK;
    memset(&p, 0, sizeof p);
    if (a->rank == 0)
        st = mb_profile_load(a->conf->profile, &p);
    MB_TRY(mb_comm_agree(a->comm, st, "a profile"));
    MB_TRY(mb_comm_bcast(a->comm, &p, sizeof p, 0, "a profile"));
    mb_cluster_of_job(a->topo, speeds);
    mb_profile_apply(&p, speeds);
    o->speeds = speeds;
    return MB_OK;
}

/* --layout auto: what was chosen takes the place of what was left out. */
static enum mb_status plan_job(struct mb_app *a)
{
    struct mb_plan_options o = mb_app_plan_options(a->conf, a->model, a->path);

    struct mb_cluster speeds;
    o.usage = a->usage;
    MB_TRY(job_speeds(a, &o, &speeds));
    o.adapters = (const struct mb_adapter *const *)a->adapter;
    o.n_adapters = a->n_adapters;
    bool many = o.max_num_seqs < 0;
    if (many)
        o.max_num_seqs = SEQS;
    if (a->conf->layout[0] != 0)
        MB_TRY(mb_app_auto(a, &o));
    if (many)
        o.max_num_seqs = mb_plan_seqs(a->model, a->topo, &o);
    return mb_comm_agree(a->comm, make_plan(a, &o), "planning");
}

static enum mb_status guides_create(struct mb_app *a)
{
    const struct mb_guides_options o = {.mem = &a->mem,
                                        .vocab = a->model->vocab,
                                        .ends = a->model->eos,
                                        .n_ends = a->model->n_eos,
                                        .tokens = mb_app_token_bytes,
                                        .arg = a->tok};

    return a->tok != NULL ? mb_guides_create(&o, &a->guides) : MB_OK;
}

/* A model without tokenizer files serves requests that come as ids. */
static enum mb_status load_tokenizer(struct mb_app *a)
{
    if (a->conf->model[0] == 0)
        return MB_OK; /* random weights know no words */
    MB_TRY(mb_app_tokenizer(a->model, a->conf->model, &a->tok));
    char file[MB_TOKENIZER_FILE];
    if (a->tok == NULL && mb_tokenizer_foreign(a->conf->model, file))
        mb_warn("%s has no tokenizer.json or *.model, and the form of its %s is not read: only requests given as token ids can run",
                a->conf->model, file);
    else if (a->tok == NULL)
        mb_warn("%s has no tokenizer: only requests given as token ids can run", a->conf->model);
    return guides_create(a);
}

enum mb_status mb_app_plan(struct mb_app *a)
{
    MB_TRY(share_model(a));
    MB_TRY(mb_app_adapters(a));
    MB_TRY(choose_path(a));
    MB_TRY(mb_app_topology(a));
    MB_TRY(mb_app_usage(a));
    MB_TRY(plan_job(a));
    MB_TRY(mb_app_stage(a));
    return mb_comm_agree(a->comm, load_tokenizer(a), "loading the tokenizer");
}

/* ---------------------------------------------------------------- device and engine */

/* Ranks of this one's node before it: GPUs are taken in that order. */
static int32_t place_on_node(const struct mb_topo *t, int32_t rank)
{
    int32_t n = 0;

    for (int32_t r = 0; r < rank; r++)
        n += t->node_of[r] == t->node_of[rank];
    return n;
}

/* A program built for GPUs runs without one, but not silently. */
static void say_missing(const struct mb_app *a)
{
    int n;
    const struct mb_ops *const *all = mb_ops_all(&n);

    if (a->rank == 0 && strcmp(a->conf->backend, "auto") == 0 && a->ops != all[0])
        mb_info("this machine has no device for --backend %s; the CPU computes", all[0]->name);
}

static enum mb_status open_device(struct mb_app *a)
{
    struct mb_device_options o = {.threads = a->topo->threads[a->rank],
                                  .isa = a->conf->isa,
                                  .gpu = place_on_node(a->topo, a->rank),
                                  .mem = &a->mem,
                                  .path = a->path};

    a->ops = mb_ops_find(a->conf->backend);
    if (a->ops == NULL)
        return mb_error(MB_USAGE, "--backend %s: this build has no such backend", a->conf->backend);
    say_missing(a);
    bind_threads(a);
    return a->ops->open(&o, &a->dev);
}

enum mb_status mb_app_device(struct mb_app *a)
{
    return mb_comm_agree(a->comm, open_device(a), "opening the device");
}

static enum mb_overlap overlap_of(const char *name)
{
    return strcmp(name, "on") == 0 ? MB_OVERLAP_ON : strcmp(name, "off") == 0 ? MB_OVERLAP_OFF : MB_OVERLAP_AUTO;
}

static struct mb_drafting drafting_of(const struct mb_conf *c, const struct mb_model *m)
{
    const enum mb_draft_how how[] = {
        [MB_GUESS_OFF] = MB_DRAFT_OFF, [MB_GUESS_NGRAM] = MB_DRAFT_NGRAM, [MB_GUESS_MTP] = MB_DRAFT_MTP};

    return (struct mb_drafting){.how = how[c->guess], .most = c->guesses, .always = c->guess_always, .extra = 1.0 / m->layers};
}

enum mb_status mb_app_engine(struct mb_app *a, enum mb_status (*tick)(void *), void *tick_arg)
{
    const struct mb_conf *c = a->conf;
    struct mb_engine_options o = {.model = a->model,
                                  .topo = a->topo,
                                  .plan = a->plan,
                                  .overlap = overlap_of(c->overlap),
                                  .prefix_caching = c->prefix_caching,
                                  .drafts = drafting_of(c, a->model),
                                  .ops = a->ops,
                                  .dev = a->dev,
                                  .comm = a->comm,
                                  .mem = &a->mem,
                                  .sums = a->sums,
                                  .path = a->path,
                                  .kv_dtype = a->kv,
                                  .segment = (int32_t)c->kv_segment,
                                  .shm_bytes = (uint64_t)c->shm_size,
                                  .eager_bytes = (uint64_t)c->a2a_eager,
                                  .seed = (uint64_t)c->seed,
                                  .adapters = (const struct mb_adapter *const *)a->adapter,
                                  .adapter_names = a->adapter_name,
                                  .n_adapters = a->n_adapters,
                                  .prefetch = (int32_t)c->prefetch,
                                  .save_routing = c->save_routing,
                                  .save_hidden = c->save_hidden,
                                  .stop = mb_signals_stop(),
                                  .tick = tick,
                                  .tick_arg = tick_arg};
    o.guides = a->guides;
    if (c->save_logits != NULL && c->save_logits[0] != 0)
        o.save_logits = strcmp(c->save_logits, "last") == 0 ? MB_LOGITS_LAST : MB_LOGITS_ALL;
    return mb_engine_create(&o, &a->engine);
}

void mb_app_end_device(struct mb_app *a)
{
    mb_engine_destroy(a->engine);
    a->engine = NULL;
    if (a->ops != NULL && a->dev != NULL)
        a->ops->close(a->dev);
    a->dev = NULL;
}

void mb_app_drop(struct mb_app *a)
{
    mb_guides_destroy(a->guides);
    mb_tokenizer_destroy(a->tok);
    mb_plan_destroy(a->plan);
    free(a->auto_reason);
    free(a->usage);
    mb_topo_destroy(a->topo);
    free(a->hwloc_xml);
    mb_app_adapters_free(a);
    mb_sums_destroy(a->sums);
    mb_model_destroy(a->model);
    a->guides = NULL;
    a->tok = NULL;
    a->plan = NULL;
    a->auto_reason = NULL;
    a->usage = NULL;
    a->topo = NULL;
    a->hwloc_xml = NULL;
    a->sums = NULL;
    a->model = NULL;
}

void mb_app_end(struct mb_app *a)
{
    mb_app_drop(a);
    mb_comm_destroy(a->comm);
    if (a->dog != NULL) {
        mb_watchdog_begin(a->dog, "MPI_Finalize");
        MPI_Finalize();
        mb_watchdog_end(a->dog);
    }
    mb_watchdog_destroy(a->dog);
}
