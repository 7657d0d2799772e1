/* A vocabulary: byte strings with ids, looked up both ways. Built once, then immutable. Local. */
#ifndef MB_TEXT_VOCAB_H
#define MB_TEXT_VOCAB_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"

struct mb_vocab_token {
    uint64_t off, shown_off;
    uint32_t len, shown_len; /* shown: what decoding puts for it, where that differs from the content */
    bool present, differs;
};
struct mb_vocab {
    struct mb_bytes text;         /* all contents, one after another */
    struct mb_vocab_token *token; /* [size], by id */
    size_t cap;
    int32_t size;  /* largest id + 1 */
    int64_t count; /* tokens present */
    int32_t *slot; /* open addressing by hash of the content: id or -1 */
    uint64_t mask;
};

/* Adds a token; an id or content that is there already is MB_MODEL ("what: ..."), as is an id of max or more.
 */
enum mb_status mb_vocab_add(struct mb_vocab *v, int64_t id, const char *s, size_t n, int64_t max,
                            const char *what);
/* id, or -1 */
int32_t mb_vocab_find(const struct mb_vocab *v, const char *s, size_t n);
/* Content of an id, or NULL. Owned by v. */
const char *mb_vocab_text(const struct mb_vocab *v, int32_t id, size_t *n);
/* The text that decoding puts for an id: its content unless mb_vocab_show gave another; NULL if there is no
 * such id. */
const char *mb_vocab_shown(const struct mb_vocab *v, int32_t id, size_t *n);
enum mb_status mb_vocab_show(struct mb_vocab *v, int32_t id, const char *s, size_t n);
void mb_vocab_fini(struct mb_vocab *v);
#endif
