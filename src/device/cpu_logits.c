/* Operations on whole rows of logits: log-softmax statistics, log-probabilities, the n largest. */
#include "device/cpu_logits.h"

#include <math.h>
#include <string.h>

struct mb_osm mb_vocab_leaf_state(const struct mb_vec *vec, const float *z, int64_t V, int64_t leaf,
                                  bool *finite)
{
    int64_t width = mb_vocab_leaf(V), begin = leaf * width, n = V - begin < width ? V - begin : width;
    bool ok = true;
    struct mb_osm s = {-INFINITY, 0, false};
    if (n > 0)
        s.m = vec->max(z + begin, n, &ok);
    s.present = s.m > -INFINITY;
    if (s.present)
        s.l = vec->r32_exp(z + begin, s.m, n);
    if (finite != NULL)
        *finite = ok;
    return s;
}

static struct mb_osm join(const struct mb_osm *leaf, int32_t n)
{
    if (n == 1)
        return leaf[0];
    float e1, e2;
    return mb_osm_join(join(leaf, n / 2), join(leaf + n / 2, n / 2), &e1, &e2);
}

/* All 16 positions, a power of two: halving is the tree, absent leaves drop out in mb_osm_join. */
struct mb_osm mb_vocab_tree(const struct mb_osm leaf[MB_VOCAB_LEAVES])
{
    return join(leaf, MB_VOCAB_LEAVES);
}

/* ---------------------------------------------------------------- logit_stats */
struct leaf {
    struct mb_osm s;
    bool finite;
    int32_t best; /* column of the leaf's maximum */
};
struct stats {
    struct mb_view stats, best, bad, z;
    const struct mb_vec *vec;
    struct leaf *leaf; /* [M][16] */
};

static void stats_leaves(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct stats *t = arg;
    int64_t V = t->z.cols, width = mb_vocab_leaf(V);
    for (int64_t j = begin; j < end; j++) {
        const float *z = mb_row_f32(t->z, j / MB_VOCAB_LEAVES);
        int64_t k = j % MB_VOCAB_LEAVES, at = k * width, n = V - at < width ? V - at : width;
        struct leaf *l = &t->leaf[j];
        l->s = mb_vocab_leaf_state(t->vec, z, V, k, &l->finite);
        l->best = n > 0 ? (int32_t)(at + t->vec->find(z + at, l->s.m, n)) : 0;
    }
}

static void stats_row(const struct stats *t, int64_t i)
{
    struct mb_osm s[MB_VOCAB_LEAVES];
    const struct leaf *l = t->leaf + i * MB_VOCAB_LEAVES;
    int32_t best = 0, bad = 0;
    for (int k = 0; k < MB_VOCAB_LEAVES; k++) {
        s[k] = l[k].s;
        bad |= !l[k].finite;
        if (s[k].present && s[k].m > s[best].m)
            best = k;
    }
    struct mb_osm all = mb_vocab_tree(s);
    mb_row_f32(t->stats, i)[0] = all.m;
    mb_row_f32(t->stats, i)[1] = all.l;
    *mb_row_i32(t->best, i) = l[best].best < t->z.cols ? l[best].best : 0;
    *mb_row_i32(t->bad, i) = bad;
}

static void stats_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        stats_row(arg, i);
}

enum mb_status mb_cpu_logit_stats(struct mb_stream *s, struct mb_view stats, struct mb_view best,
                                  struct mb_view bad, struct mb_view z)
{
    MB_TRY(mb_check_logit_stats(stats, best, bad, z));
    if (z.rows == 0)
        return MB_OK;
    struct stats t = {stats, best, bad, z, mb_vec_of(s->dev), NULL};
    int64_t n = z.rows * MB_VOCAB_LEAVES;
    t.leaf = mb_cpu_scratch(s, (uint64_t)n * sizeof *t.leaf);
    if (t.leaf == NULL)
        return MB_NO_MEMORY;
    mb_cpu_run(s->dev, n, mb_grain(mb_vocab_leaf(z.cols), 4), stats_leaves, &t);
    mb_cpu_run(s->dev, z.rows, mb_grain(MB_VOCAB_LEAVES, 50), stats_rows, &t);
    return MB_OK;
}

/* ---------------------------------------------------------------- logprob, top */
struct top {
    struct mb_view ids, out, z, stats;
    const struct mb_vec *vec;
};

static float log_prob(const struct top *t, int64_t i, int64_t id)
{
    const float *st = mb_row_f32(t->stats, i);
    return (mb_row_f32(t->z, i)[id] - st[0]) - mb_logf(st[1]);
}

static void logprob_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct top *t = arg;
    for (int64_t i = begin; i < end; i++)
        *mb_row_f32(t->out, i) = log_prob(t, i, mb_at_i32(t->ids, i));
}

enum mb_status mb_cpu_logprob(struct mb_stream *s, struct mb_view out, struct mb_view z, struct mb_view stats,
                              struct mb_view ids)
{
    MB_TRY(mb_check_logprob(out, z, stats, ids));
    for (int64_t i = 0; i < z.rows; i++)
        if (mb_at_i32(ids, i) < 0 || mb_at_i32(ids, i) >= z.cols)
            return mb_error(MB_BUG, "logprob: ids[%lld] is %d of %lld", (long long)i, mb_at_i32(ids, i),
                            (long long)z.cols);
    struct top t = {ids, out, z, stats, mb_vec_of(s->dev)};
    mb_cpu_run(s->dev, z.rows, mb_grain(1, 50), logprob_rows, &t);
    return MB_OK;
}

/* Puts column id of z into the list of the n largest (value descending; ids come ascending, so an equal value
 * goes behind). have: entries in use. */
static int64_t put(const float *z, int32_t *list, int64_t have, int64_t n, int32_t id)
{
    int64_t j = have < n ? have : n - 1;
    for (; j > 0 && z[id] > z[list[j - 1]]; j--)
        list[j] = list[j - 1];
    list[j] = id;
    return have < n ? have + 1 : n;
}

static void top_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct top *t = arg;
    int64_t V = t->z.cols, n = t->ids.cols;
    for (int64_t i = begin; i < end; i++) {
        const float *z = mb_row_f32(t->z, i);
        int32_t *list = mb_row_i32(t->ids, i);
        int64_t have = 0;
        float block;
        for (int64_t c = 0; c < V; c += 32) {
            int64_t m = V - c < 32 ? V - c : 32;
            t->vec->block_max(&block, z + c, m);
            if (have == n && !(block > z[list[n - 1]]))
                continue;
            for (int64_t j = c; j < c + m; j++)
                if (have < n || z[j] > z[list[n - 1]])
                    have = put(z, list, have, n, (int32_t)j);
        }
        for (int64_t j = 0; j < n; j++)
            mb_row_f32(t->out, i)[j] = log_prob(t, i, list[j]);
    }
}

enum mb_status mb_cpu_top(struct mb_stream *s, struct mb_view ids, struct mb_view logprobs, struct mb_view z,
                          struct mb_view stats)
{
    MB_TRY(mb_check_top(ids, logprobs, z, stats));
    struct top t = {ids, logprobs, z, stats, mb_vec_of(s->dev)};
    if (ids.cols > 0)
        mb_cpu_run(s->dev, z.rows, mb_grain(z.cols, 1), top_rows, &t);
    return MB_OK;
}
