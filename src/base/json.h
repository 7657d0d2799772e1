/* JSON by jansson, with our rules: duplicate keys refused, U+0000 allowed, errors that name file and key.
 * Strings are (pointer, length), never strlen. What Python's json module writes beyond JSON is read too: integers beyond 64
 * bits are doubles; Infinity and what lies beyond the range of doubles is the largest double (with its sign), as jansson has
 * no infinite one; NaN is the string "NaN", which nothing takes for a number. All Local. */
#ifndef MB_BASE_JSON_H
#define MB_BASE_JSON_H
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

/* Parses n bytes; what: the name for messages ("DIR/config.json", "line 7"). st_bad is returned (and logged) when the
 * text is no JSON; with st_bad MB_REQUEST nothing is logged and err (cap bytes) gets the reason. Caller json_decref()s. */
enum mb_status mb_json_parse(const void *text, size_t n, const char *what, enum mb_status st_bad, char *err, size_t cap,
                             json_t **out);
/* Reads and parses a file of at most max bytes. */
enum mb_status mb_json_load(const char *path, uint64_t max, enum mb_status st_bad, json_t **out);

/* Typed members of an object: absent or null leaves *out untouched and *found false (found may be NULL); a wrong type
 * is MB_MODEL and logged with what, key, expected and found. Integers must lie in [lo, hi]; a real with an integral
 * value counts as an integer (some configs write 1e6). */
enum mb_status mb_json_int(const json_t *obj, const char *key, int64_t lo, int64_t hi, const char *what, int64_t *out,
                           bool *found);
enum mb_status mb_json_real(const json_t *obj, const char *key, const char *what, double *out, bool *found);
enum mb_status mb_json_bool(const json_t *obj, const char *key, const char *what, bool *out, bool *found);
/* The string is owned by obj. */
enum mb_status mb_json_str(const json_t *obj, const char *key, const char *what, const char **out, bool *found);
const char *mb_json_type(const json_t *v);
#endif
