/* plan --sbatch: a whole job script. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "app/plan_print.h"

/* What moebatch.sbatch does, line by line; the build makes it from that file. */
static const char body[] =
#include "app/sbatch_body.h"
    ;

/* In single quotes for a shell. */
static void quoted(const char *s)
{
    putchar('\'');
    for (; *s != '\0'; s++)
        if (*s == '\'')
            printf("'\\''");
        else
            putchar(*s);
    putchar('\'');
}

/* The directory of a model given by its config.json. */
static void print_model_dir(const char *model)
{
    const char *tail = "/config.json";
    size_t n = strlen(model), k = strlen(tail);
    char *dir = strdup(model);

    if (dir != NULL && n > k && strcmp(model + n - k, tail) == 0)
        dir[n - k] = '\0';
    quoted(dir != NULL ? dir : model);
    free(dir);
}

/* Half as much again as the estimate, in whole hours, and a day at most: a job that needs more goes on where
 * it stopped. */
static int hours_of(double seconds)
{
    double h = ceil(1.5 * seconds / 3600);

    return h >= 1 && h <= 24 ? (int)h : h < 1 ? 1 : 24;
}

static void print_head(const struct mb_auto_in *in, const struct mb_candidate *taken)
{
    char cluster[MB_CLUSTER_TEXT];

    mb_cluster_text(in->c, cluster);
    printf("#!/bin/bash\n# A job that goes on until its results are complete, made by `moebatch plan "
           "--sbatch` for %s.\n"
           "# INPUT=requests.jsonl OUTPUT=results.h5 sbatch THIS_FILE\n"
           "# Other variables (MOEBATCH, OPTIONS, LAUNCH, MPIRUN_OPTIONS, SRUN_OPTIONS, ...) are those of "
           "moebatch.sbatch.\n"
           "#SBATCH --job-name=moebatch\n#SBATCH --nodes=%d\n#SBATCH --ntasks-per-node=%d\n",
           cluster, (int)in->c->nodes, (int)in->c->per_node);
    if (!in->c->cpu)
        printf("#SBATCH --gres=gpu:%d\n", (int)in->c->per_node);
    printf("#SBATCH --exclusive\n#SBATCH --mem=0\n#SBATCH --time=%02d:00:00\n#SBATCH "
           "--signal=B:USR1@120\n#SBATCH --requeue\n"
           "#SBATCH --open-mode=append\n#SBATCH --output=%%x-%%j.out\nset -u\n\n",
           hours_of(taken->cost.seconds));
}

void mb_plan_print_sbatch(const struct mb_conf *c, const struct mb_auto_in *in,
                          const struct mb_candidate *taken)
{
    char options[MB_LAYOUT_TEXT];

    mb_plan_options_text(&taken->l, options);
    print_head(in, taken);
    printf("[ -n \"${MODEL:-}\" ] || MODEL=");
    print_model_dir(c->model);
    printf("\nPLANNED='%s --max-num-seqs %d --max-batch-rows %d --gpu-memory-utilization %g --dtype %s",
           options, (int)in->o->max_num_seqs, (int)mb_plan_batch_rows(in->o), c->gpu_memory_utilization,
           in->o->path == MB_F32 ? "f32" : "bf16");
    if (c->max_model_len > 0)
        printf(" --max-model-len %" PRId64, c->max_model_len);
    if (c->k > 0)
        printf(" --k %" PRId64, c->k);
    if (strcmp(c->weights, "auto") != 0)
        printf(" --weights %s", c->weights);
    if (strcmp(c->alltoall, "auto") != 0)
        printf(" --alltoall %s", c->alltoall);
    printf("'\n");
    fputs(body, stdout);
}
