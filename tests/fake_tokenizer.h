/* A tokenizer small enough to know its ids by heart: one token a byte, "xy" is one token, "~" is a token beyond the
 * vocabulary, and U+0001 makes it give up. Stands in for src/text in tests of the parser. */
#ifndef MB_TESTS_FAKE_TOKENIZER_H
#define MB_TESTS_FAKE_TOKENIZER_H
#include <stdbool.h>
#include "text/tokenizer.h"

#define FAKE_BOS 256
#define FAKE_XY 257
#define FAKE_VOCAB 258
#define FAKE_BEYOND 300

struct mb_tokenizer {
    bool front; /* the post-processor adds FAKE_BOS */
};
#endif
