#include "engine/ngram.h"

/* How many ids before (and with) places i and j are the same; i < j. */
static int32_t run(const int32_t *ids, int64_t i, int64_t j)
{
    int32_t k = 0;

    while (k < MB_NGRAM_MOST && k <= i && ids[i - k] == ids[j - k])
        k++;
    return k;
}

int32_t mb_ngram_guess(int32_t *ids, int64_t n, int32_t most)
{
    int64_t first = n > MB_NGRAM_WINDOW ? n - MB_NGRAM_WINDOW : 0, at = -1;
    int32_t best = MB_NGRAM_LEAST - 1;

    for (int64_t i = n - 2; i >= first && best < MB_NGRAM_MOST; i--) {
        if (ids[i] != ids[n - 1])
            continue;
        int32_t k = run(ids, i, n - 1);
        if (k > best) {
            best = k;
            at = i;
        }
    }
    if (at < 0)
        return 0;
    for (int32_t i = 0; i < most; i++)
        ids[n + i] = ids[at + 1 + i];
    return most;
}
