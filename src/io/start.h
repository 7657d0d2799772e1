/* The start of a job at the place of its results: looks, decides (io/decide.h), and makes one step, the only one that removes
 * anything. Rank 0; Local. */
#ifndef MB_IO_START_H
#define MB_IO_START_H
#include "io/decide.h"
#include "io/rundir.h"

struct mb_start_options {
    const char *results;
    const char *openai; /* the file of --openai-output; NULL: none */
    bool resume, overwrite, takeover, keep;
    const char *const *reads; /* [n_reads] files that the job reads and must not replace, under whatever name */
    int32_t n_reads;
};

/* Looks early, before anything is read: changes nothing. MB_USAGE, MB_INPUT (logged, with the remedy) where the job would be
 * refused; also if the file of --openai-output can't be written. */
enum mb_status mb_start_check(const struct mb_start_options *o);

/* Looks again, compares identities (MB_INPUT, naming what differs), decides and acts, under the lock of the directory: makes
 * run-NNNN and its owner files, then removes what --overwrite replaces, then gives the copy of the input (spool, NULL if there is
 * none; taken in any case) its name. *out is NULL unless *what is MB_START_FRESH or MB_START_RESUME. */
enum mb_status mb_start(const struct mb_start_options *o, const struct mb_owner *owner, struct mb_publish *spool,
                        enum mb_start *what, struct mb_rundir **out);
/* Once the hashes of weights are known: compares them with those of earlier runs (MB_INPUT, naming what differs), then writes them
 * into the owner files. To be called before a row is written. */
enum mb_status mb_start_identify(const struct mb_rundir *d, const struct mb_identity *now);
#endif
