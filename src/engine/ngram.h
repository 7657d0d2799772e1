/* What may follow a text, from the text itself: where its last ids stand in it once more, what followed them.
 * Local. */
#ifndef MB_ENGINE_NGRAM_H
#define MB_ENGINE_NGRAM_H
#include <stdint.h>

#define MB_NGRAM_LEAST 2          /* ids that have to be the same */
#define MB_NGRAM_MOST 8           /* more of them say no more */
#define MB_NGRAM_WINDOW (1 << 15) /* ids looked at, the last ones */

/* Writes `most` ids behind ids[0 .. n), for which there is room, and returns most; 0: the last two stand
 * nowhere else. The longest run counts, of equally long ones the last; where the text ends before, the guess
 * repeats itself. */
int32_t mb_ngram_guess(int32_t *ids, int64_t n, int32_t most);
#endif
