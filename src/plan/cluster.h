/* A cluster as the planner sees it: equal nodes of equal devices, one rank a device, and how fast they are by
 * their data sheets. Pure, Local. */
#ifndef MB_PLAN_CLUSTER_H
#define MB_PLAN_CLUSTER_H
#include "topo/topo.h"

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
    bool cpu;   /* ranks are sets of CPU cores */
    char net_text[32];
    char files[MB_CLUSTER_FILES]; /* hwloc XML files, by commas; "": none. Then kind, per_node and link are
                                     open until mb_cluster_machines */
};

/* "[N nodes x] M KIND [nvlink|xgmi|pcie] [[K x] G Gb]", as in "4 nodes x 8 H100-80GB nvlink 8x400Gb": the
 * network is what one node has; several nodes need it. In place of "M KIND" hwloc XML files by commas may
 * stand, one for each node, or one for all with "N nodes x". Errors: MB_USAGE, logged with what would be
 * right. */
enum mb_status mb_cluster_parse(const char *line, struct mb_cluster *out);
/* Fills in what is open from the machines of the files (n of them; no file and one machine: the cluster is
 * this machine). A rank is a NUMA node's cores; every node is taken to be as the smallest. ranks: of a node;
 * 0: its NUMA nodes. Errors: MB_USAGE (neither one machine nor one for each node). */
enum mb_status mb_cluster_machines(struct mb_cluster *c, const struct mb_topo_local *l, int32_t n,
                                   int32_t ranks);
/* The cluster that the ranks of a job are: threads and memory of the weakest. Node sizes that differ give the
 * largest size that divides all of them. */
void mb_cluster_of_job(const struct mb_topo *t, struct mb_cluster *out);
/* A topology of the cluster with its memory. Errors: MB_NO_MEMORY, MB_LAYOUT. */
enum mb_status mb_cluster_topo(const struct mb_cluster *c, struct mb_topo **out);
/* "4 nodes x 8 H100-80GB" and so on, for people. */
#define MB_CLUSTER_TEXT 256
void mb_cluster_text(const struct mb_cluster *c, char out[MB_CLUSTER_TEXT]);
/* The table of kinds: NULL after the last. */
const struct mb_device_kind *mb_device_kind_at(int i);
#endif
