/* What lies beside the weights of a quantised directory. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "base/fs.h"
#include "base/json.h"
#include "base/log.h"
#include "base/publish.h"
#include "model/load.h"
#include "model/quantise_impl.h"

#define TEXT_MAX ((uint64_t)256 << 20) /* tokenizers have up to some ten MB */

/* ---------------------------------------------------------------- config.json */
static json_t *names_of(const struct mb_quantise_result *r)
{
    json_t *list = json_array();

    for (int64_t i = 0; i < r->n_wide; i++)
        (void)json_array_append_new(list, json_string(r->wide[i]));
    return list;
}

/* The dialect of compressed-tensors. */
static json_t *compressed(const struct mb_quantiser *q, json_t *ignore)
{
    bool mx = q->to == MB_QUANTISED_MXFP4;
    json_t *weights =
        json_pack("{s:i, s:s, s:b, s:s, s:b, s:n}", "num_bits", q->to == MB_QUANTISED_INT8 ? 8 : 4, "type",
                  mx ? "float" : "int", "symmetric", 1, "strategy",
                  q->to == MB_QUANTISED_INT8 ? "channel" : "group", "dynamic", 0, "actorder");

    if (q->to != MB_QUANTISED_INT8)
        (void)json_object_set_new(weights, "group_size", json_integer(mx ? 32 : q->group));
    if (mx)
        (void)json_object_set_new(weights, "scale_dtype", json_string("torch.uint8"));
    const char *format = mx ? "mxfp4-pack-quantized" : "pack-quantized";
    json_t *group = json_pack("{s:[s], s:o, s:n, s:n, s:s}", "targets", "Linear", "weights", weights,
                              "input_activations", "output_activations", "format", format);
    return json_pack("{s:s, s:s, s:s, s:n, s:{s:o}, s:o}", "quant_method", "compressed-tensors", "format",
                     format, "quantization_status", "compressed", "kv_cache_scheme", "config_groups",
                     "group_0", group, "ignore", ignore);
}

static json_t *description(const struct mb_quantiser *q, const struct mb_quantise_result *r)
{
    json_t *wide = names_of(r);

    if (q->to == MB_QUANTISED_FP8)
        return json_pack("{s:s, s:s, s:s, s:[i, i], s:o}", "quant_method", "fp8", "fmt", "e4m3",
                         "activation_scheme", "dynamic", "weight_block_size", MB_FP8_BLOCK, MB_FP8_BLOCK,
                         "modules_to_not_convert", wide);
    if (r->stacked)
        return json_pack("{s:s, s:o}", "quant_method", "mxfp4", "modules_to_not_convert", wide);
    return compressed(q, wide);
}

static enum mb_status write_json(const struct mb_quantise_options *o, const char *name, const json_t *v)
{
    char *text = json_dumps(v, JSON_INDENT(2)), *path = mb_path_join(o->to, name);
    enum mb_status st = text == NULL || path == NULL ? mb_error(MB_NO_MEMORY, "no memory for %s", name)
                                                     : mb_publish_bytes(path, text, strlen(text), 0);
    free(text);
    free(path);
    return st;
}

enum mb_status mb_recasts_config(const struct mb_quantise_options *o, const struct mb_recasts *p,
                                 const struct mb_quantise_result *r)
{
    char *path = mb_path_join(p->m->dir, "config.json");
    json_t *root = NULL, *text;
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path")
                                     : mb_json_load(path, MB_MAX_CONFIG_BYTES, MB_MODEL, &root);

    free(path);
    MB_TRY(st);
    text = json_object_get(root, "text_config");
    if (json_is_object(text))
        (void)json_object_del(text, "quantization_config");
    if (json_object_set_new(root, "quantization_config", description(&o->q, r)) != 0)
        st = mb_error(MB_NO_MEMORY, "no memory for config.json");
    else
        st = write_json(o, "config.json", root);
    json_decref(root);
    return st;
}

/* ---------------------------------------------------------------- the other files */
/* Weights in whatever form, descriptions of a form that is no more, and what this program wrote. */
static bool left_out(const char *name)
{
    static const char *const tails[] = {".safetensors", ".safetensors.index.json",
                                        ".bin",         ".bin.index.json",
                                        ".pt",          ".pth",
                                        ".gguf",        ".h5",
                                        ".msgpack",     ".onnx",
                                        ".ot",          ".npz"};
    static const char *const names[] = {"config.json",       "hf_quant_config.json", "quantize_config.json",
                                        "quant_config.json", "recipe.yaml",          MB_QUANTISE_MANIFEST};
    size_t n = strlen(name);

    if (name[0] == '.')
        return true;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++) {
        size_t t = strlen(tails[i]);
        if (n > t && strcmp(name + n - t, tails[i]) == 0)
            return true;
    }
    return false;
}

static enum mb_status copy_text(const struct mb_quantise_options *o, const char *name)
{
    struct mb_bytes b = {0};
    struct stat sb;
    char *from = mb_path_join(o->from, name), *to = mb_path_join(o->to, name);
    enum mb_status st = from == NULL || to == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path") : MB_OK;
    bool file = st == MB_OK && stat(from, &sb) == 0 && S_ISREG(sb.st_mode);

    if (file && (uint64_t)sb.st_size > TEXT_MAX) {
        mb_warn("%s has %lld bytes: that is no text, and is not copied", from, (long long)sb.st_size);
        file = false;
    }
    if (file)
        st = mb_file_read(from, TEXT_MAX, MB_MODEL, &b);
    if (file && st == MB_OK)
        st = mb_publish_bytes(to, b.data != NULL ? (const void *)b.data : "", b.len, 0);
    mb_bytes_fini(&b);
    free(from);
    free(to);
    return st;
}

enum mb_status mb_recasts_texts(const struct mb_quantise_options *o)
{
    DIR *d = opendir(o->from);
    enum mb_status st = MB_OK;

    if (d == NULL)
        return mb_error(MB_IO, "%s: %s", o->from, strerror(errno));
    for (struct dirent *e = readdir(d); e != NULL && st == MB_OK; e = readdir(d))
        if (!left_out(e->d_name))
            st = copy_text(o, e->d_name);
    closedir(d);
    return st;
}

/* ---------------------------------------------------------------- the whole */
void mb_quantise_result_fini(struct mb_quantise_result *r)
{
    for (int64_t i = 0; i < r->n_tensors; i++)
        free(r->tensors[i].name);
    free(r->tensors);
    for (int64_t i = 0; i < r->n_wide; i++)
        free(r->wide[i]);
    free(r->wide);
    mb_files_fini(&r->files);
    memset(r, 0, sizeof *r);
}

enum mb_status mb_quantise_dir(const struct mb_quantise_options *o, struct mb_quantise_result *out)
{
    struct mb_recasts p = {0};
    enum mb_status st = mb_recasts_make(o, out, &p);

    if (st == MB_OK)
        st = mb_recasts_write(o, &p, out);
    if (st == MB_OK)
        st = mb_recasts_config(o, &p, out);
    if (st == MB_OK)
        st = mb_recasts_texts(o);
    mb_recasts_fini(&p);
    return st;
}
