/* Where ranks run, for people: names of hosts, kinds of nodes, advice about binding, the launcher's command
 * line. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/nodes.h"

static void hosts(const char *want, int32_t n, ...)
{
    const char *names[16];
    va_list ap;

    va_start(ap, n);
    for (int32_t i = 0; i < n; i++)
        names[i] = va_arg(ap, const char *);
    va_end(ap);
    char *got = mb_hosts_text(names, n);
    assert_string_equal(got, want);
    free(got);
}

static void test_hosts(void **state)
{
    (void)state;
    hosts("head", 1, "head");
    hosts("n[1-3,7]", 4, "n3", "n1", "n7", "n2");
    hosts("a,n[01-02],n1", 4, "n02", "n1", "a", "n01"); /* other widths are other names */
}

static void test_hosts_widths(void **state)
{
    (void)state;
    hosts("c[2,4].site,d2.site", 3, "c4.site", "d2.site", "c2.site");
    hosts("n[10-12],n[8-9]", 5, "n10", "n9", "n11", "n8", "n12"); /* as many digits as the names have */
    hosts("x1,y1", 2, "y1", "x1");
}

/* nodes x ranks, cpus of each rank from its number on; given CPUs a node */
static struct mb_topo *make(int32_t nodes, int32_t ranks, int32_t given, int32_t width, int32_t stride,
                            int32_t asked)
{
    int32_t n = nodes * ranks, *node = calloc((size_t)n, sizeof *node);
    struct mb_topo_local *l = calloc((size_t)n, sizeof *l);
    struct mb_topo *t = NULL;

    for (int32_t r = 0; r < n; r++) {
        node[r] = r / ranks;
        snprintf(l[r].host, sizeof l[r].host, "n%d", (int)node[r]);
        l[r].order = r % ranks * stride;
        l[r].cpus_given = given;
        l[r].threads_asked = asked;
        for (int32_t c = r % ranks * stride; c < r % ranks * stride + width; c++)
            l[r].allowed.bits[c / 64] |= (uint64_t)1 << (c % 64);
    }
    assert_int_equal(mb_topo_create(l, node, n, 0, &t), MB_OK);
    free(l);
    free(node);
    return t;
}

static void says(struct mb_topo *t, const char *nodes, enum mb_launcher by, const char *advice)
{
    char out[MB_ADVICE_TEXT];
    char *text = mb_nodes_text(t);

    assert_string_equal(text, nodes);
    assert_int_equal(mb_nodes_advice(t, by, out), advice != NULL);
    if (advice != NULL && strstr(out, advice) == NULL)
        fail_msg("%s: not %s", out, advice);
    free(text);
    mb_topo_destroy(t);
}

static void test_nodes(void **state)
{
    (void)state;
    /* 4 CPUs each of 8 and nothing to say; a mask shared by all is divided */
    says(make(3, 2, 8, 4, 4, 0), "n[0-2]: 2 ranks x 4 threads on CPUs 0-3 | 4-7", MB_LAUNCHER_MPIRUN, NULL);
    says(make(1, 2, 8, 8, 0, 0), "n0: 2 ranks x 4 threads on CPUs 0-3 | 4-7", MB_LAUNCHER_MPIRUN, NULL);
    says(make(1, 1, 70, 70, 0, 0), "n0: 1 rank x 70 threads on CPUs 0-69", MB_LAUNCHER_SRUN, NULL);
    says(make(1, 12, 12, 1, 1, 0), "n0: 12 ranks x 1 thread on CPUs 0 | 1 | 2 | 3 | 4 | 5 | 6 | ... | 11",
         MB_LAUNCHER_MPIRUN, NULL);
}

static void test_advice(void **state)
{
    (void)state;
    /* bound to a core each, of eight */
    says(make(2, 2, 8, 1, 1, 0), "n[0-1]: 2 ranks x 1 thread on CPUs 0 | 1", MB_LAUNCHER_MPIRUN,
         "bound to 2 of the 8 CPUs that the job has there, the others stay idle: mpirun --bind-to none");
    says(make(1, 2, 8, 1, 1, 0), "n0: 2 ranks x 1 thread on CPUs 0 | 1", MB_LAUNCHER_SRUN,
         "srun --cpus-per-task=N");
    /* a person's own choice: no launcher, threads asked for, a number of CPUs that nobody knows */
    says(make(1, 1, 8, 1, 1, 0), "n0: 1 rank x 1 thread on CPUs 0", MB_LAUNCHER_NONE, NULL);
    says(make(1, 1, 8, 4, 1, 4), "n0: 1 rank x 4 threads on CPUs 0-3", MB_LAUNCHER_MPIRUN, NULL);
    says(make(1, 1, 0, 1, 1, 0), "n0: 1 rank x 1 thread on CPUs 0", MB_LAUNCHER_MPIRUN, NULL);
    /* threads of the environment on one CPU */
    says(make(1, 1, 8, 1, 1, 4), "n0: 1 rank x 4 threads on CPUs 0", MB_LAUNCHER_MPIRUN,
         "computes with 4 threads on 1 CPU: mpirun --bind-to none");
    /* more ranks than CPUs */
    says(make(1, 3, 2, 2, 0, 0), "n0: 3 ranks x 1 thread on CPUs 0 | 1 | 0", MB_LAUNCHER_MPIRUN,
         "3 ranks share 2 CPUs, which is slower than a rank for each: mpirun --map-by ppr:2:node --bind-to "
         "none");
    says(make(1, 3, 2, 2, 0, 0), "n0: 3 ranks x 1 thread on CPUs 0 | 1 | 0", MB_LAUNCHER_SRUN,
         "srun --ntasks-per-node=2");
}

static void test_launcher(void **state)
{
    (void)state;
    static const char line[] = "/usr/bin/mpirun\0-n\0002\0--map-by\0ppr:1:node:PE=4\0./moebatch\0run";
    char **w = NULL;

    assert_int_equal(mb_launcher_parse(line, sizeof line, "./moebatch", &w), MB_OK);
    assert_non_null(w);
    assert_string_equal(w[0], "/usr/bin/mpirun");
    assert_string_equal(w[4], "ppr:1:node:PE=4");
    assert_null(w[5]);
    free(w);
    /* another program, a shell, no last zero, nothing */
    assert_int_equal(mb_launcher_parse(line, sizeof line, "moebatch", &w), MB_OK);
    assert_null(w);
    assert_int_equal(mb_launcher_parse("bash\0./moebatch", 16, "./moebatch", &w), MB_OK);
    assert_null(w);
    assert_int_equal(mb_launcher_parse(line, sizeof line - 1, "./moebatch", &w), MB_OK);
    assert_null(w);
    assert_int_equal(mb_launcher_parse(line, 0, "./moebatch", &w), MB_OK);
    assert_null(w);
}

static void test_launcher_environment(void **state)
{
    (void)state;
    char **w = NULL;
    static const char *const gone[] = {"OMPI_COMM_WORLD_RANK", "SLURM_STEP_ID", "SLURM_PROCID",
                                       "SLURM_MPI_TYPE"};

    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        unsetenv(gone[i]);
    assert_int_equal(mb_launcher_words("moebatch", 1, &w), MB_OK);
    assert_null(w);
    setenv("SLURM_STEP_ID", "0", 1);
    setenv("SLURM_PROCID", "0", 1);
    setenv("SLURM_CPUS_PER_TASK", "8", 1);
    assert_int_equal(mb_launcher(), MB_LAUNCHER_SRUN);
    assert_int_equal(mb_launcher_words("moebatch", 3, &w), MB_OK);
    assert_string_equal(w[0], "srun");
    assert_string_equal(w[2], "3");
    assert_string_equal(w[3], "--cpus-per-task=8");
    assert_null(w[4]);
    free(w);
    setenv("OMPI_COMM_WORLD_RANK", "0", 1);
    setenv("OMPI_MCA_rmaps_base_mapping_policy", "ppr:2:node:PE=4", 1);
    assert_int_equal(mb_launcher_words("moebatch", 3, &w), MB_OK);
    assert_string_equal(w[0], "mpirun");
    assert_string_equal(w[3], "--map-by");
    assert_string_equal(w[4], "ppr:2:node:PE=4");
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hosts),    cmocka_unit_test(test_hosts_widths),
        cmocka_unit_test(test_nodes),    cmocka_unit_test(test_advice),
        cmocka_unit_test(test_launcher), cmocka_unit_test(test_launcher_environment)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
