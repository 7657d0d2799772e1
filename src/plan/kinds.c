/* The tables of devices. */
#include "plan/cluster.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Makers' data sheets: dense bf16, SXM and OAM forms unless said. Links: NVLink 2 (V100) has 300, 3 (A100)
 * 600 and 4 (H100, H200, H20, GH200) 900 GB/s both ways together, the H800's is cut to 400, NVLink 5 (B200)
 * has 1,800; MI300X and MI325X: seven links of 64 GB/s each way. A V100 has no bf16: its f32 rate. An MI250X
 * is two devices. */
static const struct mb_device_kind gpus[] = {
    {"V100-16GB", 16e9, 15.7e12, 0.9e12, "nvlink", 150e9},
    {"V100-32GB", 32e9, 15.7e12, 0.9e12, "nvlink", 150e9},
    {"A30-24GB", 24e9, 165e12, 0.933e12, NULL, 0},
    {"A40-48GB", 48e9, 149.7e12, 0.696e12, NULL, 0},
    {"A100-40GB", 40e9, 312e12, 1.555e12, "nvlink", 300e9},
    {"A100-80GB", 80e9, 312e12, 2.039e12, "nvlink", 300e9},
    {"A800-80GB", 80e9, 312e12, 2.039e12, "nvlink", 200e9},
    {"H100-80GB", 80e9, 989e12, 3.35e12, "nvlink", 450e9},
    {"H800-80GB", 80e9, 989e12, 3.35e12, "nvlink", 200e9},
    {"GH200-96GB", 96e9, 989e12, 4.0e12, "nvlink", 450e9},
    {"H20-96GB", 96e9, 148e12, 4.0e12, "nvlink", 450e9},
    {"H200-141GB", 141e9, 989e12, 4.8e12, "nvlink", 450e9},
    {"B200-180GB", 180e9, 2250e12, 8.0e12, "nvlink", 900e9},
    {"L4-24GB", 24e9, 121e12, 0.3e12, NULL, 0},
    {"L40S-48GB", 48e9, 362e12, 0.864e12, NULL, 0},
    {"MI250X-64GB", 64e9, 191.5e12, 1.6e12, "xgmi", 200e9},
    {"MI300X-192GB", 192e9, 1307e12, 5.3e12, "xgmi", 448e9},
    {"MI325X-256GB", 256e9, 1307e12, 6.0e12, "xgmi", 448e9},
};
#define GPUS ((int)(sizeof gpus / sizeof gpus[0]))

/* A socket: f32 multiply-adds of all cores at base clock (32 a cycle with two 256-bit units: Zen 2, 3 and 4;
 * 64 with two of 512 bits), and the bandwidth of its memory channels. Memory is what the node's owner put in.
 */
#define SOCKET(name, cores, ghz, flop, gbs)                                                                  \
    {                                                                                                        \
        name, 0, (cores) * (ghz)*1e9 * (flop), (gbs)*1e9, NULL, 0                                            \
    }
static const struct mb_device_kind cpus[] = {
    SOCKET("EPYC-7742", 64, 2.25, 32, 204.8),  SOCKET("EPYC-7763", 64, 2.45, 32, 204.8),
    SOCKET("EPYC-9554", 64, 3.1, 32, 460.8),   SOCKET("EPYC-9654", 96, 2.4, 32, 460.8),
    SOCKET("EPYC-9754", 128, 2.25, 32, 460.8), SOCKET("EPYC-9755", 128, 2.7, 64, 614.4),
    SOCKET("EPYC-9965", 192, 2.25, 64, 614.4), SOCKET("XEON-8380", 40, 2.3, 64, 204.8),
    SOCKET("XEON-8480+", 56, 2.0, 64, 307.2),  SOCKET("XEON-8592+", 64, 1.9, 64, 358.4),
    SOCKET("XEON-6980P", 128, 2.0, 64, 614.4),
};
#define CPUS ((int)(sizeof cpus / sizeof cpus[0]))

const struct mb_device_kind *mb_device_kind_at(int i)
{
    return i >= 0 && i < GPUS ? &gpus[i] : NULL;
}

const struct mb_device_kind *mb_cpu_kind_at(int i)
{
    return i >= 0 && i < CPUS ? &cpus[i] : NULL;
}

const struct mb_device_kind *mb_cpu_kind_named(const char *name)
{
    for (int i = 0; i < CPUS; i++) {
        if (strcasecmp(cpus[i].name, name) == 0)
            return &cpus[i];
    }
    return NULL;
}

static size_t first_part(const struct mb_device_kind *k)
{
    return strcspn(k->name, "-");
}

/* The only kind whose name begins with this part ("H100"), or the one of this name. */
const struct mb_device_kind *mb_device_kind_named(const char *name)
{
    const struct mb_device_kind *found = NULL;
    size_t n = strlen(name);

    for (int i = 0; i < GPUS; i++) {
        if (strcasecmp(gpus[i].name, name) == 0)
            return &gpus[i];
        if (first_part(&gpus[i]) != n || strncasecmp(gpus[i].name, name, n) != 0)
            continue;
        if (found != NULL) /* A100: of which size? */
            return NULL;
        found = &gpus[i];
    }
    return found;
}

/* Whether the first part of a kind's name is a word of the text. */
static bool names(const char *text, const struct mb_device_kind *k)
{
    size_t n = first_part(k);

    for (const char *s = text; *s != '\0'; s++) {
        bool begins = s == text || !isalnum((unsigned char)s[-1]);
        if (begins && strncasecmp(s, k->name, n) == 0 && !isalnum((unsigned char)s[n]))
            return true;
    }
    return false;
}

/* "80GB" in "NVIDIA A100-SXM4-80GB"; 0: no such word. */
static double gigabytes(const char *text)
{
    for (const char *s = text; *s != '\0'; s++) {
        char *end;
        if (!isdigit((unsigned char)*s) || (s > text && isdigit((unsigned char)s[-1])))
            continue;
        unsigned long v = strtoul(s, &end, 10);
        if (strncasecmp(end, "GB", 2) == 0 && v > 0 && v < 100000)
            return (double)v * 1e9;
    }
    return 0;
}

const struct mb_device_kind *mb_device_kind_of(const char *model, int64_t memory)
{
    const struct mb_device_kind *best = NULL;
    double has = memory > 0 ? (double)memory : gigabytes(model);

    for (int i = 0; i < GPUS; i++) {
        if (!names(model, &gpus[i]))
            continue;
        if (best == NULL || fabs(gpus[i].memory - has) < fabs(best->memory - has))
            best = &gpus[i];
    }
    return best;
}
