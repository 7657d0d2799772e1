/* sentencepiece's precompiled_charsmap: u32 size of a double-array trie (darts-clone units), the trie, then
 * replacement strings, each ended by U+0000, to which the trie's values point. Immutable once built. Local.
 */
#ifndef MB_TEXT_CHARSMAP_H
#define MB_TEXT_CHARSMAP_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"

struct mb_charsmap {
    uint32_t *unit; /* [units] */
    uint32_t units;
    char *text; /* [text_len], then a NUL */
    size_t text_len;
    bool by_grapheme; /* as HF's Precompiled: a short grapheme is looked up whole, else its characters;
                         shortest match. Otherwise as sentencepiece: longest match from each place. */
};
/* Copies. A blob whose sizes do not fit is MB_MODEL. */
enum mb_status mb_charsmap_init(struct mb_charsmap *m, const uint8_t *blob, size_t n, bool by_grapheme,
                                const char *what);
void mb_charsmap_fini(struct mb_charsmap *m);
enum mb_status mb_charsmap_apply(const struct mb_charsmap *m, const char *s, size_t n, struct mb_bytes *out);
/* Length of the longest key at s and its replacement; 0: none. */
size_t mb_charsmap_longest(const struct mb_charsmap *m, const char *s, size_t n, const char **to,
                           size_t *to_len);
#endif
