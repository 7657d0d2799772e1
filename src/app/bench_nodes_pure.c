#include "app/bench_nodes.h"

#include <stdlib.h>
#include "app/bench_out.h"

double mb_bench_slow(const double *v, int32_t n, double threshold, bool *slow)
{
    double *known = malloc(((size_t)n + 1) * sizeof *known), median = 0;
    int count = 0;

    for (int32_t i = 0; i < n && known != NULL; i++) {
        if (v[i] > 0)
            known[count++] = v[i];
    }
    if (count > 0)
        median = mb_bench_median(known, count);
    for (int32_t i = 0; i < n; i++)
        slow[i] = v[i] > 0 && v[i] < (1 - threshold) * median;
    free(known);
    return median;
}

/* One seat stays, the others move on by one place a round. */
int32_t mb_bench_partner(int32_t n, int32_t r, int32_t me)
{
    int32_t seats = n + n % 2, turning = seats - 1, other;

    if (me == turning)
        other = r % turning;
    else if (me == r % turning)
        other = turning;
    else
        other = ((2 * (r % turning) - me) % turning + turning) % turning;
    return other < n ? other : -1;
}
