/* What a rank counts while it runs: plain sums, sent to rank 0 with ticks and written to the results. */
#ifndef MB_JOB_COUNTERS_H
#define MB_JOB_COUNTERS_H
#include <stdint.h>
#include "base/link.h"

/* What a rank's time in the engine goes into. */
enum mb_time {
    MB_TIME_REST,      /* scheduling, batches, results to the journal, counters to rank 0 */
    MB_TIME_ATTENTION, /* attention blocks with their norms, what ranks of one group send each other in them included */
    MB_TIME_EXPERTS,   /* routers, experts, shared experts and dense feed-forward layers */
    MB_TIME_HEAD,      /* final norm, logits, draws and scores */
    MB_TIME_EXCHANGE,  /* rows to experts and back, experts on demand; without the waiting */
    MB_TIME_WAIT,      /* for other ranks: in exchanges, for headers, rows of the stage before and results, at the end */
    MB_TIME_COUNT
};

/* ZeRO-inference. */
struct mb_fetch_counts {
    int64_t hits;       /* experts that this rank needed and had */
    int64_t peer, file; /* got from other ranks and from files, */
    int64_t announced;  /* of which announced by --prefetch */
    int64_t bytes;      /* got */
    int64_t rows_kept;  /* own (row, expert) pairs that a copy here served */
};

/* Of a leader: rows of guessed ids, and those that were right: as many tokens more than one a step and sequence. */
struct mb_draft_counts {
    int64_t made, right;
};

/* Of a leader: what its sequences share, and what they compute twice. Rows asked for = rows - again - wrong guesses + cached. */
struct mb_reuse_counts {
    int64_t cached;    /* rows whose keys and values came from another sequence */
    int64_t again;     /* of rows: once more, for a sequence that had given its pages back */
    int64_t preempted; /* how often a sequence gave its pages back */
    struct mb_draft_counts drafts;
};

struct mb_counters {
    int64_t requests_done, requests_error; /* rows */
    int64_t prompt_tokens, output_tokens;
    int64_t steps, rows, idle_steps;
    struct mb_reuse_counts reuse;
    int64_t empty_steps; /* nobody had rows: one exchange carries the headers, then the step ends */
    int64_t expert_rows;                   /* (row, expert) pairs this rank's experts served */
    int64_t attention_flops; /* queries with their visible keys and values */
    int64_t kv_bytes;        /* of keys and values put into pages */
    int64_t pipeline_ticks, pipeline_steps; /* of a leader: ticks until the last step with rows has left the last
                                               stage, and steps with rows: a stage idles in the others */
    int64_t dispatch_bytes[MB_LINK_COUNT], dispatch_messages[MB_LINK_COUNT];
    int64_t combine_bytes[MB_LINK_COUNT], combine_messages[MB_LINK_COUNT];
    int64_t control_bytes, control_messages;
    int64_t weight_bytes_read, weight_bytes_received;
    int64_t group_bytes, group_messages;   /* inside attention groups and slices of experts */
    struct mb_fetch_counts fetch;
    /* Seconds come last: what is before them is summed as integers. stage_wait: for the rows of the pipeline stage before. */
    double seconds[MB_TIME_COUNT]; /* of seconds_run, by what they went into; each second is in one of them */
    double seconds_stage_wait;
    double seconds_done;              /* of a leader: its group had nothing left, others of its lane had */
    double seconds_run, seconds_tail; /* in the engine; of these at the end, waiting for the other lanes */
};
#endif
