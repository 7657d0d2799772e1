/* Reading the four pipelines of tokenizer.json. path: the file, for messages. Each refuses what it does not
 * know by name (MB_MODEL). v may be NULL or null: the part is absent. Local. */
#ifndef MB_TEXT_HF_PARTS_H
#define MB_TEXT_HF_PARTS_H
#include "base/json.h"
#include "text/tok.h"

#define MB_HF_DEPTH 8 /* Sequences in Sequences */
enum mb_status mb_hf_norm(struct mb_tokenizer *t, const json_t *v, const char *path, int depth);
enum mb_status mb_hf_pre(struct mb_tokenizer *t, const json_t *v, const char *path, int depth);
enum mb_status mb_hf_post(struct mb_tokenizer *t, const json_t *v, const char *path, int depth);
enum mb_status mb_hf_dec(struct mb_tokenizer *t, const json_t *v, const char *path, int depth);

/* *out: a new list, tokenizer.json's own added tokens (own: a list, null or NULL) and those that the files beside it name, each with
 * content, id and flags. The caller json_decref()s. Errors: MB_MODEL, MB_NO_MEMORY. */
enum mb_status mb_hf_added(const struct mb_tokenizer *t, const json_t *own, const char *path, json_t **out);

/* Adds such a list to the tokenizer and sets its size. Errors: MB_MODEL (an id or content that the vocabulary has otherwise),
 * MB_NO_MEMORY. */
enum mb_status mb_hf_add_list(struct mb_tokenizer *t, const json_t *list, const char *path);
/* The object in the file `name` of path's directory (the caller json_decref()s), or *out stays NULL where there is no such file. */
enum mb_status mb_hf_beside(const char *path, const char *name, json_t **out);

/* The "type" of a mechanism: an error if v is no object with one. */
enum mb_status mb_hf_type(const json_t *v, const char *path, const char *part, const char **out);
/* {"String": s} or {"Regex": s}. part: for messages. */
enum mb_status mb_hf_pattern(const json_t *v, const char *path, const char *part, struct mb_pattern *out);
/* A member that must be a string, as bytes (it may hold U+0000). */
enum mb_status mb_hf_text(const json_t *v, const char *key, const char *path, const char *part,
                          struct mb_bytes *out);
/* A member that must be a string of one character. */
enum mb_status mb_hf_char(const json_t *v, const char *key, const char *path, const char *part,
                          uint32_t *out);
/* Metaspace's prepend_scheme, or the older add_prefix_space. */
enum mb_status mb_hf_prepend(const json_t *v, const char *path, const char *part, enum mb_prepend *out);
#endif
