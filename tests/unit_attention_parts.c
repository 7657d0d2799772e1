/* Attention in parts on every ISA: the states of single segments against a naive version, and any sharing of
 * the segments among owners against attention itself, with ==. */
#include "attn_help.h"

enum { OWNERS = 8, MOST_SEGMENTS = 64, MOST_ROWS = 160, MOST_ITEMS = MOST_ROWS * MOST_SEGMENTS };

struct batch {
    int32_t n;
    int32_t pos[MOST_ROWS], seq[MOST_ROWS];
};

static void rows_of(struct batch *b, int32_t seq, int32_t from, int32_t to)
{
    for (int32_t p = from; p <= to && b->n < MOST_ROWS; p++) {
        b->pos[b->n] = p;
        b->seq[b->n++] = seq;
    }
}

/* One call's operands on the device. */
struct call {
    const struct shape *s;
    const struct pool *p;
    const struct batch *b;
    float *q, *sinks;
    struct mb_attn_args a;
};

static void call_make(struct rig *g, struct call *c, const struct shape *s, const struct pool *p,
                      const struct batch *b)
{
    int64_t qw = (int64_t)s->heads * s->d, n = b->n * qw;
    *c = (struct call){s, p, b, malloc((size_t)n * 4 + 4), malloc((size_t)s->heads * 4), {.heads = 0}};
    for (int64_t i = 0; i < n; i++)
        c->q[i] = rig_value(g, s->q == MB_BF16) * 0.25f;
    for (int32_t i = 0; i < s->heads; i++)
        c->sinks[i] = rig_value(g, false);
    c->a = (struct mb_attn_args){.kv = p->kv, .heads = s->heads, .scale = 0.17f, .softcap = s->softcap};
    c->a.window = s->window;
    c->a.chunked = s->chunked;
    c->a.segment = s->segment;
    c->a.q = rig_floats(g, c->q, b->n, qw, qw + 5, s->q);
    c->a.pos = rig_ints(g, b->pos, b->n, 1);
    c->a.seq = rig_ints(g, b->seq, b->n, 1);
    c->a.page_table = rig_ints(g, p->table, SEQS, p->pages);
    c->a.sinks = s->sinks ? rig_floats(g, c->sinks, 1, s->heads, s->heads, MB_F32) : MB_NO_VIEW;
}

static void call_free(struct rig *g, struct call *c)
{
    struct mb_view views[] = {c->a.q, c->a.pos, c->a.seq, c->a.page_table, c->a.sinks};
    for (int i = 0; i < 5; i++)
        rig_free(g, views[i]);
    free(c->q);
    free(c->sinks);
}

/* The segments of which row i sees a key: *first .. result. */
static int32_t seen(const struct call *c, int32_t i, int32_t *first)
{
    int32_t pos = c->b->pos[i];
    *first = (int32_t)(attn_first(c->s, pos) / c->s->segment);
    return pos / c->s->segment;
}

/* ---------------------------------------------------------------- states of one owner */
/* owner[seq][segment] */
struct shares {
    int32_t owner[SEQS][MOST_SEGMENTS];
};
struct items {
    int32_t n, off[MOST_ROWS + 1], seg[MOST_ITEMS];
    struct mb_view state;
};

/* Every row's states of the segments that `me` owns. The pages of the others are not there. */
static struct items *owned(struct rig *g, const struct call *c, const struct shares *sh, int32_t me)
{
    struct items *it = calloc(1, sizeof *it);
    for (int32_t i = 0; i < c->b->n; i++) {
        int32_t first, last = seen(c, i, &first);
        for (int32_t k = first; k <= last; k++)
            if (sh->owner[c->b->seq[i]][k] == me)
                it->seg[it->n++] = k;
        it->off[i + 1] = it->n;
    }
    int32_t *table = malloc((size_t)(SEQS * c->p->pages) * sizeof *table);
    for (int32_t i = 0; i < SEQS * c->p->pages; i++) {
        int32_t seg = i % c->p->pages * 64 / c->s->segment;
        bool mine = seg < MOST_SEGMENTS && sh->owner[i / c->p->pages][seg] == me;
        table[i] = mine ? c->p->table[i] : i % 2 ? -1 : 1 << 30;
    }
    struct mb_attn_args a = c->a;
    a.page_table = rig_ints(g, table, SEQS, c->p->pages);
    struct mb_view off = rig_ints(g, it->off, c->b->n + 1, 1), seg = rig_ints(g, it->seg, it->n, 1);
    int64_t width = (int64_t)c->s->heads * (c->s->dv + 2);
    it->state = rig_floats(g, NULL, it->n, width, width + 3, MB_F32);
    assert_int_equal(g->ops->attention_parts(g->s, it->state, &a, off, seg), MB_OK);
    rig_free(g, a.page_table);
    rig_free(g, off);
    rig_free(g, seg);
    free(table);
    return it;
}

static void items_free(struct rig *g, struct items *it)
{
    rig_free(g, it->state);
    free(it);
}

/* Item j of row i is the naive fold of its segment. */
static void check_states(struct rig *g, const struct call *c, const struct items *it)
{
    const struct shape *s = c->s;
    float *got = rig_read(g, it->state);
    uint32_t old = mb_fp_enter();
    for (int32_t i = 0; i < c->b->n; i++)
        for (int32_t j = it->off[i]; j < it->off[i + 1]; j++)
            for (int32_t h = 0; h < s->heads; h++) {
                int32_t pos = c->b->pos[i];
                int64_t lo = attn_first(s, pos);
                const float *query = c->q + ((int64_t)i * s->heads + h) * s->d;
                struct state want =
                    node(s, &c->p->seq[c->b->seq[i]], query, h, lo, pos, c->a.scale, it->seg[j], 1);
                const float *have = got + ((int64_t)j * s->heads + h) * (s->dv + 2);
                assert_true(want.present);
                if (have[0] != want.m || have[1] != want.l ||
                    memcmp(have + 2, want.o, (size_t)s->dv * 4) != 0)
                    fail_msg("row %d (position %d), segment %d, head %d: %a %a, not %a %a", i, pos,
                             it->seg[j], h, (double)have[0], (double)have[1], (double)want.m, (double)want.l);
                free(want.o);
            }
    mb_fp_restore(old);
    free(got);
}

/* ---------------------------------------------------------------- owners join, the rows' rank finishes */
/* The nodes of all rows that reach the rows' rank. */
struct sent {
    int32_t n, row[MOST_ITEMS], pos[MOST_ITEMS];
    struct mb_view state; /* room for all */
};

/* The maximal nodes of row i that `me` holds: their items are appended to src and pos, their ends to off. */
static void nodes_of_row(const struct call *c, const struct shares *sh, int32_t me, int32_t i, int32_t *item,
                         int32_t *nodes, int32_t *off, int32_t *pos, struct sent *to)
{
    int32_t list[MOST_SEGMENTS], first[MOST_SEGMENTS], count[MOST_SEGMENTS], from, last = seen(c, i, &from);
    uint8_t held[MOST_SEGMENTS];
    for (int32_t k = from; k <= last; k++) {
        list[k - from] = k;
        held[k - from] = sh->owner[c->b->seq[i]][k] == me;
    }
    int32_t n = mb_tree_maximal(list, held, last - from + 1, first, count);
    for (int32_t m = 0; m < n; m++) {
        for (int32_t k = 0; k < count[m]; k++)
            pos[(*item)++] = list[first[m] + k];
        off[++*nodes] = *item;
        to->row[to->n] = i;
        to->pos[to->n++] = list[first[m]];
    }
}

/* Owner `me` joins what it has and sends it. */
static void send_nodes(struct rig *g, const struct call *c, const struct shares *sh, int32_t me,
                       struct sent *to)
{
    struct items *it = owned(g, c, sh, me);
    static int32_t off[MOST_ITEMS + 1], pos[MOST_ITEMS], src[MOST_ITEMS];
    int32_t item = 0, nodes = 0, before = to->n;
    for (int32_t i = 0; i < c->b->n; i++)
        nodes_of_row(c, sh, me, i, &item, &nodes, off, pos, to);
    assert_int_equal(item, it->n);
    for (int32_t i = 0; i < item; i++)
        src[i] = i;
    struct mb_join_args a = {.heads = c->s->heads, .dv = c->s->dv};
    a.item_off = rig_ints(g, off, nodes + 1, 1);
    a.src = rig_ints(g, src, item, 1);
    a.pos = rig_ints(g, pos, item, 1);
    struct mb_view out = mb_view_rows(to->state, before, nodes);
    assert_int_equal(g->ops->attention_join(g->s, out, it->state, &a), MB_OK);
    struct mb_view views[] = {a.item_off, a.src, a.pos};
    for (int i = 0; i < 3; i++)
        rig_free(g, views[i]);
    items_free(g, it);
}

static void receive(struct rig *g, const struct call *c, const struct sent *from, struct mb_view out)
{
    static int32_t off[MOST_ROWS + 1], src[MOST_ITEMS], pos[MOST_ITEMS], at[MOST_ROWS][MOST_SEGMENTS];
    int32_t n = 0;
    memset(at, 0, sizeof at);
    for (int32_t k = 0; k < from->n; k++)
        at[from->row[k]][from->pos[k]] = k + 1;
    for (int32_t i = 0; i < c->b->n; i++) {
        for (int32_t k = 0; k < MOST_SEGMENTS; k++)
            if (at[i][k] > 0) {
                src[n] = at[i][k] - 1;
                pos[n++] = k;
            }
        off[i + 1] = n;
    }
    struct mb_join_args a = {.sinks = c->a.sinks, .heads = c->s->heads, .dv = c->s->dv, .finish = true};
    a.item_off = rig_ints(g, off, c->b->n + 1, 1);
    a.src = rig_ints(g, src, n, 1);
    a.pos = rig_ints(g, pos, n, 1);
    assert_int_equal(g->ops->attention_join(g->s, out, from->state, &a), MB_OK);
    struct mb_view views[] = {a.item_off, a.src, a.pos};
    for (int i = 0; i < 3; i++)
        rig_free(g, views[i]);
}

/* The same bits as attention when the segments are shared so. */
static void check_shares(struct rig *g, const struct call *c, const struct shares *sh, int32_t owners)
{
    int64_t ow = (int64_t)c->s->heads * c->s->dv, width = ow + 2 * c->s->heads;
    int32_t room = 0;
    for (int32_t i = 0; i < c->b->n; i++) {
        int32_t first, last = seen(c, i, &first);
        room += last - first + 1;
    }
    struct sent *sent = calloc(1, sizeof *sent);
    sent->state = rig_floats(g, NULL, room, width, width + 1, MB_F32);
    for (int32_t me = 0; me < owners; me++)
        send_nodes(g, c, sh, me, sent);
    struct mb_view want = rig_floats(g, NULL, c->b->n, ow, ow + 1, c->s->out);
    struct mb_view got = rig_floats(g, NULL, c->b->n, ow, ow + 2, c->s->out);
    receive(g, c, sent, got);
    assert_int_equal(g->ops->attention(g->s, want, &c->a), MB_OK);
    float *x = rig_read(g, got), *y = rig_read(g, want);
    for (int64_t i = 0; i < c->b->n * ow; i++)
        if (x[i] != y[i])
            fail_msg("row %d (position %d), column %d: %a, not %a", (int)(i / ow), c->b->pos[i / ow],
                     (int)(i % ow), (double)x[i], (double)y[i]);
    free(x);
    free(y);
    rig_free(g, want);
    rig_free(g, got);
    rig_free(g, sent->state);
    free(sent);
}

/* ---------------------------------------------------------------- random cases */
static int32_t below(struct rig *g, int32_t n)
{
    return (int32_t)(rig_random(g) % (uint32_t)n);
}

/* Ways to share: by chance, in turn, forth and back, contiguous. */
static void share(struct rig *g, struct shares *sh, int32_t owners)
{
    int32_t way = below(g, 4), run = 1 + below(g, 9);
    for (int32_t q = 0; q < SEQS; q++)
        for (int32_t k = 0; k < MOST_SEGMENTS; k++) {
            int32_t turn = k % (2 * owners);
            sh->owner[q][k] = way == 0   ? below(g, owners)
                              : way == 1 ? (k + q) % owners
                              : way == 2 ? (turn < owners ? turn : 2 * owners - 1 - turn)
                                         : k / run % owners;
        }
}

static struct shape random_shape(struct rig *g)
{
    static const int32_t group[] = {1, 2, 3, 8, 50}, width[] = {8, 17, 32, 64};
    struct shape s = {.kv_heads = 1 + below(g, 3), .segment = 64 * (1 + below(g, 8))};
    s.heads = s.kv_heads * group[below(g, 5)];
    s.v_in_k = below(g, 4) == 0;
    s.d = width[below(g, 4)];
    s.dv = s.v_in_k ? s.d - below(g, s.d / 2) : width[below(g, 4)];
    s.window = below(g, 3) == 0 ? 1 + below(g, 900) : 0;
    s.chunked = s.window % 2 == 1;
    s.softcap = below(g, 4) == 0 ? 2.5f : 0;
    s.sinks = below(g, 3) == 0;
    s.page = below(g, 2) ? MB_BF16 : MB_F32;
    s.q = s.out = below(g, 2) ? MB_BF16 : MB_F32;
    return s;
}

/* A prefill chunk and decode rows. */
static void random_batch(struct rig *g, struct batch *b, const int32_t length[SEQS], int32_t chunk)
{
    b->n = 0;
    int32_t from = below(g, length[0]), to = from + below(g, chunk);
    rows_of(b, 1, length[1] - 1, length[1] - 1);
    rows_of(b, 0, from, to < length[0] ? to : length[0] - 1);
    rows_of(b, 2, below(g, length[2]), length[2] - 1);
    rows_of(b, 0, length[0] - 2, length[0] - 1);
    rows_of(b, 1, 0, 0);
}

/* states: also every state against the naive one, which takes long */
static void random_case(struct rig *g, int32_t longest, int32_t chunk, bool states)
{
    struct shape s = random_shape(g);
    int32_t length[SEQS] = {2 + below(g, longest), 2 + below(g, longest), 2 + below(g, 70)};
    struct pool p;
    struct batch b;
    struct call c;
    struct shares sh;
    pool_make(g, &s, &p, length);
    random_batch(g, &b, length, chunk);
    call_make(g, &c, &s, &p, &b);
    for (int32_t t = 0; t < 2; t++) {
        int32_t owners = 1 + below(g, OWNERS);
        share(g, &sh, owners);
        check_shares(g, &c, &sh, owners);
    }
    if (states) {
        struct items *it = owned(g, &c, &sh, 0);
        check_states(g, &c, it);
        items_free(g, it);
    }
    call_free(g, &c);
    pool_free(g, &p);
}

static void test_random(void **state)
{
    (void)state;
    int ran = 0;
    for (int i = FIRST_ISA; i < ISAS; i++)
        for (int32_t threads = 1; threads <= RIG_FEW(i > 0 ? 3 : 1); threads += 2) {
            struct rig g;
            if (!rig_open(&g, isa_names[i], threads, MB_F32))
                break;
            g.random += (uint64_t)i;
            for (int k = 0; k < RIG_FEW(12); k++)
                random_case(&g, 500, 20, true);
            rig_close(&g);
            ran++;
        }
    assert_true(ran >= 1);
}

/* Contexts of a few thousand positions on the best ISA (stand-ins are slow: fewer). */
static void test_long(void **state)
{
    (void)state;
    struct rig g;
    assert_true(rig_open(&g, "auto", 2, MB_BF16));
    for (int k = 0; k < RIG_FEW(FIRST_ISA > 0 ? 2 : 25); k++)
        random_case(&g, RIG_FEW(3600), FIRST_ISA > 0 ? 10 : 120, false);
    rig_close(&g);
}

/* No rows; rows without items. */
static void test_nothing(void **state)
{
    (void)state;
    struct rig g;
    struct shape s = {.heads = 2, .kv_heads = 1, .d = 16, .dv = 8, .segment = 64};
    int32_t length[SEQS] = {70, 2, 2};
    struct pool p;
    struct batch b = {0};
    struct call c;
    struct shares sh = {{{0}}};
    assert_true(rig_open(&g, "auto", 1, MB_F32));
    pool_make(&g, &s, &p, length);
    call_make(&g, &c, &s, &p, &b);
    check_shares(&g, &c, &sh, 2);
    call_free(&g, &c);
    rows_of(&b, 0, 60, 69);
    call_make(&g, &c, &s, &p, &b);
    check_shares(&g, &c, &sh, 2); /* owner 1 has nothing */
    call_free(&g, &c);
    pool_free(&g, &p);
    rig_close(&g);
}

/* attention_parts of a row at position 130 with a window of 100, segments of 64 and these items. */
static enum mb_status parts_of(struct rig *g, const struct mb_kv *kv, int32_t seg0, int32_t seg1, int32_t end,
                               int32_t page)
{
    int32_t zero = 0, pos = 130, off[2] = {0, end}, seg[2] = {seg0, seg1}, table[3] = {-1, 0, page};
    struct mb_attn_args a = {.kv = kv, .heads = 1, .scale = 1, .window = 100, .segment = 64};
    a.q = rig_floats(g, NULL, 1, 8, 8, MB_F32);
    a.pos = rig_ints(g, &pos, 1, 1);
    a.seq = rig_ints(g, &zero, 1, 1);
    a.page_table = rig_ints(g, table, 1, 3);
    struct mb_view state = rig_floats(g, NULL, 2, 10, 10, MB_F32), o = rig_ints(g, off, 2, 1),
                   i = rig_ints(g, seg, 2, 1);
    enum mb_status st = rig_done(g, g->ops->attention_parts(g->s, state, &a, o, i));
    struct mb_view views[] = {a.q, a.pos, a.seq, a.page_table, state, o, i};
    for (int k = 0; k < 7; k++)
        rig_free(g, views[k]);
    return st;
}

static enum mb_status join_of(struct rig *g, int32_t end, int32_t src1, int32_t pos1, int32_t dv, bool finish)
{
    int32_t off[2] = {0, end}, src[2] = {0, src1}, pos[2] = {5, pos1};
    struct mb_join_args a = {.heads = 2, .dv = dv, .finish = finish};
    a.item_off = rig_ints(g, off, 2, 1);
    a.src = rig_ints(g, src, 2, 1);
    a.pos = rig_ints(g, pos, 2, 1);
    struct mb_view state = rig_floats(g, NULL, 2, 20, 20, MB_F32),
                   out = rig_floats(g, NULL, 1, 16, 16, MB_F32);
    enum mb_status st = rig_done(g, g->ops->attention_join(g->s, out, state, &a));
    struct mb_view views[] = {a.item_off, a.src, a.pos, state, out};
    for (int k = 0; k < 5; k++)
        rig_free(g, views[k]);
    return st;
}

static void test_mistakes(void **state)
{
    (void)state;
    struct rig g;
    struct mb_kv *kv;
    struct mb_kv_desc d = {2, 1, 8, 8, false, MB_F32};
    assert_true(rig_open(&g, "auto", 1, MB_F32));
    assert_int_equal(g.ops->kv_create(g.dev, &d, &kv), MB_OK);
    assert_int_equal(parts_of(&g, kv, 1, 2, 2, 1), MB_OK);
    assert_int_equal(parts_of(&g, kv, 1, 9, 1, -7), MB_OK);  /* page of a segment that is not listed */
    assert_int_equal(parts_of(&g, kv, 1, 2, 2, -7), MB_BUG); /* of one that is */
    assert_int_equal(parts_of(&g, kv, 1, 2, 3, 1), MB_BUG);  /* more items than there are */
    assert_int_equal(parts_of(&g, kv, 2, 1, 2, 1), MB_BUG);  /* not ascending */
    assert_int_equal(parts_of(&g, kv, 1, 3, 2, 1), MB_BUG);  /* after the row's position */
    assert_int_equal(parts_of(&g, kv, 0, 1, 2, 1), MB_BUG);  /* before its window */
    g.ops->kv_free(kv);
    assert_int_equal(join_of(&g, 2, 1, 6, 8, true), MB_OK);
    assert_int_equal(join_of(&g, 0, 1, 6, 8, true), MB_BUG);  /* a row without items */
    assert_int_equal(join_of(&g, 3, 1, 6, 8, true), MB_BUG);  /* more items than there are */
    assert_int_equal(join_of(&g, 2, 2, 6, 8, true), MB_BUG);  /* no such state */
    assert_int_equal(join_of(&g, 2, 1, 5, 8, true), MB_BUG);  /* a position twice */
    assert_int_equal(join_of(&g, 2, 1, 6, 7, true), MB_BUG);  /* states of another width */
    assert_int_equal(join_of(&g, 2, 1, 6, 8, false), MB_BUG); /* out too narrow for a state */
    rig_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
