/* Where a rank stands in the job while the engine runs: its place in the two grids, the communicators of its
 * groups, its shares of heads, layers and sums, and who serves which expert in each exchange of a step. */
#ifndef MB_ENGINE_TEAM_H
#define MB_ENGINE_TEAM_H
#include "comm/comm.h"
#include "comm/group.h"
#include "engine/engine.h"
#include "plan/parts.h"
#include "plan/serve.h"

/* Query heads that share a pool of KV pages: tensor parallelism may cut a KV head's queries apart. */
struct mb_pool {
    int32_t head, heads;       /* own query heads [head, head + heads), counted from the rank's first */
    int32_t kv_head, kv_heads; /* counted from the rank's first KV head */
};

/* The parallel groups of a rank: its place in each, their sizes and communicators. */
struct mb_groups {
    int32_t dp_rank, dp_size;   /* replicas of the whole model */
    int32_t pp_rank, pp_size;   /* pipeline stages */
    int32_t tp_rank, tp_size;   /* tensor parallelism; -1 on a rank that does not attend, as in sp */
    int32_t sp_rank, sp_size;   /* sequence parallelism */
    int32_t att_rank, att_size; /* both: the attention group */
    int32_t ep_rank, ep_size;   /* shards of the experts; -1 on a rank without any, as in etp */
    int32_t etp_rank, etp_size; /* slices of an expert */
    /* NULL where the group has one rank. xchg: the exchange group (never NULL). line: all ranks of an attention
     * group, stage by stage, its leader first; att: those of the own stage. */
    struct mb_comm *tp, *sp, *etp, *xchg, *line, *att;
    struct mb_comm *peers; /* ranks of all replicas that hold the dense weights of this stage; NULL: this rank
                              does not attend */
};

struct mb_team {
    struct mb_layout l;
    struct mb_place at;
    struct mb_groups g;
    struct mb_comm *world; /* borrowed */
    bool attends, serves, leads;
    bool alone;  /* its attention group is this rank: own rows are all rows, and there is no line */
    bool joined; /* a failure of one rank is known to all by the exchange: one lane, and every group one rank
                  */
    int32_t first_layer, last_layer; /* [first, last); without the MTP module */
    bool first_stage, last_stage;
    struct mb_part_heads h, d; /* d: of gated DeltaNet, whose heads the attention group divides */
    struct mb_pool *pool;
    int32_t n_pools;
    int32_t n_exchanges, id_base;
    struct mb_serve **serve; /* [n_exchanges] */
};
/* Collective over the engine's communicator (world). */
enum mb_status mb_team_create(const struct mb_engine_options *o, struct mb_team *t);
/* Frees the communicators too if `together`: then it is collective over world. */
void mb_team_fini(struct mb_team *t, bool together);

/* World rank of an exchange group's member, as an index in topology order. */
int32_t mb_team_index_of(const struct mb_team *t, int32_t member);
#endif
