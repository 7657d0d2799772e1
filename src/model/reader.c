#include "model/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/log.h"
#include "model/random.h"

#define ALIGN MB_SUM_BLOCK /* reads begin and end with whole blocks, so that they can be hashed */
#define WINDOW_MIN (4u << 20)  /* small tensors lie side by side: one read serves many */
#define PREAD_MAX (64u << 20)
#define N_FDS 32

/* A piece of one file in memory. */
struct window {
    int32_t file; /* -1: nothing */
    uint64_t off, len;
    uint8_t *buf;
    size_t cap;
    uint8_t *shifted; /* copy of a piece whose place in the file is not a multiple of its element size */
    size_t shifted_cap;
};

/* What packed weights take: the parts that stay whole while rows are read, and rows as a blob. */
struct unpack {
    uint8_t *zero, *g_idx, *rows;
    size_t zero_cap, g_idx_cap, rows_cap;
};

struct mb_reader {
    const struct mb_model *m;
    struct mb_mem *mem;
    struct {
        int32_t file;
        int fd;
    } fds[N_FDS];
    struct window data, scale;
    struct unpack u;
    uint8_t *wide; /* scales of another type as f32 */
    size_t wide_cap;
    struct mb_sums *sums; /* borrowed; NULL: nothing is hashed */
    uint64_t bytes;
};

enum mb_status mb_reader_create(const struct mb_model *m, struct mb_mem *mem, struct mb_reader **out)
{
    struct mb_reader *r;

    if (m->n_files == 0 && !m->random)
        return mb_error(MB_MODEL, "%s: expected a model directory, found a config.json alone; there are no weights to read", m->dir);
    r = calloc(1, sizeof *r);
    if (r == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a reader");
    r->m = m;
    r->mem = mem;
    r->data.file = r->scale.file = -1;
    for (int i = 0; i < N_FDS; i++)
        r->fds[i].fd = -1;
    *out = r;
    return MB_OK;
}

void mb_reader_destroy(struct mb_reader *r)
{
    if (r == NULL)
        return;
    for (int i = 0; i < N_FDS; i++)
        if (r->fds[i].fd >= 0)
            close(r->fds[i].fd);
    mb_free(r->data.buf);
    mb_free(r->data.shifted);
    mb_free(r->scale.buf);
    mb_free(r->scale.shifted);
    mb_free(r->u.zero);
    mb_free(r->u.g_idx);
    mb_free(r->u.rows);
    mb_free(r->wide);
    free(r);
}

void mb_reader_sums(struct mb_reader *r, struct mb_sums *sums)
{
    r->sums = sums;
}

uint64_t mb_reader_bytes(const struct mb_reader *r)
{
    return r->bytes;
}

static enum mb_status open_file(const struct mb_reader *r, int32_t file, const char *path, int *out)
{
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return mb_error(MB_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &sb) != 0 || (uint64_t)sb.st_size != r->m->file_bytes[file]) {
        close(fd);
        return mb_error(MB_MODEL, "%s: size: expected %llu bytes as at the start of the job, found %lld", path,
                        (unsigned long long)r->m->file_bytes[file], (long long)sb.st_size);
    }
    *out = fd;
    return MB_OK;
}

/* Few files stay open: a model may have more shards than a process may have descriptors. */
static enum mb_status get_fd(struct mb_reader *r, int32_t file, const char *path, int *out)
{
    int slot = file % N_FDS;

    if (r->fds[slot].fd < 0 || r->fds[slot].file != file) {
        int fd = -1;
        MB_TRY(open_file(r, file, path, &fd));
        if (r->fds[slot].fd >= 0)
            close(r->fds[slot].fd);
        r->fds[slot].fd = fd;
        r->fds[slot].file = file;
    }
    *out = r->fds[slot].fd;
    return MB_OK;
}

static enum mb_status reserve(struct mb_reader *r, uint8_t **buf, size_t *cap, size_t need)
{
    if (need <= *cap)
        return MB_OK;
    mb_free(*buf);
    *cap = 0;
    *buf = mb_alloc(r->mem, MB_MEM_STAGING, need, 1);
    if (*buf == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for reading %zu bytes of a tensor", need);
    *cap = need;
    return MB_OK;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t largest_file(const struct mb_model *m)
{
    uint64_t n = m->n_files > 0 ? 0 : INT64_MAX; /* a model known by its shapes alone may have any */

    for (int32_t i = 0; i < m->n_files; i++)
        n = m->file_bytes[i] > n ? m->file_bytes[i] : n;
    return n > INT64_MAX ? INT64_MAX : (int64_t)n;
}

/* What the packed weights take beside a window, for chunks of `elements` values. */
struct packed_sizes {
    int64_t code, scale, zero, g_idx, rows;
};

static void packed_sizes_of(const struct mb_model *m, int64_t elements, struct packed_sizes *z)
{
    *z = (struct packed_sizes){0};
    for (int64_t i = 0; i < m->n_packed; i++) {
        const struct mb_packed *p = m->packed + i;
        int64_t n = least(p->n, most(1, elements / p->k));
        uint64_t off, bytes;
        mb_packed_codes(p, 0, n, &off, &bytes);
        z->code = most(z->code, (int64_t)bytes);
        mb_packed_scales(p, 0, n, &off, &bytes);
        z->scale = most(z->scale, most((int64_t)bytes, most((int64_t)p->zero.bytes, (int64_t)p->g_idx.bytes)));
        z->zero = most(z->zero, (int64_t)p->zero.bytes);
        z->g_idx = most(z->g_idx, (int64_t)p->g_idx.bytes);
        z->rows = most(z->rows, mb_packed_blob(p, n));
    }
    z->code += z->code > 0 ? 2 * (int64_t)ALIGN : 0;
    z->scale = z->scale > 0 ? least(most(z->scale + 2 * (int64_t)ALIGN, WINDOW_MIN), largest_file(m)) : 0;
}

/* f32 room for the largest scales that are stored in another type. */
static int64_t wide_scales(const struct mb_model *m)
{
    int64_t n = 0;

    for (int64_t i = 0; i < m->n_tensors; i++) {
        const struct mb_tensor *t = m->tensors + i;
        if (t->scale_bytes > 0 && t->scale_storage != MB_STORE_F32)
            n = most(n, 4 * (int64_t)(t->scale_bytes / (uint64_t)mb_storage_size((enum mb_storage)t->scale_storage)));
    }
    return n;
}

/* Bytes of a chunk of `elements` as a blob. */
static int64_t largest_blob(const struct mb_model *m, int64_t elements)
{
    int64_t bytes = 0;

    for (int64_t i = 0; i < m->n_tensors; i++) {
        const struct mb_tensor *t = m->tensors + i;
        struct mb_form f = mb_model_form(m, t, 0);
        if (mb_form_stored(&f))
            bytes = most(bytes, mb_form_blob(&f, least(t->n, most(1, elements / t->k)), t->k).bytes);
    }
    return bytes;
}

/* Shapes of a hostile model are limits only: what does not fit a chunk is read in several. */
void mb_load_sizes_of(const struct mb_model *m, struct mb_load_sizes *out)
{
    int64_t wide = most(most(m->ffn, m->expert_ffn), m->shared_ffn), chunk = MB_LOAD_CHUNK / 4, H = least(m->hidden, chunk);
    int64_t rows = most(most(m->vocab, 2 * wide), (int64_t)m->heads * m->head_dim),
            n = most(least(least(rows, chunk) * H, chunk), most(wide, H));
    bool fp8 = m->auto_path == MB_PATH_FP8,
         half = m->n_tensors > 0 ? m->tensors[0].storage == MB_STORE_BF16 : m->auto_path != MB_PATH_F32;
    bool wide_rows = fp8 || m->n_packed > 0; /* arrive as f32 */
    struct packed_sizes z;
    packed_sizes_of(m, n, &z);
    int64_t pack = most(n * (half && !wide_rows ? 2 : 4), wide_rows && m->keep != MB_KEEP_INT8 ? largest_blob(m, n) : 0);
    int64_t window = most(most(n * (half ? 2 : 4) + 2 * (int64_t)ALIGN, WINDOW_MIN), z.code), vectors = most(m->router.experts, 2) * most(H, wide);

    *out = (struct mb_load_sizes){.elements = n,
                                  .window = least(window, largest_file(m)) * (fp8 ? 2 : 1) +
                                            z.scale + z.zero + z.g_idx + z.rows,
                                  .scales = fp8 ? wide_scales(m) : 0,
                                  .pack = pack,
                                  .f32 = 4 * (half ? least(n, vectors) : n)};
}

void mb_load_sizes_of_adapter(const struct mb_adapter *a, struct mb_load_sizes *out)
{
    int64_t n = 1, row = 1;

    for (int64_t i = 0; i < a->n_loras; i++) {
        const struct mb_tensor *t[2] = {&a->loras[i].a, &a->loras[i].b};
        for (int j = 0; j < 2; j++) {
            n = most(n, least(t[j]->n, MB_LOAD_CHUNK / 4 / t[j]->k) * t[j]->k);
            row = most(row, t[j]->k);
        }
    }
    n = most(n, row);
    *out = (struct mb_load_sizes){.elements = n,
                                  .window = least(most(n * 4 + 2 * (int64_t)ALIGN, WINDOW_MIN), largest_file(&a->files)),
                                  .pack = n * 4,
                                  .f32 = n * 4};
}

enum mb_status mb_reader_reserve(struct mb_reader *r, const struct mb_load_sizes *s)
{
    struct packed_sizes z;

    packed_sizes_of(r->m, s->elements, &z);
    int64_t left = s->window - z.scale - z.zero - z.g_idx - z.rows;
    size_t each = (size_t)left / (r->m->auto_path == MB_PATH_FP8 ? 2 : 1);
    MB_TRY(reserve(r, &r->data.buf, &r->data.cap, each));
    if (r->m->auto_path == MB_PATH_FP8)
        MB_TRY(reserve(r, &r->scale.buf, &r->scale.cap, each));
    if (r->m->n_packed == 0)
        return MB_OK;
    MB_TRY(reserve(r, &r->scale.buf, &r->scale.cap, (size_t)z.scale));
    MB_TRY(reserve(r, &r->u.zero, &r->u.zero_cap, (size_t)z.zero));
    MB_TRY(reserve(r, &r->u.g_idx, &r->u.g_idx_cap, (size_t)z.g_idx));
    return reserve(r, &r->u.rows, &r->u.rows_cap, (size_t)z.rows);
}

/* Reads [off, off + need) and, up to the window's size, what follows. */
static enum mb_status fill(struct mb_reader *r, struct window *w, int32_t file, uint64_t off, uint64_t need)
{
    uint64_t begin = off - off % ALIGN, end = off + need, size = r->m->file_bytes[file];
    enum mb_status st;
    int fd = -1;

    if (end < off || end > size) /* checked when the headers were read */
        return mb_error(MB_BUG, "tensor bytes %llu to %llu of a file of %llu", (unsigned long long)off, (unsigned long long)end,
                        (unsigned long long)size);
    if (end - begin < WINDOW_MIN)
        end = begin + WINDOW_MIN;
    end = end > size - size % ALIGN ? size : end + (ALIGN - end % ALIGN) % ALIGN;
    w->file = -1;
    MB_TRY(reserve(r, &w->buf, &w->cap, end - begin));
    char *path = mb_path_join(r->m->dir, r->m->files[file]);
    if (path == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a path");
    st = get_fd(r, file, path, &fd);
    for (uint64_t at = begin; st == MB_OK && at < end; at += PREAD_MAX) {
        uint64_t n = end - at < PREAD_MAX ? end - at : PREAD_MAX;
        st = mb_pread_all(fd, w->buf + (at - begin), n, at, path, MB_MODEL);
    }
    free(path);
    if (st == MB_OK && r->sums != NULL)
        st = mb_sums_note(r->sums, file, begin, end - begin, w->buf);
    if (st != MB_OK)
        return st;
    w->file = file;
    w->off = begin;
    w->len = end - begin;
    return MB_OK;
}

/* Bytes [off, off + n) of a file, aligned for elements of `size` bytes. */
static enum mb_status get_bytes(struct mb_reader *r, struct window *w, int32_t file, uint64_t off, uint64_t n, size_t size,
                                const void **out)
{
    if (w->file != file || off < w->off || off + n > w->off + w->len)
        MB_TRY(fill(r, w, file, off, n));
    uint8_t *p = w->buf + (off - w->off);
    if ((uintptr_t)p % size != 0) {
        MB_TRY(reserve(r, &w->shifted, &w->shifted_cap, n));
        memcpy(w->shifted, p, n);
        p = w->shifted;
    }
    r->bytes += n;
    *out = p;
    return MB_OK;
}

/* ---------------------------------------------------------------- packed weights */

/* A small part, whole, into memory of its own: the windows move on with the rows. */
static enum mb_status get_whole(struct mb_reader *r, const struct mb_packed_bytes *p, uint8_t **buf, size_t *cap, const void **out)
{
    const void *bytes;

    *out = NULL;
    if (p->bytes == 0)
        return MB_OK;
    MB_TRY(get_bytes(r, &r->scale, p->file, p->offset, p->bytes, 1, &bytes));
    MB_TRY(reserve(r, buf, cap, p->bytes));
    memcpy(*buf, bytes, p->bytes);
    *out = *buf;
    return MB_OK;
}

static enum mb_status get_parts(struct mb_reader *r, const struct mb_packed *p, int64_t n0, int64_t n, float *whole,
                                struct mb_packed_parts *in)
{
    uint64_t off, bytes;
    const void *w = NULL;

    MB_TRY(get_whole(r, &p->zero, &r->u.zero, &r->u.zero_cap, &in->zero));
    MB_TRY(get_whole(r, &p->g_idx, &r->u.g_idx, &r->u.g_idx_cap, &in->g_idx));
    if (p->tensor_scale.bytes > 0) {
        MB_TRY(get_bytes(r, &r->scale, p->tensor_scale.file, p->tensor_scale.offset, sizeof *whole, 1, &w));
        memcpy(whole, w, sizeof *whole);
        in->tensor_scale = whole;
    }
    mb_packed_codes(p, n0, n, &off, &bytes);
    MB_TRY(get_bytes(r, &r->data, p->code.file, p->code.offset + off, bytes, 1, &in->code));
    mb_packed_scales(p, n0, n, &off, &bytes);
    size_t size = p->packing == MB_PACK_MXFP4 ? 1 : (size_t)mb_storage_size((enum mb_storage)p->scale_storage);
    return get_bytes(r, &r->scale, p->scale.file, p->scale.offset + off, bytes, size, &in->scale);
}

static enum mb_status packed_rows(struct mb_reader *r, const struct mb_tensor *t, int64_t n0, int64_t n, struct mb_host_matrix *out)
{
    const struct mb_packed *p = &r->m->packed[t->packed - 1];
    struct mb_packed_parts in = {0};
    char what[512];
    float whole;

    MB_TRY(get_parts(r, p, n0, n, &whole, &in));
    MB_TRY(reserve(r, &r->u.rows, &r->u.rows_cap, (size_t)mb_packed_blob(p, n)));
    snprintf(what, sizeof what, "%.300s/%.100s: %s of layer %d", r->m->dir, r->m->files[t->file],
             mb_role_name((enum mb_role)t->role), t->layer);
    MB_TRY(mb_packed_rows(p, &in, n0, n, r->u.rows, what));
    struct mb_form f;
    mb_packed_form(p, &f);
    *out = mb_host_stored(&f, n, t->k, r->u.rows);
    return MB_OK;
}

void mb_reader_advise(struct mb_reader *r, const struct mb_tensor *t)
{
    if (r->m->random)
        return;
    char *path = mb_path_join(r->m->dir, r->m->files[t->file]);
    int fd = r->fds[t->file % N_FDS].file == t->file ? r->fds[t->file % N_FDS].fd : -1;

    if (path != NULL && (fd >= 0 || get_fd(r, t->file, path, &fd) == MB_OK))
        (void)posix_fadvise(fd, (off_t)t->offset,
                            (off_t)(t->packed > 0 ? r->m->packed[t->packed - 1].code.bytes : mb_tensor_span(t)), POSIX_FADV_WILLNEED);
    free(path);
}

/* The tensor's scales in f32. */
static enum mb_status get_scales(struct mb_reader *r, const struct mb_tensor *t, const float **out)
{
    size_t size = (size_t)mb_storage_size((enum mb_storage)t->scale_storage), n = t->scale_bytes / size;
    struct mb_host_matrix m = {.storage = (enum mb_storage)t->scale_storage, .n = 1, .k = (int64_t)n, .stride_n = (int64_t)n, .stride_k = 1};

    MB_TRY(get_bytes(r, &r->scale, t->scale_file, t->scale_offset, t->scale_bytes, size, &m.base));
    *out = m.base;
    if (m.storage == MB_STORE_F32)
        return MB_OK;
    MB_TRY(reserve(r, &r->wide, &r->wide_cap, n * sizeof(float)));
    mb_host_to_f32(&m, (float *)(void *)r->wide);
    *out = (const float *)(const void *)r->wide;
    return MB_OK;
}

/* Of a model without files: made on the spot. */
static enum mb_status random_rows(struct mb_reader *r, const struct mb_tensor *t, int64_t n0, int64_t n, struct mb_host_matrix *out)
{
    size_t bytes = (size_t)(n * t->k * mb_storage_size((enum mb_storage)t->storage));

    MB_TRY(reserve(r, &r->data.buf, &r->data.cap, bytes));
    mb_random_rows(r->m, t, n0, n, r->data.buf);
    *out = (struct mb_host_matrix){.base = r->data.buf, .storage = (enum mb_storage)t->storage, .n = n, .k = t->k, .stride_n = t->k, .stride_k = 1};
    return MB_OK;
}

enum mb_status mb_reader_rows(struct mb_reader *r, const struct mb_tensor *t, int64_t n0, int64_t n, struct mb_host_matrix *out)
{
    enum mb_storage storage = (enum mb_storage)t->storage;
    uint64_t size = (uint64_t)mb_storage_size(storage);
    struct mb_host_matrix h = {.storage = storage, .n = n, .k = t->k, .stride_n = t->stride_n, .stride_k = t->stride_k};

    if (n0 < 0 || n < 1 || n > t->n || n0 > t->n - n)
        return mb_error(MB_BUG, "rows %lld + %lld of a tensor of %lld", (long long)n0, (long long)n, (long long)t->n);
    if (r->m->random)
        return random_rows(r, t, n0, n, out);
    if (t->packed > 0)
        return packed_rows(r, t, n0, n, out);
    uint64_t off = t->offset + (uint64_t)(n0 * t->stride_n) * size;
    uint64_t span = (uint64_t)((n - 1) * t->stride_n + (t->k - 1) * t->stride_k + 1) * size;
    MB_TRY(get_bytes(r, &r->data, t->file, off, span, size, &h.base));
    if (t->scale_bytes > 0) {
        MB_TRY(get_scales(r, t, &h.scale));
        h.block_n = t->block_n;
        h.block_k = t->block_k;
        h.scale_stride = t->scale_stride;
        h.scale_n0 = t->scale_n0 + n0;
        h.scale_k0 = t->scale_k0;
    }
    *out = h;
    return MB_OK;
}
