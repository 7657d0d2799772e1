/* Paged attention. A block of threads has up to 16 vectors, heads of neighbouring rows that share a KV head,
 * and folds blocks of 64 keys into their states in order: scores (a thread a key), softmax (a warp a vector),
 * values (a thread a column). Segments join by the tree over their positions; the top of the stack of open
 * nodes is in shared memory, the others in global. */
#include "cuda/osm.h"
#include "cuda/page.h"
#include "cuda/stage.h"

namespace
{

enum { T = MB_ATTN_THREADS, MOST = MB_ATTN_MOST, LEVELS = MB_ATTN_LEVELS, KEYS = MB_KV_BLOCK };

/* What the threads of a block share beside the dynamic part. */
struct shared {
    float m[LEVELS][MOST], l[LEVELS][MOST]; /* states of open nodes */
    int32_t present[LEVELS][MOST];
    float e1[MOST], e2[MOST];        /* factors of the last fold or join */
    int32_t how[MOST];               /* enum how: what becomes of a vector's output */
    int32_t pos[MOST], lowest[MOST]; /* of the tile's rows */
    int32_t first[MOST], last[MOST]; /* keys of the block under way that a vector sees */
};
enum how { NOTHING, FRESH, ADD };

/* Vectors of a block of threads at most. */
MB_INLINE int32_t vectors_of(const struct mb_attn_task &t)
{
    return t.tile * t.part;
}

/* Rows of one sequence, and heads: the vectors of a block of threads, v = row * heads + head. All of it is
 * the same in all threads. */
struct item {
    int64_t row;
    int32_t rows, seq;
    int32_t kv_head, head, heads, n;
    int32_t first, last; /* blocks of 64 keys that any of them sees */
    float *q, *p, *o;    /* [n][k_stride], [n][64], [n][dv] */
    float *open;
    uint32_t *tile;
    const int32_t *chosen, *chosen_end; /* positions not yet folded; NULL: no choice */
};

MB_DEVICE struct mb_osm get_state(const struct shared *sh, int32_t level, int32_t v)
{
    struct mb_osm s;

    s.m = sh->m[level][v];
    s.l = sh->l[level][v];
    s.present = sh->present[level][v] != 0;
    return s;
}
MB_DEVICE void put_state(struct shared *sh, int32_t level, int32_t v, struct mb_osm s)
{
    sh->m[level][v] = s.m;
    sh->l[level][v] = s.l;
    sh->present[level][v] = s.present;
}

/* ---------------------------------------------------------------- scores */
/* Raw dots of V vectors from v0 on with key `key`. */
template <int V, class R>
MB_DEVICE void score(const struct item &it, const R &keys, int32_t key, int32_t v0, int32_t k_stride)
{
    float c[V];

    mb_dots<V>(c, it.q, v0, it.n, keys, key, k_stride);
    MB_UNROLL
    for (int u = 0; u < V; u++)
        if (v0 + u < it.n)
            it.p[(v0 + u) * KEYS + key] = c[u];
}

/* ---------------------------------------------------------------- softmax: a warp a vector, a lane two keys
 */
MB_DEVICE float larger(float a, float b)
{
    return a > b ? a : b;
}

/* The largest of 64, of equal ones the one that the portable form takes (of zeros: its sign); a NaN is
 * skipped. */
MB_DEVICE float largest(float s0, float s1)
{
    float t0 = __shfl_xor_sync(MB_ALL, s0, 16), t1 = __shfl_xor_sync(MB_ALL, s1, 16);
    bool low = mb_lane() < 16;
    float a = low ? larger(s0, t0) : larger(t0, s0), b = low ? larger(s1, t1) : larger(t1, s1);
    float m = larger(a, b), none = mb_float_of(0xff800000u);

    m = m > none ? m : none;
    for (int d = 1; d < 16; d *= 2) {
        float other = __shfl_xor_sync(MB_ALL, m, d);
        bool first = (mb_lane() & d) == 0;
        float x = first ? m : other, y = first ? other : m;
        m = y > x ? y : x;
    }
    return m;
}

/* The score of a key as the softmax takes it. */
MB_DEVICE float scaled(const struct mb_attn_task &t, float s)
{
    s = s * t.scale;
    return t.softcap != 0.0f ? mb_softcap_inl(s, t.softcap) : s;
}

/* Vector v: its scores become probabilities, keys that it does not see +0; its state goes on. */
MB_DEVICE void soften(const struct mb_attn_task &t, const struct item &it, struct shared *sh, int32_t level,
                      int32_t v, uint64_t chosen)
{
    const float none = mb_float_of(0xff800000u);
    int32_t lane = mb_lane(), first = sh->first[v], last = sh->last[v];
    float *p = it.p + v * KEYS;
    bool see0 = lane >= first && lane <= last, see1 = lane + 32 >= first && lane + 32 <= last;
    float s0 = see0 && (chosen >> lane & 1) ? scaled(t, p[lane]) : none;
    float s1 = see1 && (chosen >> (lane + 32) & 1) ? scaled(t, p[lane + 32]) : none;
    struct mb_osm state = get_state(sh, level, v);
    float m = largest(s0, s1), alpha = 1.0f;

    if (state.present) {
        m = state.m > m ? state.m : m;
        alpha = mb_expf_inl(state.m - m);
    }
    s0 = see0 ? mb_expf_inl(s0 - m) : 0.0f;
    s1 = see1 ? mb_expf_inl(s1 - m) : 0.0f;
    float sum = mb_r32_fold(s0 + s1);
    bool round = t.kv.dtype != MB_F32;
    p[lane] = round ? mb_bf16_float(mb_bf16_of(s0)) : s0;
    p[lane + 32] = round ? mb_bf16_float(mb_bf16_of(s1)) : s1;
    __syncwarp();
    if (lane == 0) {
        sh->e1[v] = alpha;
        sh->how[v] = state.present ? ADD : FRESH;
        state.l = state.present ? fmaf(state.l, alpha, sum) : sum;
        state.m = m;
        state.present = true;
        put_state(sh, level, v, state);
    }
}

/* ---------------------------------------------------------------- values */
/* Column c of V vectors from v0 on: p times values by the dot rule, from +0, over keys first .. last.
 * careful: a value that a vector does not see is zero, whatever lies there. */
template <int V, class R>
MB_DEVICE void weigh(const struct item &it, const struct shared *sh, const R &values, int32_t c, int32_t v0,
                     int32_t first, int32_t last, bool careful, int32_t dv)
{
    float sum[V], e[V], o[V];

    for (int u = 0; u < V; u++)
        sum[u] = 0;
    for (int32_t b = 0; b < KEYS; b += 32) {
        int32_t from = b > first ? b : first & ~1, to = b + 32 < last + 1 ? b + 32 : last + 1;
        for (int u = 0; u < V; u++)
            e[u] = o[u] = 0;
        for (int32_t k = from; k < to; k += 2) {
            float x0 = values.one(k, c), x1 = values.one(k + 1, c);
            MB_UNROLL
            for (int u = 0; u < V; u++) {
                int32_t v = v0 + u < it.n ? v0 + u : v0;
                const float *p = it.p + v * KEYS + k;
                float y0 = careful && (k < sh->first[v] || k > sh->last[v]) ? 0.0f : x0;
                float y1 = careful && (k + 1 < sh->first[v] || k + 1 > sh->last[v]) ? 0.0f : x1;
                e[u] = fmaf(p[0], y0, e[u]);
                o[u] = fmaf(p[1], y1, o[u]);
            }
        }
        MB_UNROLL
        for (int u = 0; u < V; u++)
            sum[u] = sum[u] + (e[u] + o[u]);
    }
    MB_UNROLL
    for (int u = 0; u < V; u++) {
        int32_t v = v0 + u;
        if (v >= it.n || sh->how[v] == NOTHING)
            continue;
        float *at = it.o + v * dv + c;
        *at = sh->how[v] == FRESH ? sum[u] : fmaf(*at, sh->e1[v], sum[u]);
    }
}

/* ---------------------------------------------------------------- one block of 64 keys */
/* What each vector sees of the block at position `base`; *first, *last: what any sees; whether all see the
 * same. False: nobody sees anything. Ends with a barrier. */
MB_DEVICE bool see(const struct item &it, struct shared *sh, int32_t base, int32_t *first, int32_t *last,
                   bool *same)
{
    *first = KEYS;
    *last = -1;
    *same = true;
    for (int32_t r = 0; r < it.rows; r++) {
        int32_t lo = sh->lowest[r] - base, hi = sh->pos[r] - base;
        lo = lo > 0 ? lo : 0;
        hi = hi < KEYS - 1 ? hi : KEYS - 1;
        *same = *same && (r == 0 || (lo == *first && hi == *last));
        if (lo > hi) {
            lo = KEYS;
            hi = -1;
        }
        *first = lo < *first ? lo : *first;
        *last = hi > *last ? hi : *last;
        for (int32_t h = static_cast<int32_t>(threadIdx.x); h < it.heads; h += T) {
            sh->first[r * it.heads + h] = lo;
            sh->last[r * it.heads + h] = hi;
        }
    }
    __syncthreads();
    return *last >= 0;
}

/* The keys of a block that the item's row chose. */
MB_DEVICE uint64_t take_chosen(struct item *it, int32_t block)
{
    uint64_t seen = 0;

    if (it->chosen == nullptr)
        return ~static_cast<uint64_t>(0);
    while (it->chosen < it->chosen_end && *it->chosen < block * KEYS)
        it->chosen++;
    while (it->chosen < it->chosen_end && *it->chosen < (block + 1) * KEYS)
        seen |= static_cast<uint64_t>(1) << *it->chosen++ % KEYS;
    return seen;
}

/* The factors of one block: keys first .. last, of which `chosen` count. */
struct span {
    int32_t first, last;
    uint64_t chosen;
    bool same;
};

template <int V, class R>
MB_DEVICE void score_all(const struct mb_attn_task &t, const struct item &it, const R &keys, struct span s)
{
    int32_t key = static_cast<int32_t>(threadIdx.x) % KEYS;

    if (key < s.first || key > s.last)
        return;
    for (int32_t v = static_cast<int32_t>(threadIdx.x) / KEYS * V; v < it.n; v += T / KEYS * V)
        score<V>(it, keys, key, v, t.kv.k_stride);
}

template <int V, class R>
MB_DEVICE void weigh_all(const struct mb_attn_task &t, const struct item &it, const struct shared *sh,
                         const R &values, struct span s, bool careful)
{
    for (int32_t c = static_cast<int32_t>(threadIdx.x); c < t.kv.dv; c += T)
        for (int32_t v = 0; v < it.n; v += V)
            weigh<V>(it, sh, values, c, v, s.first, s.last, careful, t.kv.dv);
}

/* Folds a block into level `top` of the states. */
template <int V, class S>
MB_DEVICE void fold_block(const struct mb_attn_task &t, struct item *it, struct shared *sh, int32_t block,
                          int32_t top)
{
    struct span s;
    s.chosen = take_chosen(it, block);
    if (s.chosen == 0 || !see(*it, sh, block * KEYS, &s.first, &s.last, &s.same))
        return;
    int32_t page = mb_page_of(t.kv, t.page_table, it->seq, block, t.flag);
    S stage(t.kv, it->tile);
    stage.load_keys(mb_page_keys(t.kv, page, it->kv_head), s.first, s.last);
    __syncthreads();
    score_all<V>(t, *it, stage, s);
    __syncthreads();
    for (int32_t v = mb_warp(); v < it->n; v += T / MB_WARP) {
        if (sh->first[v] <= sh->last[v])
            soften(t, *it, sh, top, v, s.chosen);
        else if (mb_lane() == 0) {
            sh->how[v] = NOTHING;
            for (int32_t k = 0; k < KEYS; k++)
                it->p[v * KEYS + k] = 0;
        }
    }
    bool finite = stage.load_values(t.kv.v_in_k ? mb_page_keys(t.kv, page, it->kv_head)
                                                : mb_page_values(t.kv, page, it->kv_head),
                                    s.first, s.last, s.chosen);
    int bad = __syncthreads_or(!finite);
    weigh_all<V>(t, *it, sh, stage, s, S::careful || (bad && !s.same));
    __syncthreads();
}

/* ---------------------------------------------------------------- segments */
/* Output column c of vector v of open node `level`. */
MB_DEVICE float *open_at(const struct mb_attn_task &t, const struct item &it, int32_t level, int32_t v,
                         int32_t c)
{
    return it.open + (static_cast<int64_t>(level) * vectors_of(t) + v) * t.kv.dv + c;
}

/* The two topmost nodes become one: the right one is in shared memory, and so is the result. */
MB_DEVICE void join_top(const struct mb_attn_task &t, const struct item &it, struct shared *sh, int32_t top)
{
    int32_t v = static_cast<int32_t>(threadIdx.x);

    if (v < it.n) {
        struct mb_osm left = get_state(sh, top - 2, v), right = get_state(sh, top - 1, v);
        float e1, e2;
        put_state(sh, top - 2, v, mb_osm_join_inl(left, right, &e1, &e2));
        sh->how[v] = !right.present ? NOTHING : left.present ? ADD : FRESH;
        sh->e1[v] = e1;
        sh->e2[v] = e2;
    }
    __syncthreads();
    for (int32_t c = static_cast<int32_t>(threadIdx.x); c < t.kv.dv; c += T)
        for (v = 0; v < it.n; v++) {
            float *o = it.o + v * t.kv.dv + c;
            if (sh->how[v] == ADD)
                *o = fmaf(*open_at(t, it, top - 2, v, c), sh->e1[v], *o * sh->e2[v]);
            else if (sh->how[v] == NOTHING)
                *o = *open_at(t, it, top - 2, v, c);
        }
    __syncthreads();
}

/* The top moves out of shared memory: another node comes on it. */
MB_DEVICE void put_away(const struct mb_attn_task &t, const struct item &it, int32_t level)
{
    for (int32_t c = static_cast<int32_t>(threadIdx.x); c < t.kv.dv; c += T)
        for (int32_t v = 0; v < it.n; v++)
            *open_at(t, it, level, v, c) = it.o[v * t.kv.dv + c];
}

MB_DEVICE void clear(const struct mb_attn_task &t, const struct item &it, struct shared *sh, int32_t level)
{
    int32_t v = static_cast<int32_t>(threadIdx.x);

    if (v < it.n) {
        struct mb_osm none;
        none.m = none.l = 0;
        none.present = false;
        put_state(sh, level, v, none);
    }
    for (int32_t c = v; c < t.kv.dv; c += T)
        for (int32_t w = 0; w < it.n; w++)
            it.o[w * t.kv.dv + c] = 0;
    __syncthreads();
}

/* Segments `from` to `to` in order; the root is left at level 0. */
template <int V, class S>
MB_DEVICE void run_segments(const struct mb_attn_task &t, struct item *it, struct shared *sh, int32_t from,
                            int32_t to)
{
    struct mb_nodes nodes;
    int32_t top = 0;

    for (int32_t seg = from; seg <= to; seg++) {
        for (int32_t ends = nodes.next(seg); ends > 0; ends--, top--)
            join_top(t, *it, sh, top);
        if (top > 0)
            put_away(t, *it, top - 1);
        clear(t, *it, sh, top);
        int32_t begin = seg * t.per > it->first ? seg * t.per : it->first;
        int32_t end = (seg + 1) * t.per - 1 < it->last ? (seg + 1) * t.per - 1 : it->last;
        for (int32_t b = begin; b <= end; b++)
            fold_block<V, S>(t, it, sh, b, top);
        top++;
    }
    for (int32_t ends = nodes.end(); ends > 0; ends--, top--)
        join_top(t, *it, sh, top);
}

/* ---------------------------------------------------------------- results */
/* Sinks, then o / l. */
MB_DEVICE void finish(const struct mb_attn_task &t, const struct item &it, struct shared *sh)
{
    int32_t v = static_cast<int32_t>(threadIdx.x);
    bool sink = t.sinks.p != nullptr;

    if (v < it.n && sink) {
        struct mb_osm one;
        one.m = mb_row_f32(t.sinks, 0)[it.head + v % it.heads];
        one.l = 1.0f;
        one.present = true;
        float e1, e2;
        put_state(sh, 0, v, mb_osm_join_inl(get_state(sh, 0, v), one, &e1, &e2));
        sh->e1[v] = e1;
        sh->e2[v] = e2;
    }
    __syncthreads();
    for (int32_t c = static_cast<int32_t>(threadIdx.x); c < t.kv.dv; c += T)
        for (v = 0; v < it.n; v++) {
            float o = it.o[v * t.kv.dv + c];
            if (sink)
                o = fmaf(o, sh->e1[v], 0.0f * sh->e2[v]);
            mb_put(t.out, it.row + v / it.heads, static_cast<int64_t>(it.head + v % it.heads) * t.kv.dv + c,
                   o / sh->l[0][v]);
        }
}

/* Where the state of vector v goes: the chunk's of its row and head, or item `place` of its row. */
MB_DEVICE float *state_at(const struct mb_attn_task &t, const struct item &it, int32_t v, int64_t place)
{
    int64_t head = it.head + v % it.heads;

    if (t.item_off.p != nullptr)
        return mb_row_f32(t.out, place) + head * (t.kv.dv + 2);
    return mb_row_f32(t.out, ((it.row + v / it.heads) * t.heads + head) * t.chunks + place);
}

/* absent: nobody saw a key, which l < 0 says. */
MB_DEVICE void store_state(const struct mb_attn_task &t, const struct item &it, const struct shared *sh,
                           int64_t place, bool absent)
{
    int32_t v = static_cast<int32_t>(threadIdx.x);

    if (v < it.n) {
        struct mb_osm s;
        s.present = false;
        if (!absent)
            s = get_state(sh, 0, v);
        float *to = state_at(t, it, v, place);
        to[0] = s.present ? s.m : 0.0f;
        to[1] = s.present ? s.l : -1.0f;
    }
    for (int32_t c = v; c < t.kv.dv && !absent; c += T)
        for (int32_t w = 0; w < it.n; w++)
            state_at(t, it, w, place)[2 + c] = it.o[w * t.kv.dv + c];
}

/* ---------------------------------------------------------------- items */
/* What the item's row chose: positions that ascend up to its own. What is not so is told. */
MB_DEVICE void take_choice(const struct mb_attn_task &t, struct item *it, int32_t pos)
{
    it->chosen = it->chosen_end = nullptr;
    if (t.chosen.p == nullptr || mb_row_i32(t.chosen, it->row)[0] < 0)
        return;
    const int32_t *c = mb_row_i32(t.chosen, it->row);
    int32_t n = mb_index(c[0], t.chosen.cols, t.flag);
    for (int32_t j = static_cast<int32_t>(threadIdx.x); j <= n; j += T)
        if (j == 0 ? n < 1 : c[j] <= (j > 1 ? c[j - 1] : -1) || c[j] > pos)
            mb_index(-1, 1, t.flag);
    it->chosen = c + 1;
    it->chosen_end = it->chosen + n;
}

/* q of all vectors as f32, each filled up with zeros; positions and what they see. Ends with a barrier. */
MB_DEVICE void begin(const struct mb_attn_task &t, struct item *it, struct shared *sh)
{
    it->n = it->rows * it->heads;
    for (int32_t r = static_cast<int32_t>(threadIdx.x); r < it->rows; r += T) {
        sh->pos[r] = mb_pos_of(t.pos, t.page_table, it->row + r, t.flag);
        sh->lowest[r] = mb_first_seen(t.window, t.chunked != 0, sh->pos[r]);
    }
    for (int32_t v = 0; v < it->n; v++)
        for (int32_t i = static_cast<int32_t>(threadIdx.x); i < t.kv.k_stride; i += T)
            it->q[v * t.kv.k_stride + i] =
                i < t.kv.d ? mb_get(t.q, it->row + v / it->heads,
                                    static_cast<int64_t>(it->head + v % it->heads) * t.kv.d + i)
                           : 0.0f;
    __syncthreads();
    it->first = sh->lowest[0] / KEYS;
    it->last = sh->pos[0] / KEYS;
    for (int32_t r = 1; r < it->rows; r++) {
        it->first = sh->lowest[r] / KEYS < it->first ? sh->lowest[r] / KEYS : it->first;
        it->last = sh->pos[r] / KEYS > it->last ? sh->pos[r] / KEYS : it->last;
    }
    take_choice(t, it, sh->pos[0]);
}

/* Rows of one sequence in one chunk. */
template <int V, class S>
MB_DEVICE void run_rows(const struct mb_attn_task &t, struct item *it, struct shared *sh, int32_t chunk)
{
    begin(t, it, sh);
    int32_t from = it->first / t.per, to = it->last / t.per;
    int32_t begins = chunk << t.chunk_shift, ends = ((chunk + 1) << t.chunk_shift) - 1;
    from = from > begins ? from : begins;
    to = to < ends ? to : ends;
    if (from <= to)
        run_segments<V, S>(t, it, sh, from, to);
    if (t.chunks == 1)
        finish(t, *it, sh);
    else
        store_state(t, *it, sh, chunk, from > to);
    __syncthreads();
}

/* A tile of rows: as many at a time as are of one sequence. */
template <int V, class S>
MB_DEVICE void run_tile(const struct mb_attn_task &t, struct item *it, struct shared *sh, int64_t tile,
                        int32_t chunk)
{
    int64_t row = tile * t.tile, end = row + t.tile < t.q.rows ? row + t.tile : t.q.rows;

    while (row < end) {
        it->row = row;
        it->rows = 1;
        it->seq = mb_seq_of(t.seq, t.page_table, row, t.flag);
        for (row++; row < end && mb_row_i32(t.seq, row)[0] == it->seq; row++)
            it->rows++;
        run_rows<V, S>(t, it, sh, chunk);
    }
}

/* The row whose list has item j. */
MB_DEVICE int64_t row_of_item(const struct mb_attn_task &t, int64_t j)
{
    int64_t lo = 0, hi = t.q.rows - 1; /* the last row whose list begins at or before j */

    while (lo < hi) {
        int64_t mid = (lo + hi + 1) / 2;
        if (mb_row_i32(t.item_off, mid)[0] <= j)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

/* One item of attention_parts: a segment of a row. */
template <int V, class S>
MB_DEVICE void run_item(const struct mb_attn_task &t, struct item *it, struct shared *sh, int64_t j)
{
    if (j >= mb_row_i32(t.item_off, t.q.rows)[0] || j < mb_row_i32(t.item_off, 0)[0])
        return; /* belongs to no row */
    it->row = row_of_item(t, j);
    it->rows = 1;
    it->seq = mb_seq_of(t.seq, t.page_table, it->row, t.flag);
    begin(t, it, sh);
    int32_t seg = mb_row_i32(t.item_seg, j)[0];
    bool ascends = j == mb_row_i32(t.item_off, it->row)[0] || mb_row_i32(t.item_seg, j - 1)[0] < seg;
    bool inside = mb_row_i32(t.item_off, it->row + 1)[0] <= t.item_seg.rows;
    if (!ascends || !inside || seg < it->first / t.per || seg > it->last / t.per) {
        if (threadIdx.x == 0)
            mb_index(-1, 1, t.flag);
    } else {
        run_segments<V, S>(t, it, sh, seg, seg);
        if (threadIdx.x == 0 && !sh->present[0][0]) /* of a choice: none there */
            mb_index(-1, 1, t.flag);
        store_state(t, *it, sh, j, false);
    }
    __syncthreads();
}

/* ---------------------------------------------------------------- the kernel */
MB_DEVICE void lay_out(const struct mb_attn_task &t, struct item *it, float *room)
{
    int32_t n = vectors_of(t);

    it->q = room;
    it->p = it->q + static_cast<int64_t>(n) * t.kv.k_stride;
    it->o = it->p + static_cast<int64_t>(n) * KEYS;
    it->tile = reinterpret_cast<uint32_t *>(it->o + (static_cast<int64_t>(n) * t.kv.dv + 3) / 4 * 4);
    it->open = t.open + static_cast<int64_t>(blockIdx.x) * t.levels * n * t.kv.dv;
}

template <int V, class S> __global__ void __launch_bounds__(T) attention(struct mb_attn_task t, int64_t work)
{
    MB_SHARED(float, room);
    __shared__ struct shared sh;
    struct item it;

    lay_out(t, &it, room);
    for (int64_t w = blockIdx.x; w < work; w += gridDim.x) {
        int32_t piece = static_cast<int32_t>(w % t.parts);
        it.kv_head = static_cast<int32_t>(w / t.parts % t.kv.heads);
        int64_t rest = w / t.parts / t.kv.heads;
        int32_t h0 = t.group * piece / t.parts, h1 = t.group * (piece + 1) / t.parts;
        it.head = it.kv_head * t.group + h0;
        it.heads = h1 - h0;
        if (t.item_off.p != nullptr)
            run_item<V, S>(t, &it, &sh, rest);
        else
            run_tile<V, S>(t, &it, &sh, rest / t.chunks, static_cast<int32_t>(rest % t.chunks));
    }
}

template <int V, class S>
cudaError_t launch(cudaStream_t s, const struct mb_attn_task *t, int64_t shared, int64_t blocks)
{
    int64_t tiles =
        t->item_off.p != nullptr ? t->item_seg.rows : (t->q.rows + t->tile - 1) / t->tile * t->chunks;
    int64_t work = tiles * t->kv.heads * t->parts;
    cudaError_t e = cudaFuncSetAttribute(attention<V, S>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(shared));

    if (e != cudaSuccess || work == 0)
        return e;
    blocks = work < blocks ? work : blocks;
    return MB_LAUNCH((attention<V, S>), dim3(static_cast<unsigned>(blocks)), dim3(T),
                     static_cast<size_t>(shared), s, *t, work);
}

template <class S>
cudaError_t launch_of(cudaStream_t s, const struct mb_attn_task *t, int64_t shared, int64_t blocks)
{
    return vectors_of(*t) == 1 ? launch<1, S>(s, t, shared, blocks) : launch<4, S>(s, t, shared, blocks);
}

} /* namespace */

extern "C" int64_t mb_k_attention_shared(const struct mb_attn_task *t, int staged)
{
    int64_t n = vectors_of(*t), floats = n * (t->kv.k_stride + KEYS) + (n * t->kv.dv + 3) / 4 * 4;
    return 4 * floats + (staged ? mb_stage_bytes(t->kv) : 0);
}

extern "C" cudaError_t mb_k_attention(cudaStream_t s, const struct mb_attn_task *t, int staged,
                                      int64_t blocks)
{
    int64_t shared = mb_k_attention_shared(t, staged);

    if (t->kv.dtype == MB_U8)
        return launch_of<mb_stage_codes>(s, t, shared, blocks);
    if (t->kv.dtype == MB_BF16)
        return staged ? launch_of<mb_stage_bf16>(s, t, shared, blocks)
                      : launch_of<mb_direct_bf16>(s, t, shared, blocks);
    return staged ? launch_of<mb_stage_f32>(s, t, shared, blocks)
                  : launch_of<mb_direct_f32>(s, t, shared, blocks);
}
