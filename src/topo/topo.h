/* The machine as plain data. Filled from hwloc on the spot, from hwloc XML, or from a synthetic line; combined over ranks
 * by app (comm gathers the packed locals). Knows no MPI. Local. */
#ifndef MB_TOPO_TOPO_H
#define MB_TOPO_TOPO_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"

#define MB_MAX_CPUS 1024
struct mb_cpus { /* bit set of OS CPU numbers */
    uint64_t bits[MB_MAX_CPUS / 64];
};
int32_t mb_cpus_count(const struct mb_cpus *c);

/* What one rank sees of itself: fixed size, gathered over the job. */
struct mb_topo_local {
    char host[64];
    struct mb_cpus allowed;  /* affinity mask this rank was started with */
    int32_t numa;            /* logical index of the NUMA node of the first allowed CPU */
    int32_t order;           /* hwloc logical index of the first allowed PU: order inside the node */
    int32_t cpus_online;     /* of the machine */
    int64_t memory_bytes;    /* of the machine (or of the cgroup, if less) */
    int64_t memory_free;
    int32_t gpus;            /* OS devices of kind GPU / CoProc visible */
    char cpu_model[80];
};
/* xml: NULL for this machine. xml_out: NULL, or gets malloc'd XML of the machine (provenance). */
enum mb_status mb_topo_discover(const char *xml, struct mb_topo_local *out, char **xml_out);

/* The whole job: ranks in topology order. */
struct mb_topo {
    int32_t ranks, nodes;
    int32_t *node_of;   /* [ranks] node number of each world rank; nodes numbered by their lowest world rank */
    int32_t *order;     /* [ranks] world ranks in topology order: by node, then NUMA, then CPU, then world rank */
    int32_t *index_of;  /* [ranks] inverse of order */
    int32_t *node_first;/* [nodes + 1] boundaries in `order` */
    int32_t *threads;   /* [ranks] computing threads each rank should use (masks shared with others are divided) */
    struct mb_topo_local *local; /* [ranks] */
};
/* locals[r] of every rank; same_node[r]: any integer that is equal exactly for ranks that share memory (comm's finding: one
 * hostname and one mapped segment). threads_asked: --threads, 0 = all the rank may use. */
enum mb_status mb_topo_create(const struct mb_topo_local *locals, const int32_t *same_node, int32_t ranks,
                              int32_t threads_asked, struct mb_topo **out);
/* "4 nodes x 8 ranks" style synthetic topology for planning and tests. */
enum mb_status mb_topo_synthetic(int32_t nodes, const int32_t *ranks_per_node, struct mb_topo **out);
void mb_topo_destroy(struct mb_topo *t);
/* The CPUs rank r should bind its threads to: its part of a mask it shares with other ranks of the node, in hwloc order. */
void mb_topo_cpus(const struct mb_topo *t, int32_t rank, struct mb_cpus *out);
#endif
