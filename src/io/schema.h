/* What a results file consists of, in one table: every dataset with its type, its axes, its unit, what it has
 * an element for, whether it must be there, and whether the digests cover it. Assembly, reading, digests,
 * merging, descriptions (attributes, dimension scales) and the man page take it from here. Local, pure. */
#ifndef MB_IO_SCHEMA_H
#define MB_IO_SCHEMA_H
#include <stdio.h>
#include "io/h5.h"
#include "job/record.h"

/* Datasets that the rows of the results fill. They come first in the table, at these numbers; behind them
 * stands what app adds (io/extras.h), known by its path alone. */
enum mb_set {
    MB_SET_ID,
    MB_SET_LINE,
    MB_SET_CHOICE,
    MB_SET_KIND,
    MB_SET_STATUS,
    MB_SET_FINISH,
    MB_SET_ERROR,
    MB_SET_LOGPROB_SUM,
    MB_SET_GREEDY,
    MB_SET_TEXT,
    MB_SET_PROMPT_OFFSETS,
    MB_SET_PROMPT_IDS,
    MB_SET_PROMPT_LOGPROBS,
    MB_SET_OUTPUT_OFFSETS,
    MB_SET_OUTPUT_IDS,
    MB_SET_OUTPUT_LOGPROBS,
    MB_SET_ROW_OFFSETS,
    MB_SET_QUEUE,
    MB_SET_TTFT,
    MB_SET_TPOT,
    MB_SET_END_TO_END,
    MB_SET_TOP_IDS,
    MB_SET_TOP_LOGPROBS,
    MB_SET_EXPERTS,
    MB_SET_WEIGHTS,
    MB_SET_PHYSICAL,
    MB_SET_LOGITS,
    MB_SET_HIDDEN,
    MB_SET_MTP,
    MB_SET_REPLY,
    MB_SET_PROMPT_TOP_IDS,
    MB_SET_PROMPT_TOP_LOGPROBS,
    MB_SETS
};

/* What there is an element for along the axis `along`. */
enum mb_per {
    MB_PER_JOB,     /* as its axes say: nothing of a row */
    MB_PER_REQUEST, /* a row of the results */
    MB_PER_OFFSET,  /* a row of the results, and one more */
    MB_PER_PROMPT,  /* a token of a prompt */
    MB_PER_OUTPUT,  /* a generated token */
    MB_PER_ROW      /* a row that was computed; of logits with --save-logits=last: a row of the results */
};
enum mb_in_digest {
    MB_IN_NONE,
    MB_IN_WHOLE, /* in the digest of all */
    MB_IN_BOTH   /* and in that of tokens and log-probabilities */
};
/* What stands where a row has nothing. */
enum mb_fill { MB_FILL_ZERO, MB_FILL_MINUS_ONE, MB_FILL_NAN };
/* What becomes of the counts of several runs of a job. BY_RANK: the first axis is the ranks. */
enum mb_runs { MB_RUNS_LAST, MB_RUNS_SUM, MB_RUNS_SUM_BY_RANK, MB_RUNS_MOST_BY_RANK };

struct mb_dataset {
    const char *path, *long_name;
    const char *unit; /* UDUNITS; "1": a plain number or an id; "": text and named values */
    enum mb_h5_type type;
    int rank;
    const char *axes[MB_H5_MAX_RANK]; /* names of the axes, rank of them */
    enum mb_per per;
    int along; /* which axis `per` speaks of */
    bool optional;
    enum mb_in_digest digest;
    enum mb_fill fill;
    enum mb_runs runs;
};

const struct mb_dataset *mb_dataset(enum mb_set set);
/* By path; "/physical/part-0001/rows" (of merged results) is found as "/physical/rows". NULL: not of this
 * program. */
const struct mb_dataset *mb_dataset_find(const char *path);
/* Row i of the whole table; NULL behind the last. */
const struct mb_dataset *mb_dataset_at(int i);
/* Where each kind of bulk data goes. */
extern const enum mb_set mb_bulk_sets[MB_BULK_COUNT];

/* The part of a merged file that a path belongs to, "part-0001/", or "". */
void mb_dataset_part(const char *path, char part[32]);

/* The bits of a fill of four bytes. */
uint32_t mb_fill_bits(enum mb_fill fill);
/* "f32", "text", "kind" ... */
const char *mb_h5_type_name(enum mb_h5_type t);

/* The table as a section of the man page, and as tab-separated lines: path, type, axes (joined by "/"), unit,
 * optional (0, 1), digest (none, all, both), long name. */
void mb_schema_man(FILE *f);
void mb_schema_tsv(FILE *f);
#endif
