/* Mistakes, injected failures and settings of the emulator. */
#include "emu.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t mutex = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static _Thread_local cudaError_t last;
static cudaError_t broken;

void mb_emu_lock(void)
{
    pthread_mutex_lock(&mutex);
}
void mb_emu_unlock(void)
{
    pthread_mutex_unlock(&mutex);
}

void mb_emu_mistake(const char *format, ...)
{
    va_list args;

    fprintf(stderr, "cuda_emu: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (mb_emu_call != NULL && mb_emu_fibre != NULL)
        fprintf(stderr, " (kernel %s, block %u,%u,%u, thread %u,%u,%u)", mb_emu_call->name,
                mb_emu_now.block.x, mb_emu_now.block.y, mb_emu_now.block.z, mb_emu_now.thread.x,
                mb_emu_now.thread.y, mb_emu_now.thread.z);
    else if (mb_emu_call != NULL)
        fprintf(stderr, " (kernel %s)", mb_emu_call->name);
    fprintf(stderr, "\n");
    abort();
}

/* ---------------------------------------------------------------- settings */
uint64_t mb_emu_setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : otherwise;
}

/* MB_EMU_FAIL=KIND:N[@RANK] */
bool mb_emu_fails(const char *kind)
{
    static struct {
        const char *kind;
        uint64_t calls;
    } counts[8];
    const char *want = getenv("MB_EMU_FAIL"), *at, *rank = getenv("OMPI_COMM_WORLD_RANK");
    size_t n = strlen(kind);

    if (want == NULL || strncmp(want, kind, n) != 0 || want[n] != ':')
        return false;
    at = strchr(want, '@');
    if (at != NULL && (rank == NULL || strcmp(at + 1, rank) != 0))
        return false;
    for (int i = 0; i < 8; i++) {
        if (counts[i].kind == NULL)
            counts[i].kind = kind;
        if (strcmp(counts[i].kind, kind) == 0)
            return ++counts[i].calls == strtoull(want + n + 1, NULL, 10);
    }
    return false;
}

/* ---------------------------------------------------------------- errors */
cudaError_t mb_emu_error(cudaError_t e)
{
    if (e != cudaSuccess && e != cudaErrorNotReady)
        last = e;
    return e;
}
void mb_emu_break(cudaError_t e)
{
    broken = e;
}
cudaError_t mb_emu_broken(void)
{
    return mb_emu_error(broken);
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t e = last;
    last = broken;
    return e;
}
cudaError_t cudaPeekAtLastError(void)
{
    return last;
}

static const struct {
    cudaError_t e;
    const char *name, *text;
} errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
};

const char *cudaGetErrorString(cudaError_t e)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i].e == e)
            return errors[i].text;
    return "unknown error";
}
const char *cudaGetErrorName(cudaError_t e)
{
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
        if (errors[i].e == e)
            return errors[i].name;
    return "cudaErrorUnknown";
}
