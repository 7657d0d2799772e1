/* What a job is made of, built in order, torn down in reverse. */
#ifndef MB_APP_SETUP_H
#define MB_APP_SETUP_H
#include "base/files.h"
#include "base/hash.h"
#include "comm/comm.h"
#include "comm/watchdog.h"
#include "conf/conf.h"
#include "device/ops.h"
#include "engine/engine.h"
#include "model/adapter.h"
#include "model/model.h"
#include "plan/plan.h"
#include "text/tokenizer.h"
#include "topo/topo.h"

struct mb_app {
    const struct mb_conf *conf;
    struct mb_mem mem;
    struct mb_watchdog *dog; /* for MPI_Init and MPI_Finalize */
    struct mb_comm *comm;
    int rank, size;
    struct mb_model *model;
    struct mb_hash128 model_id;
    struct mb_sums *sums; /* of the contents of its files, as far as they were read */
    int32_t n_adapters;
    const char **adapter_name;
    struct mb_adapter **adapter;
    struct mb_hash128 *adapter_id;
    char *adapter_text; /* what the names point into */
    struct mb_topo *topo;
    char *hwloc_xml;
    int64_t *usage; /* [moe layers][experts] of --expert-usage, or NULL */
    struct mb_plan *plan;
    char *auto_reason; /* of --layout auto: why this layout; else NULL */
    enum mb_dtype path, kv;
    char path_name[160]; /* numeric path: what must not change on resume */
    struct mb_tokenizer *tok;
    const struct mb_ops *ops;
    struct mb_device *dev;
    struct mb_guides *guides; /* NULL without a tokenizer */
    struct mb_engine *engine;
};

/* MPI up, communicators made. Collective over world. */
enum mb_status mb_app_start(struct mb_app *a, const struct mb_conf *conf, int *argc, char ***argv);
/* Model (read by rank 0 alone), topology, plan, tokenizer: everything that can be refused before weights are read.
 * Collective over world. */
enum mb_status mb_app_plan(struct mb_app *a);
/* Who runs where: topo, hwloc_xml. Collective over world. */
enum mb_status mb_app_topology(struct mb_app *a);
/* A model by its shapes, for what needs no weights: a directory without them is as good as its config.json. k: 0, or --k.
 * Local. shapes.c */
enum mb_status mb_app_open_shapes(const char *path, int32_t k, struct mb_model **out);
/* OMP_NUM_THREADS ("4", or "4,2": the outermost counts); 0: not set, or --threads is. Local. */
int32_t mb_app_environment_threads(const struct mb_conf *c);
/* --adapter. Collective over world. adapters.c */
enum mb_status mb_app_adapters(struct mb_app *a);
void mb_app_adapters_free(struct mb_app *a);
/* The type of GEMM inputs that --dtype means for this model. Local. */
enum mb_dtype mb_app_path(const struct mb_conf *c, const struct mb_model *m);
/* Of pages of keys and values. */
enum mb_dtype mb_app_kv(const struct mb_conf *c, const struct mb_model *m, enum mb_dtype path);
/* What the options say of the plan; usage and adapters are left to the caller. Local. */
struct mb_plan_options mb_app_plan_options(const struct mb_conf *c, const struct mb_model *m, enum mb_dtype path);
/* --layout auto: rank 0 chooses the sizes that o leaves open, all get them in o->layout. MB_LAYOUT where nothing fits.
 * Collective over world. auto.c */
enum mb_status mb_app_auto(struct mb_app *a, struct mb_plan_options *o);
/* --expert-usage. Collective over world. usage.c */
enum mb_status mb_app_usage(struct mb_app *a);
/* The same of results by commas, added up into usage [MoE layers][experts], zeroed. MB_INPUT, logged: of another model, or
 * nothing was counted. Local. */
enum mb_status mb_usage_read(const char *paths, const struct mb_model *m, int64_t *usage);
/* --stage: the model's files to node-local storage. Collective over world. stage.c */
enum mb_status mb_app_stage(struct mb_app *a);
/* identity.c: the files a job is made of, the hashes of weights left open. Local; reads text files. */
enum mb_status mb_app_files(const struct mb_app *a, struct mb_files *out);
/* Before weights are read; and after: fills in the hashes of weights (where the list has the files), for which ranks share
 * what they have read, and read what none has. Collective over world. MB_MODEL if ranks see different contents. */
enum mb_status mb_app_sums(struct mb_app *a);
enum mb_status mb_app_hash(struct mb_app *a, struct mb_files *out);
/* Opens the device. Collective over world. */
enum mb_status mb_app_device(struct mb_app *a);
/* The engine: reads the weights. tick(tick_arg) is called between steps. Collective over world. */
enum mb_status mb_app_engine(struct mb_app *a, enum mb_status (*tick)(void *), void *tick_arg);
/* Frees engine and device; then what they borrowed may go. Local. */
void mb_app_end_device(struct mb_app *a);
/* Frees what mb_app_plan made, behind mb_app_end_device: another model may be planned. Local. */
void mb_app_drop(struct mb_app *a);
/* Frees the rest, ends MPI. Collective over world. */
void mb_app_end(struct mb_app *a);
#endif
