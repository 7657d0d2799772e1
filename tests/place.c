/* place [BEFORE.json] < LOADS: a placement for loads from standard input, as a placement file on standard
 * output; how many copies moved on the standard error. First layers, experts, shards, copies more, nodes,
 * groups, experts of a row; the cost of a row to another node, of a lone value back and of a sum back; the
 * slack; then the rows of each expert, layer by layer. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/log.h"
#include "plan/makers.h"

static int fail(const char *what)
{
    fprintf(stderr, "place: %s\n", what);
    return 1;
}

static bool read_loads(int64_t *usage, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (scanf("%" SCNd64, &usage[i]) != 1)
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct mb_maker k = {0};
    struct mb_placement *before = NULL, *p = NULL;
    char why[MB_LAYOUT_TEXT] = "";

    if (scanf("%d %d %d %d %d %d %d %lf %lf %lf %lf", &k.moe_layers, &k.experts, &k.ep, &k.redundant,
              &k.nodes, &k.groups, &k.k, &k.far_row, &k.far_lone, &k.far_sum, &k.slack) != 11 ||
        k.moe_layers < 1 || k.experts < 1 || k.ep < 1 || k.nodes < 1 || k.k < 1 || k.k > MB_MAKER_K)
        return fail("sizes are missing");
    int64_t n = (int64_t)k.moe_layers * k.experts, *usage = calloc((size_t)n, sizeof *usage);
    int32_t *node_of = calloc((size_t)k.ep, sizeof *node_of);
    if (usage == NULL || node_of == NULL || !read_loads(usage, n))
        return fail("loads are missing");
    for (int32_t r = 0; r < k.ep; r++)
        node_of[r] = (int32_t)((int64_t)r * k.nodes / k.ep);
    k.usage = usage;
    k.usage_layers = k.moe_layers;
    k.node_of = node_of;
    if (argc > 1 && mb_placement_load(argv[1], k.moe_layers, k.experts, k.ep, &before) != MB_OK)
        return 2;
    k.before = before;
    if (mb_placement_make(&k, &p, why) != MB_OK)
        return fail(why);
    char *text = mb_placement_text(p);
    puts(text != NULL ? text : "");
    fprintf(stderr, "%" PRId64 "\n", p->moved);
    free(text);
    free(usage);
    free(node_of);
    mb_placement_destroy(before);
    mb_placement_destroy(p);
    return 0;
}
