/* Where a job's files are: RESULTS.h5, and RESULTS.h5.d/ with
 *   run-NNNN/      journals, bulk files, owner.json of one start (an incarnation); made by exclusive mkdir, written by that
 *                  start only
 *   owner.json     the newest start's: host, pid, ranks, times, command, input, identity
 *   status.json    how far it is, for scripts
 * The newest run wins: an older one that sees a higher number, or its own directory gone, stops. Rank 0 makes it, the others
 * attach to it. */
#ifndef MB_IO_RUNDIR_H
#define MB_IO_RUNDIR_H
#include <stdbool.h>
#include <stdint.h>
#include "base/publish.h"
#include "base/status.h"
#include "io/identity.h"
#include "io/index.h"
#include "io/shape.h"

struct mb_rundir {
    char *results; /* RESULTS.h5 */
    char *dir;     /* RESULTS.h5.d */
    char *run;     /* RESULTS.h5.d/run-NNNN */
    int32_t number;
    bool status_failed; /* status.json could not be written, and that was said */
};
void mb_rundir_destroy(struct mb_rundir *d); /* NULL ok; removes nothing */

/* Name of the file of a run (under .run) that keeps what it knew about itself when it started (mb_extras_save), so that
 * `moebatch assemble` knows it. */
#define MB_RUNDIR_EXTRAS "provenance"

/* What the temporary files of results begin with (under .dir). */
#define MB_RUNDIR_ASSEMBLING "assembling"

/* What is written into owner.json. Borrowed. */
struct mb_owner {
    int ranks;
    int argc;
    char **argv;       /* the command line */
    char **launcher;   /* what stands before it ("mpirun", "-n", "4"), ending with NULL; NULL: not known */
    const struct mb_input_info *input;
    const struct mb_identity *identity;
    const struct mb_shape *shape;
    bool input_missing; /* a pipe of which nothing came: complete results are not asked for their input */
};

/* On the other ranks: rank 0's run by its number. Local. */
enum mb_status mb_rundir_attach(const char *results, int32_t number, struct mb_rundir **out);
/* For a tool that looks at an earlier job: dir set, run NULL, number 0. Local. */
enum mb_status mb_rundir_look(const char *results, struct mb_rundir **out);

/* The run of dir whose number is the lowest above `above`; 0: none. */
int32_t mb_rundir_next(const char *dir, int32_t above);
/* Writes owner.json of d's run, and that of the job. */
enum mb_status mb_rundir_sign(const struct mb_rundir *d, const struct mb_owner *o);
/* Puts an identity that knows more (hashes of weights) into them. MB_STOP: the run is gone. */
enum mb_status mb_rundir_sign_identity(const struct mb_rundir *d, const struct mb_identity *now);
/* Held over the steps in which results are published or runs are made or removed. */
enum mb_status mb_rundir_lock(const struct mb_rundir *d, struct mb_lock *out);
/* Removes the runs with numbers below; for who holds the lock. */
enum mb_status mb_rundir_remove_runs(const char *dir, int32_t below);
/* Removes what killed processes left half written; for who holds the lock. */
void mb_rundir_sweep(const char *dir);

/* MB_OK while this run is the newest, else MB_STOP (logged). One readdir. */
enum mb_status mb_rundir_newest(const struct mb_rundir *d);

/* After assembly: removes runs, the copy of the input, owner.json and ctl files, but status.json stays; keep: only what killed
 * processes left half written. */
enum mb_status mb_rundir_finish(const struct mb_rundir *d, bool keep);

/* ---------------------------------------------------------------- status.json */
struct mb_run_status {
    const char *state;  /* "running", "assembling", "stopped", "complete", "failed" */
    int exit_code;      /* -1 while it runs */
    int64_t rows, committed, acknowledged; /* of the results: total (0: not known), written, fsynced */
    int64_t errors;                            /* error rows */
    int64_t prompt_tokens, output_tokens;
    int64_t computed_tokens, cached_tokens, recomputed_tokens; /* of this run: went through the layers; came from pages of others
                                                                * instead; of the computed ones for a second time */
    int64_t preempted;                                         /* sequences that gave their pages back */
    int64_t guessed_tokens, right_tokens;                      /* of the computed ones guessed before; of these right */
    double seconds;            /* since the start */
    double tokens_per_second;  /* prompt + output, lately */
    double eta;                /* seconds; < 0: not known */
    const char *failure;       /* what ended the run, as mb_status_name; "ok" */
    int64_t from_rows, from_tokens; /* what was there when the run started: rows, tokens of rows begun */
};
/* Replaces status.json (readers see all or nothing; not fsynced). It is for scripts, nothing depends on it: failing is a warning,
 * given once. Rank 0; Local. */
void mb_rundir_status(struct mb_rundir *d, const struct mb_run_status *s);

/* Puts how the run ended into status.json, whose other figures stay as rank 0 wrote them: for another rank that ends the job alone.
 * As advisory as the rest. Local. */
void mb_rundir_failed(const struct mb_rundir *d, const char *state, int exit_code, const char *failure);

/* How the last run ended, from status.json: what may be missing, or of another version, is left as it is. */
struct mb_run_last {
    char failure[32], state[16], updated[32];
    int64_t from_rows, from_tokens, errors, committed;
    double tokens_per_second, seconds;
};
/* Local. Never fails: an unreadable status.json says nothing. */
void mb_rundir_last(const char *dir, struct mb_run_last *out);

/* ---------------------------------------------------------------- for tools */
/* owner.json of the newest run in dir that has one (new reference); MB_INPUT (not logged) if there is none. */
enum mb_status mb_rundir_owner(const char *dir, json_t **out);
/* owner.json of one run; *out NULL if it has none (killed right after its mkdir). */
enum mb_status mb_rundir_owner_of(const char *dir, int32_t run, json_t **out);
/* malloc'd list of one owner.json a run, oldest first, as a JSON array text: for provenance. */
char *mb_rundir_incarnations(const char *dir);
/* malloc'd command line that resumes the job of an owner.json ("... --resume"), quoted for a shell. */
char *mb_rundir_resume_command(const json_t *owner);
#endif
