/* The keys of a request line beside what it asks (prompt, messages, context ...): constant data. One row
 * gives the man page's table and the ranges that a line is checked against; how a key is read is io's affair.
 * Local. */
#ifndef MB_CONF_REQUEST_KEYS_H
#define MB_CONF_REQUEST_KEYS_H
#include <stdio.h>

/* Forms of lines in which a key may stand, one bit each. */
enum mb_key_form {
    MB_KEY_PLAIN = 1,      /* {"prompt": ...} */
    MB_KEY_COMPLETION = 2, /* an OpenAI line of /v1/completions */
    MB_KEY_CHAT = 4,       /* an OpenAI line of /v1/chat/completions */
    MB_KEY_SHAREGPT = 32,
    MB_KEY_TALK = 64, /* {"messages": ...} */
};

enum mb_key_id {
    MB_KEY_TEMPERATURE,
    MB_KEY_TOP_P,
    MB_KEY_MIN_P,
    MB_KEY_TOP_K,
    MB_KEY_REPETITION_PENALTY,
    MB_KEY_FREQUENCY_PENALTY,
    MB_KEY_PRESENCE_PENALTY,
    MB_KEY_IGNORE_EOS,
    MB_KEY_MAX_TOKENS,
    MB_KEY_MAX_COMPLETION_TOKENS,
    MB_KEY_MIN_TOKENS,
    MB_KEY_SEED,
    MB_KEY_N,
    MB_KEY_STOP,
    MB_KEY_ADD_SPECIAL_TOKENS,
    MB_KEY_STOP_TOKEN_IDS,
    MB_KEY_INCLUDE_STOP,
    MB_KEY_SKIP_SPECIAL_TOKENS,
    MB_KEY_ALLOWED_TOKEN_IDS,
    MB_KEY_BAD_WORDS,
    MB_KEY_LOGIT_BIAS,
    MB_KEY_GUIDED_REGEX,
    MB_KEY_GUIDED_CHOICE,
    MB_KEY_GUIDED_JSON,
    MB_KEY_RESPONSE_FORMAT,
    MB_KEY_STRUCTURED_OUTPUTS,
    MB_KEY_LOGPROBS,
    MB_KEY_TOP_LOGPROBS,
    MB_KEY_PROMPT_LOGPROBS,
    MB_KEY_ECHO,
    MB_KEY_CHAT_TEMPLATE_KWARGS,
    MB_KEY_REASONING_EFFORT,
    MB_KEY_ENABLE_THINKING,
    MB_KEY_TOOLS,
    MB_KEY_TOOL_CHOICE,
    MB_KEY_PARALLEL_TOOL_CALLS,
    MB_KEY_DOCUMENTS,
    MB_KEY_ADD_GENERATION_PROMPT,
    MB_KEY_CONTINUE_FINAL_MESSAGE,
    MB_KEY_STREAM,
    MB_KEY_USER,
    MB_KEY_METADATA,
    MB_KEY_STORE,
    MB_KEY_SERVICE_TIER,
    MB_KEY_SAFETY_IDENTIFIER,
    MB_KEY_PROMPT_CACHE_KEY,
    MB_KEY_PROMPT_CACHE_RETENTION,
    MB_KEY_REQUEST_ID,
    MB_KEY_PRIORITY,
    MB_KEY_COUNT
};

struct mb_request_key {
    const char *name;
    unsigned forms;
    double lo, hi;      /* range of numbers; lo = hi: none */
    const char *values; /* what may stand there; %R: the range */
    const char *value;  /* when it is absent; NULL: nothing */
    const char *help;
};
extern const struct mb_request_key mb_request_keys[MB_KEY_COUNT];

/* The values of a key as text, with its range, written to out[0 .. cap). */
void mb_request_key_values(const struct mb_request_key *k, char *out, size_t cap);
/* The same of its forms: "all", or their names. */
void mb_request_key_forms(const struct mb_request_key *k, char *out, size_t cap);
#endif
