/* What started the ranks. */
#include "app/launcher.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/log.h"

#define CMDLINE_CAP 65536

enum mb_launcher mb_launcher(void)
{
    if (getenv("OMPI_COMM_WORLD_RANK") != NULL) /* mpirun's, also where Slurm started its daemons */
        return MB_LAUNCHER_MPIRUN;
    if (getenv("SLURM_STEP_ID") != NULL && getenv("SLURM_PROCID") != NULL)
        return MB_LAUNCHER_SRUN;
    return MB_LAUNCHER_NONE;
}

/* n words that lie one behind the other in text, as one block. */
static enum mb_status pack(const char *text, size_t bytes, int n, char ***words)
{
    size_t head = ((size_t)n + 1) * sizeof **words;
    char **w = malloc(head + bytes + 1);

    if (w == NULL)
        return mb_error(MB_NO_MEMORY, "no memory for the launcher's command line");
    char *at = memcpy((char *)w + head, text, bytes);
    for (int i = 0; i < n; i++, at += strlen(at) + 1)
        w[i] = at;
    w[n] = NULL;
    *words = w;
    return MB_OK;
}

static bool is_mpirun(const char *path)
{
    static const char *const names[] = {"mpirun", "mpiexec", "orterun", "prterun"};
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

enum mb_status mb_launcher_parse(const char *cmdline, size_t n, const char *program, char ***words)
{
    int count = 0;

    *words = NULL;
    if (n == 0 || cmdline[n - 1] != '\0' || !is_mpirun(cmdline))
        return MB_OK;
    for (size_t at = 0; at < n; at += strlen(cmdline + at) + 1, count++) {
        if (count > 0 && strcmp(cmdline + at, program) == 0)
            return pack(cmdline, at, count, words);
    }
    return MB_OK;
}

/* The parent's command line; the number of its bytes, 0 where it cannot be read or is longer. */
static size_t parent_line(char *out)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)getppid());
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return 0;
    size_t n = fread(out, 1, CMDLINE_CAP, f);
    fclose(f);
    return n < CMDLINE_CAP ? n : 0;
}

/* What the environment tells of the launcher's switches. */
static enum mb_status from_environment(int ranks, char ***words)
{
    static const struct {
        enum mb_launcher by;
        const char *variable, *word;
    } known[] = {{MB_LAUNCHER_MPIRUN, "OMPI_MCA_rmaps_base_mapping_policy", "--map-by"},
                 {MB_LAUNCHER_MPIRUN, "OMPI_MCA_hwloc_base_binding_policy", "--bind-to"},
                 {MB_LAUNCHER_SRUN, "SLURM_MPI_TYPE", "--mpi"},
                 {MB_LAUNCHER_SRUN, "SLURM_CPUS_PER_TASK", "--cpus-per-task"}};
    enum mb_launcher by = mb_launcher();
    char text[2048];
    size_t at = (size_t)snprintf(text, sizeof text, "%s%c-n%c%d", by == MB_LAUNCHER_SRUN ? "srun" : "mpirun",
                                 0, 0, ranks) +
                1;
    int count = 3;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *v = known[i].by == by ? getenv(known[i].variable) : NULL;
        if (v == NULL || *v == '\0' || strlen(v) > 256)
            continue;
        char between = by == MB_LAUNCHER_SRUN ? '=' : '\0';
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%c%s", known[i].word, between, v) + 1;
        count += between == '\0' ? 2 : 1;
    }
    return pack(text, at, count, words);
}

enum mb_status mb_launcher_words(const char *program, int ranks, char ***words)
{
    *words = NULL;
    if (mb_launcher() == MB_LAUNCHER_MPIRUN) {
        char *line = malloc(CMDLINE_CAP);
        if (line == NULL)
            return mb_error(MB_NO_MEMORY, "no memory for the launcher's command line");
        enum mb_status st = mb_launcher_parse(line, parent_line(line), program, words);
        free(line);
        if (st != MB_OK || *words != NULL)
            return st;
    }
    return ranks > 1 ? from_environment(ranks, words) : MB_OK;
}
