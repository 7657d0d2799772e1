/* The topology room: hwloc XML of machines built from hwloc's synthetic descriptions, ranks with shared and
 * own masks, control groups below a directory of the test's own. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <hwloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/fs.h"
#include "base/publish.h"
#include "base/log.h"
#include "topo/devices.h"
#include "topo/topo.h"

static char dir[256];

static int make_dir(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/unit_topo.XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    (void)state;
    return mb_remove_tree(dir) == MB_OK ? 0 : -1;
}

static void in_dir(char *out, size_t cap, const char *name)
{
    assert_in_range(snprintf(out, cap, "%s/%s", dir, name), 1, (int)cap - 1);
}

/* Writes the XML of a synthetic machine and reads it through the room. */
static void discover(const char *synthetic, struct mb_topo_local *l, char **xml)
{
    char path[300];
    hwloc_topology_t t;

    in_dir(path, sizeof path, "machine.xml");
    assert_int_equal(hwloc_topology_init(&t), 0);
    assert_int_equal(hwloc_topology_set_synthetic(t, synthetic), 0);
    assert_int_equal(hwloc_topology_load(t), 0);
    assert_int_equal(hwloc_topology_export_xml(t, path, 0), 0);
    hwloc_topology_destroy(t);
    assert_int_equal(mb_topo_discover(path, l, xml), MB_OK);
}

static void test_xml(void **state)
{
    (void)state;
    struct mb_topo_local l;
    char *xml = NULL;

    discover("pack:2 numa:2(memory=68719476736) core:4 pu:2", &l, &xml);
    assert_int_equal(l.cpus_online, 32);
    assert_int_equal(mb_cpus_count(&l.allowed), 32);
    assert_int_equal(l.numa, 0);
    assert_int_equal(l.order, 0);
    assert_int_equal(l.gpus, 0);
    assert_true(l.memory_bytes == 4ll << 36);
    assert_true(l.memory_free == l.memory_bytes);
    assert_non_null(xml);
    assert_non_null(strstr(xml, "<topology"));
    free(xml);
}

/* SMT siblings numbered last and sockets alternating: what firmware does. */
static void test_cpu_order(void **state)
{
    (void)state;
    struct mb_topo_local l;

    /* 2 packages x 4 cores x 2 threads; OS number = thread * 8 + core * 2 + package */
    discover("pack:2 core:4 pu:2(indexes=8*2:2*4:1*2)", &l, NULL);
    static const int32_t want[16] = {0, 8, 2, 10, 4, 12, 6, 14, 1, 9, 3, 11, 5, 13, 7, 15};
    assert_true(l.cpu_order.digits > 0);
    for (int i = 0; i < 16; i++)
        assert_int_equal(mb_cpu_order_os(&l.cpu_order, i), want[i]);
    assert_int_equal(mb_cpu_order_os(&l.cpu_order, 16), -1);

    /* no pattern: OS order is the fallback */
    discover("pack:1 core:3 pu:2(indexes=0,3,1,5,2,4)", &l, NULL);
    assert_int_equal(l.cpu_order.digits, 0);
    discover("pack:1 core:1 pu:1", &l, NULL);
    assert_int_equal(mb_cpu_order_os(&l.cpu_order, 0), 0);
    assert_int_equal(mb_cpu_order_os(&l.cpu_order, 1), -1);
}

/* Two ranks that share one mask get whole cores, not one hardware thread of each. */
static void test_mask_is_divided_in_hwloc_order(void **state)
{
    (void)state;
    struct mb_topo_local l[2];
    static const int32_t node[2] = {0, 0};
    struct mb_topo *t;
    struct mb_cpus c;

    discover("pack:1 core:4 pu:2(indexes=0,4,1,5,2,6,3,7)", &l[0],
             NULL); /* siblings: (0,4) (1,5) (2,6) (3,7) */
    l[1] = l[0];
    assert_int_equal(mb_topo_create(l, node, 2, 0, &t), MB_OK);
    assert_int_equal(t->threads[0], 4);
    assert_int_equal(t->threads[1], 4);
    mb_topo_cpus(t, 0, &c);
    assert_true(c.bits[0] == 0x33);
    mb_topo_cpus(t, 1, &c);
    assert_true(c.bits[0] == 0xcc);
    mb_topo_destroy(t);
}

/* Machines written by hand: four GPUs with NVLink of which the weakest moves 100 + 50 + 50 GB/s, network
 * cards of which one is down and one virtual, a board's graphics, memory without CPUs. */
static void test_devices(void **state)
{
    const char *top = getenv("top_srcdir");
    char path[512];
    struct mb_topo_devices d;
    struct mb_topo_local l;

    (void)state;
    snprintf(path, sizeof path, "%s/tests/data/topo/gpus.xml", top != NULL ? top : ".");
    assert_int_equal(mb_topo_devices(path, &d), MB_OK);
    assert_int_equal(d.gpus, 4);
    assert_string_equal(d.gpu_model, "NVIDIA A100-SXM4-80GB");
    assert_false(d.mixed);
    assert_true(d.gpu_memory == 0);
    assert_true(d.gpu_link == 200e9);
    assert_int_equal(d.nics, 2);
    assert_true(d.net == 50e9);
    assert_int_equal(d.places, 2);
    assert_true(d.place_memory == (2ll << 37) + (1ll << 36));
    assert_int_equal(mb_topo_discover(path, &l, NULL), MB_OK);
    assert_int_equal(l.gpus, 4);
    assert_int_equal(l.numa_nodes, 2);
    snprintf(path, sizeof path, "%s/tests/data/topo/board.xml", top != NULL ? top : ".");
    assert_int_equal(mb_topo_devices(path, &d), MB_OK);
    assert_int_equal(d.gpus, 0);
    assert_int_equal(d.nics, 0);
    mb_log_set_quiet(true);
    snprintf(path, sizeof path, "%s/tests/data/topo/hwloc3.xml", top != NULL ? top : ".");
    assert_int_equal(mb_topo_devices(path, &d), MB_LAYOUT);
    mb_log_set_quiet(false);
}

static void test_here(void **state)
{
    (void)state;
    struct mb_topo_local l;
    cpu_set_t set;
    char host[64];
    char *xml = NULL;

    assert_int_equal(mb_topo_discover(NULL, &l, &xml), MB_OK);
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    for (int i = 0; i < MB_MAX_CPUS && i < CPU_SETSIZE; i++)
        assert_int_equal(l.allowed.bits[i / 64] >> (i % 64) & 1, CPU_ISSET(i, &set) != 0);
    assert_int_equal(gethostname(host, sizeof host), 0);
    assert_string_equal(l.host, host);
    assert_true(l.memory_bytes > 0 && l.memory_free > 0 && l.memory_free <= l.memory_bytes);
    assert_true(l.memory_bytes <= (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
    assert_non_null(xml);
    free(xml);
}

static void test_bad_xml(void **state)
{
    (void)state;
    struct mb_topo_local l = {.order = 77};
    char path[300];

    mb_log_set_quiet(true);
    assert_int_equal(mb_topo_discover("/no/such/file.xml", &l, NULL), MB_LAYOUT);
    in_dir(path, sizeof path, "bad.xml");
    assert_int_equal(mb_publish_bytes(path, "<topology", 9, 0), MB_OK);
    assert_int_equal(mb_topo_discover(path, &l, NULL), MB_LAYOUT);
    assert_int_equal(l.order, 77); /* outputs only on success */
    mb_log_set_quiet(false);
}

static struct mb_topo_local rank_on(uint64_t mask, int32_t numa, int32_t order)
{
    struct mb_topo_local l;
    memset(&l, 0, sizeof l);
    l.allowed.bits[0] = mask;
    l.numa = numa;
    l.order = order;
    return l;
}

/* World ranks dealt out over nodes and NUMA nodes come back in topology order. */
static void test_order(void **state)
{
    (void)state;
    static const int32_t node[6] = {50, 7, 50, 7, 7, 3};
    static const int32_t numa[6] = {1, 0, 0, 1, 0, 0}, first[6] = {8, 4, 0, 8, 0, 0};
    static const int32_t order[6] = {2, 0, 4, 1, 3, 5}, node_of[6] = {0, 1, 0, 1, 1, 2};
    static const int32_t node_first[4] = {0, 2, 5, 6};
    struct mb_topo_local l[6];
    struct mb_topo *t;

    for (int i = 0; i < 6; i++)
        l[i] = rank_on((uint64_t)0xf << first[i], numa[i], first[i]);
    assert_int_equal(mb_topo_create(l, node, 6, 0, &t), MB_OK);
    assert_int_equal(t->nodes, 3);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(t->order[i], order[i]);
        assert_int_equal(t->index_of[order[i]], i);
        assert_int_equal(t->node_of[i], node_of[i]);
        assert_int_equal(t->threads[i], 4);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(t->node_first[i], node_first[i]);
    mb_topo_destroy(t);
}

static void test_threads(void **state)
{
    (void)state;
    struct mb_topo_local l[5];
    static const int32_t one[5] = {0, 0, 0, 0, 0}, two[5] = {0, 0, 0, 1, 1};
    struct mb_topo *t;
    struct mb_cpus c;
    uint64_t seen = 0;

    for (int i = 0; i < 5; i++)
        l[i] = rank_on(0xff, 0, 0);
    assert_int_equal(mb_topo_create(l, one, 5, 0, &t), MB_OK); /* 8 CPUs for 5 ranks, none used twice */
    int32_t sum = 0;
    for (int i = 0; i < 5; i++) {
        mb_topo_cpus(t, i, &c);
        assert_int_equal(mb_cpus_count(&c), t->threads[i]);
        assert_true((seen & c.bits[0]) == 0);
        seen |= c.bits[0];
        sum += t->threads[i];
    }
    assert_int_equal(sum, 8);
    mb_topo_destroy(t);

    assert_int_equal(mb_topo_create(l, two, 5, 0, &t), MB_OK); /* 8 for 3, 8 for 2 */
    assert_int_equal(t->threads[0] + t->threads[1] + t->threads[2], 8);
    assert_int_equal(t->threads[3], 4);
    mb_topo_destroy(t);

    for (int i = 0; i < 5; i++)
        l[i] = rank_on(0x3, 0, 0);
    assert_int_equal(mb_topo_create(l, one, 5, 0, &t), MB_OK); /* more ranks than CPUs */
    for (int i = 0; i < 5; i++) {
        assert_int_equal(t->threads[i], 1);
        mb_topo_cpus(t, i, &c);
        assert_int_equal(mb_cpus_count(&c), 1);
        assert_true((c.bits[0] & ~(uint64_t)3) == 0);
    }
    mb_topo_destroy(t);

    assert_int_equal(mb_topo_create(l, one, 5, 3, &t), MB_OK);
    assert_int_equal(t->threads[4], 3);
    mb_topo_destroy(t);
}

static void test_synthetic(void **state)
{
    (void)state;
    static const int32_t rpn[3] = {2, 1, 5}, none[1] = {0};
    struct mb_topo *t = NULL;

    assert_int_equal(mb_topo_synthetic(3, rpn, &t), MB_OK);
    assert_int_equal(t->ranks, 8);
    assert_int_equal(t->nodes, 3);
    assert_int_equal(t->node_first[2], 3);
    assert_int_equal(t->node_of[7], 2);
    assert_int_equal(t->threads[7], 1);
    mb_topo_destroy(t);
    mb_log_set_quiet(true);
    assert_int_equal(mb_topo_synthetic(1, none, &t), MB_LAYOUT);
    mb_log_set_quiet(false);
    mb_topo_destroy(NULL);
}

static void put(const char *sub, const char *name, const char *text)
{
    char path[400];
    assert_in_range(snprintf(path, sizeof path, "%s/%s", dir, sub), 1, sizeof path - 1);
    assert_int_equal(mb_mkdirs(path), MB_OK);
    assert_in_range(snprintf(path, sizeof path, "%s/%s/%s", dir, sub, name), 1, sizeof path - 1);
    assert_int_equal(mb_publish_bytes(path, text, strlen(text), 0), MB_OK);
}

static void test_memory(void **state)
{
    (void)state;
    int64_t total = 5000, avail;

    mb_topo_memory(dir, &total, &avail); /* nothing there: what is known stays */
    assert_true(total == 5000 && avail == 5000);

    put("proc", "meminfo", "MemTotal:  1000 kB\nMemAvailable:    900 kB\n");
    mb_topo_memory(dir, &total, &avail);
    assert_true(total == 1000 * 1024 && avail == 900 * 1024);

    put("proc/self", "cgroup", "0::/job/step\n");
    put("sys/fs/cgroup/job", "memory.max", "500000\n");
    put("sys/fs/cgroup/job", "memory.current", "200000\n");
    put("sys/fs/cgroup/job", "memory.stat", "anon 1\ninactive_file 50000\n");
    put("sys/fs/cgroup/job/step", "memory.max", "max\n");
    mb_topo_memory(dir, &total, &avail);
    assert_true(total == 500000 && avail == 350000);

    put("proc/self", "cgroup", "5:cpu:/x\n4:memory:/slurm/job_1\n0::/\n");
    put("sys/fs/cgroup/memory/slurm/job_1", "memory.limit_in_bytes", "400000\n");
    put("sys/fs/cgroup/memory/slurm/job_1", "memory.usage_in_bytes", "500000\n"); /* above: nothing is left */
    put("sys/fs/cgroup/memory", "memory.limit_in_bytes", "9223372036854771712\n");
    mb_topo_memory(dir, &total, &avail);
    assert_true(total == 400000 && avail == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xml),
        cmocka_unit_test(test_cpu_order),
        cmocka_unit_test(test_mask_is_divided_in_hwloc_order),
        cmocka_unit_test(test_devices),
        cmocka_unit_test(test_here),
        cmocka_unit_test(test_bad_xml),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_synthetic),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
