/* A model as one string of bytes, for broadcast between ranks of one job (one binary, one kind of CPU): the struct itself, then
 * what its pointers point to. Everything is checked on the way back. */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "model/flat.h"

/* kind and version, and the sizes both sides must agree on */
#define WHAT (0x6d6f646cull << 32 | (uint64_t)sizeof(struct mb_model) << 16 | sizeof(struct mb_tensor))

static void clear_pointers(struct mb_model *m)
{
    m->dir = NULL;
    m->n_files = 0;
    m->files = NULL;
    m->file_bytes = NULL;
    m->is_moe = NULL;
    m->window = NULL;
    m->still = NULL;
    m->indexer.shares = NULL;
    m->linear = NULL;
    m->inv_freq = m->inv_freq_long = NULL;
    m->tensors = NULL;
    m->packed = NULL;
}

static enum mb_status put_arrays(const struct mb_model *m, struct mb_bytes *b)
{
    size_t layers = (size_t)m->layers + 1, half = (size_t)m->rope_dim / 2;
    uint8_t has_long = m->inv_freq_long != NULL, has_linear = m->linear != NULL;

    MB_TRY(mb_flat_put_files(b, m));
    MB_TRY(mb_bytes_put(b, m->is_moe, layers));
    MB_TRY(mb_bytes_put(b, m->window, layers * sizeof *m->window));
    MB_TRY(mb_bytes_put(b, m->still, layers));
    if (m->indexer.topk > 0)
        MB_TRY(mb_bytes_put(b, m->indexer.shares, layers));
    MB_TRY(mb_bytes_put(b, &has_linear, 1));
    if (has_linear)
        MB_TRY(mb_bytes_put(b, m->linear, layers));
    MB_TRY(mb_bytes_put(b, m->inv_freq, half * sizeof *m->inv_freq));
    MB_TRY(mb_bytes_put(b, &has_long, 1));
    if (has_long)
        MB_TRY(mb_bytes_put(b, m->inv_freq_long, half * sizeof *m->inv_freq_long));
    MB_TRY(mb_bytes_put(b, m->packed, (size_t)m->n_packed * sizeof *m->packed));
    return mb_bytes_put(b, m->tensors, (size_t)m->n_tensors * sizeof *m->tensors);
}

enum mb_status mb_model_pack(const struct mb_model *m, struct mb_bytes *out)
{
    struct mb_model flat;
    size_t head = 0;

    memcpy(&flat, m, sizeof flat); /* padding too: it is zero */
    clear_pointers(&flat);
    MB_TRY(mb_flat_begin(out, &head));
    MB_TRY(mb_bytes_put(out, &flat, sizeof flat));
    MB_TRY(put_arrays(m, out));
    mb_flat_end(out, head, WHAT);
    return MB_OK;
}

/* ---------------------------------------------------------------- back */
static enum mb_status check_sizes(const struct mb_model *m)
{
    bool ok = m->layers >= 1 && m->layers < INT32_MAX && m->rope_dim >= 0 && m->n_tensors >= 0 && m->n_packed >= 0 && m->n_eos >= 0 &&
              m->n_eos <= MB_MAX_EOS && m->mtp_layers >= 0 && m->mtp_layers <= 1 && memchr(m->arch, 0, sizeof m->arch) != NULL;
    return ok ? MB_OK : mb_flat_damaged("a size");
}

static enum mb_status take_arrays(struct mb_flat *f, struct mb_model *m)
{
    uint64_t layers = (uint64_t)m->layers + 1, half = (uint64_t)m->rope_dim / 2;
    uint8_t has_long = 0, has_linear = 0;

    MB_TRY(mb_flat_take_files(f, m));
    MB_TRY(mb_flat_take_array(f, layers, 1, &m->is_moe));
    MB_TRY(mb_flat_take_array(f, layers, sizeof *m->window, &m->window));
    MB_TRY(mb_flat_take_array(f, layers, 1, &m->still));
    if (m->indexer.topk > 0)
        MB_TRY(mb_flat_take_array(f, layers, 1, &m->indexer.shares));
    MB_TRY(mb_flat_take(f, &has_linear, 1));
    if (has_linear)
        MB_TRY(mb_flat_take_array(f, layers, 1, &m->linear));
    MB_TRY(mb_flat_take_array(f, half, sizeof *m->inv_freq, &m->inv_freq));
    MB_TRY(mb_flat_take(f, &has_long, 1));
    if (has_long)
        MB_TRY(mb_flat_take_array(f, half, sizeof *m->inv_freq_long, &m->inv_freq_long));
    MB_TRY(mb_flat_take_array(f, (uint64_t)m->n_packed, sizeof *m->packed, &m->packed));
    MB_TRY(mb_flat_take_array(f, (uint64_t)m->n_tensors, sizeof *m->tensors, &m->tensors));
    if (f->left != 0)
        return mb_flat_damaged("too long");
    for (int64_t i = 0; i < m->n_tensors; i++)
        MB_TRY(mb_flat_check_tensor(m, m->tensors + i));
    return MB_OK;
}

enum mb_status mb_model_unpack(const void *data, size_t n, struct mb_model **out)
{
    struct mb_flat f = {NULL, 0};
    struct mb_model *m;
    enum mb_status st;

    MB_TRY(mb_flat_open(data, n, WHAT, &f));
    m = calloc(1, sizeof *m);
    if (m == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a model");
    st = mb_flat_take(&f, m, sizeof *m);
    clear_pointers(m);
    if (st == MB_OK)
        st = check_sizes(m);
    if (st == MB_OK)
        st = take_arrays(&f, m);
    if (st == MB_OK) {
        mb_model_keep(m, m->keep);
        *out = m;
    } else {
        mb_model_destroy(m);
    }
    return st;
}
