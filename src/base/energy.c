#include "base/energy.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A number in a file of a zone. Returns 0, or errno. */
static int read_number(const char *root, const char *zone, const char *name, uint64_t *out)
{
    char path[512];
    int n = snprintf(path, sizeof path, "%s/%s/%s", root, zone, name);
    FILE *f = n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;

    if (f == NULL)
        return errno != 0 ? errno : ENAMETOOLONG;
    bool got = fscanf(f, "%" SCNu64, out) == 1;
    (void)fclose(f); /* only read */
    return got ? 0 : EIO;
}

/* Packages alone: their parts (intel-rapl:0:1) are in them. */
static bool is_package(const char *name)
{
    static const char prefix[] = "intel-rapl:";
    const char *at = name + sizeof prefix - 1;

    return strncmp(name, prefix, sizeof prefix - 1) == 0 && *at != '\0' &&
           strspn(at, "0123456789") == strlen(at) && strlen(name) < 32;
}

void mb_energy_read(const char *root, struct mb_energy *out)
{
    DIR *d = opendir(root);
    struct dirent *e;

    *out = (struct mb_energy){.n = 0};
    if (d == NULL) {
        snprintf(out->why, sizeof out->why, "%.100s: %s", root, strerror(errno));
        return;
    }
    while ((e = readdir(d)) != NULL && out->n < MB_ENERGY_ZONES) {
        uint64_t uj = 0, range = 0;
        if (!is_package(e->d_name))
            continue;
        int err = read_number(root, e->d_name, "energy_uj", &uj);
        if (err == 0)
            err = read_number(root, e->d_name, "max_energy_range_uj", &range);
        if (err != 0) {
            snprintf(out->why, sizeof out->why, "%.80s/%.31s: %s", root, e->d_name, strerror(err));
            out->n = 0;
            break;
        }
        snprintf(out->zone[out->n].name, sizeof out->zone[out->n].name, "%.31s", e->d_name);
        out->zone[out->n].uj = uj;
        out->zone[out->n++].range = range;
    }
    if (out->n == 0 && out->why[0] == '\0')
        snprintf(out->why, sizeof out->why, "%.100s has no package", root);
    closedir(d);
}

double mb_energy_between(const struct mb_energy *a, const struct mb_energy *b)
{
    double sum = 0;

    if (a->n == 0 || a->n != b->n)
        return -1;
    for (int i = 0; i < a->n; i++) {
        int j = 0;
        while (j < b->n && strcmp(a->zone[i].name, b->zone[j].name) != 0)
            j++;
        if (j == b->n)
            return -1;
        uint64_t x = a->zone[i].uj, y = b->zone[j].uj;
        sum +=
            y >= x ? (double)(y - x) : (double)y + (double)(b->zone[j].range > x ? b->zone[j].range - x : 0);
    }
    return sum / 1e6;
}
