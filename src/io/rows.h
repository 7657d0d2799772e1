/* Rows of a result while it is assembled, wherever they come from: journals (io/rows.c) or results files that are merged
 * (io/merge.c). An entry says where a row is; it is all that is kept of a row between rounds. Local. */
#ifndef MB_IO_ROWS_H
#define MB_IO_ROWS_H
#include <stdint.h>
#include "io/scan.h"
#include "job/record.h"

struct mb_row_entry { /* flat: exchanged as it is. With room to grow by half, 84 bytes a row: 100 are promised */
    uint64_t line, offset; /* offset of the packed record, or whatever the source makes of it */
    uint64_t content;
    uint32_t n_prompt, n_output, n_rows, len;
    struct mb_jscan_file file; /* writer MB_ROWS_PENDING: no record exists */
    uint8_t choice, n, top_n; /* MB_MAX_CHOICES and MB_MAX_TOP fit */
    uint8_t status : 3, prompt_top : 5; /* enum mb_row_status; MB_MAX_TOP fits */
};
_Static_assert(sizeof(struct mb_row_entry) <= 56, "what is kept of a row");
#define MB_ROWS_PENDING (-1)

/* What a partial file says of rows that are not done. Borrowed. */
struct mb_pending {
    void *arg;
    /* Rows of a line of the input of which nothing is known; 0: an empty line. */
    enum mb_status (*rows)(void *arg, uint64_t line, int32_t *n);
    /* Id (malloc'd) and kind of a line. */
    enum mb_status (*describe)(void *arg, uint64_t line, struct mb_text *id, uint8_t *kind);
};

struct mb_rows;
struct mb_rows_ops {
    /* The record of an entry; the caller frees its contents. */
    enum mb_status (*record)(struct mb_rows *r, const struct mb_row_entry *e, struct mb_record *out);
    /* Bulk rows [from, from + n) of an entry, row_bytes each; *absent if the entry has no data of this kind.
     * Called with ascending rows of one entry and kind until all are read. MB_IO if they are not what was written. */
    enum mb_status (*bulk)(struct mb_rows *r, const struct mb_row_entry *e, enum mb_bulk_kind kind, uint64_t row_bytes,
                           int64_t from, int64_t n, void *dst, bool *absent);
    void (*destroy)(struct mb_rows *r);
};
struct mb_rows {
    const struct mb_rows_ops *ops;
};

/* Rows in the journals under dir. pending: NULL where no entry is pending. */
enum mb_status mb_rows_journal(const char *dir, const struct mb_pending *pending, struct mb_rows **out);
void mb_rows_destroy(struct mb_rows *r); /* NULL ok */
void mb_row_entry_of(const struct mb_done_ref *d, struct mb_row_entry *out);
#endif
