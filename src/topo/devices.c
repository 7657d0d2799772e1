/* GPUs, their links, and network cards. */
#include "topo/devices.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "topo/load.h"

#define KIB 1024
#define MEGA 1e6
#define GIGA 1e9
#define DISPLAY_3D 0x0302 /* PCI class of a controller without outputs */
#define DISPLAY 0x0300
#define DISPLAY_OTHER 0x0380
#define NVIDIA 0x10de
#define AMD 0x1002
#define INTEL 0x8086

/* ---------------------------------------------------------------- GPUs */

static bool starts(const char *s, const char *with)
{
    return s != NULL && strncmp(s, with, strlen(with)) == 0;
}

/* Libraries for computing (CUDA, OpenCL, NVML, ROCm, Level Zero) list what computes. OpenCL lists CPUs, too.
 */
static bool computes(hwloc_obj_t d)
{
    const char *cl = hwloc_obj_get_info_by_name(d, "OpenCLDeviceType");

    if (cl != NULL)
        return strcmp(cl, "GPU") == 0;
    return d->attr->osdev.type == HWLOC_OBJ_OSDEV_COPROC || starts(d->name, "nvml") ||
           starts(d->name, "rsmi");
}

/* A file that was written without those libraries has graphics devices only. Those of management controllers
 * (ASPEED, Matrox) and of desktop processors compute nothing here: what has no display output does, and the
 * cards of the makers of GPUs for computing. */
static bool is_gpu_card(const struct hwloc_pcidev_attr_s *p)
{
    if (p->class_id != DISPLAY_3D && p->class_id != DISPLAY && p->class_id != DISPLAY_OTHER)
        return false;
    if (p->vendor_id == NVIDIA || p->vendor_id == AMD)
        return true;
    return p->vendor_id == INTEL && p->class_id == DISPLAY_OTHER;
}

static bool is_gpu(hwloc_obj_t pci)
{
    for (hwloc_obj_t d = pci->io_first_child; d != NULL; d = d->next_sibling) {
        if (d->type == HWLOC_OBJ_OS_DEVICE && computes(d))
            return true;
    }
    return is_gpu_card(&pci->attr->pcidev);
}

int32_t mb_topo_gpus(hwloc_topology_t t)
{
    int32_t n = 0;

    for (hwloc_obj_t p = NULL; (p = hwloc_get_next_pcidev(t, p)) != NULL;)
        n += is_gpu(p);
    return n;
}

/* Of the device, or of one of its OS devices; NULL: nobody says. */
static const char *info_of(hwloc_obj_t pci, const char *name)
{
    const char *v = hwloc_obj_get_info_by_name(pci, name);

    for (hwloc_obj_t d = pci->io_first_child; d != NULL && v == NULL; d = d->next_sibling)
        v = hwloc_obj_get_info_by_name(d, name);
    return v;
}

static int64_t memory_of(hwloc_obj_t pci)
{
    static const char *const names[] = {"CUDAGlobalMemorySize", "OpenCLGlobalMemorySize", "RSMIVRAMSize",
                                        "LevelZeroHBMSize"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *v = info_of(pci, names[i]);
        long long kib = v != NULL ? strtoll(v, NULL, 10) : 0;
        if (kib > 0 && kib < INT64_MAX / KIB)
            return kib * KIB;
    }
    return 0;
}

static void take_gpu(hwloc_obj_t pci, struct mb_topo_devices *d)
{
    const char *model = info_of(pci, "GPUModel");
    int64_t memory = memory_of(pci);

    if (model == NULL)
        model = info_of(pci, "PCIDevice");
    if (model == NULL)
        model = pci->name != NULL ? pci->name : "";
    if (d->gpus++ == 0) {
        strncpy(d->gpu_model, model, sizeof d->gpu_model - 1);
        d->gpu_memory = memory;
        return;
    }
    d->mixed |= strncmp(d->gpu_model, model, sizeof d->gpu_model - 1) != 0;
    d->gpu_memory = memory < d->gpu_memory ? memory : d->gpu_memory;
}

/* ---------------------------------------------------------------- links */

/* The PCI device of an object of a matrix; NULL: none (a port of a CPU). */
static hwloc_obj_t pci_of(hwloc_obj_t o)
{
    while (o != NULL && o->type != HWLOC_OBJ_PCI_DEVICE)
        o = o->parent;
    return o;
}

/* The weakest GPU's sum over all others, MB/s. Objects that are no GPUs are switches, and count as the way to
 * others. */
static double weakest(const struct hwloc_distances_s *m)
{
    double least = -1;

    for (unsigned i = 0; i < m->nbobjs; i++) {
        hwloc_obj_t pci = m->objs[i] != NULL ? pci_of(m->objs[i]) : NULL;
        double sum = 0;
        if (pci == NULL || !is_gpu(pci))
            continue;
        for (unsigned j = 0; j < m->nbobjs; j++)
            sum += i != j ? (double)m->values[(size_t)i * m->nbobjs + j] : 0;
        least = least < 0 || sum < least ? sum : least;
    }
    return least;
}

static double link_of(hwloc_topology_t t)
{
    static const char *const names[] = {"NVLinkBandwidth", "XGMIBandwidth"};
    double best = 0;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct hwloc_distances_s *m = NULL;
        unsigned n = 1;
        if (hwloc_distances_get_by_name(t, names[i], &n, &m, 0) != 0 || n == 0 || m == NULL)
            continue;
        double w = weakest(m) * MEGA;
        best = w > best ? w : best;
        hwloc_distances_release(t, m);
    }
    return best;
}

/* ---------------------------------------------------------------- network cards */

/* Makers' figures, bits/s of a port: by PCI vendor and device (virtual functions have other numbers). */
static const struct {
    uint16_t vendor, device;
    double rate;
} cards[] = {
    {0x15b3, 0x1013, 100e9}, /* ConnectX-4 */
    {0x15b3, 0x1017, 100e9}, /* ConnectX-5 */
    {0x15b3, 0x1019, 100e9}, /* ConnectX-5 Ex */
    {0x15b3, 0x101b, 200e9}, /* ConnectX-6 */
    {0x15b3, 0x101d, 100e9}, /* ConnectX-6 Dx */
    {0x15b3, 0x1021, 400e9}, /* ConnectX-7 */
    {0x15b3, 0x1023, 800e9}, /* ConnectX-8 */
    {0x15b3, 0xa2d6, 200e9}, /* BlueField-2 */
    {0x15b3, 0xa2dc, 400e9}, /* BlueField-3 */
    {0x8086, 0x24f0, 100e9}, /* Omni-Path 100 */
    {0x17db, 0x0501, 200e9}, /* Slingshot 11 */
};

static double rate_of(const struct hwloc_pcidev_attr_s *p)
{
    double pcie = p->linkspeed * GIGA;

    for (size_t i = 0; i < sizeof cards / sizeof cards[0]; i++) {
        if (cards[i].vendor == p->vendor_id && cards[i].device == p->device_id) {
            double rate = cards[i].rate / 8;
            return pcie > 0 && pcie < rate ? pcie : rate;
        }
    }
    return 0;
}

/* A port that says it is down is no network; one that says nothing may be up. */
static bool is_fabric(hwloc_obj_t d)
{
    const char *state = hwloc_obj_get_info_by_name(d, "Port1State");

    if (d->attr->osdev.type != HWLOC_OBJ_OSDEV_OPENFABRICS && !starts(d->name, "hsn"))
        return false;
    return state == NULL || strcmp(state, "4") == 0; /* active */
}

static bool is_virtual(hwloc_obj_t pci)
{
    const char *name = info_of(pci, "PCIDevice");
    return name != NULL && strstr(name, "Virtual Function") != NULL;
}

static void take_nics(hwloc_obj_t pci, struct mb_topo_devices *d)
{
    for (hwloc_obj_t o = pci->io_first_child; o != NULL; o = o->next_sibling) {
        if (o->type != HWLOC_OBJ_OS_DEVICE || !is_fabric(o) || is_virtual(pci))
            continue;
        d->nics++;
        d->net += rate_of(&pci->attr->pcidev);
        return; /* a device with two names is one */
    }
}

enum mb_status mb_topo_devices(const char *xml, struct mb_topo_devices *out)
{
    struct mb_topo_devices d = {0};
    hwloc_topology_t t = NULL;

    MB_TRY(mb_topo_load(xml, &t));
    for (hwloc_obj_t p = NULL; (p = hwloc_get_next_pcidev(t, p)) != NULL;) {
        if (is_gpu(p))
            take_gpu(p, &d);
        else
            take_nics(p, &d);
    }
    d.gpu_link = d.gpus > 1 ? link_of(t) : 0;
    d.places = mb_topo_places(t, &d.place_memory);
    hwloc_topology_destroy(t);
    *out = d;
    return MB_OK;
}
