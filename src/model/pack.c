/* A model as one string of bytes, for broadcast between ranks of one job (one binary, one kind of CPU): a header with sizes and
 * a hash, the struct itself, then what its pointers point to. Everything is checked on the way back. */
#include <stdlib.h>
#include <string.h>
#include "base/hash.h"
#include "base/log.h"
#include "model/model.h"

#define MAGIC 0x316c646f6d626d6dull /* "mmbmodl1" */

struct head {
    uint64_t magic, bytes;
    uint32_t model_size, tensor_size;
    struct mb_hash128 hash; /* of all that follows */
};

static enum mb_status put_text(struct mb_bytes *b, const char *s)
{
    uint32_t n = (uint32_t)strlen(s);
    MB_TRY(mb_bytes_put(b, &n, sizeof n));
    return mb_bytes_put(b, s, n);
}

static enum mb_status put_arrays(const struct mb_model *m, struct mb_bytes *b)
{
    size_t layers = (size_t)m->layers + 1, half = (size_t)m->rope_dim / 2;
    uint8_t has_long = m->inv_freq_long != NULL;

    MB_TRY(put_text(b, m->dir));
    for (int32_t i = 0; i < m->n_files; i++)
        MB_TRY(put_text(b, m->files[i]));
    MB_TRY(mb_bytes_put(b, m->file_bytes, (size_t)m->n_files * sizeof *m->file_bytes));
    MB_TRY(mb_bytes_put(b, m->is_moe, layers));
    MB_TRY(mb_bytes_put(b, m->window, layers * sizeof *m->window));
    MB_TRY(mb_bytes_put(b, m->inv_freq, half * sizeof *m->inv_freq));
    MB_TRY(mb_bytes_put(b, &has_long, 1));
    if (has_long)
        MB_TRY(mb_bytes_put(b, m->inv_freq_long, half * sizeof *m->inv_freq_long));
    return mb_bytes_put(b, m->tensors, (size_t)m->n_tensors * sizeof *m->tensors);
}

enum mb_status mb_model_pack(const struct mb_model *m, struct mb_bytes *out)
{
    struct head h = {.magic = MAGIC, .model_size = sizeof *m, .tensor_size = sizeof *m->tensors};
    struct mb_model flat = *m;
    size_t at = out->len;

    flat.dir = NULL;
    flat.files = NULL;
    flat.file_bytes = NULL;
    flat.is_moe = NULL;
    flat.window = NULL;
    flat.inv_freq = flat.inv_freq_long = NULL;
    flat.tensors = NULL;
    MB_TRY(mb_bytes_put(out, &h, sizeof h));
    MB_TRY(mb_bytes_put(out, &flat, sizeof flat));
    MB_TRY(put_arrays(m, out));
    h.bytes = out->len - at - sizeof h;
    h.hash = mb_hash128_of(out->data + at + sizeof h, h.bytes);
    memcpy(out->data + at, &h, sizeof h);
    return MB_OK;
}

/* ---------------------------------------------------------------- back */
struct cursor {
    const uint8_t *at;
    size_t left;
};

static enum mb_status damaged(const char *what)
{
    return mb_error(MB_CORRUPT, "the model received from rank 0 is damaged (%s)", what);
}

static enum mb_status take(struct cursor *c, void *dst, size_t n)
{
    if (n > c->left)
        return damaged("too short");
    memcpy(dst, c->at, n);
    c->at += n;
    c->left -= n;
    return MB_OK;
}

/* n elements into a new array */
static enum mb_status take_array(struct cursor *c, uint64_t n, size_t size, void *out_pointer)
{
    uint64_t bytes;
    void *p;

    if (!mb_mul_ok(n, size, &bytes) || bytes > c->left)
        return damaged("too short");
    p = malloc(bytes + 1);
    if (p == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a model");
    memcpy(out_pointer, &p, sizeof p);
    return take(c, p, bytes);
}

static enum mb_status take_text(struct cursor *c, char **out)
{
    uint32_t n = 0;

    MB_TRY(take(c, &n, sizeof n));
    MB_TRY(take_array(c, n, 1, out));
    (*out)[n] = 0;
    return MB_OK;
}

static enum mb_status take_arrays(struct cursor *c, struct mb_model *m)
{
    uint64_t layers = (uint64_t)m->layers + 1, half = (uint64_t)m->rope_dim / 2;
    uint8_t has_long = 0;

    MB_TRY(take_text(c, &m->dir));
    m->files = calloc((size_t)m->n_files + 1, sizeof *m->files);
    if (m->files == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a model");
    for (int32_t i = 0; i < m->n_files; i++)
        MB_TRY(take_text(c, m->files + i));
    MB_TRY(take_array(c, (uint64_t)m->n_files, sizeof *m->file_bytes, &m->file_bytes));
    MB_TRY(take_array(c, layers, 1, &m->is_moe));
    MB_TRY(take_array(c, layers, sizeof *m->window, &m->window));
    MB_TRY(take_array(c, half, sizeof *m->inv_freq, &m->inv_freq));
    MB_TRY(take(c, &has_long, 1));
    if (has_long)
        MB_TRY(take_array(c, half, sizeof *m->inv_freq_long, &m->inv_freq_long));
    MB_TRY(take_array(c, (uint64_t)m->n_tensors, sizeof *m->tensors, &m->tensors));
    return c->left == 0 ? MB_OK : damaged("too long");
}

static bool has_place(const struct mb_model *m, const struct mb_tensor *t)
{
    if (m->n_files == 0)
        return true; /* made from a config.json alone */
    return t->file < m->n_files && t->offset <= m->file_bytes[t->file] && (t->scale_bytes == 0 || t->scale_file < m->n_files);
}

static enum mb_status check_tensors(const struct mb_model *m)
{
    for (int64_t i = 0; i < m->n_tensors; i++) {
        const struct mb_tensor *t = m->tensors + i;
        if (t->role >= MB_T_COUNT || t->storage > MB_STORE_F8E4M3 || t->layer < -1 || t->layer > m->layers || t->expert < -1 ||
            t->n < 1 || t->k < 1 || (t->scale_bytes > 0 && (t->block_n < 1 || t->block_k < 1)) || !has_place(m, t))
            return damaged("a tensor");
    }
    return MB_OK;
}

static enum mb_status check_head(const struct head *h, struct cursor c)
{
    if (h->magic != MAGIC || h->model_size != sizeof(struct mb_model) || h->tensor_size != sizeof(struct mb_tensor))
        return damaged("its head, or another version of the program");
    if (h->bytes != c.left)
        return damaged("its length");
    struct mb_hash128 x = mb_hash128_of(c.at, c.left);
    return x.lo == h->hash.lo && x.hi == h->hash.hi ? MB_OK : damaged("its hash");
}

enum mb_status mb_model_unpack(const void *data, size_t n, struct mb_model **out)
{
    struct cursor c = {data, n};
    struct head h;
    struct mb_model *m;
    enum mb_status st;

    MB_TRY(take(&c, &h, sizeof h));
    MB_TRY(check_head(&h, c));
    m = calloc(1, sizeof *m);
    if (m == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a model");
    st = take(&c, m, sizeof *m);
    m->dir = NULL;
    m->files = NULL;
    m->file_bytes = NULL;
    m->is_moe = NULL;
    m->window = NULL;
    m->inv_freq = m->inv_freq_long = NULL;
    m->tensors = NULL;
    if (st == MB_OK && (m->layers < 1 || m->n_files < 0 || m->rope_dim < 0 || m->n_tensors < 0 || m->n_eos < 0 ||
                        m->n_eos > MB_MAX_EOS))
        st = damaged("a size");
    if (st == MB_OK)
        st = take_arrays(&c, m);
    if (st == MB_OK)
        st = check_tensors(m);
    if (st == MB_OK)
        *out = m;
    else
        mb_model_destroy(m);
    return st;
}
