/* What the files of this room that see hwloc share. No other file includes hwloc.h. */
#ifndef MB_TOPO_LOAD_H
#define MB_TOPO_LOAD_H
#include <hwloc.h>
#include "base/status.h"

/* This machine (xml NULL), or the one of an hwloc XML file; with its I/O devices and all CPUs. The caller
 * destroys *out. Errors: MB_LAYOUT (the file is no XML that this hwloc reads), MB_NO_MEMORY, MB_IO. Local. */
enum mb_status mb_topo_load(const char *xml, hwloc_topology_t *out);
/* Sets of CPUs that have memory of their own, at least 1, and the bytes of the memory that belongs to CPUs.
 * Local. */
int32_t mb_topo_places(hwloc_topology_t t, int64_t *memory);
/* Devices that compute. Local. */
int32_t mb_topo_gpus(hwloc_topology_t t);
#endif
