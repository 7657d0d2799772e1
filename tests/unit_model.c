/* Models as data: every reference model against a table written by hand from its config.json and the specification, every
 * tensor, frequency and rotary entry against an independent reader in Python (model_ref.py), the flat form, a large index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "base/fs.h"
#include "base/hash.h"
#include "base/log.h"
#include "model/reader.h"
#include "tests/model_dir.h"

static const char *top(void)
{
    const char *s = getenv("top_srcdir");
    return s != NULL ? s : ".";
}

static struct mb_model *open_model(const char *name)
{
    char path[512];
    struct mb_model *m = NULL;

    snprintf(path, sizeof path, "%s/tests/data/models/%s", top(), name);
    assert_int_equal(mb_model_open(path, 0, &m), MB_OK);
    return m;
}

/* ---------------------------------------------------------------- hyperparameters */
/* The model's fields as one line. */
static void describe(const struct mb_model *m, char *out, size_t cap)
{
    static const char *const acts[] = {"silu", "gelu", "gelu_tanh", "clamped"};
    static const char *const routers[] = {"softmax", "softmax_grouped", "sigmoid_grouped", "topk_softmax", "sparsemixer"};
    static const char *const renorms[] = {"none", "sum", "sum_eps", "pnorm"};
    static const char *const qk[] = {"", " qkhead", " qkwhole"};
    static const char *const paths[] = {"f32", "bf16", "fp8"};
    char moe[16] = "", win[64] = "";
    const struct mb_router *r = &m->router;
    size_t at = 0;

    for (int32_t l = 0; l < m->layers + m->mtp_layers; l++) {
        moe[l] = m->is_moe[l] ? '1' : '0';
        at += (size_t)snprintf(win + at, sizeof win - at, "%s%d", l > 0 ? "," : "", m->window[l]);
    }
    at = (size_t)snprintf(out, cap, "L%d H%d V%d pos%lld h%d/%d d%d/%d ffn%d moe%s win%s %s%g lat%g %s rd%d %s%s %s", m->layers,
                          m->hidden, m->vocab, (long long)m->max_positions, m->heads, m->kv_heads, m->head_dim, m->v_dim, m->ffn,
                          moe, win, m->norm == MB_NORM_RMS ? "rms" : "ln", (double)m->norm_eps, (double)m->latent_eps,
                          m->rope_style == MB_ROPE_HALF ? "half" : "pairs", m->rope_dim, acts[m->act], qk[m->qk_norm],
                          paths[m->auto_path]);
    if (m->mla)
        at += (size_t)snprintf(out + at, cap - at, " mla q%d kv%d n%d r%d", m->q_lora, m->kv_lora, m->nope, m->rope_mla);
    if (r->experts > 0)
        at += (size_t)snprintf(out + at, cap - at, " E%d k%d w%d sh%d%s %s %s g%d/%d x%g p%g e%g", r->experts, r->k, m->expert_ffn,
                               m->shared_ffn, m->shared_gate ? "gated" : "", routers[r->kind], renorms[r->renorm], r->topk_groups,
                               r->groups, (double)r->scale, (double)r->p, (double)r->eps);
    at += (size_t)snprintf(out + at, cap - at, " clip%g cap%g lim%g emb%g log%g bos%d eos", (double)m->clip_qkv, (double)m->softcap,
                           (double)m->act_limit, (double)m->embed_scale, (double)m->logit_scale, m->bos);
    for (int32_t i = 0; i < m->n_eos; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%d", i > 0 ? "," : "", m->eos[i]);
    if (m->linear_layers > 0) {
        const struct mb_delta_shape *d = &m->delta;
        at += (size_t)snprintf(out + at, cap - at, " delta%d/%dx%d/%d+%d ", d->key_heads, d->value_heads, d->dk, d->dv, d->taps);
        for (int32_t l = 0; l < m->layers; l++)
            out[at++] = m->linear[l] ? 'l' : 'f';
        at += (size_t)snprintf(out + at, cap - at, "%s%s", m->q_gate ? " gate" : "", m->norm_plus_one ? " 1+w" : "");
    }
    snprintf(out + at, cap - at, "%s%s%s%s%s%s%s%s%s", m->tied ? " tied" : "", m->post_norms ? " post" : "",
             m->norm_bias ? " normb" : "", m->qkv_bias ? " qkvb" : "", m->o_bias ? " ob" : "", m->head_bias ? " headb" : "",
             m->mlp_bias ? " mlpb" : "", m->expert_bias ? " expb" : "", m->sinks ? " sinks" : "");
}

#define REST " clip0 cap0 lim0 emb1 log1 bos1 eos2"
static const struct {
    const char *name, *arch, *text;
} models[] = {
    {"mixtral_a", "Mixtral", "L2 H48 V288 pos32768 h6/2 d8/8 ffn0 moe11 win0,0 rms1e-05 lat0 half rd8 silu f32 E8 k2 w28 sh0 softmax sum "
     "g1/1 x1 p1 e0 clip0 cap0 lim0 emb1 log1 bos1 eos60"},
    {"mixtral_b", "Mixtral", "L3 H40 V307 pos32768 h5/1 d8/8 ffn0 moe111 win24,24,24 rms1e-05 lat0 half rd8 silu bf16 E5 k3 w22 sh0 "
     "softmax sum g1/1 x1 p1 e0" REST},
    {"mixtral_dense", "Mixtral", "L2 H36 V260 pos32768 h6/3 d6/6 ffn0 moe11 win0,0 rms1e-05 lat0 half rd6 silu f32 E1 k1 w50 sh0 softmax "
     "sum g1/1 x1 p1 e0" REST},
    {"mistral_a", "Mistral", "L2 H40 V284 pos32768 h4/2 d12/12 ffn66 moe00 win20,20 rms1e-05 lat0 half rd12 silu bf16" REST},
    {"llama_a", "Llama", "L2 H48 V400 pos2048 h6/2 d8/8 ffn72 moe00 win0,0 rms1e-05 lat0 half rd8 silu f32 clip0 cap0 lim0 emb1 log1 "
     "bos1 eos2,72 tied"},
    {"llama_b", "Llama", "L3 H40 V270 pos2048 h4/4 d14/14 ffn60 moe000 win0,0,0 rms1e-05 lat0 half rd14 silu bf16" REST " qkvb ob mlpb"},
    {"qwen2moe_a", "Qwen2-MoE", "L2 H56 V311 pos8192 h7/7 d8/8 ffn0 moe11 win0,0 rms1e-06 lat0 half rd8 silu bf16 E12 k4 w14 sh36gated "
     "softmax none g1/1 x1 p1 e0" REST " qkvb"},
    {"qwen2moe_b", "Qwen2-MoE", "L3 H40 V272 pos8192 h5/1 d8/8 ffn30 moe011 win0,0,0 rms1e-05 lat0 half rd8 silu f32 E6 k2 w18 "
     "sh20gated softmax sum g1/1 x1 p1 e0" REST " tied qkvb"},
    {"qwen3moe_a", "Qwen3-MoE", "L2 H40 V296 pos256 h4/2 d16/16 ffn0 moe11 win0,0 rms1e-06 lat0 half rd16 silu qkhead bf16 E16 k4 w12 "
     "sh0 softmax sum g1/1 x1 p1 e0" REST},
    {"qwen3moe_b", "Qwen3-MoE", "L3 H44 V259 pos40960 h6/3 d10/10 ffn26 moe101 win0,0,0 rms1e-06 lat0 half rd10 silu qkhead f32 E7 k3 "
     "w16 sh0 softmax sum g1/1 x1 p1 e0" REST " tied"},
    {"olmoe_a", "OLMoE", "L2 H48 V276 pos4096 h6/6 d8/8 ffn0 moe11 win0,0 rms1e-05 lat0 half rd8 silu qkwhole bf16 E10 k4 w18 sh0 "
     "softmax none g1/1 x1 p1 e0" REST},
    {"olmoe_b", "OLMoE", "L3 H36 V292 pos4096 h6/3 d6/6 ffn0 moe111 win0,0,0 rms1e-05 lat0 half rd6 silu qkwhole bf16 E8 k3 w20 sh0 "
     "softmax sum g1/1 x1 p1 e0 clip1.1 cap0 lim0 emb1 log1 bos1 eos2"},
    {"deepseekv2_a", "DeepSeek-V2", "L3 H48 V280 pos163840 h4/4 d20/12 ffn44 moe011 win0,0,0 rms1e-06 lat1e-06 pairs rd8 silu bf16 mla "
     "q0 kv20 n12 r8 E10 k3 w14 sh28 softmax none g1/1 x1 p1 e0" REST},
    {"deepseekv2_b", "DeepSeek-V2", "L2 H40 V262 pos163840 h4/4 d14/9 ffn36 moe01 win0,0 rms1e-06 lat1e-06 pairs rd4 silu f32 mla q20 "
     "kv16 n10 r4 E12 k3 w10 sh10 softmax_grouped none g2/4 x16 p1 e0" REST},
    {"deepseekv3_a", "DeepSeek-V3", "L3 H48 V290 pos163840 h4/4 d20/10 ffn40 moe0111 win0,0,0,0 rms1e-06 lat1e-06 pairs rd8 silu bf16 "
     "mla q24 kv16 n12 r8 E16 k4 w12 sh12 sigmoid_grouped sum_eps g2/4 x2.5 p1 e0" REST},
    {"deepseekv3_b", "DeepSeek-V3", "L3 H36 V264 pos163840 h3/3 d16/8 ffn44 moe001 win0,0,0 rms0.001 lat1e-06 pairs rd6 silu f32 mla "
     "q0 kv14 n10 r6 E9 k3 w10 sh20 sigmoid_grouped sum_eps g2/3 x2.5 p1 e0" REST},
    {"deepseekv3_fp8", "DeepSeek-V3", "L2 H40 V160 pos163840 h4/4 d16/8 ffn36 moe01 win0,0 rms1e-06 lat1e-06 pairs rd8 silu fp8 mla q24 "
     "kv18 n8 r8 E8 k2 w20 sh20 sigmoid_grouped sum_eps g1/2 x2.5 p1 e0" REST},
    {"dbrx_a", "DBRX", "L2 H48 V300 pos2048 h6/2 d8/8 ffn0 moe11 win0,0 ln1e-05 lat0 half rd8 silu bf16 E8 k3 w20 sh0 softmax pnorm "
     "g1/1 x1 p1 e0 clip1.5 cap0 lim0 emb1 log1 bos1 eos2"},
    {"dbrx_b", "DBRX", "L3 H40 V277 pos2048 h5/5 d8/8 ffn0 moe111 win0,0,0 ln1e-05 lat0 half rd8 silu bf16 E6 k4 w18 sh0 softmax pnorm "
     "g1/1 x1 p1 e0 clip8 cap0 lim0 emb1 log1 bos1 eos2"},
    {"grok1_a", "Grok-1", "L2 H48 V304 pos8192 h6/2 d8/8 ffn0 moe11 win0,0 rms1e-05 lat0 half rd8 gelu_tanh bf16 E8 k2 w26 sh0 softmax "
     "none g1/1 x1 p1 e0 clip0 cap30 lim0 emb6.9282 log0.57735 bos1 eos2 tied post"},
    {"grok1_b", "Grok-1", "L3 H40 V258 pos8192 h4/1 d10/10 ffn0 moe111 win0,0,0 rms1e-05 lat0 half rd10 gelu_tanh f32 E6 k2 w22 sh0 "
     "softmax none g1/1 x1 p1 e0 clip0 cap4 lim0 emb9.5 log0.8 bos1 eos2 tied post"},
    {"gptoss_a", "GPT-OSS", "L2 H40 V286 pos131072 h4/2 d12/12 ffn0 moe11 win16,0 rms1e-05 lat0 half rd12 clamped bf16 E6 k2 w20 sh0 "
     "topk_softmax none g1/1 x1 p1 e0 clip0 cap0 lim7 emb1 log1 bos1 eos2 qkvb ob expb sinks"},
    {"gptoss_b", "GPT-OSS", "L3 H36 V265 pos131072 h6/2 d8/8 ffn0 moe111 win10,0,10 rms1e-05 lat0 half rd8 clamped f32 E8 k4 w14 sh0 "
     "topk_softmax none g1/1 x1 p1 e0 clip0 cap0 lim1.5 emb1 log1 bos1 eos2 qkvb ob expb sinks"},
    {"phimoe_a", "PhiMoE", "L2 H40 V268 pos2048 h5/1 d8/8 ffn0 moe11 win2047,2047 ln1e-05 lat0 half rd8 silu f32 E8 k2 w20 sh0 "
     "sparsemixer none g1/1 x1 p1 e0.01 clip0 cap0 lim0 emb1 log1 bos1 eos2 normb qkvb ob headb"},
    {"qwen3next_a", "Qwen3-Next", "L4 H40 V286 pos262144 h4/2 d16/16 ffn0 moe1111 win0,0,0,0 rms1e-06 lat0 half rd4 silu qkhead bf16 E10 "
     "k3 w12 sh16gated softmax sum g1/1 x1 p1 e0" REST " delta2/4x8/10+4 lllf gate 1+w"},
    {"qwen35moe_a", "Qwen3.5-MoE", "L3 H44 V300 pos262144 h6/2 d24/24 ffn0 moe111 win0,0,0 rms1e-06 lat0 half rd6 silu qkhead bf16 E9 k4 "
     "w12 sh14gated softmax sum g1/1 x1 p1 e0" REST " delta2/6x10/8+4 lfl gate 1+w"},
};
#define N_MODELS (sizeof models / sizeof models[0])

static void test_hyperparameters(void **state)
{
    char text[1024];

    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        struct mb_model *m = open_model(models[i].name);
        describe(m, text, sizeof text);
        if (strcmp(text, models[i].text) != 0)
            print_error("%s\n", models[i].name);
        assert_string_equal(text, models[i].text);
        assert_string_equal(m->arch, models[i].arch);
        mb_model_destroy(m);
    }
}

/* ---------------------------------------------------------------- against Python */
static enum mb_role role_of(const char *name)
{
    for (int r = 0; r < MB_T_COUNT; r++) {
        if (strcmp(mb_role_name((enum mb_role)r), name) == 0)
            return (enum mb_role)r;
    }
    fail_msg("no role %s", name);
    return MB_T_COUNT;
}

/* "T|role|layer|expert|n|k|hash": the matrix read whole and by pieces. */
static void check_tensor_line(const struct mb_model *m, struct mb_reader *r, const char *line)
{
    char role[64];
    int layer, expert;
    long long n, k;
    unsigned long long hash;
    struct mb_host_matrix h;

    assert_int_equal(sscanf(line, "T|%63[^|]|%d|%d|%lld|%lld|%llx", role, &layer, &expert, &n, &k, &hash), 6);
    const struct mb_tensor *t = mb_model_tensor(m, role_of(role), layer, expert);
    if (t == NULL)
        fail_msg("%s: no %s", m->dir, line);
    assert_int_equal(t->n, n);
    assert_int_equal(t->k, k);
    float *x = malloc((size_t)(n * k) * sizeof *x), *y = malloc((size_t)(n * k) * sizeof *y);
    uint64_t before = mb_reader_bytes(r);
    assert_int_equal(mb_reader_rows(r, t, 0, n, &h), MB_OK);
    assert_int_equal(mb_reader_bytes(r) - before, mb_tensor_span(t) + t->scale_bytes);
    mb_host_to_f32(&h, x);
    if (mb_hash64(x, (size_t)(n * k) * sizeof *x) != hash)
        fail_msg("%s: %s: other values", m->dir, line);
    for (int64_t n0 = 0; n0 < n; n0 += 5) {
        assert_int_equal(mb_reader_rows(r, t, n0, n - n0 < 5 ? n - n0 : 5, &h), MB_OK);
        mb_host_to_f32(&h, y + n0 * k);
    }
    assert_memory_equal(x, y, (size_t)(n * k) * sizeof *x);
    free(x);
    free(y);
}

static void check_scalar_line(const struct mb_model *m, const char *line)
{
    char name[64];
    float x;

    assert_int_equal(sscanf(line, "S|%63[^|]|%f", name, &x), 2);
    double found = strcmp(name, "attn_scale") == 0 ? (double)m->attn_scale
                   : strcmp(name, "rope_att") == 0 ? m->rope_att : m->rope_att_long;
    if ((float)found != x)
        fail_msg("%s: %s: found %a", m->dir, line, found);
}

static void check_rope_line(const struct mb_model *m, const float *cos_table, const float *sin_table, const char *line)
{
    int a, i;
    float x, y;

    if (sscanf(line, "F|%d|%d|%f", &a, &i, &x) == 3) {
        const float *inv = a == 0 ? m->inv_freq : m->inv_freq_long;
        if (inv == NULL || inv[i] != x)
            fail_msg("%s: %s: found %a", m->dir, line, inv == NULL ? 0.0 : (double)inv[i]);
        return;
    }
    assert_int_equal(sscanf(line, "C|%d|%d|%f|%f", &a, &i, &x, &y), 4);
    int64_t at = (int64_t)a * (m->rope_dim / 2) + i;
    if (cos_table[at] != x || sin_table[at] != y)
        fail_msg("%s: %s: found %a %a", m->dir, line, (double)cos_table[at], (double)sin_table[at]);
}

static void check_by_python(const char *name)
{
    char cmd[1200], line[512];
    const char *python = getenv("PYTHON3");
    struct mb_model *m = open_model(name);
    struct mb_reader *r;
    struct mb_mem mem = {0};
    int64_t tensors = 0, frequencies = 0, half = m->rope_dim / 2;
    float *c = malloc((size_t)(1001 * half) * sizeof *c), *s = malloc((size_t)(1001 * half) * sizeof *s);

    mb_model_rope_table(m, 0, 1001, c, s);
    assert_int_equal(mb_reader_create(m, &mem, &r), MB_OK);
    snprintf(cmd, sizeof cmd, "%s %s/tests/model_ref.py %s", python != NULL ? python : "/usr/bin/python3", top(), m->dir);
    FILE *f = popen(cmd, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        if (line[0] == 'T')
            check_tensor_line(m, r, line);
        else if (line[0] == 'S')
            check_scalar_line(m, line);
        else
            check_rope_line(m, c, s, line);
        tensors += line[0] == 'T';
        frequencies += line[0] == 'F';
    }
    assert_int_equal(pclose(f), 0);
    assert_int_equal(tensors, m->n_tensors);
    assert_int_equal(frequencies, half * (m->inv_freq_long != NULL ? 2 : 1));
    mb_reader_destroy(r);
    assert_int_equal(mb_mem_total(&mem), 0);
    mb_model_destroy(m);
    free(c);
    free(s);
}

static void test_against_python(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++)
        check_by_python(models[i].name);
}

/* ---------------------------------------------------------------- flat form */
static void compare_models(const struct mb_model *a, const struct mb_model *b)
{
    char ta[1024], tb[1024];

    describe(a, ta, sizeof ta);
    describe(b, tb, sizeof tb);
    assert_string_equal(ta, tb);
    assert_string_equal(a->dir, b->dir);
    assert_int_equal(a->n_files, b->n_files);
    for (int32_t i = 0; i < a->n_files; i++) {
        assert_string_equal(a->files[i], b->files[i]);
        assert_int_equal(a->file_bytes[i], b->file_bytes[i]);
    }
    assert_memory_equal(a->inv_freq, b->inv_freq, (size_t)a->rope_dim / 2 * sizeof *a->inv_freq);
    assert_int_equal(a->inv_freq_long == NULL, b->inv_freq_long == NULL);
    assert_int_equal(a->n_tensors, b->n_tensors);
    assert_memory_equal(a->tensors, b->tensors, (size_t)a->n_tensors * sizeof *a->tensors);
    assert_int_equal(a->params_total, b->params_total);
    assert_int_equal(a->params_active, b->params_active);
}

static void test_pack(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        struct mb_model *m = open_model(models[i].name), *u = NULL;
        struct mb_bytes b = {0};
        assert_int_equal(mb_bytes_put(&b, "before", 6), MB_OK);
        assert_int_equal(mb_model_pack(m, &b), MB_OK);
        assert_int_equal(mb_model_unpack(b.data + 6, b.len - 6, &u), MB_OK);
        compare_models(m, u);
        mb_bytes_fini(&b);
        mb_model_destroy(m);
        mb_model_destroy(u);
    }
}

/* Any changed bit is found by the hash. With the hash made right again, what is left must be refused or harmless. */
static void test_mutated(void **state)
{
    struct mb_model *m = open_model("deepseekv3_fp8"), *u = NULL;
    struct mb_bytes b = {0};
    uint32_t x = 12345;
    int refused = 0;

    (void)state;
    assert_int_equal(mb_model_pack(m, &b), MB_OK);
    mb_log_set_rank(1, 2);
    mb_log_set_quiet(true);
    for (size_t n = 0; n < b.len; n += 97)
        assert_int_not_equal(mb_model_unpack(b.data, n, &u), MB_OK);
    for (int i = 0; i < 20000; i++) {
        x = x * 1664525u + 1013904223u;
        size_t at = 32 + (x >> 8) % (b.len - 32);
        uint8_t old = b.data[at], bit = (uint8_t)(1u << (x >> 5 & 7));
        b.data[at] ^= bit;
        assert_int_equal(mb_model_unpack(b.data, b.len, &u), MB_CORRUPT);
        struct mb_hash128 right = mb_hash128_of(b.data + 32, b.len - 32), wrong;
        memcpy(&wrong, b.data + 16, sizeof wrong);
        memcpy(b.data + 16, &right, sizeof right);
        if (mb_model_unpack(b.data, b.len, &u) == MB_OK)
            mb_model_destroy(u);
        else
            refused++;
        memcpy(b.data + 16, &wrong, sizeof wrong);
        b.data[at] = old;
    }
    mb_log_set_rank(0, 1);
    mb_log_set_quiet(false);
    assert_true(refused > 1000);
    mb_bytes_fini(&b);
    mb_model_destroy(m);
}

/* ---------------------------------------------------------------- config.json alone, --k, identity */
static void test_config_alone(void **state)
{
    char path[512];

    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        struct mb_model *m = open_model(models[i].name), *c = NULL, *u = NULL;
        struct mb_reader *r;
        struct mb_hash128 id;
        struct mb_bytes b = {0};
        snprintf(path, sizeof path, "%s/tests/data/models/%s/config.json", top(), models[i].name);
        assert_int_equal(mb_model_open(path, 0, &c), MB_OK);
        assert_int_equal(c->n_files, 0);
        assert_int_equal(c->n_tensors, m->n_tensors);
        assert_int_equal(c->params_total, m->params_total);
        assert_int_equal(c->params_active, m->params_active);
        assert_int_equal(c->auto_path, m->auto_path);
        assert_int_equal(mb_reader_create(c, NULL, &r), MB_MODEL);
        assert_int_equal(mb_model_identity(path, &id), MB_OK);
        assert_int_equal(mb_model_pack(c, &b), MB_OK);
        assert_int_equal(mb_model_unpack(b.data, b.len, &u), MB_OK);
        compare_models(c, u);
        mb_bytes_fini(&b);
        mb_model_destroy(u);
        for (int64_t t = 0; t < m->n_tensors; t++) {
            assert_int_equal(c->tensors[t].role, m->tensors[t].role);
            assert_int_equal(c->tensors[t].n, m->tensors[t].n);
            assert_int_equal(c->tensors[t].k, m->tensors[t].k);
            assert_int_equal(c->tensors[t].scale_bytes, m->tensors[t].scale_bytes);
        }
        mb_model_destroy(m);
        mb_model_destroy(c);
    }
}

/* Parameter counts of published models, as their model cards and files, or transformers' own classes, state them; text parts alone,
 * with the routers' biases, without layers for multi-token prediction. */
static void test_published_sizes(void **state)
{
    static const struct {
        const char *name;
        long long params;
    } rows[] = {{"mixtral-8x7b", 46702792704}, {"mixtral-8x22b", 140620634112}, {"mistral-7b", 7241732096},
                {"llama-3.1-8b", 8030261248}, {"qwen1.5-moe-a2.7b", 14315784192}, {"qwen3-30b-a3b", 30532122624},
                {"qwen3-235b-a22b", 235093634560}, {"olmoe-1b-7b", 6919161856}, {"deepseek-v2-lite", 15706484224},
                {"deepseek-v2", 235741434880}, {"deepseek-v3", 671026419200}, {"dbrx", 131596523520},
                {"gpt-oss-20b", 20914757184}, {"gpt-oss-120b", 116829156672}, {"phi-3.5-moe", 41873153344},
                {"grok-1", 315684820992}, {"qwen2-57b-a14b", 57408658944}, {"kimi-k2", 1026408232448},
                {"glm-4.5-air", 106852251264}, {"glm-4.7-flash", 29943393920}, {"minimax-m2", 228689764864},
                {"dots.llm1", 142774381696}, {"solar-open-100b", 102651799552}, {"ernie-4.5-21b-a3b", 21825437888},
                {"ling-mini-2.0", 16255643392}, {"granite-3.0-1b-a400m", 1334628352}, {"hunyuan-a13b", 80393183232},
                {"hy3", 295033543488}, {"deepseek-v3.2", 671877944064}, {"glm-5", 743911218432}, {"llama-4-scout", 107769861120}, {"mistral-small-4", 118972826624},
                {"qwen3-next-80b-a3b", 79674391296}, {"qwen3.5-35b-a3b", 34660610688}, {"qwen3.5-397b-a17b", 396346350336}};
    char path[512];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mb_model *m = NULL;
        bool made = strcmp(rows[i].name, "phi-3.5-moe") == 0; /* its shapes are real, its rope factors are not: no input */
        snprintf(path, sizeof path, "%s/%s/configs/%s/config.json", top(), made ? "tests/data" : "inputs", rows[i].name);
        assert_int_equal(mb_model_open(path, 0, &m), MB_OK);
        if (m->params_total != rows[i].params)
            fail_msg("%s: %lld parameters, expected %lld", rows[i].name, (long long)m->params_total, rows[i].params);
        mb_model_destroy(m);
    }
}

/* Turns an old config into the new form or the other way round: rope_theta and rope_scaling against rope_parameters,
 * torch_dtype against dtype. */
static void other_form(json_t *c)
{
    json_t *rope = json_object_get(c, "rope_parameters"), *theta = json_object_get(c, "rope_theta");
    json_t *scaling = json_object_get(c, "rope_scaling"), *dtype = json_object_get(c, "torch_dtype");

    if (rope != NULL) {
        json_object_set(c, "rope_theta", json_object_get(rope, "rope_theta"));
        json_object_del(c, "rope_parameters");
    } else {
        rope = json_is_object(scaling) ? json_deep_copy(scaling) : json_pack("{s:s}", "rope_type", "default");
        if (json_object_get(rope, "type") != NULL) {
            json_object_set(rope, "rope_type", json_object_get(rope, "type"));
            json_object_del(rope, "type");
        }
        if (theta != NULL)
            json_object_set(rope, "rope_theta", theta);
        json_object_set_new(c, "rope_parameters", rope);
        json_object_del(c, "rope_theta");
        json_object_del(c, "rope_scaling");
    }
    json_object_set(c, dtype != NULL ? "dtype" : "torch_dtype", dtype != NULL ? dtype : json_object_get(c, "dtype"));
    json_object_del(c, dtype != NULL ? "torch_dtype" : "dtype");
}

static void test_both_forms(void **state)
{
    char dir[256], src[512], ta[1024], tb[1024];

    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        struct mb_model *m = open_model(models[i].name), *n = NULL;
        snprintf(src, sizeof src, "%s/tests/data/models/%s", top(), models[i].name);
        json_t *c = json_read(src, "config.json");
        other_form(c);
        dir_make(dir);
        dir_link_all(dir, src, "config.json");
        dir_json(dir, "config.json", c);
        assert_int_equal(mb_model_open(dir, 0, &n), MB_OK);
        describe(m, ta, sizeof ta);
        describe(n, tb, sizeof tb);
        assert_string_equal(ta, tb);
        assert_memory_equal(m->inv_freq, n->inv_freq, (size_t)m->rope_dim / 2 * sizeof *m->inv_freq);
        assert_true(m->rope_att == n->rope_att && m->rope_att_long == n->rope_att_long && m->attn_scale == n->attn_scale);
        assert_int_equal(m->rope_switch, n->rope_switch);
        json_decref(c);
        dir_remove(dir);
        mb_model_destroy(m);
        mb_model_destroy(n);
    }
}

static void test_k(void **state)
{
    char path[512];
    struct mb_model *m = NULL;

    (void)state;
    snprintf(path, sizeof path, "%s/tests/data/models/mixtral_a", top());
    assert_int_equal(mb_model_open(path, 3, &m), MB_OK);
    assert_int_equal(m->router.k, 3);
    mb_model_destroy(m);
    assert_int_equal(mb_model_open(path, 9, &m), MB_LAYOUT);
    snprintf(path, sizeof path, "%s/tests/data/models/deepseekv3_fp8", top());
    assert_int_equal(mb_model_open(path, 5, &m), MB_LAYOUT); /* one group of four */
    snprintf(path, sizeof path, "%s/tests/data/models/phimoe_a", top());
    assert_int_equal(mb_model_open(path, 3, &m), MB_LAYOUT);
    snprintf(path, sizeof path, "%s/tests/data/models/llama_a", top());
    assert_int_equal(mb_model_open(path, 2, &m), MB_LAYOUT);
}

static void test_identity(void **state)
{
    char path[512];
    struct mb_hash128 h[N_MODELS], again;

    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        snprintf(path, sizeof path, "%s/tests/data/models/%s", top(), models[i].name);
        assert_int_equal(mb_model_identity(path, &h[i]), MB_OK);
        assert_int_equal(mb_model_identity(path, &again), MB_OK);
        assert_memory_equal(&again, &h[i], sizeof again);
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(&h[i], &h[j], sizeof h[i]);
    }
}

/* The words of inspect and check. */
static void test_print(void **state)
{
    char path[512], *text = NULL;
    size_t n = 0;
    struct mb_mem mem = {0};

    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        FILE *f = open_memstream(&text, &n);
        snprintf(path, sizeof path, "%s/tests/data/models/%s", top(), models[i].name);
        assert_int_equal(mb_model_check(f, path, &mem), MB_OK);
        fclose(f);
        assert_non_null(strstr(text, models[i].arch));
        assert_non_null(strstr(text, "no error found"));
        assert_non_null(strstr(text, "parameters:"));
        free(text);
        assert_int_equal(mb_mem_total(&mem), 0);
    }
}

static void test_json(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_MODELS; i++) {
        struct mb_model *m = open_model(models[i].name);
        char *text = mb_model_json(m);
        json_t *v = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(v);
        assert_string_equal(json_string_value(json_object_get(v, "family")), models[i].arch);
        assert_int_equal(json_integer_value(json_object_get(v, "params_total")), m->params_total);
        assert_int_equal(json_array_size(json_object_get(v, "layer")), m->layers);
        assert_int_equal(json_array_size(json_object_get(v, "eos")), m->n_eos);
        json_decref(v);
        free(text);
        mb_model_destroy(m);
    }
}

/* ---------------------------------------------------------------- conversions */
static void test_conversions(void **state)
{
    uint16_t half[] = {0x0000, 0x8000, 0x0001, 0x03ff, 0x0400, 0x3c00, 0xc000, 0x7bff, 0x7c00, 0xfc00};
    float half_want[] = {0, -0.0f, 0x1p-24f, 1023 * 0x1p-24f, 0x1p-14f, 1, -2, 65504, INFINITY, -INFINITY}, out[16];
    uint8_t f8[] = {0x00, 0x80, 0x01, 0x07, 0x08, 0x38, 0xb8, 0x7e, 0xfe, 0x40};
    float f8_want[] = {0, -0.0f, 0x1p-9f, 7 * 0x1p-9f, 0x1p-6f, 1, -1, 448, -448, 2};
    struct mb_host_matrix m = {.base = half, .storage = MB_STORE_F16, .n = 1, .k = 10, .stride_n = 10, .stride_k = 1};

    (void)state;
    mb_host_to_f32(&m, out);
    assert_memory_equal(out, half_want, sizeof half_want);
    m.base = f8;
    m.storage = MB_STORE_F8E4M3;
    mb_host_to_f32(&m, out);
    assert_memory_equal(out, f8_want, sizeof f8_want);
    uint8_t nan_bytes[] = {0x7f, 0xff};
    m.base = nan_bytes;
    m.k = 2;
    mb_host_to_f32(&m, out);
    assert_true(isnan(out[0]) && isnan(out[1]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hyperparameters), cmocka_unit_test(test_against_python), cmocka_unit_test(test_pack),
        cmocka_unit_test(test_mutated),         cmocka_unit_test(test_config_alone),   cmocka_unit_test(test_k),
        cmocka_unit_test(test_identity),        cmocka_unit_test(test_print),          cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_published_sizes), cmocka_unit_test(test_both_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
