/* The subcommands that look at models, text and results; none of them starts MPI. Each returns a status for the exit code.
 * Local. */
#ifndef MB_APP_TOOLS_H
#define MB_APP_TOOLS_H
#include "conf/conf.h"

enum mb_status mb_tool_tokenize(const struct mb_conf *c);
/* exit_code: not set */
enum mb_status mb_tool_inspect(const struct mb_conf *c, int *exit_code);
/* *exit_code: 0 complete, 75 resumable (MB_OK both); no results at all: MB_INPUT */
enum mb_status mb_tool_status(const struct mb_conf *c, int *exit_code);
enum mb_status mb_tool_assemble(const struct mb_conf *c);
enum mb_status mb_tool_merge(const struct mb_conf *c);
/* *exit_code: 0 equal, 3 different */
enum mb_status mb_tool_compare(const struct mb_conf *c, int *exit_code);
enum mb_status mb_tool_ctl(const struct mb_conf *c);
enum mb_status mb_tool_export(const struct mb_conf *c);
enum mb_status mb_tool_plan(const struct mb_conf *c);
enum mb_status mb_tool_check(const struct mb_conf *c);
/* app/quantize.c */
enum mb_status mb_tool_quantize(const struct mb_conf *c);
void mb_tool_version(void);
#endif
