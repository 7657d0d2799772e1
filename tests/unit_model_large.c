/* A model with as many tensors, scales and shards as DeepSeek-V3 (but tiny matrices) loads in little time; and headers, configs
 * and indices with random damage never do worse than be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "model/model.h"
#include "tests/model_dir.h"

enum { LAYERS = 61, EXPERTS = 256, SHARDS = 163 };

struct maker {
    json_t *map;
    json_t *header[SHARDS];
    uint64_t bytes[SHARDS];
    int64_t tensors;
};

static void add(struct maker *k, const char *name, const char *dtype, int size, int rows, int cols)
{
    char file[64];
    int s = (int)(k->tensors++ % SHARDS);
    int64_t at = (int64_t)k->bytes[s], n = (int64_t)size * (rows > 0 ? rows : 1) * cols;
    json_t *shape = rows > 0 ? json_pack("[ii]", rows, cols) : json_pack("[i]", cols);

    json_object_set_new(k->header[s], name, json_pack("{s:s,s:o,s:[II]}", "dtype", dtype, "shape", shape, "data_offsets",
                                                      (json_int_t)at, (json_int_t)(at + n)));
    k->bytes[s] += (uint64_t)n;
    snprintf(file, sizeof file, "model-%05d-of-%05d.safetensors", s + 1, SHARDS);
    json_object_set_new(k->map, name, json_string(file));
}

static void add_fp8(struct maker *k, const char *prefix, const char *name, int rows, int cols)
{
    char full[256];

    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    add(k, full, "F8_E4M3", 1, rows, cols);
    snprintf(full, sizeof full, "%s%s.weight_scale_inv", prefix, name);
    add(k, full, "F32", 4, 1, 1);
}

static void add_vector(struct maker *k, const char *prefix, const char *name, const char *dtype, int size, int n)
{
    char full[256];

    snprintf(full, sizeof full, "%s%s", prefix, name);
    add(k, full, dtype, size, 0, n);
}

/* hidden 4, 1 head of 2 + 2, ranks 2, widths 2 */
static void add_layer(struct maker *k, int l)
{
    char p[64], e[128];

    snprintf(p, sizeof p, "model.layers.%d.", l);
    add_vector(k, p, "input_layernorm.weight", "BF16", 2, 4);
    add_vector(k, p, "post_attention_layernorm.weight", "BF16", 2, 4);
    add_fp8(k, p, "self_attn.q_a_proj", 2, 4);
    add_vector(k, p, "self_attn.q_a_layernorm.weight", "BF16", 2, 2);
    add_fp8(k, p, "self_attn.q_b_proj", 4, 2);
    add_fp8(k, p, "self_attn.kv_a_proj_with_mqa", 4, 4);
    add_vector(k, p, "self_attn.kv_a_layernorm.weight", "BF16", 2, 2);
    add_fp8(k, p, "self_attn.kv_b_proj", 4, 2);
    add_fp8(k, p, "self_attn.o_proj", 4, 2);
    for (int x = l < 3 ? -2 : -1; x < EXPERTS; x++) {
        if (l < 3 && x >= -1)
            return; /* dense */
        if (x < 0)
            snprintf(e, sizeof e, "%s%s", p, x == -2 ? "mlp." : "mlp.shared_experts.");
        else
            snprintf(e, sizeof e, "%smlp.experts.%d.", p, x);
        add_fp8(k, e, "gate_proj", 2, 4);
        add_fp8(k, e, "up_proj", 2, 4);
        add_fp8(k, e, "down_proj", 4, 2);
    }
    snprintf(e, sizeof e, "%smlp.gate.weight", p);
    add(k, e, "BF16", 2, EXPERTS, 4);
    add_vector(k, p, "mlp.gate.e_score_correction_bias", "F32", 4, EXPERTS);
}

#define CONFIG                                                                                                                   \
    "{\"model_type\": \"deepseek_v3\", \"num_hidden_layers\": 61, \"hidden_size\": 4, \"vocab_size\": 5, \"num_attention_heads\": 1," \
    " \"max_position_embeddings\": 64, \"q_lora_rank\": 2, \"kv_lora_rank\": 2, \"qk_nope_head_dim\": 2, \"qk_rope_head_dim\": 2," \
    " \"v_head_dim\": 2, \"n_routed_experts\": 256, \"num_experts_per_tok\": 8, \"n_group\": 8, \"topk_group\": 4,"              \
    " \"moe_intermediate_size\": 2, \"intermediate_size\": 2, \"n_shared_experts\": 1, \"first_k_dense_replace\": 3,"            \
    " \"num_nextn_predict_layers\": 1, \"quantization_config\": {\"quant_method\": \"fp8\", \"weight_block_size\": [128, 128]}}"

static void make(struct maker *k, const char *dir)
{
    char name[96], p[64];

    memset(k, 0, sizeof *k);
    k->map = json_object();
    for (int s = 0; s < SHARDS; s++)
        k->header[s] = json_object();
    add(k, "model.embed_tokens.weight", "BF16", 2, 5, 4);
    add(k, "lm_head.weight", "BF16", 2, 5, 4);
    add(k, "model.norm.weight", "BF16", 2, 0, 4);
    for (int l = 0; l <= LAYERS; l++)
        add_layer(k, l);
    snprintf(p, sizeof p, "model.layers.%d.", LAYERS);
    add_vector(k, p, "enorm.weight", "BF16", 2, 4);
    add_vector(k, p, "hnorm.weight", "BF16", 2, 4);
    add_vector(k, p, "shared_head.norm.weight", "BF16", 2, 4);
    snprintf(name, sizeof name, "%seh_proj.weight", p);
    add(k, name, "BF16", 2, 4, 8);
    for (int s = 0; s < SHARDS; s++) {
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", s + 1, SHARDS);
        dir_safetensors_json(dir, name, k->header[s], k->bytes[s]);
    }
    json_t *index = json_pack("{s:o}", "weight_map", k->map);
    dir_json(dir, "model.safetensors.index.json", index);
    json_decref(index);
    dir_text(dir, "config.json", CONFIG);
}

static void test_large(void **state)
{
    char dir[256];
    struct maker k;
    struct mb_model *m = NULL, *u = NULL;
    struct mb_bytes b = {0};
    struct mb_hash128 id;

    (void)state;
    dir_make(dir);
    make(&k, dir);
    double t0 = mb_clock_of(CLOCK_PROCESS_CPUTIME_ID);
    assert_int_equal(mb_model_open(dir, 0, &m), MB_OK);
    double t1 = mb_clock_of(CLOCK_PROCESS_CPUTIME_ID);
    assert_int_equal(mb_model_pack(m, &b), MB_OK);
    assert_int_equal(mb_model_unpack(b.data, b.len, &u), MB_OK);
    double t2 = mb_clock_of(CLOCK_PROCESS_CPUTIME_ID);
    assert_int_equal(mb_model_identity(dir, &id), MB_OK);
    double t3 = mb_clock_of(CLOCK_PROCESS_CPUTIME_ID);
    for (int32_t l = 3; l <= LAYERS; l++)
        for (int32_t e = 0; e < EXPERTS; e++)
            assert_non_null(mb_model_tensor(u, MB_T_E_DOWN, l, e));
    double t4 = mb_clock_of(CLOCK_PROCESS_CPUTIME_ID);
    print_message("CPU time: %lld stored tensors in %d files, %lld of the model: open %.3f s, pack and unpack %.3f s (%zu bytes), identity "
                  "%.3f s, 15104 look-ups %.4f s\n", (long long)k.tensors, SHARDS, (long long)m->n_tensors, t1 - t0, t2 - t1, b.len,
                  t3 - t2, t4 - t3);
    assert_int_equal(m->n_files, SHARDS);
    assert_int_equal(m->mtp_layers, 1);
    assert_true(m->n_tensors > 46000);
    assert_true(t1 - t0 < 20); /* anything quadratic takes minutes */
    mb_bytes_fini(&b);
    mb_model_destroy(m);
    mb_model_destroy(u);
    dir_remove(dir);
}

/* ---------------------------------------------------------------- random damage */
static uint32_t next(uint32_t *x)
{
    *x = *x * 1664525u + 1013904223u;
    return *x >> 8;
}

/* One file of the tiny model with a few bytes changed, cut or doubled. Any status but a crash; what loads must also pack. */
static void damage(const char *dir, const char *name, const char *good, size_t n, uint32_t *x, int *loaded)
{
    static const char marks[] = "{}[]\",:0123456789-+.eE\\ \n\0tfn\xff\x80";
    char *bad = malloc(n + 64);
    size_t len = n;
    struct mb_model *m = NULL;
    struct mb_bytes b = {0};

    memcpy(bad, good, n);
    for (uint32_t i = 0; i <= next(x) % 3; i++) {
        size_t at = next(x) % len;
        switch (next(x) % 4) {
        case 0:
            bad[at] = marks[next(x) % (sizeof marks - 1)];
            break;
        case 1:
            bad[at] = (char)(bad[at] ^ 1 << next(x) % 8);
            break;
        case 2:
            memmove(bad + at, bad + at + 1, len - at - 1);
            len -= len > 1;
            break;
        default:
            memmove(bad + at + 1, bad + at, len - at);
            len++;
        }
    }
    dir_write(dir, name, bad, len);
    enum mb_status st = mb_model_open(dir, 0, &m);
    if (st == MB_OK) {
        (*loaded)++;
        assert_int_equal(mb_model_pack(m, &b), MB_OK);
        mb_bytes_fini(&b);
        mb_model_destroy(m);
    } else {
        assert_int_equal(st, MB_MODEL);
    }
    dir_write(dir, name, good, n);
    free(bad);
}

static void test_damage(void **state)
{
    char dir[256];
    uint64_t bytes;
    uint32_t x = 7;
    int loaded = 0;
    json_t *h = tiny_header(0, 0, &bytes), *c = tiny_config(), *map = json_object();
    char *header = json_dumps(h, JSON_COMPACT), *config = json_dumps(c, JSON_COMPACT);
    size_t n = strlen(header);
    char *file = calloc(1, 8 + n + bytes);

    (void)state;
    for (size_t i = 0; i < tiny_tensors(); i++)
        json_object_set_new(map, tiny_name(i), json_string("model.safetensors"));
    json_t *index = json_pack("{s:o}", "weight_map", map);
    char *index_text = json_dumps(index, JSON_COMPACT);
    for (int i = 0; i < 8; i++)
        file[i] = (char)(n >> 8 * i & 255);
    memcpy(file + 8, header, n);
    dir_make(dir);
    dir_text(dir, "config.json", config);
    dir_text(dir, "model.safetensors.index.json", index_text);
    dir_write(dir, "model.safetensors", file, 8 + n + bytes);
    mb_log_set_rank(1, 2);
    mb_log_set_quiet(true);
    for (int i = 0; i < 2000; i++) {
        damage(dir, "model.safetensors", file, 8 + n, &x, &loaded);
        dir_write(dir, "model.safetensors", file, 8 + n + bytes);
        damage(dir, "config.json", config, strlen(config), &x, &loaded);
        damage(dir, "model.safetensors.index.json", index_text, strlen(index_text), &x, &loaded);
    }
    mb_log_set_rank(0, 1);
    mb_log_set_quiet(false);
    print_message("6000 damaged directories, %d of them still valid\n", loaded);
    assert_true(loaded < 3000);
    free(file);
    free(header);
    free(config);
    free(index_text);
    json_decref(h);
    json_decref(c);
    json_decref(index);
    dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_large), cmocka_unit_test(test_damage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
