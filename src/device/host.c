#include "device/host.h"

#include <inttypes.h>
#include <string.h>
#include "base/log.h"

static enum mb_status check_form(const struct mb_weight_desc *d)
{
    const struct mb_form *f = &d->form;
    bool four = f->code == MB_CODE_FP4 || (f->code == MB_CODE_INT && f->bits == 4);
    bool ok = f->code <= MB_CODE_E5M2 && f->bits == (four ? 4 : 8) && f->scale <= MB_SCALE_E8M0 &&
              f->scale != MB_STORE_CODES && f->whole <= MB_WHOLE_OVER && f->group >= 1 && f->groups >= 1 &&
              f->k0 >= 0 && d->k <= INT32_MAX && (f->scale != MB_SCALE_E8M0 || f->code == MB_CODE_FP4);

    if (ok)
        return MB_OK;
    return mb_error(MB_BUG, "weight_create: codes of kind %d with %d bits in groups of %d are no stored form",
                    f->code, f->bits, f->group);
}

enum mb_status mb_weight_check(const struct mb_weight_desc *d)
{
    bool ok = d->n > 0 && d->k > 0 && (d->dtype == MB_F32 || d->dtype == MB_BF16) && d->leaves >= 1 &&
              d->leaves <= MB_MAX_LEAVES && (unsigned)d->cat < MB_MEM_COUNT && d->leaf[0] == 0;
    for (int32_t l = 0; ok && l < d->leaves; l++)
        ok = d->leaf[l] < d->leaf[l + 1];
    if (!ok || d->leaf[d->leaves] != d->k)
        return mb_error(MB_BUG,
                        "weight_create: [%" PRId64 ", %" PRId64
                        "] with %d leaves is not a GEMM weight whose leaves are "
                        "its K range in order",
                        d->n, d->k, d->leaves);
    return mb_form_stored(&d->form) ? check_form(d) : MB_OK;
}

enum mb_status mb_host_inside(const struct mb_weight_desc *d, int64_t n0, int64_t k0, const struct mb_host_matrix *m)
{
    if (n0 >= 0 && k0 >= 0 && m->n >= 0 && m->k >= 0 && n0 <= d->n - m->n && k0 <= d->k - m->k)
        return MB_OK;
    return mb_error(MB_BUG,
                    "weight_put: %" PRId64 " x %" PRId64 " at (%" PRId64 ", %" PRId64
                    ") lies outside a weight of %" PRId64 " x %" PRId64,
                    m->n, m->k, n0, k0, d->n, d->k);
}

enum mb_status mb_host_check(const struct mb_host_matrix *m)
{
    bool scales = m->scale != NULL && m->block_n >= 1 && m->block_k >= 1 && m->scale_n0 >= 0 && m->scale_k0 >= 0;

    if ((unsigned)m->storage <= MB_STORE_CODES && (!mb_storage_fp8(m->storage) || scales))
        return MB_OK;
    return mb_error(MB_BUG, "weight_put: storage %d without the scales it needs", (int)m->storage);
}

static void read_codes(const struct mb_host_matrix *m, int64_t i, int64_t j, int64_t n, float *out)
{
    const struct mb_host_codes *c = &m->codes;
    int64_t row = m->scale_n0 + i, last = -1;
    float s = 0, whole = c->whole != NULL ? c->whole[row] : 1;
    uint8_t zero = 0;
    for (int64_t e = 0; e < n; e++) {
        int64_t column = m->scale_k0 + j + e, g = mb_host_group(c, column);
        if (g != last) {
            s = mb_form_scale(&c->form, c->scale, row * c->groups + g, whole);
            zero = c->zero != NULL ? c->zero[row * c->groups + g] : 0;
            last = g;
        }
        out[e] = mb_form_value(&c->form, mb_form_number(&c->form, mb_host_code(c, row, column), zero), s);
    }
}

static void read_fp8(const struct mb_host_matrix *m, int64_t i, int64_t j, int64_t n, float *out)
{
    const uint8_t *at = (const uint8_t *)m->base + i * m->stride_n + j * m->stride_k;
    const float *scale = m->scale + (i + m->scale_n0) / m->block_n * m->scale_stride;

    for (int64_t e = 0; e < n; e++) {
        uint8_t code = at[e * m->stride_k];
        float v = m->storage == MB_STORE_F8E4M3 ? mb_fp8_float(code) : mb_f8e5m2_float(code);
        out[e] = v * scale[(j + e + m->scale_k0) / m->block_k];
    }
}

void mb_host_row(const struct mb_host_matrix *m, int64_t i, int64_t j, int64_t n, float *out)
{
    int64_t size = mb_storage_size(m->storage), step = m->stride_k;

    if (m->storage == MB_STORE_CODES) {
        read_codes(m, i, j, n, out);
        return;
    }
    if (mb_storage_fp8(m->storage)) {
        read_fp8(m, i, j, n, out);
        return;
    }
    const char *at = (const char *)m->base + (i * m->stride_n + j * m->stride_k) * size;
    for (int64_t e = 0; e < n; e++) {
        uint16_t h;
        if (m->storage == MB_STORE_F32) {
            memcpy(&out[e], at + e * step * 4, 4);
            continue;
        }
        memcpy(&h, at + e * step * 2, 2);
        out[e] = m->storage == MB_STORE_BF16 ? mb_bf16_float(h) : mb_f16_float(h);
    }
}

bool mb_host_fits(const struct mb_form *f, int64_t k0, const struct mb_host_matrix *m)
{
    struct mb_form g = m->codes.form;
    int64_t at = f->k0 + k0;

    if (mb_storage_fp8(m->storage))
        return f->code == (m->storage == MB_STORE_F8E4M3 ? MB_CODE_E4M3 : MB_CODE_E5M2) && m->scale != NULL &&
               f->scale == MB_STORE_F32 && f->group == m->block_k && m->block_n >= 1 && m->scale_k0 == at &&
               m->scale_n0 >= 0 && !f->zeros && !f->whole && !f->g_idx;
    if (m->storage != MB_STORE_CODES || g.k0 + m->scale_k0 != at || m->scale_n0 < 0 || m->scale_k0 < 0)
        return false;
    g.k0 = f->k0;
    g.g_idx = g.g_idx != 0 ? f->g_idx : 0;
    return mb_form_equal(f, &g) && (m->codes.zero != NULL) == f->zeros && (m->codes.whole != NULL) == (f->whole != 0) &&
           (m->codes.g_idx != NULL) == (f->g_idx != 0);
}

enum mb_status mb_host_list(const struct mb_weight_desc *d, const struct mb_group_lists *l, int64_t n0,
                            const struct mb_host_matrix *m, int32_t *out)
{
    const int32_t *g = m->codes.g_idx + m->scale_k0;
    int64_t groups = mb_form_groups(&d->form, d->k);
    bool used[UINT8_MAX + 1] = {false};
    int32_t at = -1;

    if (m->k != d->k)
        return mb_error(MB_BUG, "weight_put: parts of rows whose columns name their groups");
    for (int64_t k = 0; k < m->k; k++)
        if (g[k] < 0 || g[k] >= groups)
            return mb_error(MB_BUG, "weight_put: group %d of %" PRId64, g[k], groups);
    for (int64_t i = 0; i < d->n; i++)
        used[l->list_of[i]] |= i < n0 || i >= n0 + m->n;
    for (int32_t i = 0; i < l->lists && at < 0; i++)
        at = memcmp(l->g_idx + i * l->words, g, 4 * (size_t)m->k) == 0 ? i : -1;
    for (int32_t i = 0; i < l->lists && at < 0; i++)
        at = used[i] ? -1 : i;
    if (at < 0)
        return mb_error(MB_BUG, "weight_put: more than %d lists of groups", l->lists);
    memcpy(l->g_idx + at * l->words, g, 4 * (size_t)m->k);
    memset(l->list_of + n0, at, (size_t)m->n);
    *out = at;
    return MB_OK;
}
