/* What the journals of all runs say: used by resume (which lines are done) and assembly (where each row's record lies).
 * A record counts only if its bulk data is there with the hash that it was written with: after a power failure a record
 * may have reached the disk before its data, and what is on a disk may change. Local. */
#ifndef MB_IO_SCAN_H
#define MB_IO_SCAN_H
#include <stdbool.h>
#include <stdint.h>
#include "io/journal.h"

/* A journal under RESULTS.h5.d: run-NNNN/journal-RRRRRR. */
struct mb_jscan_file {
    int32_t run, writer;
};
/* All journals of all runs, by (run, writer). A directory that does not exist has none. Caller frees *out. */
enum mb_status mb_jscan_list(const char *dir, struct mb_jscan_file **out, int32_t *n);
/* malloc'd path of a run's directory, NULL without memory. */
char *mb_run_path(const char *dir, int32_t run);

/* Where a finished row's record lies, with its counts. */
struct mb_done_ref {
    struct mb_jscan_file file;
    uint64_t offset; /* of the packed record in the journal */
    uint64_t len;
    uint64_t content; /* mb_record_content */
    struct mb_record_head head;
};

enum mb_jscan_kind { MB_JSCAN_END, MB_JSCAN_TOKENS, MB_JSCAN_DONE };
struct mb_jscan_item {
    enum mb_jscan_kind kind;
    struct mb_done_ref done; /* DONE */
    const uint8_t *tokens;   /* TOKENS: count entries of MB_JOURNAL_TOKEN_BYTES, valid until the next call */
    uint32_t count;
};
enum mb_jscan_check {
    MB_JSCAN_HASHED,   /* a record counts if its bulk data has its hash */
    MB_JSCAN_SIZED,    /* if the files are long enough: a quick look */
    MB_JSCAN_UNCHECKED /* always */
};
struct mb_jscan;
/* identity: that the journal must have (MB_INPUT, logged, if it differs), or NULL. n_lines: lines of the input; a record
 * beyond is MB_CORRUPT. A journal whose head never got to the disk is empty. */
enum mb_status mb_jscan_open(const char *dir, struct mb_jscan_file file, const struct mb_identity *identity,
                            uint64_t n_lines, enum mb_jscan_check check, struct mb_jscan **out);
void mb_jscan_close(struct mb_jscan *s);
/* The next item, in file order. Records that do not count are left out, with a warning. */
enum mb_status mb_jscan_next(struct mb_jscan *s, struct mb_jscan_item *item);
/* Whether damage in the middle of the file was found; after MB_JSCAN_END. */
bool mb_jscan_corrupt(const struct mb_jscan *s);
#endif
