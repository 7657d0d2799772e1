/* Messages on their way to a chat template. Inside of the text room. Local. */
#ifndef MB_TEXT_CHAT_MESSAGES_H
#define MB_TEXT_CHAT_MESSAGES_H
#include <stdbool.h>
#include <stddef.h>
#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"

/* A new list made ready for a template (text/chat.h says how). parts: content may be a list; none: content may be null. Errors: MB_REQUEST with the reason
 * in err (cap bytes), MB_NO_MEMORY. */
enum mb_status mb_chat_messages(const json_t *from, bool parts, bool none, char *err, size_t cap, json_t **out);

/* continue_final_message as transformers does it: a mark goes behind the text of the last message's content; in the rendering
 * everything from the mark on is cut away. *last: the text without the mark; the caller json_decref()s. */
enum mb_status mb_chat_mark(json_t *messages, char *err, size_t cap, json_t **last);
enum mb_status mb_chat_cut(const json_t *last, struct mb_bytes *text, char *err, size_t cap);
#endif
