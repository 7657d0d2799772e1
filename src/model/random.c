#include "model/random.h"

#include <math.h>
#include <string.h>
#include "base/hash.h"
#include "base/log.h"
#include "base/mb_math.h"
#include "base/rng.h"

enum mb_status mb_model_randomise(struct mb_model *m, uint64_t seed)
{
    enum mb_storage s = m->auto_path == MB_PATH_F32 ? MB_STORE_F32 : MB_STORE_BF16;

    if (m->n_files > 0)
        return mb_error(MB_MODEL, "%s has weights of its own; random ones are for a config.json alone",
                        m->dir);
    for (int64_t i = 0; i < m->n_tensors; i++) {
        struct mb_tensor *t = &m->tensors[i];
        t->storage = (uint8_t)s;
        t->stride_n = t->k;
        t->stride_k = 1;
        t->scale_bytes = 0;
        t->packed = 0;
    }
    m->auto_path = s == MB_STORE_F32 ? MB_PATH_F32 : MB_PATH_BF16;
    m->random = true;
    m->random_seed = seed;
    mb_model_keep(m, m->keep);
    return MB_OK;
}

/* What an element is drawn with; 0: it is *fixed. */
static double deviation(const struct mb_model *m, enum mb_role role, float *fixed)
{
    *fixed = 0;
    if (mb_model_plus_one(m, role))
        return 0;
    switch (role) {
    case MB_T_L_CONV:
        return 0.5;
    case MB_T_EMBED:
        return 1;
    case MB_T_FINAL_NORM:
    case MB_T_ATTN_NORM:
    case MB_T_FFN_NORM:
    case MB_T_ATTN_POST:
    case MB_T_FFN_POST:
    case MB_T_Q_NORM:
    case MB_T_K_NORM:
    case MB_T_Q_A_NORM:
    case MB_T_KV_A_NORM:
    case MB_T_MTP_ENORM:
    case MB_T_MTP_HNORM:
    case MB_T_MTP_NORM:
    case MB_T_IX_K_NORM:
    case MB_T_L_NORM:
        *fixed = 1;
        return 0;
    case MB_T_FINAL_NORM_B:
    case MB_T_HEAD_B:
    case MB_T_ATTN_NORM_B:
    case MB_T_FFN_NORM_B:
    case MB_T_Q_B:
    case MB_T_K_B:
    case MB_T_V_B:
    case MB_T_O_B:
    case MB_T_SINKS:
    case MB_T_GATE_B:
    case MB_T_UP_B:
    case MB_T_DOWN_B:
    case MB_T_ROUTER_B:
    case MB_T_ROUTER_BIAS:
    case MB_T_E_GATE_B:
    case MB_T_E_UP_B:
    case MB_T_E_DOWN_B:
    case MB_T_IX_K_NORM_B:
    case MB_T_L_A_LOG:
    case MB_T_L_DT:
        return 0;
    default:
        return 0.02;
    }
}

static void put(enum mb_storage s, void *dst, int64_t at, float v)
{
    if (s == MB_STORE_F32)
        ((float *)dst)[at] = v;
    else
        ((uint16_t *)dst)[at] = mb_bf16_of(v);
}

/* The sum of a word's bytes has the mean 510 and the variance 21845, and is nearly normal. */
static int32_t bytes_of(uint32_t w)
{
    return (int32_t)((w & 255) + (w >> 8 & 255) + (w >> 16 & 255) + (w >> 24)) - 510;
}

static void draw_row(enum mb_storage s, uint64_t key, int64_t row, int64_t k, float unit, void *dst,
                     int64_t at)
{
    for (int64_t j = 0; j < k; j += 4) {
        uint32_t word[4], ctr[4] = {(uint32_t)(j / 4), (uint32_t)row, 0, 0};
        mb_philox4x32(ctr, key, word);
        for (int64_t e = 0; e < 4 && j + e < k; e++)
            put(s, dst, at + j + e, unit * (float)bytes_of(word[e]));
    }
}

void mb_random_rows(const struct mb_model *m, const struct mb_tensor *t, int64_t n0, int64_t n, void *dst)
{
    enum mb_storage s = (enum mb_storage)t->storage;
    uint64_t seed[4] = {m->random_seed, t->role, (uint64_t)(int64_t)t->layer, (uint64_t)(int64_t)t->expert},
             key = mb_hash64(seed, sizeof seed);
    float fixed;
    double sd = deviation(m, (enum mb_role)t->role, &fixed);
    float unit = (float)(sd / sqrt(21845));

    for (int64_t i = 0; i < n; i++) {
        if (sd > 0)
            draw_row(s, key, n0 + i, t->k, unit, dst, i * t->k);
        for (int64_t j = 0; sd == 0 && j < t->k; j++)
            put(s, dst, i * t->k + j, fixed);
    }
}
