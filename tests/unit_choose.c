/* Sparse attention on every ISA with == against a naive version: the choice of keys (scores in the contract's order, a sort for the
 * highest), and attention over a choice; and both where the segments of a sequence lie on several ranks. */
#include "attn_help.h"

enum { MOST = 600, OWNERS = 3, ROWS = 64, MOST_ITEMS = ROWS * MOST / 64 };

/* ---------------------------------------------------------------- the choice, naively */
static float *score;

static int by_score(const void *pa, const void *pb)
{
    int32_t a = *(const int32_t *)pa, b = *(const int32_t *)pb;
    if (score[a] != score[b])
        return score[a] > score[b] ? -1 : 1;
    return a < b ? -1 : a > b;
}

static int ascending(const void *pa, const void *pb)
{
    return *(const int32_t *)pa - *(const int32_t *)pb;
}

/* Whose segment that is; -1: everybody's. */
static bool owns(int32_t owner, int32_t segment)
{
    return owner < 0 || segment * 7 % 5 % OWNERS == owner;
}

/* want [1 + k]: of the owner's keys; value [MOST]: their scores */
static void choose(int32_t *want, float *value, const struct shape *s, const struct sequence *q, const float *query, const float *w,
                   int32_t pos, float scale, int32_t k, int32_t owner)
{
    int32_t order[MOST], n = 0;

    for (int32_t i = 0; i <= k; i++)
        want[i] = -1;
    if (pos + 1 <= k)
        return;
    for (int32_t i = 0; i <= pos; i++) {
        if (!owns(owner, i / s->segment))
            continue;
        order[n++] = i;
        value[i] = 0;
        for (int32_t h = 0; h < s->heads; h++) {
            float x = dot(query + h * s->d, q->k + (int64_t)i * s->d, s->d) * scale;
            value[i] = fmaf(w[h], x > 0 ? x : 0, value[i]);
        }
    }
    score = value;
    k = k < n ? k : n;
    qsort(order, (size_t)n, sizeof *order, by_score);
    qsort(order, (size_t)k, sizeof *order, ascending);
    want[0] = k;
    memcpy(want + 1, order, (size_t)k * sizeof *order);
}

struct rows {
    int32_t n, pos[ROWS], seq[ROWS];
};

static void add(struct rows *b, int32_t seq, int32_t from, int32_t to)
{
    for (int32_t p = from; p <= to; p++) {
        b->pos[b->n] = p;
        b->seq[b->n++] = seq;
    }
}

/* What the owners list for every row, one behind the other. */
struct listing {
    int32_t n[ROWS], key[ROWS][MOST];
    float score[ROWS][MOST];
};

/* choose_parts of one owner against the naive version. */
static void check_owner(struct rig *g, const struct shape *s, const struct pool *p, const struct rows *b, const struct mb_choose_args *all,
                        const float *q, const float *w, int32_t owner, struct listing *l)
{
    int32_t off[ROWS + 1] = {0}, seg[MOST_ITEMS], n = 0, k = all->topk;
    int32_t *table = malloc((size_t)(SEQS * p->pages) * sizeof *table);
    struct mb_choose_args a = *all;

    for (int32_t i = 0; i < b->n; i++) {
        for (int32_t j = 0; j <= b->pos[i] / s->segment; j++)
            if (owns(owner, j))
                seg[n++] = j;
        off[i + 1] = n;
    }
    for (int32_t i = 0; i < SEQS * p->pages; i++) /* the pages of the others are not there */
        table[i] = owns(owner, i % p->pages * 64 / s->segment) ? p->table[i] : -1;
    a.segment = s->segment;
    a.page_table = rig_ints(g, table, SEQS, p->pages);
    int32_t *got = calloc((size_t)b->n * (size_t)(k + 1) + 1, sizeof *got), *want = malloc((size_t)(k + 1) * sizeof *want);
    struct mb_view out = rig_ints(g, got, b->n, k + 1), score_out = rig_floats(g, NULL, b->n, k, k + 2, MB_F32);
    struct mb_view vo = rig_ints(g, off, b->n + 1, 1), vs = rig_ints(g, seg, n, 1);
    assert_int_equal(g->ops->choose_parts(g->s, out, score_out, &a, vo, vs), MB_OK);
    assert_int_equal(g->ops->copy_out(g->s, got, out), MB_OK);
    float *scores = rig_read(g, score_out), value[MOST];
    uint32_t old = mb_fp_enter();
    for (int32_t i = 0; i < b->n; i++) {
        choose(want, value, s, &p->seq[b->seq[i]], q + (int64_t)i * s->heads * s->d, w + (int64_t)i * s->heads, b->pos[i], a.scale, k, owner);
        assert_memory_equal(got + (int64_t)i * (k + 1), want, (size_t)(k + 1) * sizeof *want);
        for (int32_t j = 0; j < want[0]; j++) {
            assert_true(scores[(int64_t)i * k + j] == value[want[1 + j]]);
            l->key[i][l->n[i]] = want[1 + j];
            l->score[i][l->n[i]++] = scores[(int64_t)i * k + j];
        }
    }
    mb_fp_restore(old);
    struct mb_view views[] = {a.page_table, score_out, out, vo, vs};
    for (int i = 0; i < 5; i++)
        rig_free(g, views[i]);
    free(table);
    free(got);
    free(want);
    free(scores);
}

/* The lists of all owners, joined, are the choice among all keys. want [b->n][1 + k] */
static void check_join(struct rig *g, const struct rows *b, const struct mb_choose_args *a, const struct listing *l, const int32_t *want)
{
    static int32_t key[ROWS * MOST];
    static float value[ROWS * MOST];
    int32_t off[ROWS + 1] = {0}, n = 0, k = a->topk;

    for (int32_t i = 0; i < b->n; i++) {
        for (int32_t j = 0; j < l->n[i]; j++, n++) {
            key[n] = l->key[i][j];
            value[n] = l->score[i][j];
        }
        off[i + 1] = n;
    }
    int32_t *got = calloc((size_t)b->n * (size_t)(k + 1) + 1, sizeof *got);
    struct mb_view out = rig_ints(g, got, b->n, k + 1);
    const struct mb_choose_lists c = {.pos = a->pos, .item_off = rig_ints(g, off, b->n + 1, 1), .key = rig_ints(g, key, n, 1),
                                      .score = rig_floats(g, value, n, 1, 1, MB_F32)};
    assert_int_equal(g->ops->choose_join(g->s, out, &c), MB_OK);
    assert_int_equal(g->ops->copy_out(g->s, got, out), MB_OK);
    assert_memory_equal(got, want, (size_t)b->n * (size_t)(k + 1) * sizeof *got);
    rig_free(g, out);
    rig_free(g, c.item_off);
    rig_free(g, c.key);
    rig_free(g, c.score);
    free(got);
}

/* weights of heads: some are negative, and with `zero` all of a row, so that scores are equal or zero */
static void check_choice(struct rig *g, const struct shape *s, const struct pool *p, const struct rows *b, int32_t k, bool zero)
{
    int64_t qw = (int64_t)s->heads * s->d;
    float *q = malloc((size_t)(b->n * qw) * sizeof *q), *w = malloc((size_t)(b->n * s->heads) * sizeof *w);
    for (int64_t i = 0; i < b->n * qw; i++)
        q[i] = rig_value(g, s->q == MB_BF16);
    for (int64_t i = 0; i < (int64_t)b->n * s->heads; i++)
        w[i] = zero ? -fabsf(rig_value(g, false)) : rig_value(g, false);
    struct mb_choose_args a = {.kv = p->kv, .heads = s->heads, .topk = k, .scale = 0.25f};
    a.q = rig_floats(g, q, b->n, qw, qw + 5, s->q);
    a.w = rig_floats(g, w, b->n, s->heads, s->heads + 1, MB_F32);
    a.pos = rig_ints(g, b->pos, b->n, 1);
    a.seq = rig_ints(g, b->seq, b->n, 1);
    a.page_table = rig_ints(g, p->table, SEQS, p->pages);
    int32_t *got = calloc((size_t)b->n * (size_t)(k + 1) + 1, sizeof *got), *want = malloc((size_t)(k + 1) * sizeof *want);
    struct mb_view out = rig_ints(g, got, b->n, k + 1);
    assert_int_equal(g->ops->choose_keys(g->s, out, &a), MB_OK);
    assert_int_equal(g->ops->copy_out(g->s, got, out), MB_OK);
    uint32_t old = mb_fp_enter();
    for (int32_t i = 0; i < b->n; i++) {
        float value[MOST];
        choose(want, value, s, &p->seq[b->seq[i]], q + i * qw, w + (int64_t)i * s->heads, b->pos[i], a.scale, k, -1);
        assert_memory_equal(got + (int64_t)i * (k + 1), want, (size_t)(k + 1) * sizeof *want);
    }
    mb_fp_restore(old);
    struct listing *l = calloc(1, sizeof *l);
    for (int32_t owner = 0; owner < OWNERS; owner++)
        check_owner(g, s, p, b, &a, q, w, owner, l);
    check_join(g, b, &a, l, got);
    free(l);
    struct mb_view views[] = {a.q, a.w, a.pos, a.seq, a.page_table, out};
    for (int i = 0; i < 6; i++)
        rig_free(g, views[i]);
    free(q);
    free(w);
    free(got);
    free(want);
}

/* ---------------------------------------------------------------- attention over a choice */
/* A row sees about one key in `every`, the ones of whole blocks and segments left out, too. */
static void draw_choice(struct rig *g, int32_t pos, int32_t k, int32_t *row, unsigned char *seen)
{
    memset(seen, 0, MOST);
    for (int32_t i = 0; i <= k; i++)
        row[i] = -1;
    if (pos + 1 <= k) {
        memset(seen, 1, MOST);
        return;
    }
    row[0] = 0;
    int32_t hole = (int32_t)(rig_random(g) % 5) * 64;
    for (int32_t i = 0; i <= pos && row[0] < k; i++)
        if ((i < hole || i >= hole + 64) && rig_random(g) % (uint32_t)(1 + pos / k) == 0) {
            row[++row[0]] = i;
            seen[i] = 1;
        }
    if (row[0] == 0)
        seen[row[row[0] = 1] = pos] = 1;
}

/* The states of segments with a chosen key, joined, are attention. */
static void check_parts(struct rig *g, const struct shape *s, const struct rows *b, const struct mb_attn_args *a, const unsigned char *seen,
                        const float *want)
{
    int32_t off[ROWS + 1] = {0}, seg[MOST_ITEMS], src[MOST_ITEMS], n = 0;
    int64_t ow = (int64_t)s->heads * s->dv;

    for (int32_t i = 0; i < b->n; i++) {
        for (int32_t k = 0; k <= b->pos[i]; k++)
            if (seen[(int64_t)i * MOST + k] && (n == off[i] || seg[n - 1] != k / s->segment)) {
                src[n] = n;
                seg[n++] = k / s->segment;
            }
        off[i + 1] = n;
    }
    struct mb_join_args j = {.heads = s->heads, .dv = s->dv, .finish = true};
    j.item_off = rig_ints(g, off, b->n + 1, 1);
    j.src = rig_ints(g, src, n, 1);
    j.pos = rig_ints(g, seg, n, 1);
    struct mb_view state = rig_floats(g, NULL, n, ow + 2 * s->heads, ow + 2 * s->heads, MB_F32);
    struct mb_view out = rig_floats(g, NULL, b->n, ow, ow, s->out);
    assert_int_equal(g->ops->attention_parts(g->s, state, a, j.item_off, j.pos), MB_OK);
    assert_int_equal(g->ops->attention_join(g->s, out, state, &j), MB_OK);
    float *got = rig_read(g, out);
    assert_memory_equal(got, want, (size_t)(b->n * ow) * sizeof *got);
    free(got);
    for (int32_t i = 0, top; i < b->n; i++) /* a segment without a chosen key has no state */
        if ((top = b->pos[i] / s->segment) > 0 && seg[off[i + 1] - 1] < top && off[i + 1] < n) {
            seg[off[i + 1] - 1] = top;
            struct mb_view wrong = rig_ints(g, seg, n, 1);
            assert_int_equal(rig_done(g, g->ops->attention_parts(g->s, state, a, j.item_off, wrong)), MB_BUG);
            rig_free(g, wrong);
            break;
        }
    struct mb_view views[] = {j.item_off, j.src, j.pos, state, out};
    for (int i = 0; i < 5; i++)
        rig_free(g, views[i]);
}

static void check_attention(struct rig *g, const struct shape *shape, const struct pool *p, const struct rows *b, int32_t k)
{
    struct shape s = *shape;
    int64_t qw = (int64_t)s.heads * s.d, ow = (int64_t)s.heads * s.dv;
    float *q = malloc((size_t)(b->n * qw) * sizeof *q), *want = malloc((size_t)s.dv * sizeof *want);
    int32_t *rows = malloc((size_t)b->n * (size_t)(k + 1) * sizeof *rows);
    unsigned char *seen = malloc((size_t)b->n * MOST);
    for (int64_t i = 0; i < b->n * qw; i++)
        q[i] = rig_value(g, s.q == MB_BF16) * 0.25f;
    for (int32_t i = 0; i < b->n; i++)
        draw_choice(g, b->pos[i], k, rows + (int64_t)i * (k + 1), seen + (int64_t)i * MOST);
    struct mb_attn_args a = {.kv = p->kv, .heads = s.heads, .scale = 0.17f, .segment = s.segment};
    a.q = rig_floats(g, q, b->n, qw, qw, s.q);
    a.pos = rig_ints(g, b->pos, b->n, 1);
    a.seq = rig_ints(g, b->seq, b->n, 1);
    a.page_table = rig_ints(g, p->table, SEQS, p->pages);
    a.chosen = rig_ints(g, rows, b->n, k + 1);
    struct mb_view out = rig_floats(g, NULL, b->n, ow, ow, s.out);
    assert_int_equal(g->ops->attention(g->s, out, &a), MB_OK);
    float *got = rig_read(g, out);
    uint32_t old = mb_fp_enter();
    for (int32_t i = 0; i < b->n; i++)
        for (int32_t h = 0; h < s.heads; h++) {
            s.chosen = seen + (int64_t)i * MOST;
            naive(want, &s, &p->seq[b->seq[i]], q + i * qw + h * s.d, h, b->pos[i], a.scale, NULL);
            assert_memory_equal(got + i * ow + h * s.dv, want, (size_t)s.dv * sizeof *want);
        }
    mb_fp_restore(old);
    check_parts(g, &s, b, &a, seen, got);
    struct mb_view views[] = {a.q, a.pos, a.seq, a.page_table, a.chosen, out};
    for (int i = 0; i < 6; i++)
        rig_free(g, views[i]);
    free(q);
    free(got);
    free(want);
    free(rows);
    free(seen);
}

/* ---------------------------------------------------------------- tests */
static void rows_and_prompts(struct rows *b, int32_t longest)
{
    b->n = 0;
    add(b, 1, 69, 69);
    add(b, 0, longest - 3, longest - 1);
    add(b, 2, 0, 4);
    add(b, 0, longest / 2, longest / 2 + 3);
    add(b, 1, 8, 24);
}

static void shape_on(struct rig *g, const struct shape *s)
{
    int32_t length[SEQS] = {420, 70, 5};
    struct pool p;
    struct rows b;
    pool_make(g, s, &p, length);
    rows_and_prompts(&b, 420);
    check_choice(g, s, &p, &b, 16, false);
    check_choice(g, s, &p, &b, 16, true);
    check_choice(g, s, &p, &b, 200, false);
    if (RIG_STEP == 1)
        check_choice(g, s, &p, &b, 1, false);
    check_attention(g, s, &p, &b, 16);
    check_attention(g, s, &p, &b, 130);
    pool_free(g, &p);
}

static void test_shapes(void **state)
{
    (void)state;
    const struct shape shapes[] = {
        {.heads = 6, .kv_heads = 1, .d = 12, .dv = 4, .segment = 64, .v_in_k = true},
        {.heads = 64, .kv_heads = 1, .d = 40, .dv = 20, .segment = 192, .v_in_k = true},
        {.heads = 100, .kv_heads = 1, .d = 33, .dv = 33, .segment = 128, .v_in_k = true},
    };
    int ran = 0;
    for (int i = FIRST_ISA; i < ISAS; i++)
        for (int32_t threads = 1; threads <= RIG_FEW(i > 0 ? 3 : 1); threads++) {
            struct rig g;
            if (!rig_open(&g, isa_names[i], threads, MB_F32))
                break;
            for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k += RIG_STEP)
                for (int t = 0; t < 4; t += RIG_STEP) {
                    struct shape s = shapes[k];
                    s.page = t & 1 ? MB_BF16 : MB_F32;
                    s.q = s.out = t & 2 ? MB_BF16 : MB_F32;
                    shape_on(&g, &s);
                }
            rig_close(&g);
            ran++;
        }
    assert_true(ran >= 1);
}

/* A pool with heads and values of their own: a choice of keys for GQA. */
static void test_heads(void **state)
{
    (void)state;
    struct shape s = {.heads = 6, .kv_heads = 2, .d = 40, .dv = 24, .segment = 64, .page = MB_BF16, .q = MB_BF16};
    int32_t length[SEQS] = {420, 70, 5};
    struct rig g;
    struct pool p;
    struct rows b;
    assert_true(rig_open(&g, "auto", 2, MB_BF16));
    pool_make(&g, &s, &p, length);
    rows_and_prompts(&b, 420);
    check_attention(&g, &s, &p, &b, 30);
    pool_free(&g, &p);
    rig_close(&g);
}

/* Larger scores behind more equal ones than are chosen: all of the larger, and the lowest of the equal. */
static void test_behind_ties(void **state)
{
    (void)state;
    enum { K = 8, LAST = 200 };
    static const int32_t high[] = {30, 70, 131}, want[1 + K] = {K, 0, 1, 2, 3, 4, 30, 70, 131};
    struct shape s = {.heads = 2, .kv_heads = 1, .d = 32, .dv = 16, .segment = 64, .v_in_k = true};
    int32_t length[SEQS] = {LAST + 1, 1, 1}, pos = LAST, zero = 0, slot[LAST + 1], got[1 + K] = {0};
    float q[64], w[2] = {1, 1}, *k = malloc((LAST + 1) * 32 * sizeof *k);
    struct rig g;
    struct pool p;
    assert_true(rig_open(&g, "auto", 1, MB_F32));
    pool_make(&g, &s, &p, length);
    for (int i = 0; i < 64; i++)
        q[i] = 1;
    for (int32_t i = 0; i <= LAST; i++) {
        slot[i] = p.table[i / 64] * 64 + i % 64;
        for (int c = 0; c < 32; c++)
            k[i * 32 + c] = i == high[0] || i == high[1] || i == high[2] ? 1 : -1; /* -1: a score of 0 */
    }
    struct mb_view kv = rig_floats(&g, k, LAST + 1, 32, 32, MB_F32), sv = rig_ints(&g, slot, LAST + 1, 1);
    assert_int_equal(g.ops->kv_append(g.s, p.kv, kv, MB_NO_VIEW, sv), MB_OK);
    struct mb_choose_args a = {.kv = p.kv, .heads = 2, .topk = K, .scale = 1};
    a.q = rig_floats(&g, q, 1, 64, 64, MB_F32);
    a.w = rig_floats(&g, w, 1, 2, 2, MB_F32);
    a.pos = rig_ints(&g, &pos, 1, 1);
    a.seq = rig_ints(&g, &zero, 1, 1);
    a.page_table = rig_ints(&g, p.table, SEQS, p.pages);
    struct mb_view out = rig_ints(&g, got, 1, 1 + K);
    assert_int_equal(g.ops->choose_keys(g.s, out, &a), MB_OK);
    assert_int_equal(g.ops->copy_out(g.s, got, out), MB_OK);
    assert_memory_equal(got, want, sizeof want);
    struct mb_view views[] = {kv, sv, a.q, a.w, a.pos, a.seq, a.page_table, out};
    for (int i = 0; i < 8; i++)
        rig_free(&g, views[i]);
    free(k);
    pool_free(&g, &p);
    rig_close(&g);
}

/* A value that was not chosen and is not finite changes nothing. */
static void test_infinite_neighbour(void **state)
{
    (void)state;
    struct shape s = {.heads = 3, .kv_heads = 1, .d = 32, .dv = 16, .segment = 64, .v_in_k = true};
    int32_t length[SEQS] = {90, 1, 1}, zero = 0, at = 84, slot;
    struct rig g;
    struct pool p;
    assert_true(rig_open(&g, "auto", 1, MB_F32));
    pool_make(&g, &s, &p, length);
    float k[32], q[96], want[16];
    for (int i = 0; i < 32; i++)
        k[i] = INFINITY;
    for (int i = 0; i < 96; i++)
        q[i] = rig_value(&g, false);
    slot = p.table[1] * 64 + 6; /* position 70 */
    struct mb_view kv = rig_floats(&g, k, 1, 32, 32, MB_F32), sv = rig_ints(&g, &slot, 1, 1);
    assert_int_equal(g.ops->kv_append(g.s, p.kv, kv, MB_NO_VIEW, sv), MB_OK);
    int32_t rows[6] = {4, 3, 65, 69, 71, -1};
    unsigned char seen[MOST] = {0};
    seen[3] = seen[65] = seen[69] = seen[71] = 1;
    struct mb_attn_args a = {.kv = p.kv, .heads = 3, .scale = 0.5f, .segment = 64};
    a.q = rig_floats(&g, q, 1, 96, 96, MB_F32);
    a.pos = rig_ints(&g, &at, 1, 1);
    a.seq = rig_ints(&g, &zero, 1, 1);
    a.page_table = rig_ints(&g, p.table, SEQS, p.pages);
    a.chosen = rig_ints(&g, rows, 1, 6);
    struct mb_view out = rig_floats(&g, NULL, 1, 48, 48, MB_F32);
    assert_int_equal(g.ops->attention(g.s, out, &a), MB_OK);
    float *got = rig_read(&g, out);
    s.chosen = seen;
    uint32_t old = mb_fp_enter();
    for (int32_t h = 0; h < 3; h++) {
        naive(want, &s, &p.seq[0], q + h * 32, h, 84, a.scale, NULL);
        assert_memory_equal(got + h * 16, want, sizeof want);
    }
    mb_fp_restore(old);
    rows[3] = 65; /* not ascending */
    struct mb_view wrong = rig_ints(&g, rows, 1, 6), right = a.chosen;
    a.chosen = wrong;
    assert_int_equal(rig_done(&g, g.ops->attention(g.s, out, &a)), MB_BUG);
    struct mb_view views[] = {kv, sv, a.q, a.pos, a.seq, a.page_table, right, wrong, out};
    for (int i = 0; i < 9; i++)
        rig_free(&g, views[i]);
    free(got);
    pool_free(&g, &p);
    rig_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes), cmocka_unit_test(test_heads), cmocka_unit_test(test_behind_ties), cmocka_unit_test(test_infinite_neighbour)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
