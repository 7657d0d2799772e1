/* The team of threads: every thread of a run is asked once, results are seen, no thread comes or goes between
 * runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "base/log.h"
#include "device/cpu_team.h"

enum { MOST = 9 };

struct seen {
    int64_t runs[MOST]; /* written by the thread of that number alone */
    _Atomic int64_t all;
};

static void note(void *arg, int32_t thread)
{
    struct seen *s = arg;
    s->runs[thread]++;
    atomic_fetch_add(&s->all, 1);
}

static int threads_now(void)
{
    DIR *d = opendir("/proc/self/task");
    int n = -2; /* . and .. */

    assert_non_null(d);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static void pause_for(long ns)
{
    struct timespec t = {.tv_nsec = ns};
    nanosleep(&t, NULL);
}

/* Runs of all sizes, some in a row and some after a pause in which the team falls asleep. */
static void test_runs(void **state)
{
    struct mb_cpu_team *t = NULL;
    struct seen s = {{0}, 0};
    int64_t want[MOST] = {0}, all = 0;
    int before = threads_now();

    (void)state;
    assert_int_equal(mb_cpu_team_create(MOST, &t), MB_OK);
    assert_int_equal(threads_now(), before + MOST - 1);
    for (int i = 0; i < 3000; i++) {
        int32_t n = 1 + i * 7 % MOST;
        mb_cpu_team_run(t, n, note, &s);
        all += n;
        assert_int_equal(s.all, all);
        for (int32_t k = 0; k < MOST; k++) {
            want[k] += k < n;
            assert_int_equal(s.runs[k], want[k]);
        }
        if (i % 100 == 0)
            pause_for(300000);
    }
    assert_int_equal(threads_now(), before + MOST - 1);
    mb_cpu_team_destroy(t);
    assert_int_equal(threads_now(), before);
    mb_cpu_team_destroy(NULL);
}

static void late(void *arg, int32_t thread)
{
    if (thread != 0)
        pause_for(2000000); /* the caller falls asleep before these come back */
    note(arg, thread);
}

static void test_caller_sleeps(void **state)
{
    struct mb_cpu_team *t = NULL;
    struct seen s = {{0}, 0};

    (void)state;
    assert_int_equal(mb_cpu_team_create(3, &t), MB_OK);
    for (int i = 1; i <= 20; i++) {
        mb_cpu_team_run(t, 3, late, &s);
        assert_int_equal(s.all, 3 * i);
    }
    mb_cpu_team_destroy(t);
}

static void test_one(void **state)
{
    struct mb_cpu_team *t = NULL;
    struct seen s = {{0}, 0};
    int before = threads_now();

    (void)state;
    assert_int_equal(mb_cpu_team_create(1, &t), MB_OK);
    assert_int_equal(threads_now(), before);
    mb_cpu_team_run(t, 1, note, &s);
    assert_int_equal(s.runs[0], 1);
    mb_cpu_team_destroy(t);
}

/* A system that starts no more threads: a status, and those that were started are gone. */
static void test_refused(void **state)
{
    struct mb_cpu_team *t = NULL;
    struct rlimit old, none;
    int before = threads_now();

    (void)state;
#ifdef __SANITIZE_ADDRESS__
    if (getuid() == 0)
        skip(); /* its runtime ends where the address space does */
#endif
    if (getuid() == 0) { /* root has no such limit: stacks that cannot be had do the same */
        assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
        none = (struct rlimit){(rlim_t)1 << 28, old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    } else {
        assert_int_equal(getrlimit(RLIMIT_NPROC, &old), 0);
        none = (struct rlimit){1, old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NPROC, &none), 0);
    }
    mb_log_set_quiet(true);
    enum mb_status st = mb_cpu_team_create(4096, &t);
    mb_log_set_quiet(false);
    assert_int_equal(setrlimit(getuid() == 0 ? RLIMIT_AS : RLIMIT_NPROC, &old), 0);
    assert_int_equal(st, MB_NO_MEMORY);
    assert_null(t);
    assert_int_equal(threads_now(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_runs), cmocka_unit_test(test_caller_sleeps),
                                       cmocka_unit_test(test_one), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
