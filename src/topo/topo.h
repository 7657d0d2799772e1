/* The machine as plain data. Filled from hwloc on the spot, from hwloc XML, or from a synthetic line;
 * combined over ranks by app (comm gathers the packed locals). Knows no MPI. Local. */
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

/* hwloc's logical order of the machine's CPUs as mixed-radix digits, fastest first: logical CPU l has the OS
 * number base + sum over digits of (digit of l) * stride. Firmware numbers CPUs in such patterns (SMT
 * siblings last, sockets alternating); digits = 0: no pattern was found, OS order is used instead. */
#define MB_CPU_DIGITS 4
struct mb_cpu_order {
    int16_t base, digits;
    int16_t count[MB_CPU_DIGITS], stride[MB_CPU_DIGITS];
};

/* What one rank sees of itself: fixed size, gathered over the job. */
struct mb_topo_local {
    char host[64];
    struct mb_cpus allowed; /* affinity mask this rank was started with */
    int32_t numa;           /* logical index of the NUMA node of the first allowed CPU */
    int32_t numa_nodes;     /* of the machine */
    int32_t order;          /* hwloc logical index of the first allowed PU: order inside the node */
    int32_t cpus_online;    /* of the machine */
    int32_t cpus_given;     /* of them, those that this job may use (control groups); 0: not known */
    int32_t threads_asked;  /* OMP_NUM_THREADS; 0: nothing asked. The caller's to fill in. */
    int64_t memory_bytes;   /* of the machine (or of the cgroup, if less) */
    int64_t memory_free;
    int64_t address_room;   /* bytes that this process may still map (RLIMIT_AS); 0: no limit */
    int32_t gpus; /* OS devices of kind GPU / CoProc visible */
    int32_t devices;       /* with memory of their own that compute for this machine's ranks; 0: the CPU. The caller's to fill in. */
    int64_t device_memory; /* bytes of each. The same. */
    char cpu_model[80];
    struct mb_cpu_order cpu_order;
};
/* xml: NULL for this machine, or the path of an hwloc XML file (all its CPUs are allowed, all its memory is
 * free). xml_out: NULL, or gets malloc'd XML of the machine (provenance). Errors: MB_LAYOUT (XML that can't
 * be read), MB_NO_MEMORY, MB_IO. Local. */
enum mb_status mb_topo_discover(const char *xml, struct mb_topo_local *out, char **xml_out);

/* The whole job: ranks in topology order. */
struct mb_topo {
    int32_t ranks, nodes;
    int32_t *node_of; /* [ranks] node number of each world rank; nodes numbered by their lowest world rank */
    int32_t *order; /* [ranks] world ranks in topology order: by node, then NUMA, then CPU, then world rank */
    int32_t *index_of;   /* [ranks] inverse of order */
    int32_t *node_first; /* [nodes + 1] boundaries in `order` */
    int32_t
        *threads; /* [ranks] computing threads each rank should use (masks shared with others are divided) */
    struct mb_topo_local *local; /* [ranks] */
    bool threads_asked;          /* by --threads, for all ranks */
};
/* The OS number of logical CPU l (0 <= l < product of counts), or -1. Local. */
int32_t mb_cpu_order_os(const struct mb_cpu_order *o, int32_t l);

/* locals[r] of every rank; same_node[r]: any integer that is equal exactly for ranks that share memory
 * (comm's finding: one hostname and one mapped segment). threads_asked: --threads; where it is 0
 * local threads_asked counts, and where that is 0 the rank may use all CPUs it has. Above 0 they are taken as they are. Ranks of one node with an equal mask of c CPUs divide it in
 * hwloc order: part i of n has CPUs [i*c/n, (i+1)*c/n); where they outnumber the CPUs each gets one thread.
 * Errors: MB_NO_MEMORY. Local. */
enum mb_status mb_topo_create(const struct mb_topo_local *locals, const int32_t *same_node, int32_t ranks,
                              int32_t threads_asked, struct mb_topo **out);
/* "4 nodes x 8 ranks" style synthetic topology for planning and tests: one CPU a rank, memory unknown (0).
 * World ranks are numbered node by node. */
enum mb_status mb_topo_synthetic(int32_t nodes, const int32_t *ranks_per_node, struct mb_topo **out);
void mb_topo_destroy(struct mb_topo *t);
/* The CPUs rank r should bind its threads to: its part of a mask it shares with other ranks of the node, in
 * hwloc order; where ranks outnumber CPUs, one CPU used in turn. Local. */
void mb_topo_cpus(const struct mb_topo *t, int32_t rank, struct mb_cpus *out);

/* Bytes of address space that a limit (ulimit -v) leaves to this process with this many threads; 0: there is no limit. memory.c.
 * Local. */
int64_t mb_topo_address_room(int32_t threads);

/* Memory of this system in bytes: what the kernel says (*total is kept where it says nothing), lowered to
 * what the control groups of this process leave (v1 and v2, each level up to the root); *avail <= *total.
 * root: "" for this system, or a directory with the same files below it (tests). memory.c. Local. */
void mb_topo_memory(const char *root, int64_t *total, int64_t *avail);
#endif
