/* Rotary embedding: inverse frequencies in f64 rounded to f32, and their scaled forms (doc/models). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "model/load.h"

#define TWO_PI 6.283185307179586476925286766559

/* The settings' object and what was read of it. */
struct rope {
    struct mb_cfg c;     /* rope_parameters or rope_scaling; root NULL: none */
    const char *type;
    double theta, factor, orig, max_pos;
    bool has_factor;
    int32_t d;
};

static enum mb_status need_object(const struct mb_cfg *c, const char *key, const json_t **out)
{
    char text[96];

    MB_TRY(mb_cfg_get(c, key, out, NULL, 0));
    if (*out != NULL && !json_is_object(*out))
        return mb_error(MB_MODEL, "%s: %s: expected an object, found %s", c->path, key, mb_cfg_text(*out, text, sizeof text));
    return MB_OK;
}

/* In old configs the settings lie in rope_scaling and theta beside it, in new ones both in rope_parameters. Where a file has both,
 * rope_scaling replaces rope_parameters, theta included, as in the models' own library. */
static enum mb_status find_settings(const struct mb_cfg *c, struct rope *r)
{
    const json_t *now, *old;

    MB_TRY(need_object(c, "rope_parameters", &now));
    MB_TRY(need_object(c, "rope_scaling", &old));
    bool older = json_object_size(old) > 0;
    r->c = (struct mb_cfg){older ? old : now, c->path, older ? "rope_scaling." : "rope_parameters."};
    return MB_OK;
}

/* The part of a head that turns: as a factor of it in the settings or beside them, or as a width. */
static enum mb_status read_part(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c, const struct rope *r)
{
    double part = a->partial_default > 0 ? a->partial_default : 1, whole = part;
    bool found = false;
    int64_t width;

    if (r->c.root != NULL)
        MB_TRY(mb_cfg_real(&r->c, "partial_rotary_factor", 1e-6, 1, &part, &found));
    if (!found)
        MB_TRY(mb_cfg_real(c, "partial_rotary_factor|rotary_pct", 1e-6, 1, &part, &found));
    if (m->mla && found && (int32_t)(m->head_dim * part + 0.5) == m->rope_mla)
        return MB_OK; /* of nope and rope together */
    if (a->partial_default == 0 && part != whole)
        return mb_error(MB_MODEL, "%s: partial_rotary_factor: expected 1 (not supported for %s), found %g", c->path, a->name, part);
    m->rope_dim = m->mla ? m->rope_mla : (int32_t)(m->head_dim * part);
    if (found || a->rotary_key == NULL)
        return MB_OK;
    width = m->rope_dim;
    MB_TRY(mb_cfg_int(c, a->rotary_key, 2, m->head_dim, &width, NULL));
    m->rope_dim = (int32_t)width;
    return MB_OK;
}

static enum mb_status read_settings(const struct mb_arch *a, const struct mb_cfg *c, struct rope *r)
{
    bool found = false;

    r->type = "default";
    r->theta = a->theta_default;
    r->factor = 1;
    if (r->c.root != NULL) {
        MB_TRY(mb_cfg_str(&r->c, "rope_type|type", &r->type, NULL));
        MB_TRY(mb_cfg_real(&r->c, "rope_theta", 1e-3, 1e15, &r->theta, &found));
        MB_TRY(mb_cfg_real(&r->c, "factor", 1e-6, 1e9, &r->factor, &r->has_factor));
    }
    if (!found)
        MB_TRY(mb_cfg_real(c, "rope_theta", 1e-3, 1e15, &r->theta, NULL));
    /* DBRX has it here; a saved copy may carry the library's default beside it (doc/models) */
    MB_TRY(mb_cfg_real(c, "attn_config.rope_theta", 1e-3, 1e15, &r->theta, NULL));
    r->orig = r->max_pos;
    MB_TRY(mb_cfg_real(c, "original_max_position_embeddings", 1, 1e12, &r->orig, NULL));
    if (r->c.root != NULL)
        MB_TRY(mb_cfg_real(&r->c, "original_max_position_embeddings", 1, 1e12, &r->orig, NULL));
    return MB_OK;
}

static double yarn_g(double s, double m)
{
    return s <= 1 ? 1 : 0.1 * m * log(s) + 1;
}

static enum mb_status need_factor(const struct rope *r)
{
    if (!r->has_factor)
        return mb_error(MB_MODEL, "%s: %sfactor: expected a positive number for type %s, found nothing", r->c.path,
                        r->c.at, r->type);
    return MB_OK;
}

static enum mb_status scale_linear(struct mb_model *m, const struct rope *r, double *inv)
{
    (void)m;
    MB_TRY(need_factor(r));
    for (int32_t i = 0; i < r->d / 2; i++)
        inv[i] /= r->factor;
    return MB_OK;
}

static enum mb_status scale_llama3(struct mb_model *m, const struct rope *r, double *inv)
{
    double low, high;

    (void)m;
    MB_TRY(need_factor(r));
    MB_TRY(mb_cfg_need_real(&r->c, "low_freq_factor", 1e-6, 1e6, &low));
    MB_TRY(mb_cfg_need_real(&r->c, "high_freq_factor", 1e-6, 1e6, &high));
    if (high < low)
        return mb_error(MB_MODEL, "%s: %shigh_freq_factor: expected at least low_freq_factor %g, found %g", r->c.path, r->c.at, low,
                        high);
    for (int32_t i = 0; i < r->d / 2; i++) {
        double wave = TWO_PI / inv[i];
        double s = high > low ? (r->orig / wave - low) / (high - low) : 1; /* equal (Llama-4): nothing between them */
        if (wave > r->orig / low)
            inv[i] = inv[i] / r->factor;
        else if (wave >= r->orig / high)
            inv[i] = (1 - s) * inv[i] / r->factor + s * inv[i];
    }
    return MB_OK;
}

/* Hunyuan's form of dynamic: theta grows by a constant, whatever the length. */
static enum mb_status scale_alpha(struct mb_model *m, const struct rope *r, double *inv)
{
    double alpha = 0;

    (void)m;
    MB_TRY(mb_cfg_real(&r->c, "alpha", 0, 1e9, &alpha, NULL));
    if (alpha == 0)
        return mb_error(MB_MODEL, "%s: %srope_type: expected default, linear, llama3, yarn, longrope or dynamic with alpha, found "
                        "\"dynamic\" without it (scaling by the length)", r->c.path, r->c.at);
    double theta = r->d > 2 ? r->theta * pow(alpha, (double)r->d / (r->d - 2)) : r->theta;
    for (int32_t i = 0; i < r->d / 2; i++)
        inv[i] = pow(theta, -2.0 * i / r->d);
    return MB_OK;
}

static enum mb_status yarn_attention(struct mb_model *m, const struct rope *r)
{
    double mscale = 0, all = 0;
    bool given;

    MB_TRY(mb_cfg_real(&r->c, "attention_factor", 1e-6, 1e6, &m->rope_att, &given));
    MB_TRY(mb_cfg_real(&r->c, "mscale", 0, 1e6, &mscale, NULL));
    MB_TRY(mb_cfg_real(&r->c, "mscale_all_dim", 0, 1e6, &all, NULL));
    if (!given)
        m->rope_att = mscale != 0 && all != 0 ? yarn_g(r->factor, mscale) / yarn_g(r->factor, all) : yarn_g(r->factor, 1);
    return MB_OK;
}

/* Position, among the d/2 frequencies, of the one that turns `rotations` times within the original length. */
static double yarn_dim(const struct rope *r, double rotations)
{
    return r->d * log(r->orig / (rotations * TWO_PI)) / (2 * log(r->theta));
}

static enum mb_status scale_yarn(struct mb_model *m, const struct rope *s, double *inv)
{
    struct rope r = *s;
    double fast = 0, slow = 0;
    bool truncate = true;

    if (!r.has_factor)
        r.factor = r.max_pos / r.orig;
    if (r.theta <= 1)
        return mb_error(MB_MODEL, "%s: rope_theta: expected more than 1 for yarn, found %g", r.c.path, r.theta);
    MB_TRY(yarn_attention(m, &r));
    MB_TRY(mb_cfg_real(&r.c, "beta_fast", 0, 1e9, &fast, NULL));
    MB_TRY(mb_cfg_real(&r.c, "beta_slow", 0, 1e9, &slow, NULL));
    MB_TRY(mb_cfg_bool(&r.c, "truncate", &truncate));
    double lo = yarn_dim(&r, fast != 0 ? fast : 32), hi = yarn_dim(&r, slow != 0 ? slow : 1);
    if (truncate) {
        lo = floor(lo);
        hi = ceil(hi);
    }
    lo = fmax(lo, 0);
    hi = fmin(hi, r.d - 1);
    if (lo == hi)
        hi += 0.001;
    for (int32_t i = 0; i < r.d / 2; i++) {
        double ramp = fmin(fmax((i - lo) / (hi - lo), 0), 1);
        inv[i] = inv[i] / r.factor * ramp + inv[i] * (1 - ramp);
    }
    return MB_OK;
}

/* out[i] = inv[i] / factors[i] */
static enum mb_status divide_by(const struct rope *r, const char *key, const double *inv, double *out)
{
    const json_t *v;
    char text[96];
    size_t want = (size_t)r->d / 2;

    MB_TRY(mb_cfg_get(&r->c, key, &v, NULL, 0));
    if (!json_is_array(v) || json_array_size(v) != want)
        return mb_error(MB_MODEL, "%s: %s%s: expected a list of %zu numbers, found %s", r->c.path, r->c.at, key, want,
                        mb_cfg_text(v, text, sizeof text));
    for (size_t i = 0; i < want; i++) {
        const json_t *x = json_array_get(v, i);
        double f = json_number_value(x);
        if (!json_is_number(x) || !(f >= 1e-6 && f <= 1e9))
            return mb_error(MB_MODEL, "%s: %s%s: expected numbers from 1e-06 to 1e+09, found %s", r->c.path, r->c.at, key,
                            mb_cfg_text(x, text, sizeof text));
        out[i] = inv[i] / f;
    }
    return MB_OK;
}

static enum mb_status scale_longrope(struct mb_model *m, const struct rope *r, double *inv)
{
    enum mb_status st;
    double f = r->has_factor ? r->factor : r->max_pos / r->orig, *lng = malloc((size_t)r->d * sizeof *lng);

    m->inv_freq_long = malloc((size_t)r->d * sizeof *m->inv_freq_long);
    if (lng == NULL || m->inv_freq_long == NULL) {
        free(lng);
        return mb_error(MB_NO_MEMORY, "no memory for %d frequencies", r->d);
    }
    m->rope_switch = (int64_t)r->orig;
    m->rope_att = f <= 1 ? 1 : sqrt(1 + log(f) / log(r->orig));
    st = r->orig <= 1 ? mb_error(MB_MODEL, "%s: original_max_position_embeddings: expected more than 1, found %g", r->c.path, r->orig)
                      : mb_cfg_real(&r->c, "attention_factor", 1e-6, 1e6, &m->rope_att, NULL);
    if (st == MB_OK)
        st = divide_by(r, "long_factor", inv, lng);
    if (st == MB_OK)
        st = divide_by(r, "short_factor", inv, inv);
    for (int32_t i = 0; st == MB_OK && i < r->d / 2; i++)
        m->inv_freq_long[i] = (float)lng[i];
    free(lng);
    m->rope_att_long = m->rope_att;
    return st;
}

static const struct {
    const char *type;
    enum mb_status (*scale)(struct mb_model *m, const struct rope *r, double *inv);
} kinds[] = {{"default", NULL},        {"linear", scale_linear}, {"llama3", scale_llama3},
             {"yarn", scale_yarn},     {"longrope", scale_longrope}, {"su", scale_longrope},
             {"dynamic", scale_alpha}};

static enum mb_status scale_by_type(struct mb_model *m, const struct rope *r, double *inv)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i].type, r->type) == 0)
            return kinds[i].scale == NULL ? MB_OK : kinds[i].scale(m, r, inv);
    }
    return mb_error(MB_MODEL, "%s: %srope_type: expected default, linear, llama3, yarn, longrope or dynamic with alpha, found \"%.60s\"", r->c.path,
                    r->c.at, r->type);
}

/* DeepSeek's softmax scale grows with yarn: times g(factor, mscale_all_dim)^2. */
static enum mb_status scale_attention(struct mb_model *m, const struct rope *r)
{
    double all = 0;

    if (!m->mla || r->c.root == NULL || strcmp(r->type, "default") == 0)
        return MB_OK;
    MB_TRY(mb_cfg_real(&r->c, "mscale_all_dim", 0, 1e6, &all, NULL));
    double g = all != 0 ? yarn_g(r->has_factor ? r->factor : r->max_pos / r->orig, all) : 1;
    m->attn_scale = (float)(g * g / sqrt((double)m->head_dim));
    return MB_OK;
}

static enum mb_status store(struct mb_model *m, const struct rope *r, const double *inv)
{
    m->inv_freq = malloc((size_t)r->d * sizeof *m->inv_freq);
    if (m->inv_freq == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d frequencies", r->d);
    for (int32_t i = 0; i < r->d / 2; i++)
        m->inv_freq[i] = (float)inv[i];
    return MB_OK;
}

static enum mb_status load_style(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    bool interleaved = true;

    m->rope_style = a->rope_style;
    if (a->rope_style != MB_ROPE_INTERLEAVED)
        return MB_OK;
    MB_TRY(mb_cfg_bool(c, "rope_interleave", &interleaved));
    m->rope_style = interleaved ? MB_ROPE_INTERLEAVED : MB_ROPE_HALF;
    return MB_OK;
}

/* Mistral-4: all queries grow with the position. */
static enum mb_status load_growth(struct mb_model *m, const struct rope *r)
{
    double beta = 0;

    if (r->c.root == NULL)
        return MB_OK;
    MB_TRY(mb_cfg_real(&r->c, "llama_4_scaling_beta", 0, 1e6, &beta, NULL));
    if (beta == 0)
        return MB_OK;
    m->q_growth = beta;
    m->q_unit = r->orig;
    return MB_OK;
}

static enum mb_status compute(struct mb_model *m, const struct mb_arch *a, const struct rope *r)
{
    double *inv = malloc((size_t)r->d * sizeof *inv);

    if (inv == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for %d frequencies", r->d);
    for (int32_t i = 0; i < r->d / 2; i++)
        inv[i] = pow(r->theta, -2.0 * i / r->d);
    enum mb_status st = scale_by_type(m, r, inv);
    if (st == MB_OK)
        st = store(m, r, inv);
    free(inv);
    if (m->inv_freq_long == NULL)
        m->rope_att_long = m->rope_att;
    if (st == MB_OK && a->mscales && m->inv_freq_long != NULL) {
        st = mb_cfg_need_real(&r->c, "short_mscale", 1e-6, 1e6, &m->rope_att);
        if (st == MB_OK)
            st = mb_cfg_need_real(&r->c, "long_mscale", 1e-6, 1e6, &m->rope_att_long);
    }
    return st == MB_OK ? scale_attention(m, r) : st;
}

static enum mb_status load_settings(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c, struct rope *r)
{
    MB_TRY(read_part(m, a, c, r));
    r->d = m->rope_dim;
    if (r->d % 2 != 0 || r->d < 2)
        return mb_error(MB_MODEL, "%s: %s: expected an even width for the rotary embedding, found %d", c->path,
                        m->mla ? "qk_rope_head_dim" : "head_dim", r->d);
    MB_TRY(read_settings(a, c, r));
    MB_TRY(load_style(m, a, c));
    MB_TRY(load_growth(m, r));
    m->rope_att = m->rope_att_long = 1;
    return compute(m, a, r);
}

enum mb_status mb_load_rope(struct mb_model *m, const struct mb_arch *a, const struct mb_cfg *c)
{
    struct rope r = {.max_pos = (double)m->max_positions};
    json_t *plain = NULL;

    MB_TRY(find_settings(c, &r));
    if (json_object_size(r.c.root) == 0 && a->rope_default != NULL) {
        MB_TRY(mb_json_parse(a->rope_default, strlen(a->rope_default), c->path, MB_BUG, NULL, 0, &plain));
        r.c.root = plain;
    }
    enum mb_status st = load_settings(m, a, c, &r);
    json_decref(plain);
    return st;
}

void mb_model_query_table(const struct mb_model *m, int64_t positions, float *out)
{
    for (int64_t p = 0; p < positions; p++)
        out[p] = (float)(1 + m->q_growth * log(1 + floor((double)(p + m->q_shift) / m->q_unit)));
}

void mb_model_rope_table(const struct mb_model *m, int which, int64_t positions, float *cos_out, float *sin_out)
{
    const float *inv = which == 1 && m->inv_freq_long != NULL ? m->inv_freq_long : m->inv_freq;
    double att = inv == m->inv_freq ? m->rope_att : m->rope_att_long;
    int32_t half = m->rope_dim / 2;

    for (int64_t p = 0; p < positions; p++) {
        for (int32_t i = 0; i < half; i++) {
            float angle = (float)p * inv[i];
            cos_out[p * half + i] = (float)(cos((double)angle) * att);
            sin_out[p * half + i] = (float)(sin((double)angle) * att);
        }
    }
}
