/* quantization_config: which formats the files may hold. What is quantised is told by the tensors that are
 * there; the lists of modules say the same in five dialects. */
#include <string.h>
#include "base/log.h"
#include "model/load.h"

#define KEY(x) "quantization_config." x
#define MAX_BLOCK (1 << 20)

/* word must be one of list ("a|b"). */
static enum mb_status one_of(const struct mb_cfg *c, const char *key, const char *list, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = list; *p != 0;) {
        size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, word, n) == 0)
            return MB_OK;
        p += len + (p[len] == '|');
    }
    return mb_error(MB_MODEL, "%s: %s: expected %s%s, found \"%.60s\"", c->path, key,
                    strchr(list, '|') != NULL ? "one of " : "", list, word);
}

static enum mb_status text(const struct mb_cfg *c, const char *key, const char *list, const char **out)
{
    MB_TRY(mb_cfg_str(c, key, out, NULL));
    return one_of(c, key, list, *out);
}

static enum mb_status load_blocks(const struct mb_cfg *c, const char *key, struct mb_quant *q)
{
    int64_t block[2];
    size_t n;

    MB_TRY(mb_cfg_ints(c, key, 1, MAX_BLOCK, block, 2, &n));
    if (n == 0)
        return MB_OK;
    if (n != 2)
        return mb_error(MB_MODEL, "%s: %s%s: expected two integers, found %zu", c->path, c->at, key, n);
    q->block_n = (int32_t)block[0];
    q->block_k = (int32_t)block[1];
    return MB_OK;
}

/* Without blocks there is a scale for each row or for each tensor. Scales of activations are not used: nothing is
 * quantised on the way. */
static enum mb_status load_fp8(const struct mb_cfg *c, struct mb_quant *q)
{
    const char *fmt = "e4m3", *scheme = "dynamic";

    MB_TRY(text(c, KEY("fmt"), "e4m3|float8_e4m3fn|e5m2|float8_e5m2", &fmt));
    MB_TRY(text(c, KEY("activation_scheme"), "dynamic|static", &scheme));
    q->fp8 = true;
    return load_blocks(c, KEY("weight_block_size"), q);
}

static enum mb_status load_mxfp4(const struct mb_cfg *c, struct mb_quant *q)
{
    (void)c;
    q->method = MB_QUANT_MXFP4;
    return MB_OK;
}

static void add_size(struct mb_quant *q, int64_t size)
{
    if (size > 0 && size <= MAX_BLOCK && q->n_sizes < MB_QUANT_SIZES)
        q->group_size[q->n_sizes++] = (int32_t)size;
}

/* -1 and absence: all columns. */
static enum mb_status group_size(const struct mb_cfg *c, const char *keys, struct mb_quant *q)
{
    int64_t size = -1;

    MB_TRY(mb_cfg_int(c, keys, -1, MAX_BLOCK, &size, NULL));
    add_size(q, size);
    return MB_OK;
}

/* config_groups {NAME: {weights: {group_size}}}: several groups may have several sizes. */
static enum mb_status group_sizes(const struct mb_cfg *c, struct mb_quant *q)
{
    const json_t *groups, *g;
    const char *name;

    MB_TRY(mb_cfg_get(c, KEY("config_groups"), &groups, NULL, 0));
    json_object_foreach((json_t *)groups, name, g)
    {
        const json_t *size = json_object_get(json_object_get(g, "weights"), "group_size");
        if (json_is_integer(size))
            add_size(q, json_integer_value(size));
    }
    return MB_OK;
}

/* FP8 of compressed-tensors: every group must be of 8-bit floats with a scale for a tensor, a row or a block. */
static enum mb_status load_floats(const struct mb_cfg *c, struct mb_quant *q)
{
    const json_t *groups, *g;
    const char *name;

    q->fp8 = true;
    MB_TRY(mb_cfg_get(c, KEY("config_groups"), &groups, NULL, 0));
    json_object_foreach((json_t *)groups, name, g)
    {
        struct mb_cfg w = {json_object_get(g, "weights"), c->path, KEY("config_groups.*.weights.")};
        const char *type = "float", *strategy = "tensor";
        int64_t bits = 8;
        if (!json_is_object(w.root))
            return mb_error(MB_MODEL, "%s: quantization_config.config_groups.%.60s.weights: expected an object, found %s", c->path,
                            name, mb_json_type(w.root));
        MB_TRY(mb_cfg_int(&w, "num_bits", 8, 8, &bits, NULL));
        MB_TRY(text(&w, "type", "float", &type));
        MB_TRY(text(&w, "strategy", "tensor|channel|block", &strategy));
        if (strcmp(strategy, "block") == 0)
            MB_TRY(load_blocks(&w, "block_structure", q));
        q->by_row = q->by_row || strcmp(strategy, "channel") == 0;
    }
    return MB_OK;
}

static enum mb_status load_compressed(const struct mb_cfg *c, struct mb_quant *q)
{
    const char *format = "pack-quantized";

    MB_TRY(text(c, KEY("format"),
                "pack-quantized|int-quantized|nvfp4-pack-quantized|mxfp4-pack-quantized|mixed-precision|float-quantized|naive-quantized", &format));
    if (mb_arch_lists("float-quantized|naive-quantized", format))
        return load_floats(c, q);
    q->method = MB_QUANT_COMPRESSED;
    return group_sizes(c, q);
}

static enum mb_status load_awq(const struct mb_cfg *c, struct mb_quant *q)
{
    const char *version = "gemm";
    int64_t bits = 4;

    MB_TRY(text(c, KEY("version"), "gemm|GEMM", &version));
    MB_TRY(mb_cfg_int(c, KEY("bits") "|" KEY("w_bit"), 4, 4, &bits, NULL));
    q->method = MB_QUANT_AWQ;
    return group_size(c, KEY("group_size") "|" KEY("q_group_size"), q);
}

static enum mb_status load_gptq(const struct mb_cfg *c, struct mb_quant *q)
{
    const char *format = "gptq";
    int64_t bits = 4;

    MB_TRY(text(c, KEY("checkpoint_format"), "gptq|gptq_v2", &format));
    MB_TRY(mb_cfg_int(c, KEY("bits"), 4, 8, &bits, NULL));
    if (bits != 4 && bits != 8)
        return mb_error(MB_MODEL, "%s: quantization_config.bits: expected 4 or 8, found %lld", c->path,
                        (long long)bits);
    q->method = strcmp(format, "gptq") == 0 ? MB_QUANT_GPTQ : MB_QUANT_GPTQ_V2;
    MB_TRY(mb_cfg_bool(c, KEY("desc_act"), &q->desc_act));
    return group_size(c, KEY("group_size"), q);
}

static enum mb_status load_modelopt(const struct mb_cfg *c, struct mb_quant *q)
{
    const char *algo = "NVFP4";

    MB_TRY(text(c, KEY("quant_algo"), "NVFP4|FP8", &algo));
    q->fp8 = strcmp(algo, "FP8") == 0;
    if (q->fp8)
        return MB_OK;
    q->method = MB_QUANT_MODELOPT;
    return MB_OK;
}

enum mb_status mb_load_quant(const struct mb_cfg *c, struct mb_quant *q)
{
    static const struct {
        const char *name;
        enum mb_status (*load)(const struct mb_cfg *c, struct mb_quant *q);
    } methods[] = {{"fp8", load_fp8}, {"mxfp4", load_mxfp4}, {"compressed-tensors", load_compressed},
                   {"awq", load_awq}, {"gptq", load_gptq},   {"modelopt", load_modelopt}};
    const char *method = "";
    const json_t *v;

    MB_TRY(mb_cfg_get(c, "quantization_config", &v, NULL, 0));
    if (v == NULL)
        return MB_OK;
    MB_TRY(mb_cfg_str(c, KEY("quant_method"), &method, NULL));
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (strcmp(methods[i].name, method) == 0)
            return methods[i].load(c, q);
    }
    return one_of(c, KEY("quant_method"), "fp8|mxfp4|compressed-tensors|awq|gptq|modelopt", method);
}
