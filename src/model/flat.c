#include "model/flat.h"

#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "base/log.h"

struct head {
    uint64_t what, bytes;
    struct mb_hash128 hash; /* of all that follows */
};

enum mb_status mb_flat_damaged(const char *what)
{
    return mb_error(MB_CORRUPT, "the model or adapter received from rank 0 is damaged (%s)", what);
}

/* ---------------------------------------------------------------- writing */
enum mb_status mb_flat_begin(struct mb_bytes *b, size_t *head)
{
    struct head h = {0};

    *head = b->len;
    return mb_bytes_put(b, &h, sizeof h);
}

void mb_flat_end(struct mb_bytes *b, size_t head, uint64_t what)
{
    struct head h = {.what = what, .bytes = b->len - head - sizeof h};

    h.hash = mb_hash128_of(b->data + head + sizeof h, h.bytes);
    memcpy(b->data + head, &h, sizeof h);
}

static enum mb_status put_text(struct mb_bytes *b, const char *s)
{
    uint32_t n = (uint32_t)strlen(s);
    MB_TRY(mb_bytes_put(b, &n, sizeof n));
    return mb_bytes_put(b, s, n);
}

enum mb_status mb_flat_put_files(struct mb_bytes *b, const struct mb_model *m)
{
    MB_TRY(put_text(b, m->dir));
    MB_TRY(mb_bytes_put(b, &m->n_files, sizeof m->n_files));
    for (int32_t i = 0; i < m->n_files; i++)
        MB_TRY(put_text(b, m->files[i]));
    return mb_bytes_put(b, m->file_bytes, (size_t)m->n_files * sizeof *m->file_bytes);
}

/* ---------------------------------------------------------------- reading */
enum mb_status mb_flat_open(const void *data, size_t n, uint64_t what, struct mb_flat *out)
{
    struct mb_flat f = {data, n};
    struct head h;

    memset(&h, 0, sizeof h);
    MB_TRY(mb_flat_take(&f, &h, sizeof h));
    if (h.what != what)
        return mb_flat_damaged("its head, or another version of the program");
    if (h.bytes != f.left)
        return mb_flat_damaged("its length");
    struct mb_hash128 x = mb_hash128_of(f.at, f.left);
    if (x.lo != h.hash.lo || x.hi != h.hash.hi)
        return mb_flat_damaged("its hash");
    *out = f;
    return MB_OK;
}

enum mb_status mb_flat_take(struct mb_flat *f, void *dst, size_t n)
{
    if (n > f->left)
        return mb_flat_damaged("too short");
    if (n > 0)
        memcpy(dst, f->at, n);
    f->at += n;
    f->left -= n;
    return MB_OK;
}

enum mb_status mb_flat_take_array(struct mb_flat *f, uint64_t n, size_t size, void *out_pointer)
{
    uint64_t bytes;
    void *p;

    if (!mb_mul_ok(n, size, &bytes) || bytes > f->left)
        return mb_flat_damaged("too short");
    p = malloc(bytes + 1);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a model");
    memcpy(out_pointer, &p, sizeof p);
    return mb_flat_take(f, p, bytes);
}

static enum mb_status take_text(struct mb_flat *f, char **out)
{
    uint32_t n = 0;

    MB_TRY(mb_flat_take(f, &n, sizeof n));
    MB_TRY(mb_flat_take_array(f, n, 1, out));
    (*out)[n] = 0;
    return MB_OK;
}

enum mb_status mb_flat_take_files(struct mb_flat *f, struct mb_model *m)
{
    int32_t n = 0;

    MB_TRY(take_text(f, &m->dir));
    MB_TRY(mb_flat_take(f, &n, sizeof n));
    if (n < 0 || n > UINT16_MAX)
        return mb_flat_damaged("its files");
    m->files = calloc((size_t)n + 1, sizeof *m->files);
    if (m->files == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a model");
    m->n_files = n;
    for (int32_t i = 0; i < n; i++)
        MB_TRY(take_text(f, m->files + i));
    return mb_flat_take_array(f, (uint64_t)n, sizeof *m->file_bytes, &m->file_bytes);
}

/* The last element of the tensor, in bytes from the start of the file, or UINT64_MAX. */
static uint64_t end_of(const struct mb_tensor *t)
{
    uint64_t size = (uint64_t)mb_storage_size((enum mb_storage)t->storage), a, b, end;

    if (t->stride_n < 0 || t->stride_k < 0 || !mb_mul_ok((uint64_t)t->n - 1, (uint64_t)t->stride_n, &a) ||
        !mb_mul_ok((uint64_t)t->k - 1, (uint64_t)t->stride_k, &b) || !mb_add_ok(a, b, &end) || !mb_add_ok(end, 1, &end) ||
        !mb_mul_ok(end, size, &end) || !mb_add_ok(end, t->offset, &end))
        return UINT64_MAX;
    return end;
}

static bool scale_fits(const struct mb_model *files, const struct mb_tensor *t)
{
    uint64_t end, rows, need;

    if (t->scale_bytes == 0)
        return true;
    if (t->block_n < 1 || t->block_k < 1 || t->scale_n0 < 0 || t->scale_k0 < 0 || t->scale_stride < 1 || t->scale_n0 > INT32_MAX ||
        t->scale_k0 > t->k || t->scale_storage > MB_STORE_BF16 || (t->scale_k0 + t->k - 1) / t->block_k >= t->scale_stride)
        return false;
    rows = (uint64_t)((t->scale_n0 + t->n - 1) / t->block_n + 1);
    if (!mb_mul_ok(rows, (uint64_t)mb_storage_size((enum mb_storage)t->scale_storage) * (uint64_t)t->scale_stride, &need) || need > t->scale_bytes)
        return false;
    return files->n_files == 0 || (t->scale_file < files->n_files && mb_add_ok(t->scale_offset, t->scale_bytes, &end) &&
                                   end <= files->file_bytes[t->scale_file]);
}

enum mb_status mb_flat_check_tensor(const struct mb_model *files, const struct mb_tensor *t)
{
    if (t->role >= MB_T_COUNT || t->storage > MB_STORE_LAST || t->layer < -1 || t->expert < -1 || t->n < 1 || t->k < 1 ||
        t->n > INT32_MAX || t->k > INT32_MAX || !scale_fits(files, t))
        return mb_flat_damaged("a tensor");
    if (files->n_files == 0)
        return MB_OK; /* made from a config.json alone: no place */
    if (t->packed != 0) {
        bool ok = t->packed > 0 && t->packed <= files->n_packed;
        const struct mb_packed *p = ok ? files->packed + (t->packed - 1) : NULL;
        ok = ok && p->n == t->n && p->k == t->k && mb_packed_fits(p, files->file_bytes, files->n_files);
        return ok ? MB_OK : mb_flat_damaged("a packed weight");
    }
    return t->file < files->n_files && end_of(t) <= files->file_bytes[t->file] ? MB_OK : mb_flat_damaged("a tensor's place");
}
