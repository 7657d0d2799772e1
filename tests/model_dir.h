/* Makes model directories for tests: a temporary directory, files in it, a tiny Mixtral of any damage, and stderr caught. */
#ifndef MB_TESTS_MODEL_DIR_H
#define MB_TESTS_MODEL_DIR_H
#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* A new empty directory under TMPDIR; path: 256 bytes. */
void dir_make(char *path);
void dir_remove(const char *path);
void dir_write(const char *dir, const char *name, const void *data, size_t n);
void dir_text(const char *dir, const char *name, const char *text);
void dir_json(const char *dir, const char *name, const json_t *v);
/* Symbolic links to all files of the directory src (but not to `except`). */
void dir_link_all(const char *dir, const char *src, const char *except);

/* Sets (or with text NULL removes) member "a.b" of v to a JSON text. */
void json_edit(json_t *v, const char *key, const char *text);
json_t *json_read(const char *dir, const char *name);

/* config.json of a Mixtral with 1 layer, hidden 4, 2 heads on 1 KV head, 2 experts of width 3, vocabulary 5. */
json_t *tiny_config(void);
/* safetensors header of its tensors (F32), as an ordered object; *bytes: of data. names from `first` on, at most n (n 0: all). */
json_t *tiny_header(size_t first, size_t n, uint64_t *bytes);
size_t tiny_tensors(void);
const char *tiny_name(size_t i);
/* Writes length, header text and `bytes` bytes of data (each float 1). length: of the header, or -1 for the right one. */
void dir_safetensors(const char *dir, const char *name, const char *header, int64_t length, uint64_t bytes);
/* The same from a header object; consumes it. */
void dir_safetensors_json(const char *dir, const char *name, json_t *header, uint64_t bytes);

/* Between these, stderr goes to a file; catch_end returns its text (malloc'd). */
void catch_begin(void);
char *catch_end(void);
#endif
