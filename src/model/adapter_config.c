#include "model/adapter_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/log.h"
#include "model/load.h"

/* Keys that say nothing about y = W x + scale B (A x): where the terms are is in the tensors' names, the rest
 * is about training. */
static const char *const harmless[] = {"task_type",          "base_model_name_or_path",
                                       "revision",           "inference_mode",
                                       "lora_dropout",       "target_modules",
                                       "exclude_modules",    "layers_to_transform",
                                       "layers_pattern",     "auto_mapping",
                                       "peft_version",       "megatron_core",
                                       "runtime_config",     "qalora_group_size",
                                       "eva_config",         "target_parameters",
                                       "ensure_weight_tying"};

/* Keys that are read below. */
static const char *const read_here[] = {"peft_type",  "bias",       "r",
                                        "lora_alpha", "use_rslora", "init_lora_weights"};

/* Keys that, once set, make another thing of the adapter, with its name. */
static const struct {
    const char *key, *name;
} others[] = {{"use_dora", "DoRA: weights normed by column"},
              {"use_qalora", "QALoRA: inputs pooled by groups"},
              {"use_bdlora", "BD-LoRA: block-diagonal factors"},
              {"bdlora_config", "BD-LoRA: block-diagonal factors"},
              {"alora_invocation_tokens", "aLoRA: terms only behind the invocation tokens"},
              {"kasa_config", "KaSA: singular values between the factors"},
              {"use_kasa", "KaSA: singular values between the factors"},
              {"velora_config", "VeLoRA"},
              {"monteclora_config", "MonteCLoRA: sampled factors"},
              {"loftq_config", "LoftQ: made for quantised weights"},
              {"corda_config", "CorDA: the base's weights are changed"},
              {"lora_ga_config", "LoRA-GA: the base's weights are changed"},
              {"arrow_config", "Arrow: a router over adapters"},
              {"fan_in_fan_out", "transposed weights"},
              {"lora_bias", "a bias of the second factor"},
              {"rank_pattern", "ranks of their own for some modules"},
              {"alpha_pattern", "scales of their own for some modules"},
              {"modules_to_save", "whole modules beside the factors"},
              {"layer_replication", "layers that are there several times"},
              {"trainable_token_indices", "rows of the embedding"},
              {"megatron_config", "modules of Megatron"}};

/* Ways to begin that leave the base's weights alone. PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA subtract from
 * them what the factors begin with: on the weights as published the sum would be another. */
static const char *const plain_starts[] = {"gaussian", "eva", "orthogonal", "true", "false"};

static bool listed(const char *word, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(word, list[i]) == 0)
            return true;
    }
    return false;
}
#define LISTED(word, list) listed(word, list, sizeof(list) / sizeof(list)[0])

static bool unset(const json_t *v)
{
    return json_is_null(v) || json_is_false(v) || (json_is_object(v) && json_object_size(v) == 0) ||
           (json_is_array(v) && json_array_size(v) == 0) || (json_is_string(v) && json_string_length(v) == 0);
}

static enum mb_status check_key(const struct mb_cfg *c, const char *key, const json_t *v)
{
    char text[96];

    if (unset(v) || LISTED(key, harmless) || LISTED(key, read_here))
        return MB_OK;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strcmp(key, others[i].key) == 0)
            return mb_error(MB_MODEL, "%s: %s: expected nothing (%s; not supported), found %s", c->path, key,
                            others[i].name, mb_cfg_text(v, text, sizeof text));
    }
    return mb_error(
        MB_MODEL, "%s: %.100s: expected nothing (a setting that is not known to leave LoRA plain), found %s",
        c->path, key, mb_cfg_text(v, text, sizeof text));
}

static enum mb_status check_start(const struct mb_cfg *c)
{
    const json_t *v;
    char text[96];

    MB_TRY(mb_cfg_get(c, "init_lora_weights", &v, NULL, 0));
    if (v == NULL || json_is_boolean(v) || (json_is_string(v) && LISTED(json_string_value(v), plain_starts)))
        return MB_OK;
    return mb_error(
        MB_MODEL,
        "%s: init_lora_weights: expected true, false, gaussian, eva or orthogonal, which leave the base's "
        "weights "
        "as they are, found %s; the base this adapter was trained on is another one (save it converted, with "
        "path_initial_model_for_weight_conversion)",
        c->path, mb_cfg_text(v, text, sizeof text));
}

static enum mb_status need_text(const struct mb_cfg *c, const char *key, const char *want, bool required)
{
    const char *found = required ? "nothing" : want;

    MB_TRY(mb_cfg_str(c, key, &found, NULL));
    if (strcmp(found, want) != 0)
        return mb_error(MB_MODEL, "%s: %s: expected %s, found %.60s", c->path, key, want, found);
    return MB_OK;
}

static enum mb_status read_settings(const struct mb_cfg *c, struct mb_adapter *a)
{
    int64_t r;
    double alpha;
    bool rs = false;
    const char *key;
    json_t *v;

    if (!json_is_object(c->root))
        return mb_error(MB_MODEL, "%s: expected an object, found %s", c->path, mb_json_type(c->root));
    MB_TRY(need_text(c, "peft_type", "LORA", true));
    MB_TRY(need_text(c, "bias", "none", false));
    json_object_foreach((json_t *)c->root, key, v) MB_TRY(check_key(c, key, v));
    MB_TRY(check_start(c));
    MB_TRY(mb_cfg_need_int(c, "r", 1, MB_MAX_RANK, &r));
    MB_TRY(mb_cfg_need_real(c, "lora_alpha", 1e-9, 1e9, &alpha));
    MB_TRY(mb_cfg_bool(c, "use_rslora", &rs));
    a->rank = (int32_t)r;
    a->scale = (float)(rs ? alpha / sqrt((double)r) : alpha / (double)r);
    return MB_OK;
}

enum mb_status mb_adapter_settings(const char *dir, struct mb_adapter *a)
{
    json_t *root = NULL;
    char *path = mb_path_join(dir, "adapter_config.json");
    enum mb_status st = path == NULL ? mb_error(MB_NO_MEMORY, "no memory for a path")
                                     : mb_json_load(path, MB_MAX_CONFIG_BYTES, MB_MODEL, &root);
    if (st == MB_OK)
        st = read_settings(&(struct mb_cfg){root, path, ""}, a);
    json_decref(root);
    free(path);
    return st;
}
