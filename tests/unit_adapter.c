/* LoRA adapters: the three of tests/data/lora against values read here by hand, pairs by role for every architecture's modules,
 * and directories that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "model/adapter.h"
#include "model/reader.h"
#include "tests/model_dir.h"

static const char *data_path(const char *kind, const char *name, char out[512])
{
    const char *s = getenv("top_srcdir");
    snprintf(out, 512, "%s/tests/data/%s/%s", s != NULL ? s : ".", kind, name);
    return out;
}

static struct mb_model *open_model(const char *name)
{
    char path[512];
    struct mb_model *m = NULL;
    assert_int_equal(mb_model_open(data_path("models", name, path), 0, &m), MB_OK);
    return m;
}

/* ---------------------------------------------------------------- the reference adapters */
/* Every stored matrix, found by its name in the file, against what the adapter says of it. */
static void check_values(const char *dir, const struct mb_adapter *a, const char *module, const struct mb_lora *lo)
{
    char name[256], *path = mb_path_join(dir, "adapter_model.safetensors");
    struct mb_bytes raw = {0};
    struct mb_reader *r;
    struct mb_host_matrix h;
    uint64_t n = 0;

    assert_int_equal(mb_file_read(path, 1 << 20, MB_IO, &raw), MB_OK);
    memcpy(&n, raw.data, 8);
    json_t *header = json_loadb((char *)raw.data + 8, n, 0, NULL);
    assert_int_equal(mb_reader_create(&a->files, NULL, &r), MB_OK);
    for (int half = 0; half < 2; half++) {
        const struct mb_tensor *t = half == 0 ? &lo->a : &lo->b;
        snprintf(name, sizeof name, "base_model.model.%s.lora_%c.weight", module, half == 0 ? 'A' : 'B');
        json_t *e = json_object_get(header, name);
        assert_non_null(e);
        assert_int_equal(json_integer_value(json_array_get(json_object_get(e, "shape"), 0)), t->n);
        assert_int_equal(json_integer_value(json_array_get(json_object_get(e, "shape"), 1)), t->k);
        int64_t at = json_integer_value(json_array_get(json_object_get(e, "data_offsets"), 0));
        float *x = malloc((size_t)(t->n * t->k) * sizeof *x);
        assert_int_equal(mb_reader_rows(r, t, 0, t->n, &h), MB_OK);
        mb_host_to_f32(&h, x);
        assert_memory_equal(x, raw.data + 8 + n + at, (size_t)(t->n * t->k) * sizeof *x);
        free(x);
    }
    mb_reader_destroy(r);
    json_decref(header);
    mb_bytes_fini(&raw);
    free(path);
}

static void compare(const struct mb_adapter *a, const struct mb_adapter *b)
{
    assert_int_equal(a->rank, b->rank);
    assert_true(a->scale == b->scale);
    assert_int_equal(a->n_loras, b->n_loras);
    assert_memory_equal(a->loras, b->loras, (size_t)a->n_loras * sizeof *a->loras);
    assert_string_equal(a->files.files[0], b->files.files[0]);
}

static struct mb_adapter *open_adapter(const char *name, const struct mb_model *m)
{
    char path[512];
    struct mb_adapter *a = NULL, *u = NULL;
    struct mb_bytes b = {0};
    struct mb_hash128 id;

    assert_int_equal(mb_adapter_open(data_path("lora", name, path), m, &a), MB_OK);
    assert_int_equal(mb_adapter_identity(path, &id), MB_OK);
    assert_int_equal(mb_adapter_pack(a, &b), MB_OK);
    assert_int_equal(mb_adapter_unpack(b.data, b.len, &u), MB_OK);
    compare(a, u);
    mb_log_set_rank(1, 2);
    mb_log_set_quiet(true);
    for (size_t i = 0; i < b.len; i += 7) {
        struct mb_adapter *bad = NULL;
        b.data[i] ^= 4;
        assert_int_equal(mb_adapter_unpack(b.data, b.len, &bad), MB_CORRUPT);
        b.data[i] ^= 4;
        assert_int_equal(mb_adapter_unpack(b.data, i, &bad), MB_CORRUPT);
    }
    mb_log_set_rank(0, 1);
    mb_log_set_quiet(false);
    mb_bytes_fini(&b);
    mb_adapter_destroy(a);
    return u;
}

static void test_attention(void **state)
{
    static const struct {
        enum mb_role role;
        const char *name;
    } modules[] = {{MB_T_Q, "q_proj"}, {MB_T_K, "k_proj"}, {MB_T_V, "v_proj"}, {MB_T_O, "o_proj"}};
    char path[512], module[128];
    struct mb_model *m = open_model("mixtral_a");
    struct mb_adapter *a = open_adapter("mixtral_a__attn_r4", m);

    (void)state;
    assert_int_equal(a->rank, 4);
    assert_true(a->scale == 2.0f);
    assert_int_equal(a->n_loras, 8);
    for (int32_t l = 0; l < 2; l++) {
        for (int i = 0; i < 4; i++) {
            const struct mb_lora *lo = mb_adapter_find(a, modules[i].role, l, -1);
            assert_non_null(lo);
            snprintf(module, sizeof module, "model.layers.%d.self_attn.%s", l, modules[i].name);
            check_values(data_path("lora", "mixtral_a__attn_r4", path), a, module, lo);
        }
    }
    assert_null(mb_adapter_find(a, MB_T_Q, 2, -1));
    assert_null(mb_adapter_find(a, MB_T_E_GATE, 0, 0));
    mb_adapter_destroy(a);
    mb_model_destroy(m);
}

static void test_experts(void **state)
{
    static const struct {
        enum mb_role role;
        const char *name;
    } modules[] = {{MB_T_E_GATE, "w1"}, {MB_T_E_DOWN, "w2"}, {MB_T_E_UP, "w3"}};
    char path[512], module[128];
    struct mb_model *m = open_model("mixtral_a");
    struct mb_adapter *a = open_adapter("mixtral_a__experts_r2", m);

    (void)state;
    assert_int_equal(a->rank, 2);
    assert_true(a->scale == 3.0f);
    assert_int_equal(a->n_loras, 48);
    for (int32_t l = 0; l < 2; l++) {
        for (int32_t e = 0; e < 8; e++) {
            for (int i = 0; i < 3; i++) {
                const struct mb_lora *lo = mb_adapter_find(a, modules[i].role, l, e);
                assert_non_null(lo);
                snprintf(module, sizeof module, "model.layers.%d.block_sparse_moe.experts.%d.%s", l, e, modules[i].name);
                check_values(data_path("lora", "mixtral_a__experts_r2", path), a, module, lo);
            }
        }
    }
    mb_adapter_destroy(a);
    mb_model_destroy(m);
}

static void test_rslora(void **state)
{
    struct mb_model *m = open_model("qwen3moe_b");
    struct mb_adapter *a = open_adapter("qwen3moe_b__qv_r3_rslora", m);

    (void)state;
    assert_int_equal(a->rank, 3);
    assert_true(a->scale == (float)(5 / sqrt(3)));
    assert_int_equal(a->n_loras, 6);
    mb_adapter_destroy(a);
    mb_model_destroy(m);
}

/* ---------------------------------------------------------------- made adapters */
/* An adapter of rank 2 with one module of the given sizes (f32, all ones) */
static json_t *module_header(const char *module, int out, int in, uint64_t *bytes)
{
    char name[256];
    json_t *h = json_object();
    int a = 4 * 2 * in, b = 4 * 2 * out;

    snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", module);
    json_object_set_new(h, name, json_pack("{s:s,s:[ii],s:[ii]}", "dtype", "F32", "shape", 2, in, "data_offsets", 0, a));
    snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", module);
    json_object_set_new(h, name, json_pack("{s:s,s:[ii],s:[ii]}", "dtype", "F32", "shape", out, 2, "data_offsets", a, a + b));
    *bytes = (uint64_t)(a + b);
    return h;
}

#define SETTINGS "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, \"bias\": \"none\"}"

/* model, module, sizes, and the roles (with layer and expert) that must come out of it. */
static void test_modules(void **state)
{
    static const struct {
        const char *model, *module;
        int out, in, layer, expert;
        enum mb_role roles[4];
        int n_roles;
    } rows[] = {
        {"deepseekv3_a", "model.layers.0.self_attn.q_a_proj", 24, 48, 0, -1, {MB_T_Q_A}, 1},
        {"deepseekv3_a", "model.layers.1.self_attn.q_b_proj", 80, 24, 1, -1, {MB_T_Q_BPROJ}, 1},
        {"deepseekv3_a", "model.layers.2.self_attn.kv_a_proj_with_mqa", 24, 48, 2, -1, {MB_T_KV_A}, 1},
        {"deepseekv3_a", "model.layers.2.self_attn.kv_b_proj", 88, 16, 2, -1, {MB_T_KV_B}, 1},
        {"deepseekv3_a", "model.layers.1.mlp.experts.15.down_proj", 48, 12, 1, 15, {MB_T_E_DOWN}, 1},
        {"deepseekv3_a", "model.layers.1.mlp.shared_experts.up_proj", 12, 48, 1, -1, {MB_T_SH_UP}, 1},
        {"deepseekv3_a", "model.layers.0.mlp.gate_proj", 40, 48, 0, -1, {MB_T_GATE}, 1},
        {"deepseekv3_b", "model.layers.0.self_attn.q_proj", 48, 36, 0, -1, {MB_T_Q}, 1},
        {"dbrx_a", "transformer.blocks.1.norm_attn_norm.attn.Wqkv", 80, 48, 1, -1, {MB_T_Q, MB_T_K, MB_T_V}, 3},
        {"dbrx_a", "transformer.blocks.0.norm_attn_norm.attn.out_proj", 48, 48, 0, -1, {MB_T_O}, 1},
        {"grok1_a", "model.layers.1.moe_block.experts.7.linear_v", 26, 48, 1, 7, {MB_T_E_UP}, 1},
        {"gptoss_a", "model.layers.1.self_attn.o_proj", 40, 48, 1, -1, {MB_T_O}, 1},
        {"qwen2moe_a", "model.layers.1.mlp.shared_expert.down_proj", 56, 36, 1, -1, {MB_T_SH_DOWN}, 1},
        {"llama_a", "model.layers.1.mlp.down_proj", 48, 72, 1, -1, {MB_T_DOWN}, 1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char dir[256];
        uint64_t bytes;
        struct mb_model *m = open_model(rows[i].model);
        struct mb_adapter *a = NULL;
        json_t *h = module_header(rows[i].module, rows[i].out, rows[i].in, &bytes);
        dir_make(dir);
        dir_text(dir, "adapter_config.json", SETTINGS);
        dir_safetensors_json(dir, "adapter_model.safetensors", h, bytes);
        assert_int_equal(mb_adapter_open(dir, m, &a), MB_OK);
        assert_int_equal(a->n_loras, rows[i].n_roles);
        int64_t out = 0;
        uint64_t first = 0;
        for (int r = 0; r < rows[i].n_roles; r++) {
            const struct mb_lora *lo = mb_adapter_find(a, rows[i].roles[r], rows[i].layer, rows[i].expert);
            const struct mb_tensor *w = mb_model_tensor(m, rows[i].roles[r], rows[i].layer, rows[i].expert);
            assert_non_null(lo);
            assert_int_equal(lo->a.k, w->k);
            assert_int_equal(lo->b.n, w->n);
            first = r == 0 ? lo->b.offset : first;
            assert_int_equal(lo->b.offset, first + (uint64_t)out * 8); /* fused: the rows behind the former's */
            out += lo->b.n;
        }
        assert_int_equal(out, rows[i].out);
        mb_adapter_destroy(a);
        mb_model_destroy(m);
        dir_remove(dir);
    }
}

/* ---------------------------------------------------------------- refusals */
static int failures;

static void refuse(const char *dir, const struct mb_model *m, const char *label, const char *const want[3])
{
    struct mb_adapter *a = NULL;

    catch_begin();
    enum mb_status st = mb_adapter_open(dir, m, &a);
    char *text = catch_end();
    bool ok = st == MB_MODEL && a == NULL && strstr(text, dir) != NULL;
    for (int i = 0; i < 3; i++)
        ok = ok && (want[i] == NULL || strstr(text, want[i]) != NULL);
    if (!ok) {
        print_error("%s: %s: %s\n", label, mb_status_name(st), text);
        failures++;
    }
    free(text);
}

static void test_config(void **state)
{
    static const struct {
        const char *key, *json, *expected, *found;
    } rows[] = {
        {"peft_type", "\"LOHA\"", "expected LORA", "found LOHA"},
        {"peft_type", NULL, "expected LORA", "found nothing"},
        {"bias", "\"all\"", "expected none", "found all"},
        {"r", NULL, "expected an integer from 1 to 4096", "found nothing"},
        {"r", "0", "expected an integer from 1 to 4096", "found 0"},
        {"r", "-2", "expected an integer from 1 to 4096", "found -2"},
        {"r", "4097", "expected an integer from 1 to 4096", "found 4097"},
        {"r", "\"2\"", "expected an integer from 1 to 4096", "found \"2\""},
        {"lora_alpha", NULL, "expected a number", "found nothing"},
        {"lora_alpha", "0", "expected a number", "found 0"},
        {"lora_alpha", "[4]", "expected a number", "found [4]"},
        {"use_rslora", "1", "expected true or false", "found 1"},
        {"use_dora", "true", "expected nothing", "found true"},
        {"fan_in_fan_out", "true", "expected nothing", "found true"},
        {"lora_bias", "true", "expected nothing", "found true"},
        {"rank_pattern", "{\"q_proj\": 3}", "expected nothing", "found {\"q_proj\":3}"},
        {"alpha_pattern", "{\"q_proj\": 3}", "expected nothing", "found {\"q_proj\":3}"},
        {"modules_to_save", "[\"lm_head\"]", "expected nothing", "found [\"lm_head\"]"},
        {"layer_replication", "[[0, 1]]", "expected nothing", "found [[0,1]]"},
        {"init_lora_weights", "\"pissa\"", "leave the base's weights", "found \"pissa\""},
        {"init_lora_weights", "\"pissa_niter_4\"", "leave the base's weights", "found \"pissa_niter_4\""},
        {"init_lora_weights", "\"olora\"", "leave the base's weights", "found \"olora\""},
        {"init_lora_weights", "\"corda\"", "leave the base's weights", "found \"corda\""},
        {"init_lora_weights", "\"loftq\"", "leave the base's weights", "found \"loftq\""},
        {"init_lora_weights", "\"lora_ga\"", "leave the base's weights", "found \"lora_ga\""},
        {"init_lora_weights", "[1]", "leave the base's weights", "found [1]"},
        {"alora_invocation_tokens", "[7, 8, 9]", "expected nothing (aLoRA", "found [7,8,9]"},
        {"use_bdlora", "{\"nblocks\": 4}", "expected nothing (BD-LoRA", "found {\"nblocks\":4}"},
        {"kasa_config", "{\"beta\": 0.1}", "expected nothing (KaSA", "found {\"beta\":0.1}"},
        {"use_qalora", "true", "expected nothing (QALoRA", "found true"},
        {"arrow_config", "{\"top_k\": 2}", "expected nothing (Arrow", "found {\"top_k\":2}"},
        {"loftq_config", "{\"loftq_bits\": 4}", "expected nothing (LoftQ", "found {\"loftq_bits\":4}"},
        {"corda_config", "{\"corda_method\": \"ipm\"}", "expected nothing (CorDA", "found"},
        {"use_something_new", "true", "not known to leave LoRA plain", "found true"},
        {"something_new", "0.5", "not known to leave LoRA plain", "found 0.5"},
    };
    char dir[256];
    uint64_t bytes;
    struct mb_model *m = open_model("mixtral_a");

    (void)state;
    failures = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *h = module_header("model.layers.0.self_attn.q_proj", 48, 48, &bytes), *c = json_loads(SETTINGS, 0, NULL);
        dir_make(dir);
        json_edit(c, rows[i].key, rows[i].json);
        dir_json(dir, "adapter_config.json", c);
        json_decref(c);
        dir_safetensors_json(dir, "adapter_model.safetensors", h, bytes);
        refuse(dir, m, rows[i].key, (const char *const[3]){rows[i].key, rows[i].expected, rows[i].found});
        dir_remove(dir);
    }
    mb_model_destroy(m);
    assert_int_equal(failures, 0);
}

static void module_case(const struct mb_model *m, const char *module, int out, int in, const char *drop, const char *expected,
                        const char *found)
{
    char dir[256];
    uint64_t bytes;
    json_t *h = module_header(module, out, in, &bytes);

    dir_make(dir);
    dir_text(dir, "adapter_config.json", SETTINGS);
    if (drop != NULL) { /* the other half keeps the bytes: one tensor of another name */
        char name[256];
        snprintf(name, sizeof name, "base_model.model.%s.lora_%s.weight", module, drop);
        json_object_set(h, "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight", json_object_get(h, name));
        json_object_del(h, name);
    }
    dir_safetensors_json(dir, "adapter_model.safetensors", h, bytes);
    refuse(dir, m, module, (const char *const[3]){"adapter_model.safetensors", expected, found});
    dir_remove(dir);
}

static void test_tensors(void **state)
{
    char dir[256];
    struct mb_model *m = open_model("mixtral_a");

    (void)state;
    failures = 0;
    module_case(m, "model.layers.0.self_attn.q_proj", 47, 48, NULL, "expected [48, 2]", "found [47, 2]");
    module_case(m, "model.layers.0.self_attn.q_proj", 48, 40, NULL, "expected [2, 48]", "found [2, 40]");
    module_case(m, "model.layers.2.self_attn.q_proj", 48, 48, NULL, "expected a linear module", "found model.layers.2.self_attn.q_proj");
    module_case(m, "model.layers.00.self_attn.q_proj", 48, 48, NULL, "expected a linear module", "found model.layers.00");
    module_case(m, "model.layers.99999999999.self_attn.q_proj", 48, 48, NULL, "expected a linear module", "found model.layers.999");
    module_case(m, "model.layers..self_attn.q_proj", 48, 48, NULL, "expected a linear module", "found model.layers..self");
    module_case(m, "model.layers.0.self_attn.q_projx", 48, 48, NULL, "expected a linear module", "found model.layers.0.self_attn.q_projx");
    module_case(m, "model.layers.0.block_sparse_moe.gate", 8, 48, NULL, "expected a linear module", "found model.layers.0.block_sparse_moe.gate");
    module_case(m, "model.layers.0.block_sparse_moe.experts.8.w1", 28, 48, NULL, "expected a linear module", "experts.8.w1");
    module_case(m, "model.layers.0.mlp.gate_proj", 28, 48, NULL, "expected a linear module", "found model.layers.0.mlp.gate_proj");
    module_case(m, "lm_head", 288, 48, NULL, "expected a linear module", "found lm_head");
    module_case(m, "model.layers.0.self_attn.q_proj", 48, 48, "A", "expected with its lora_A", "found alone");
    dir_make(dir);
    dir_text(dir, "adapter_config.json", SETTINGS);
    refuse(dir, m, "no file", (const char *const[3]){"expected adapter_model.safetensors", "found neither", NULL});
    dir_safetensors(dir, "adapter_model.safetensors", "{}", -1, 0);
    refuse(dir, m, "empty", (const char *const[3]){"expected at least one", "found none", NULL});
    dir_safetensors(dir, "adapter_model.safetensors",
                    "{\"a.b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}", -1, 4);
    refuse(dir, m, "name", (const char *const[3]){"a.b: expected a name of the form", "found another", NULL});
    dir_text(dir, "adapter_config.json", "[]");
    refuse(dir, m, "list", (const char *const[3]){"adapter_config.json: expected an object", "found a list", NULL});
    dir_remove(dir);
    mb_model_destroy(m);
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention), cmocka_unit_test(test_experts), cmocka_unit_test(test_rslora),
        cmocka_unit_test(test_modules),   cmocka_unit_test(test_config),  cmocka_unit_test(test_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
