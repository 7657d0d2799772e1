/* moebatch run and score: the job itself. */
#ifndef MB_APP_RUN_H
#define MB_APP_RUN_H
#include "conf/conf.h"

/* Starts MPI, runs the job, ends MPI. *exit_code is set with MB_OK (0, or 3 under --strict with error rows, or if all rows are). Collective over
 * world. */
enum mb_status mb_run(const struct mb_conf *conf, int *argc, char ***argv, int *exit_code);
#endif
