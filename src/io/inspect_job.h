/* How results were made, for inspect: layout, machines, where the time went and the speed, as far as the file
 * says. Local. */
#ifndef MB_IO_INSPECT_JOB_H
#define MB_IO_INSPECT_JOB_H
#include "io/results.h"
#include "io/table.h"

/* Rows of a table of three columns, or members of an object; one of t and o is NULL. path: of r. Memory does
 * not grow with the ranks. Errors: MB_INPUT if the file's own datasets are not what they should be. */
enum mb_status mb_inspect_job(struct mb_results *r, const char *path, struct mb_table *t, json_t *o);
#endif
