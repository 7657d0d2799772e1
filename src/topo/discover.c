/* What hwloc says about the machine's CPUs and memory, as plain data. */
#include "topo/topo.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"
#include "topo/load.h"

/* The CPUs this process may use, as a set of hwloc's; NULL without memory. */
static hwloc_bitmap_t allowed_set(hwloc_topology_t t, bool here)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();

    if (set == NULL)
        return NULL;
    if (!here || hwloc_get_cpubind(t, set, HWLOC_CPUBIND_THREAD) != 0 || hwloc_bitmap_iszero(set))
        hwloc_bitmap_copy(set, hwloc_topology_get_allowed_cpuset(t));
    return set;
}

static void fill_cpus(hwloc_topology_t t, hwloc_const_bitmap_t set, struct mb_topo_local *l)
{
    unsigned i;
    hwloc_obj_t first = NULL;
    int pus = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PU);

    hwloc_bitmap_foreach_begin(i, set) if (i < MB_MAX_CPUS) l->allowed.bits[i / 64] |= (uint64_t)1
                                                                                       << (i % 64);
    hwloc_bitmap_foreach_end();
    for (int p = 0; p < pus && first == NULL; p++) {
        hwloc_obj_t pu = hwloc_get_obj_by_type(t, HWLOC_OBJ_PU, (unsigned)p);
        if (hwloc_bitmap_isset(set, pu->os_index))
            first = pu;
    }
    if (first == NULL)
        return;
    l->order = (int32_t)first->logical_index;
    int node = first->nodeset ? hwloc_bitmap_first(first->nodeset) : -1;
    hwloc_obj_t numa = node < 0 ? NULL : hwloc_get_numanode_obj_by_os_index(t, (unsigned)node);
    l->numa = numa ? (int32_t)numa->logical_index : 0;
}

static int32_t os_of(hwloc_topology_t t, int32_t l)
{
    return (int32_t)hwloc_get_obj_by_type(t, HWLOC_OBJ_PU, (unsigned)l)->os_index;
}

/* Finds the digits of the numbering; leaves o empty if the machine follows no pattern of at most
 * MB_CPU_DIGITS digits. */
static void find_order(hwloc_topology_t t, struct mb_cpu_order *o)
{
    int32_t n = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PU), step = 1;
    struct mb_cpu_order r = {0};

    if (n < 1 || n > MB_MAX_CPUS || os_of(t, 0) >= MB_MAX_CPUS)
        return;
    r.base = (int16_t)os_of(t, 0);
    while (step < n && r.digits < MB_CPU_DIGITS) {
        int32_t stride = os_of(t, step) - r.base, c = 1;
        while (c * step < n && os_of(t, c * step) == r.base + c * stride)
            c++;
        if (n % (c * step) != 0 || abs(stride) >= MB_MAX_CPUS)
            return;
        r.count[r.digits] = (int16_t)c;
        r.stride[r.digits++] = (int16_t)stride;
        step *= c;
    }
    if (step != n)
        return;
    if (r.digits == 0) /* one CPU */
        r.count[r.digits++] = 1;
    for (int32_t l = 0; l < n; l++)
        if (mb_cpu_order_os(&r, l) != os_of(t, l))
            return;
    *o = r;
}

static void fill_machine(hwloc_topology_t t, bool here, struct mb_topo_local *l)
{
    hwloc_obj_t root = hwloc_get_root_obj(t);
    hwloc_obj_t package = hwloc_get_obj_by_type(t, HWLOC_OBJ_PACKAGE, 0);
    const char *name = package ? hwloc_obj_get_info_by_name(package, "CPUModel") : NULL;
    const char *host = hwloc_obj_get_info_by_name(root, "HostName");

    if (name == NULL)
        name = hwloc_obj_get_info_by_name(root, "CPUModel");
    strncpy(l->cpu_model, name ? name : "unknown", sizeof l->cpu_model - 1);
    strncpy(l->host, host ? host : "unknown", sizeof l->host - 1);
    if (here && gethostname(l->host, sizeof l->host) != 0)
        l->host[sizeof l->host - 1] = '\0';
    l->host[sizeof l->host - 1] = '\0';
    l->cpus_given = here ? hwloc_bitmap_weight(hwloc_topology_get_allowed_cpuset(t)) : 0;
    l->cpus_online = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_PU);
    l->numa_nodes = mb_topo_places(t, &l->memory_bytes);
    l->gpus = mb_topo_gpus(t);
    l->memory_free = l->memory_bytes;
    if (here)
        mb_topo_memory("", &l->memory_bytes, &l->memory_free);
    if (here)
        l->address_room = mb_topo_address_room(mb_cpus_count(&l->allowed));
}

static enum mb_status export_xml(hwloc_topology_t t, char **out)
{
    char *xml;
    int n;

    if (hwloc_topology_export_xmlbuffer(t, &xml, &n, 0) != 0)
        return mb_error(MB_NO_MEMORY, "hwloc can't write the machine as XML; the machine is out of memory");
    *out = strdup(xml);
    hwloc_free_xmlbuffer(t, xml);
    return *out ? MB_OK : mb_error(MB_NO_MEMORY, "no memory for the machine's XML");
}

enum mb_status mb_topo_discover(const char *xml, struct mb_topo_local *out, char **xml_out)
{
    hwloc_topology_t t = NULL;
    struct mb_topo_local l;
    enum mb_status st = mb_topo_load(xml, &t);

    if (st != MB_OK)
        return st;
    memset(&l, 0, sizeof l); /* padding too: the struct is gathered byte by byte */
    bool here = xml == NULL && hwloc_topology_is_thissystem(t);
    hwloc_bitmap_t set = allowed_set(t, here);
    if (set == NULL) {
        st = mb_error(MB_NO_MEMORY, "no memory for the set of CPUs");
        goto done;
    }
    fill_cpus(t, set, &l);
    find_order(t, &l.cpu_order);
    fill_machine(t, here, &l);
    if (xml_out != NULL)
        st = export_xml(t, xml_out);
    if (st == MB_OK)
        memcpy(out, &l, sizeof l);
done:
    hwloc_bitmap_free(set);
    hwloc_topology_destroy(t);
    return st;
}
