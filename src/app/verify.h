/* moebatch verify: rows of a results file computed again, forced along the stored tokens. */
#ifndef MB_APP_VERIFY_H
#define MB_APP_VERIFY_H
#include "conf/conf.h"

/* Starts MPI; Collective over world. *exit_code: 3 where a row differs; else left alone. */
enum mb_status mb_verify(const struct mb_conf *conf, int *argc, char ***argv, int *exit_code);
#endif
