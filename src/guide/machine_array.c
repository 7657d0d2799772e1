/* Arrays: items by their place, how many, and how many that contain what is asked for. */
#include "guide/level.h"

static void set_cap(const struct mb_acceptor *m, const struct mb_view *v)
{
    int64_t cap = 0;

    for (uint32_t i = 0; i < v->h->n_units; i++) {
        const struct mb_node_array *a = &mb_unit_node(m, &v->unit[i])->array;
        if (v->unit[i].own != MB_V_OPEN)
            continue;
        cap = a->min > cap ? a->min : cap;
        cap = a->max + 1 > cap ? a->max + 1 : cap;
        cap = a->prefix.n > cap ? a->prefix.n : cap;
    }
    v->h->cap = cap < UINT32_MAX / 2 ? (uint32_t)cap : UINT32_MAX / 2;
}

bool mb_array_begin(struct mb_acceptor *m, struct mb_config *c)
{
    struct mb_view v = mb_view_top(c);

    for (uint32_t i = 0; i < v.h->n_units; i++) {
        const struct mb_node *n = mb_unit_node(m, &v.unit[i]);
        v.unit[i].own = !(n->types & MB_T_ARRAY) ? MB_V_FALSE : n->array.any ? MB_V_TRUE : MB_V_OPEN;
    }
    set_cap(m, &v);
    return mb_level_settle(m, c, v.at);
}

/* The node of the next item; -1: there may be none. */
static int32_t next_node(const struct mb_acceptor *m, const struct mb_level *h, const struct mb_node_array *a)
{
    if (a->max >= 0 && h->count >= a->max)
        return -1;
    int32_t node = h->count < (uint32_t)a->prefix.n ? m->s->link[a->prefix.at + (int32_t)h->count] : a->items;
    return m->s->node[node].types != 0 ? node : -1;
}

/* Those that cannot have another item say so. */
static bool check_next(struct mb_acceptor *m, struct mb_config *c)
{
    struct mb_view v = mb_view_top(c);
    bool changed = false;

    for (uint32_t i = 0; i < v.h->n_units; i++) {
        struct mb_unit *u = &v.unit[i];
        if (u->own == MB_V_OPEN && next_node(m, v.h, &mb_unit_node(m, u)->array) < 0) {
            u->own = MB_V_FALSE;
            changed = true;
        }
    }
    return !changed || mb_level_settle(m, c, v.at);
}

static bool item(struct mb_acceptor *m, struct mb_config *c, uint8_t byte)
{
    if (!check_next(m, c))
        return false;
    struct mb_view v = mb_view_top(c);
    int32_t n = 0;
    for (uint32_t i = 0; i < v.h->n_units; i++) {
        const struct mb_unit *u = &v.unit[i];
        const struct mb_node_array *a = &mb_unit_node(m, u)->array;
        int32_t head = n++;
        m->list[head] = 0;
        if (u->own != MB_V_OPEN)
            continue;
        int32_t node = next_node(m, v.h, a);
        if (node != MB_NODE_ANY)
            m->list[n++] = (uint32_t)node;
        if (a->contains >= 0)
            m->list[n++] = (uint32_t)a->contains | MB_CHILD_CONTAINS;
        m->list[head] = (uint32_t)(n - head - 1);
    }
    return mb_level_child(m, c, m->list, n) && mb_value_start(m, c, byte);
}

static bool right_count(const struct mb_level *h, const struct mb_unit *u, const struct mb_node_array *a)
{
    if (h->count < a->min || (a->max >= 0 && h->count > a->max))
        return false;
    return a->contains < 0 ||
           (u->local >= a->min_contains && (a->max_contains < 0 || u->local <= a->max_contains));
}

static bool close_array(struct mb_acceptor *m, struct mb_config *c)
{
    struct mb_view v = mb_view_top(c);

    for (uint32_t i = 0; i < v.h->n_units; i++) {
        struct mb_unit *u = &v.unit[i];
        if (u->own == MB_V_OPEN)
            u->own = right_count(v.h, u, &mb_unit_node(m, u)->array) ? MB_V_TRUE : MB_V_FALSE;
    }
    return mb_level_finish(m, c);
}

bool mb_array_step(struct mb_acceptor *m, struct mb_config *c, uint8_t byte)
{
    struct mb_level *h = mb_view_top(c).h;

    if (byte == ']' && (h->phase == MB_P_OPENED || h->phase == MB_P_VALUE))
        return close_array(m, c);
    if (h->phase == MB_P_VALUE && byte == ',') {
        h->phase = MB_P_COMMA;
        return check_next(m, c);
    }
    if (h->phase == MB_P_COMMA && byte == ' ') {
        h->phase = MB_P_SPACE;
        return true;
    }
    return h->phase != MB_P_VALUE && item(m, c, byte);
}
