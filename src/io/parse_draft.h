/* Inside the parser: a request in the making. Every function returns MB_OK, MB_REQUEST with the reason in d->err, or
 * MB_NO_MEMORY (logged). Local. */
#ifndef MB_IO_PARSE_DRAFT_H
#define MB_IO_PARSE_DRAFT_H
#include "conf/request_keys.h"
#include "io/parse.h"

/* One bit each: rows of the key table name the forms they are legal in. */
enum mb_form {
    MB_FORM_PLAIN = MB_KEY_PLAIN,
    MB_FORM_COMPLETION = MB_KEY_COMPLETION,
    MB_FORM_CHAT = MB_KEY_CHAT,
    MB_FORM_LOGLIKELIHOOD = 8,
    MB_FORM_ROLLING = 16,
    MB_FORM_SHAREGPT = MB_KEY_SHAREGPT,
    MB_FORM_TALK = MB_KEY_TALK /* a plain line with messages */
};

/* Where tokens come from: ids (a checked list of integers) or text, borrowed from the JSON tree or the line. */
struct mb_piece {
    const json_t *ids;
    const char *text;
    size_t len;
};

struct mb_draft {
    const struct mb_parse_options *opt;
    struct mb_request *req;
    json_t *root;           /* owned; NULL for *.txt */
    json_t *messages;       /* owned; to be rendered */
    json_t *extra;          /* owned; variables of the chat template, or NULL */
    struct mb_chat_ask ask; /* what else the line says of it; borrowed from root */
    bool ask_given;         /* add_generation_prompt was given */
    struct mb_bytes joined; /* owned; text put together from turns */
    struct mb_piece head, tail; /* prompt, text or context; continuation */
    const json_t *bad_words; /* borrowed from root; NULL: none */
    enum mb_form form;
    int64_t top_logprobs;   /* -1: not given */
    int64_t prompt_logprobs; /* -1: not given */
    bool own_id, foreign, stop_given, no_special;
    char err[320];
};

/* Sets the reason (the first one stays) and returns MB_REQUEST. */
enum mb_status mb_draft_bad(struct mb_draft *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A member that is there and not null, or NULL. */
const json_t *mb_draft_get(const json_t *obj, const char *key);

/* Whether v is an integer, perhaps written as spreadsheets and data frames do (16.0). */
bool mb_draft_whole(const json_t *v, int64_t *out);

/* Whether v is this string: compared with its length, it may hold U+0000. */
bool mb_draft_is(const json_t *v, const char *text);

/* The string or integer that the top level of a line has under key, found without the rest being JSON; NULL: none. The caller
 * json_decref()s. */
json_t *mb_line_member(const char *s, size_t n, const char *key);

/* A copy of a JSON string. */
enum mb_status mb_draft_text(const json_t *v, struct mb_text *out);

/* Goes through all keys of obj: those in `own` (NULL-terminated) are left to the caller, sampling keys legal in d->form are
 * read into the request, every other key is an error that names it. loose: unknown keys are ignored. */
enum mb_status mb_draft_keys(struct mb_draft *d, const json_t *obj, const char *const *own, bool loose);
/* What several keys say together: min_tokens against max_tokens, logprobs and echo. */
enum mb_status mb_draft_settle(struct mb_draft *d);

/* A string (text) or a list of ids, range-checked; key: its name for messages. */
enum mb_status mb_draft_piece(struct mb_draft *d, const json_t *v, const char *key, struct mb_piece *out);
/* OpenAI's prompt: as above, or a list of exactly one of them. */
enum mb_status mb_draft_prompt(struct mb_draft *d, const json_t *v, const char *key);

/* messages: checked as far as any template needs it, and kept for stage two. */
enum mb_status mb_draft_messages(struct mb_draft *d, const json_t *list);

/* The forms that wrap a request: OpenAI batch lines and conversations. */
enum mb_status mb_draft_openai(struct mb_draft *d);
enum mb_status mb_draft_sharegpt(struct mb_draft *d);

/* A list of messages, to be rendered by the model's chat template. */
enum mb_status mb_draft_messages(struct mb_draft *d, const json_t *list);

/* "adapter" (must be one) and OpenAI's "model" (one, or the model itself: opt->base). */
enum mb_status mb_draft_adapter(struct mb_draft *d, const json_t *name, bool must_know);

/* parse_guide.c: what the answer is held to; key: its name for messages, static. Whether the text is a grammar is found out when
 * the request is taken up (guide/guide.h). */
enum mb_status mb_draft_guide(struct mb_draft *d, enum mb_guide_kind kind, const char *key, const json_t *v);
enum mb_status mb_draft_response_format(struct mb_draft *d, const char *key, const json_t *v);
enum mb_status mb_draft_structured(struct mb_draft *d, const char *key, const json_t *v);

/* Stage two: fills prompt, score_from, window, and clips max_tokens. */
enum mb_status mb_draft_encode(struct mb_draft *d);
#endif
