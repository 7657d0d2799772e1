#include <math.h>
#include <string.h>
#include "base/log.h"
#include "io/asm.h"
#include "io/results.h"
#include "io/schema.h"

/* One kind under way: own bulk rows are written in order, a window a round. */
struct walk {
    enum mb_bulk_kind kind;
    uint64_t row_bytes;
    bool one_per_row; /* --save-logits=last: a row of logits for every row of the results */
    bool by_layer;    /* the dataset is [layers, rows, k] */
    uint64_t written; /* own rows that are written */
    int64_t entry;    /* the entry under way, and how far in it we are */
    int64_t in_entry;
    uint64_t cap; /* rows of a window */
    uint8_t *buf, *turned;
};

static int64_t rows_of(const struct walk *w, const struct mb_row_entry *e)
{
    return w->one_per_row ? 1 : e->n_rows;
}

/* The next window of own rows: *n of them in w->buf, row after row. */
static enum mb_status load(struct mb_asm *a, struct walk *w, uint64_t *n)
{
    *n = 0;
    while (*n < w->cap && w->entry < a->n) {
        const struct mb_row_entry *e = &a->e[w->entry];
        int64_t left = rows_of(w, e) - w->in_entry;
        int64_t take = left < (int64_t)(w->cap - *n) ? left : (int64_t)(w->cap - *n);
        uint8_t *dst = w->buf + *n * w->row_bytes;
        bool absent = true;
        if (take > 0 && e->n_rows > 0)
            MB_TRY(a->rows->ops->bulk(a->rows, e, w->kind, w->row_bytes, w->in_entry, take, dst, &absent));
        if (absent && take > 0) {
            if (!w->one_per_row)
                return mb_error(MB_CORRUPT, "line %llu has no %s although they were to be saved",
                                (unsigned long long)e->line + 1, mb_bulk_name(w->kind));
            for (uint64_t i = 0; i < w->row_bytes / 4; i++) /* an error row: nothing to show */
                memcpy(dst + 4 * i, &(uint32_t){mb_fill_bits(MB_FILL_NAN)}, 4);
        }
        *n += (uint64_t)take;
        w->in_entry += take;
        if (w->in_entry == rows_of(w, e)) {
            w->entry++;
            w->in_entry = 0;
        }
    }
    return MB_OK;
}

/* [rows][layers][k] -> [layers][rows][k] */
static void turn(const struct mb_shape *s, const struct walk *w, uint64_t n)
{
    uint64_t layers = (uint64_t)s->n_layers, piece = w->row_bytes / layers;
    for (uint64_t i = 0; i < n; i++) {
        for (uint64_t l = 0; l < layers; l++)
            memcpy(w->turned + (l * n + i) * piece, w->buf + (i * layers + l) * piece, (size_t)piece);
    }
}

static enum mb_status write_window(struct mb_asm *a, struct walk *w, struct mb_h5_set *s, uint64_t n)
{
    uint64_t at = (w->one_per_row ? a->base.rows : a->base.bulk) + w->written;
    uint64_t start[3] = {0, 0, 0}, count[3];
    if (s == NULL)
        return MB_OK;
    if (w->by_layer)
        turn(a->shape, w, n);
    for (int i = 0; i < s->rank; i++)
        count[i] = s->dims[i];
    start[w->by_layer] = at;
    count[w->by_layer] = n;
    w->written += n;
    return mb_h5_write(s, start, count, w->by_layer ? w->turned : w->buf);
}

static enum mb_status one_round(struct mb_asm *a, struct walk *w, struct mb_h5_set *s, bool *more)
{
    uint64_t n = 0;
    enum mb_status st = load(a, w, &n);
    int64_t left = (int64_t)n;
    st = mb_asm_round(a, st, &left, mb_bulk_name(w->kind), w->entry, a->n);
    *more = st == MB_OK && left > 0;
    if (!*more)
        return st;
    mb_group_watch(&a->g, "writing routing or logits (HDF5)");
    st = write_window(a, w, s, n);
    mb_group_watch_end(&a->g);
    return mb_group_agree(&a->g, st, "assembly of bulk data");
}

static enum mb_status make(struct mb_asm *a, struct mb_h5 *h, const struct walk *w, struct mb_h5_set **out)
{
    const struct mb_shape *s = a->shape;
    uint64_t rows = w->one_per_row ? a->all.rows : a->all.bulk;
    if (h == NULL)
        return MB_OK; /* rank 0 alone writes */
    const struct mb_dataset *d = mb_dataset(mb_bulk_sets[w->kind]);
    uint64_t k = (uint64_t)s->k, v = (uint64_t)s->vocab, H = (uint64_t)s->hidden_size;
    if (w->by_layer) {
        uint64_t dims[3] = {(uint64_t)s->n_layers, rows, k}, chunk[3] = {1, 32768 / (k + 1) + 1, k};
        return mb_h5_make(h, d->path, d->type, d->rank, dims, chunk, out);
    }
    if (w->kind == MB_BULK_HIDDEN) {
        uint64_t dims[3] = {rows, (uint64_t)s->hidden_rows, H}, chunk[3] = {65536 / (H + 1) + 1, 1, H};
        return mb_h5_make(h, d->path, d->type, d->rank, dims, chunk, out);
    }
    uint64_t dims[2] = {rows, v}, chunk[2] = {262144 / (v + 1) + 1, v};
    return mb_h5_make(h, d->path, d->type, d->rank, dims, chunk, out);
}

static enum mb_status write_kind(struct mb_asm *a, struct mb_h5 *h, enum mb_bulk_kind kind)
{
    struct walk w = {.kind = kind, .row_bytes = mb_shape_row_bytes(a->shape, kind)};
    struct mb_h5_set *s = NULL;
    if (w.row_bytes == 0)
        return MB_OK;
    w.one_per_row = kind == MB_BULK_LOGITS && a->shape->logits_last;
    w.by_layer = mb_dataset(mb_bulk_sets[kind])->along == 1;
    w.cap = a->round_bytes / w.row_bytes + 1;
    w.buf = mb_alloc(a->mem, MB_MEM_STAGING, (size_t)w.cap, (size_t)w.row_bytes);
    w.turned = w.by_layer ? mb_alloc(a->mem, MB_MEM_STAGING, (size_t)w.cap, (size_t)w.row_bytes) : NULL;
    enum mb_status st = w.buf == NULL || (w.by_layer && w.turned == NULL)
                            ? mb_error(MB_NO_MEMORY, "no memory for a round of %s", mb_bulk_name(kind))
                            : MB_OK;
    st = mb_group_agree(&a->g, st, "assembly of bulk data");
    if (st == MB_OK)
        st = mb_group_agree(&a->g, make(a, h, &w, &s), "making datasets");
    for (bool more = true; st == MB_OK && more;)
        st = one_round(a, &w, s, &more);
    mb_h5_set_close(s);
    mb_free(w.buf);
    mb_free(w.turned);
    return st;
}

enum mb_status mb_asm_bulk(struct mb_asm *a, struct mb_h5 *h)
{
    for (int kind = 0; kind < MB_BULK_COUNT; kind++)
        MB_TRY(write_kind(a, h, (enum mb_bulk_kind)kind));
    return MB_OK;
}
