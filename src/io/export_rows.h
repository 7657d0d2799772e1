/* One row of results as text: for io/export.c. Local. */
#ifndef MB_IO_EXPORT_ROWS_H
#define MB_IO_EXPORT_ROWS_H
#include "base/mem.h"
#include "job/record.h"

/* Appended to out, with the end of the line. Numbers have all their digits; NaN is null (jsonl) or empty (csv), -inf is -9999.
 * Errors: MB_NO_MEMORY. */
enum mb_status mb_export_jsonl(const struct mb_record *r, struct mb_bytes *out);
enum mb_status mb_export_csv(const struct mb_record *r, struct mb_bytes *out);
extern const char mb_export_csv_head[];
#endif
