/* The sink: where tokens and finished rows go (job/sink.h), on a rank that samples. Decodes incrementally, watches for stop
 * strings, completes records with text, id and place of bulk data, and writes them to the journal. Local. */
#ifndef MB_IO_SINK_H
#define MB_IO_SINK_H
#include <stdbool.h>
#include <stdint.h>
#include "io/journal.h"
#include "job/sink.h"
#include "text/tokenizer.h"

struct mb_sink_options {
    const struct mb_tokenizer *tokenizer; /* NULL: no text (ids only); stop strings are refused then */
    struct mb_journal *journal;           /* borrowed, as the tokenizer */
    uint64_t row_bytes[MB_BULK_COUNT];    /* bytes of one bulk row of each kind; 0: not saved */
    bool logits_last;                     /* --save-logits=last: one row of logits a record, the last written */
};

struct mb_sink_counts {
    int64_t rows, error_rows; /* finished */
    int64_t prompt_tokens, output_tokens; /* of finished rows */
    int64_t tokens;           /* drawn, without forced ones */
};

enum mb_status mb_sink_create(const struct mb_sink_options *o, struct mb_sink **out);
void mb_sink_destroy(struct mb_sink *s); /* NULL ok; the journal stays open */
void mb_sink_count(const struct mb_sink *s, struct mb_sink_counts *out);
#endif
