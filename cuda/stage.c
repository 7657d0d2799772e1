#include <inttypes.h>
#include "cuda/weight.h"

struct half {
    void *host, *device;
    uint64_t bytes;
    cudaEvent_t read; /* by the kernels */
    bool busy;
};
struct mb_cuda_stage {
    struct half half[2];
    int now;
};

static void empty(struct mb_device *dev, struct half *h)
{
    mb_cuda_host_free(dev, h->host);
    mb_cuda_free(dev, MB_MEM_STAGING, h->bytes, h->device);
    h->host = h->device = NULL;
    h->bytes = 0;
}

void mb_cuda_stage_destroy(struct mb_device *dev)
{
    if (dev->stage == NULL)
        return;
    for (int i = 0; i < 2; i++) {
        empty(dev, &dev->stage->half[i]);
        if (dev->stage->half[i].read != NULL)
            (void)cudaEventDestroy(dev->stage->half[i].read);
    }
    mb_free(dev->stage);
    dev->stage = NULL;
}

static enum mb_status fill(struct mb_device *dev, struct half *h, uint64_t bytes)
{
    empty(dev, h);
    MB_TRY(mb_cuda_host_alloc(dev, bytes, &h->host));
    MB_TRY(mb_cuda_alloc(dev, MB_MEM_STAGING, bytes, &h->device));
    h->bytes = bytes;
    return MB_OK;
}

enum mb_status mb_cuda_stage_begin(struct mb_device *dev, uint64_t bytes, void **host, void **device)
{
    if (dev->stage == NULL)
        dev->stage = mb_zalloc(dev->mem, MB_MEM_OTHER, 1, sizeof *dev->stage);
    if (dev->stage == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for staging");
    dev->stage->now = 1 - dev->stage->now;
    struct half *h = &dev->stage->half[dev->stage->now];
    if (h->read == NULL)
        MB_TRY(mb_cuda_call("staging", cudaEventCreateWithFlags(&h->read, cudaEventDisableTiming)));
    if (h->busy)
        MB_TRY(mb_cuda_call("staging", cudaEventSynchronize(h->read)));
    h->busy = false;
    if (h->bytes < bytes)
        MB_TRY(fill(dev, h, bytes > MB_CUDA_STAGE ? bytes : MB_CUDA_STAGE));
    *host = h->host;
    *device = h->device;
    return MB_OK;
}

enum mb_status mb_cuda_stage_send(struct mb_device *dev, uint64_t bytes)
{
    struct half *h = &dev->stage->half[dev->stage->now];

    return mb_cuda_call("staging", cudaMemcpyAsync(h->device, h->host, (size_t)bytes, cudaMemcpyHostToDevice, dev->setup->s));
}

enum mb_status mb_cuda_stage_end(struct mb_device *dev)
{
    struct half *h = &dev->stage->half[dev->stage->now];

    h->busy = true;
    return mb_cuda_call("staging", cudaEventRecord(h->read, dev->setup->s));
}
