/* The weight files of a quantised directory: a header, then tensor by tensor, some rows at a time. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/publish.h"
#include "model/quantise_impl.h"

#define CHUNK ((int64_t)4 << 20) /* numbers at a time */
#define PIECE ((size_t)8 << 20)  /* bytes that are copied at a time */

/* A tensor of a file that is to be written. */
struct piece {
    int64_t entry;
    int32_t which; /* 0: codes, or what is copied or widened; 1: scales; 2: shape */
    const char *suffix, *dtype;
    int rank, size; /* size: bytes of an element */
    int64_t shape[MB_ST_MAX_RANK];
    uint64_t bytes;
};

struct writer {
    const struct mb_quantise_options *o;
    struct mb_recasts *p;
    struct mb_quantise_result *out;
    struct mb_reader *reader;
    struct mb_sums *sums;
    struct piece *pieces;
    int64_t n_pieces;
    int fd;     /* of the file that is written */
    char *path; /* its */
    float *w;
    uint8_t *codes, *scales, *copy;
    json_t *index; /* weight_map */
    uint64_t total;
};

/* ---------------------------------------------------------------- which tensors */
static int size_of(const char *dtype)
{
    int bits = 0;
    const char *digits = strpbrk(dtype, "0123456789");

    if (strcmp(dtype, "BOOL") == 0)
        return 1;
    bits = digits != NULL ? atoi(digits) : 8;
    return bits >= 8 ? bits / 8 : 1;
}

static void add(struct writer *w, int64_t entry, int32_t which, const char *suffix, const char *dtype,
                int rank, const int64_t *shape)
{
    struct piece *p = w->pieces + w->n_pieces++;

    *p = (struct piece){.entry = entry,
                        .which = which,
                        .suffix = suffix,
                        .dtype = dtype,
                        .rank = rank,
                        .size = size_of(dtype)};
    p->bytes = (uint64_t)p->size;
    for (int i = 0; i < rank; i++) {
        p->shape[i] = shape[i];
        p->bytes *= (uint64_t)shape[i];
    }
}

static int64_t up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static void add_codes(struct writer *w, int64_t entry, const struct mb_tensor *t)
{
    const struct mb_quantiser *q = &w->o->q;
    int64_t row = mb_quantised_row(q, t->k), groups = up(t->k, mb_quantised_columns(q, t->k));

    switch (q->to) {
    case MB_QUANTISED_FP8:
        add(w, entry, 0, ".weight", "F8_E4M3", 2, (int64_t[]){t->n, t->k});
        add(w, entry, 1, ".weight_scale_inv", "F32", 2, (int64_t[]){up(t->n, MB_FP8_BLOCK), groups});
        return;
    case MB_QUANTISED_MXFP4:
        add(w, entry, 0, ".weight_packed", "U8", 2, (int64_t[]){t->n, row});
        add(w, entry, 1, ".weight_scale", "U8", 2, (int64_t[]){t->n, groups});
        return;
    default:
        add(w, entry, 0, ".weight_packed", "I32", 2, (int64_t[]){t->n, row / 4});
        add(w, entry, 1, ".weight_scale", "BF16", 2, (int64_t[]){t->n, groups});
        add(w, entry, 2, ".weight_shape", "I64", 1, (int64_t[]){2});
    }
}

static void add_entry(struct writer *w, int64_t i)
{
    const struct mb_recast *e = w->p->v + i;
    const struct mb_st_entry *s = w->p->s.entries + i;
    const struct mb_tensor *t = e->count > 0 ? w->p->m->tensors + w->p->by_entry[e->first] : NULL;
    int64_t rows;

    switch ((enum mb_fate)e->fate) {
    case MB_FATE_COPY:
        add(w, i, 0, NULL, mb_st_dtype_name(s->dtype), s->rank, s->shape);
        w->pieces[w->n_pieces - 1].bytes = s->bytes;
        return;
    case MB_FATE_DROP:
        return;
    case MB_FATE_CODES:
        add_codes(w, i, t);
        return;
    case MB_FATE_STACK:
        rows = mb_recast_expert_rows(w->p, e);
        add(w, i, 0, "_blocks", "U8", 4, (int64_t[]){w->p->m->router.experts, rows, t->k / 32, 16});
        add(w, i, 1, "_scales", "U8", 3, (int64_t[]){w->p->m->router.experts, rows, t->k / 32});
        return;
    case MB_FATE_WIDEN:
        add(w, i, 0, ".weight", "BF16", 2, (int64_t[]){t->n, t->k});
    }
}

static int by_size(const void *pa, const void *pb)
{
    const struct piece *a = pa, *b = pb;

    if (a->size != b->size)
        return a->size > b->size ? -1 : 1;
    if (a->entry != b->entry)
        return a->entry < b->entry ? -1 : 1;
    return a->which - b->which;
}

/* ---------------------------------------------------------------- the header */
static json_t *describe(const struct piece *p, uint64_t at)
{
    json_t *shape = json_array();

    for (int i = 0; i < p->rank; i++)
        (void)json_array_append_new(shape, json_integer((json_int_t)p->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", p->dtype, "shape", shape, "data_offsets",
                     (json_int_t)at, (json_int_t)(at + p->bytes));
}

/* The header's text (malloc'd), and what begins where behind it; data: bytes of all. NULL without memory. */
static char *header(struct writer *w, int32_t file, uint64_t *data)
{
    json_t *o = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    bool bad = o == NULL;
    uint64_t at = 0;

    for (int64_t i = 0; i < w->n_pieces && !bad; i++) {
        const struct piece *p = w->pieces + i;
        const char *old = mb_st_name(&w->p->s, w->p->s.entries + p->entry);
        char name[MB_ST_MAX_NAME + 32];
        if (p->suffix == NULL)
            snprintf(name, sizeof name, "%s", old);
        else
            snprintf(name, sizeof name, "%.*s%s", (int)w->p->v[p->entry].module, old, p->suffix);
        json_t *d = describe(p, at);
        bad = d == NULL || json_object_set_new(o, name, d) != 0 ||
              json_object_set_new(w->index, name, json_string(w->p->s.files[file])) != 0;
        w->p->v[p->entry].at[p->which] = at;
        at += p->bytes;
    }
    char *text = bad ? NULL : json_dumps(o, JSON_COMPACT);
    json_decref(o);
    *data = at;
    return text;
}

static enum mb_status write_header(struct writer *w, int32_t file)
{
    uint64_t data = 0;
    char *text = header(w, file, &data);
    size_t n = text != NULL ? strlen(text) : 0, all = (n + 7) / 8 * 8;
    uint8_t *raw = text != NULL ? malloc(8 + all) : NULL;

    if (raw == NULL) {
        free(text);
        return mb_error(MB_NO_MEMORY, "no memory for the header of %s", w->path);
    }
    for (int i = 0; i < 8; i++)
        raw[i] = (uint8_t)((uint64_t)all >> (8 * i));
    memcpy(raw + 8, text, n);
    memset(raw + 8 + n, ' ', all - n);
    enum mb_status st = mb_pwrite_all(w->fd, raw, 8 + all, 0, w->path);
    free(text);
    free(raw);
    for (int64_t i = 0; i < w->n_pieces; i++)
        w->p->v[w->pieces[i].entry].at[w->pieces[i].which] += 8 + all;
    w->total += data;
    w->out->bytes_after += 8 + all + data;
    return st;
}

/* ---------------------------------------------------------------- contents */
static enum mb_status stopped(void)
{
    return mb_error(MB_STOP, "asked to stop: what was half written is removed");
}

static enum mb_status copy_entry(struct writer *w, int64_t i)
{
    const struct mb_st_entry *s = w->p->s.entries + i;
    char *path = mb_path_join(w->p->s.dir, w->p->s.files[s->file]);
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path")
                        : fd < 0     ? mb_error(MB_IO, "%s: %s", path, strerror(errno))
                                     : MB_OK;

    for (uint64_t at = 0; st == MB_OK && at < s->bytes; at += PIECE) {
        size_t n = s->bytes - at < PIECE ? (size_t)(s->bytes - at) : PIECE;
        st = mb_recast_stop(w->o, stopped);
        if (st == MB_OK)
            st = mb_pread_all(fd, w->copy, n, s->offset + at, path, MB_MODEL);
        if (st == MB_OK)
            st = mb_pwrite_all(w->fd, w->copy, n, w->p->v[i].at[0] + at, w->path);
    }
    if (fd >= 0)
        close(fd);
    free(path);
    return st;
}

/* Rows at a time: whole blocks of FP8. */
static int64_t rows_of(int64_t k)
{
    int64_t n = CHUNK / k / MB_FP8_BLOCK * MB_FP8_BLOCK;
    return n > 0 ? n : MB_FP8_BLOCK;
}

static enum mb_status take_rows(struct writer *w, const struct mb_tensor *t, int64_t n0, int64_t n)
{
    struct mb_host_matrix h;

    MB_TRY(mb_recast_stop(w->o, stopped));
    MB_TRY(mb_reader_rows(w->reader, t, n0, n, &h));
    mb_host_to_f32(&h, w->w);
    return MB_OK;
}

/* n rows of `bytes` each, `step` rows apart in the file. */
static enum mb_status put_rows(struct writer *w, const uint8_t *rows, int64_t n, int64_t bytes, uint64_t at,
                               int64_t step)
{
    if (step == 1)
        return mb_pwrite_all(w->fd, rows, (size_t)(n * bytes), at, w->path);
    for (int64_t i = 0; i < n; i++)
        MB_TRY(mb_pwrite_all(w->fd, rows + i * bytes, (size_t)bytes, at + (uint64_t)(i * step * bytes),
                             w->path));
    return MB_OK;
}

static enum mb_status quantise(struct writer *w, int64_t i, const struct mb_tensor *t, struct mb_loss *loss)
{
    const struct mb_recast *e = w->p->v + i;
    const struct mb_quantiser *q = &w->o->q;
    int64_t row = mb_quantised_row(q, t->k), cells = mb_quantised_scales(q, t->k), row0 = 0, step = 1,
            piece = rows_of(t->k);
    int64_t per = q->to == MB_QUANTISED_FP8 ? MB_FP8_BLOCK : 1; /* rows that share scales */

    if (e->fate == MB_FATE_STACK)
        mb_recast_rows(w->p, e, t, &row0, &step);
    for (int64_t n0 = 0; n0 < t->n; n0 += piece) {
        int64_t n = t->n - n0 < piece ? t->n - n0 : piece;
        MB_TRY(take_rows(w, t, n0, n));
        mb_quantise(q, w->w, n, t->k, w->codes, w->scales, loss);
        if (loss->bad > 0)
            return mb_error(MB_MODEL,
                            "%s: %s: %lld weights are not finite; moebatch check -m names all such tensors",
                            w->p->s.dir, mb_st_name(&w->p->s, w->p->s.entries + i), (long long)loss->bad);
        MB_TRY(put_rows(w, w->codes, n, row, e->at[0] + (uint64_t)((row0 + n0 * step) * row), step));
        MB_TRY(put_rows(w, w->scales, up(n, per), cells,
                        e->at[1] + (uint64_t)((row0 + n0 / per * step) * cells), step));
    }
    return MB_OK;
}

static enum mb_status widen(struct writer *w, int64_t i, const struct mb_tensor *t)
{
    int64_t piece = rows_of(t->k);

    for (int64_t n0 = 0; n0 < t->n; n0 += piece) {
        int64_t n = t->n - n0 < piece ? t->n - n0 : piece;
        uint16_t *to = (uint16_t *)(void *)w->w; /* a number is read before its half is written */
        MB_TRY(take_rows(w, t, n0, n));
        for (int64_t j = 0; j < n * t->k; j++) {
            uint16_t half = mb_bf16_of(w->w[j]);
            memcpy(to + j, &half, sizeof half);
        }
        MB_TRY(mb_pwrite_all(w->fd, to, (size_t)(2 * n * t->k), w->p->v[i].at[0] + (uint64_t)(2 * n0 * t->k),
                             w->path));
    }
    return MB_OK;
}

static enum mb_status note_tensor(struct writer *w, int64_t i, const struct mb_tensor *t,
                                  const struct mb_loss *loss)
{
    struct mb_quantised_tensor *to = w->out->tensors + w->out->n_tensors;

    *to = (struct mb_quantised_tensor){
        .role = t->role, .layer = t->layer, .expert = t->expert, .n = t->n, .k = t->k, .loss = *loss};
    to->name = mb_recast_module(w->p, i);
    if (to->name == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a name");
    w->out->n_tensors++;
    return MB_OK;
}

static enum mb_status write_entry(struct writer *w, int64_t i)
{
    const struct mb_recast *e = w->p->v + i;

    if (e->fate == MB_FATE_COPY)
        return copy_entry(w, i);
    for (int64_t j = 0; j < e->count; j++) {
        const struct mb_tensor *t = w->p->m->tensors + w->p->by_entry[e->first + j];
        struct mb_loss loss = {0};
        if (e->fate == MB_FATE_WIDEN)
            return widen(w, i, t);
        MB_TRY(quantise(w, i, t, &loss));
        MB_TRY(note_tensor(w, i, t, &loss));
        if (e->at[2] > 0) {
            const int64_t shape[2] = {t->n, t->k};
            MB_TRY(mb_pwrite_all(w->fd, shape, sizeof shape, e->at[2], w->path));
        }
    }
    return MB_OK;
}

/* ---------------------------------------------------------------- files */
static enum mb_status write_file(struct writer *w, int32_t file)
{
    const struct mb_shards *s = &w->p->s;
    enum mb_status st;

    w->n_pieces = 0;
    for (int64_t i = 0; i < s->n_entries; i++)
        if (s->entries[i].file == (uint32_t)file)
            add_entry(w, i);
    qsort(w->pieces, (size_t)w->n_pieces, sizeof *w->pieces, by_size);
    w->fd = open(w->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (w->fd < 0)
        return mb_file_error(errno, w->path, "open");
    st = write_header(w, file);
    for (int64_t i = 0; i < s->n_entries && st == MB_OK; i++)
        if (s->entries[i].file == (uint32_t)file && w->p->v[i].fate != MB_FATE_DROP)
            st = write_entry(w, i);
    if (st == MB_OK)
        st = mb_sync_file(w->fd, w->path);
    if (close(w->fd) != 0 && st == MB_OK)
        st = mb_file_error(errno, w->path, "close");
    w->fd = -1;
    return st;
}

/* What was not read for quantising is read now: the hashes are of whole files. */
static enum mb_status hash_sources(struct writer *w)
{
    int64_t n = 0, *blocks = mb_sums_blocks(w->sums, &n);
    const struct mb_model *m = w->p->m;

    for (int64_t i = 0; i < n; i++) {
        MB_TRY(mb_recast_stop(w->o, stopped));
        if (blocks[i] == MB_SUM_UNKNOWN)
            MB_TRY(mb_sums_read(w->sums, i));
    }
    for (int32_t f = 0; f < m->n_files; f++) {
        struct mb_hash128 h = mb_sums_file(w->sums, f);
        MB_TRY(mb_files_put(&w->out->files, m->files[f], m->file_bytes[f], &h));
        w->out->bytes_before += m->file_bytes[f];
    }
    return MB_OK;
}

static enum mb_status write_index(struct writer *w)
{
    json_t *o =
        json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)w->total, "weight_map", w->index);
    char *text = o != NULL ? json_dumps(o, JSON_INDENT(2)) : NULL,
         *path = mb_path_join(w->o->to, "model.safetensors.index.json");
    enum mb_status st = text == NULL || path == NULL ? mb_error(MB_NO_MEMORY, "no memory for an index")
                                                     : mb_publish_bytes(path, text, strlen(text), 0);

    json_decref(o);
    free(text);
    free(path);
    return st;
}

static enum mb_status make_room(struct writer *w)
{
    const struct mb_model *m = w->p->m;
    int64_t numbers = 1, codes = 1, scales = 1;

    for (int64_t i = 0; i < m->n_tensors; i++) {
        const struct mb_tensor *t = m->tensors + i;
        int64_t n = rows_of(t->k) < t->n ? rows_of(t->k) : t->n;
        numbers = n * t->k > numbers ? n * t->k : numbers;
        codes = n * mb_quantised_row(&w->o->q, t->k) > codes ? n * mb_quantised_row(&w->o->q, t->k) : codes;
        scales = n * mb_quantised_scales(&w->o->q, t->k) > scales ? n * mb_quantised_scales(&w->o->q, t->k)
                                                                  : scales;
    }
    w->w = mb_alloc(w->o->mem, MB_MEM_STAGING, (size_t)numbers, sizeof *w->w);
    w->codes = mb_alloc(w->o->mem, MB_MEM_STAGING, (size_t)codes, 1);
    w->scales = mb_alloc(w->o->mem, MB_MEM_STAGING, (size_t)scales, 1);
    w->copy = mb_alloc(w->o->mem, MB_MEM_STAGING, PIECE, 1);
    w->pieces = calloc(3 * (size_t)w->p->s.n_entries + 1, sizeof *w->pieces);
    w->out->tensors = calloc((size_t)m->n_tensors + 1, sizeof *w->out->tensors);
    w->index = json_object();
    if (w->w == NULL || w->codes == NULL || w->scales == NULL || w->copy == NULL || w->pieces == NULL ||
        w->out->tensors == NULL || w->index == NULL)
        return mb_error(MB_NO_MEMORY, "no memory to quantise");
    MB_TRY(mb_sums_create(m, &w->sums));
    MB_TRY(mb_reader_create(m, w->o->mem, &w->reader));
    mb_reader_sums(w->reader, w->sums);
    return MB_OK;
}

enum mb_status mb_recasts_write(const struct mb_quantise_options *o, struct mb_recasts *p,
                                struct mb_quantise_result *out)
{
    struct writer w = {.o = o, .p = p, .out = out, .fd = -1};
    uint32_t mode = mb_fp_enter(); /* values as whoever reads them computes them */
    enum mb_status st = make_room(&w);

    for (int32_t f = 0; f < p->s.n_files && st == MB_OK; f++) {
        w.path = mb_path_join(o->to, p->s.files[f]);
        st = w.path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : write_file(&w, f);
        free(w.path);
        if (st == MB_OK && p->s.n_files > 1)
            mb_info("file %d of %d: %s", f + 1, p->s.n_files, p->s.files[f]);
    }
    if (st == MB_OK)
        st = hash_sources(&w);
    if (st == MB_OK && strcmp(p->s.files[0], "model.safetensors") != 0)
        st = write_index(&w);
    mb_fp_restore(mode);
    mb_reader_destroy(w.reader);
    mb_sums_destroy(w.sums);
    mb_free(w.w);
    mb_free(w.codes);
    mb_free(w.scales);
    mb_free(w.copy);
    free(w.pieces);
    json_decref(w.index);
    return st;
}
