/* The subcommands that look at models and text; none of them starts MPI. Each returns a status for the exit code. Local. */
#ifndef MB_APP_TOOLS_H
#define MB_APP_TOOLS_H
#include "conf/conf.h"

enum mb_status mb_tool_tokenize(const struct mb_conf *c);
#endif
