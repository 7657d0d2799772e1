/* The engine: schedules sequences, walks the layers, samples. One engine per rank; all ranks of a stage step together.
 * Owns weights, KV pages and sequences; borrows model, plan, exchange, device, source and sink. */
#ifndef MB_ENGINE_ENGINE_H
#define MB_ENGINE_ENGINE_H
#include <signal.h>
#include "comm/comm.h"
#include "comm/xchg.h"
#include "device/ops.h"
#include "engine/seq.h"
#include "job/counters.h"
#include "job/sink.h"
#include "job/source.h"
#include "model/adapter.h"
#include "model/model.h"
#include "model/sums.h"
#include "plan/plan.h"

/* Whether a rank computes its own rows' experts and the shared one while rows travel: where that pays, always, never. Results are
 * the same. */
enum mb_overlap { MB_OVERLAP_AUTO, MB_OVERLAP_ON, MB_OVERLAP_OFF };

struct mb_engine_options {
    const struct mb_model *model;
    const struct mb_topo *topo;
    const struct mb_plan *plan;
    const struct mb_ops *ops;
    struct mb_device *dev;
    struct mb_comm *comm;
    struct mb_mem *mem;
    struct mb_sums *sums; /* gets the hashes of what is read of the model's files; borrowed, NULL: none */
    enum mb_dtype path, kv_dtype;
    int32_t segment; /* --kv-segment */
    uint64_t shm_bytes, eager_bytes;
    uint64_t seed;
    const struct mb_adapter *const *adapters; /* borrowed; requests name them */
    const char *const *adapter_names;
    int32_t n_adapters;
    struct mb_guides *guides; /* borrowed; NULL: no request can be guided */
    int64_t state_bytes; /* of attention states of a sequence group in transit at once; 0: MB_STATE_BYTES */
    int32_t prefetch; /* under ZeRO-inference (plan->cache) */
    enum mb_overlap overlap;
    bool prefix_caching; /* rows with the same ids before them are computed once, where results keep no more of rows than tokens */
    struct mb_drafting drafts; /* rows of guessed ids; off where logits are saved. MB_DRAFT_MTP: the plan has the module */
    bool save_routing, save_hidden;
    enum mb_save_logits save_logits;
    const volatile sig_atomic_t *stop; /* set by a signal: finish the step, then return MB_STOP */
    /* Called between steps, at most every tick_seconds: progress, leases, ticks. May set *stop. */
    enum mb_status (*tick)(void *arg);
    void *tick_arg;
};

struct mb_engine;
/* Loads the weights this rank needs. Collective over world. */
enum mb_status mb_engine_create(const struct mb_engine_options *o, struct mb_engine **out);
void mb_engine_destroy(struct mb_engine *e);
/* Runs until every member's source is at its end and nothing is under way (MB_OK), a stop was asked for (MB_STOP), or
 * an error. After MB_OK it may be called again, with other requests. Collective over world. */
enum mb_status mb_engine_run(struct mb_engine *e, struct mb_source *src, struct mb_sink *sink);
/* After mb_engine_run: do the other ranks know that the run has ended? false where the exchange itself failed on this rank
 * (it returned MB_BUG): the others may be waiting in it, and nothing collective may follow. Local. */
bool mb_engine_agreed(const struct mb_engine *e);
void mb_engine_counters(const struct mb_engine *e, struct mb_counters *out);
/* Rows that this rank sent to each expert, [moe_layers][experts]; NULL for a dense model. Owned by the engine. */
const int64_t *mb_engine_usage(const struct mb_engine *e);
/* (row, expert) pairs that this rank's experts were sent, [moe_layers]; NULL for a dense model. The engine's. */
const int64_t *mb_engine_layer_rows(const struct mb_engine *e);
/* Under ZeRO-inference what was counted for each MoE layer, [moe layers of the placement][MB_ENGINE_ZERO_COUNTS] in the order
 * of engine/zero.h; NULL without. Owned by the engine. */
#define MB_ENGINE_ZERO_COUNTS 6
const int64_t *mb_engine_zero(const struct mb_engine *e);
int64_t mb_engine_expert_bytes(const struct mb_engine *e); /* resident routed-expert bytes of this rank */
/* Requests under way and waiting here, for the progress line. */
void mb_engine_load(const struct mb_engine *e, int32_t *running, int64_t *kv_pages_used);
#endif
