/* Grouped dot-rule GEMMs. The rows of a pass are packed once, then threads take items: a block of rows by a
 * few panels. An item walks the weight leaf by leaf and, with many rows, in chunks of k that stay in the
 * first cache while all its row tiles use them. Nothing here changes an element's order of additions, so
 * cutting is free. */
#include <string.h>
#include "base/clock.h"
#include "device/cpu_weight.h"

enum {
    ROW_BLOCK = 96,       /* rows of an item: a multiple of every kernel's row_step */
    SET_MANY = 4,         /* panels of an item with several row tiles */
    SET_FEW = 2,          /* with one */
    CHUNK = 8,            /* blocks of k per chunk */
    UNPACKED = 8,        /* blocks of stored codes that are unpacked at a time for one row tile */
    AMX_ROWS = 8,         /* fewer rows: AVX-512 streams the weights as fast */
    AHEAD = 2048,         /* bytes of weights that the first row tile fetches ahead */
    SMALL = 1 << 16,      /* below this many elements or products a team is not worth waking */
    PASS_BYTES = 32 << 20 /* packed rows of a pass */
};
#define POLL_SECONDS 1e-3

_Static_assert(UNPACKED >= CHUNK, "room for a chunk");

/* Rows of one group in this pass. */
struct job {
    const struct mb_gemm_group *g;
    const struct mb_tile_kernels *k;
    int64_t row, rows; /* of the group */
    int64_t row_blocks, sets;
    int32_t set;     /* panels of an item */
    uint64_t packed; /* offset in bytes */
    int64_t tile0, item0;
};
struct gemm {
    struct mb_stream *s;
    struct mb_view out, x;
    struct job *job;
    int32_t jobs;
    int64_t tiles, items;
    uint64_t packed_bytes, sum_bytes, unpacked_bytes; /* the latter of one thread */
    unsigned char *packed, *sums, *unpacked;
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---------------------------------------------------------------- checks */
static enum mb_status check_group(const struct mb_gemm_group *g, struct mb_view out, struct mb_view x)
{
    if (g->w == NULL)
        return mb_error(MB_BUG, "gemm: a group without a weight");
    int64_t n = g->w->desc.n, k = g->w->desc.k;
    bool ok = g->row0 >= 0 && g->rows >= 0 && g->row0 <= x.rows - g->rows && g->row0 <= out.rows - g->rows &&
              g->x_col >= 0 && g->out_col >= 0 && g->x_col <= x.cols - k && g->out_col <= out.cols - n;
    if (!ok)
        return mb_error(MB_BUG, "gemm: a group of %lld x %lld lies outside its rows or columns", (long long)n,
                        (long long)k);
    return mb_has_view(g->bias) ? mb_want("gemm", "bias", g->bias, 1, n, MB_F32) : MB_OK;
}

/* ---------------------------------------------------------------- cutting */
static const struct mb_tile_kernels *choose(const struct mb_device *dev, const struct mb_gemm_group *g,
                                            enum mb_dtype x)
{
    enum mb_isa isa = dev->isa;
    bool halves = g->w->desc.dtype == MB_BF16 && x == MB_BF16;
    if (!halves || (isa == MB_ISA_AMX && g->rows < AMX_ROWS) ||
        (isa == MB_ISA_BF16 && mb_weight_stored(g->w) && g->rows <= MB_DOT_ROWS)) /* mb_dot_avx2 unpacks into the sums */
        isa = mb_isa_plain(isa);
    return mb_tile_kernels(isa);
}

static int64_t block_rows(const struct job *j, int64_t block)
{
    return min64(ROW_BLOCK, j->rows - block * ROW_BLOCK);
}
static int64_t tiles_per_block(const struct job *j)
{
    return mb_cut_rows(j->k, ROW_BLOCK).tiles;
}

/* Blocks of k that all row tiles of an item take before the next ones. */
static int64_t chunk_of(const struct job *j, int64_t rows)
{
    if (mb_cut_rows(j->k, rows).tiles > 1)
        return CHUNK;
    return mb_weight_stored(j->g->w) ? UNPACKED : j->g->w->block[j->g->w->desc.leaves];
}

static int32_t tree_depth(int32_t leaves)
{
    return leaves < 2 ? 1 : 33 - __builtin_clz((unsigned)leaves - 1);
}

static void add_job(struct gemm *m, const struct mb_device *dev, const struct mb_gemm_group *g, int64_t row,
                    int64_t rows)
{
    struct job *j = &m->job[m->jobs++];
    *j = (struct job){
        .g = g, .k = choose(dev, g, m->x.dtype), .row = row, .rows = rows, .packed = m->packed_bytes};
    j->row_blocks = mb_ceil_div(rows, ROW_BLOCK);
    j->set = mb_cut_rows(j->k, min64(rows, ROW_BLOCK)).tiles > 1 ? SET_MANY : SET_FEW;
    j->sets = mb_ceil_div(g->w->panels, j->set);
    j->tile0 = m->tiles;
    j->item0 = m->items;
    int64_t last = block_rows(j, j->row_blocks - 1);
    m->tiles += (j->row_blocks - 1) * tiles_per_block(j) + mb_cut_rows(j->k, last).tiles;
    m->items += j->row_blocks * j->sets;
    int64_t padded = (j->row_blocks - 1) * ROW_BLOCK + mb_cut_rows(j->k, last).steps * j->k->row_step;
    m->packed_bytes += (uint64_t)(padded * g->w->block[g->w->desc.leaves] * mb_packed_block(j->k));
    int64_t item_rows = min64(padded, ROW_BLOCK);
    uint64_t sums = (uint64_t)(tree_depth(g->w->desc.leaves) * j->set * item_rows) * MB_PANEL * sizeof(float);
    m->sum_bytes = sums > m->sum_bytes ? sums : m->sum_bytes;
    uint64_t unpacked =
        (uint64_t)(j->set * UNPACKED * MB_BLOCK * MB_PANEL) * (uint64_t)mb_dtype_size(g->w->desc.dtype);
    if (mb_weight_stored(g->w) && unpacked > m->unpacked_bytes)
        m->unpacked_bytes = unpacked;
}

/* Takes groups from (*next, *row) on until the pass is full. */
static void fill_pass(struct gemm *m, const struct mb_device *dev, const struct mb_gemm_group *groups,
                      int32_t n, int32_t *next, int64_t *row)
{
    m->jobs = 0;
    m->tiles = m->items = 0;
    m->packed_bytes = m->sum_bytes = m->unpacked_bytes = 0;
    while (*next < n) {
        const struct mb_gemm_group *g = &groups[*next];
        int64_t row_bytes = g->w->block[g->w->desc.leaves] * MB_BLOCK * (int64_t)sizeof(float);
        int64_t fit = (PASS_BYTES - (int64_t)m->packed_bytes) / row_bytes / ROW_BLOCK * ROW_BLOCK;
        if (fit < ROW_BLOCK && m->jobs > 0 && g->rows - *row > fit)
            return;
        int64_t rows = min64(g->rows - *row, fit < ROW_BLOCK ? ROW_BLOCK : fit);
        if (rows > 0)
            add_job(m, dev, g, *row, rows);
        *row += rows;
        if (*row == g->rows) {
            *row = 0;
            ++*next;
        }
    }
}

/* ---------------------------------------------------------------- packing */
static void pack_tile(const struct gemm *m, const struct job *j, int64_t tile)
{
    const struct mb_weight *w = j->g->w;
    int64_t block = tile / tiles_per_block(j), size = mb_dtype_size(m->x.dtype);
    struct mb_cut c = mb_cut_rows(j->k, block_rows(j, block));
    int64_t begin = mb_cut_begin(j->k, c, tile % tiles_per_block(j)),
            end = mb_cut_begin(j->k, c, tile % tiles_per_block(j) + 1);
    int64_t row_bytes = mb_packed_block(j->k);
    unsigned char *to =
        m->packed + j->packed + (block * ROW_BLOCK + begin) * w->block[w->desc.leaves] * row_bytes;
    for (int64_t r = begin; r < end; r++) {
        int64_t row = j->g->row0 + j->row + block * ROW_BLOCK + r;
        const char *src =
            r < block_rows(j, block) ? (const char *)mb_row(m->x, row) + j->g->x_col * size : NULL;
        for (int32_t l = 0; l < w->desc.leaves; l++)
            mb_pack_row(j->k, to + w->block[l] * (end - begin) * row_bytes, (int32_t)(end - begin),
                        (int32_t)(r - begin), src != NULL ? src + w->desc.leaf[l] * size : NULL, m->x.dtype,
                        w->desc.leaf[l + 1] - w->desc.leaf[l]);
    }
}

static void pack_tiles(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    (void)thread;
    const struct gemm *m = arg;
    int32_t j = 0;
    for (int64_t t = begin; t < end; t++) {
        while (j + 1 < m->jobs && m->job[j + 1].tile0 <= t)
            j++;
        pack_tile(m, &m->job[j], t - m->job[j].tile0);
    }
}

/* ---------------------------------------------------------------- one item */
struct item {
    const struct job *j;
    struct mb_cut cut;
    int64_t row, rows, padded; /* row: of the job */
    int64_t panel, panels;
    const unsigned char *packed;
    unsigned char *unpacked; /* room for a chunk of all panels */
};

/* Whether stored codes go straight into the sums. */
static bool dots(const struct item *it)
{
    const struct job *j = it->j;
    return it->padded <= MB_DOT_ROWS && (j->k->isa == MB_ISA_AVX2 || j->k->isa == MB_ISA_AVX512) &&
           j->g->w->desc.dtype == MB_BF16;
}

/* All row tiles of the item over blocks [b, e) of the weight, added to sum [panel][padded][16]. Stored codes are unpacked
 * first, for all of them. */
static void run_blocks(const struct item *it, float *sum, int64_t b, int64_t e, bool add)
{
    const struct job *j = it->j;
    const struct mb_weight *w = j->g->w;
    int64_t row_bytes = mb_packed_block(j->k), blocks = w->block[w->desc.leaves];
    int64_t w_block = MB_BLOCK * MB_PANEL * mb_dtype_size(w->desc.dtype),
            step = it->cut.tiles > 1 ? j->k->panels : it->panels, w_panel = w->panel_bytes;
    const unsigned char *data = w->data + it->panel * w_panel + b * w_block;
    bool stored = mb_weight_stored(w);
    if (stored && dots(it)) {
        for (int64_t p = 0; p < it->panels; p++)
            mb_dot_avx2(w, w->data + (it->panel + p) * w->panel_bytes, b, e,
                        &(struct mb_tile){.x = it->packed + b * it->padded * row_bytes,
                                          .c = sum + p * it->padded * MB_PANEL,
                                          .rows = (int32_t)it->padded,
                                          .add = add});
        return;
    }
    if (stored) {
        w_panel = (e - b) * w_block;
        data = it->unpacked;
        for (int64_t p = 0; p < it->panels; p++)
            mb_widen(w, it->panel + p, b, e, it->unpacked + p * w_panel);
    }
    for (int64_t p = 0; p < it->panels; p += step)
        for (int64_t t = 0; t < it->cut.tiles; t++) {
            int64_t r0 = mb_cut_begin(j->k, it->cut, t), rows = mb_cut_begin(j->k, it->cut, t + 1) - r0;
            struct mb_tile tile = {
                .x = it->packed + (r0 * blocks + b * rows) * row_bytes,
                .w = data + p * w_panel,
                .w_panel = w_panel,
                .ahead = t == 0 && !stored && !(rows == 1 && w->desc.dtype == MB_F32) ? AHEAD : 0, /* measured */
                .c = sum + (p * it->padded + r0) * MB_PANEL,
                .c_panel = it->padded * MB_PANEL,
                .blocks = e - b,
                .panels = (int32_t)min64(step, it->panels - p),
                .rows = (int32_t)rows,
                .add = add,
            };
            j->k->fn[w->desc.dtype](&tile);
        }
}

static void add_sums(float *left, const float *right, int64_t n)
{
    for (int64_t i = 0; i < n; i += MB_PANEL)
        for (int64_t c = 0; c < MB_PANEL; c++)
            left[i + c] = left[i + c] + right[i + c];
}

/* The tree over the leaves, as a stack of finished nodes: a new leaf closes the nodes whose right half it
 * ends. */
static void run_leaves(const struct item *it, float *sums)
{
    const struct mb_weight *w = it->j->g->w;
    int64_t size = it->panels * it->padded * MB_PANEL,
            chunk = chunk_of(it->j, it->rows);
    int32_t top = 0;
    for (int32_t l = 0; l < w->desc.leaves; l++) {
        for (int64_t b = w->block[l]; b < w->block[l + 1]; b += chunk)
            run_blocks(it, sums + top * size, b, min64(b + chunk, w->block[l + 1]), b > w->block[l]);
        top++;
        for (int32_t i = l + 1; i % 2 == 0; i /= 2, top--)
            add_sums(sums + (top - 2) * size, sums + (top - 1) * size, size);
    }
    for (; top > 1; top--)
        add_sums(sums + (top - 2) * size, sums + (top - 1) * size, size);
}

static void store(const struct gemm *m, const struct item *it, const float *sum)
{
    const struct mb_gemm_group *g = it->j->g;
    const float *bias = mb_has_view(g->bias) ? mb_row_f32(g->bias, 0) : NULL;
    for (int64_t r = 0; r < it->rows; r++)
        for (int64_t p = 0; p < it->panels; p++) {
            int64_t col = (it->panel + p) * MB_PANEL, n = min64(MB_PANEL, g->w->desc.n - col);
            const float *c = sum + (p * it->padded + r) * MB_PANEL;
            float v[MB_PANEL];
            for (int64_t i = 0; i < n; i++)
                v[i] = bias != NULL ? c[i] + bias[col + i] : c[i];
            mb_store_row(m->out, g->row0 + it->j->row + it->row + r, g->out_col + col, v, n);
        }
}

/* Inside a job the row blocks of a set follow each other, so that they find its panels in a cache. */
static void run_item(const struct gemm *m, const struct job *j, int64_t i, float *sums, unsigned char *unpacked)
{
    const struct mb_weight *w = j->g->w;
    struct item it = {.j = j, .row = i % j->row_blocks * ROW_BLOCK, .panel = i / j->row_blocks * j->set,
                      .unpacked = unpacked};
    it.rows = min64(ROW_BLOCK, j->rows - it.row);
    it.cut = mb_cut_rows(j->k, it.rows);
    it.padded = it.cut.steps * j->k->row_step;
    it.panels = min64(j->set, w->panels - it.panel);
    it.packed = m->packed + j->packed + it.row * w->block[w->desc.leaves] * mb_packed_block(j->k);
    run_leaves(&it, sums);
    store(m, &it, sums);
}

void mb_cpu_look(struct mb_stream *s)
{
    double now = mb_now();

    if (s->meanwhile == NULL || now - s->polled < POLL_SECONDS)
        return;
    s->meanwhile(s->meanwhile_arg);
    s->polled = now;
}

static void run_items(void *arg, int64_t begin, int64_t end, int32_t thread)
{
    const struct gemm *m = arg;
    float *sums = (float *)(void *)(m->sums + (uint64_t)thread * m->sum_bytes);
    unsigned char *unpacked = m->unpacked + (uint64_t)thread * m->unpacked_bytes;
    const struct mb_tile_kernels *on = NULL;
    int32_t j = 0;
    for (int64_t i = begin; i < end; i++) {
        while (j + 1 < m->jobs && m->job[j + 1].item0 <= i)
            j++;
        if (on != m->job[j].k) {
            if (on != NULL)
                on->end();
            on = m->job[j].k;
            on->begin();
        }
        run_item(m, &m->job[j], i - m->job[j].item0, sums, unpacked);
        if (thread == 0)
            mb_cpu_look(m->s);
    }
    if (on != NULL)
        on->end();
}

/* ---------------------------------------------------------------- the operation */
static enum mb_status run_pass(struct mb_stream *s, struct gemm *m, int64_t products)
{
    const struct mb_device *dev = s->dev;
    if (m->jobs == 0)
        return MB_OK;
    uint64_t packed = (m->packed_bytes + 63) / 64 * 64;
    uint64_t sums = m->sum_bytes * (uint64_t)dev->threads;
    m->packed = mb_cpu_scratch(s, packed + sums + m->unpacked_bytes * (uint64_t)dev->threads);
    if (m->packed == NULL)
        return MB_NO_MEMORY;
    m->sums = m->packed + packed;
    m->unpacked = m->sums + sums;
    mb_cpu_run(dev, m->tiles, packed < SMALL * sizeof(float) ? m->tiles : 1, pack_tiles, m);
    int64_t grain = min64(m->items / (4 * dev->threads), 8);
    mb_cpu_run(dev, m->items, products < SMALL ? m->items : grain < 1 ? 1 : grain, run_items, m);
    return MB_OK;
}

enum mb_status mb_cpu_gemm(struct mb_stream *s, struct mb_view out, struct mb_view x,
                           const struct mb_gemm_group *groups, int32_t n_groups)
{
    MB_TRY(mb_want_float("gemm", "x", x, -1, -1));
    MB_TRY(mb_want_float("gemm", "out", out, -1, -1));
    int64_t products = 0;
    int32_t s8 = 0;
    for (int32_t i = 0; i < n_groups; i++) {
        MB_TRY(check_group(&groups[i], out, x));
        s8 += mb_weight_s8(groups[i].w);
        products += groups[i].rows * groups[i].w->desc.n * groups[i].w->desc.k;
    }
    if (n_groups < 1)
        return MB_OK;
    if (s8 != 0)
        return s8 == n_groups ? mb_cpu_gemm_s8(s, out, x, groups, n_groups)
                              : mb_error(MB_BUG, "gemm: %d of %d weights are of signed bytes", s8, n_groups);
    struct gemm m = {.s = s, .out = out, .x = x};
    m.job = mb_alloc(s->dev->mem, MB_MEM_OTHER, (size_t)n_groups, sizeof *m.job);
    if (m.job == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a GEMM of %d groups", n_groups);
    enum mb_status st = MB_OK;
    int32_t next = 0;
    int64_t row = 0;
    while (st == MB_OK && next < n_groups) {
        fill_pass(&m, s->dev, groups, n_groups, &next, &row);
        st = run_pass(s, &m, products);
    }
    mb_free(m.job);
    return st;
}
