/* What rank 0 says on standard error: header block before the start, progress, result block at the end. Plain
 * functions over plain structs; time is the caller's (mb_now), so that a test can be its own clock. Local. */
#ifndef MB_APP_REPORT_H
#define MB_APP_REPORT_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "conf/conf.h"
#include "job/counters.h"
#include "model/model.h"
#include "plan/plan.h"
#include "topo/topo.h"

struct mb_report {
    bool terminal;   /* progress is one line rewritten in place; else a line a minute */
    int32_t columns; /* of the terminal; the line is cut there */
    void (*put)(void *arg, const char *text, size_t n); /* where text goes */
    void *arg;
    /* progress */
    double start, last; /* time of the start, and of the last line */
    double rate;        /* tokens/s, smoothed */
    double seen;        /* time of last_tokens; 0: no sample yet */
    int64_t last_tokens;
    int64_t done_before; /* requests done when the job started (resume) */
    bool open;           /* an in-place line is on the screen */
};

/* Writes to standard error, in place if that is a terminal. now: the job's start; done_before: requests that
 * an earlier run has finished. */
void mb_report_init(struct mb_report *r, double now, int64_t done_before);

/* The header block. All members but the strings' and structs' contents are borrowed for the call. */
struct mb_report_head {
    const char *version;
    const struct mb_conf *conf;
    const struct mb_model *model;
    const struct mb_topo *topo;
    const struct mb_plan *plan;
    const char *path_name; /* numeric path */
    const char *weights;   /* in which form they are kept, or NULL */
    const char *defaults;  /* of requests that do not say */
    const char *chosen;    /* why --layout auto took this layout, or NULL */
    const char *device;    /* "cpu: avx2, 2 threads" */
    int64_t requests;      /* in the input; -1: not known */
    int64_t save_bytes;    /* estimate of what --save-... stores; 0: nothing */
    int32_t run;           /* number of this incarnation; resumed if > 1 */
};
void mb_report_header(struct mb_report *r, const struct mb_report_head *h);

struct mb_progress {
    int64_t done, errors, total; /* requests of the whole input, earlier runs included; total -1: not known */
    int64_t tokens;              /* computed in this run: prompt and output */
    int64_t tokens_done;         /* of them, tokens of requests that are finished */
    int32_t running;             /* requests under way */
    double imbalance;            /* most loaded rank over the mean; 0: not known */
    int32_t worst_rank;
};
/* Says how far the job is if it is time to: every half second on a terminal, every 60 s else. Returns whether
 * it did. */
bool mb_report_progress(struct mb_report *r, double now, const struct mb_progress *p);
/* The same in assembly: what is made, and how much of it (0 to 1) is. */
bool mb_report_assembly(struct mb_report *r, double now, const char *what, double part);
/* Takes the tokens so far into the smoothed rate; to be called often, also where nothing is said. */
void mb_report_sample(struct mb_report *r, double now, int64_t tokens);
/* Seconds the rest will take, from tokens and requests so far; negative: can't be said yet. Pure. */
double mb_report_eta(const struct mb_report *r, double now, const struct mb_progress *p);

/* What the time of a job goes into: the engine's times, loading, assembly, and all that is left. */
enum mb_spent {
    MB_SPENT_LOAD = MB_TIME_COUNT, /* below: as enum mb_time, MB_TIME_REST with what is in no other */
    MB_SPENT_ASSEMBLY,
    MB_SPENT_COUNT
};

struct mb_report_end {
    const char *output;    /* results file */
    enum mb_status status; /* how the job ended: MB_OK, MB_STOP ... */
    struct mb_progress progress;
    struct mb_counters sum; /* over all ranks */
    double load_seconds;                  /* engine made, weights read */
    double assembly_seconds;              /* journals to results */
    const double (*spent)[MB_SPENT_COUNT]; /* [ranks] seconds of each rank; the last member is worked out here; NULL: not known */
    int64_t peak_bytes;     /* of the rank that used most memory, by the account */
    int64_t grown_bytes;    /* of resident memory, of the rank where it grew most since before the engine */
    int32_t ranks, lanes, stages, leaders;
    const char *resume; /* the command that goes on, or NULL */
    const char *all_bad; /* every row is an error: the first one's reason; else NULL */
};
/* The result block. now - the job's start is the whole time. */
void mb_report_result(struct mb_report *r, double now, const struct mb_report_end *e);

/* seconds[n] (n <= 64) as parts of a thousand of their sum, which they add up to exactly. Pure. */
void mb_report_shares(const double *seconds, int n, int *thousandths);
/* Largest over mean of v[n]; *worst: its index. 0 if all are 0. Pure. */
double mb_report_imbalance(const int64_t *v, int32_t n, int32_t *worst);
/* "1.50 GiB", "12 B"; "4.2 s", "1:02:03" or "2 d 01:02:03"; "950", "1.23k", "4.56M", "7.89B" into buf, returned. Pure. */
#define MB_TEXT_CAP 32
char *mb_text_bytes(int64_t bytes, char buf[MB_TEXT_CAP]);
char *mb_text_duration(double seconds, char buf[MB_TEXT_CAP]);
char *mb_text_rate(double per_second, char buf[MB_TEXT_CAP]);
#endif
