/* Result lines in the form of OpenAI's batch service (--openai-output), made from finished records. Local. */
#ifndef MB_IO_OPENAI_H
#define MB_IO_OPENAI_H
#include "base/mem.h"
#include "io/results.h"
#include "job/record.h"
#include "text/tokenizer.h"

struct mb_openai_options {
    const struct mb_tokenizer *tok; /* for the texts of tokens and of echoed prompts */
    const char *model;              /* what "model" says of rows that no adapter served */
    int64_t created;                /* seconds since 1970 */
};

/* One line (with its newline) for one line of the input, appended to out: records r[0 .. n-1] are its choices in order. The
 * form is that of the request: chat or text completion; other lines than OpenAI's are text completions, scored ones like
 * echo with logprobs and no output. All output ids are in logprobs and usage, EOS and stop strings' tokens too; `text` ends
 * before them. NaN becomes null, -inf -9999. If a choice is an error the line is a 400 with its reason; if one is pending,
 * `error` says so and there is no response. Errors: MB_NO_MEMORY, MB_BUG (no JSON: a text that is no UTF-8). */
enum mb_status mb_openai_line(const struct mb_openai_options *o, const struct mb_record *r, int32_t n, struct mb_bytes *out);

/* Where lines go: whole lines, one or more at a time. */
struct mb_lines {
    enum mb_status (*put)(void *arg, const void *data, size_t n);
    void *arg;
};
/* The lines of all rows of results, whose path is for messages: those that --openai-output gave, or would have given, with their
 * time, but for the names of adapters, which results do not hold; o->created is not used. MB_INPUT (logged) for results of versions that did not store what lines need. Memory: the rows
 * of one request. */
enum mb_status mb_openai_rows(struct mb_results *r, const char *path, const struct mb_openai_options *o, const struct mb_lines *to);

/* The same into a new file (MB_INPUT, logged, if it exists). Results keep no adapters: lines name the model. */
enum mb_status mb_openai_late(const char *results, const char *path, const struct mb_openai_options *o);
#endif
