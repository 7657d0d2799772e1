/* How much memory the control groups leave. A job under Slurm or in a container sees the machine's memory
 * everywhere else. */
#include "topo/topo.h"

#include <sys/resource.h>
#include <unistd.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *open_below(const char *root, const char *path)
{
    char full[4096];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    return n < 0 || (size_t)n >= sizeof full ? NULL : fopen(full, "re");
}

/* The number in a one-line file of a control group; "max", a missing file or nonsense is -1 (no limit). */
static int64_t read_number(const char *root, const char *dir, const char *name)
{
    char path[4096];
    int64_t v = -1;
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = n < 0 || (size_t)n >= sizeof path ? NULL : open_below(root, path);

    if (f == NULL)
        return -1;
    if (fscanf(f, "%" SCNd64, &v) != 1 || v < 0)
        v = -1;
    fclose(f);
    return v;
}

/* A "key value" line of a file. */
static int64_t read_keyed(const char *root, const char *path, const char *key)
{
    char line[256];
    int64_t v = -1;
    size_t len = strlen(key);
    FILE *f = open_below(root, path);

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, len) == 0 && sscanf(line + len, "%" SCNd64, &v) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return v;
}

/* One level: limit and use of directory dir. Page cache that the kernel can drop at once counts as free. */
static void apply_level(const char *root, const char *dir, bool v2, int64_t *total, int64_t *avail)
{
    int64_t limit = read_number(root, dir, v2 ? "memory.max" : "memory.limit_in_bytes");
    int64_t used = read_number(root, dir, v2 ? "memory.current" : "memory.usage_in_bytes");
    char stat[4096];
    int64_t cache = -1;

    if (limit < 0 || limit >= *total)
        return; /* v1 writes "no limit" as a number near 2^63 */
    *total = limit;
    int n = snprintf(stat, sizeof stat, "%s/memory.stat", dir);
    if (n > 0 && (size_t)n < sizeof stat)
        cache = read_keyed(root, stat, v2 ? "inactive_file " : "total_inactive_file ");
    if (used < 0)
        used = 0;
    if (cache > 0)
        used = cache < used ? used - cache : 0;
    int64_t left = used < limit ? limit - used : 0;
    if (left < *avail)
        *avail = left;
}

/* Walks from mount + path up to the mount. In a container the path often names a directory that is not
 * visible inside; the missing levels read as "no limit" and the mount itself has the container's own. */
static void apply_path(const char *root, const char *mount, char *path, bool v2, int64_t *total,
                       int64_t *avail)
{
    char dir[4096];

    for (;;) {
        int n = snprintf(dir, sizeof dir, "%s%s", mount, path);
        if (n > 0 && (size_t)n < sizeof dir)
            apply_level(root, dir, v2, total, avail);
        char *slash = strrchr(path, '/');
        if (slash == NULL)
            return;
        *slash = '\0';
    }
}

static void limit_by_cgroups(const char *root, int64_t *total, int64_t *avail)
{
    char line[4096];
    FILE *f = open_below(root, "/proc/self/cgroup");

    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *list = strchr(line, ':');
        char *path = list ? strchr(list + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        if (list[1] == '\0')
            apply_path(root, "/sys/fs/cgroup", path, true, total, avail);
        else if (strcmp(list + 1, "memory") == 0)
            apply_path(root, "/sys/fs/cgroup/memory", path, false, total, avail);
    }
    if (f != NULL)
        fclose(f);
}

static int64_t meminfo(const char *root, const char *key)
{
    int64_t kib = read_keyed(root, "/proc/meminfo", key);
    return kib < 0 || kib > INT64_MAX / 1024 ? -1 : kib * 1024;
}

void mb_topo_memory(const char *root, int64_t *total, int64_t *avail)
{
    int64_t all = meminfo(root, "MemTotal:"), left = meminfo(root, "MemAvailable:");

    if (all > 0)
        *total = all;
    *avail = left < 0 || left > *total ? *total : left;
    limit_by_cgroups(root, total, avail);
}

/* Bytes this process has mapped. */
static int64_t mapped(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long long pages = 0;

    if (f == NULL || fscanf(f, "%lld", &pages) != 1)
        pages = 0;
    if (f != NULL)
        fclose(f);
    return pages * (int64_t)sysconf(_SC_PAGESIZE);
}

int64_t mb_topo_address_room(int32_t threads)
{
    const int64_t stack = (int64_t)8 << 20; /* of a thread, where the limit on stacks does not say less */
    struct rlimit all, s;

    if (getrlimit(RLIMIT_AS, &all) != 0 || all.rlim_cur == RLIM_INFINITY || all.rlim_cur > INT64_MAX)
        return 0;
    int64_t each = getrlimit(RLIMIT_STACK, &s) == 0 && s.rlim_cur != RLIM_INFINITY && (int64_t)s.rlim_cur < stack ? (int64_t)s.rlim_cur
                                                                                                                  : stack;
    int64_t room = (int64_t)all.rlim_cur - mapped() - each * (threads > 0 ? threads - 1 : 0);
    return room > 1 ? room : 1;
}
