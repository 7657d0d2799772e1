/* Factors by position. */
#include "base/log.h"
#include "engine/context.h"

static enum mb_status make(const struct mb_context *c, enum mb_sbuf id, struct mb_buf **out)
{
    struct mb_room_home h = mb_home(c);
    return mb_room_alloc(&h, id, c->rooms.bytes[id], NULL, out);
}

/* cos and sin for every position a sequence can reach; under longrope the long factors' table follows. */
static enum mb_status rope_tables(struct mb_context *c)
{
    const struct mb_model *m = c->o.model;
    int32_t tables = m->rope_switch > 0 ? 2 : 1;
    int64_t half = m->rope_dim / 2;

    c->tables.rows = c->o.plan->max_len + 1;
    size_t n = (size_t)(c->tables.rows * half * tables);
    float *cs = mb_alloc(c->o.mem, MB_MEM_STAGING, 2 * n, sizeof(float));
    if (cs == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the rotation tables of %lld positions",
                        (long long)c->tables.rows);
    for (int32_t t = 0; t < tables; t++)
        mb_model_rope_table(m, t, c->tables.rows, cs + t * c->tables.rows * half,
                            cs + n + (size_t)(t * c->tables.rows * half));
    enum mb_status st = make(c, MB_SB_COS, &c->tables.cos);
    if (st == MB_OK)
        st = make(c, MB_SB_SIN, &c->tables.sin);
    struct mb_view v = mb_rows_of(c->tables.cos, c->tables.rows * tables, half, MB_F32);
    if (st == MB_OK)
        st = c->o.ops->copy_in(c->stream, v, cs);
    v.buf = c->tables.sin;
    if (st == MB_OK)
        st = c->o.ops->copy_in(c->stream, v, cs + n);
    mb_free(cs);
    return st;
}

/* The factors of the queries at every position, where they grow with it. */
static enum mb_status query_table(struct mb_context *c)
{
    if (c->o.model->q_growth == 0)
        return MB_OK;
    float *f = mb_alloc(c->o.mem, MB_MEM_STAGING, (size_t)c->tables.rows, sizeof *f);
    if (f == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the query factors of %lld positions",
                        (long long)c->tables.rows);
    mb_model_query_table(c->o.model, c->tables.rows, f);
    enum mb_status st = make(c, MB_SB_QUERY, &c->tables.query);
    if (st == MB_OK)
        st = c->o.ops->copy_in(c->stream, mb_rows_of(c->tables.query, c->tables.rows, 1, MB_F32), f);
    mb_free(f);
    return st;
}

enum mb_status mb_tables_create(struct mb_context *c)
{
    MB_TRY(rope_tables(c));
    return query_table(c);
}

void mb_tables_destroy(struct mb_context *c)
{
    c->o.ops->buf_free(c->tables.cos);
    c->o.ops->buf_free(c->tables.sin);
    c->o.ops->buf_free(c->tables.query);
    c->tables = (struct mb_tables){0};
}
