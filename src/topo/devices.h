/* The GPUs, their links and the network cards of a machine as plain data, from hwloc's I/O objects. Knows no
 * MPI. Local. */
#ifndef MB_TOPO_DEVICES_H
#define MB_TOPO_DEVICES_H
#include "topo/topo.h"

struct mb_topo_devices {
    int32_t gpus;       /* devices that compute; graphics of a management controller (BMC) are none */
    bool mixed;         /* not all GPUs are of one model */
    char gpu_model[80]; /* of the first, as its driver or the list of PCI devices names it; "": not known */
    int64_t gpu_memory; /* bytes of the smallest; 0: hwloc was not told */
    double gpu_link;    /* bytes/s each way of the weakest GPU to all others together, over NVLink or XGMI; 0:
                           none */
    int32_t
        nics; /* cards for traffic between nodes (InfiniBand, Omni-Path, Slingshot) with a port that is up */
    double net;           /* bytes/s each way of all of them together; 0: not known */
    int32_t places;       /* sets of CPUs with memory of their own: NUMA nodes without CPUs are none */
    int64_t place_memory; /* bytes of the memory of those nodes together */
};

/* xml: NULL for this machine, or the path of an hwloc XML file. Errors as mb_topo_discover. Local. */
enum mb_status mb_topo_devices(const char *xml, struct mb_topo_devices *out);
#endif
