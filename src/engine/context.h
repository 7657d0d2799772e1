/* What is constant while the engine runs: options, groups, weights, tables and the pools of pages. Made by
 * engine.c, read by everybody else. */
#ifndef MB_ENGINE_CONTEXT_H
#define MB_ENGINE_CONTEXT_H
#include "comm/rooms.h"
#include "engine/engine.h"
#include "engine/lora.h"
#include "engine/team.h"
#include "engine/weights.h"
#include "plan/rooms.h"

/* Experts that an exchange finds here, in the order of their ids. */
struct mb_served {
    int32_t n;
    int32_t *layer, *index;    /* [n] index: into that layer's expert[] */
    const struct mb_ffn **ffn; /* [n] under ZeRO-inference; NULL where it is not here */
    uint8_t *pick;             /* [n] under ZeRO-inference: those computed now; NULL: all */
};

/* Factors by position. */
struct mb_tables {
    int64_t rows;             /* positions per table; the long table follows the short one */
    struct mb_buf *cos, *sin; /* f32 [rows, rope_dim / 2] */
    struct mb_buf *query;     /* f32 [rows, 1] factors of the queries, where they grow with the position */
};

/* What linear attention keeps of sequences that run, f32, layer by layer of the own ones. NULL: no such layer here. */
struct mb_states {
    struct mb_buf *conv, *delta; /* [layers][slots][(taps - 1) channels], [layers][slots][value heads * mb_delta_tile] */
};

struct mb_context {
    struct mb_engine_options o;
    struct mb_stream *stream;
    struct mb_team t;
    struct mb_weights w;
    struct mb_lora_set *lora; /* [n_adapters] */
    struct mb_served *served; /* [exchanges] */
    struct mb_kv **kv;        /* [all_layers][pools]; NULL where the layer is another stage's */
    struct mb_kv **index_kv;  /* [all_layers] keys of indexers; NULL where the layer has none */
    struct mb_tables tables;
    struct mb_states states;
    struct mb_rooms rooms; /* the planned sizes of buffers */
    int32_t all_layers;    /* with the MTP module */
    bool mtp;              /* the MTP module is in use: its logits are saved, or it guesses */
    bool expert_lora;      /* dispatched rows carry their adapter */
};

/* The type of queries and of experts' outputs. */
static inline enum mb_dtype mb_narrow(const struct mb_context *c)
{
    return mb_model_narrow(c->o.model, c->o.path);
}
static inline struct mb_view mb_rows_of(struct mb_buf *b, int64_t rows, int64_t cols, enum mb_dtype t)
{
    return mb_view_of(b, 0, rows, cols, t);
}
/* The tables of the rotation; long factors follow the short ones. */
static inline struct mb_view mb_cos_view(const struct mb_context *c)
{
    return mb_rows_of(c->tables.cos, c->tables.rows * (c->o.model->rope_switch > 0 ? 2 : 1), c->o.model->rope_dim / 2, MB_F32);
}
static inline struct mb_view mb_sin_view(const struct mb_context *c)
{
    struct mb_view v = mb_cos_view(c);
    v.buf = c->tables.sin;
    return v;
}
/* Whether this rank runs the MTP module. */
static inline bool mb_mtp_here(const struct mb_context *c)
{
    return c->mtp && c->t.attends && c->t.last_stage;
}

/* Whether its logits are results. */
static inline bool mb_mtp_saved(const struct mb_context *c)
{
    return c->mtp && c->o.save_logits == MB_LOGITS_ALL;
}

/* Where other ranks would wait in vain for one that failed (groups, stages, lanes), a failure ends the job
 * with its exit code: then this does not return. */
void mb_engine_must(const struct mb_context *c, enum mb_status st);

/* Where buffers of plan's table are. */
static inline struct mb_room_home mb_home(const struct mb_context *c)
{
    return (struct mb_room_home){c->o.ops, c->o.dev, c->o.mem};
}

/* tables.c */
enum mb_status mb_tables_create(struct mb_context *c);
void mb_tables_destroy(struct mb_context *c);
/* delta.c */
enum mb_status mb_states_create(struct mb_context *c);
void mb_states_destroy(struct mb_context *c);
/* experts.c */
enum mb_status mb_experts_create(struct mb_context *c);
void mb_experts_destroy(struct mb_context *c);
#endif
