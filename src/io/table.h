/* Small tables for people, by libsmartcols. Local. */
#ifndef MB_IO_TABLE_H
#define MB_IO_TABLE_H
#include <stdio.h>
#include "base/status.h"

struct mb_table;
/* columns: names ending with '>' are right-aligned (the '>' is not shown); NULL-terminated. headings: shown or not. */
enum mb_status mb_table_create(const char *const *columns, int headings, struct mb_table **out);
/* One row; the format gives the cells, separated by '\t'. What does not fit into memory is left out. */
void mb_table_row(struct mb_table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints and destroys. NULL ok. */
void mb_table_print(struct mb_table *t, FILE *out);
#endif
