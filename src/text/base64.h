/* Base64 (RFC 4648) as tokenizer files have it. Local. */
#ifndef MB_TEXT_BASE64_H
#define MB_TEXT_BASE64_H
#include <stdbool.h>
#include "base/mem.h"
#include "base/status.h"

/* Appends the bytes that s[0 .. n) stands for; what is behind a '=' is not looked at. *valid is false, and
 * out incomplete, where something else stands in it. Errors: MB_NO_MEMORY. */
enum mb_status mb_base64_put(const char *s, size_t n, struct mb_bytes *out, bool *valid);
#endif
