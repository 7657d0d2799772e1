/* A cluster as the planner sees it: equal nodes of equal devices, one rank a device, and how fast they are by
 * their data sheets. Pure, Local. */
#ifndef MB_PLAN_CLUSTER_H
#define MB_PLAN_CLUSTER_H
#include "topo/devices.h"

/* A kind of device: what its data sheet says. Bytes, FLOP/s of dense bf16 matrix products (f32 sums), bytes/s
 * of its memory, and bytes/s that it sends over the node's own link to its neighbours while it receives as
 * much. */
struct mb_device_kind {
    const char *name;
    double memory, flops, bandwidth;
    const char *link_name; /* NULL: none but PCIe */
    double link;
};

#define MB_CLUSTER_FILES 512
struct mb_cluster {
    int32_t nodes, per_node; /* ranks of a node */
    struct mb_device_kind kind;
    double link;                    /* bytes/s each way of a rank inside its node; kind.link or PCIe */
    double net;                     /* bytes/s each way of a node to the others; 0: a single node */
    double op, link_wait, net_wait; /* seconds: to start an operation; until a message arrives */
    double gib; /* bytes of the unit in which this kind's memory is written: 1e9 on GPUs, else 2^30 */
    bool guess; /* speeds are guesses from the number of cores, not a data sheet's */
    bool cpu;   /* ranks are sets of CPU cores: sockets of a kind, or parts of a machine that was looked at */
    char net_text[32];
    char files[MB_CLUSTER_FILES]; /* hwloc XML files, by commas; "": none. Then kind, per_node and link are
                                     open until mb_cluster_machines */
};

/* "[N nodes x] M KIND [nvlink|xgmi|pcie] [[K x] G Gb]", as in "4 nodes x 8 H100-80GB nvlink 8x400Gb": the
 * network is what one node has; several nodes need it. CPUs are sockets, and a node of them has memory:
 * "2 nodes x 2 EPYC-9654 768GB 400Gb". In place of "M KIND" hwloc XML files by commas may stand, one for each
 * node, or one for all with "N nodes x". Errors: MB_USAGE, logged with what would be right. */
enum mb_status mb_cluster_parse(const char *line, struct mb_cluster *out);
struct mb_machine {
    struct mb_topo_local local;
    struct mb_topo_devices devices;
};
/* Fills in what is open from the machines of the files (n >= 1 of them; no file and one machine: the cluster
 * is this machine). A rank is a GPU where all nodes have as many of one known kind, else a NUMA node's cores;
 * every node is taken to be as the weakest. Network: the line's, else that of the cards. ranks: of a node of
 * CPUs; 0: its NUMA nodes with CPUs. Errors: MB_USAGE (neither one machine nor one for each node, several
 * nodes of GPUs and no network known). */
enum mb_status mb_cluster_machines(struct mb_cluster *c, const struct mb_machine *m, int32_t n,
                                   int32_t ranks);
/* The cluster that the ranks of a job are: threads and memory of the weakest. Node sizes that differ give the
 * largest size that divides all of them. */
void mb_cluster_of_job(const struct mb_topo *t, struct mb_cluster *out);
/* A topology of the cluster with its memory. Errors: MB_NO_MEMORY, MB_LAYOUT. */
enum mb_status mb_cluster_topo(const struct mb_cluster *c, struct mb_topo **out);
/* "4 nodes x 8 H100-80GB" and so on, for people. */
#define MB_CLUSTER_TEXT 256
void mb_cluster_text(const struct mb_cluster *c, char out[MB_CLUSTER_TEXT]);
/* The tables of kinds (kinds.c): NULL after the last. */
const struct mb_device_kind *mb_device_kind_at(int i);
const struct mb_device_kind *mb_cpu_kind_at(int i); /* a socket each; memory 0 */
/* By name, in any case; of GPUs also by the first part of it ("H100") where no two begin so. NULL: none. */
const struct mb_device_kind *mb_device_kind_named(const char *name);
const struct mb_device_kind *mb_cpu_kind_named(const char *name);
/* The kind of a GPU that its driver or the list of PCI devices names so ("NVIDIA A100-SXM4-80GB", "GA100
 * [A100 PCIe 40GB]"), by memory in bytes (0: by the number in the name) where sizes differ. NULL: none. */
const struct mb_device_kind *mb_device_kind_of(const char *model, int64_t memory);
#endif
