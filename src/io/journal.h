/* The journal: the truth about what a job has done. One append-only file per writer (a rank that samples) and run:
 *
 *   frame   = u32 marker, u32 length, u64 XXH3 of the payload, payload          (little-endian)
 *   payload = u8 kind, u8 mask, u16 0, u32 count, then by kind:
 *     HEAD    JSON {"version", "run", "rank", "identity"}: the first frame of every file
 *     TOKENS  count x {u64 line, u32 choice, u32 index, i32 id}: the tokens drawn in one step
 *     DONE    {u64 XXH3, u64 bytes} per bit of mask (bulk data of that kind), then a packed record (job/record.h)
 *     ERROR   the same, a record that is an error row
 *
 * One write() per step: what was written survives a kill of the process. A thread of its own fsyncs every sync_interval:
 * what was fsynced survives a power failure and counts as acknowledged. Bulk data (routing, logits ...) lies in one
 * file per kind beside the journal; a record points into it. Bulk files are fsynced before the journal. A record that was
 * written but not yet fsynced can reach the disk before its bulk data does: hence the hashes, checked whenever bulk data is
 * read: at resume, and in assembly.
 *
 * A reader takes the longest valid prefix. Damage with a valid frame behind it is corruption, without one a torn end. */
#ifndef MB_IO_JOURNAL_H
#define MB_IO_JOURNAL_H
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "io/identity.h"
#include "job/record.h"

enum mb_journal_kind {
    MB_JOURNAL_HEAD = 1,
    MB_JOURNAL_TOKENS,
    MB_JOURNAL_DONE,
    MB_JOURNAL_ERROR
};
#define MB_JOURNAL_TOKEN_BYTES 20

/* malloc'd names of the files of writer `rank` in a run's directory; NULL without memory. */
char *mb_journal_path(const char *dir, int rank);
char *mb_bulk_path(const char *dir, int rank, enum mb_bulk_kind kind);
const char *mb_bulk_name(enum mb_bulk_kind kind);

/* ---------------------------------------------------------------- writing */
struct mb_journal;
struct mb_journal_options {
    const char *dir; /* the run's directory */
    const struct mb_identity *identity;
    int run, rank;
    double sync_interval; /* seconds; 0: only when asked for */
};

/* Makes the file (which must not exist), writes its head and starts the fsync thread. Local. */
enum mb_status mb_journal_create(const struct mb_journal_options *o, struct mb_journal **out);
/* Writes and fsyncs what is there, ends the thread, closes. NULL ok. */
void mb_journal_destroy(struct mb_journal *j);

/* Gather for the next flush. A write that failed once fails for good: nothing follows a damaged place. Local. */
enum mb_status mb_journal_token(struct mb_journal *j, uint64_t line, int32_t choice, int64_t index, int32_t id);
enum mb_status mb_journal_record(struct mb_journal *j, const struct mb_record *r);
/* End of a step: one write of all that was gathered, nothing if there is nothing. Local. */
enum mb_status mb_journal_flush(struct mb_journal *j);
/* Flush and fsync in this thread; nothing where all is on the disk. Safe from any thread while another is inside any other function of this file, and from
 * comm's on_lost (calls no MPI; waits for the other thread 2 s at most). Local. */
enum mb_status mb_journal_sync_now(struct mb_journal *j);
/* The last word on a journal to which nothing will be added: waits for what the thread has under way, ends it, then flush and fsync.
 * (An fsync of sync_now may succeed while the thread's, which the kernel tells of the same failed write, has not yet returned.) Local. */
enum mb_status mb_journal_settle(struct mb_journal *j);
/* Rows written and rows acknowledged (= fsynced), bytes written. Local. */
void mb_journal_counts(struct mb_journal *j, int64_t *written, int64_t *acknowledged, int64_t *bytes);

/* Bulk data of this writer. reserve: a range of `bytes` in the kind's file; sparse until written. trim gives back the end
 * of a range of which only `used` bytes are needed (a later reserve may take it if nothing was reserved behind it).
 * hash: XXH3 of a written range. Local. */
enum mb_status mb_bulk_reserve(struct mb_journal *j, enum mb_bulk_kind kind, uint64_t bytes, uint64_t *offset);
void mb_bulk_trim(struct mb_journal *j, enum mb_bulk_kind kind, uint64_t offset, uint64_t bytes, uint64_t used);
enum mb_status mb_bulk_write(struct mb_journal *j, enum mb_bulk_kind kind, uint64_t offset, const void *data, uint64_t n);

/* The row size of each kind in bytes must be known to hash a record's bulk data; 0: kind not in use. Local. */
void mb_journal_bulk_rows(struct mb_journal *j, const uint64_t row_bytes[MB_BULK_COUNT]);

/* ---------------------------------------------------------------- reading */
struct mb_frame {
    enum mb_journal_kind kind;
    uint64_t offset; /* of the payload in the file */
    uint32_t len;
    const uint8_t *payload; /* valid until the next call */
};
enum mb_journal_end {
    MB_JOURNAL_WHOLE,  /* the file ends with a frame */
    MB_JOURNAL_TORN,   /* the last write did not get through */
    MB_JOURNAL_CORRUPT /* damage in the middle: logged */
};
struct mb_journal_reader;
/* Errors: MB_IO if it can't be read, MB_NO_MEMORY. What is appended after this call is not seen. Local. */
enum mb_status mb_journal_open(const char *path, struct mb_journal_reader **out);
void mb_journal_close(struct mb_journal_reader *r);
/* The next frame, or *got false at the end of the valid prefix. */
enum mb_status mb_journal_next(struct mb_journal_reader *r, struct mb_frame *f, bool *got);
/* After *got false: how it ends. */
enum mb_journal_end mb_journal_end(const struct mb_journal_reader *r);
/* Identity in the head of the file; MB_CORRUPT (logged) if the first frame is no head. *out is owned by the caller. To be
 * called with the first frame of a file. */
enum mb_status mb_journal_head(const struct mb_frame *f, const char *path, struct mb_identity *out);

/* A DONE or ERROR frame taken apart. False if malformed. */
struct mb_done {
    uint64_t bulk_hash[MB_BULK_COUNT]; /* 0 where the record has none; so the bytes */
    uint64_t bulk_bytes[MB_BULK_COUNT];
    const uint8_t *record;             /* packed; inside the payload */
    uint32_t record_at;                /* its offset in the payload */
    size_t n;
    struct mb_record_head head;
};
bool mb_done_parse(const uint8_t *payload, size_t n, struct mb_done *out);
#endif
