/* What earlier runs have done. Rank 0 folds the journals of all runs into one bit per line and the tokens of unfinished
 * lines; each lease carries the entries of its lines, and the rank that leases them reads the forced tokens.
 *
 * Memory on rank 0: a bit per line, plus the sequences that were under way. The forced tokens themselves go into one file
 * of the new run, `forced`, from which leasing ranks read. */
#ifndef MB_IO_RESUME_H
#define MB_IO_RESUME_H
#include <stdbool.h>
#include <stdint.h>
#include "base/mem.h"
#include "base/status.h"
#include "io/identity.h"
#include "job/request.h"

/* Flat: leases carry it byte by byte. One choice of an unfinished line. */
struct mb_resume_entry {
    uint64_t line;
    uint64_t offset;  /* in the file `forced` of the leasing run; bytes */
    uint64_t hash;    /* XXH3 of the tokens */
    int32_t choice;
    int32_t n_forced; /* tokens; -1: this choice is done */
};

struct mb_resume;
struct mb_resume_counts {
    int64_t lines_done, rows_done; /* lines with all choices done; rows, also of unfinished lines */
    int64_t lines_begun, tokens;   /* unfinished lines that something is known of; their forced tokens */
    int64_t duplicates;            /* rows that more than one journal has (equal, else the fold fails) */
    int32_t damaged;               /* journals with damage in the middle */
};

/* dir: RESULTS.h5.d. run_dir: the new run's directory, which gets the file `forced`; NULL: none is written and only
 * mb_resume_counts, mb_resume_done may be asked (status). identity: what every journal must be of, or NULL. Rank 0; Local.
 * Errors: MB_CORRUPT for two records of one row, or two tokens of one place, that differ. */
enum mb_status mb_resume_fold(const char *dir, const char *run_dir, const struct mb_identity *identity, uint64_t n_lines,
                              struct mb_mem *mem, struct mb_resume **out);
void mb_resume_destroy(struct mb_resume *r);
void mb_resume_count(const struct mb_resume *r, struct mb_resume_counts *out);

/* One line: *done if nothing is left to do; else its entries (0 .. MB_MAX_CHOICES, ascending choice), owned by r. O(log). */
void mb_resume_line(const struct mb_resume *r, uint64_t line, bool *done, const struct mb_resume_entry **entries,
                    int32_t *n);

/* On the rank that leases: makes req->resume from the entries of req's line (in any order among others' entries). run_dir:
 * the current run's directory. n 0, or an error row: req->resume stays NULL. Errors: MB_IO, MB_CORRUPT (the file does not
 * hold what the entries say), MB_NO_MEMORY. Local. */
enum mb_status mb_resume_fill(const char *run_dir, const struct mb_resume_entry *entries, int32_t n,
                              struct mb_request *req);
#endif
