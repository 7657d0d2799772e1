/* The emulator of CUDA's runtime: what is right works in every order of threads, and every kind of mistake is
 * found. */
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/unit_cuda_emu.h"

#define OK(call) assert_int_equal(call, cudaSuccess)

static int *device_of(const int *from, int n)
{
    int *p = NULL;
    OK(cudaMalloc((void **)&p, (size_t)n * sizeof *p));
    if (from != NULL)
        OK(cudaMemcpy(p, from, (size_t)n * sizeof *p, cudaMemcpyHostToDevice));
    return p;
}
static void fetch(int *to, const int *p, int n)
{
    OK(cudaMemcpy(to, p, (size_t)n * sizeof *p, cudaMemcpyDeviceToHost));
}
static const char *const orders[] = {"forward", "reverse", "shuffled:3"};

/* Runs a kernel over a copy of in[0 .. n) in every order: out is the same each time. */
static void run_all(const char *name, int blocks, int threads, size_t shared, const int *in, int n, int arg,
                    int *out)
{
    int first[4096];

    for (int i = 0; i < 3; i++) {
        setenv("MB_EMU_ORDER", orders[i], 1);
        int *p = device_of(in, n);
        OK(emu_kernel(name, blocks, threads, shared, NULL, p, arg));
        fetch(out, p, n);
        OK(cudaFree(p));
        if (i == 0)
            memcpy(first, out, (size_t)n * sizeof *out);
        assert_memory_equal(first, out, (size_t)n * sizeof *out);
    }
    unsetenv("MB_EMU_ORDER");
}

/* ---------------------------------------------------------------- what works */
static void test_threads(void **state)
{
    int in[1024] = {0}, out[1024];

    (void)state;
    run_all("where", 5, 200, 0, in, 1000, 1000, out);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(out[i], i);
}

static void test_sums(void **state)
{
    int in[1024], out[1024];

    (void)state;
    for (int i = 0; i < 1024; i++)
        in[i] = i * i % 1000;
    run_all("sum_block", 3, 256, 0, in, 3 + 768, 3, out);
    for (int b = 0; b < 3; b++) {
        int sum = 0;
        for (int i = 0; i < 256; i++)
            sum += in[3 + b * 256 + i];
        assert_int_equal(out[b], sum);
    }
    run_all("sum_warp", 1, 96, 0, in, 3 + 96, 3, out);
    for (int b = 0; b < 3; b++) {
        int sum = 0;
        for (int i = 0; i < 32; i++)
            sum += in[3 + b * 32 + i];
        assert_int_equal(out[b], sum);
    }
}

static void test_warps(void **state)
{
    int in[128] = {0}, out[128];

    (void)state;
    run_all("votes", 1, 32, 0, in, 64, 32, out);
    for (int i = 0; i < 32; i++) {
        assert_int_equal((unsigned)out[i], 0x49249249u);
        assert_int_equal(out[32 + i], 1 + 4 * 16 + 1024 + 2048);
    }
    run_all("shuffles", 1, 32, 0, in, 32, 0, out);
    for (int i = 0; i < 32; i++) {
        int up = i < 3 ? i : i - 3, down = i % 8 + 3 > 7 ? i : i + 3;
        unsigned match = i < 16 ? 0xffffu : 0xffff0000u;
        assert_int_equal(out[i],
                         (100 + (i + 1) % 32) * 1000000 + up * 10000 + down * 100 + (int)match % 7 + 32);
    }
    run_all("half_warps", 1, 32, 0, in, 32, 0, out);
    for (int i = 0; i < 32; i++)
        assert_int_equal(out[i], i < 16 ? (i ^ 1) : (i ^ 2));
    run_all("warp_order", 1, 64, 0, in, 64, 0, out);
    for (int i = 0; i < 64; i++)
        assert_int_equal(out[i], (i ^ 3) + 1);
}

static void test_memory(void **state)
{
    int in[256], out[256];
    float f[256], g[256];

    (void)state;
    for (int i = 0; i < 256; i++) {
        in[i] = 7 * i;
        f[i] = (float)i + 0.25f;
    }
    run_all("dynamic", 1, 100, 400, in, 100, 100, out);
    for (int i = 0; i < 100; i++)
        assert_int_equal(out[i], in[99 - i]);
    memset(in, 0, sizeof in);
    run_all("atomics", 4, 64, 0, in, 4, 0, out);
    assert_int_equal(out[0], 256);
    assert_int_equal((unsigned)out[1], 0xffffffffu);
    assert_int_equal(out[2], 5);
    assert_int_equal(out[3], 7);
    memcpy(in, f, sizeof in);
    run_all("vectors", 1, 64, 0, in, 256, 0, out);
    memcpy(g, out, sizeof g);
    for (int i = 0; i < 256; i += 4)
        assert_true(g[i] == f[i] * f[i + 1] + f[i + 2] && g[i + 1] == f[i] + f[i + 3] &&
                    g[i + 3] == f[i] / 3);
    float tiny = 0x1p-126f;
    memcpy(in, &tiny, sizeof tiny);
    run_all("tiny", 1, 1, 0, in, 1, 0, out);
    assert_int_equal(out[0], 0);
}

/* Shared memory beyond 48 KiB has to be asked for; a launch beyond the limits fails. */
static void test_limits(void **state)
{
    int in[64] = {0}, *p = device_of(in, 64);

    (void)state;
    assert_int_equal(emu_kernel("dynamic", 1, 64, 50000, NULL, p, 64), cudaErrorInvalidValue);
    assert_int_equal(emu_kernel("where", 1, 1025, 0, NULL, p, 64), cudaErrorInvalidConfiguration);
    assert_int_equal(emu_kernel("where", 0, 32, 0, NULL, p, 64), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_int_equal(emu_kernel("no such kernel", 1, 1, 0, NULL, p, 1), cudaErrorUnknown);
    OK(cudaFree(p));
    setenv("MB_EMU_MEMORY", "1000000", 1);
    assert_int_equal(cudaMalloc((void **)&p, 2000000), cudaErrorMemoryAllocation);
    unsetenv("MB_EMU_MEMORY");
}

/* ---------------------------------------------------------------- streams */
static void test_late(void **state)
{
    int in[64] = {0}, out[64], *p = device_of(in, 64), *pinned = NULL;
    cudaStream_t a, b;
    cudaEvent_t e;

    (void)state;
    OK(cudaMallocHost((void **)&pinned, sizeof in));
    OK(cudaStreamCreateWithFlags(&a, cudaStreamNonBlocking));
    OK(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking));
    OK(cudaEventCreateWithFlags(&e, cudaEventDisableTiming));
    pinned[0] = -1;
    OK(emu_kernel("add_one", 1, 32, 0, a, p, 64));
    OK(cudaMemcpyAsync(pinned, p, sizeof in, cudaMemcpyDeviceToHost, b));
    OK(cudaStreamSynchronize(b));
    assert_int_equal(pinned[0], 0); /* b did not wait for a */
    OK(cudaEventRecord(e, a));
    assert_int_equal(cudaEventQuery(e), cudaErrorNotReady);
    OK(cudaStreamWaitEvent(b, e, 0));
    OK(emu_kernel("add_one", 1, 32, 0, a, p, 64)); /* behind the event: b does not see it */
    OK(cudaMemcpyAsync(pinned, p, sizeof in, cudaMemcpyDeviceToHost, b));
    OK(cudaStreamSynchronize(b));
    assert_int_equal(pinned[0], 1);
    OK(cudaEventQuery(e));
    OK(cudaMemcpyAsync(out, p, sizeof out, cudaMemcpyDeviceToHost, a)); /* pageable: waits */
    assert_int_equal(out[0], 2);
    pinned[0] = 5;
    OK(cudaMemcpyAsync(p, pinned, sizeof in, cudaMemcpyHostToDevice, a));
    pinned[0] = 6; /* too early: the copy sees it */
    OK(cudaStreamSynchronize(a));
    fetch(out, p, 1);
    assert_int_equal(out[0], 6);
    OK(cudaStreamDestroy(a));
    OK(cudaStreamDestroy(b));
    OK(cudaEventDestroy(e));
    OK(cudaFree(p));
    OK(cudaFreeHost(pinned));
}

/* The default stream and streams that follow it are in order; others are not. */
static void test_default_stream(void **state)
{
    int out[4], in[4] = {1, 2, 3, 4}, *p = device_of(in, 4);
    cudaStream_t follows, apart;

    (void)state;
    OK(cudaStreamCreateWithFlags(&follows, cudaStreamDefault));
    OK(cudaStreamCreateWithFlags(&apart, cudaStreamNonBlocking));
    OK(cudaMemset(p, 0, sizeof in));
    OK(emu_kernel("add_one", 1, 32, 0, follows, p, 4));
    OK(cudaMemcpyAsync(out, p, sizeof out, cudaMemcpyDeviceToHost, follows));
    assert_int_equal(out[3], 1);
    OK(cudaMemset(p, 0, sizeof in));
    OK(cudaMemcpyAsync(out, p, sizeof out, cudaMemcpyDeviceToHost, apart));
    assert_int_equal(out[3], 1);
    OK(cudaDeviceSynchronize());
    OK(cudaMemcpyAsync(out, p, sizeof out, cudaMemcpyDeviceToHost, apart));
    assert_int_equal(out[3], 0);
    OK(cudaStreamDestroy(follows));
    OK(cudaStreamDestroy(apart));
    OK(cudaFree(p));
}

static void test_copies(void **state)
{
    int in[6] = {1, 2, 3, 4, 5, 6}, out[6], *p = device_of(NULL, 12);

    (void)state;
    OK(cudaMemset(p, 0, 48));
    OK(cudaMemcpy2DAsync(p, 16, in, 8, 8, 3, cudaMemcpyHostToDevice, NULL));
    OK(cudaMemcpy2DAsync(out, 8, p, 16, 8, 3, cudaMemcpyDefault, NULL));
    assert_memory_equal(in, out, sizeof in);
    OK(cudaFree(p));
}

/* ---------------------------------------------------------------- failures */
static void in_child(void (*fn)(void *), void *arg, char *said, size_t room, int *status)
{
    int pipes[2];
    size_t n = 0;
    ssize_t got;

    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(pipes[1], 2);
        close(pipes[0]);
        fn(arg);
        _exit(0);
    }
    close(pipes[1]);
    while (n + 1 < room && (got = read(pipes[0], said + n, room - 1 - n)) > 0)
        n += (size_t)got;
    said[n] = '\0';
    close(pipes[0]);
    assert_int_equal(waitpid(pid, status, 0), pid);
}

struct wrong {
    const char *kernel;
    int blocks, threads;
    size_t shared;
    int words;
    const char *says;
};
static const struct wrong wrongs[] = {
    {"no_barrier", 1, 64, 0, 64, "race|nobody in the block wrote"},
    {"no_second_barrier", 1, 64, 0, 64, "race|nobody in the block wrote"},
    {"no_warp_barrier", 1, 64, 0, 64, "race|nobody in the block wrote"},
    {"warp_for_block", 1, 64, 0, 64, "race|nobody in the block wrote"},
    {"divergence", 1, 64, 0, 64, "barrier divergence"},
    {"two_barriers", 1, 64, 0, 64, "barrier divergence"},
    {"early_end", 1, 64, 0, 64, "barrier divergence"},
    {"behind", 1, 64, 0, 64, "out of bounds"},
    {"far_behind", 1, 1, 0, 64, "no memory of the device"},
    {"before", 1, 64, 0, 64, "out of bounds"},
    {"not_in_mask", 1, 32, 0, 64, "is not in its own mask"},
    {"lane_outside", 1, 32, 0, 64, "is not with it"},
    {"lanes_missing", 1, 32, 0, 64, "barrier divergence"},
    {"masks_differ", 1, 32, 0, 64, "together|do not come"},
    {"unwritten", 1, 64, 0, 64, "nobody in the block wrote"},
    {"shared_behind", 1, 64, 252, 64, "out of bounds"},
    {"blocks_race", 2, 64, 0, 64, "another block|race"},
    {"blocks_read", 2, 64, 0, 128, "another block|race"},
    {"plain_and_atomic", 1, 64, 0, 65, "race|nobody in the block wrote"},
    {"misaligned", 1, 1, 0, 64, "misaligned"},
    {"wrong_width", 1, 32, 0, 64, "width"},
};

static void run_wrong(void *arg)
{
    const struct wrong *w = arg;
    int *p = device_of(NULL, w->words);

    cudaMemset(p, 0, (size_t)w->words * 4);
    emu_kernel(w->kernel, w->blocks, w->threads, w->shared, NULL, p, w->words);
    cudaDeviceSynchronize();
}

/* One of the words between the bars. */
static bool says(const char *said, const char *words)
{
    char copy[128], *rest = copy;

    snprintf(copy, sizeof copy, "%s", words);
    for (char *word; (word = strsep(&rest, "|")) != NULL;)
        if (strstr(said, word) != NULL)
            return true;
    return false;
}

/* In each order: it decides which side of a mistake is seen. */
static void test_wrong_kernels(void **state)
{
    char said[1024];
    int status;

    (void)state;
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++)
        for (int o = 0; o < 3; o++) {
            setenv("MB_EMU_ORDER", orders[o], 1);
            in_child(run_wrong, (void *)&wrongs[i], said, sizeof said, &status);
            if (!WIFSIGNALED(status) || !says(said, wrongs[i].says))
                fail_msg("%s, %s: status %x, said: %s", wrongs[i].kernel, orders[o], status, said);
        }
    unsetenv("MB_EMU_ORDER");
}

static int host_words[64];

static void host_pointer(void *arg)
{
    (void)arg;
    emu_kernel("where", 1, 64, 0, NULL, malloc(256), 64);
    cudaDeviceSynchronize();
}
static void program_variable(void *arg)
{
    (void)arg;
    emu_kernel("where", 1, 64, 0, NULL, host_words, 64);
    cudaDeviceSynchronize();
}
static void freed(void *arg)
{
    int *p = device_of(NULL, 64);
    (void)arg;
    cudaFree(p);
    emu_kernel("where", 1, 64, 0, NULL, p, 64);
    cudaDeviceSynchronize();
}
static void freed_twice(void *arg)
{
    int *p = device_of(NULL, 64);
    (void)arg;
    cudaFree(p);
    cudaFree(p);
}
static void host_reads(void *arg)
{
    int *p = device_of(NULL, 64);
    (void)arg;
    _exit(*(volatile int *)p & 1);
}
static void host_behind(void *arg)
{
    char *p;
    (void)arg;
    cudaMallocHost((void **)&p, 256);
    *(volatile char *)(p + 256) = 1;
}
static void copy_behind(void *arg)
{
    static int big[128];
    int *p = device_of(NULL, 64);
    (void)arg;
    cudaMemcpyAsync(p, big, 260, cudaMemcpyHostToDevice, NULL);
}
static void copy_wrong_way(void *arg)
{
    int *p = device_of(NULL, 64), out[64];
    (void)arg;
    cudaMemcpyAsync(out, p, 256, cudaMemcpyHostToDevice, NULL);
}
static void dead_stream(void *arg)
{
    cudaStream_t s;
    (void)arg;
    cudaStreamCreateWithFlags(&s, 0);
    cudaStreamDestroy(s);
    cudaStreamSynchronize(s);
}

static void test_wrong_host(void **state)
{
    static const struct {
        void (*fn)(void *);
        const char *says;
    } all[] = {{host_pointer, "no memory of the device"},
               {program_variable, "variable of the program"},
               {freed, "use after free"},
               {freed_twice, "freed twice"},
               {host_reads, "host: touches"},
               {host_behind, "out of bounds"},
               {copy_behind, "out of bounds"},
               {copy_wrong_way, "memory of the host"},
               {dead_stream, "destroyed"}};
    char said[1024];
    int status;

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        in_child(all[i].fn, NULL, said, sizeof said, &status);
        if (!WIFSIGNALED(status) || strstr(said, all[i].says) == NULL)
            fail_msg("%zu: status %x, said: %s", i, status, said);
    }
}

/* Without a look at each access, pages still find what lies outside. */
static void test_unchecked(void **state)
{
    struct wrong w = {"behind", 1, 64, 0, 64, ""};
    char said[1024];
    int status;

    (void)state;
    setenv("MB_EMU_CHECK", "0", 1);
    in_child(run_wrong, &w, said, sizeof said, &status);
    assert_true(WIFSIGNALED(status) && strstr(said, "out of bounds") != NULL);
    unsetenv("MB_EMU_CHECK");
}

static void inject(void *arg)
{
    const char *kind = arg;
    int in[64] = {0}, *p = NULL, *q = NULL;
    cudaError_t e[4];

    setenv("MB_EMU_FAIL", kind, 1);
    e[0] = cudaMalloc((void **)&p, 256);
    e[0] = e[0] == cudaSuccess ? cudaMalloc((void **)&q, 256) : e[0];
    if (e[0] == cudaErrorMemoryAllocation)
        _exit(p != NULL ? 1 : 0);
    cudaMemcpy(p, in, 256, cudaMemcpyHostToDevice);
    e[1] = emu_kernel("add_one", 1, 32, 0, NULL, p, 64);
    e[2] = emu_kernel("add_one", 1, 32, 0, NULL, p, 64);
    e[3] = cudaDeviceSynchronize();
    _exit(e[1] == cudaSuccess && e[2] == cudaErrorLaunchFailure && e[3] == cudaSuccess                ? 2
          : e[2] == cudaSuccess && e[3] == cudaErrorIllegalAddress && cudaDeviceSynchronize() == e[3] ? 3
                                                                                                      : 4);
}

static void test_injected(void **state)
{
    static const struct {
        const char *kind;
        int exit;
    } all[] = {{"malloc:2", 1}, {"launch:2", 2}, {"async:1", 3}, {"launch:2@7", 4}};
    char said[1024];
    int status;

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        in_child(inject, (void *)all[i].kind, said, sizeof said, &status);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), all[i].exit);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_kernels),  cmocka_unit_test(test_wrong_host),
        cmocka_unit_test(test_unchecked),      cmocka_unit_test(test_injected),
        cmocka_unit_test(test_threads),        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_warps),          cmocka_unit_test(test_memory),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_late),
        cmocka_unit_test(test_default_stream), cmocka_unit_test(test_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
