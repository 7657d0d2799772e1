/* config.json: gated DeltaNet (Qwen3-Next). */
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "model/load.h"

enum { MAX_HEADS = 4096, MAX_WIDTH = 1 << 20 };

static enum mb_status load_shape(struct mb_delta_shape *d, const struct mb_cfg *c)
{
    const struct {
        const char *key;
        int64_t least, most, value;
        int32_t *out;
    } keys[] = {{"linear_num_key_heads", 1, MAX_HEADS, 16, &d->key_heads},
                {"linear_num_value_heads", 1, MAX_HEADS, 32, &d->value_heads},
                {"linear_key_head_dim", 1, MAX_WIDTH, 128, &d->dk},
                {"linear_value_head_dim", 1, MAX_WIDTH, 128, &d->dv},
                {"linear_conv_kernel_dim", 2, MB_MAX_TAPS, 4, &d->taps}};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        int64_t x = keys[i].value;
        MB_TRY(mb_cfg_int(c, keys[i].key, keys[i].least, keys[i].most, &x, NULL));
        *keys[i].out = (int32_t)x;
    }
    if (d->value_heads % d->key_heads != 0)
        return mb_error(MB_MODEL,
                        "%s: linear_num_value_heads: expected a multiple of the %d key heads, found %d",
                        c->path, d->key_heads, d->value_heads);
    if ((int64_t)d->key_heads * d->dk > MAX_WIDTH || (int64_t)d->value_heads * d->dv > MAX_WIDTH)
        return mb_error(
            MB_MODEL,
            "%s: linear_num_key_heads: expected heads x width of at most %d, found %d x %d and %d x %d",
            c->path, MAX_WIDTH, d->key_heads, d->dk, d->value_heads, d->dv);
    return MB_OK;
}

/* "linear_attention" or "full_attention" of each layer. */
static enum mb_status by_type(struct mb_model *m, const json_t *v, const struct mb_cfg *c)
{
    char text[96];

    if (!json_is_array(v) || json_array_size(v) != (size_t)m->layers)
        return mb_error(MB_MODEL, "%s: layer_types: expected a list of %d, found %s", c->path, m->layers,
                        mb_cfg_text(v, text, sizeof text));
    for (int32_t l = 0; l < m->layers; l++) {
        const json_t *x = json_array_get(v, (size_t)l);
        const char *s = json_is_string(x) ? json_string_value(x) : "";
        m->linear[l] = strcmp(s, "linear_attention") == 0;
        if (!m->linear[l] && strcmp(s, "full_attention") != 0)
            return mb_error(MB_MODEL,
                            "%s: layer_types: expected linear_attention or full_attention, found %s", c->path,
                            mb_cfg_text(x, text, sizeof text));
    }
    return MB_OK;
}

enum mb_status mb_load_delta(struct mb_model *m, const struct mb_cfg *c)
{
    int64_t every = 4;
    const json_t *types;

    MB_TRY(load_shape(&m->delta, c));
    m->linear = calloc((size_t)m->layers + 1, 1);
    if (m->linear == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d layers", m->layers);
    MB_TRY(mb_cfg_int(c, "full_attention_interval", 1, INT32_MAX, &every, NULL));
    MB_TRY(mb_cfg_get(c, "layer_types", &types, NULL, 0));
    for (int32_t l = 0; l < m->layers; l++)
        m->linear[l] = (l + 1) % every != 0;
    if (types != NULL)
        MB_TRY(by_type(m, types, c));
    for (int32_t l = 0; l < m->layers; l++)
        m->linear_layers += m->linear[l];
    return MB_OK;
}
