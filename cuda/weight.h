/* Weights of the CUDA backend on the host's side. */
#ifndef CUDA_WEIGHT_H
#define CUDA_WEIGHT_H
#include "cuda/cuda.h"
#include "cuda/gemm.h"
#include "device/host.h"

struct mb_weight {
    struct mb_device *dev;
    struct mb_weight_desc desc;
    struct mb_k_weight k;            /* as the kernels have it */
    const struct mb_k_weight *there; /* the same in device memory, in front of the panels */
    unsigned char *memory;           /* device: the descriptor, panels, lists of groups */
    uint64_t bytes;                  /* of panels and lists */
    int64_t panels, groups;          /* groups: of stored weights, held here */
    struct mb_group_lists list;      /* host copies; NULL: none */
};

/* weight_stored.c: the parts of create, put and get for weights kept as stored. lists: after the memory is there. */
enum mb_status mb_cuda_stored_lists(struct mb_weight *w);
enum mb_status mb_cuda_stored_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m);
enum mb_status mb_cuda_stored_get(const struct mb_weight *w, int64_t n0, int64_t n, void *dst);

/* s8.c: the same for the int8 path */
enum mb_status mb_cuda_s8_check(const struct mb_weight_desc *d);
enum mb_status mb_cuda_s8_put(struct mb_weight *w, int64_t n0, int64_t k0, const struct mb_host_matrix *m);
enum mb_status mb_cuda_gemm_s8(struct mb_stream *s, struct mb_view out, struct mb_view x, const struct mb_gemm_group *groups, int32_t n);

/* stage.c: pinned memory through which weights go, and its image on the device. begin waits until a half of it is free and gives
 * room for `bytes`; send queues it; end marks that the kernels that read it have been queued. All on the setup stream. */
struct mb_cuda_stage;
enum { MB_CUDA_STAGE = 4 << 20 }; /* bytes that are worth a launch; more if a row needs it */
enum mb_status mb_cuda_stage_begin(struct mb_device *dev, uint64_t bytes, void **host, void **device);
enum mb_status mb_cuda_stage_send(struct mb_device *dev, uint64_t bytes);
enum mb_status mb_cuda_stage_end(struct mb_device *dev);
void mb_cuda_stage_destroy(struct mb_device *dev);
#endif
