/* Where the ranks run, for people. */
#include "app/nodes.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MASKS_SHOWN 8 /* CPU sets of a node that are written out */

/* ---------------------------------------------------------------- names of hosts */

/* Where the digits at the end of the name's first part begin, and how many: "n12.example" is n, 12, .example.
 */
static const char *number_of(const char *name, int *digits)
{
    const char *end = name + strcspn(name, "."), *at = end;

    while (at > name && isdigit((unsigned char)at[-1]) && end - at < 9)
        at--;
    *digits = (int)(end - at);
    return at;
}

/* The same name but for its number, written in as many digits. */
static bool alike(const char *a, const char *b)
{
    int da, db;
    const char *na = number_of(a, &da), *nb = number_of(b, &db);

    return da > 0 && da == db && na - a == nb - b && strncmp(a, b, (size_t)(na - a)) == 0 &&
           strcmp(na + da, nb + db) == 0;
}

static int by_name(const void *a, const void *b)
{
    const char *x = *(const char *const *)a, *y = *(const char *const *)b;
    size_t n = strlen(x), m = strlen(y);

    return n != m && alike(x, y) ? (n > m) - (n < m) : strcmp(x, y);
}

/* "n[1-3,7]" for names[0 .. n), which are alike */
static void put_alike(FILE *f, const char **names, int32_t n)
{
    int digits;
    const char *at = number_of(names[0], &digits);

    if (n == 1) {
        fputs(names[0], f);
        return;
    }
    fprintf(f, "%.*s[", (int)(at - names[0]), names[0]);
    for (int32_t i = 0, j; i < n; i = j) {
        long first = strtol(number_of(names[i], &digits), NULL, 10), last = first;
        for (j = i + 1; j < n && strtol(number_of(names[j], &digits), NULL, 10) <= last + 1; j++)
            last = strtol(number_of(names[j], &digits), NULL, 10);
        fprintf(f, "%s%0*ld", i > 0 ? "," : "", digits, first);
        if (last > first)
            fprintf(f, "-%0*ld", digits, last);
    }
    fprintf(f, "]%s", at + digits);
}

static char *closed(FILE *f, char **text)
{
    if (fclose(f) == 0)
        return *text;
    free(*text);
    return NULL;
}

char *mb_hosts_text(const char **names, int32_t n)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);

    if (f == NULL)
        return NULL;
    qsort(names, (size_t)n, sizeof *names, by_name);
    for (int32_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && alike(names[i], names[j]); j++) {
        }
        if (i > 0)
            fputc(',', f);
        put_alike(f, names + i, j - i);
    }
    return closed(f, &text);
}

/* ---------------------------------------------------------------- nodes */

static void put_cpus(FILE *f, const struct mb_cpus *c)
{
    const char *between = "";

    for (int i = 0, j; i < MB_MAX_CPUS; i = j + 1) {
        for (; i < MB_MAX_CPUS && !(c->bits[i / 64] >> (i % 64) & 1); i++) {
        }
        if (i == MB_MAX_CPUS)
            return;
        for (j = i + 1; j < MB_MAX_CPUS && c->bits[j / 64] >> (j % 64) & 1; j++) {
        }
        fprintf(f, j - i > 1 ? "%s%d-%d" : "%s%d", between, i, j - 1);
        between = ",";
    }
}

/* Threads of the ranks of a node: "4", or "1-4" where they differ */
static void put_threads(FILE *f, const struct mb_topo *t, int32_t node)
{
    int32_t lo = INT32_MAX, hi = 0;

    for (int32_t i = t->node_first[node]; i < t->node_first[node + 1]; i++) {
        int32_t n = t->threads[t->order[i]];
        lo = n < lo ? n : lo;
        hi = n > hi ? n : hi;
    }
    if (lo < hi)
        fprintf(f, "%d-", (int)lo);
    fprintf(f, "%d thread%s", (int)hi, hi == 1 ? "" : "s");
}

/* "2 ranks x 4 threads on CPUs 0-3 | 4-7", malloc'd. Threads that are more than the CPUs of their rank's part
 * are left to the kernel, so the whole mask is theirs. */
static char *node_text(const struct mb_topo *t, int32_t node)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    int32_t first = t->node_first[node], n = t->node_first[node + 1] - first;

    if (f == NULL)
        return NULL;
    fprintf(f, "%d rank%s x ", (int)n, n == 1 ? "" : "s");
    put_threads(f, t, node);
    fputs(" on CPUs ", f);
    for (int32_t i = 0; i < n; i++) {
        int32_t r = t->order[first + i];
        struct mb_cpus c;
        if (n > MASKS_SHOWN && i == MASKS_SHOWN - 1)
            fputs(" | ...", f);
        if (n > MASKS_SHOWN && i >= MASKS_SHOWN - 1 && i < n - 1)
            continue;
        mb_topo_cpus(t, r, &c);
        fputs(i > 0 ? " | " : "", f);
        put_cpus(f, mb_cpus_count(&c) < t->threads[r] ? &t->local[r].allowed : &c);
    }
    return closed(f, &text);
}

static const char *host_of(const struct mb_topo *t, int32_t node)
{
    return t->local[t->order[t->node_first[node]]].host;
}

/* The line of all nodes that have the text of node i; marks them by taking their texts. names: scratch,
 * [nodes]. */
static bool put_kind(FILE *f, const struct mb_topo *t, char **texts, int32_t i, const char **names)
{
    char *kind = texts[i], *hosts;
    int32_t n = 0;

    for (int32_t k = i; k < t->nodes; k++) {
        if (texts[k] == NULL || strcmp(texts[k], kind) != 0)
            continue;
        names[n++] = host_of(t, k);
        if (k > i) {
            free(texts[k]);
            texts[k] = NULL;
        }
    }
    hosts = mb_hosts_text(names, n);
    if (hosts != NULL)
        fprintf(f, "%s%s: %s", i > 0 ? "\n" : "", hosts, kind);
    free(hosts);
    return hosts != NULL;
}

static bool put_kinds(FILE *f, const struct mb_topo *t, char **texts, const char **names)
{
    int32_t rows = 0, left = 0;
    bool ok = true;

    for (int32_t i = 0; i < t->nodes; i++) {
        texts[i] = node_text(t, i);
        ok = ok && texts[i] != NULL;
    }
    for (int32_t i = 0; i < t->nodes && ok; i++) {
        if (texts[i] == NULL)
            continue;
        if (rows < MB_NODES_ROWS - 1)
            ok = put_kind(f, t, texts, i, names);
        else
            left++;
        rows++;
    }
    if (left > 0)
        fprintf(f, "\n%d more nodes of other kinds", (int)left);
    return ok;
}

char *mb_nodes_text(const struct mb_topo *t)
{
    char *text = NULL, **texts = calloc((size_t)t->nodes, sizeof *texts);
    const char **names = calloc((size_t)t->nodes, sizeof *names);
    size_t size = 0;
    FILE *f = texts == NULL || names == NULL ? NULL : open_memstream(&text, &size);
    bool ok = f != NULL && put_kinds(f, t, texts, names);

    if (f != NULL)
        text = closed(f, &text);
    for (int32_t i = 0; i < t->nodes && texts != NULL; i++)
        free(texts[i]);
    free(texts);
    free(names);
    if (!ok) {
        free(text);
        text = NULL;
    }
    return text;
}

/* ---------------------------------------------------------------- advice */

static void idle_text(const char *host, int32_t used, int32_t given, enum mb_launcher by,
                      char out[MB_ADVICE_TEXT])
{
    snprintf(
        out, MB_ADVICE_TEXT,
        "on %s the ranks were bound to %d of the %d CPUs that the job has there, the others stay idle: %s",
        host, (int)used, (int)given,
        by == MB_LAUNCHER_SRUN ? "srun --cpus-per-task=N gives each rank N of them (--cpu-bind=none: all)"
                               : "mpirun --bind-to none leaves it to moebatch to divide them (or --map-by "
                                 "ppr:RANKS:node:PE=CORES)");
}

static void shared_text(const char *host, int32_t threads, int32_t cpus, enum mb_launcher by,
                        char out[MB_ADVICE_TEXT])
{
    snprintf(out, MB_ADVICE_TEXT, "on %s a rank computes with %d threads on %d CPU%s: %s", host, (int)threads,
             (int)cpus, cpus == 1 ? "" : "s",
             by == MB_LAUNCHER_SRUN     ? "srun --cpus-per-task=N gives it more CPUs, --threads fewer threads"
             : by == MB_LAUNCHER_MPIRUN ? "mpirun --bind-to none (or --map-by ppr:RANKS:node:PE=CORES) gives "
                                          "it more CPUs, --threads fewer threads"
                                        : "--threads gives it fewer");
}

static void crowd_text(const char *host, int32_t ranks, int32_t cpus, enum mb_launcher by,
                       char out[MB_ADVICE_TEXT])
{
    snprintf(out, MB_ADVICE_TEXT,
             "on %s %d ranks share %d CPU%s, which is slower than a rank for each: %s%d%s", host, (int)ranks,
             (int)cpus, cpus == 1 ? "" : "s",
             by == MB_LAUNCHER_SRUN ? "srun --ntasks-per-node=" : "mpirun --map-by ppr:", (int)cpus,
             by == MB_LAUNCHER_SRUN ? "" : ":node --bind-to none");
}

/* One node. given: CPUs of the job there; 0: not known. */
static bool advice_of(const struct mb_topo *t, int32_t node, enum mb_launcher by, char out[MB_ADVICE_TEXT])
{
    struct mb_cpus all = {{0}};
    int32_t first = t->node_first[node], ranks = t->node_first[node + 1] - first, given = 0, crowded = -1;
    bool asked = false;

    for (int32_t i = 0; i < ranks; i++) {
        int32_t r = t->order[first + i];
        const struct mb_topo_local *l = &t->local[r];
        for (int w = 0; w < MB_MAX_CPUS / 64; w++)
            all.bits[w] |= l->allowed.bits[w];
        given = l->cpus_given > given ? l->cpus_given : given;
        asked = asked || t->threads_asked || l->threads_asked > 0;
        if (mb_cpus_count(&l->allowed) < t->threads[r] && crowded < 0)
            crowded = r;
    }
    int32_t used = mb_cpus_count(&all);
    if (given > 0 && ranks > given)
        crowd_text(host_of(t, node), ranks, given, by, out);
    else if (crowded >= 0 && given > 0)
        shared_text(host_of(t, node), t->threads[crowded], mb_cpus_count(&t->local[crowded].allowed), by,
                    out);
    else if (used < given && !asked && by != MB_LAUNCHER_NONE)
        idle_text(host_of(t, node), used, given, by, out);
    else
        return false;
    return true;
}

bool mb_nodes_advice(const struct mb_topo *t, enum mb_launcher by, char out[MB_ADVICE_TEXT])
{
    for (int32_t n = 0; n < t->nodes; n++) {
        if (advice_of(t, n, by, out))
            return true;
    }
    return false;
}
