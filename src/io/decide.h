/* What the start of a job does with what it finds at the place of its results: a pure function. io/start.c looks everything up
 * before anything is changed, asks here, and then makes one step. Local. */
#ifndef MB_IO_DECIDE_H
#define MB_IO_DECIDE_H
#include <stdbool.h>

enum mb_place_of_results {
    MB_RESULTS_NONE,
    MB_RESULTS_FOREIGN, /* a file, but no results of ours */
    MB_RESULTS_ODD,     /* a directory or device */
    MB_RESULTS_PARTIAL,
    MB_RESULTS_COMPLETE
};
enum mb_same {
    MB_SAME_UNKNOWN, /* not looked up yet: the input was not read, or there is nothing to compare with */
    MB_SAME_YES,
    MB_SAME_NO /* what is there was made from another input, model, ... (said when it was found) */
};

struct mb_found {
    bool resume, overwrite, takeover; /* asked for */
    bool openai;                      /* --openai-output is given */
    enum mb_place_of_results results;
    bool records;      /* journals hold records of earlier runs */
    bool alive;        /* the newest run's owner lives */
    bool openai_there; /* the file of --openai-output exists */
    bool clash;        /* results or OpenAI lines would replace a file that the job reads, or each other */
    bool input_missing; /* a pipe gave nothing: complete results are complete whatever it would have given */
    enum mb_same identity; /* of what is there and what is asked for */
};

enum mb_start {
    MB_START_FRESH,    /* nothing of an earlier run counts */
    MB_START_RESUME,   /* there are journals to fold */
    MB_START_COMPLETE, /* nothing to do */
    MB_START_LINES,    /* results are complete, their OpenAI lines are missing */
    MB_START_REFUSED
};
enum mb_refusal {
    MB_REFUSAL_NONE,
    MB_REFUSAL_CONTRADICTION, /* --resume and --overwrite */
    MB_REFUSAL_CLASH,
    MB_REFUSAL_ODD,
    MB_REFUSAL_FOREIGN,
    MB_REFUSAL_ALIVE,
    MB_REFUSAL_RESULTS, /* results, or journals, and neither --resume nor --overwrite */
    MB_REFUSAL_OPENAI,  /* the file of --openai-output exists */
    MB_REFUSAL_IDENTITY
};
struct mb_decision {
    enum mb_start start;
    enum mb_refusal refusal;
    /* what the step removes */
    bool remove_results, remove_runs, remove_openai;
};
struct mb_decision mb_decide(const struct mb_found *f);
#endif
