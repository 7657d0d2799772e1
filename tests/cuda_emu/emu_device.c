/* What the emulated device says of itself, and what it can launch. */
#include "emu.h"

#include <stdio.h>
#include <string.h>

enum { KERNELS = 512 };

static struct {
    const void *kernel;
    size_t shared;
} allowed[KERNELS];
static _Thread_local int current;

static int devices(void)
{
    return (int)mb_emu_setting("MB_EMU_DEVICES", 1);
}

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = devices();
    return mb_emu_error(*n > 0 ? cudaSuccess : cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int *device)
{
    *device = current;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= devices())
        return mb_emu_error(cudaErrorInvalidDevice);
    current = device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int device)
{
    size_t available, total;

    if (device < 0 || device >= devices())
        return mb_emu_error(cudaErrorInvalidDevice);
    cudaMemGetInfo(&available, &total);
    *out = (struct cudaDeviceProp){.name = "emulated CUDA device",
                                   .totalGlobalMem = total,
                                   .sharedMemPerBlock = MB_EMU_SHARED_PLAIN,
                                   .sharedMemPerBlockOptin = MB_EMU_SHARED_MOST,
                                   .sharedMemPerMultiprocessor = 233472,
                                   .totalConstMem = 65536,
                                   .regsPerBlock = 65536,
                                   .warpSize = 32,
                                   .maxThreadsPerBlock = 1024,
                                   .maxThreadsDim = {1024, 1024, 64},
                                   .maxGridSize = {2147483647, 65535, 65535},
                                   .major = 9,
                                   .multiProcessorCount = 4,
                                   .maxThreadsPerMultiProcessor = 2048,
                                   .l2CacheSize = 52428800,
                                   .memoryBusWidth = 5120,
                                   .canMapHostMemory = 1,
                                   .pciBusID = 1 + device,
                                   .unifiedAddressing = 1};
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *out, enum cudaDeviceAttr what, int device)
{
    struct cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, device);

    if (e != cudaSuccess)
        return e;
    switch (what) {
    case cudaDevAttrMaxThreadsPerBlock:
        *out = p.maxThreadsPerBlock;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *out = (int)p.sharedMemPerBlock;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *out = (int)p.sharedMemPerBlockOptin;
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *out = p.warpSize;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *out = p.multiProcessorCount;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *out = p.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *out = p.minor;
        return cudaSuccess;
    }
    return mb_emu_error(cudaErrorInvalidValue);
}
cudaError_t cudaDeviceGetPCIBusId(char *out, int bytes, int device)
{
    snprintf(out, (size_t)bytes, "0000:%02x:00.0", 1 + device);
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *out)
{
    *out = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *out)
{
    *out = CUDART_VERSION;
    return cudaSuccess;
}

/* ---------------------------------------------------------------- launches */
cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute what, int value)
{
    if (what != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || value > MB_EMU_SHARED_MOST)
        return mb_emu_error(cudaErrorInvalidValue);
    for (int i = 0; i < KERNELS; i++)
        if (allowed[i].kernel == NULL || allowed[i].kernel == kernel) {
            allowed[i].kernel = kernel;
            allowed[i].shared = (size_t)value;
            return cudaSuccess;
        }
    return mb_emu_error(cudaErrorUnknown);
}

static size_t shared_of(const void *kernel)
{
    for (int i = 0; i < KERNELS && allowed[i].kernel != NULL; i++)
        if (allowed[i].kernel == kernel)
            return allowed[i].shared > MB_EMU_SHARED_PLAIN ? allowed[i].shared : MB_EMU_SHARED_PLAIN;
    return MB_EMU_SHARED_PLAIN;
}

cudaError_t mb_emu_check_launch(const struct mb_emu_call *c)
{
    uint64_t threads = (uint64_t)c->block.x * c->block.y * c->block.z;

    if (threads < 1 || threads > 1024 || c->block.z > 64 || c->grid.x < 1 || c->grid.x > 2147483647 ||
        c->grid.y < 1 || c->grid.y > 65535 || c->grid.z < 1 || c->grid.z > 65535)
        return cudaErrorInvalidConfiguration;
    return c->shared > shared_of(c->kernel) ? cudaErrorInvalidValue : cudaSuccess;
}
