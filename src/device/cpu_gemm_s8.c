/* Grouped GEMMs of the int8 path. Rows are quantised and packed once a call; an item is a block of rows by a
 * few panels. Sums of a leaf are exact, so only its end rounds: fl(fl32(sum) * fl(row's scale * column's
 * scale)), then the tree over the leaves. */
#include <string.h>
#include "device/cpu_s8.h"

enum {
    ROW_BLOCK = 96,        /* rows of an item */
    SET = 4,               /* panels of an item */
    CHUNK = 256,           /* quads of k that all tiles of an item take before the next ones */
    SMALL = 1 << 16,       /* below this many elements or products a team is not worth waking */
    PASS_BYTES = 32 << 20, /* packed rows of a pass */
    PIECE = 256,
    DEPTH = 6 /* open nodes of a tree over 16 leaves, and one */
};

/* Rows of one group in this pass. */
struct job {
    const struct mb_gemm_group *g;
    int64_t row, rows; /* of the group */
    int64_t row_blocks, sets;
    uint64_t packed, scales; /* offsets in bytes */
    int64_t row0, item0;     /* first of the pass */
};
struct gemm {
    struct mb_stream *s;
    const struct mb_s8_kernels *k;
    struct mb_view out, x;
    struct job *job;
    int32_t jobs;
    int64_t rows, items;
    uint64_t packed_bytes, scale_bytes;
    unsigned char *packed, *scales, *room; /* room: of the threads */
};
/* What a thread needs: sums of a chunk, and of the open nodes of the tree. */
struct room {
    int32_t c[SET][ROW_BLOCK][MB_PANEL] __attribute__((aligned(64)));
    float sum[DEPTH][SET][ROW_BLOCK][MB_PANEL] __attribute__((aligned(64)));
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---------------------------------------------------------------- cutting */
static int64_t quads_of(const struct mb_weight *w)
{
    return w->block[w->desc.leaves] * MB_QUADS;
}

static void add_job(struct gemm *m, const struct mb_gemm_group *g, int64_t row, int64_t rows)
{
    struct job *j = &m->job[m->jobs++];

    *j = (struct job){.g = g,
                      .row = row,
                      .rows = rows,
                      .packed = m->packed_bytes,
                      .scales = m->scale_bytes,
                      .row0 = m->rows,
                      .item0 = m->items};
    j->row_blocks = mb_ceil_div(rows, ROW_BLOCK);
    j->sets = mb_ceil_div(g->w->panels, SET);
    m->rows += rows;
    m->items += j->row_blocks * j->sets;
    m->packed_bytes += (uint64_t)(rows * quads_of(g->w) * MB_QUAD * m->k->size);
    m->packed_bytes = (m->packed_bytes + 63) / 64 * 64;
    m->scale_bytes += (uint64_t)(rows * g->w->desc.leaves) * sizeof(float);
}

/* Takes groups from (*next, *row) on until the pass is full. */
static void fill_pass(struct gemm *m, const struct mb_gemm_group *groups, int32_t n, int32_t *next,
                      int64_t *row)
{
    m->jobs = 0;
    m->rows = m->items = 0;
    m->packed_bytes = m->scale_bytes = 0;
    for (; *next < n; ++*next, *row = 0) {
        const struct mb_gemm_group *g = &groups[*next];
        int64_t bytes = quads_of(g->w) * MB_QUAD * m->k->size,
                fit = (PASS_BYTES - (int64_t)m->packed_bytes) / bytes / ROW_BLOCK * ROW_BLOCK;
        if (fit < ROW_BLOCK && m->jobs > 0 && g->rows - *row > fit)
            return;
        int64_t rows = min64(g->rows - *row, fit < ROW_BLOCK ? ROW_BLOCK : fit);
        if (rows > 0)
            add_job(m, g, *row, rows);
        *row += rows;
        if (*row < g->rows)
            return;
    }
}

/* Tiles of a block of rows are as even as can be: first row of tile i of n rows. */
static int64_t tiles_of(const struct gemm *m, int64_t rows)
{
    return mb_ceil_div(rows, m->k->rows);
}
static int64_t tile_begin(const struct gemm *m, int64_t rows, int64_t i)
{
    return rows * i / tiles_of(m, rows);
}

/* ---------------------------------------------------------------- packing */
/* n codes from place k of a leaf on to row r of a tile of `rows` rows that begins at `to`. */
static void spread(const struct gemm *m, unsigned char *to, int64_t rows, int64_t r, int64_t k,
                   const int16_t *code, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t at = ((k + i) / MB_QUAD * rows + r) * MB_QUAD + (k + i) % MB_QUAD;
        if (m->k->size == 2)
            ((int16_t *)(void *)to)[at] = code[i];
        else
            to[at] = (unsigned char)(code[i] + 128);
    }
}

/* The numbers of a leaf, quantised; what its last block has beyond them is zero. */
static float pack_leaf(const struct gemm *m, const float *x, int64_t n, unsigned char *to, int64_t rows,
                       int64_t r)
{
    float scale = mb_s8_scale(m->k->largest(x, n));
    int64_t all = mb_ceil_div(n, MB_BLOCK) * MB_BLOCK;
    int16_t code[PIECE];

    for (int64_t k = 0; k < all; k += PIECE) {
        int64_t part = min64(PIECE, all - k), have = min64(part, n > k ? n - k : 0);
        if (have > 0)
            m->k->codes(x + k, have, scale, code);
        for (int64_t i = have; i < part; i++)
            code[i] = 0;
        spread(m, to, rows, r, k, code, part);
    }
    return scale;
}

/* Row i of a job. A tile lies leaf by leaf, all of its rows together. */
static void pack_row(const struct gemm *m, const struct job *j, int64_t i)
{
    const struct mb_weight *w = j->g->w;
    int64_t block = i / ROW_BLOCK, rows = min64(ROW_BLOCK, j->rows - block * ROW_BLOCK), in = i % ROW_BLOCK,
            t = 0;
    const float *x = mb_row_f32(m->x, j->g->row0 + j->row + i) + j->g->x_col;
    float *scale = (float *)(void *)(m->scales + j->scales) + i * w->desc.leaves;

    while (tile_begin(m, rows, t + 1) <= in)
        t++;
    int64_t begin = tile_begin(m, rows, t), tile = tile_begin(m, rows, t + 1) - begin,
            size = MB_QUAD * m->k->size;
    unsigned char *to = m->packed + j->packed + (block * ROW_BLOCK + begin) * quads_of(w) * size;
    for (int32_t l = 0; l < w->desc.leaves; l++)
        scale[l] = pack_leaf(m, x + w->desc.leaf[l], w->desc.leaf[l + 1] - w->desc.leaf[l],
                             to + w->block[l] * MB_QUADS * tile * size, tile, in - begin);
}

static void pack_rows(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct gemm *m = arg;
    int32_t j = 0;

    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        while (j + 1 < m->jobs && m->job[j + 1].row0 <= i)
            j++;
        pack_row(m, &m->job[j], i - m->job[j].row0);
    }
}

/* ---------------------------------------------------------------- one item */
struct item {
    const struct gemm *m;
    const struct job *j;
    struct room *room;
    int64_t row, rows, panel, panels;
};

/* Quads [a, b) of the weight for all rows and panels of the item, added to what is there unless it is a
 * leaf's first part. */
static void run_quads(const struct item *it, int64_t a, int64_t b, bool add)
{
    const struct mb_weight *w = it->j->g->w;
    int64_t size = MB_QUAD * it->m->k->size, tiles = tiles_of(it->m, it->rows);

    for (int64_t p = 0; p < it->panels; p++)
        for (int64_t t = 0; t < tiles; t++) {
            int64_t r0 = tile_begin(it->m, it->rows, t), rows = tile_begin(it->m, it->rows, t + 1) - r0;
            const unsigned char *x =
                it->m->packed + it->j->packed + ((it->row + r0) * quads_of(w) + a * rows) * size;
            struct mb_s8_tile tile = {.x = x,
                                      .w = (const int8_t *)w->data + (it->panel + p) * w->panel_bytes +
                                           a * MB_PANEL * MB_QUAD,
                                      .c = it->room->c[p][r0],
                                      .quads = b - a,
                                      .rows = (int32_t)rows,
                                      .add = add};
            it->m->k->fn(&tile);
        }
}

/* Sums of leaf l as numbers, into level `top`. */
static void end_leaf(const struct item *it, int32_t l, int32_t top)
{
    const struct mb_weight *w = it->j->g->w;
    const float *row =
        (const float *)(const void *)(it->m->scales + it->j->scales) + it->row * w->desc.leaves + l;

    for (int64_t p = 0; p < it->panels; p++) {
        const float *column =
            (const float *)(const void *)(w->data + (it->panel + p) * w->panel_bytes + w->scale_at) +
            l * MB_PANEL;
        for (int64_t r = 0; r < it->rows; r++) {
            float s = row[r * w->desc.leaves], *restrict to = it->room->sum[top][p][r];
            const int32_t *restrict sum = it->room->c[p][r];
            for (int c = 0; c < MB_PANEL; c++)
                to[c] = (float)sum[c] * (s * column[c]);
        }
    }
}

/* level top - 2 = it + level top - 1 */
static void join(const struct item *it, int32_t top)
{
    for (int64_t p = 0; p < it->panels; p++)
        for (int64_t r = 0; r < it->rows; r++) {
            float *restrict left = it->room->sum[top - 2][p][r];
            const float *restrict right = it->room->sum[top - 1][p][r];
            for (int c = 0; c < MB_PANEL; c++)
                left[c] = left[c] + right[c];
        }
}

/* A stack of finished nodes: a new leaf closes the nodes whose right half it ends. */
static void run_leaves(const struct item *it)
{
    const struct mb_weight *w = it->j->g->w;
    int32_t top = 0;

    for (int32_t l = 0; l < w->desc.leaves; l++) {
        int64_t from = w->block[l] * MB_QUADS, to = w->block[l + 1] * MB_QUADS;
        int64_t step = tiles_of(it->m, it->rows) > 1 ? CHUNK : to - from;
        for (int64_t q = from; q < to; q += step)
            run_quads(it, q, min64(q + step, to), q > from);
        end_leaf(it, l, top++);
        for (int32_t i = l + 1; i % 2 == 0; i /= 2, top--)
            join(it, top);
    }
    for (; top > 1; top--)
        join(it, top);
}

static void store(const struct item *it)
{
    const struct mb_gemm_group *g = it->j->g;
    const float *bias = mb_has_view(g->bias) ? mb_row_f32(g->bias, 0) : NULL;

    for (int64_t r = 0; r < it->rows; r++)
        for (int64_t p = 0; p < it->panels; p++) {
            int64_t col = (it->panel + p) * MB_PANEL, n = min64(MB_PANEL, g->w->desc.n - col);
            const float *c = it->room->sum[0][p][r];
            float v[MB_PANEL];
            for (int64_t i = 0; i < n; i++)
                v[i] = bias != NULL ? c[i] + bias[col + i] : c[i];
            mb_store_row(it->m->out, g->row0 + it->j->row + it->row + r, g->out_col + col, v, n);
        }
}

static void run_items(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct gemm *m = arg;
    struct room *room = (struct room *)(void *)(m->room + (uint64_t)thread * sizeof *room);
    int32_t j = 0;

    for (int64_t i = begin; i < end; i++) {
        while (j + 1 < m->jobs && m->job[j + 1].item0 <= i)
            j++;
        const struct job *b = &m->job[j];
        struct item it = {.m = m,
                          .j = b,
                          .room = room,
                          .row = (i - b->item0) % b->row_blocks * ROW_BLOCK,
                          .panel = (i - b->item0) / b->row_blocks * SET};
        it.rows = min64(ROW_BLOCK, b->rows - it.row);
        it.panels = min64(SET, b->g->w->panels - it.panel);
        run_leaves(&it);
        store(&it);
        if (thread == 0)
            mb_cpu_look(m->s);
    }
}

/* ---------------------------------------------------------------- the operation */
static enum mb_status run_pass(struct mb_stream *s, struct gemm *m, int64_t products)
{
    const struct mb_device *dev = s->dev;
    uint64_t scales = (m->scale_bytes + 63) / 64 * 64;

    if (m->jobs == 0)
        return MB_OK;
    m->packed = mb_cpu_scratch(s, m->packed_bytes + scales + sizeof(struct room) * (uint64_t)dev->threads);
    if (m->packed == NULL)
        return MB_NO_MEMORY;
    m->scales = m->packed + m->packed_bytes;
    m->room = m->scales + scales;
    mb_cpu_run(dev, m->rows, m->packed_bytes < SMALL * sizeof(float) ? m->rows : 1, pack_rows, m);
    int64_t grain = min64(m->items / (4 * dev->threads), 8);
    mb_cpu_run(dev, m->items, products < SMALL ? m->items : grain < 1 ? 1 : grain, run_items, m);
    return MB_OK;
}

enum mb_status mb_cpu_gemm_s8(struct mb_stream *s, struct mb_view out, struct mb_view x,
                              const struct mb_gemm_group *groups, int32_t n_groups)
{
    struct gemm m = {.s = s, .k = s->dev->s8, .out = out, .x = x};
    enum mb_status st = MB_OK;
    int64_t products = 0, row = 0;
    int32_t next = 0;

    MB_TRY(mb_want("gemm", "x", x, -1, -1, MB_F32));
    for (int32_t i = 0; i < n_groups; i++)
        products += groups[i].rows * groups[i].w->desc.n * groups[i].w->desc.k;
    m.job = mb_alloc(s->dev->mem, MB_MEM_OTHER, (size_t)n_groups, sizeof *m.job);
    if (m.job == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a GEMM of %d groups", n_groups);
    while (st == MB_OK && next < n_groups) {
        fill_pass(&m, groups, n_groups, &next, &row);
        st = run_pass(s, &m, products);
    }
    mb_free(m.job);
    return st;
}
