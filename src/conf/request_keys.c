#include "conf/request_keys.h"

#include <stdint.h>
#include <string.h>

#define OPENAI (MB_KEY_COMPLETION | MB_KEY_CHAT)
#define LINES (MB_KEY_PLAIN | MB_KEY_TALK)
#define TALKS (MB_KEY_CHAT | MB_KEY_TALK)
#define ALL (LINES | OPENAI | MB_KEY_SHAREGPT)
#define LABELLED (OPENAI | LINES)
#define LABEL "a label of the sender; changes nothing"

const struct mb_request_key mb_request_keys[MB_KEY_COUNT] = {
    [MB_KEY_TEMPERATURE] = {"temperature", ALL, 0, 100, "0, or 1e-05 to 100",
                            "--temperature, else --generation-config, else 1", "0: the likeliest token"},
    [MB_KEY_TOP_P] = {"top_p", ALL, 1e-6, 1, "%R", "--top-p, else --generation-config, else 1",
                      "draw from the likeliest tokens that together have this probability"},
    [MB_KEY_MIN_P] = {"min_p", ALL, 0, 1, "%R", "--min-p, else --generation-config, else 0",
                      "no token that is less likely than this share of the likeliest"},
    [MB_KEY_TOP_K] = {"top_k", ALL, -1, INT32_MAX, "%R", "--top-k, else --generation-config, else 0",
                      "draw from so many of the likeliest tokens; 0 and -1: from all"},
    [MB_KEY_REPETITION_PENALTY] =
        {"repetition_penalty", ALL, 1e-3, 1e3, "%R", "--repetition-penalty, else --generation-config, else 1",
         "logits of tokens that occurred, the prompt's too, are divided by it, negative ones multiplied"},
    [MB_KEY_FREQUENCY_PENALTY] = {"frequency_penalty", ALL, -2, 2, "%R", "0",
                                  "taken from the logit of a token for each time that it was generated"},
    [MB_KEY_PRESENCE_PENALTY] = {"presence_penalty", ALL, -2, 2, "%R", "0",
                                 "taken from the logit of a token that was generated"},
    [MB_KEY_IGNORE_EOS] = {"ignore_eos", ALL, 0, 0, "true, false", "false",
                           "tokens that end a text do not end it"},
    [MB_KEY_MAX_TOKENS] = {"max_tokens", ALL, 0, 1e15, "%R", "--max-tokens (256)",
                           "tokens to generate at most; what the model's length leaves is the limit"},
    [MB_KEY_MAX_COMPLETION_TOKENS] = {"max_completion_tokens", MB_KEY_CHAT | LINES, 0, 1e15, "%R", NULL,
                                      "the same as max_tokens"},
    [MB_KEY_MIN_TOKENS] = {"min_tokens", ALL, 0, 1e15, "%R, not more than max_tokens", "0",
                           "so many tokens before the text may end, at stop strings too"},
    [MB_KEY_SEED] = {"seed", ALL, 0, 0, "an integer of 64 bits", NULL,
                     "of the draws; without it they depend on --seed and the id"},
    [MB_KEY_N] = {"n", ALL, 1, 128, "%R", "1", "choices, each a row"},
    [MB_KEY_STOP] = {"stop", ALL, 0, 0, "a string, or a list of 1 to 16", "--stop",
                     "the text ends before the first of them"},
    [MB_KEY_ADD_SPECIAL_TOKENS] = {"add_special_tokens", MB_KEY_PLAIN | MB_KEY_COMPLETION, 0, 0,
                                   "true, false", "true",
                                   "the tokenizer adds its beginning of sequence to a text prompt"},
    [MB_KEY_STOP_TOKEN_IDS] = {"stop_token_ids", ALL, 0, 0, "a list of at most 64 ids", NULL,
                               "ids that end the text"},
    [MB_KEY_INCLUDE_STOP] = {"include_stop_str_in_output", ALL, 0, 0, "true, false", "false",
                             "what ended the text belongs to it"},
    [MB_KEY_SKIP_SPECIAL_TOKENS] = {"skip_special_tokens", ALL, 0, 0, "true, false", "true",
                                    "special tokens are left out of the text"},
    [MB_KEY_ALLOWED_TOKEN_IDS] = {"allowed_token_ids", ALL, 0, 0, "a list of ids", NULL,
                                  "no other token is generated"},
    [MB_KEY_BAD_WORDS] = {"bad_words", ALL, 0, 0, "a list of at most 128 strings", NULL,
                          "their tokens, as they are and behind a space, are not generated in a row"},
    [MB_KEY_LOGIT_BIAS] = {"logit_bias", ALL, -100, 100, "{\"ID\": %R}", NULL,
                           "added to the logits of these ids"},
    [MB_KEY_GUIDED_REGEX] = {"guided_regex", ALL, 0, 0, "a regular expression", NULL,
                             "the text matches it as a whole"},
    [MB_KEY_GUIDED_CHOICE] = {"guided_choice", ALL, 0, 0, "a list of strings", NULL, "the text is one of them"},
    [MB_KEY_GUIDED_JSON] = {"guided_json", ALL, 0, 0, "a JSON Schema, or one as a string", NULL,
                            "the text is JSON that is valid by it"},
    [MB_KEY_RESPONSE_FORMAT] = {"response_format", ALL, 0, 0, "type text, json_object or json_schema", "text",
                                "json_object: the text is a JSON object; json_schema: as guided_json"},
    [MB_KEY_STRUCTURED_OUTPUTS] = {"structured_outputs", ALL, 0, 0, "regex, choice, json or json_object", NULL,
                                   "the same as guided_regex, guided_choice, guided_json, json_object"},
    [MB_KEY_LOGPROBS] = {"logprobs", ALL, 0, 20, "%R; chats: true, false", NULL,
                         "log-probabilities, and so many alternatives, of each token in OpenAI's lines; "
                         "alternatives in the results"},
    [MB_KEY_TOP_LOGPROBS] = {"top_logprobs", MB_KEY_CHAT | LINES, 0, 20, "%R", "0",
                             "the alternatives; needs logprobs: true"},
    [MB_KEY_PROMPT_LOGPROBS] =
        {"prompt_logprobs", ALL, 0, 20, "%R", NULL,
         "log-probabilities of the prompt's own tokens, and so many alternatives of each"},
    [MB_KEY_ECHO] = {"echo", LINES | MB_KEY_COMPLETION, 0, 0, "true, false", "false",
                     "the prompt comes before the text in OpenAI's lines, and with logprobs has "
                     "log-probabilities as it has"},
    [MB_KEY_CHAT_TEMPLATE_KWARGS] = {"chat_template_kwargs", TALKS, 0, 0, "an object", NULL,
                                     "variables of the chat template"},
    [MB_KEY_REASONING_EFFORT] = {"reasoning_effort", TALKS, 0, 0, "a string", NULL,
                                 "a variable of the chat template"},
    [MB_KEY_ENABLE_THINKING] = {"enable_thinking", TALKS, 0, 0, "true, false", NULL,
                                "a variable of the chat template"},
    [MB_KEY_TOOLS] = {"tools", TALKS, 0, 0, "a list of objects", NULL,
                      "what the chat template says of tools"},
    [MB_KEY_TOOL_CHOICE] = {"tool_choice", TALKS, 0, 0, "none, auto", "auto",
                            "changes nothing: no call can be forced"},
    [MB_KEY_PARALLEL_TOOL_CALLS] = {"parallel_tool_calls", TALKS, 0, 0, "anything", NULL, LABEL},
    [MB_KEY_DOCUMENTS] = {"documents", TALKS, 0, 0, "a list of objects", NULL,
                          "what the chat template says of documents"},
    [MB_KEY_ADD_GENERATION_PROMPT] = {"add_generation_prompt", TALKS, 0, 0, "true, false", "true",
                                      "the chat template begins the answer"},
    [MB_KEY_CONTINUE_FINAL_MESSAGE] = {"continue_final_message", TALKS, 0, 0, "true, false", "false",
                                       "the last message is gone on with"},
    [MB_KEY_STREAM] = {"stream", OPENAI, 0, 0, "false", "false",
                       "results are written when they are complete"},
    [MB_KEY_USER] = {"user", LABELLED, 0, 0, "anything", NULL, LABEL},
    [MB_KEY_METADATA] = {"metadata", LABELLED, 0, 0, "anything", NULL, LABEL},
    [MB_KEY_STORE] = {"store", LABELLED, 0, 0, "anything", NULL, LABEL},
    [MB_KEY_SERVICE_TIER] = {"service_tier", LABELLED, 0, 0, "anything", NULL, LABEL},
    [MB_KEY_SAFETY_IDENTIFIER] = {"safety_identifier", LABELLED, 0, 0, "anything", NULL, LABEL},
    [MB_KEY_PROMPT_CACHE_KEY] = {"prompt_cache_key", LABELLED, 0, 0, "anything", NULL, LABEL},
    [MB_KEY_PROMPT_CACHE_RETENTION] = {"prompt_cache_retention", LABELLED, 0, 0, "anything", NULL, LABEL},
    [MB_KEY_REQUEST_ID] = {"request_id", LABELLED, 0, 0, "anything", NULL, LABEL},
    [MB_KEY_PRIORITY] = {"priority", LABELLED, 0, 0, "anything", NULL, LABEL},
};

void mb_request_key_values(const struct mb_request_key *k, char *out, size_t cap)
{
    const char *at = strstr(k->values, "%R");
    if (at == NULL)
        snprintf(out, cap, "%s", k->values);
    else
        snprintf(out, cap, "%.*s%.10g to %.10g%s", (int)(at - k->values), k->values, k->lo, k->hi, at + 2);
}

void mb_request_key_forms(const struct mb_request_key *k, char *out, size_t cap)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{MB_KEY_PLAIN, "plain"},
                 {MB_KEY_TALK, "messages"},
                 {MB_KEY_COMPLETION, "OpenAI completions"},
                 {MB_KEY_CHAT, "OpenAI chats"},
                 {MB_KEY_SHAREGPT, "ShareGPT"}};
    size_t n = 0;
    snprintf(out, cap, "all");
    for (size_t i = 0; k->forms != ALL && i < sizeof names / sizeof *names && n < cap; i++)
        if (k->forms & names[i].bit)
            n += (size_t)snprintf(out + n, cap - n, "%s%s", n > 0 ? ", " : "", names[i].name);
}
