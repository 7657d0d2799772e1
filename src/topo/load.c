/* Loading a topology. */
#include "topo/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"

/* The major version that the file's topology element names; 0: none is named near its beginning. */
static int format_of(const char *path)
{
    char head[1024];
    FILE *f = fopen(path, "r");

    if (f == NULL)
        return 0;
    size_t n = fread(head, 1, sizeof head - 1, f);
    fclose(f);
    head[n] = '\0';
    const char *at = strstr(head, "<topology version=\"");
    return at != NULL ? (int)strtol(at + strlen("<topology version=\""), NULL, 10) : 0;
}

static enum mb_status bad_file(const char *xml)
{
    int format = format_of(xml), own = HWLOC_API_VERSION >> 16;

    if (format > own)
        return mb_error(
            MB_LAYOUT,
            "%s was written by hwloc %d, and this program reads the files of hwloc %d; write it there with: "
            "lstopo --export-xml-flags v2 file.xml",
            xml, format, own);
    return mb_error(MB_LAYOUT, "%s can't be read as hwloc XML; make one with: lstopo file.xml", xml);
}

enum mb_status mb_topo_load(const char *xml, hwloc_topology_t *out)
{
    hwloc_topology_t t;

    if (hwloc_topology_init(&t) != 0)
        return mb_error(MB_NO_MEMORY, "hwloc can't start; the machine is out of memory");
    /* All CPUs of the machine, also those of other jobs: the numbering pattern is only seen on the whole. */
    hwloc_topology_set_flags(t, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
    hwloc_topology_set_io_types_filter(t, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if ((xml != NULL && (format_of(xml) > HWLOC_API_VERSION >> 16 || hwloc_topology_set_xml(t, xml) != 0)) ||
        hwloc_topology_load(t) != 0) {
        hwloc_topology_destroy(t);
        if (xml != NULL)
            return bad_file(xml);
        return mb_error(MB_IO, "hwloc can't read this machine's topology; is /sys mounted?");
    }
    *out = t;
    return MB_OK;
}

/* A memory node of its own CPUs. hwloc gives nodes without CPUs (high-bandwidth memory, CXL, memory of a GPU)
 * the CPUs near them: a set that another node has too, or that holds those of other nodes. */
static bool is_place(hwloc_topology_t t, hwloc_obj_t n)
{
    if (n->cpuset == NULL || hwloc_bitmap_iszero(n->cpuset))
        return false;
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, o)) != NULL;) {
        if (o == n || o->cpuset == NULL || hwloc_bitmap_iszero(o->cpuset) ||
            !hwloc_bitmap_isincluded(o->cpuset, n->cpuset))
            continue;
        if (!hwloc_bitmap_isequal(o->cpuset, n->cpuset) || o->logical_index < n->logical_index)
            return false;
    }
    return true;
}

int32_t mb_topo_places(hwloc_topology_t t, int64_t *memory)
{
    uint64_t sum = 0;
    int32_t n = 0;

    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, o)) != NULL;) {
        bool gpu = o->subtype != NULL && strcmp(o->subtype, "GPUMemory") == 0;
        uint64_t has = gpu ? 0 : o->attr->numanode.local_memory;
        n += is_place(t, o);
        sum = has > (uint64_t)INT64_MAX - sum ? (uint64_t)INT64_MAX : sum + has;
    }
    *memory = (int64_t)sum;
    return n > 0 ? n : 1;
}
