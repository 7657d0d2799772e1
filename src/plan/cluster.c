/* Cluster lines, and the table of devices. */
#include "plan/cluster.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "base/log.h"

#define MOST_NODES 65536
#define MOST_PER_NODE 64
#define MOST_RANKS 65536
#define MOST_WORDS 16
#define PCIE 64e9         /* version 5, 16 lanes, one way */
#define CPU_FLOPS 50e9    /* a thread: AVX2 or better at some GHz. A guess, enough to compare layouts */
#define CPU_BANDWIDTH 6e9 /* of memory, a thread */
#define CPU_NET 12.5e9    /* where nothing is said */

struct words {
    char text[MB_CLUSTER_FILES];
    char *at[MOST_WORDS + 1]; /* NULL after the last */
    const char *line;
};

static enum mb_status wrong(const struct words *w, const char *what, const char *word)
{
    return mb_error(
        MB_USAGE, "--cluster '%.200s': %s%s%.100s%s; write it as in '4 nodes x 8 H100-80GB nvlink 8x400Gb'",
        w->line, what, word != NULL ? " '" : "", word != NULL ? word : "", word != NULL ? "'" : "");
}

static enum mb_status split(const char *line, struct words *w)
{
    char *next = w->text, *word;
    int n = 0;

    *w = (struct words){.line = line};
    if (strlen(line) >= sizeof w->text)
        return wrong(w, "the line is too long", NULL);
    strcpy(w->text, line);
    next = w->text;
    while ((word = strsep(&next, " \t")) != NULL) {
        if (word[0] == '\0')
            continue;
        if (n == MOST_WORDS)
            return wrong(w, "too many words", NULL);
        w->at[n++] = word;
    }
    return n > 0 ? MB_OK : wrong(w, "it is empty", NULL);
}

/* A whole number from 1 to most; *end is what follows it. */
static bool number(const char *s, int32_t most, int32_t *out, const char **end)
{
    int64_t v = 0;

    if (!isdigit((unsigned char)*s))
        return false;
    for (; isdigit((unsigned char)*s); s++) {
        v = v * 10 + (*s - '0');
        if (v > most)
            return false;
    }
    *out = (int32_t)v;
    *end = s;
    return v > 0;
}

static bool is(const char *word, const char *name)
{
    return word != NULL && strcasecmp(word, name) == 0;
}

static enum mb_status take_nodes(struct words *w, char ***at, struct mb_cluster *c)
{
    const char *end;

    c->nodes = 0; /* not said */
    if (!is((*at)[1], "node") && !is((*at)[1], "nodes"))
        return MB_OK;
    if (!number((*at)[0], MOST_NODES, &c->nodes, &end) || *end != '\0')
        return wrong(w, "the number of nodes is from 1 to 65536, not", (*at)[0]);
    if (!is((*at)[2], "x"))
        return wrong(w, "after 'nodes' comes 'x' and what a node has, not", (*at)[2] ? (*at)[2] : "");
    *at += 3;
    return MB_OK;
}

static size_t list_kinds(char *list, size_t cap, const struct mb_device_kind *(*at)(int))
{
    size_t n = strlen(list);

    for (int i = 0; at(i) != NULL && n < cap; i++)
        n += (size_t)snprintf(list + n, cap - n, "%s%s", list[n - 1] == '(' ? "" : ", ", at(i)->name);
    return n;
}

static enum mb_status unknown_kind(const struct words *w, const char *word)
{
    char list[512] = "no known kind of GPU or CPU (";
    size_t cap = sizeof list - 2; /* room for what ends it */

    list_kinds(list, cap, mb_device_kind_at);
    list_kinds(list, cap, mb_cpu_kind_at);
    strcat(list, "):");
    return wrong(w, list, word);
}

static enum mb_status take_devices(struct words *w, char ***at, struct mb_cluster *c)
{
    const char *end, *word = (*at)[0];
    size_t n = word != NULL ? strlen(word) : 0;

    if (n > 4 && strcasecmp(word + n - 4, ".xml") == 0) {
        strcpy(c->files, word); /* no longer than the line */
        (*at)++;
        return MB_OK;
    }
    if (word == NULL || !number(word, MOST_PER_NODE, &c->per_node, &end) || *end != '\0')
        return wrong(w, "a node has from 1 to 64 GPUs or CPUs, not", word ? word : "");
    word = (*at)[1];
    if (word == NULL)
        return wrong(w, "the kind of GPU or CPU is missing", NULL);
    const struct mb_device_kind *k = mb_device_kind_named(word), *cpu = mb_cpu_kind_named(word);
    if (k == NULL && cpu == NULL)
        return unknown_kind(w, word);
    c->cpu = k == NULL;
    c->kind = c->cpu ? *cpu : *k;
    c->link = c->cpu ? c->kind.bandwidth / 2 : k->link_name != NULL ? k->link : PCIE;
    *at += 2;
    return MB_OK;
}

/* "768GB": memory of a node of CPUs. */
static bool take_memory(const char *word, struct mb_cluster *c)
{
    const char *end;
    int32_t gb;

    if (!c->cpu || c->kind.memory > 0 || !number(word, 1000000, &gb, &end) || strcmp(end, "GB") != 0)
        return false;
    c->kind.memory = (double)gb * (1 << 30) / c->per_node;
    return true;
}

/* "8x400Gb" or "400Gb". */
static bool take_net(const char *word, struct mb_cluster *c)
{
    const char *end;
    int32_t cards = 1, speed;

    if (!number(word, 1000000, &speed, &end))
        return false;
    if (*end == 'x') {
        cards = speed;
        if (cards > 64 || !number(end + 1, 1000000, &speed, &end))
            return false;
    }
    if (strcasecmp(end, "Gb") != 0 || (c->cpu && strcmp(end, "GB") == 0)) /* there memory is written so */
        return false;
    c->net = cards * (speed * 1e9 / 8);
    snprintf(c->net_text, sizeof c->net_text, "%dx%dGb", (int)cards, (int)speed);
    return true;
}

static enum mb_status take_links(struct words *w, char **at, struct mb_cluster *c)
{
    bool link = false;

    for (; *at != NULL; at++) {
        bool own = is(*at, "nvlink") || is(*at, "xgmi");
        if (take_memory(*at, c) || (c->net == 0 && take_net(*at, c)))
            continue;
        if ((!own && !is(*at, "pcie")) || link || c->cpu || c->files[0] != '\0')
            return wrong(w, "neither nvlink, xgmi, pcie nor a network is", *at);
        if (own && (c->kind.link_name == NULL || !is(*at, c->kind.link_name)))
            return wrong(w, "GPUs of this kind are not joined by", *at);
        c->link = own ? c->kind.link : PCIE;
        link = true;
    }
    return MB_OK;
}

static void gpu_waits(struct mb_cluster *c)
{
    c->op = 4e-6;
    c->link_wait = 5e-6;
    c->net_wait = 12e-6;
    c->gib = 1e9;
}

static void cpu_waits(struct mb_cluster *c)
{
    c->op = 3e-6;
    c->link_wait = 2e-6;
    c->net_wait = 15e-6;
    c->gib = (double)(1 << 30);
    c->cpu = true;
}

enum mb_status mb_cluster_parse(const char *line, struct mb_cluster *out)
{
    struct mb_cluster c = {0};
    struct words w;

    MB_TRY(split(line, &w));
    char **at = w.at;
    MB_TRY(take_nodes(&w, &at, &c));
    MB_TRY(take_devices(&w, &at, &c));
    MB_TRY(take_links(&w, at, &c));
    if (c.cpu)
        cpu_waits(&c);
    else
        gpu_waits(&c);
    if (c.cpu && c.kind.memory <= 0)
        return wrong(&w, "a node of CPUs needs its memory, as in '2 nodes x 2 EPYC-9654 768GB 400Gb'", NULL);
    if (c.files[0] == '\0' && c.nodes == 0)
        c.nodes = 1;
    if (c.files[0] == '\0' && c.nodes > 1 && c.net == 0)
        return wrong(&w, "several nodes need a network, such as 8x400Gb", NULL);
    if ((int64_t)c.nodes * c.per_node > MOST_RANKS)
        return wrong(&w, "more than 65536 ranks", NULL);
    *out = c;
    return MB_OK;
}

static void cpu_kind(struct mb_cluster *c, int32_t threads, double memory)
{
    c->kind = (struct mb_device_kind){.name = "CPU rank",
                                      .memory = memory,
                                      .flops = CPU_FLOPS * threads,
                                      .bandwidth = CPU_BANDWIDTH * threads};
    c->guess = true;
    c->link = c->kind.bandwidth / 2; /* a copy reads and writes memory */
    if (c->net == 0) {
        c->net = CPU_NET;
        snprintf(c->net_text, sizeof c->net_text, "1x%.0fGb", CPU_NET * 8 / 1e9);
    }
    cpu_waits(c);
}

/* Every node is taken to be as the weakest. */
static void fill_cpus(struct mb_cluster *c, const struct mb_machine *m, int32_t n, int32_t ranks)
{
    int32_t per_node = INT32_MAX, cpus = INT32_MAX;
    double memory = 9e18;

    for (int32_t i = 0; i < n; i++) {
        int32_t has = mb_cpus_count(&m[i].local.allowed);
        per_node = m[i].devices.places < per_node ? m[i].devices.places : per_node;
        cpus = has < cpus ? has : cpus;
        memory = (double)m[i].local.memory_free < memory ? (double)m[i].local.memory_free : memory;
    }
    if (ranks > 0)
        per_node = ranks;
    c->per_node = per_node > MOST_PER_NODE ? MOST_PER_NODE : per_node;
    cpu_kind(c, cpus > c->per_node ? cpus / c->per_node : 1, memory / c->per_node);
}

/* True if every machine has GPUs of one known kind, and as many as the others. */
static bool fill_gpus(struct mb_cluster *c, const struct mb_machine *m, int32_t n)
{
    const struct mb_topo_devices *d = &m[0].devices;
    const struct mb_device_kind *k = mb_device_kind_of(d->gpu_model, d->gpu_memory);
    double link = d->gpu_link, memory = (double)d->gpu_memory;

    for (int32_t i = 0; i < n; i++) {
        const struct mb_topo_devices *e = &m[i].devices;
        if (k == NULL || e->mixed || e->gpus != d->gpus || e->gpus > MOST_PER_NODE ||
            mb_device_kind_of(e->gpu_model, e->gpu_memory) != k)
            return false;
        link = e->gpu_link < link ? e->gpu_link : link;
        memory = (double)e->gpu_memory < memory ? (double)e->gpu_memory : memory;
    }
    c->per_node = d->gpus;
    c->kind = *k;
    if (memory > 0)
        c->kind.memory = memory;
    c->link = link > 0 ? link : PCIE;
    gpu_waits(c);
    return true;
}

/* What the weakest node has, where the line does not say. */
static void fill_net(struct mb_cluster *c, const struct mb_machine *m, int32_t n)
{
    const struct mb_topo_devices *d = &m[0].devices;

    for (int32_t i = 1; i < n; i++)
        d = m[i].devices.net < d->net ? &m[i].devices : d;
    if (c->net > 0 || d->net <= 0)
        return;
    c->net = d->net;
    snprintf(c->net_text, sizeof c->net_text, "%dx%.0fGb", (int)d->nics, d->net * 8 / 1e9 / d->nics);
}

enum mb_status mb_cluster_machines(struct mb_cluster *c, const struct mb_machine *m, int32_t n, int32_t ranks)
{
    const struct mb_topo_devices *d = &m[0].devices;

    if (c->nodes == 0)
        c->nodes = n;
    if (n != 1 && n != c->nodes)
        return mb_error(MB_USAGE,
                        "--cluster has %d nodes and %d hwloc files; give one file, or one for each node",
                        (int)c->nodes, (int)n);
    fill_net(c, m, n);
    if (d->gpus == 0 || !fill_gpus(c, m, n)) {
        if (d->gpus > 0)
            mb_warn("the %d GPUs '%s' of a node are not all of one kind whose figures are known: its CPUs "
                    "are planned; "
                    "name a kind by a line such as '%d nodes x %d H100-80GB nvlink 8x400Gb'",
                    (int)d->gpus, d->gpu_model, (int)c->nodes, (int)d->gpus);
        fill_cpus(c, m, n, ranks);
    } else if (c->nodes > 1 && c->net <= 0) {
        return mb_error(
            MB_USAGE,
            "--cluster: the hwloc files name no network cards whose speed is known; say it, as in "
            "'%d nodes x FILE.xml 8x400Gb'",
            (int)c->nodes);
    }
    if ((int64_t)c->per_node * c->nodes > MOST_RANKS)
        return mb_error(MB_USAGE, "--cluster has more than %d ranks", MOST_RANKS);
    return MB_OK;
}

static int32_t common_divisor(int32_t a, int32_t b)
{
    while (b > 0) {
        int32_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

void mb_cluster_of_job(const struct mb_topo *t, struct mb_cluster *out)
{
    struct mb_cluster c = {0};
    int32_t threads = INT32_MAX;
    double memory = 9e18;

    for (int32_t n = 0; n < t->nodes; n++)
        c.per_node = common_divisor(t->node_first[n + 1] - t->node_first[n], c.per_node);
    for (int32_t r = 0; r < t->ranks; r++) {
        int32_t n = t->node_of[r], ranks = t->node_first[n + 1] - t->node_first[n];
        double has = (double)t->local[r].memory_free / ranks;
        threads = t->threads[r] < threads ? t->threads[r] : threads;
        memory = has < memory ? has : memory;
    }
    c.nodes = t->ranks / c.per_node;
    cpu_kind(&c, threads, memory);
    *out = c;
}

enum mb_status mb_cluster_topo(const struct mb_cluster *c, struct mb_topo **out)
{
    int32_t *ranks = calloc((size_t)c->nodes, sizeof *ranks);
    struct mb_topo *t = NULL;

    if (ranks == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for a cluster of %d nodes", (int)c->nodes);
    for (int32_t n = 0; n < c->nodes; n++)
        ranks[n] = c->per_node;
    enum mb_status st = mb_topo_synthetic(c->nodes, ranks, &t);
    free(ranks);
    if (st != MB_OK)
        return st;
    for (int32_t r = 0; r < t->ranks; r++)
        t->local[r].memory_bytes = t->local[r].memory_free = (int64_t)(c->kind.memory * c->per_node);
    *out = t;
    return MB_OK;
}

void mb_cluster_text(const struct mb_cluster *c, char out[MB_CLUSTER_TEXT])
{
    int n = snprintf(out, MB_CLUSTER_TEXT, "%d node%s x %d %s%s", (int)c->nodes, c->nodes == 1 ? "" : "s",
                     (int)c->per_node, c->kind.name, c->cpu && c->per_node > 1 ? "s" : "");

    if (!c->cpu)
        n += snprintf(out + n, MB_CLUSTER_TEXT - (size_t)n, " %s",
                      c->link == PCIE || c->kind.link_name == NULL ? "pcie" : c->kind.link_name);
    if (c->nodes > 1)
        snprintf(out + n, MB_CLUSTER_TEXT - (size_t)n, " %s", c->net_text);
}
