/* From stored codes to values, block by block. */
#include <string.h>
#include "device/cpu_weight.h"

float mb_stored_scale(const struct mb_weight *w, const unsigned char *panel, int64_t group, int64_t column)
{
    float whole = 1;
    if (w->desc.form.whole)
        memcpy(&whole, panel + w->whole_at + 4 * column, sizeof whole);
    return mb_form_scale(&w->desc.form, panel + w->scale_at, group * MB_PANEL + column, whole);
}

void mb_widen_portable(const struct mb_weight *w, const unsigned char *panel, int64_t block, void *dst)
{
    const struct mb_form *f = &w->desc.form;
    const unsigned char *codes = panel + block * w->code_block;
    float *wide = dst;
    uint16_t *half = dst;

    for (int64_t c = 0; c < MB_PANEL; c++) {
        int64_t last = -1;
        int32_t list = mb_stored_list(w, panel, c);
        const struct mb_run *r = &w->run[list * w->block[w->desc.leaves] + block];
        float s = 0;
        for (int64_t k = 0; k < MB_BLOCK; k++) {
            float v = 0;
            if (k < r->valid) {
                int64_t g = r->group[k / 16] >= 0 ? r->group[k / 16] : mb_stored_group(w, list, r->k + k);
                int shift;
                uint8_t code = codes[mb_code_byte(f, k, c, &shift)];
                code = f->bits == 4 ? code >> shift & 15 : code;
                s = g == last ? s : mb_stored_scale(w, panel, g, c);
                last = g;
                v = mb_form_value(f, mb_form_number(f, code, mb_stored_zero(w, panel, g, c)), s);
            }
            if (w->desc.dtype == MB_F32)
                wide[k * MB_PANEL + c] = v;
            else
                half[(k / 2 * MB_PANEL + c) * 2 + k % 2] = mb_bf16_of(v);
        }
    }
}

struct mb_mx_table *mb_cpu_mx_tables(struct mb_mem *mem)
{
    struct mb_mx_table *t = mb_alloc(mem, MB_MEM_OTHER, 256, sizeof *t);

    for (int e = 0; e < 256 && t != NULL; e++)
        for (uint8_t code = 0; code < 16; code++) {
            uint16_t h = mb_bf16_of(mb_mx_float(mb_fp4_float(code), e));
            t[e].low[code] = (uint8_t)h;
            t[e].high[code] = (uint8_t)(h >> 8);
        }
    return t;
}

void mb_widen(const struct mb_weight *w, int64_t panel, int64_t b, int64_t e, void *dst)
{
    const unsigned char *from = w->data + panel * w->panel_bytes;
    int64_t block = MB_BLOCK * MB_PANEL * mb_dtype_size(w->desc.dtype);

    if (w->desc.dtype == MB_BF16 && w->dev->isa >= MB_ISA_AVX2) {
        mb_widen_avx2(w, from, b, e, dst);
        return;
    }
    for (int64_t i = b; i < e; i++)
        mb_widen_portable(w, from, i, (unsigned char *)dst + (i - b) * block);
}
