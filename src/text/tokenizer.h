/* Text <-> ids, from a HF tokenizer.json (or a sentencepiece .model). Knows no weights. Immutable after load;
 * encode and decode are Local, re-entrant. Byte strings are (pointer, length) and may hold U+0000; input text
 * must be valid UTF-8 (the JSON reader guarantees it; raw bytes go through mb_utf8_repair of base/utf8.h first). */
#ifndef MB_TEXT_TOKENIZER_H
#define MB_TEXT_TOKENIZER_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"

struct mb_tokenizer;

/* path: a directory with tokenizer.json (else a *.model), or such a file. Errors: MB_MODEL with file, key,
 * expected and found; a mechanism that is not supported is refused by name. */
enum mb_status mb_tokenizer_load(const char *path, struct mb_tokenizer **out);
/* Whether a directory has tokenizer files at all; without them a model serves requests given as ids. Local.
 */
bool mb_tokenizer_present(const char *dir);
/* Whether a directory has a tokenizer's file of a form that is not read, and its name: for messages. Local. */
#define MB_TOKENIZER_FILE 256
bool mb_tokenizer_foreign(const char *dir, char name[MB_TOKENIZER_FILE]);
void mb_tokenizer_destroy(struct mb_tokenizer *t);
int32_t mb_tokenizer_size(const struct mb_tokenizer *t); /* largest id + 1 */
/* Bytes of the longest token's content: a text of n bytes has n / longest tokens at least, but for what normalizers take away. */
int64_t mb_tokenizer_longest(const struct mb_tokenizer *t);
/* id of a token's exact content (special or not), or -1 */
int32_t mb_tokenizer_id(const struct mb_tokenizer *t, const char *token, size_t n);
/* Whether decoding leaves this id out as a special token. */
bool mb_tokenizer_special(const struct mb_tokenizer *t, int32_t id);
/* Whether the post-processor adds this id in front (BOS), whatever the text. */
bool mb_tokenizer_adds_front(const struct mb_tokenizer *t, int32_t id);

/* Growable ids; zero-initialise; free(ids->v). */
struct mb_ids {
    int32_t *v;
    int64_t n, cap;
};
/* Appends the ids of text. special: apply the post-processor (BOS etc.). Errors: MB_NO_MEMORY; MB_REQUEST if
 * a regex gives up (its limits protect against hostile patterns). */
enum mb_status mb_tokenizer_encode(const struct mb_tokenizer *t, const char *text, size_t n, bool special,
                                   struct mb_ids *out);
/* Whole decoding: appends UTF-8 (invalid sequences as U+FFFD, as HF does it). Unknown ids are skipped. */
enum mb_status mb_tokenizer_decode(const struct mb_tokenizer *t, const int32_t *ids, int64_t n,
                                   bool skip_special, struct mb_bytes *out);

/* Incremental decoding of one generated sequence (special tokens are left out): after each id, out has what
 * is certain so far; finish gives the rest and makes the decoder ready for a new sequence. Without a context
 * the concatenation equals mb_tokenizer_decode(skip_special = true) of the ids. context: the ids before the
 * generated ones (the prompt); call it before the first put. Then the concatenation equals the decoding of
 * context + ids without the longest prefix (in characters) that it shares with the decoding of the context:
 * no leading space is lost in the middle of a text, and a character that the context only began is shown when
 * it is complete. Memory: what is not certain yet (a character; with byte fallback a run of byte tokens).
 * Work per id: O(1) amortised. */
struct mb_decoder;
enum mb_status mb_decoder_create(const struct mb_tokenizer *t, struct mb_decoder **out);
void mb_decoder_destroy(struct mb_decoder *d);
/* Before anything is put. keep_special: special tokens are text too. bytes: each id gives its bytes at once, whether they are
 * whole characters or not, and nothing becomes U+FFFD (so that they can be searched). */
void mb_decoder_mode(struct mb_decoder *d, bool keep_special, bool bytes);
enum mb_status mb_decoder_context(struct mb_decoder *d, const int32_t *ids, int64_t n);
/* With bytes, behind mb_decoder_context: appends the bytes of a character that the context began and did not end. */
enum mb_status mb_decoder_begun(const struct mb_decoder *d, struct mb_bytes *out);
enum mb_status mb_decoder_put(struct mb_decoder *d, int32_t id, struct mb_bytes *out);
enum mb_status mb_decoder_finish(struct mb_decoder *d, struct mb_bytes *out);
#endif
