/* The guard backend itself: device memory can be touched by operations only. */
#include "ops_help.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "device/cpu.h"

/* How a child that reads (or writes) the byte at p ends: its signal, or 0. */
static int touch(volatile unsigned char *p, int write_it)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        if (write_it)
            *p = 1;
        else
            (void)*p;
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_closed(void **state)
{
    (void)state;
    const struct mb_ops *ops = mb_ops_find("auto");
    assert_string_equal(ops->name, "guard");
    struct mb_mem mem = {0};
    struct mb_device_options o = {.threads = 2, .isa = "auto", .mem = &mem, .path = MB_F32};
    struct mb_device *dev;
    struct mb_stream *s;
    struct mb_buf *buf;
    void *host;
    assert_int_equal(ops->open(&o, &dev), MB_OK);
    assert_ptr_equal(mb_device_ops(dev), ops);
    assert_int_equal(ops->stream_create(dev, &s), MB_OK);
    assert_int_equal(ops->buf_alloc(dev, MB_MEM_ACTIVATIONS, 5000, &buf), MB_OK);
    assert_int_equal(ops->host_alloc(dev, 64, &host), MB_OK);
    assert_int_equal(touch(host, 1), 0);
    assert_int_equal(touch(buf->data, 0), SIGSEGV);
    assert_int_equal(touch(buf->data + 4999, 1), SIGSEGV);
    float x[4] = {1, 2, 3, 4}, y[4] = {0};
    struct mb_view v = mb_view_of(buf, 4992 - 4 * 4, 1, 4, MB_F32);
    assert_int_equal(ops->copy_in(s, v, x), MB_OK);
    assert_int_equal(ops->add(s, v, v, v), MB_OK); /* one buffer three times */
    assert_int_equal(ops->copy_out(s, y, v), MB_OK);
    assert_true(y[0] == 2 && y[1] == 4 && y[2] == 6 && y[3] == 8);
    assert_int_equal(touch(buf->data + 4991, 0), SIGSEGV); /* closed again */
    assert_int_equal(mb_mem_total(&mem) >= 5000, 1);
    ops->host_free(dev, host);
    ops->buf_free(buf);
    ops->stream_destroy(s);
    ops->close(dev);
    assert_int_equal(mb_mem_total(&mem), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_closed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
